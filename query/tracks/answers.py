"""A track as plain values: for JSON, and as rows of tables and CSV."""

from __future__ import annotations

from typing import Any

from outcrop.query.answers import timings_json
from outcrop.query.tracks.track import Track, TrackFrame

COLUMNS = ("frame", "time", "status", "latitude", "longitude", "spread_m", "off_m", "heading", "course", "speed")
"""Of the table; on a narrow screen the last ones give way."""
WHOLE = ("frame", "status", "latitude", "longitude", "spread_m")
CSV_COLUMNS = (
    "frame", "seconds", "captured_at", "status", "latitude", "longitude", "spread_m", "off_m", "heading", "course", "speed",
    "candidates", "reason",
)  # fmt: skip


def track_json(track: Track) -> dict[str, Any]:
    """``{"collection", "frames": [{"frame", "status", "latitude", …}], "located", …}``; what is not known is null."""
    return {
        "collection": track.collection,
        "frames": [frame_json(each) for each in track.frames],
        "located": track.count("located"),
        "outliers": track.count("outlier"),
        "bridged": track.count("bridged"),
        "unknown": track.count("unknown"),
        "metres": round(track.metres, 1),
        "timed": track.timed,
        "limits": {"speed": track.limits.speed, "turn": track.limits.turn},
        "timings": timings_json(track.timings),
    }


def frame_json(each: TrackFrame) -> dict[str, Any]:
    """One frame as plain values; its candidates are locations as `query image --locate` states them."""
    return {
        **_values(each),
        "captured_at": each.frame.captured_at or None,
        "reason": each.reason or None,
        "candidates": [location.as_json() for location in each.candidates],
    }


def csv_rows(track: Track) -> list[dict[str, Any]]:
    """A row for each frame; what is not known is left empty."""
    return [
        {
            **_values(each),
            "captured_at": each.frame.captured_at,
            "candidates": len(each.candidates),
            "reason": each.reason,
        }
        for each in track.frames
    ]


def table_rows(track: Track) -> list[dict[str, Any]]:
    """A row for each frame as a person reads it."""
    return [
        {
            "frame": each.frame.name,
            "time": clock(each.frame.seconds),
            "status": "unreadable" if each.unreadable else each.status,
            "latitude": _digits(each.place[0] if each.place else None, 6),
            "longitude": _digits(each.place[1] if each.place else None, 6),
            "spread_m": _digits(each.spread, 1),
            "off_m": _digits(each.off, 1),
            "heading": _digits(each.heading, 0),
            "course": _digits(each.course, 0),
            "speed": _digits(each.speed, 1),
        }
        for each in track.frames
    ]


def short_names(track: Track) -> list[list[str]]:
    """Shorter forms of the frames' names: without folders."""
    return [[each.frame.name.rpartition("/")[2] for each in track.frames]]


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds: 1:23.5."""
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}" + (f".{tenths % 10}" if tenths % 10 else "")


def summary(track: Track) -> str:
    """The path in one line."""
    counts = [
        (track.count("located"), "located"),
        (track.count("outlier"), "outliers"),
        (track.count("bridged"), "bridged"),
    ]
    if unknown := track.count("unknown"):
        counts.append((unknown, "unknown"))
    said = ", ".join(f"{count} {name}" for count, name in counts)
    return f"{len(track.frames)} frames: {said}; {track.metres:.0f} m in {clock(_seconds(track))} min"


def _seconds(track: Track) -> float:
    return track.frames[-1].frame.seconds if track.frames else 0.0


def _values(each: TrackFrame) -> dict[str, Any]:
    return {
        "frame": each.frame.name,
        "seconds": round(each.frame.seconds, 3),
        "status": each.status,
        "latitude": _rounded(each.place[0] if each.place else None, 7),
        "longitude": _rounded(each.place[1] if each.place else None, 7),
        "spread_m": _rounded(each.spread, 2),
        "off_m": _rounded(each.off, 2),
        "heading": _rounded(each.heading, 1),
        "course": _rounded(each.course, 1),
        "speed": _rounded(each.speed, 2),
        **({"unreadable": True} if each.unreadable else {}),
        **({"remark": each.remark} if each.remark else {}),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _digits(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
