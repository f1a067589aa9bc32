"""What a drone writes beside a film, second by second: DJI's SRT files, in the dialects of its aircraft.

Newer ones write ``[latitude: 47.1] [longitude: 8.2] [rel_alt: 30.1 abs_alt: 480.2]`` (also ``longtitude``, ``altitude``, and
the gimbal's ``gb_yaw`` and ``gb_pitch``), older ones ``GPS(8.2, 47.1, 19)`` with ``BAROMETER:30.1`` or ``H 30.10m``: there the
longitude comes first. The date and time of each cue are local.
"""

from __future__ import annotations

import bisect
import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from outcrop.embed.photo import PhotoMetadata
from outcrop.schema.angles import top_heading

TELEMETRY = ".srt"
"""The ending of these files, in any letter case."""
MAX_BYTES = 256 * 2**20
REACH = 2.0
"""Seconds from the nearest cue beyond which a moment has no telemetry."""
_CUE = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})\s*-->")
_DATE = re.compile(r"(\d{4})[-./](\d{1,2})[-./](\d{1,2})[ T](\d{1,2}):(\d\d):(\d\d)")
_NUMBER = r"\s*:?\s*([-+]?\d+(?:\.\d+)?)"
_GPS = re.compile(r"GPS\s*\(\s*([-+]?\d+(?:\.\d+)?)\s*,\s*([-+]?\d+(?:\.\d+)?)\s*(?:,[^)]*)?\)")
_LATITUDE = re.compile(r"\blatitude" + _NUMBER)
_LONGITUDE = re.compile(r"\blongt?itude" + _NUMBER)
_HEIGHT = re.compile(r"(?:\brel_alt|\bBAROMETER|\bH(?=\s+[-+]?\d))" + _NUMBER)
_ABSOLUTE = re.compile(r"\b(?:abs_alt|altitude)" + _NUMBER)
_YAW, _PITCH, _ROLL = (re.compile(rf"\bgb_{name}" + _NUMBER) for name in ("yaw", "pitch", "roll"))


@dataclass(frozen=True)
class Cue:
    """One cue: seconds from the film's beginning, WGS 84 degrees, metres above the take-off and above the sea, the heading of
    the picture's top and the gimbal's pitch in degrees, and the local time; None where it does not say."""

    second: float
    latitude: float | None
    longitude: float | None
    height: float | None
    absolute: float | None
    yaw: float | None
    pitch: float | None
    time: str | None


class Telemetry:
    """The cues of a film, in order."""

    def __init__(self, cues: list[Cue]) -> None:
        self.cues = sorted(cues, key=lambda cue: cue.second)
        self._seconds = [cue.second for cue in self.cues]

    @property
    def places(self) -> int:
        """How many cues say where they are."""
        return sum(cue.latitude is not None for cue in self.cues)

    def at(self, second: float) -> tuple[PhotoMetadata, float | None]:
        """Where, how high, which way and when at a moment, and metres above the sea: between two cues in proportion."""
        place = bisect.bisect_right(self._seconds, second + 1e-6)
        before = self.cues[place - 1] if place else None
        after = self.cues[place] if place < len(self.cues) else None
        near = [cue for cue in (before, after) if cue is not None and abs(cue.second - second) <= REACH]
        if not near:
            return PhotoMetadata(), None
        first, last = near[0], near[-1]
        part = (second - first.second) / (last.second - first.second) if last.second > first.second else 0.0

        def between(one: float | None, other: float | None) -> float | None:
            return one if one is None or other is None else one + part * (other - one)

        latitude, longitude = between(first.latitude, last.latitude), between(first.longitude, last.longitude)
        if first.longitude is not None and last.longitude is not None and abs(first.longitude - last.longitude) > 180:
            longitude = first.longitude  # across the date line
        facts = PhotoMetadata(
            latitude,
            longitude,
            between(first.height, last.height),
            first.yaw,
            first.time,
            first.pitch,
            None,
            "srt" if latitude is not None else None,
        )
        return facts, between(first.absolute, last.absolute)


def telemetry_beside(film: Path) -> Path | None:
    """The SRT file of a film: the same name with another ending, in any letter case."""
    alike = [film.with_suffix(ending) for ending in (".SRT", ".srt", ".Srt")]
    return next((path for path in alike if path.is_file()), None)


def read_telemetry(data: bytes) -> Telemetry:
    """The cues of an SRT file; those that cannot be read say nothing."""
    text = data[:MAX_BYTES].decode("utf-8-sig", "replace")
    marks = list(_CUE.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
    return Telemetry([_cue(mark, text[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)])


def _cue(mark: re.Match[str], body: str) -> Cue:
    hours, minutes, seconds, fraction = mark.groups()
    second = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction) / 10 ** len(fraction)
    latitude, longitude = _first(_LATITUDE, body), _first(_LONGITUDE, body)
    if (older := _GPS.search(body)) is not None:
        longitude, latitude = float(older[1]), float(older[2])
    if latitude is None or longitude is None or not _on_earth(latitude, longitude):
        latitude = longitude = None
    return Cue(
        second,
        latitude,
        longitude,
        _first(_HEIGHT, body),
        _first(_ABSOLUTE, body),
        top_heading(_first(_YAW, body), _first(_PITCH, body), _first(_ROLL, body)),
        _first(_PITCH, body),
        _time(body),
    )


def _on_earth(latitude: float, longitude: float) -> bool:
    """Whether degrees can be a place; 0, 0 is what receivers write before they have a fix."""
    return abs(latitude) <= 90 and abs(longitude) <= 180 and not (latitude == 0 and longitude == 0)


def _first(expression: re.Pattern[str], body: str) -> float | None:
    found = expression.search(body)
    number = float(found[1]) if found is not None else math.nan
    return number if math.isfinite(number) else None


def _time(body: str) -> str | None:
    found = _DATE.search(body)
    try:
        return datetime(*(int(each) for each in found.groups())).isoformat() if found is not None else None  # type: ignore[arg-type]
    except ValueError:
        return None
