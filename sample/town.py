"""Painters of built land: village, streets of houses, apartments, industry, sports, shops, allotments, waterworks."""

from __future__ import annotations

import itertools

import numpy as np

from .canvas import Canvas, Colour, Ground, shade, vary
from .countryside import GRASS, SOIL, Shader, Site, edge_trees
from .polygons import Cut, Points, area, fit_rectangle, hatch, inset, long_axis, rectangle, subdivide

TILES: tuple[Colour, ...] = (
    (170, 92, 66),
    (146, 78, 60),
    (92, 108, 150),
    (104, 104, 108),
    (132, 118, 104),
    (70, 96, 122),
)
DECKS: tuple[Colour, ...] = (
    (78, 134, 98), (96, 146, 108), (158, 158, 154), (178, 174, 166), (118, 120, 122), (160, 112, 90), (196, 196, 194),
)  # fmt: skip
SHEDS: tuple[Colour, ...] = (
    (214, 216, 216), (176, 184, 192), (86, 122, 172), (150, 158, 160), (188, 178, 158), (172, 98, 82), (98, 138, 126),
)  # fmt: skip
PAINT: tuple[Colour, ...] = (
    (232, 232, 230), (40, 42, 46), (150, 154, 158), (92, 98, 106), (166, 44, 40), (44, 70, 128), (200, 196, 184), (236, 236, 236),
)  # fmt: skip
ASPHALT: Colour = (112, 112, 114)


def car(
    canvas: Canvas,
    rng: np.random.Generator,
    centre: Points,
    angle: float,
    ground: Ground = "open",
    lorries: float = 0.07,
) -> None:
    """A car, or with probability `lorries` a lorry, facing either way along `angle` (radians)."""
    colour = vary(rng, PAINT[int(rng.integers(len(PAINT)))], 5)
    length, width, height = (10.5, 2.5, 3.2) if rng.random() < lorries else (rng.uniform(4.1, 4.9), 1.85, 1.5)
    canvas.build(centre, length, width, angle + np.pi * rng.integers(2), height, "car", colour, ground)


def parking(site: Site, plot: Points, fill: float = 0.6) -> None:
    """A car park: asphalt, painted bays, and cars in a share `fill` of them."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(plot, vary(rng, ASPHALT, 6), 40)
    angle = long_axis(plot)
    for start, end in hatch(inset(plot, 3.5), angle, 8.5):
        length = float(np.hypot(*(end - start)))
        u = (end - start) / max(length, 1e-6)
        side = np.array([-u[1], u[0]])
        bays = np.arange(1.3, length - 1.3, 2.6)
        edges = start + u * (bays - 1.3)[:, None]
        if len(edges):
            canvas.hatch(np.stack([edges - side * 2.5, edges + side * 2.5], axis=1), 0.2, (206, 206, 202))
        for at in bays[rng.random(len(bays)) < fill]:
            car(canvas, rng, start + u * at, angle + np.pi / 2, lorries=0.0)


def lanes(site: Site, cuts: list[Cut], width: float, colour: Colour, centre_line: bool, cars: float) -> None:
    """Streets along a site's cuts, with cars parked on a share `cars` of their length."""
    canvas, rng = site.canvas, site.rng
    for cut in cuts:
        line = np.stack([cut.start, cut.end])
        canvas.band(line, width + 2.4, shade(colour, 1.32), 40)
        canvas.reserve(line, width + 1.5)
    for cut in cuts:
        line = np.stack([cut.start, cut.end])
        canvas.band(line, width, colour, 30)
        length = float(np.hypot(*(line[1] - line[0])))
        u = (line[1] - line[0]) / max(length, 1e-6)
        angle, side = float(np.arctan2(u[1], u[0])), np.array([-u[1], u[0]]) * (width / 2 - 1.2)
        if centre_line:
            canvas.dashes(line, 0.0, (216, 212, 196), 3.0, 3.0, 0.2)
        for at in np.arange(6, length - 6, 6.0):
            if rng.random() < cars:
                car(canvas, rng, line[0] + u * at + side * rng.choice([-1, 1]), angle, "dry")


