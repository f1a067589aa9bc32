// A line drawn around marks of the map chooses them: its corners go into the address, and the service says what lies within.
"use strict";
const map = document.getElementById("map");
if (map) {
  const drawn = document.getElementById("drawn");
  const seen = document.getElementById("seen");
  const [width, height] = [map.viewBox.baseVal.width, map.viewBox.baseVal.height];
  const margin = Number(map.dataset.margin);
  const most = 150;
  let corners = null;
  const place = (event) => {
    const edges = map.getBoundingClientRect();
    return [width * (event.clientX - edges.left) / edges.width, height * (event.clientY - edges.top) / edges.height];
  };
  const show = () => drawn.setAttribute("points", (corners || []).map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
  const share = ([x, y]) => {
    const across = (x - margin) / (width - 2 * margin), down = (y - margin) / (height - 2 * margin);
    return `${across.toFixed(4)},${down.toFixed(4)}`;
  };
  map.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    corners = [place(event)];
    map.setPointerCapture(event.pointerId);
  });
  map.addEventListener("pointermove", (event) => {
    if (!corners) return;
    const next = place(event), last = corners[corners.length - 1];
    if (Math.hypot(next[0] - last[0], next[1] - last[1]) > 3) { corners.push(next); show(); }
  });
  map.addEventListener("pointerup", () => {
    const taken = corners || [];
    corners = null;
    show();
    if (taken.length < 3) return;
    const step = Math.ceil(taken.length / most);
    const kept = taken.filter((_, number) => number % step === 0);
    if (kept.length < 3) return;
    location.href = `${location.pathname}?lasso=${encodeURIComponent(kept.map(share).join(" "))}#chosen`;
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") { corners = null; show(); } });
  map.addEventListener("pointerover", (event) => {
    const id = event.target.dataset && event.target.dataset.id;
    seen.hidden = !id;
    if (!id) return;
    document.getElementById("seen-picture").src = `/thumbnails/${id}.jpg`;
    document.getElementById("seen-text").textContent = event.target.querySelector("title").textContent;
  });
  map.addEventListener("pointerleave", () => { seen.hidden = true; });
}
