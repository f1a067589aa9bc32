"""Lines that cross the land: the river, the highway, the railway, and the roads between sites."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Colour, along, shade, vary
from .polygons import Cut, Points, clip
from .town import ASPHALT, car

Rank = Literal["avenue", "street", "track"]
WIDTHS: dict[Rank, float] = {"avenue": 15.0, "street": 8.0, "track": 4.2}
VERGE = 4.5


def crossing(rng: np.random.Generator, half: float, heading: float, swing: float) -> Points:
    """A winding line right across a square of half-width `half` metres, roughly along `heading` (radians)."""
    reach = half * 1.9
    t = np.linspace(-1, 1, 90)
    bend: NDArray[np.float64] = np.zeros_like(t)
    bend += sum(swing / k * np.sin(np.pi * k * t * reach / 520 + rng.uniform(0, 2 * np.pi)) for k in (1.0, 2.2, 3.7))
    u, v = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    offset = rng.uniform(-0.3, 0.3) * half
    return np.asarray(t[:, None] * reach * u + (offset + bend)[:, None] * v)


def least_crowded(lines: list[Points], others: list[Points]) -> Points:
    """Of several lines, the one that keeps least company with the others (its points within 45 m of theirs)."""
    busy = np.concatenate([along(other, 20) for other in others])

    def company(line: Points) -> float:
        points = along(line, 20)
        return float((np.hypot(*(points[:, None] - busy[None]).transpose(2, 0, 1)).min(axis=1) < 45).mean())

    return min(lines, key=company)


def river(canvas: Canvas, rng: np.random.Generator, line: Points) -> None:
    """A river of uneven width, with islands; its banks are reserved, and lined with trees."""
    width = 15 + 9 * np.sin(np.linspace(0, 9, len(line)) + rng.uniform(0, 6)) * rng.uniform(0.4, 1) + rng.uniform(0, 9)
    ahead = np.gradient(line, axis=0)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) / np.hypot(ahead[:, 0], ahead[:, 1])[:, None]
    canvas.flood(np.concatenate([line + left * width[:, None], (line - left * width[:, None])[::-1]]))
    canvas.band(line, 2 * float(width.max()) + 22, vary(rng, (116, 124, 80), 5), 170)
    canvas.reserve(line, 2 * float(width.max()) + 18)
    for side in (-1, 1):
        bank = np.repeat(line, 14, axis=0) + np.repeat(left * (side * (width + 9))[:, None], 14, axis=0)
        bank = bank + rng.normal(0, 3.5, bank.shape)
        drift = np.sin(np.arange(len(bank)) / 60 + side + rng.uniform(0, 6)) + rng.normal(0, 0.4, len(bank)) > 0.3
        points = bank[drift]
        species = str(rng.choice(["broadleaf", "light", "bush"]))
        canvas.plant(points, rng.uniform(1.2, 3.6, len(points)), species, "dry")


def highway(canvas: Canvas, rng: np.random.Generator, line: Points) -> None:
    """A dual carriageway, two lanes each way and a shoulder, on a grassy embankment, with traffic."""
    canvas.reserve(line, 42, 255)
    canvas.band(line, 44, vary(rng, (114, 122, 76), 5), 150)
    canvas.band(line, 28, (140, 138, 132), 40, bridge=True)
    tone = vary(rng, (104, 104, 108), 4)
    for side in (-1, 1):
        canvas.band(line, 11.5, tone, 30, offset=side * 7.2)
        for lane in (2.0, 12.2):
            canvas.band(line, 0.3, (226, 224, 210), 10, offset=side * lane)
        canvas.dashes(line, side * 5.4, (226, 224, 214), 5, 8, 0.3)
        canvas.dashes(line, side * 9.0, (226, 224, 214), 5, 8, 0.3)
        traffic(canvas, rng, line, side * 7.2, 26)
        traffic(canvas, rng, line, side * 3.7, 40)
    canvas.band(line, 1.6, (122, 134, 86), 80)
    canvas.band(line, 0.5, (176, 176, 172), 20)


def railway(canvas: Canvas, rng: np.random.Generator, line: Points) -> None:
    """A double-track railway on ballast, sometimes with a train."""
    canvas.reserve(line, 18, 255)
    canvas.band(line, 17, vary(rng, (118, 122, 84), 5), 150)
    canvas.band(line, 11, vary(rng, (142, 130, 118), 5), 110, bridge=True)
    for track in (-2.2, 2.2):
        canvas.dashes(line, track, (110, 98, 88), 0.4, 0.5, 2.4)
        for rail in (-0.75, 0.75):
            canvas.band(line, 0.25, (84, 74, 70), 20, offset=track + rail)


def traffic(canvas: Canvas, rng: np.random.Generator, line: Points, offset: float, spacing: float) -> None:
    """Cars along a polyline, about `spacing` metres apart, `offset` metres to its left."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.cumsum(rng.exponential(spacing, int(travelled[-1] / spacing)) + 7)
    at = at[at < travelled[-1] - 10]
    for distance in at:
        near = np.array([[np.interp(distance + d, travelled, line[:, axis]) for axis in (0, 1)] for d in (0, 5)])
        u = (near[1] - near[0]) / max(float(np.hypot(*(near[1] - near[0]))), 1e-6)
        spot = near[0] + np.array([-u[1], u[0]]) * offset
        car(canvas, rng, spot, float(np.arctan2(u[1], u[0])), "any")


