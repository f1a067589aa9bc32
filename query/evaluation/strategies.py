"""The batches of an evaluation: the same queries, searched in one or several ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from outcrop.embed.protocol import PictureEncoder
from outcrop.query.answers import Query, Result, Results
from outcrop.query.evaluation.evaluate import without_own
from outcrop.query.evaluation.gallery import Gallery
from outcrop.query.pictures import NOTHING_ASSUMED
from outcrop.query.search import BATCH, Grouping, query_images
from outcrop.schema.errors import PictureError
from outcrop.schema.filters import Filter
from outcrop.schema.ground import Footing
from outcrop.store.collection import Collection

AT_ONCE = 16
"""Queries that go through the slower steps together; progress is reported after each batch."""

Step = Callable[[Results], Results]


def picture_answers(
    files: Sequence[Path],
    encoder: PictureEncoder,
    collection: Collection,
    k: int,
    filter: Filter | None = None,
    *,
    exact: bool = False,
    turns: int = 0,
    assumed: Footing = NOTHING_ASSUMED,
    expandable: bool = False,
) -> Iterator[Results]:
    """The best `k` items for each picture file, in batches: memory does not grow with their number.

    With `turns`, each picture is turned `turns` times instead, and the images alone are searched (`query_images`; `assumed` and
    `expandable` as there). One that cannot be read gets an `error`, even where it is the only one.
    """
    for start in range(0, len(files), BATCH):
        some = files[start : start + BATCH]
        try:
            group: Grouping = "auto" if turns else "none"
            how: dict[str, Any] = {"exact": exact, "group": group, "turns": turns, "assumed": assumed}
            yield query_images(some, encoder, collection, k, filter, expandable=expandable, **how)
        except PictureError as error:
            yield Results(collection.name, None, tuple(Result(Query(str(path)), error=str(error)) for path in some))


def in_steps(
    answers: Mapping[str, Iterable[Results]], gallery: Gallery, own_counted: bool, steps: Mapping[str, Step]
) -> Iterator[dict[str, Results]]:
    """Batches for `evaluate`: answers to the same queries by strategy, and for each what every step makes of it.

    A step on the first strategy is a strategy of the step's name; on another one, of both names. What is never an answer
    is taken out first, so that a re-ranking looks at `depth` candidates that count.
    """
    for batches in zip(*answers.values(), strict=True):
        for start in range(0, len(batches[0].results), AT_ONCE):
            made: dict[str, Results] = {}
            for number, (name, batch) in enumerate(zip(answers, batches, strict=True)):
                timings = batch.timings if not start else {}  # of the whole batch: counted once
                some = replace(batch, results=batch.results[start : start + AT_ONCE], timings=timings)
                made[name] = without_own(some, gallery, own_counted)
                made |= {f"{name}, {step}" if number else step: make(made[name]) for step, make in steps.items()}
            yield made
