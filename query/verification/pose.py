"""Where a camera was, from points of its picture whose places and heights on the ground are known (PnP)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 8
"""Points below which no camera is sought."""
TOLERANCE = 0.004
"""By how much of the picture's longest side a point may lie off: what lens distortion does."""
ITERATIONS, CONFIDENCE = 1000, 0.999


@dataclass(frozen=True)
class Pose:
    """A camera over the ground: `east`, `north` and `up` in metres, and its axes as rows of `turn` [3, 3]: right, down, ahead.

    `tilt` is by how many degrees it looked off straight down; `used` [N] are the points that agree.
    """

    east: float
    north: float
    up: float
    turn: NDArray[np.float64]
    used: NDArray[np.bool_]

    @property
    def tilt(self) -> float:
        """Degrees off straight down."""
        return math.degrees(math.acos(float(np.clip(-self.turn[2, 2], -1.0, 1.0))))

    def ground(self, ray: tuple[float, float], up: float) -> complex | None:
        """Where a ray through (x, y), in focal lengths from the picture's middle, meets the level `up`: east + north·j in metres;
        None where it never does."""
        east, north, rise = self.turn.T @ np.array([*ray, 1.0])
        if rise >= -1e-6:
            return None
        reach = (up - self.up) / rise
        return complex(self.east + reach * east, self.north + reach * north) if reach > 0 else None


def camera_pose(
    pixels: NDArray[np.float64], ground: NDArray[np.float64], focal: float, size: tuple[int, int]
) -> Pose | None:
    """The camera that sees `ground` [N, 3] (east, north, up in metres) at `pixels` [N, 2] of a picture of `size` (width, height),
    with a lens of `focal` pixels; None where there is no such camera above the ground."""
    import cv2

    if len(pixels) < LEAST:
        return None
    middle = ground.mean(axis=0)  # near the origin, less is lost to rounding
    here = np.ascontiguousarray(ground - middle)
    lens = np.array([[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1.0]])
    try:
        cv2.setRNGSeed(0)
        found, turn, shift, inliers = cv2.solvePnPRansac(
            here, np.ascontiguousarray(pixels, np.float64), lens, None,
            iterationsCount=ITERATIONS, reprojectionError=TOLERANCE * max(size), confidence=CONFIDENCE,
            flags=cv2.SOLVEPNP_SQPNP,
        )  # fmt: skip
        if not found or inliers is None or len(inliers) < LEAST:
            return None
        used = np.zeros(len(pixels), bool)
        used[inliers.ravel()] = True
        turn, shift = cv2.solvePnPRefineLM(here[used], pixels[used], lens, None, turn, shift)
    except cv2.error:  # degenerate sets of points fail its assertions
        return None
    axes = cv2.Rodrigues(turn)[0]
    east, north, up = -axes.T @ shift.ravel() + middle
    if not np.isfinite([east, north, up]).all() or up <= ground[used, 2].max() or axes[2, 2] >= 0:
        return None
    return Pose(float(east), float(north), float(up), np.asarray(axes, np.float64), used)
