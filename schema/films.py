"""Films: which files are taken for them, and which second of one an item shows."""

from __future__ import annotations

from pathlib import PurePath

from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind

SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".3gp"))
"""Endings of the files that are taken for films (compared in lower case)."""
EVERY = 1.0
"""Seconds between two frames, where nothing else is asked for."""
LEAST, MOST = 0.04, 3600.0


def second_of(item: Item) -> float | None:
    """The second of a film that an image shows, counted from its first frame; None for a photograph.

    The frame number of a film's image is that of its milliseconds.
    """
    if item.kind is not Kind.IMAGE or PurePath(item.source).suffix.lower() not in SUFFIXES:
        return None
    return item.frame / 1000


def seconds_of(text: str, name: str = "--every") -> float:
    """The seconds that a text such as ``1s``, ``500ms``, ``2 min`` or ``0.5`` means.

    Raises:
        InputError: it means none, or not between `LEAST` and `MOST`.
    """
    number, unit = text.strip().lower(), 1.0
    for ending, factor in (("ms", 0.001), ("min", 60.0), ("s", 1.0), ("m", 60.0)):
        if number.endswith(ending):
            number, unit = number.removesuffix(ending), factor
            break
    try:
        seconds = float(number) * unit
    except ValueError:
        raise InputError(f"{name} must be a time such as 1s, 500ms or 2min, got {text!r}") from None
    if not LEAST <= seconds <= MOST:
        raise InputError(f"{name} must be between {LEAST:g} and {MOST:g} seconds, got {text!r}")
    return round(seconds, 3)