def village(site: Site) -> None:
    """A village: lanes, gabled houses in gardens, sheds, kitchen plots and trees."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, site.pick(GRASS), 150)
    quarters, cuts = subdivide(site.polygon, rng, (2600, 6000), jitter=0.12)
    tiles = tuple(TILES[i] for i in rng.permutation(len(TILES))[:3])
    for quarter in quarters:
        for plot in subdivide(inset(quarter, 3.0), rng, (330, 800), jitter=0.08)[0]:
            yard = inset(plot, 0.8)
            if area(yard) < 110:
                continue
            canvas.fill(yard, site.pick((*GRASS, *SOIL[:2], (182, 172, 152)), 8), 150)
            angle = long_axis(plot) + (np.pi / 2 if rng.random() < 0.3 else 0)
            centre, length, width = fit_rectangle(inset(yard, 1.0), angle)
            length, width = min(length * 0.7, rng.uniform(9, 15)), min(width * 0.7, rng.uniform(6.5, 9))
            shift = rng.normal(0, 1.4, 2)
            if rng.random() < 0.86 and min(length, width) > 4:
                flat = rng.random() < 0.2
                colour = site.pick(DECKS) if flat else site.pick(tiles, 10)
                canvas.build(
                    centre + shift, length, width, angle, rng.uniform(4.2, 7), "flat" if flat else "gable", colour
                )
            if rng.random() < 0.5:
                corner = centre + (yard[0] - centre) * 0.66
                canvas.build(corner, 4.2, 3.2, angle, 2.6, "gable", site.pick(SHEDS, 8))
            if rng.random() < 0.45:
                bed = centre + (yard[1] - centre) * 0.6
                patch = rectangle(bed, 7, 5, angle)
                canvas.fill(patch, site.pick(SOIL), 90)
                canvas.hatch(hatch(inset(patch, 0.4), angle, 1.1), 0.5, (92, 116, 64))
            count = int(rng.integers(1, 5))
            ring = yard[rng.integers(0, len(yard), count)]
            points = centre + (ring - centre) * rng.uniform(0.7, 0.95, (count, 1)) + rng.normal(0, 1, (count, 2))
            canvas.plant(
                points, rng.uniform(1.0, 2.8, count), str(rng.choice(["broadleaf", "light", "autumn", "bush"]))
            )
    lanes(site, cuts, 4.6, vary(rng, (150, 146, 138), 6), False, 0.05)


def streets(site: Site) -> None:
    """Dense blocks of flat-roofed houses on a grid of streets, cars along the kerbs."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, vary(rng, (150, 148, 144), 5), 60)
    low = rng.uniform(1500, 2600)
    blocks, cuts = subdivide(site.polygon, rng, (low, low * 2), axis=site.axis, jitter=0.02)
    decks = tuple(DECKS[i] for i in rng.permutation(len(DECKS))[:4])
    size = rng.uniform(130, 260)
    for block in blocks:
        if rng.random() < 0.07:
            canvas.fill(inset(block, 4), site.pick(GRASS), 120)
            spots = Site(canvas, rng, inset(block, 5), site.axis).scatter(40)
            canvas.plant(spots, rng.uniform(1.5, 3.5, len(spots)), "broadleaf")
            continue
        for plot in subdivide(inset(block, 4.6), rng, (size, size * 1.9), axis=site.axis, jitter=0.01)[0]:
            if area(plot) < 60:
                continue
            centre, length, width = fit_rectangle(inset(plot, 0.7), site.axis)
            if min(length, width) < 4.5 or rng.random() < 0.05:
                canvas.plant(plot.mean(axis=0)[None], np.array([2.0]), "light")
                continue
            if rng.random() < 0.2:
                canvas.build(centre, length, width, site.axis, rng.uniform(5, 8), "gable", site.pick(TILES, 8))
            else:
                canvas.build(centre, length, width, site.axis, rng.uniform(6, 16), "flat", site.pick(decks, 7))
    lanes(site, cuts, 6.4, vary(rng, ASPHALT, 5), True, 0.38)


