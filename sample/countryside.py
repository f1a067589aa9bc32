"""Painters of open land: fields, paddies, greenhouses, orchards, woods, meadows, lakes, diggings, panels, golf.

A painter fills one site of the plan: it paints the ground at once and notes on the canvas what stands on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Colour, blob, shade, vary
from .polygons import Points, area, fit_rectangle, hatch, inset, inside, intersection, long_axis, pieces, subdivide


@dataclass(frozen=True)
class Site:
    """One piece of the plan: a convex polygon in metres, its main direction in radians, and its own dice."""

    canvas: Canvas
    rng: np.random.Generator
    polygon: Points
    axis: float

    def pick(self, options: tuple[Colour, ...], amount: float = 6) -> Colour:
        """One of `options`, slightly varied."""
        return vary(self.rng, options[int(self.rng.integers(len(options)))], amount)

    def scatter(self, count: int) -> Points:
        """Up to `count` random points inside the site: `[n, 2]` metres."""
        low, high = self.polygon.min(axis=0), self.polygon.max(axis=0)
        points = self.rng.uniform(low, high, (count, 2))
        return points[inside(self.polygon, points)]

    def blob(self, centre: Points, radius: float, colour: Colour, rough: int) -> None:
        """Paints an irregular rounded patch of about `radius` metres, cut off at the site's edge."""
        self.canvas.fill(intersection(blob(self.rng, centre, radius), self.polygon), colour, rough)


Shader = Callable[[Site], None]
GRASS: tuple[Colour, ...] = ((112, 124, 70), (98, 116, 64), (126, 130, 78), (136, 130, 84), (90, 110, 62))
SOIL: tuple[Colour, ...] = ((140, 112, 82), (124, 98, 72), (160, 132, 98), (104, 84, 64), (172, 144, 106))

# Ground colour, row colour, metres between rows, texture.
CROPS: tuple[tuple[Colour, Colour, float, int], ...] = (
    ((92, 112, 56), (78, 98, 48), 1.6, 70),
    ((70, 94, 46), (60, 80, 42), 1.2, 90),
    ((196, 174, 118), (182, 158, 104), 3.0, 70),
    ((126, 100, 74), (110, 86, 64), 2.0, 80),
    ((92, 76, 60), (80, 66, 52), 1.8, 80),
    ((130, 108, 82), (98, 126, 88), 1.8, 60),
    ((122, 144, 70), (114, 134, 64), 6.0, 60),
    ((118, 96, 74), (62, 62, 60), 2.2, 60),
    ((158, 148, 86), (146, 136, 76), 2.4, 70),
    ((186, 178, 160), (168, 166, 134), 3.0, 90),
    ((138, 84, 64), (122, 74, 56), 2.0, 80),
    ((192, 176, 72), (178, 164, 66), 2.4, 80),
    ((104, 134, 92), (88, 116, 80), 2.6, 60),
    ((168, 140, 104), (154, 126, 92), 4.0, 60),
    ((142, 150, 96), (126, 138, 84), 9.0, 50),
)


def edge_trees(site: Site, start: Points, end: Points, species: str, spacing: float, radius: float) -> None:
    """A row of trees between two points, `spacing` and `radius` in metres."""
    length = float(np.hypot(*(end - start)))
    count = int(length / spacing)
    if count < 1:
        return
    t = (np.arange(count) + site.rng.uniform(0.2, 0.8, count)) / count
    points = start + (end - start) * t[:, None] + site.rng.normal(0, 0.6, (count, 2))
    site.canvas.plant(points, radius * site.rng.uniform(0.7, 1.25, count), species)


