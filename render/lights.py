"""The lights, fixed relative to the camera, and how surfaces answer them: the same for every renderer.

A warm grey, matt surface under a key light from the upper left, a fill from the right, a light from behind that traces the
contour, and a sky brighter than the ground. Colours are computed in linear light and written as sRGB (IEC 61966-2-1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BACKGROUND = 255
"""White, as sRGB."""
NEUTRAL = (0.60, 0.575, 0.54)
"""Linear reflectance of a surface without colours of its own: plaster, or bone."""


@dataclass(frozen=True)
class Light:
    """A distant light: the direction it comes from (x right, y up, z towards the viewer; unit length), and its strength."""

    direction: tuple[float, float, float]
    strength: float


def _light(x: float, y: float, z: float, strength: float) -> Light:
    length = float(np.sqrt(x * x + y * y + z * z))
    return Light((x / length, y / length, z / length), strength)


LIGHTS = (_light(-0.55, 0.65, 0.55, 0.95), _light(0.85, 0.05, 0.45, 0.26), _light(0.25, 0.55, -0.80, 0.35))
SKY, GROUND = 0.30, 0.12
"""Light from above and from below."""
GLOSS, SHININESS = 0.05, 24  # the power is multiplied out below
"""A faint highlight of the key light (J. Blinn, 1977): it sets ridges apart from paint."""
CONTACT = 0.75
"""How much light an entirely sheltered place loses."""


def shaded(normals: NDArray[np.float32], open_sky: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Light that a white surface returns, [N]: unit `normals` [3, N] in the camera's axes, `open_sky` [N] from 0 (sheltered)
    to 1."""
    x, y, z = normals
    light: NDArray[np.float32] = np.float32(0.5 * (SKY - GROUND)) * y
    light += np.float32(0.5 * (SKY + GROUND))
    for lamp in LIGHTS:
        along_x, along_y, along_z = (np.float32(lamp.strength * part) for part in lamp.direction)
        light += np.maximum(along_x * x + along_y * y + along_z * z, 0)
    if open_sky is not None:
        light *= np.float32(1 - CONTACT) + np.float32(CONTACT) * open_sky
    return light


def highlight(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """The key light's highlight, [N], for unit `normals` [3, N] and a distant viewer."""
    half = np.add(LIGHTS[0].direction, (0, 0, 1))
    x, y, z = (half / np.linalg.norm(half)).astype(np.float32)
    along = np.maximum(x * normals[0] + y * normals[1] + z * normals[2], 0)
    eighth = ((along * along) ** 2) ** 2
    shine: NDArray[np.float32] = np.float32(GLOSS * (SHININESS + 2) / 8) * eighth * eighth * eighth
    return shine


_STEPS = 4096
_TABLE = np.linspace(0, 1, _STEPS + 1)
_ENCODED = np.rint(255 * np.where(_TABLE <= 0.0031308, 12.92 * _TABLE, 1.055 * _TABLE ** (1 / 2.4) - 0.055)).astype(
    np.uint8
)
_LEVELS = np.arange(256) / 255
DECODED = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
"""Linear light of the 256 levels of sRGB."""


def encoded(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Linear light from 0 to 1 (more is cut off) as sRGB."""
    levels: NDArray[np.uint8] = _ENCODED[(np.clip(light, 0, 1) * np.float32(_STEPS) + np.float32(0.5)).astype(np.int16)]
    return levels
