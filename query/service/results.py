"""The results that the service shows beside its collection: clusterings (`query cluster --output`) and pages of evaluations.

They lie in one folder, `OUTCROP_SERVE_RESULTS`; what is not listed there is not to be had, whatever an address says.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.query.clusters.cluster import UNASSIGNED
from outcrop.query.clusters.files import JSON, PARQUET
from outcrop.schema.errors import InputError
from outcrop.schema.item import item_id

KEPT = 2
"""Clusterings that stay in memory."""
MOST_BYTES = 2**30
"""Of a clustering's table: more is not read."""
MOST_CORNERS = 400
TITLE = b"<title>"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Listed:
    """A clustering in the folder: its name there, and what its summary says."""

    name: str
    items: int
    clusters: int
    unassigned: int
    method: str


@dataclass(frozen=True)
class Clustering:
    """A clustering as it was written: its `summary`, and its rows by key, one array [N] for each column."""

    name: str
    summary: dict[str, Any]
    keys: tuple[str, ...]
    facts: dict[str, tuple[str, ...]]
    ids: NDArray[np.int64]
    probability: NDArray[np.float64]
    places: NDArray[np.float64]
    """Where each row lies on the map [N, 2], from 0 to 1; NaN where it is not on it."""

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """The rows that are on the map."""
        return np.flatnonzero(~np.isnan(self.places[:, 0]))

    @cached_property
    def number_of(self) -> dict[str, int]:
        """The row of each key."""
        return {key: number for number, key in enumerate(self.keys)}

    def item_id(self, row: int) -> str:
        """The primary key of a row's item."""
        return item_id(self.keys[row])

    def chosen(self, clusters: tuple[int, ...], lasso: tuple[tuple[float, float], ...]) -> Mask:
        """The rows of these clusters (-1: in none) that lie within the lasso; either alone says nothing of the other."""
        mask = np.ones(len(self), dtype=bool)
        if clusters:
            mask &= np.isin(self.ids, clusters)
        if lasso:
            mask &= within(self.places, lasso)
        return mask


class ResultFolder:
    """The folder of results; any thread may use it."""

    def __init__(self, folder: Path, collection: str) -> None:
        self.folder, self.collection = folder, collection
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[int, Clustering]] = OrderedDict()

    def clusterings(self) -> list[Listed]:
        """The clusterings of the collection, by name; folders that cannot be read are left out."""
        found = []
        for path in self._inside():
            summary = _summary(path) if path.is_dir() else None
            if summary is not None and summary.get("collection") == self.collection:
                found.append(_listed(path.name, summary))
        return [one for one in found if one is not None]

    def clustering(self, name: str) -> Clustering:
        """A clustering by the name of its folder.

        Raises:
            InputError: there is no such clustering of the collection, or its files are damaged.
        """
        if name not in {one.name for one in self.clusterings()}:
            raise InputError(f"there is no clustering {name[:100]!r} here; see /clusters")
        path = self.folder / name
        with self._lock:
            changed = (path / PARQUET).stat().st_mtime_ns if (path / PARQUET).is_file() else 0
            known = self._known.get(name)
            if known is None or known[0] != changed:
                known = changed, _read(path)
            self._known[name] = known
            self._known.move_to_end(name)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return known[1]

    def evaluations(self) -> list[str]:
        """The names of the pages of evaluations."""
        return [path.name for path in self._inside() if path.suffix == ".html" and _is_evaluation(path)]

    def evaluation(self, name: str) -> bytes:
        """A page of an evaluation by its name.

        Raises:
            InputError: there is none.
        """
        if name not in self.evaluations():
            raise InputError(f"there is no evaluation {name[:100]!r} here; see /clusters")
        return (self.folder / name).read_bytes()

    def _inside(self) -> list[Path]:
        """What lies in the folder, by name; links that lead out of it are not followed."""
        try:
            root = self.folder.resolve()
            return sorted(path for path in self.folder.iterdir() if path.resolve().is_relative_to(root))
        except OSError:
            return []


def _summary(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((path / JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _listed(name: str, summary: dict[str, Any]) -> Listed | None:
    try:
        return Listed(
            name,
            int(summary["items"]),
            len(summary["clusters"]),
            int(summary["unassigned"]),
            str(summary["recipe"]["method"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _read(path: Path) -> Clustering:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["key", "kind", "dataset", "category", "cluster_id", "prob", "x", "y"]
    try:
        if (path / PARQUET).stat().st_size > MOST_BYTES:
            raise InputError(f"the clustering {path.name} has more than {MOST_BYTES:,} bytes; cluster fewer items")
        table = pq.read_table(path / PARQUET, columns=names)
        summary = _summary(path)
        if summary is None:
            raise ValueError(JSON)
        text = {name: tuple(map(str, table[name].to_pylist())) for name in names[:4]}
        across, down = (table[name].to_numpy().astype(np.float64) for name in ("x", "y"))
        return Clustering(
            path.name,
            summary,
            text["key"],
            text,
            table["cluster_id"].to_numpy().astype(np.int64),
            table["prob"].to_numpy().astype(np.float64),
            np.stack([across, down], axis=1),
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        raise InputError(f"the clustering {path.name} cannot be read ({PARQUET}, {JSON}); cluster again") from None


def _is_evaluation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            begin = file.read(4096)
    except OSError:
        return False
    return b"<title>Outcrop evaluation" in begin


def within(places: NDArray[np.float64], corners: tuple[tuple[float, float], ...]) -> Mask:
    """Which places [N, 2] lie within a polygon: a ray to the right crosses its edges an odd number of times. NaN lies in none."""
    inside = np.zeros(len(places), dtype=bool)
    x, y = places[:, 0], places[:, 1]
    for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if y1 == y2:
            continue
        crosses = (y1 > y) != (y2 > y)
        inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside & ~np.isnan(x)


__all__ = ["MOST_CORNERS", "UNASSIGNED", "Clustering", "Listed", "ResultFolder", "within"]