def apartments(site: Site) -> None:
    """Slab blocks with long shadows, parking bays, lawns, playgrounds and rows of trees."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, site.pick(GRASS[:2]), 110)
    angle = site.axis + (np.pi / 2 if rng.random() < 0.5 else 0.0)
    deck, height = site.pick(DECKS), rng.uniform(22, 44)
    for start, end in hatch(inset(site.polygon, 14), angle, rng.uniform(40, 56)):
        length = float(np.hypot(*(end - start)))
        u, side = (end - start) / max(length, 1e-6), np.array([-np.sin(angle), np.cos(angle)])
        if length < 30:
            continue
        parking(site, rectangle((start + end) / 2 + side * 17, length, 12, angle), 0.7)
        canvas.band(np.stack([start, end]) + side * 25, 4.5, vary(rng, ASPHALT, 4), 30)
        edge_trees(site, start - side * 11, end - side * 11, "broadleaf", 6.0, 2.4)
        edge_trees(site, start + side * 9.5, end + side * 9.5, "light", 7.0, 2.0)
        block, at = rng.uniform(38, 62), 4.0
        while at + 24 < length:
            reach = min(block, length - at)
            centre = start + u * (at + reach / 2)
            canvas.build(centre, reach, 12.5, angle, height * rng.uniform(0.85, 1.1), "flat", vary(rng, deck, 4))
            at += reach + rng.uniform(9, 16)
    for spot in site.scatter(4):
        site.blob(spot, 9, site.pick(((186, 108, 84), (98, 140, 160), (210, 186, 128)), 6), 30)
        canvas.build(spot, 4, 4, angle, 2.5, "box", site.pick(((220, 170, 60), (190, 70, 60), (70, 120, 170))))


def industry(site: Site) -> None:
    """Works: broad ridged roofs, concrete yards, lorries, stacked containers, tanks."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, vary(rng, (162, 160, 154), 6), 80)
    lots, cuts = subdivide(site.polygon, rng, (3200, 9500), axis=site.axis, jitter=0.02)
    for lot in lots:
        yard = inset(lot, 5.5)
        if area(yard) < 500:
            continue
        canvas.fill(yard, site.pick(((176, 174, 168), (148, 146, 142), (190, 182, 166)), 5), 90)
        dice = rng.random()
        if dice < 0.66:
            centre, length, width = fit_rectangle(yard, site.axis)
            canvas.build(centre, length * 0.86, width * 0.72, site.axis, rng.uniform(8, 14), "works", site.pick(SHEDS))
            for x in np.arange(-0.4, 0.45, 0.1):
                if rng.random() < 0.5:
                    u, v = (
                        np.array([np.cos(site.axis), np.sin(site.axis)]),
                        np.array([-np.sin(site.axis), np.cos(site.axis)]),
                    )
                    canvas.build(
                        centre + u * x * length + v * width * 0.43,
                        11,
                        2.6,
                        site.axis + np.pi / 2,
                        3.4,
                        "car",
                        site.pick(PAINT),
                    )
        elif dice < 0.82:
            boxes: tuple[Colour, ...] = (
                (166, 70, 52),
                (60, 98, 150),
                (210, 150, 60),
                (88, 130, 96),
                (196, 196, 192),
                (120, 60, 70),
            )
            for start, end in hatch(inset(yard, 3), site.axis, 3.0):
                length = float(np.hypot(*(end - start)))
                for at in np.arange(4, length - 4, 6.6):
                    if rng.random() < 0.62:
                        spot = start + (end - start) * (at / length)
                        canvas.build(spot, 6.1, 2.5, site.axis, rng.choice([2.6, 3.9]), "box", site.pick(boxes))
        elif dice < 0.92:
            for start, end in hatch(inset(yard, 8), site.axis, 22.0):
                length = float(np.hypot(*(end - start)))
                for at in np.arange(9, length - 6, 21.0):
                    size = rng.uniform(12, 17)
                    spot = start + (end - start) * (at / length)
                    canvas.build(
                        spot, size, size, 0.0, rng.uniform(7, 12), "tank", site.pick(((222, 222, 216), (186, 190, 190)))
                    )
        else:
            parking(site, yard, 0.75)
    lanes(site, cuts, 8.5, vary(rng, (104, 104, 106), 4), True, 0.10)


