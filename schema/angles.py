"""Angles as people read them."""

from __future__ import annotations


def angle_text(degrees: float, digits: int = 0) -> str:
    """An angle in degrees from 0 up to 360, rounded: what rounds to 360 is 0."""
    return f"{round(degrees % 360, digits) % 360:.{digits}f}"
