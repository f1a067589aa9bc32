"""Splits a set of queries into classes: by altitude, by rotation, by dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence

from outcrop.query.evaluation.truth import Facts

AXES = ("altitude", "rotation", "dataset")
UNKNOWN = "unknown"
MAX_VALUES = 12
"""Numbers of more different values than this are put into bands."""
_WIDTHS = {"altitude": (2, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000), "rotation": (30, 90, 180)}
_MAX_BANDS = {"altitude": 6, "rotation": 12}
_UNITS = {"altitude": " m", "rotation": "°"}


def split(facts: Sequence[Facts], axis: str) -> list[tuple[str, list[int]]]:
    """The classes of an axis with the places of their members, in order; what is unknown comes last.

    Numbers of few different values (twelve at most) are classes of their own, ``300 m``. Others go into bands around the
    multiples of the narrowest round width that makes few bands (six of altitude, twelve of rotation), the lower bound included:
    ``300 ± 25 m``. Rotations go round: ``0 ± 15°`` holds 350.
    """
    if axis == "dataset":
        names = [fact.dataset or UNKNOWN for fact in facts]
        order = [*sorted(set(names) - {UNKNOWN}), UNKNOWN]
        return [(name, members) for name in order if (members := [i for i, n in enumerate(names) if n == name])]
    values = [fact.altitude if axis == "altitude" else fact.rotation for fact in facts]
    # As shown: what is written alike is one class.
    known = {i: float(f"{value:g}") for i, value in enumerate(values) if value is not None}
    missing = [i for i, value in enumerate(values) if value is None]
    width = _width(list(known.values()), axis) if len(set(known.values())) > MAX_VALUES else 0.0
    classes: dict[float, list[int]] = {}
    for i, value in known.items():
        classes.setdefault(_middle(value, width, axis) if width else value, []).append(i)
    spread = f" ± {width / 2:g}" if width else ""
    named = [(f"{middle:g}{spread}{_UNITS[axis]}", classes[middle]) for middle in sorted(classes)]
    return named + ([(UNKNOWN, missing)] if missing else [])


def _width(values: list[float], axis: str) -> float:
    """The width of the bands."""
    for width in _WIDTHS[axis]:
        if len({_middle(value, width, axis) for value in values}) <= _MAX_BANDS[axis]:
            return float(width)
    return float(_WIDTHS[axis][-1])


def _middle(value: float, width: float, axis: str) -> float:
    """The middle of a value's band."""
    middle = math.floor(value / width + 0.5) * width
    return middle % 360 if axis == "rotation" else middle
