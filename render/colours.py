"""Colours of mesh files as sRGB bytes, whatever range and type they come in.

Formats say less of their colours than programs write: floating-point colours go from 0 to 1 or from 0 to 255, 16-bit fields hold
8-bit values. What a format leaves open is decided from the largest value, and a remark says how.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render.polygons import Bytes

UNKNOWN = 204
"""The grey of what has no colour beside things that have one."""
OVERSHOOT = 1.5
"""Colours from 0 to 1 may exceed 1 by rounding or exposure; colours from 0 to 255 that stay below this would all be black."""


def colour_bytes(values: NDArray[Any]) -> tuple[Bytes, tuple[str, ...]]:
    """Colours [N, 3] as sRGB bytes, and remarks on what was decided.

    uint8 is 0 to 255; the range of every other type is decided from the largest value.
    """
    kind = values.dtype
    numbers = values.astype(np.float64)
    known: NDArray[np.bool_] = np.all(np.isfinite(numbers), axis=1)
    top = float(numbers[known].max(initial=0.0))
    levels, remark = _levels(kind, top)
    with np.errstate(invalid="ignore"):
        colours = np.rint(np.clip(numbers * (255 / levels), 0, 255))
    colours[~known] = UNKNOWN
    remarks = [remark] if remark else []
    if not known.all():
        remarks.append(f"{int((~known).sum()):,} of its {len(known):,} colours are not finite numbers: drawn grey")
    return colours.astype(np.uint8), tuple(remarks)


def _levels(kind: np.dtype[Any], top: float) -> tuple[float, str]:
    """What the brightest colour is written as, and a remark where the type alone does not say it."""
    if kind == np.uint8:
        return 255, ""
    if kind == np.uint16 and top > 255:
        return 65535, ""
    if kind.kind == "f" and top <= OVERSHOOT:
        return 1, ""
    levels = next((levels for levels in (255, 65535) if top <= levels), top)
    return levels, f"its colours ({kind.name}) go up to {top:g}: read as 0 to {levels:g}"
