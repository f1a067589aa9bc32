"""A track as a self-contained HTML page: the path drawn north up with every frame's spread, and the frames with their pictures.

Nothing is fetched when it is opened, and there is no script.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.query.pages import inline, render, write_whole
from outcrop.query.tracks.answers import clock, summary
from outcrop.query.tracks.track import Track, TrackFrame
from outcrop.schema.angles import angle_text
from outcrop.schema.plane import Plane

WIDTH, HEIGHT, MARGIN = 900, 620, 40
"""Pixels of the drawing."""
PICTURE_BYTES = 24 * 2**20
"""Bytes of the thumbnails in one page at most; frames beyond have none."""
NUMBERED = 40
"""Frames that are numbered in the drawing, at most: the others go without."""


@dataclass(frozen=True)
class Mark:
    """A frame in the drawing: pixels from the upper left, the spread's radius, its status, its number ('' where it is not shown),
    and what is said of it."""

    x: float
    y: float
    spread: float
    status: str
    number: str
    text: str


@dataclass(frozen=True)
class Drawing:
    """The path: points of the line, marks, and the scale bar (pixels, metres)."""

    line: str
    marks: tuple[Mark, ...]
    bar: float
    metres: int


@dataclass(frozen=True)
class Card:
    """A frame with its picture as a data URI and what is known of it."""

    number: int
    name: str
    status: str
    image: str
    facts: tuple[str, ...]


def write_page(track: Track, path: Path, *, remark: str = "") -> Path:
    """Writes the page of a track, replacing the file whole; returns `path`.

    Raises:
        InputError: the file cannot be written.
    """
    values = {
        "track": track,
        "summary": summary(track),
        "drawing": drawing(track),
        "cards": _cards(track),
        "remark": remark,
    }
    page = render("tracks/page.html.j2", width=WIDTH, height=HEIGHT, **values)
    return write_whole(path, page)


def drawing(track: Track) -> Drawing | None:
    """The path as it is drawn; None where no frame has a place."""
    placed = [(number, each) for number, each in enumerate(track.frames, 1) if each.place is not None]
    if not placed:
        return None
    plane = Plane(placed[0][1].place or (0.0, 0.0))
    metres = np.array([plane.metres(each.place) for _, each in placed if each.place is not None])
    left, top = metres.real.min(), metres.imag.max()
    span = max(np.ptp(metres.real) / (WIDTH - 2 * MARGIN), np.ptp(metres.imag) / (HEIGHT - 2 * MARGIN), 0.02)
    x0 = (WIDTH - np.ptp(metres.real) / span) / 2
    y0 = (HEIGHT - np.ptp(metres.imag) / span) / 2
    points = [(float((m.real - left) / span + x0), float((top - m.imag) / span + y0)) for m in metres]
    step = math.ceil(len(placed) / NUMBERED)
    marks = tuple(
        _mark(number, each, point, span, number if index % step == 0 else None)
        for index, ((number, each), point) in enumerate(zip(placed, points, strict=True))
    )
    length = _round_length(span * WIDTH / 5)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Drawing(line, marks, round(length / span, 1), length)


def _mark(number: int, each: TrackFrame, point: tuple[float, float], span: float, shown: int | None) -> Mark:
    spread = min((each.spread or 0.0) / span, float(WIDTH))
    text = f"{number}: {each.frame.name}, {', '.join(_facts(each))}"
    label = "" if shown is None else str(shown)
    return Mark(round(point[0], 1), round(point[1], 1), round(spread, 1), each.status, label, text)


def _round_length(metres: float) -> int:
    """The longest of 1, 2, 5, 10 … metres that is not longer."""
    unit = 10 ** math.floor(math.log10(max(metres, 1.0)))
    return int(unit * max(step for step in (1, 2, 5) if unit * step <= max(metres, 1.0)))


def _cards(track: Track) -> Sequence[Card]:
    left, cards = PICTURE_BYTES, []
    for number, each in enumerate(track.frames, 1):
        image = each.thumbnail if left > 0 else None
        left -= len(image or b"")
        cards.append(Card(number, each.frame.name, each.status, inline(image), tuple(_facts(each))))
    return cards


def _facts(each: TrackFrame) -> list[str]:
    facts = [clock(each.frame.seconds), each.status]
    if each.place is not None and each.spread is not None:
        facts.append(f"{each.place[0]:.6f}, {each.place[1]:.6f} ± {each.spread:.1f} m")
    if each.heading is not None:
        facts.append(f"heading {angle_text(each.heading)}°")
    if each.status == "outlier" and each.off is not None:
        facts.append(f"its own hits put it {each.off:.0f} m away")
    if each.reason:
        facts.append(each.reason)
    return facts
