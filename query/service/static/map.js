// The map: what the page's items and the query say of their places, on tiles of a map of one's own or on lines of latitude and longitude.
"use strict";
(() => {
  const holder = document.getElementById("map");
  if (!holder || !window.L) return;
  const said = JSON.parse(holder.dataset.map);
  const form = document.getElementById("question") || document.getElementById("choices");
  const map = L.map(holder, { attributionControl: false, maxZoom: 24, zoomSnap: 0.25, minZoom: 1, worldCopyJump: true });
  map.setView([20, 0], 1.5);  // marks are made where the map looks somewhere
  map.zoomControl.setPosition("topright");
  L.control.scale({ imperial: false, position: "bottomright" }).addTo(map);
  if (said.background) {
    const { address, bounds, zoom } = said.background;
    L.tileLayer(address, { bounds, maxNativeZoom: zoom, maxZoom: 24, className: "ground" }).addTo(map);
  }

  // -- lines of latitude and longitude
  const lines = L.layerGroup().addTo(map);
  const stepFor = (span) => {
    const power = 10 ** Math.floor(Math.log10(span / 4));
    return [5, 2, 1].map((n) => n * power).find((n) => n <= span / 4 + 1e-12) || power;
  };
  const textOf = (text) => Object.assign(document.createElement("span"), { textContent: text });
  const label = (value, decimals, ends) => `${Math.abs(value).toFixed(decimals)}° ${ends[value < 0 ? 1 : 0]}`;
  const note = (text, at, side) => L.marker(at, {
    interactive: false, keyboard: false, icon: L.divIcon({ className: `degree ${side}`, html: textOf(text), iconSize: null }),
  });
  const draw = () => {
    lines.clearLayers();
    const view = map.getBounds(), south = Math.max(-85, view.getSouth()), north = Math.min(85, view.getNorth());
    const west = view.getWest(), east = view.getEast(), step = Math.min(30, stepFor(Math.max(1e-7, Math.min(north - south, east - west))));
    const decimals = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)), style = { className: "degrees", weight: 1, interactive: false };
    for (let at = Math.ceil(south / step) * step; at <= north; at += step) {
      L.polyline([[at, west], [at, east]], style).addTo(lines);
      note(label(at, decimals, "NS"), [at, west], "left").addTo(lines);
    }
    for (let at = Math.ceil(west / step) * step; at <= east; at += step) {
      L.polyline([[south, at], [north, at]], style).addTo(lines);
      const turned = ((at + 180) % 360 + 360) % 360 - 180;
      note(label(turned, decimals, "EW"), [south, at], "bottom").addTo(lines);
    }
  };
  map.on("moveend", draw);

  // -- items: a card and its mark are one
  const place = (text) => text.split(",").map(Number);
  const marks = new Map();
  const seen = [];
  const light = (card, on) => {
    card.classList.toggle("on", on);
    const { mark, outline } = marks.get(card) || {};
    if (!mark) return;
    const shape = mark.getElement();
    if (shape) shape.classList.toggle("on", on);
    if (mark.setZIndexOffset) mark.setZIndexOffset(on ? 1e4 : 0); else if (on) mark.bringToFront();
    if (outline && outline.getElement()) outline.getElement().classList.toggle("on", on);
    if (outline && on) outline.bringToFront();
  };
  const choose = (card) => {
    for (const each of marks.keys()) each.classList.toggle("chosen", each === card);
    card.scrollIntoView({ block: "nearest" });
    const link = card.querySelector("a");
    if (link) link.focus({ preventScroll: true });
  };
  const numbered = (text, at, title) => L.marker(at, { title, alt: title, riseOnHover: true, icon: L.divIcon({ className: "mark", html: textOf(text), iconSize: null }) });
  for (const card of [...document.querySelectorAll("figure[data-place]")].reverse()) {
    const at = place(card.dataset.place), title = card.dataset.title, rank = card.dataset.rank;
    const outline = card.dataset.outline ? L.polygon(card.dataset.outline.split(" ").map(place), { className: "footprint", weight: 2 }).addTo(map) : null;
    const mark = (rank ? numbered(rank, at, `${rank}: ${title}`) : L.circleMarker(at, { className: "dot", radius: 6, weight: 2 })).addTo(map);
    marks.set(card, { mark, outline });
    seen.push(at, ...(outline ? outline.getLatLngs()[0] : []));
    for (const layer of outline ? [mark, outline] : [mark]) {
      layer.on("mouseover", () => light(card, true)).on("mouseout", () => light(card, false)).on("click", (event) => { L.DomEvent.stop(event); choose(card); });
    }
    if (rank) mark.getElement().addEventListener("focus", () => light(card, true));
    if (rank) mark.getElement().addEventListener("blur", () => light(card, false));
    card.addEventListener("mouseenter", () => light(card, true));
    card.addEventListener("mouseleave", () => light(card, false));
    card.addEventListener("focusin", () => light(card, true));
    card.addEventListener("focusout", () => light(card, false));
  }

  // -- the query, where its hits put it, and the part of the ground that is asked for
  if (said.query.place) {
    numbered("+", said.query.place, holder.dataset.query).addTo(map).getElement().classList.add("own");
    seen.push(said.query.place);
  }
  const located = said.query.located;
  if (located) {
    L.polygon(located.footprint, { className: "located", weight: 3, interactive: false }).addTo(map);
    L.circle(located.place, { className: "spread", weight: 2, radius: located.radius, interactive: false }).addTo(map);
    numbered("?", located.place, holder.dataset.located).addTo(map).getElement().classList.add("estimated");
    seen.push(located.place, ...located.footprint);
  }
  const asked = { className: "asked-area", weight: 2, interactive: false, fill: false };
  const around = (at, metres) => L.latLng(at).toBounds(2 * metres);
  const whole = L.latLngBounds(seen);
  if (said.ground.near) {
    const [latitude, longitude, metres] = said.ground.near;
    if (metres < 2e7) L.circle([latitude, longitude], { ...asked, radius: metres }).addTo(map);
    whole.extend(around([latitude, longitude], Math.min(metres, 5e6)));
  }
  if (said.ground.area) {
    const [west, south, east, north] = said.ground.area;
    L.rectangle([[south, west], [north, east]], asked).addTo(map);
    whole.extend([[south, west], [north, east]]);
  }
  if (!whole.isValid() && said.extent) whole.extend([said.extent.slice(0, 2), said.extent.slice(2)]);
  if (!whole.isValid() && said.background) whole.extend(said.background.bounds);
  const fit = () => { if (whole.isValid()) map.fitBounds(whole.pad(0.08), { maxZoom: 19, animate: false }); else draw(); };
  fit();
  let moved = false;  // by hand: then a larger window shows more, and moves nothing
  for (const what of ["pointerdown", "wheel", "keydown"]) holder.addEventListener(what, () => { moved = true; }, { passive: true });
  map.on("resize", () => { if (!moved) fit(); });

  // -- searching where one looks
  const submit = (name, value) => {
    const other = name === "area" ? "near" : "area";
    form.elements[name].value = value;
    form.elements[other].value = "";
    form.requestSubmit();
  };
  const here = document.getElementById("here");
  here.addEventListener("click", () => {
    const view = map.getBounds(), round = (value) => value.toFixed(7);
    const south = Math.max(-90, view.getSouth()), north = Math.min(90, view.getNorth());
    const west = view.getWest(), east = Math.min(view.getEast(), west + 360);
    const turn = west < -180 || west >= 180 ? -360 * Math.floor((west + 180) / 360) : 0;
    submit("area", [west + turn, south, east + turn, north].map(round).join(","));
  });
  const choices = document.getElementById("around");
  map.on("click", ({ latlng }) => {
    const at = latlng.wrap(), popup = choices.content.firstElementChild.cloneNode(true);
    for (const button of popup.querySelectorAll("button")) {
      button.addEventListener("click", () => submit("near", `${at.lat.toFixed(6)},${at.lng.toFixed(6)},${button.value}`));
    }
    L.popup({ closeButton: true }).setLatLng(latlng).setContent(popup).openOn(map);
  });
  holder.classList.add("ready");
})();
