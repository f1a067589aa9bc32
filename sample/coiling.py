"""Coiled shells after Raup: a section that grows as it turns about an axis, with ribs, cords, a keel and spines on it.

Raup (1966, Geometric analysis of shell coiling, J. Paleontology 40) describes a shell by W, the whorl expansion rate (how
much larger all becomes in one turn), D, the distance of the section from the axis relative to its outer edge, T, how far the
section moves along the axis for what it moves outward, and the section's shape S.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .meshes import Mesh, Points, tube

Relief = Callable[[Points, Points], Points]
"""(turns before the aperture [U, 1], angle around the section [1, V]) -> height, as a share of the section's radius."""


@dataclass(frozen=True)
class Coil:
    """A shell: its expansion W, distance D and translation T, and how many `turns` it has made.

    `aspect` is the section's extent along the axis by that across it; `squareness` 2 is an ellipse, more is boxy; `tilt` turns
    the section, in degrees; `canal` draws its lower end out. There are `steps` sections a turn, of `around` points each, which
    `crowding` (0 to 1) gathers at the outer edge.
    """

    expansion: float
    distance: float
    translation: float
    turns: float
    aspect: float = 1.0
    squareness: float = 2.0
    tilt: float = 0.0
    canal: float = 0.0
    crowding: float = 0.0
    steps: int = 120
    around: int = 24

    @property
    def section(self) -> float:
        """The section's radius across the axis by the distance of its centre from the axis."""
        return (1 - self.distance) / (1 + self.distance)


def coil(shell: Coil, relief: Relief) -> Mesh:
    """The shell with its axis along y, its apex up, and its last section's centre at distance 1 from the axis."""
    count = max(8, round(shell.turns * shell.steps))
    before = np.linspace(shell.turns, 0, count)[:, None]
    angle = 2 * np.pi * np.arange(shell.around)[None] / shell.around
    angle = angle - shell.crowding * np.sin(angle)
    across, up = section(shell, before, angle, relief)
    size = shell.expansion**-before
    place = -2 * np.pi * before
    radius = (1 + across) * size
    height = shell.translation * (1 - size) + up * size
    grid = np.stack([radius * np.cos(place), height + 0 * radius, radius * np.sin(place)], axis=-1)
    return tube(grid, hollow=0.35)


def section(shell: Coil, before: Points, angle: Points, relief: Relief) -> tuple[Points, Points]:
    """The section's outline around its centre (outward, upward) where its centre is at distance 1 [U, V]."""
    power = 2 / shell.squareness
    across = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    up = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * shell.aspect
    scale = shell.section * (1 + relief(before, angle))
    across, up = across * scale, up * scale
    if shell.canal:
        # The lower end is drawn out and in towards the axis, as a siphonal canal is.
        low = np.clip(-np.sin(angle), 0, 1) ** 6
        across = across * (1 - 0.6 * low) - 0.35 * shell.section * low
        up = up - shell.canal * low * shell.section
    tilt = np.radians(shell.tilt)
    return across * np.cos(tilt) - up * np.sin(tilt), across * np.sin(tilt) + up * np.cos(tilt)


def on_coil(shell: Coil, before: float, angle: float, beyond: float = 0.0) -> Points:
    """The point of the bare shell `before` turns from the aperture at an angle (radians) of its section [3].

    `beyond` the surface, in section radii.
    """
    across, up = section(shell, np.array([[before]]), np.array([[angle]]), lambda _, __: np.full((1, 1), beyond))
    size, place = shell.expansion**-before, -2 * np.pi * before
    radius = (1 + float(across[0, 0])) * size
    height = shell.translation * (1 - size) + float(up[0, 0]) * size
    return np.array([radius * np.cos(place), height, radius * np.sin(place)])
