// A picture in full size, to be moved and zoomed: with the mouse, by touch, or with the arrow keys, + and −.
"use strict";
(() => {
  const holder = document.getElementById("view");
  if (!holder || !window.L) return;
  const picture = new Image();
  picture.addEventListener("error", () => { holder.hidden = true; document.getElementById("unread").hidden = false; });
  picture.addEventListener("load", () => {
    const { naturalWidth: width, naturalHeight: height } = picture, bounds = [[0, 0], [height, width]];
    const map = L.map(holder, { crs: L.CRS.Simple, attributionControl: false, zoomSnap: 0.25, minZoom: -6, maxZoom: 4, maxBounds: [[-height, -width], [2 * height, 2 * width]] });
    map.fitBounds(bounds, { animate: false });
    L.imageOverlay(picture.src, bounds, { alt: holder.getAttribute("aria-label") }).addTo(map);
    if (holder.dataset.outline) {
      const corners = holder.dataset.outline.split(" ").map((corner) => corner.split(",").map(Number));
      L.polygon(corners.map(([x, y]) => [height * (1 - y / 100), width * x / 100]), { className: "matched", weight: 3, fill: false }).addTo(map);
    }
    map.setMinZoom(map.getZoom() - 1);
    holder.dataset.size = `${width} x ${height}`;
    holder.classList.add("ready");
    holder.focus({ preventScroll: true });
  });
  picture.src = holder.dataset.picture;
})();
