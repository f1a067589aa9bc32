"""An evaluation as a self-contained HTML page: curves with intervals, splits, and the worst failures as pictures.

Nothing is fetched when it is opened: pictures are inlined, there is no script. Sources are never reopened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.evaluation.charts import Chart, floor_of, recall_chart
from outcrop.query.evaluation.figures import Answer, Evaluation, Outcome
from outcrop.query.evaluation.splits import AXES
from outcrop.query.evaluation.table import card, columns, rank, remark, rows
from outcrop.query.pages import inline, render, write_whole


@dataclass(frozen=True)
class Shown:
    """A picture of a failure: what it is, its key, remarks, and the thumbnail as a data URI ('' where none was kept)."""

    role: str
    name: str
    facts: tuple[str, ...]
    image: str


@dataclass(frozen=True)
class Failure:
    """A query whose first answer was wrong, the best wrong answer, and the right one."""

    title: str
    pictures: tuple[Shown, ...]


def write_page(
    found: Evaluation, path: Path, thumbnails: ThumbnailStore, *, worst: int = 12, title: str = "Outcrop evaluation"
) -> Path:
    """Writes the page to `path`, replacing it whole, and returns `path`. The `worst` failures shown are the last strategy's.

    Raises:
        InputError: the file cannot be written.
    """
    last = found.strategies[-1]
    everything = [
        figures for s in found.strategies for figures in (s.overall, *(f for c in s.splits.values() for _, f in c))
    ]
    lowest = floor_of(everything)
    page = render(
        "evaluation/page.html.j2",
        title=title,
        found=found,
        remark=remark(found),
        columns=columns(found),
        rows=rows(found),
        cards=[(strategy.name, card(found, strategy.overall)) for strategy in found.strategies],
        overall=recall_chart([(s.name, s.overall) for s in found.strategies], found.cutoffs, lowest=lowest),
        splits=[(axis, charts) for axis in AXES if len(charts := _split_charts(found, axis, lowest)) > 1],
        failures=[_failure(outcome, found, thumbnails) for outcome in last.worst(worst)],
        failed=sum(outcome.first > 1 for outcome in last.outcomes),
        last=last.name,
    )
    return write_whole(path, page)


def _split_charts(found: Evaluation, axis: str, lowest: float) -> list[Chart]:
    """One small chart for each class, with every strategy in it: strategies are compared within a class."""
    charts = []
    for number, (label, figures) in enumerate(found.strategies[0].splits[axis]):
        named = [(s.name, s.splits[axis][number][1]) for s in found.strategies]
        count = f"{figures.queries} quer{'y' if figures.queries == 1 else 'ies'}"
        charts.append(
            recall_chart(
                named, found.cutoffs, title=f"{label} · {count}", width=260, height=190, lowest=lowest, labels=False
            )
        )
    return charts


def _failure(outcome: Outcome, found: Evaluation, thumbnails: ThumbnailStore) -> Failure:
    query = outcome.query
    place = rank(outcome.first, found.depth)
    image = query.thumbnail
    if image is None and query.item is not None:
        image = thumbnails.read(query.item.id)
    altitude = (f"{outcome.facts.altitude:g} m above ground",) if outcome.facts.altitude else ()
    right = (
        _answer("first right answer", outcome.right, thumbnails)
        if outcome.right is not None
        else Shown(
            "should have been found",
            outcome.wanted.key,
            (f"not among the first {found.depth}",),
            inline(thumbnails.read(outcome.wanted.id)),
        )
    )
    wrong = () if outcome.wrong is None else (_answer("best wrong answer", outcome.wrong, thumbnails),)
    nothing = () if outcome.answered else (Shown("no answer", "no match was found", (), ""),)
    of = f"{outcome.relevant} relevant in the gallery"
    return Failure(
        f"right answer at rank {place}",
        (Shown("query", query.name, (*altitude, of), inline(image)), *wrong, *nothing, right),
    )


def _answer(role: str, answer: Answer, thumbnails: ThumbnailStore) -> Shown:
    facts = [f"rank {answer.rank}, score {answer.score:.4f}"]
    facts += [f"{answer.inliers} inliers"] if answer.inliers is not None else []
    facts += [f"{answer.item.altitude:g} m above ground"] if answer.item.altitude else []
    return Shown(role, answer.item.key, tuple(facts), inline(thumbnails.read(answer.item.id)))
