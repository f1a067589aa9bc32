// A dropped, pasted or chosen picture is asked at once; dragging over the picture marks the part to ask with.
"use strict";
if (window.matchMedia("(max-width: 760px)").matches) {  // on a narrow screen the answer comes first
  for (const panel of document.querySelectorAll(".panel")) panel.open = false;
}
const filters = document.querySelectorAll("fieldset.facet input[type=checkbox], fieldset.facet input[type=date], fieldset.facet select");
for (const each of filters) {
  each.addEventListener("change", () => {  // a choice is asked at once, where there is something to ask
    const asked = each.form.querySelector("#kept, input[name=item], input[name=mesh]") || each.form.method === "get" || each.name.includes(".");
    if (asked) each.form.requestSubmit();
  });
}
const form = document.getElementById("question");
if (form) {
  const file = document.getElementById("file");
  const drop = document.getElementById("drop");
  const box = document.getElementById("box");
  const ask = () => {
    box.value = "";
    for (const given of form.querySelectorAll("input[name=item], input[name=not], input[name=mesh], #kept")) given.remove();
    form.requestSubmit();
  };
  const take = (files) => {
    if (!files || !files.length) return;
    const chosen = new DataTransfer();
    chosen.items.add(files[0]);
    file.files = chosen.files;
    ask();
  };
  file.addEventListener("change", ask);
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files); });
  document.addEventListener("paste", (event) => take(event.clipboardData && event.clipboardData.files));

  const area = document.getElementById("area");
  if (area) {
    const marked = document.getElementById("marked");
    const whole = document.getElementById("whole");
    const show = (left, top, right, bottom) => {
      marked.setAttribute("x", 100 * left);
      marked.setAttribute("y", 100 * top);
      marked.setAttribute("width", 100 * (right - left));
      marked.setAttribute("height", 100 * (bottom - top));
      whole.hidden = !box.value;
    };
    const clear = () => { box.value = ""; show(0, 0, 0, 0); };
    const place = (event) => {
      const edges = area.getBoundingClientRect();
      const share = (value) => Math.min(1, Math.max(0, value));
      return [share((event.clientX - edges.left) / edges.width), share((event.clientY - edges.top) / edges.height)];
    };
    let start = null;
    area.addEventListener("pointerdown", (event) => { start = place(event); area.setPointerCapture(event.pointerId); });
    area.addEventListener("pointermove", (event) => {
      if (!start) return;
      const [x, y] = place(event);
      const edges = [Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])];
      box.value = edges[2] - edges[0] > 0.02 && edges[3] - edges[1] > 0.02 ? edges.map((edge) => edge.toFixed(4)).join(",") : "";
      show(...edges);
    });
    area.addEventListener("pointerup", () => { start = null; if (!box.value) clear(); else form.requestSubmit(); });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
    area.addEventListener("keydown", (event) => {  // arrow keys make and move a box, with Shift they change its size
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Enter" && box.value) form.requestSubmit();
      if (!step) return;
      event.preventDefault();
      const share = 0.05, [x, y] = step.map((value) => value * share);
      let [left, top, right, bottom] = box.value ? box.value.split(",").map(Number) : [0.25 - x, 0.25 - y, 0.75 - x, 0.75 - y];
      if (event.shiftKey) [right, bottom] = [Math.min(1, Math.max(left + share, right + x)), Math.min(1, Math.max(top + share, bottom + y))];
      else {
        const across = Math.min(1 - right, Math.max(-left, x)), down = Math.min(1 - bottom, Math.max(-top, y));
        [left, top, right, bottom] = [left + across, top + down, right + across, bottom + down];
      }
      box.value = [left, top, right, bottom].map((edge) => edge.toFixed(4)).join(",");
      show(left, top, right, bottom);
    });
    whole.addEventListener("click", () => { clear(); form.requestSubmit(); });
    if (box.value) show(...box.value.split(",").map(Number));
  }
}
