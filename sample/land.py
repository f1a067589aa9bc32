"""The land: a square of varied country seen from straight above, made from a seed.

A plan is cut into sites by roads, each site gets a use (`countryside`, `town`), lines cross it (`routes`), and the
ground is finished with texture, relief, shores and shadows before roofs and trees are drawn on it.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from .canvas import Canvas, Warp, along
from .countryside import COUNTRY, Site
from .noise import fractal, plane
from .polygons import Points, area, inside, long_axis, rectangle, subdivide
from .routes import crossing, highway, least_crowded, railway, river, roads, setback
from .structures import Structures, sun_vector
from .town import TOWN

PAINTERS = COUNTRY | TOWN
# Where a use belongs: 0 open country, 1 the middle of town.
SETTING = {
    "crops": 0.05, "paddies": 0.1, "wood": 0.0, "meadow": 0.15, "orchard": 0.2, "greenhouses": 0.3, "panels": 0.25,
    "golf": 0.3, "diggings": 0.4, "lake": 0.45, "allotments": 0.5, "village": 0.45, "waterworks": 0.6, "sports": 0.7,
    "apartments": 0.9, "streets": 1.0, "shops": 0.85, "industry": 0.75,
}  # fmt: skip
UNBROKEN = {"golf", "lake", "sports", "apartments", "waterworks"}
RARE = {"panels": 0.4, "allotments": 0.4, "greenhouses": 0.25, "diggings": 0.35, "waterworks": 0.3, "shops": 0.15}
ROWS = 256


@dataclass(frozen=True)
class Land:
    """A finished landscape: `picture` (RGB, north up, centred on 0, 0), `resolution` in metres a pixel."""

    picture: Image.Image
    resolution: float
    seed: int

    @property
    def half(self) -> float:
        """Half the land's side in metres."""
        return self.picture.width * self.resolution / 2


def make_land(seed: int, side: float, resolution: float = 0.2) -> Land:
    """Makes the land of a seed: a square of `side` metres at `resolution` metres a pixel.

    The same arguments give the same pixels. A square kilometre at 0.2 m takes about five seconds.
    """
    size = math.ceil(side / resolution)
    rng = np.random.default_rng([seed, 1])
    canvas = Canvas(size, resolution, Warp(rng))
    extent = canvas.half + 70
    outline = rectangle((0.0, 0.0), 2 * extent, 2 * extent, 0.0)
    sites, cuts = subdivide(outline, rng, (13000, 30000), jitter=0.16, early=0.06)
    ways = [np.stack([cut.start, cut.end]) for cut in cuts if cut.depth <= 4]
    headings = rng.uniform(0, np.pi, 16)
    stream = least_crowded([crossing(rng, extent, h, rng.uniform(45, 80)) for h in headings], ways)
    rails = least_crowded([crossing(rng, extent, h, 22) for h in headings], [stream, *ways])
    motorway = least_crowded([crossing(rng, extent, h, 30) for h in headings], [stream, rails, *ways])
    lots = [setback(site, cuts) for site in sites]
    for number, (lot, use) in enumerate(zip(lots, assign(rng, lots, [stream, rails, motorway]), strict=True)):
        dice = np.random.default_rng([seed, 2, number])
        PAINTERS[use](Site(canvas, dice, lot, long_axis(lot)))
    river(canvas, rng, stream)
    roads(canvas, rng, cuts)
    railway(canvas, rng, rails)
    highway(canvas, rng, motorway)
    return Land(finish(canvas, seed), resolution, seed)


def assign(rng: np.random.Generator, sites: list[Points], lines: list[Points]) -> list[str]:
    """A use for every site: town uses gather round a few centres, neighbours differ, and what needs an
    unbroken site keeps clear of the `lines` that cross the land.
    """
    crossed = [any(inside(site, along(line, 12)).any() for line in lines) for site in sites]
    middles = np.array([site.mean(axis=0) for site in sites])
    reach = float(np.abs(middles).max())
    centres = rng.uniform(-0.8, 0.8, (2 + int(reach > 400), 2)) * reach
    near = np.hypot(*(middles[:, None] - centres[None]).transpose(2, 0, 1)).min(axis=1)
    urban = np.exp(-((near / 270) ** 2)) + rng.normal(0, 0.08, len(sites))
    uses: list[str] = []
    names = list(PAINTERS)
    for i, middle in enumerate(middles):
        gap = np.hypot(*(middles[:i] - middle).T) if i else np.zeros(0)
        cost = {}
        for name in names:
            same = np.array([use == name for use in uses], dtype=bool)
            crowding = float(np.exp(-gap[same] / 170).sum()) if i else 0.0
            misfit = abs(float(urban[i]) - SETTING[name])
            penalty = 1.5 * ((area(sites[i]) < 15000) + 2 * crossed[i]) if name in UNBROKEN else 0.0
            penalty += RARE.get(name, 0.0)
            cost[name] = 1.6 * misfit + 1.5 * crowding + 0.12 * int(same.sum()) + penalty + float(rng.uniform(0, 0.3))
        uses.append(min(cost, key=lambda name: cost[name]))
    return uses