def field(site: Site, parcel: Points, crop: int) -> None:
    """One arable field: rows, headland, wheel tracks, sometimes a strip already worked."""
    rng, canvas = site.rng, site.canvas
    ground, row, spacing, rough = CROPS[crop]
    ground, row = vary(rng, ground, 7), vary(rng, row, 5)
    canvas.fill(parcel, ground, rough)
    angle = long_axis(parcel) + rng.normal(0, 0.03) + (np.pi / 2 if rng.random() < 0.15 else 0.0)
    core = inset(parcel, 4.0)
    for step in (1.2, 2.8):
        ring = inset(parcel, step)
        if len(ring) >= 3:
            canvas.hatch(np.stack([ring, np.roll(ring, -1, axis=0)], axis=1), 0.5, row)
    if len(core) < 3:
        return
    spacing *= rng.uniform(0.9, 1.25)
    canvas.hatch(hatch(core, angle, spacing), spacing * 0.45, row)
    if spacing < 3.5 and rng.random() < 0.7:
        gap = rng.choice([12.0, 18.0, 24.0])
        for line in hatch(core, angle, gap):
            side = np.array([-np.sin(angle), np.cos(angle)]) * 0.9
            canvas.hatch(np.stack([line + side, line - side]), 0.5, shade(ground, 1.13))


def crops(site: Site) -> None:
    """Arable land: a patchwork of fields under different crops, grass between, here and there a hedge."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, site.pick(GRASS), 130)
    low, shape = rng.uniform(1200, 3200), rng.uniform(1.0, 3.2)
    parcels, cuts = subdivide(site.polygon, rng, (low, low * 2.6), axis=site.axis, jitter=0.05, aspect=shape)
    menu = rng.permutation(len(CROPS))[:6]
    for i, parcel in enumerate(parcels):
        field(site, inset(parcel, rng.uniform(0.6, 1.6)), int(menu[(i * 5 + int(rng.integers(2))) % len(menu)]))
    for cut in cuts:
        if rng.random() < 0.22:
            edge_trees(site, cut.start, cut.end, str(rng.choice(["broadleaf", "bush", "light"])), 4.5, 1.9)


def paddies(site: Site) -> None:
    """Rice paddies in September: long plots between pale bunds, green to gold, some cut, a few under water."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, vary(rng, (146, 142, 106), 6), 90)
    tones = ((150, 150, 72), (172, 160, 80), (190, 172, 88), (124, 138, 66), (138, 146, 70), (104, 126, 62))
    low = rng.uniform(700, 1300)
    for parcel in subdivide(site.polygon, rng, (low, low * 1.9), axis=site.axis, jitter=0.01, aspect=2.6)[0]:
        plot, dice = inset(parcel, rng.uniform(0.5, 0.9)), rng.random()
        if dice < 0.12:
            canvas.fill(plot, vary(rng, (168, 148, 110), 8), 90)
            canvas.hatch(hatch(plot, site.axis, 1.8), 0.5, (142, 124, 92))
        elif dice < 0.19:
            canvas.fill(plot, vary(rng, (92, 98, 88), 6), 20)
        else:
            tone = site.pick(tones, 7)
            canvas.fill(plot, tone, 70)
            canvas.hatch(hatch(plot, site.axis, 1.2), 0.3, shade(tone, 0.95))
            if rng.random() < 0.3 and len(plot) >= 3:
                spot = plot.mean(axis=0) + rng.normal(0, 5, 2)
                site.blob(spot, rng.uniform(2, 5), shade(tone, 1.12), 90)