def sports(site: Site) -> None:
    """Sports grounds: a running track round a pitch, hard courts, a diamond, stands, parking."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, site.pick(GRASS[:3]), 90)
    axis = site.axis
    u, v = np.array([np.cos(axis), np.sin(axis)]), np.array([-np.sin(axis), np.cos(axis)])
    centre, length, width = fit_rectangle(site.polygon, axis)
    scale = min(1.0, length / 182, width / 100)
    radius, straight = 42 * scale, 86 * scale
    turn = np.linspace(-np.pi / 2, np.pi / 2, 20)
    right = np.stack([straight / 2 + radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    oval = np.concatenate([right, -right, right[:1]])
    centre = centre - v * max(0.0, (width - 100 * scale) / 2)
    loop = centre + oval[:, :1] * u + oval[:, 1:] * v
    colour = site.pick(((172, 88, 70), (150, 76, 66), (84, 112, 150)), 5)
    inner = vary(rng, (98, 144, 74), 6)
    canvas.band(loop, 10.5 * scale, colour, 20, closed=True)
    for lane in range(-4, 5):
        canvas.band(loop, 0.2, (232, 226, 220), 10, offset=lane * 1.15 * scale, closed=True)
    pitch = rectangle(centre, straight * 1.18, radius * 1.5, axis)
    for i in range(10):
        stripe = rectangle(centre + u * (i - 4.5) / 10 * straight * 1.18, straight * 0.119, radius * 1.5, axis)
        canvas.fill(stripe, shade(inner, 1.08 if i % 2 else 0.97), 40)
    canvas.band(np.concatenate([inset(pitch, 1.5), inset(pitch, 1.5)[:1]]), 0.25, (236, 240, 232), 10)
    canvas.band(np.stack([centre + v * radius * 0.7, centre - v * radius * 0.7]), 0.25, (236, 240, 232), 10)
    for side in (-1, 1):
        stand = centre + v * side * (radius + 13 * scale)
        canvas.build(stand, straight, 9 * scale, axis, 9, "works", site.pick(SHEDS[:3]))
    spare = max(0.0, width - 100 * scale)
    for i in range(6):
        spot = centre + v * (50 * scale + spare * 0.5) + u * (i - 2.5) * 26
        court = rectangle(spot, 22, min(38.0, spare - 4), axis)
        if spare > 22:
            canvas.fill(court, site.pick(((62, 104, 146), (84, 132, 92), (166, 96, 72)), 4), 15)
            core = inset(court, 3)
            if len(core) >= 3:
                canvas.fill(core, site.pick(((80, 126, 168), (104, 150, 106), (186, 118, 90)), 4), 15)
                canvas.band(np.concatenate([core, core[:1]]), 0.25, (236, 236, 232), 10)
    ring = np.concatenate([site.polygon, site.polygon[:1]])
    for start, end in itertools.pairwise(ring):
        edge_trees(site, start * 0.95 + centre * 0.05, end * 0.95 + centre * 0.05, "broadleaf", 7, 2.6)


def shops(site: Site) -> None:
    """A retail park: one or two great flat roofs in a sea of parked cars and tree islands."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, vary(rng, (132, 132, 130), 5), 50)
    for lot in subdivide(site.polygon, rng, (6000, 13000), axis=site.axis, jitter=0.01)[0]:
        yard = inset(lot, 4)
        if area(yard) < 400:
            continue
        parking(site, yard, rng.uniform(0.3, 0.85))
        centre, length, width = fit_rectangle(yard, site.axis)
        if rng.random() < 0.85:
            roof = site.pick(((216, 216, 212), (170, 172, 172), (128, 130, 134), (196, 184, 166)))
            canvas.build(centre, length * 0.62, width * 0.5, site.axis, rng.uniform(9, 15), "flat", roof)
        spots = Site(canvas, rng, yard, site.axis).scatter(24)
        canvas.plant(spots, rng.uniform(1.2, 2.2, len(spots)), "light")


