"""A collection averaged: each photograph's vector with those of its verified neighbours, in a collection of its own.

Database-side augmentation (Turcot and Lowe, 2009; Arandjelović and Zisserman, CVPR 2012), over neighbours that geometry verified
and with its evidence as their weights, as `outcrop.query.expansion` averages a query. The source stays as it is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.query.expansion import mean_vector
from outcrop.query.neighbours import Neighbours, VerifiedNeighbours
from outcrop.query.verification.originals import Originals
from outcrop.query.verification.pairs import PairsKept
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.errors import InputError, Refused
from outcrop.schema.filters import Filter, asked, equals
from outcrop.schema.item import Item, Kind, item_id
from outcrop.schema.settings import Settings
from outcrop.store.averaged import Averaged
from outcrop.store.bulk import Bulk, Load, load_into
from outcrop.store.collection import Collection
from outcrop.store.transfer import PAGE, require_complete, take_over

NEIGHBOURS = 12
"""Of each photograph, its most similar others that are matched with it."""
ROWS = 256
"""Photographs that are averaged in one go."""
NAMED = 100
"""Photographs whose files are missing and that are named; all are counted."""

Vectors = NDArray[np.float32]
Progress = Callable[[int, str], None]


@dataclass
class Averages:
    """What became of a collection's rows.

    `averaged` photographs have verified neighbours, `alone` ones have none, `missing` ones have no file to be matched by
    (`named`: the first of them, with the reasons): these keep their own vectors. `copied` counts the rows of other kinds. Of the
    neighbours `asked` about, `verified` are; `matched` pairs were matched now, the others were known. `written` rows are new or
    differ from what was there, `removed` ones had gone from the source.
    """

    physical: str
    rows: int
    averaged: int = 0
    alone: int = 0
    missing: int = 0
    named: dict[str, str] = field(default_factory=dict)
    copied: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    verified: int = 0
    matched: int = 0
    written: int = 0
    removed: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        names = (
            "physical",
            "rows",
            "averaged",
            "alone",
            "missing",
            "asked",
            "verified",
            "matched",
            "written",
            "removed",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "copied": dict(sorted(self.copied.items())),
            "named": [{"key": key, "reason": reason} for key, reason in self.named.items()],
            "seconds": round(self.seconds, 1),
        }

    @property
    def text(self) -> str:
        """What was done, in a sentence or two."""
        kept = f"{self.alone} have none that is verified"
        if self.missing:
            kept += f", {self.missing} no file"
        return (
            f"{self.rows} rows in {self.physical}: {self.averaged} photographs averaged with verified neighbours, {kept}; "
            f"{self.matched} pairs matched, {self.verified} of {self.asked} neighbours verified, {self.written} rows written, "
            f"{self.removed} removed, in {self.seconds:.1f} s"
        )

    def note(self, item: Item, found: Neighbours) -> None:
        """Counts a photograph."""
        self.asked += found.asked
        self.verified += len(found.ids)
        if found.missing:
            self.missing += 1
            if len(self.named) < NAMED:
                self.named[item.key] = found.missing
        elif found.ids:
            self.averaged += 1
        else:
            self.alone += 1


def average(
    source: Collection,
    name: str,
    settings: Settings,
    *,
    neighbours: int = NEIGHBOURS,
    where: tuple[str, ...] = (),
    index: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Averages:
    """Makes the collection `name` of the rows of another one that fit `where`, with averaged vectors, or brings it up to date.

    Each photograph is matched with its `neighbours` most similar others; pairs that were matched before are not matched again,
    and rows that are there as they ought to be are not written again, so that what was interrupted goes on. `progress` gets the
    number of rows done, and what was matched. Memory grows with the keys of the photographs alone.

    Raises:
        InputError: there is no photograph that fits, or none whose file is there as it was ingested. RegistryError: the registry,
        which says where they lie, cannot be read.
        Refused: the collection `name` is something else, or the source is averaged itself.
    """
    begun = time.monotonic()
    source.require_plain()
    filter = asked(*where)
    images, rows = filter & equals("kind", str(Kind.IMAGE)), source.count(filter)
    if not source.count(images):
        raise InputError(
            f"collection {source.name!r} holds no photographs (kind image) that fit: nothing can be averaged"
        )
    originals = Originals.of_collection(source, settings)
    with (
        Verifier.below(settings.state, settings.feature_cache_bytes) as verifier,
        PairsKept(settings.state, verifier.source.extractor.fingerprint) as kept,
    ):
        found = VerifiedNeighbours(source, images, neighbours, originals, verifier, kept)
        _require_a_file(source, images, found)
        target = _target(source, name, Averaged(source=source.physical, neighbours=neighbours, where=where), index)
        done = Averages(target.physical, rows)
        writer = _Writer.of(target, Bulk.of(settings), rows, say)
        for items, vectors in chain(_others(source, filter, done), _averaged(source, images, found, done)):
            writer.write(items, vectors)
            if progress is not None:
                progress(writer.seen, f"{found.matched} pairs matched, {done.verified} neighbours verified")
        writer.load.close()
    require_complete(source, writer.seen, rows)
    done.matched, done.written = found.matched, writer.written
    done.removed = _finish(source, filter, target, rows)
    done.seconds = time.monotonic() - begun
    return done


def _require_a_file(source: Collection, images: Filter, found: VerifiedNeighbours) -> None:
    """That there is one photograph at least which can be matched: otherwise every vector would stay as it is.

    Raises:
        InputError: there is none, and why the first cannot be.
    """
    first = ""
    for items, _ in source.scan(images, batch=ROWS):
        for item in items:
            if not (reason := found.why_not(item)):
                return
            first = first or reason
    raise InputError(
        f"not one photograph of collection {source.name!r} can be matched with others, so that nothing can be averaged: {first}"
    )


def _finish(source: Collection, filter: Filter, target: Collection, rows: int) -> int:
    """Removes what the source has no more, waits for the index, and says that the collection is whole; returns how many went."""
    target.flush()
    removed = _remove_gone(source, filter, target, rows)
    if removed:
        target.flush()
    require_complete(target, rows, target.count())
    target.wait_for_index()
    target.wait_until_served()
    if target.averaged is not None:
        target.say_averaged(target.averaged.model_copy(update={"finished": True}))
    return removed


def _target(source: Collection, name: str, averaged: Averaged, index: str | None) -> Collection:
    """The collection to write: new, or one that was averaged from the same source; an empty one is taken too."""
    there = Collection.find(source.store, name)
    if there is not None:
        _require_ours(there, source)
    target = Collection.ensure(source.store, name, source.space, index=index, weights=source.weights_hint)
    target.say_averaged(averaged)
    take_over(source, target)
    return target


def _require_ours(there: Collection, source: Collection) -> None:
    if there.physical == source.physical:
        raise Refused(f"{there.name!r} is the collection to be averaged; its vectors stay: give the name of a new one")
    of_it = there.averaged is not None and there.averaged.source == source.physical
    if there.space.fingerprint != source.space.fingerprint or not (
        of_it or (there.averaged is None and not there.count())
    ):
        raise Refused(
            f"collection {there.name!r} exists and was not averaged from {source.physical}; give another name"
        )


def _others(source: Collection, filter: Filter, done: Averages) -> Iterator[tuple[list[Item], Vectors]]:
    """The rows that are no photographs, as they are."""
    for kind in Kind:
        if kind is not Kind.IMAGE:
            for items, vectors in source.scan(filter & equals("kind", str(kind)), vectors=True, batch=PAGE):
                done.copied[str(kind)] += len(items)
                yield items, vectors


def _averaged(
    source: Collection, images: Filter, found: VerifiedNeighbours, done: Averages
) -> Iterator[tuple[list[Item], Vectors]]:
    """The photographs with averaged vectors, by their keys: neighbours in flight are matched while their features are at hand."""
    keys = sorted(row["key"] for page in source.scan_rows(images, ["id", "key"], check=False) for row in page)
    for start in range(0, len(keys), ROWS):
        stored = source.items([item_id(key) for key in keys[start : start + ROWS]])
        items, own = [item for item, _ in stored.values()], np.stack([vector for _, vector in stored.values()])
        neighbours = found.of(items, own)
        others = source.items(sorted({id for each in neighbours for id in each.ids}))
        for row, (item, each) in enumerate(zip(items, neighbours, strict=True)):
            done.note(item, each)
            if each.ids:
                verified = np.stack([others[id][1] for id in each.ids])
                own[row] = mean_vector(own[row][None], verified, np.array(each.evidence, np.float64))
        yield items, own


@dataclass
class _Writer:
    """Writes rows that are not there yet as they ought to be."""

    target: Collection
    load: Load
    fresh: bool
    seen: int = 0
    written: int = 0

    @classmethod
    def of(cls, target: Collection, bulk: Bulk | None, rows: int, say: Callable[[str], None] | None) -> _Writer:
        """Into a collection without rows many go in files, where that is set up."""
        fresh = not target.count()
        return cls(target, load_into(target, bulk if fresh else None, rows, say), fresh)

    def write(self, items: list[Item], vectors: Vectors) -> None:
        """Takes items with their vectors [N, D]."""
        self.seen += len(items)
        there = {} if self.fresh else self.target.items([item.id for item in items], check=False)
        new = [n for n, item in enumerate(items) if not _same(there.get(item.id), item, vectors[n])]
        if new:
            self.load.add([items[n] for n in new], vectors[new])
            self.written += len(new)


def _same(there: tuple[Item, Vectors] | None, item: Item, vector: Vectors) -> bool:
    return there is not None and there[0] == item and np.array_equal(there[1], vector)


def _remove_gone(source: Collection, filter: Filter, target: Collection, rows: int) -> int:
    """Removes the rows that the source has no more under the filter, where there are any; returns how many."""
    if target.count() <= rows:
        return 0
    kept = {row["id"] for page in source.scan_rows(filter, ["id"], check=False) for row in page}
    gone = [row["id"] for page in target.scan_rows(None, ["id"], check=False) for row in page if row["id"] not in kept]
    target.delete(gone)
    return len(gone)
