"""Tree crowns seen from above: small shaded sprites, lit from the sun's side."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image

Sprite = tuple[Image.Image, Image.Image]

SPECIES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "broadleaf": ((74, 96, 46), (86, 108, 50), (64, 86, 42), (98, 114, 56), (80, 92, 48)),
    "light": ((112, 126, 62), (124, 132, 66), (104, 122, 58), (134, 136, 74), (118, 118, 60)),
    "autumn": ((152, 122, 54), (162, 98, 50), (136, 72, 46), (168, 138, 62), (120, 104, 52)),
    "conifer": ((44, 66, 46), (52, 72, 50), (58, 76, 50), (48, 62, 50), (62, 74, 46)),
    "orchard": ((84, 106, 60), (94, 116, 66), (88, 102, 58), (100, 112, 70), (78, 98, 54)),
    "bush": ((96, 106, 62), (106, 110, 66), (84, 98, 56), (116, 116, 74), (92, 92, 58)),
    "olive": ((128, 134, 104), (118, 126, 96), (138, 140, 110), (122, 122, 92), (132, 128, 100)),
}
VARIANTS = 5


@lru_cache(maxsize=2048)
def crown(species: str, radius: int, variant: int, sun: tuple[float, float, float]) -> Sprite:
    """A crown's picture and its opacity mask.

    `radius` is in pixels; `variant` in `range(VARIANTS)` chooses colour and outline; `sun` is the unit vector
    towards the sun (east, north, up). The same arguments always give the same sprite.
    """
    names = sorted(SPECIES)
    rng = np.random.default_rng([names.index(species), radius, variant])
    side = 2 * math.ceil(radius * 1.15) + 1
    axis = (np.arange(side) - side // 2) / max(radius, 1)
    east, north = np.meshgrid(axis, -axis)
    angle, distance = np.arctan2(north, east), np.hypot(east, north)
    needles = species == "conifer"
    outline = np.full_like(distance, 0.9)
    for lobes, depth in ((9, 0.09), (14, 0.05)) if needles else ((3, 0.06), (5, 0.05), (8, 0.05)):
        outline += depth * np.sin(lobes * angle + rng.uniform(0, 2 * np.pi))
    reach = distance / outline
    clumps = max(3, round(side / max(3.0, radius / 3)))
    bumps = np.asarray(
        Image.fromarray(rng.integers(0, 256, (clumps, clumps), dtype=np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        ),
        dtype=np.float64,
    )
    dome = 1.1 * (1 - reach) if needles else np.sqrt(np.clip(1.15 - reach**2, 0, None))
    height = dome + (bumps - 128) / 128 * (0.10 if needles else 0.22)
    step = 1 / max(radius, 1)
    fall_north, rise_east = np.gradient(height, step)
    normal = np.stack([-rise_east, fall_north, np.full_like(height, 1.4)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.clip(normal @ np.array(sun), 0, 1)
    base = np.array(SPECIES[species][variant % VARIANTS], dtype=np.float64)
    glow = np.array([1.04, 1.0, 0.86])
    shade = (0.42 + 0.86 * light)[..., None] * (1 + 0.08 * (bumps[..., None] - 128) / 128)
    colour = base * shade * np.where(light[..., None] > 0.7, glow, 1.0)
    opacity = np.clip((1 - reach) * max(radius, 2) * 0.8 + 0.3, 0, 1)
    return (
        Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)),
        Image.fromarray((opacity * 255).astype(np.uint8)),
    )
