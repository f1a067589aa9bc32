"""The frames of a flight in their order: photographs of a folder, by time or name, or moments of a film."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.film import Film
from outcrop.embed.images import inspect
from outcrop.query.picture_files import expand
from outcrop.query.verification.features import read_picture
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.films import SUFFIXES, moment_path

Order = Literal["auto", "time", "name"]
ORDERS: tuple[Order, ...] = ("auto", "time", "name")


@dataclass(frozen=True)
class Frame:
    """One picture of a flight: its file (or the name of a film's moment), what it is called in answers, seconds since the first
    frame, and when it was taken (ISO 8601, '' where it does not say)."""

    path: Path
    name: str
    seconds: float = 0.0
    captured_at: str = ""


@dataclass(frozen=True)
class Frames:
    """The frames of a flight in order of time; `timed` says whether the pictures say when they were taken."""

    frames: tuple[Frame, ...]
    timed: bool


def list_frames(place: Path, order: Order = "auto", every: float = 1.0) -> Frames:
    """The photographs in a folder, or a film's frames every so many seconds, in order.

    Photographs are ordered by the time that they state; those of one second, and those that state none, by name, in which numbers
    count as numbers. Where all times are stated with their offsets from UTC, these count. Where no two photographs state
    different times they are ordered by name, `every` seconds apart; "time" and "name" ask for one of the two.

    Raises:
        InputError: nothing is there; a single picture; times are asked for and not stated. PictureError: the film cannot be
            opened.
    """
    if place.is_file() and place.suffix.lower() in SUFFIXES:
        return _of_film(place, every)
    if place.is_file():
        raise InputError(f"{place} is a single picture; give the folder of the flight's pictures, or a film")
    files = sorted(expand([place]), key=_counted)
    said = [_moment(path) for path in files]
    found = [Frame(path, path.relative_to(place).as_posix(), 0.0, text) for path, text in zip(files, said, strict=True)]
    times = _seconds(said)
    different = len({when for when in times if when is not None}) > 1
    if order == "time" and not different:
        raise InputError(
            f"--order time: no two pictures in {place} state different times; use --order name and --every"
        )
    if different and (order != "name" or _ascending(times)):
        return Frames(tuple(_by_time(found, times)), True)
    return Frames(tuple(replace(frame, seconds=every * number) for number, frame in enumerate(found)), False)


def _of_film(film: Path, every: float) -> Frames:
    with Film(film) as opened:
        seconds = opened.moments(every)
    return Frames(tuple(Frame(moment_path(film, at), moment_path(film, at).name, at) for at in seconds), True)


def _counted(path: Path) -> tuple[list[tuple[str, int]], Path]:
    """What orders files by name: 9 comes before 10."""
    words = re.findall(r"(\D*)(\d*)", path.as_posix())
    return [(word, int(digits or -1)) for word, digits in words], path


def _moment(path: Path) -> str:
    """When a picture was taken, as it says it; '' where it does not say so or cannot be read."""
    try:
        return inspect(read_picture(path), name=str(path))[2].captured_at or ""
    except PictureError:  # named when it is to be embedded
        return ""


def _seconds(said: Sequence[str]) -> list[float | None]:
    """Times (ISO 8601) in seconds, None for ''. By the camera's clock, unless each that is stated says how far it is from UTC: a
    clock may have been put forward or back."""
    times = [datetime.fromisoformat(text) if text else None for text in said]
    clock = any(when is not None and when.tzinfo is None for when in times)
    return [None if when is None else (when.replace(tzinfo=UTC) if clock else when).timestamp() for when in times]


def _ascending(times: Sequence[float | None]) -> bool:
    said = [when for when in times if when is not None]
    return all(a <= b for a, b in pairwise(said))


def _by_time(frames: Sequence[Frame], times: Sequence[float | None]) -> list[Frame]:
    """Frames (by name) in order of time, with seconds since the first; those of one second share it evenly, since cameras state
    whole seconds."""
    stated = _completed(times)
    ordered = sorted(range(len(frames)), key=lambda number: (stated[number], number))
    sorted_times = stated[ordered] - stated.min()
    seconds = sorted_times.copy()
    moments, counts = np.unique(sorted_times, return_counts=True)
    ends = np.append(moments[1:], moments[-1] + 1)
    for moment, end, count in zip(moments, ends, counts, strict=True):
        seconds[sorted_times == moment] += np.arange(count) / count * min(1.0, end - moment)
    return [replace(frames[number], seconds=float(at)) for number, at in zip(ordered, seconds, strict=True)]


def _completed(times: Sequence[float | None]) -> NDArray[np.float64]:
    """The times [N], by name; a picture that states none lies between its neighbours by name where these follow one another, else
    with the one before it."""
    known = [number for number, when in enumerate(times) if when is not None]
    stated = np.array([0.0 if when is None else when for when in times])
    for number, when in enumerate(times):
        if when is not None:
            continue
        before = max((n for n in known if n < number), default=known[0])
        after = min((n for n in known if n > number), default=before)
        share = (number - before) / (after - before) if after > before and stated[after] >= stated[before] else 0.0
        stated[number] = stated[before] + share * (stated[after] - stated[before])
    return stated
