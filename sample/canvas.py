"""The drawing surface of the landscape: metres in, pixels out.

Everything is placed in metres east and north of the land's centre and bent by one gentle warp, so that straight
plans become the curved lines of real country. What stands up (buildings, cars, trees) is only noted here;
`outcrop.sample.structures` draws it on top of the finished ground.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .polygons import Points, rectangle

Colour = tuple[int, int, int]
Ground = Literal["open", "dry", "any"]
Style = Literal["gable", "flat", "works", "arch", "box", "tank", "panel", "car"]
Place = Sequence[float] | NDArray[np.float64]
"""East and north in metres."""


def vary(rng: np.random.Generator, colour: Sequence[int], amount: float = 8) -> Colour:
    """`colour` made a little lighter or darker, warmer or cooler, at random (standard deviation `amount`)."""
    shift = rng.normal(0, amount) + rng.normal(0, amount / 3, 3)
    red, green, blue = (int(np.clip(c + s, 0, 255)) for c, s in zip(colour, shift, strict=True))
    return red, green, blue


def shade(colour: Sequence[int], factor: float) -> Colour:
    """`colour` multiplied by `factor`."""
    red, green, blue = (int(np.clip(c * factor, 0, 255)) for c in colour)
    return red, green, blue


@dataclass(frozen=True)
class Building:
    """A thing that stands up: centre (metres, unwarped), size and height (metres), angle (radians).

    `ground` says where it may stand: `open` ground only, `dry` ground (small roads too), or `any`, bridges included.
    """

    centre: tuple[float, float]
    length: float
    width: float
    angle: float
    height: float
    style: Style
    colour: Colour
    ground: Ground = "open"


@dataclass(frozen=True)
class Grove:
    """Trees of one species: `[N, 2]` positions (metres, unwarped) and `[N]` crown radii (metres)."""

    points: Points
    radii: Points
    species: str
    ground: Ground = "open"


class Warp:
    """A smooth displacement of the plane, at most about 40 m, with wavelengths of 300 m and more."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draws the waves' directions and phases from `rng`."""
        waves = []
        for wavelength, amplitude in ((900.0, 20.0), (520.0, 10.0), (310.0, 4.5)):
            direction = rng.uniform(0, 2 * np.pi)
            k = 2 * np.pi / wavelength
            waves.append((k * np.cos(direction), k * np.sin(direction), rng.uniform(0, 2 * np.pi), amplitude))
        self._waves = waves

    def __call__(self, points: Points) -> Points:
        """The warped positions of `[..., 2]` points, in metres."""
        moved = points.copy()
        for kx, ky, phase, amplitude in self._waves:
            wave = kx * points[..., 0] + ky * points[..., 1] + phase
            moved[..., 0] += amplitude * np.sin(wave)
            moved[..., 1] += amplitude * np.cos(wave + 1.3)
        return moved


def along(points: Points, step: float) -> Points:
    """A polyline `[N, 2]` with points added so that none are more than `step` metres apart."""
    parts = []
    for start, end in itertools.pairwise(points):
        count = max(1, int(np.ceil(float(np.hypot(*(end - start))) / step)))
        parts.append(start + (end - start) * (np.arange(count) / count)[:, None])
    return np.concatenate([*parts, points[-1:]])