def greenhouses(site: Site) -> None:
    """Rows of plastic tunnels: white, milky green, or under black netting, with soil and tracks between."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, site.pick(SOIL), 110)
    tints: tuple[Colour, ...] = ((226, 228, 228), (206, 214, 208), (186, 200, 190), (92, 96, 96), (214, 220, 230))
    for parcel in subdivide(site.polygon, rng, (3000, 8000), axis=site.axis, jitter=0.02)[0]:
        plot = inset(parcel, 3.0)
        if len(plot) < 3:
            continue
        angle = site.axis + (np.pi / 2 if rng.random() < 0.35 else 0.0)
        width, gap = rng.uniform(5.5, 8.0), rng.uniform(1.2, 3.0)
        tint, height = site.pick(tints, 3), rng.uniform(2.2, 3.4)
        for start, end in pieces(hatch(plot, angle, width + gap), 58, 3.0):
            length = float(np.hypot(*(end - start)))
            if length > 12 and rng.random() < 0.92:
                colour = vary(rng, tint if rng.random() < 0.85 else (112, 122, 88), 4)
                canvas.build((start + end) / 2, length - 2, width, angle, height, "arch", colour)


def orchard(site: Site) -> None:
    """Fruit trees in straight rows on mown grass or bare soil."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, site.pick(GRASS), 130)
    for parcel in subdivide(site.polygon, rng, (4000, 9000), axis=site.axis, jitter=0.05)[0]:
        plot = inset(parcel, 2.5)
        if len(plot) < 3:
            continue
        floor = site.pick(GRASS + SOIL[:3], 5)
        canvas.fill(plot, floor, 110)
        angle = long_axis(plot) + (np.pi / 2 if rng.random() < 0.4 else 0.0)
        spacing, step = rng.uniform(4.2, 7.0), rng.uniform(3.2, 5.5)
        species = str(rng.choice(["orchard", "light", "olive", "broadleaf"]))
        radius = min(spacing, step) * rng.uniform(0.30, 0.48)
        lines = hatch(plot, angle, spacing)
        canvas.hatch(lines, spacing * 0.35, vary(rng, shade(floor, 0.9), 4))
        for start, end in lines:
            length = float(np.hypot(*(end - start)))
            at = np.arange(step / 2, length, step)
            at = at[rng.random(len(at)) > 0.05]
            points = start + (end - start) * (at / length)[:, None] + rng.normal(0, 0.15, (len(at), 2))
            canvas.plant(points, radius * rng.uniform(0.85, 1.12, len(at)), species)


