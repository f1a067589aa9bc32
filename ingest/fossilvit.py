"""The layout of FossilViT: features of the views, pooled embeddings, and neighbours, by category and specimen.

::

    features/<category…>/<specimen>.npy     [V, D]  the views' vectors, in their order
    embeddings/<category…>/<specimen>.npy   [D]     the specimen's vector
    embeddings/embeddings.npy               [N, D]  all of them
    embeddings/ids.txt                              their names, <category…>/<specimen>, a line each
    results/knn_<query_id>.csv                      query_id, neighbor_id, distance (1 - cosine), the nearest first

In file names of `results`, the slashes of a category are two underscores (``%2F`` where two names would be one).
"""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from outcrop.ingest.layouts import SPACE_FILE, Bundle, Vectors, load_array, require_below, save_array, write_space
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import Item, Kind, part, specimen_key, view_key
from outcrop.store.collection import Collection
from outcrop.store.topk import TopK
from outcrop.store.transfer import require_complete

NEIGHBOURS = 10
"""Rows of a ``knn_<query_id>.csv``."""
_BLOCK = 1024


class FossilVit:
    """See the module."""

    name = "fossilvit"
    folders: Sequence[str] = ("features", "embeddings")
    numbered: Mapping[str, str] = MappingProxyType({"results": "knn_*.csv"})

    def write(
        self, collection: Collection, folder: Path, filter: Filter, progress: Callable[[int], None] | None = None
    ) -> int:
        """Writes the specimens and views that a filter keeps; returns how many vectors.

        Raises:
            InputError: there are none, or they are of several datasets: names of specimens are unique only within a dataset.
        """
        with tempfile.TemporaryDirectory(prefix=".vectors-", dir=folder) as scratch:
            pooled = _Gathered.of(collection, filter, Kind.SPECIMEN, Path(scratch))
            views = _Gathered.of(collection, filter, Kind.VIEW, Path(scratch))
            datasets = pooled.datasets | views.datasets
            if len(datasets) != 1:
                known = ", ".join(sorted(datasets))
                raise InputError(
                    f"specimens of several datasets ({known}) do not fit one tree; add --where dataset=NAME"
                    if datasets
                    else f"collection {collection.name!r} holds no specimens that fit; see `collection describe`"
                )
            if "embeddings" in pooled.names:  # its file is that of all specimens
                raise InputError(
                    "rename the specimen 'embeddings', or give it a category: its file is the whole gallery's"
                )
            written = _write_views(folder, views, progress)
            for name, vector in zip(pooled.names, pooled.vectors, strict=True):
                save_array(require_below(folder, folder / "embeddings" / f"{name}.npy"), vector)
                written += 1
            if pooled.names:
                save_array(folder / "embeddings/embeddings.npy", pooled.vectors)
                with whole_file(folder / "embeddings/ids.txt") as file:
                    file.write_text("".join(f"{name}\n" for name in pooled.names), encoding="utf-8")
                _write_neighbours(folder / "results", pooled.names, pooled.vectors)
        if progress is not None:
            progress(written)
        write_space(folder, collection.space)
        return written

    def bundles(self, folder: Path, dataset: str) -> Iterator[Bundle]:
        """Lists the specimens below a folder, by name.

        Raises:
            InputError: there is neither ``features`` nor ``embeddings`` in it.
        """
        features = {name: path for name, path in _arrays(folder / "features")}
        embeddings = {name: path for name, path in _arrays(folder / "embeddings") if name != "embeddings"}
        if not features and not embeddings:
            raise InputError(
                f"{folder} holds neither features/**/*.npy nor embeddings/**/*.npy; give the folder above them"
            )
        ours = (folder / SPACE_FILE).exists()  # only names that `write` made are percent-encoded
        for name in sorted(features.keys() | embeddings.keys()):
            category, _, specimen = name.rpartition("/")
            names = (dataset, *((unquote(category), unquote(specimen)) if ours else (category, specimen)))
            yield _bundle(folder, names, features.get(name), embeddings.get(name))


