"""Where a specimen is seen from: layouts of cameras around a specimen that fills the unit ball.

All cameras look at the origin from the same distance, with the same field of view, so that views differ in direction alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import InputError, nearest

Layout = Literal["ring", "sphere"]
Up = Literal["x", "y", "z"]
Vector = NDArray[np.float64]

LAYOUTS: tuple[str, ...] = get_args(Layout)
UPS: tuple[str, ...] = get_args(Up)
FIELD_OF_VIEW = 30.0
"""Degrees, vertical and horizontal. Narrow, so that near parts are not blown up."""
MARGIN = 0.04
"""What is left free around the unit ball, as a part of its radius."""
DISTANCE = (1 + MARGIN) / math.sin(math.radians(FIELD_OF_VIEW / 2))
"""From a camera to the origin: the unit ball, with its margin, touches the edges of the picture."""
RING_ELEVATION = 20.0
"""Degrees by which a ring of cameras looks down: tops and flanks show in one picture."""
GOLDEN_ANGLE = 180.0 * (3.0 - math.sqrt(5.0))
MAX_VIEWS = 360


@dataclass(frozen=True)
class Camera:
    """A camera facing the origin: its position, and its axes as rows (right, up, towards the viewer)."""

    eye: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

    @classmethod
    def looking_from(cls, direction: Vector, up: Vector, distance: float = DISTANCE) -> Camera:
        """The camera in a direction from the origin; `up` is upwards in its picture as far as the direction allows.

        Raises:
            InputError: it looks along `up`, so that its picture has no upward direction.
        """
        back = direction / np.linalg.norm(direction)
        right = np.cross(up, back)
        length = float(np.linalg.norm(right))
        if length < 1e-9:
            raise InputError("a camera looks straight along its up axis; give another up axis")
        right = right / length
        rows = np.stack([right, np.cross(back, right), back])
        x, y, z = (back * distance).tolist()
        return cls((x, y, z), tuple(tuple(row) for row in rows.tolist()))  # type: ignore[arg-type]

    def extrinsic(self) -> Vector:
        """World to camera, [4, 4], as OpenCV and Open3D have it: x right, y down, z into the picture."""
        rotation = np.array(self.axes) * np.array([[1.0], [-1.0], [-1.0]])
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -rotation @ np.array(self.eye)
        return matrix

    def project(self, points: NDArray[np.floating], size: int) -> Vector:
        """Where points [N, 3] fall in a picture of `size` pixels: [N, 2], x to the right, y downwards."""
        local = (np.asarray(points, np.float64) - np.array(self.eye)) @ np.array(self.axes).T
        focal = focal_length(size)
        depth = -local[:, 2:]
        places: Vector = np.hstack([local[:, :1], -local[:, 1:2]]) / depth * focal + size / 2
        return places


def focal_length(size: int) -> float:
    """In pixels, for pictures of that side."""
    return size / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))


def cameras(layout: Layout, views: int, *, seed: int = 0, up: Up = "y") -> list[Camera]:
    """The cameras of a layout, in a fixed order.

    ``ring``: evenly around the up axis, looking down by `RING_ELEVATION`. ``sphere``: a Fibonacci lattice, from all sides
    (R. Swinbank and R. J. Purser, Fibonacci grids, 2006). A `seed` other than 0 turns the layout around the up axis by an
    angle of its own; the same seed gives the same cameras.

    Raises:
        InputError: an unknown layout or axis, or an impossible number of views.
    """
    if layout not in LAYOUTS:
        raise InputError(f"--cameras must be {' or '.join(LAYOUTS)}, got {layout!r}{nearest(layout, LAYOUTS)}")
    if up not in UPS:
        raise InputError(f"--up must be {', '.join(UPS)}, got {up!r}")
    if not 1 <= views <= MAX_VIEWS:
        raise InputError(f"--views must be 1 to {MAX_VIEWS}, got {views}")
    number = np.arange(views, dtype=np.float64)
    turned = float(np.random.default_rng(seed).uniform(0, 360)) if seed else 0.0
    if layout == "ring":
        azimuth = turned + 360.0 * number / views
        height = np.full_like(number, math.sin(math.radians(RING_ELEVATION)))
    else:
        azimuth = turned + GOLDEN_ANGLE * (number + 0.5)  # beside the axes: many a flat specimen lies along one
        height = 1 - (2 * number + 1) / views
    across = np.sqrt(1 - height**2)
    angle = np.radians(azimuth)
    # Around the up axis, beginning in front: with y up that is the +z side, with z up the -y side, with x up the +z side.
    side, front = {"x": ((0, -1, 0), (0, 0, 1)), "y": ((1, 0, 0), (0, 0, 1)), "z": ((1, 0, 0), (0, -1, 0))}[up]
    axis = np.cross(front, side).astype(np.float64)
    directions = (
        (across * np.sin(angle))[:, None] * np.array(side)
        + (across * np.cos(angle))[:, None] * np.array(front)
        + height[:, None] * axis
    )
    return [Camera.looking_from(direction, axis) for direction in directions]