def wood(site: Site) -> None:
    """Woodland: crowns shoulder to shoulder, kinds mixed in drifts, with clearings and a path."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, vary(rng, (62, 66, 42), 4), 120)
    mixes = (
        ("broadleaf", "light", "autumn"),
        ("conifer", "conifer", "light"),
        ("broadleaf", "conifer", "autumn"),
        ("light", "autumn", "broadleaf"),
    )
    mix = mixes[int(rng.integers(len(mixes)))]
    low, high = site.polygon.min(axis=0), site.polygon.max(axis=0)
    spacing = rng.uniform(4.6, 6.6)
    columns, rows = np.meshgrid(np.arange(low[0], high[0], spacing), np.arange(low[1], high[1], spacing * 0.87))
    columns[1::2] += spacing / 2
    points = np.stack([columns.ravel(), rows.ravel()], axis=1) + rng.normal(0, spacing * 0.17, (columns.size, 2))
    points = points[inside(site.polygon, points)]
    for _ in range(int(rng.integers(1, 4))):
        centre, reach = site.polygon.mean(axis=0) + rng.normal(0, 45, 2), rng.uniform(9, 24)
        site.blob(centre, reach, site.pick(GRASS + SOIL[2:3], 6), 150)
        points = points[np.hypot(*(points - centre).T) > reach * rng.uniform(0.85, 1.05, len(points))]
    phase, k = rng.uniform(0, 6, 3), rng.normal(0, 1, (3, 2)) * 0.035
    drift = np.stack([np.sin(points @ k[i] + phase[i]) for i in range(3)], axis=1) + rng.normal(
        0, 0.35, (len(points), 3)
    )
    drift[:, 2] -= 0.5
    kind = drift.argmax(axis=1)
    for i, species in enumerate(mix):
        chosen = points[kind == i]
        big = spacing * (0.52 if species == "conifer" else 0.64)
        canvas.plant(chosen, big * rng.uniform(0.72, 1.25, len(chosen)), species)


def meadow(site: Site) -> None:
    """Grassland: patches, mown swaths, footpaths, lone trees and bushes, sometimes bales."""
    rng, canvas = site.rng, site.canvas
    grass = site.pick(GRASS)
    canvas.fill(site.polygon, grass, 170)
    for spot in site.scatter(14):
        site.blob(spot, rng.uniform(6, 26), vary(rng, grass, 9), 180)
    if rng.random() < 0.6:
        part = subdivide(site.polygon, rng, (area(site.polygon) * 0.3, area(site.polygon) * 0.6))[0][0]
        angle = long_axis(part) + rng.normal(0, 0.4)
        canvas.fill(inset(part, 3), shade(grass, 1.14), 90)
        canvas.hatch(hatch(inset(part, 4), angle, 5.0), 2.2, shade(grass, 1.05))
        for spot in site.scatter(40)[:18]:
            canvas.build(spot, 1.8, 1.5, angle, 1.4, "tank", (206, 190, 138))
    for _ in range(int(rng.integers(1, 3))):
        path = hatch(site.polygon, rng.uniform(0, np.pi), 60.0)
        if len(path):
            start, end = path[int(rng.integers(len(path)))]
            t = np.linspace(0.02, 0.98, 16)[:, None]
            bend = np.sin(np.pi * t) * np.sin(rng.uniform(4, 8) * t + rng.uniform(0, 6)) * 9
            side = np.array([-(end - start)[1], (end - start)[0]]) / max(float(np.hypot(*(end - start))), 1)
            canvas.band(start + (end - start) * t + side * bend, 1.6, vary(rng, (178, 160, 122), 5), 60)
    spots = site.scatter(int(rng.integers(30, 110)))
    species = str(rng.choice(["broadleaf", "light", "bush", "autumn", "conifer"]))
    canvas.plant(spots, rng.uniform(1.0, 4.2, len(spots)), species)
    bushes = site.scatter(90)
    canvas.plant(bushes, rng.uniform(0.6, 1.4, len(bushes)), "bush")


def lake(site: Site) -> None:
    """A pond or lake in a park: water, a path round it, lawns and groups of trees."""
    rng, canvas = site.rng, site.canvas
    grass = site.pick(GRASS[:3])
    canvas.fill(site.polygon, grass, 120)
    centre, length, width = fit_rectangle(site.polygon, site.axis)
    radius = min(length, width) * rng.uniform(0.30, 0.40)
    shore = blob(rng, centre, radius, min(1.35, (length / max(width, 1)) ** 0.4))
    loop = centre + (shore - centre) * (1 + 9 / radius)
    canvas.band(np.concatenate([loop, loop[:1]]), 3.2, vary(rng, (198, 186, 164), 4), 40, closed=True)
    canvas.flood(intersection(shore, inset(site.polygon, 6)))
    points = site.scatter(int(rng.integers(120, 260)))
    far = np.hypot(*(points - centre).T) > radius * 1.25 + 10
    canvas.plant(points[far], rng.uniform(1.6, 4.4, int(far.sum())), str(rng.choice(["broadleaf", "light", "autumn"])))


def diggings(site: Site) -> None:
    """A quarry or building site: bare terraces, heaps, wheel tracks, puddles, machines."""
    rng, canvas = site.rng, site.canvas
    base = vary(rng, (188, 164, 130), 10) if rng.random() < 0.6 else vary(rng, (168, 158, 148), 8)
    canvas.fill(site.polygon, base, 170)
    ring = site.polygon
    for i in range(int(rng.integers(2, 6))):
        ring = inset(ring, rng.uniform(7, 14))
        if len(ring) < 3 or area(ring) < 300:
            break
        canvas.fill(ring, shade(base, 0.74), 170)
        canvas.fill(inset(ring, 2.2), shade(base, 0.98 - 0.045 * i), 170)
    for spot in site.scatter(16):
        radius = rng.uniform(3, 8)
        site.blob(spot + np.array([-0.35, 0.28]) * radius, radius, shade(base, 0.66), 140)
        site.blob(spot, radius, vary(rng, shade(base, 1.12), 8), 150)
    ends = site.scatter(14)
    for start, end in itertools.pairwise(ends):
        for offset in (-1.1, 1.1):
            canvas.band(np.stack([start, end]), 0.7, shade(base, 0.86), 120, offset=offset)
    for spot in site.scatter(3):
        site.blob(spot, rng.uniform(4, 10), vary(rng, (110, 136, 128), 6), 20)
    machines: tuple[Colour, ...] = ((222, 172, 48), (214, 140, 46), (200, 200, 196), (70, 104, 158), (176, 66, 52))
    for spot in site.scatter(26):
        size = (9, 3.0) if rng.random() < 0.5 else (6, 2.4)
        canvas.build(spot, *size, rng.uniform(0, np.pi), 2.8, "box", site.pick(machines))


def panels(site: Site) -> None:
    """A solar field: rows of dark blue panels facing south over grass or gravel."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, site.pick((*GRASS[:3], (172, 166, 150)), 6), 120)
    tilt = rng.normal(0, 0.12)
    tint = site.pick(((36, 46, 76), (46, 54, 84), (30, 36, 52)), 4)
    for parcel in subdivide(site.polygon, rng, (5000, 12000), axis=tilt, jitter=0.0)[0]:
        plot, depth = inset(parcel, 3.0), rng.uniform(2.6, 4.4)
        if len(plot) < 3:
            continue
        for start, end in pieces(hatch(plot, tilt, depth * rng.uniform(1.5, 1.8)), 26, 0.9):
            length = float(np.hypot(*(end - start)))
            if length > 6:
                canvas.build((start + end) / 2, length, depth, tilt, 1.5, "panel", tint)