def rank_of(cut: Cut) -> Rank:
    """The kind of road along a cut of the plan."""
    return "avenue" if cut.depth <= 2 else "street" if cut.depth <= 4 else "track"


def setback(site: Points, cuts: list[Cut]) -> Points:
    """A site of the plan without the roads and verges along its edges."""
    lot = site
    for cut in cuts:
        step = cut.end - cut.start
        normal = np.array([-step[1], step[0]]) / max(float(np.hypot(*step)), 1e-6)
        side = (site - cut.start) @ normal
        edge = np.abs(side) < 1e-3
        if edge.sum() >= 2:
            inward = normal * np.sign(side[np.argmax(np.abs(side))])
            lot = clip(lot, cut.start + inward * (WIDTHS[rank_of(cut)] + VERGE - 0.5) / 2, inward)
    return lot


def roads(canvas: Canvas, rng: np.random.Generator, cuts: list[Cut]) -> None:
    """The roads between sites: the first cuts are avenues, the next streets, the last farm tracks."""
    ranked = [(np.stack([cut.start, cut.end]), rank_of(cut)) for cut in cuts]
    kerb: dict[str, Colour] = {"avenue": (172, 168, 160), "street": (140, 140, 112), "track": (128, 132, 88)}
    dirt = vary(rng, (182, 162, 126), 6)
    ranked.sort(key=lambda pair: WIDTHS[pair[1]])
    for line, rank in ranked:
        canvas.reserve(line, WIDTHS[rank] + VERGE - 1)
        canvas.band(line, WIDTHS[rank] + VERGE, kerb[rank], 70, bridge=rank != "track")
    for line, rank in ranked:
        if rank == "track":
            canvas.band(line, 3.6, dirt, 90)
            canvas.band(line, 0.9, shade(dirt, 0.76), 120)
        else:
            canvas.band(line, WIDTHS[rank], vary(rng, ASPHALT, 5), 30)
    for line, rank in ranked:
        if rank == "track":
            continue
        if rank == "avenue":
            for offset in (-0.25, 0.25):
                canvas.band(line, 0.25, (206, 172, 84), 10, offset=offset)
            for offset in (-3.7, 3.7):
                canvas.dashes(line, offset, (220, 220, 214), 4, 5, 0.25)
            for side in (-1, 1):
                canvas.band(line, 0.25, (214, 214, 208), 10, offset=side * 7.1)
                traffic(canvas, rng, line, side * 2.0, 34)
                avenue_trees(canvas, rng, line, side * 10.2)
        else:
            canvas.dashes(line, 0.0, (220, 214, 190), 4, 4, 0.25)
            traffic(canvas, rng, line, 1.9, 60)


def avenue_trees(canvas: Canvas, rng: np.random.Generator, line: Points, offset: float) -> None:
    """Street trees at even spacing beside a straight line, `offset` metres to its left, with gaps."""
    step = line[1] - line[0]
    length = float(np.hypot(*step))
    at = np.arange(6, length - 6, rng.uniform(8, 12))
    at = at[np.sin(at / rng.uniform(25, 60) + rng.uniform(0, 6)) > -0.55]
    u = step / max(length, 1e-6)
    points = line[0] + u * at[:, None] + np.array([-u[1], u[0]]) * offset
    canvas.plant(points, rng.uniform(1.6, 2.8, len(points)), str(rng.choice(["broadleaf", "light", "autumn"])), "dry")