@dataclass
class Canvas:
    """A square of `size` pixels, `resolution` metres each, centred on (0, 0) m.

    `ground` is the colour, `rough` how much texture the ground takes (0 smooth to 255 wild); `water` and `reserved`
    are coarser planes of `coarse` metres a pixel. `reserved` is 255 where nothing may stand, 128 where a road leaves
    room only for trees and cars.
    """

    size: int
    resolution: float
    warp: Warp
    coarse: float = 1.0
    buildings: list[Building] = field(default_factory=list)
    groves: list[Grove] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Makes the empty planes."""
        small = max(8, round(self.size * self.resolution / self.coarse))
        self.half = self.size * self.resolution / 2
        self.ground = Image.new("RGB", (self.size, self.size), (112, 116, 78))
        self.rough = Image.new("L", (self.size, self.size), 120)
        self.bridges = Image.new("L", (self.size, self.size), 0)
        self.water = Image.new("L", (small, small), 0)
        self.reserved = Image.new("L", (small, small), 0)
        self._ground, self._rough = ImageDraw.Draw(self.ground), ImageDraw.Draw(self.rough)
        self._bridges = ImageDraw.Draw(self.bridges)
        self._water, self._reserved = ImageDraw.Draw(self.water), ImageDraw.Draw(self.reserved)

    def pixels(self, points: Points, resolution: float | None = None) -> list[float]:
        """Warped metres `[N, 2]` as the flat x, y list that `ImageDraw` takes."""
        scale = resolution or self.resolution
        flat = np.empty(points.shape)
        flat[:, 0] = (points[:, 0] + self.half) / scale
        flat[:, 1] = (self.half - points[:, 1]) / scale
        return flat.ravel().tolist()

    def fill(self, polygon: Points, colour: Colour, rough: int = 90) -> None:
        """Paints a polygon of ground."""
        if len(polygon) < 3:
            return
        xy = self.pixels(self.warp(along(np.concatenate([polygon, polygon[:1]]), 12)))
        self._ground.polygon(xy, fill=colour)
        self._rough.polygon(xy, fill=rough)

    def disc(self, centre: Place, radius: float, colour: Colour, rough: int = 60) -> None:
        """Paints a round patch of ground of `radius` metres."""
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        self.fill(np.asarray(centre) + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1), colour, rough)

    def hatch(self, segments: Points, width: float, colour: Colour) -> None:
        """Paints `[M, 2, 2]` segments of ground, `width` metres wide."""
        if len(segments) == 0:
            return
        t = np.linspace(0, 1, 9)[None, :, None]
        lines = self.warp(segments[:, :1] * (1 - t) + segments[:, 1:] * t)
        pixels = max(1, round(width / self.resolution))
        for line in lines:
            self._ground.line(self.pixels(line), fill=colour, width=pixels)

    def strip(self, points: Points, offset: float, width: float, closed: bool = False) -> Points:
        """The warped outline of a band `width` metres wide, `offset` metres left of a polyline."""
        line = self.warp(along(points, 10))
        ahead = np.gradient(line, axis=0)
        if closed:
            ahead[0] = ahead[-1] = line[1] - line[-2]
        left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
        left /= np.maximum(np.hypot(left[:, 0], left[:, 1]), 1e-9)[:, None]
        return np.concatenate([line + left * (offset + width / 2), (line + left * (offset - width / 2))[::-1]])

    def band(
        self,
        points: Points,
        width: float,
        colour: Colour,
        rough: int = 40,
        *,
        offset: float = 0.0,
        bridge: bool = False,
        closed: bool = False,
    ) -> None:
        """Paints a band along a polyline; with `bridge` it also crosses water instead of vanishing in it."""
        xy = self.pixels(self.strip(points, offset, width, closed))
        self._ground.polygon(xy, fill=colour)
        self._rough.polygon(xy, fill=rough)
        if bridge:
            self._bridges.polygon(xy, fill=255)

    def dashes(self, points: Points, offset: float, colour: Colour, dash: float, gap: float, width: float) -> None:
        """Paints a broken line `offset` metres left of a polyline; `dash`, `gap` and `width` in metres."""
        outline = self.strip(points, offset, 0.0)
        line = along(outline[: len(outline) // 2], 1.0)
        travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        pixels = max(1, round(width / self.resolution))
        for start in np.arange(0, travelled[-1] - dash, dash + gap):
            reach = np.array([start, start + dash])
            ends = np.stack([np.interp(reach, travelled, line[:, axis]) for axis in (0, 1)], axis=1)
            self._ground.line(self.pixels(ends), fill=colour, width=pixels)

    def flood(self, polygon: Points) -> None:
        """Marks a polygon as water; shores are drawn later."""
        if len(polygon) >= 3:
            ring = self.warp(along(np.concatenate([polygon, polygon[:1]]), 10))
            self._water.polygon(self.pixels(ring, self.coarse), fill=255)

    def reserve(self, points: Points, width: float, level: int = 128) -> None:
        """Keeps what needs open ground off a band along a polyline; at `level` 255, what needs dry ground too."""
        self._reserved.polygon(self.pixels(self.strip(points, 0.0, width), self.coarse), fill=level)

    def build(
        self,
        centre: Place,
        length: float,
        width: float,
        angle: float,
        height: float,
        style: Style,
        colour: Colour,
        ground: Ground = "open",
    ) -> None:
        """Notes a building (see `Building`)."""
        place = float(centre[0]), float(centre[1])
        self.buildings.append(Building(place, length, width, angle, height, style, colour, ground))

    def plant(self, points: Points, radii: Points, species: str, ground: Ground = "open") -> None:
        """Notes trees (see `Grove`)."""
        if len(points):
            self.groves.append(Grove(points, radii, species, ground))

    def placed(self, building: Building) -> tuple[Points, float]:
        """A building's warped centre (metres) and angle (radians)."""
        centre = np.array(building.centre)
        ahead = centre + 4 * np.array([np.cos(building.angle), np.sin(building.angle)])
        moved = self.warp(np.stack([centre, ahead]))
        step = moved[1] - moved[0]
        return moved[0], float(np.arctan2(step[1], step[0]))

    def footprint(self, building: Building) -> Points:
        """A building's `[4, 2]` warped corners in metres."""
        centre, angle = self.placed(building)
        return rectangle(centre, building.length, building.width, angle)


def blob(rng: np.random.Generator, centre: Place, radius: float, stretch: float = 1.0) -> Points:
    """An irregular rounded outline `[40, 2]` of about `radius` metres, `stretch` times longer one way."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    reach = 1 + sum(rng.uniform(0.03, 0.16) * np.sin(k * turn + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    x, y = np.cos(turn) * reach * stretch, np.sin(turn) * reach / stretch
    angle = rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(centre) + radius * np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)