def golf(site: Site) -> None:
    """A golf course: striped fairways in rough grass, pale greens, sand bunkers, a pond, groups of trees."""
    rng, canvas = site.rng, site.canvas
    rough = vary(rng, (96, 116, 62), 6)
    canvas.fill(site.polygon, rough, 150)
    lines = hatch(inset(site.polygon, 16), site.axis + rng.normal(0, 0.12), rng.uniform(52, 70))
    for start, end in lines:
        t = np.linspace(0.04, 0.96, 14)
        side = np.array([-(end - start)[1], (end - start)[0]]) / max(float(np.hypot(*(end - start))), 1)
        bend = 7 * np.sin(t * rng.uniform(2, 6) + rng.uniform(0, 6))
        course = start + (end - start) * t[:, None] + side * bend[:, None]
        fairway = vary(rng, (126, 160, 80), 5)
        canvas.band(course, 25, shade(fairway, 0.9), 80)
        canvas.band(course, 20, fairway, 60)
        for offset in (-7.5, -2.5, 2.5, 7.5):
            canvas.band(course, 2.5, shade(fairway, 1.07), 60, offset=offset)
        for spot in (course[-1], course[0]):
            site.blob(spot, 9, (142, 176, 92), 40)
        for _ in range(5):
            spot = course[int(rng.integers(1, 13))] + side * rng.choice([-1, 1]) * rng.uniform(9, 15)
            site.blob(spot, rng.uniform(2.5, 6), (228, 214, 176), 50)
    spots = site.scatter(260)
    if len(lines):
        middle, side = lines.mean(axis=1), np.array([-np.sin(site.axis), np.cos(site.axis)])
        spots = spots[np.abs((spots @ side)[:, None] - (middle @ side)[None]).min(axis=1) > 17]
    canvas.plant(spots, rng.uniform(1.8, 4.2, len(spots)), str(rng.choice(["broadleaf", "conifer", "autumn"])))
    pond = blob(rng, site.polygon.mean(axis=0) + rng.normal(0, 25, 2), rng.uniform(10, 18), rng.uniform(1, 1.5))
    canvas.flood(intersection(pond, inset(site.polygon, 8)))


COUNTRY: dict[str, Shader] = {
    "crops": crops,
    "paddies": paddies,
    "greenhouses": greenhouses,
    "orchard": orchard,
    "wood": wood,
    "meadow": meadow,
    "lake": lake,
    "diggings": diggings,
    "panels": panels,
    "golf": golf,
}