def allotments(site: Site) -> None:
    """Allotment gardens: hundreds of little beds of different crops, sheds, paths, water butts."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, vary(rng, (170, 156, 126), 6), 110)
    quarters, _ = subdivide(site.polygon, rng, (1200, 2600), axis=site.axis, jitter=0.03)
    greens: tuple[Colour, ...] = (
        (92, 124, 62),
        (124, 148, 76),
        (70, 100, 56),
        (150, 158, 92),
        (112, 132, 94),
        (150, 96, 84),
    )
    for quarter in quarters:
        for bed in subdivide(inset(quarter, 1.6), rng, (50, 130), axis=site.axis, jitter=0.02)[0]:
            plot = inset(bed, 0.45)
            if area(plot) < 12:
                continue
            canvas.fill(plot, site.pick(SOIL + greens, 8), 120)
            if rng.random() < 0.7:
                angle = site.axis + (np.pi / 2 if rng.random() < 0.5 else 0)
                canvas.hatch(hatch(plot, angle, rng.uniform(0.9, 1.6)), 0.5, site.pick(greens))
            if rng.random() < 0.13:
                canvas.build(plot.mean(axis=0), 3.2, 2.4, site.axis, 2.4, "gable", site.pick(TILES + SHEDS, 8))
            elif rng.random() < 0.08:
                canvas.plant(plot.mean(axis=0)[None], rng.uniform(0.9, 2.0, 1), "orchard")


def waterworks(site: Site) -> None:
    """A treatment works: round and square basins on lawns, service roads, a plant hall."""
    rng, canvas = site.rng, site.canvas
    canvas.fill(site.polygon, site.pick(GRASS[:3]), 90)
    big = rng.uniform(13, 19)
    yard = inset(site.polygon, big + 5)
    u = np.array([np.cos(site.axis), np.sin(site.axis)])
    for i, (start, end) in enumerate(hatch(yard, site.axis, big * 2.5)):
        length = float(np.hypot(*(end - start)))
        canvas.band(np.stack([start, end]), 5, vary(rng, ASPHALT, 4), 30)
        for at in np.arange(0, length + 1, big * 2.45):
            spot = start + u * at
            tone = site.pick(((70, 96, 88), (92, 104, 82), (64, 84, 96), (104, 92, 70)), 5)
            if i % 2 == 0:
                canvas.disc(spot, big, (186, 184, 176), 30)
                canvas.disc(spot, big - 1.2, tone, 15)
                canvas.disc(spot, big * 0.72, shade(tone, 1.12), 15)
                canvas.build(spot + u * big * 0.45, big, 1.2, site.axis, 2, "box", (176, 178, 178), "dry")
                canvas.disc(spot, 1.8, (190, 190, 184), 20)
            else:
                canvas.fill(rectangle(spot, big * 2.1, big * 1.7, site.axis), (182, 180, 172), 30)
                for k in (-1, 0, 1):
                    canvas.fill(
                        rectangle(spot + u * k * big * 0.68, big * 0.58, big * 1.55, site.axis), vary(rng, tone, 6), 15
                    )
    middle = site.polygon.mean(axis=0)
    for corner in site.polygon[:2]:
        canvas.build(middle + (corner - middle) * 0.72, 26, 15, site.axis, 8, "works", site.pick(SHEDS))


TOWN: dict[str, Shader] = {
    "village": village,
    "streets": streets,
    "apartments": apartments,
    "industry": industry,
    "sports": sports,
    "shops": shops,
    "allotments": allotments,
    "waterworks": waterworks,
}