@dataclass(frozen=True)
class _Gathered:
    """Items of one kind, ordered by name and view: their `names` [N], and their `vectors` [N, D] on disk, mapped."""

    names: list[str]
    vectors: Vectors
    datasets: set[str]

    @classmethod
    def of(cls, collection: Collection, filter: Filter, kind: Kind, scratch: Path) -> _Gathered:
        """Those that a filter keeps. Their names are read first, so that every vector goes straight to its place: memory
        holds no more than a page of them.

        Raises:
            OutcropError: rows came or went meanwhile.
        """
        chosen = filter & equals("kind", str(kind))
        listed: list[tuple[str, int, str]] = []
        datasets: set[str] = set()
        for items, _ in collection.scan(chosen):
            listed += [(_name(item), item.view, item.id) for item in items]
            datasets |= {item.dataset for item in items}
        listed.sort()
        place = {id: number for number, (_, _, id) in enumerate(listed)}
        shape = (len(listed), collection.space.dim)
        if not listed:
            return cls([], np.empty(shape, np.float32), datasets)
        vectors: Vectors = np.memmap(scratch / str(kind), np.float32, "w+", shape=shape)
        read = 0
        for items, rows in collection.scan(chosen, vectors=True):
            for item, row in zip(items, rows, strict=True):
                if item.id in place:
                    vectors[place[item.id]] = row
            read += len(items)
        require_complete(collection, read, len(listed))
        return cls([name for name, _, _ in listed], vectors, datasets)


def _write_views(folder: Path, views: _Gathered, progress: Callable[[int], None] | None) -> int:
    """One file for the views of each specimen; returns how many views."""
    start = 0
    for name, group in groupby(views.names):
        stop = start + sum(1 for _ in group)
        save_array(require_below(folder, folder / "features" / f"{name}.npy"), views.vectors[start:stop])
        start = stop
        if progress is not None:
            progress(stop)
    return start


def _bundle(folder: Path, names: tuple[str, str, str], features: Path | None, embedding: Path | None) -> Bundle:
    dataset, category, specimen = names
    files = tuple(path for path in (features, embedding) if path is not None)
    count = 0
    if features is not None:
        try:
            shape = load_array(features, (2,)).shape
        except InputError:
            shape = (0,)  # whoever loads it says why
        count = shape[0]
    items = [
        Item(
            view_key(dataset, category, specimen, view),
            Kind.VIEW,
            dataset,
            specimen,
            category=category,
            view=view,
            source=_relative(features, folder),
        )
        for view in range(count)
        if features is not None
    ]
    pooled = Item(
        specimen_key(dataset, category, specimen),
        Kind.SPECIMEN,
        dataset,
        specimen,
        category=category,
        source=_relative(embedding or features, folder),
    )

    return Bundle(files[0], (*items, pooled), files, partial(_load, features, embedding))


def _load(features: Path | None, embedding: Path | None) -> NDArray[np.float32]:
    """The views and the pooled vector of a specimen [V + 1, D]; what is missing is left out, or pooled."""
    rows = load_array(features, (2,)) if features is not None else None
    if embedding is not None:
        one = load_array(embedding, (1,))
    else:
        from outcrop.embed.pooling import pooled as pool

        assert rows is not None  # one of the two is there
        exact = np.asarray(rows, dtype=np.float32)
        one = pool(exact / np.linalg.norm(exact, axis=1, keepdims=True), "mean")
    if rows is not None and rows.shape[1] != one.shape[0]:
        raise InputError(f"{embedding} holds {one.shape[0]} numbers, {features} {rows.shape[1]} a view")
    return np.concatenate([rows, one[None]]) if rows is not None else np.asarray(one)[None]


def _write_neighbours(folder: Path, names: list[str], gallery: Vectors) -> None:
    """One file per specimen, the query itself left out; block by block, so that memory stays bounded."""
    folder.mkdir(parents=True, exist_ok=True)
    most = min(NEIGHBOURS, len(names) - 1)
    plain = Counter(name.replace("/", "__") for name in names)
    numbers = np.array([f"{n:08d}" for n in range(len(names))])
    for start in range(0, len(names), _BLOCK):
        best = TopK(gallery[start : start + _BLOCK], most + 1)
        best.add(numbers, gallery)
        for row, query in enumerate(names[start : start + _BLOCK]):
            others = [(score, int(n)) for score, n in best.best(row) if int(n) != start + row][:most]
            shown = query.replace("/", "__")
            shown = shown if plain[shown] == 1 else query.replace("/", "%2F")
            path = require_below(folder, folder / f"knn_{shown}.csv")
            with whole_file(path) as file, file.open("w", newline="", encoding="utf-8") as opened:
                lines = csv.writer(opened)
                lines.writerow(("query_id", "neighbor_id", "distance"))
                lines.writerows((query, names[n], f"{1 - score:.6f}") for score, n in others)


def _name(item: Item) -> str:
    """``<category…>/<specimen>``, with characters that file names must not hold percent-encoded."""
    levels = [part(level) for level in item.category.split("/")] if item.category else []
    return "/".join([*levels, part(item.capture_id)])


def _arrays(folder: Path) -> Iterator[tuple[str, Path]]:
    """The arrays below a folder with their names, relative and without ending, by name."""
    for path in sorted(folder.rglob("*.npy")):
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            yield path.relative_to(folder).with_suffix("").as_posix(), path


def _relative(path: Path | None, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path is not None else ""
