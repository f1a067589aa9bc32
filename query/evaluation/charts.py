"""Charts as inline SVG: recall@k of one or several strategies, with the bands of their intervals.

Colours are those of Okabe and Ito, distinguishable with any colour vision; lines differ in their dashes and marks as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from outcrop.query.evaluation.figures import Figures

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499")
DASHES = ("", "7 4", "2 3", "9 3 2 3")
MARKS = ("circle", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Line:
    """A strategy's curve in pixels: the `path`, the `band` around it, marks at the cutoffs, and its name at the end."""

    name: str
    colour: str
    dash: str
    path: str
    band: str
    marks: tuple[str, ...]
    label_x: float
    label_y: float


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in pixels, and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart of recall@k: `left`, `top`, `right` and `bottom` bound the field, in pixels of `width` x `height`."""

    title: str
    width: int
    height: int
    left: float
    top: float
    right: float
    bottom: float
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    cut: bool
    """Whether the vertical axis begins above 0."""


def recall_chart(
    named: Sequence[tuple[str, Figures]],
    cutoffs: Sequence[int],
    *,
    title: str = "",
    width: int = 620,
    height: int = 320,
    lowest: float = 0.0,
    labels: bool = True,
) -> Chart:
    """The curves of recall@k, k to the largest cutoff; the vertical axis runs from `lowest` (0 to 1) to 1.

    `labels` writes the strategies' names beside the ends of their lines.
    """
    most = max(cutoffs)
    left, top, right, bottom = 44.0, 12.0, width - (130.0 if labels else 12.0), height - 34.0

    def x(k: float) -> float:
        # A root spreads the small k, where curves differ, without hiding where 10 and 20 are.
        return left + 8 + (right - left - 16) * (math.sqrt(k) - 1) / max(math.sqrt(most) - 1, 1e-9)

    def y(share: float) -> float:
        return bottom - (bottom - top) * (max(share, lowest) - lowest) / (1 - lowest)

    lines = []
    beside = _beside([(y(figures.curve[-1].value), y(figures.curve[0].value)) for _, figures in named])
    for number, (name, figures) in enumerate(named):
        points = [(x(k), y(estimate.value)) for k, estimate in enumerate(figures.curve, 1)]
        high = [(x(k), y(estimate.high)) for k, estimate in enumerate(figures.curve, 1)]
        low = [(x(k), y(estimate.low)) for k, estimate in enumerate(figures.curve, 1)]
        style = number % len(COLOURS)
        lines.append(
            Line(
                name,
                COLOURS[style],
                DASHES[style],
                _path(points),
                _path(high + low[::-1]) + "Z",
                tuple(_mark(MARKS[style], *points[k - 1]) for k in cutoffs),
                round(right + 10, 1),
                round(beside[number] + 4, 1),
            )
        )
    return Chart(
        title,
        width,
        height,
        left,
        top,
        right,
        bottom,
        tuple(lines),
        tuple(Tick(round(x(k), 1), str(k)) for k in cutoffs),
        tuple(Tick(round(y(share), 1), f"{share:.0%}") for share in _shares(lowest)),
        lowest > 0,
    )


def floor_of(figures: Sequence[Figures]) -> float:
    """Where the vertical axis may begin so that every band is in the field: 0, 0.5 or 0.8."""
    least = min((estimate.low for figure in figures for estimate in figure.curve), default=0.0)
    return 0.8 if least >= 0.82 else 0.5 if least >= 0.54 else 0.0


def _beside(ends: Sequence[tuple[float, float]]) -> list[float]:
    """Heights of names beside the ends of lines, not overlapping; lines that end together are ordered by their beginnings."""
    places = [0.0] * len(ends)
    free = -1e9
    for number in sorted(range(len(ends)), key=lambda n: ends[n]):
        places[number] = max(ends[number][0], free)
        free = places[number] + 14
    return places


def _shares(lowest: float) -> list[float]:
    step = (1 - lowest) / 4 if lowest != 0.5 else 0.1
    return [lowest + step * i for i in range(round((1 - lowest) / step) + 1)]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _mark(kind: str, x: float, y: float) -> str:
    """The outline of a mark of about 8 pixels, as a path."""
    if kind == "circle":
        return f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z"
    if kind == "square":
        return f"M{x - 3.6:.1f} {y - 3.6:.1f}h7.2v7.2h-7.2Z"
    if kind == "diamond":
        return f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5Z"
    return f"M{x:.1f} {y - 5:.1f}l4.8 8.6h-9.6Z"
