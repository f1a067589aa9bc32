"""Near-duplicates: items made of the very same file, and items whose vectors are as alike as a threshold, in groups.

Nothing is deleted: an answer names the groups, and in each the item that is best kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from outcrop.query.alike_pairs import Pairs, VectorFile, alike_pairs
from outcrop.schema.digests import SourceDigest
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import Kind
from outcrop.store.collection import Collection

KINDS = (Kind.IMAGE, Kind.SPECIMEN)
"""What is compared where no kind is asked for: references and views are parts of these."""
MAX_PAIRS = 5_000_000
"""Pairs that are kept for geometry to verify."""

Verify = Callable[[str, str], bool]
"""Whether the photographs of two ids show the same."""


@dataclass(frozen=True)
class Duplicates:
    """A group: ids, and of each the highest similarity with another of the group. `identical` says that all were made of the
    same bytes."""

    kind: Kind
    ids: tuple[str, ...]
    scores: tuple[float, ...]
    identical: bool


@dataclass
class _Rows:
    """Items of one kind, and the groups so far: `label` names the first item of each item's group."""

    ids: list[str]
    files: list[str]
    label: NDArray[np.int64] = field(init=False)
    best: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.label = np.arange(len(self.ids))
        self.best = np.full(len(self.ids), -1.0)

    def join(self, one: int, other: int) -> None:
        """Makes one group of two items' groups."""
        first, second = sorted((int(self.label[one]), int(self.label[other])))
        if first != second:
            self.label[self.label == second] = first


def find_duplicates(
    collection: Collection,
    threshold: float,
    filter: Filter | None = None,
    *,
    verify: Verify | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Duplicates]:
    """The groups of items that a filter keeps, largest first: items are in one group where a chain of pairs joins them that were
    made of the same bytes, or whose vectors have a similarity of at least `threshold`. With `verify`, the latter count only where
    it says so; it is asked for the most alike first, and not for what is already in one group.

    Images are compared with images, specimens with specimens. Vectors are kept in a temporary file and compared block by block
    (see `alike_pairs`): memory grows with the ids alone. `progress` gets the number of items that were compared with all.

    Raises:
        InputError: the threshold is not a similarity, or `verify` would have more than `MAX_PAIRS` pairs to look at.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"--threshold must be a similarity above 0 and at most 1, got {threshold:g}")
    filter = filter or Filter()
    chosen = filter.chosen("kind")
    groups: list[Duplicates] = []
    done = 0
    for kind in KINDS if chosen is None else (Kind(name) for name in chosen):
        alike = filter & equals("kind", str(kind))
        with VectorFile(collection.dim) as vectors:
            rows = _read(collection, alike, vectors)
            _join_same_files(rows)
            pairs = _counted(alike_pairs(vectors, threshold), done, progress)
            _join_alike(rows, pairs) if verify is None else _join_verified(rows, pairs, verify)
        groups += _groups(rows, kind)
        done += len(rows.ids)
    return sorted(groups, key=lambda group: (-len(group.ids), group.ids))


def _read(collection: Collection, filter: Filter, vectors: VectorFile) -> _Rows:
    """The items that a filter keeps; their vectors go into a file, in the same order."""
    ids: list[str] = []
    files: list[str] = []
    for page in collection.scan_rows(filter, ["id", "source_digest", "vector"]):
        ids += [row["id"] for row in page]
        files += [SourceDigest.parse(row["source_digest"]).file for row in page]
        vectors.add(np.asarray([row["vector"] for row in page], dtype=np.float32))
    return _Rows(ids, files)


def _join_same_files(rows: _Rows) -> None:
    first: dict[str, int] = {}
    for number, file in enumerate(rows.files):
        if file:
            rows.label[number] = first.setdefault(file, number)
    sizes = np.bincount(rows.label, minlength=len(rows.ids))
    rows.best[sizes[rows.label] > 1] = 1.0


def _counted(pairs: Iterator[Pairs], done: int, progress: Callable[[int], None] | None) -> Iterator[Pairs]:
    for part in pairs:
        if progress is not None:
            progress(done + part[0])
        yield part


def _join_alike(rows: _Rows, pairs: Iterator[Pairs]) -> None:
    for _, i, j, scores in pairs:
        if not len(i):
            continue
        np.maximum.at(rows.best, i, scores)
        np.maximum.at(rows.best, j, scores)
        apart = np.unique(np.stack((rows.label[i], rows.label[j])), axis=1)
        for one, other in apart.T[apart[0] != apart[1]].tolist():
            rows.join(one, other)


def _join_verified(rows: _Rows, pairs: Iterator[Pairs], verify: Verify) -> None:
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    count = 0
    for _, i, j, scores in pairs:
        apart = rows.label[i] != rows.label[j]
        kept.append((i[apart], j[apart], scores[apart]))
        count += len(kept[-1][0])
        if count > MAX_PAIRS:
            raise InputError(
                f"more than {MAX_PAIRS:,} pairs are so alike; raise --threshold, or choose fewer with --where"
            )
    if not kept:
        return
    i, j, scores = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    for pair in np.lexsort((j, i, -scores)).tolist():
        one, other = int(i[pair]), int(j[pair])
        if rows.label[one] != rows.label[other] and verify(rows.ids[one], rows.ids[other]):
            rows.join(one, other)
            rows.best[[one, other]] = np.maximum(rows.best[[one, other]], scores[pair])


def _groups(rows: _Rows, kind: Kind) -> list[Duplicates]:
    order = np.argsort(rows.label, kind="stable")
    _, starts = np.unique(rows.label[order], return_index=True)
    found = []
    for members in np.split(order, starts[1:]):
        if len(members) > 1:
            files = {rows.files[row] for row in members}
            ids = tuple(rows.ids[row] for row in members)
            found.append(Duplicates(kind, ids, tuple(rows.best[members].tolist()), len(files) == 1 and files != {""}))
    return found