def finish(canvas: Canvas, seed: int) -> Image.Image:
    """Ground with texture, relief, shores and shadows, then everything that stands on it."""
    rng = np.random.default_rng([seed, 3])
    size, scale = canvas.size, canvas.resolution
    cells = {"grain": 1.0, "tuft": 0.7 / scale, "clump": 2.4 / scale, "patch": 11 / scale, "drift": 55 / scale}
    noise = {name: plane(rng, size, cell) for name, cell in cells.items()}
    water = shores(canvas, rng)
    relief = hillshade(rng, size, scale)
    structures = Structures(canvas, seed)
    shadows = structures.shadows().filter(ImageFilter.BoxBlur(0.35 / scale))
    grounds = canvas.ground.filter(ImageFilter.BoxBlur(0.4))
    layers = (grounds, canvas.rough, canvas.bridges, shadows, water, relief, *noise.values())

    def rows(top: int) -> NDArray[np.uint8]:
        box = (0, top, size, min(top + ROWS, size))
        return compose(*(np.asarray(layer.crop(box)) for layer in layers))

    with ThreadPoolExecutor(2) as pool:
        bands = list(pool.map(rows, range(0, size, ROWS)))
    land = Image.fromarray(np.concatenate(bands))
    structures.draw(land)
    return ImageEnhance.Color(land).enhance(0.86)


def shores(canvas: Canvas, rng: np.random.Generator) -> Image.Image:
    """A smooth plane that crosses 128 at the waterline and 104 at the top of the beach, frayed by noise."""
    soft = np.asarray(canvas.water.filter(ImageFilter.GaussianBlur(7 / canvas.coarse)), dtype=np.float32)
    fray = fractal(rng, canvas.water.width, 26 / canvas.coarse, 4)
    frayed = Image.fromarray(np.clip(soft + 13 * fray * (soft > 8), 0, 255).astype(np.uint8))
    canvas.water = frayed.point(lambda value: 255 if value > 112 else 0)
    return frayed.resize((canvas.size, canvas.size), Image.Resampling.BICUBIC)


def hillshade(rng: np.random.Generator, size: int, resolution: float) -> Image.Image:
    """Gentle relief lit by the sun: 128 is level ground."""
    cell = 6.0
    small = max(8, round(size * resolution / cell))
    height = fractal(rng, small, 190 / cell, 5) * 8.5
    fall_south, rise_east = np.gradient(height, cell)
    east, north, up = sun_vector()
    light = (-rise_east * east + fall_south * north + up) / np.sqrt(rise_east**2 + fall_south**2 + 1) / up
    grey = np.clip(128 * light, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC)


def compose(
    ground: NDArray[np.uint8],
    rough: NDArray[np.uint8],
    bridge: NDArray[np.uint8],
    shadow: NDArray[np.uint8],
    water: NDArray[np.uint8],
    relief: NDArray[np.uint8],
    *noise: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """The ground of some rows: `[R, N, 3]` and `[R, N]` planes in, `[R, N, 3]` uint8 out."""
    grain, tuft, clump, patch, drift = ((n.astype(np.float32) - 128) / 128 for n in noise)
    wild = rough.astype(np.float32) / 255
    light = 1 + wild * (0.13 * grain + 0.17 * tuft + 0.20 * clump) + 0.018 * grain
    tint = wild * (0.20 * patch + 0.10 * clump) + 0.05 * drift
    light *= 0.55 + 0.45 / 128 * relief
    colour = ground.astype(np.float32)
    deep = np.where(bridge > 0, 0, water).astype(np.float32) + 5 * clump * (water > 90)
    beach = np.clip((deep - 104) / 3, 0, 1) * np.clip((128 - deep) / 4, 0, 1)
    wet = np.clip((deep - 124) / 4, 0, 1)
    depth = np.clip((deep - 128) / 105, 0, 1)
    calm = 1 + 0.035 * tuft + 0.05 * patch + 0.07 * drift
    sand, shallow, bottom = (204, 190, 158), (118, 122, 96), (50, 74, 80)
    damp = 1 - 0.18 * np.clip((deep - 114) / 12, 0, 1)
    shade = shadow.astype(np.float32) / 255
    result = np.empty(ground.shape, dtype=np.uint8)
    for band, (warm, dim) in enumerate(((1.0, 0.62), (0.55, 0.58), (0.15, 0.47))):
        plane_ = colour[..., band] * light * (1 + tint * warm)
        plane_ += beach * (sand[band] * damp * (1 + 0.10 * tuft + 0.08 * clump) - plane_)
        plane_ += wet * ((shallow[band] + (bottom[band] - shallow[band]) * np.sqrt(depth)) * calm - plane_)
        result[..., band] = np.clip(plane_ * (1 - dim * shade), 0, 255)
    return result
