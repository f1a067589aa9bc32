"""The batches that an evaluation goes through: the same queries, asked in one or several ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from embed.protocol import PictureEncoder
from query.answers import Query, Result, Results
from query.evaluate import without_own
from query.gallery import Gallery
from query.search import BATCH, query_images
from schema.errors import PictureError
from schema.filters import Filter
from store.collection import Collection

AT_ONCE = 16
"""Queries that go through the slower steps together: so often progress is told."""

Step = Callable[[Results], Results]


def picture_answers(
    files: Sequence[Path],
    encoder: PictureEncoder,
    collection: Collection,
    k: int,
    filter: Filter | None = None,
    *,
    exact: bool = False,
) -> Iterator[Results]:
    """The best `k` items for each picture file, in batches: memory does not grow with their number.

    One that cannot be read gets an `error`, even where it is the only one.
    """
    for start in range(0, len(files), BATCH):
        some = files[start : start + BATCH]
        try:
            yield query_images(some, encoder, collection, k, filter, exact=exact, group="none")
        except PictureError as error:
            yield Results(collection.name, None, tuple(Result(Query(str(path)), error=str(error)) for path in some))


def in_steps(
    answers: Iterable[Results], gallery: Gallery, own_counted: bool, steps: Mapping[str, Step]
) -> Iterator[dict[str, Results]]:
    """Batches for `evaluate`: the strategy "embedding" is the answers themselves, and each step makes another one of them.

    What is no answer in any case is taken out first, so that a re-ranking looks at `depth` candidates that count.
    """
    for batch in answers:
        for start in range(0, len(batch.results), AT_ONCE):
            timings = batch.timings if not start else {}  # of the whole batch: counted once
            some = replace(batch, results=batch.results[start : start + AT_ONCE], timings=timings)
            plain = without_own(some, gallery, own_counted)
            yield {"embedding": plain, **{name: step(plain) for name, step in steps.items()}}
