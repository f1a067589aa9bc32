"""Angles as people read them, and as cameras state them."""

from __future__ import annotations

import math

DOWN, OVER = 30.0, 135.0
"""Degrees off straight down within which a camera's roll turns its picture; and of roll from which it has rolled over."""


def angle_text(degrees: float, digits: int = 0) -> str:
    """An angle in degrees from 0 up to 360, rounded: what rounds to 360 is 0."""
    return f"{round(degrees % 360, digits) % 360:.{digits}f}"


def top_heading(yaw: float | None, pitch: float | None, roll: float | None) -> float | None:
    """Degrees clockwise from north, in [0, 360), to which the top of a camera's picture points, by its angles in degrees.

    A gimbal that swings past straight down has rolled over: DJI writes a roll of 180 degrees then, and a yaw that points away
    from the top of the picture. Elsewhere, and where pitch and roll are not stated, the yaw is the heading.
    """
    if yaw is None or not math.isfinite(yaw):
        return None
    over = False
    if pitch is not None and roll is not None and abs(pitch + 90.0) <= DOWN:
        over = abs(roll % 360.0 - 180.0) < 180.0 - OVER  # a roll of 350 degrees is one of -10
    turned = (yaw + 180.0 if over else yaw) % 360.0
    return 0.0 if turned == 360.0 else turned  # a tiny negative angle rounds up to 360
