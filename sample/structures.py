"""What stands on the land: shadows first, then roofs, cars and tree crowns, seen from straight above."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .canvas import Building, Canvas, Colour, Ground, shade, vary
from .polygons import Points, rectangle
from .trees import VARIANTS, crown

SUN_AZIMUTH = 128.0
SUN_ELEVATION = 43.0


def sun_vector() -> tuple[float, float, float]:
    """Unit vector towards the sun: east, north, up."""
    azimuth, elevation = math.radians(SUN_AZIMUTH), math.radians(SUN_ELEVATION)
    flat = math.cos(elevation)
    return flat * math.sin(azimuth), flat * math.cos(azimuth), math.sin(elevation)


def shadow_step() -> Points:
    """Where the shadow of a point one metre up falls: metres east and north."""
    east, north, up = sun_vector()
    return -np.array([east, north]) / up


def slope_light(angle: float, pitch: float) -> float:
    """Brightness of a plane that falls towards `angle` with slope `pitch` (radians), 1 for a level plane."""
    east, north, up = sun_vector()
    facing = np.array([math.cos(angle) * math.sin(pitch), math.sin(angle) * math.sin(pitch), math.cos(pitch)])
    return 0.45 + 0.55 * float(np.clip(facing @ np.array([east, north, up]), 0, 1)) / up


class Structures:
    """Everything that stands on a canvas, after what would stand in water or on a road is left out."""

    def __init__(self, canvas: Canvas, seed: int) -> None:
        """Chooses what stands; `canvas.reserved` must be complete."""
        self.canvas = canvas
        self._seed = seed
        wet, lines = np.asarray(canvas.water) > 0, np.asarray(canvas.reserved)
        self._taken = {"open": wet | (lines > 0), "dry": wet | (lines == 255), "any": np.zeros_like(wet)}
        self.buildings = [
            (b, ring)
            for b in canvas.buildings
            for ring in [canvas.footprint(b)]
            if not self._blocked(np.concatenate([ring, (ring + np.roll(ring, 1, axis=0)) / 2]), b.ground).any()
        ]
        self.buildings.sort(key=lambda pair: pair[0].height)
        self.trees = self._standing_trees()

    def _blocked(self, points: Points, ground: Ground) -> NDArray[np.bool_]:
        """Which warped points `[N, 2]` lie where nothing on that ground may stand, or well off the land."""
        taken = self._taken[ground]
        limit = len(taken)
        column = np.floor((points[:, 0] + self.canvas.half) / self.canvas.coarse).astype(int)
        row = np.floor((self.canvas.half - points[:, 1]) / self.canvas.coarse).astype(int)
        off = (column < -40) | (row < -40) | (column >= limit + 40) | (row >= limit + 40)
        return np.asarray(off | taken[np.clip(row, 0, limit - 1), np.clip(column, 0, limit - 1)])

    def _standing_trees(self) -> list[tuple[float, float, float, str, int]]:
        """East, north and radius (metres), species and variant of every tree, north to south."""
        rng = np.random.default_rng([self._seed, 61])
        trees = []
        for grove in self.canvas.groves:
            points = self.canvas.warp(grove.points)
            free = ~self._blocked(points, grove.ground)
            variants = rng.integers(0, VARIANTS, len(points))
            for (east, north), radius, variant in zip(points[free], grove.radii[free], variants[free], strict=True):
                trees.append((float(east), float(north), float(radius), grove.species, int(variant)))
        order = rng.random(len(trees))
        return [trees[i] for i in np.argsort(order, kind="stable")]

    def shadows(self) -> Image.Image:
        """Where their shadows fall on the ground: a grey picture, 255 in full shadow."""
        mask = Image.new("L", (self.canvas.size, self.canvas.size), 0)
        draw = ImageDraw.Draw(mask)
        step = shadow_step()
        for building, ring in self.buildings:
            moved = ring + step * building.height
            for i in range(4):
                j = (i + 1) % 4
                draw.polygon(self.canvas.pixels(np.stack([ring[i], ring[j], moved[j], moved[i]])), fill=255)
            draw.polygon(self.canvas.pixels(moved), fill=255)
        scale, half = self.canvas.resolution, self.canvas.half
        for east, north, radius, _, _ in self.trees:
            for lift in (0.7, 1.5):
                x = (east + step[0] * radius * lift + half) / scale
                y = (half - north - step[1] * radius * lift) / scale
                r = radius * (0.95 if lift < 1 else 0.75) / scale
                draw.ellipse((x - r, y - r, x + r, y + r), fill=235)
        return mask

    def draw(self, land: Image.Image) -> None:
        """Draws roofs, cars and crowns on the finished ground."""
        rng = np.random.default_rng([self._seed, 62])
        brush = Roofs(self.canvas, ImageDraw.Draw(land), rng)
        for building, _ in self.buildings:
            if building.height < 4:
                brush.paint(building)
        self._draw_trees(land)
        for building, _ in self.buildings:
            if building.height >= 4:
                brush.paint(building)

    def _draw_trees(self, land: Image.Image) -> None:
        scale, half, sun = self.canvas.resolution, self.canvas.half, sun_vector()
        for east, north, radius, species, variant in self.trees:
            picture, opacity = crown(species, max(1, round(radius / scale)), variant, sun)
            x = round((east + half) / scale) - picture.width // 2
            y = round((half - north) / scale) - picture.height // 2
            land.paste(picture, (x, y), opacity)


class Roofs:
    """Draws one building at a time, in its own frame: along its length, across its width."""

    def __init__(self, canvas: Canvas, draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
        """Draws with `draw` in the pixels of `canvas`; small variations come from `rng`."""
        self._canvas, self._draw, self._rng = canvas, draw, rng

    def paint(self, b: Building) -> None:
        """Draws one building's roof."""
        self._centre, self._angle = self._canvas.placed(b)
        getattr(self, f"_{b.style}")(b)

    def _part(self, x: float, y: float, length: float, width: float, colour: Colour) -> None:
        """A rectangle centred `x` metres along and `y` metres across from the building's centre."""
        cos, sin = math.cos(self._angle), math.sin(self._angle)
        centre = self._centre + np.array([x * cos - y * sin, x * sin + y * cos])
        self._draw.polygon(self._canvas.pixels(rectangle(centre, length, width, self._angle)), fill=colour)

    def _side_light(self, side: int, pitch: float) -> float:
        """Brightness of the roof half on the left (+1) or right (-1) of the ridge."""
        return slope_light(self._angle + side * math.pi / 2, pitch)

    def _gable(self, b: Building) -> None:
        pitch = 0.5
        for side in (1, -1):
            lit = shade(b.colour, self._side_light(side, pitch))
            self._part(0, side * b.width / 4, b.length, b.width / 2, lit)
            for row in np.arange(0.6, b.width / 2, 1.2):
                self._part(0, side * row, b.length, 0.2, shade(lit, 0.93))
        self._part(0, 0, b.length, 0.4, shade(b.colour, 1.22))
        if self._rng.random() < 0.4:
            x = self._rng.uniform(-0.3, 0.3) * b.length
            self._part(x + 0.9, 1.6, 1.4, 1.0, shade(b.colour, 0.45))
            self._part(x, 1.0, 1.2, 0.9, (168, 140, 124))

    def _flat(self, b: Building) -> None:
        self._part(0, 0, b.length, b.width, shade(b.colour, 1.18))
        self._part(0, 0, b.length - 1.0, b.width - 1.0, b.colour)
        east, north = shadow_step()
        cos, sin = math.cos(self._angle), math.sin(self._angle)
        fall = np.array([east * cos + north * sin, -east * sin + north * cos])
        for _ in range(1 + int(b.length * b.width / 130)):
            w, h, tall = self._rng.uniform(1.2, 4.2), self._rng.uniform(1.2, 3.2), self._rng.uniform(0.8, 2.4)
            x = self._rng.uniform(-0.5, 0.5) * max(0.0, b.length - 3 - w)
            y = self._rng.uniform(-0.5, 0.5) * max(0.0, b.width - 3 - h)
            self._part(x + fall[0] * tall / 2, y + fall[1] * tall / 2, w + 0.4, h + 0.4, shade(b.colour, 0.5))
            tint = ((206, 206, 202), (170, 172, 174), (196, 186, 160), (86, 112, 158), (212, 196, 120))
            self._part(x, y, w, h, vary(self._rng, tint[int(self._rng.integers(len(tint)))], 6))

    def _works(self, b: Building) -> None:
        bays = max(1, round(b.width / self._rng.uniform(9, 16)))
        bay = b.width / bays
        for i in range(bays):
            middle = -b.width / 2 + (i + 0.5) * bay
            for side in (1, -1):
                self._part(0, middle + side * bay / 4, b.length, bay / 2, shade(b.colour, self._side_light(side, 0.16)))
            self._part(0, middle, b.length, 0.5, shade(b.colour, 1.12))
        seams = np.arange(-b.length / 2 + 3, b.length / 2, 6.0)
        for x in seams:
            self._part(float(x), 0, 0.2, b.width, shade(b.colour, 0.93))
        if self._rng.random() < 0.6:
            for x in seams[1::2]:
                for i in range(bays):
                    self._part(float(x) + 3, -b.width / 2 + (i + 0.5) * bay + bay / 4, 3.4, bay / 4, (196, 208, 210))
        for _ in range(int(b.length * b.width / 500)):
            x, y = self._rng.uniform(-0.42, 0.42) * b.length, self._rng.uniform(-0.42, 0.42) * b.width
            self._part(x - 0.7, y + 0.5, 2.2, 1.8, shade(b.colour, 0.55))
            self._part(x, y, 2.0, 1.6, (188, 190, 190))

    def _arch(self, b: Building) -> None:
        steps = 6
        for i in range(steps):
            t = (i + 0.5) / steps * 2 - 1
            light = slope_light(self._angle + math.pi / 2, math.asin(t * 0.95))
            self._part(0, t * b.width / 2, b.length, b.width / steps + 0.2, shade(b.colour, 0.25 + 0.72 * light))
        for x in np.arange(-b.length / 2 + 1.5, b.length / 2, 3.0):
            self._part(float(x), 0, 0.2, b.width, shade(b.colour, 0.9))

    def _box(self, b: Building) -> None:
        self._part(0, 0, b.length, b.width, b.colour)
        for x in np.arange(-b.length / 2 + 0.5, b.length / 2, 1.0):
            self._part(float(x), 0, 0.3, b.width, shade(b.colour, 0.88))

    def _panel(self, b: Building) -> None:
        self._part(0, 0, b.length, b.width, (158, 164, 174))
        count = max(1, round(b.length / 2.1))
        for i in range(count):
            x = -b.length / 2 + (i + 0.5) * b.length / count
            for y in (-b.width / 4, b.width / 4):
                self._part(x, y, b.length / count - 0.2, b.width / 2 - 0.2, b.colour)

    def _tank(self, b: Building) -> None:
        radius = b.length / 2
        turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        self._draw.polygon(self._canvas.pixels(self._centre + circle * radius), fill=shade(b.colour, 0.8))
        light = np.array(sun_vector()[:2])
        for k in range(1, 5):
            ring = self._centre + light * radius * 0.07 * k + circle * radius * (1 - 0.2 * k)
            self._draw.polygon(self._canvas.pixels(ring), fill=shade(b.colour, 0.88 + 0.05 * k))
        self._part(0, radius * 0.45, 0.5, radius * 0.9, shade(b.colour, 0.7))

    def _car(self, b: Building) -> None:
        self._part(0, 0, b.length, b.width, b.colour)
        if b.length > 6:
            self._part(b.length * 0.40, 0, b.length * 0.16, b.width, (226, 226, 224))
            self._part(b.length * 0.30, 0, 0.4, b.width, (44, 46, 50))
        else:
            self._part(b.length * 0.16, 0, b.length * 0.16, b.width * 0.86, (40, 46, 54))
            self._part(-b.length * 0.30, 0, b.length * 0.12, b.width * 0.8, (48, 54, 60))
            self._part(-b.length * 0.06, 0, b.length * 0.28, b.width * 0.78, shade(b.colour, 1.12))
