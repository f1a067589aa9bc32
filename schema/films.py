"""Films: which files are taken for them, which second of one an item shows, and how a moment of one is named."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind

SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".3gp"))
"""Endings of the files that are taken for films (compared in lower case)."""
EVERY = 1.0
"""Seconds between two frames, where nothing else is asked for."""
LEAST, MOST = 0.04, 3600.0
"""The same, at least and at most."""

_FRAGMENT = re.compile(r"(?P<file>.+)#t=(?P<second>\d+(?:\.\d+)?)", re.DOTALL)


def second_of(item: Item) -> float | None:
    """The second of a film that an image shows, counted from its first frame; None for a photograph.

    The frame number of a film's image is that of its milliseconds.
    """
    if item.kind is not Kind.IMAGE or PurePath(item.source).suffix.lower() not in SUFFIXES:
        return None
    return item.frame / 1000


def moment_path(film: Path, second: float) -> Path:
    """The name of one frame: the film's path with a media fragment, to the millisecond."""
    return film.with_name(f"{film.name}#t={f'{second:.3f}'.rstrip('0').rstrip('.')}")


def moment_of(path: Path) -> tuple[Path, float] | None:
    """The film and the second that a path names; None where it is the path of a file, or of no film."""
    found = _FRAGMENT.fullmatch(str(path))
    if found is None or path.exists() or Path(found["file"]).suffix.lower() not in SUFFIXES:
        return None
    return Path(found["file"]), float(found["second"])


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
