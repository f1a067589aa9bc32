"""What a collection holds, column by column: one pass over its rows, or over a fair sample, so that counting under any conditions
takes milliseconds."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.columns import Columns
from outcrop.schema.filters import AnyCondition, Filter
from outcrop.schema.item import FIELDS, UNKNOWN_COORDINATE
from outcrop.store.collection import Collection

MOST_ROWS = 50_000
"""Rows that are read. They come ordered by id, which is a digest of the key: the first ones are a fair sample of all."""
KEPT_SECONDS = 30.0
"""An overview is used this long at least, whatever is written meanwhile;"""
KEPT_TIMES = 20.0
"""and this many times as long as reading it took: questions wait meanwhile."""
MOST_MASKS = 256

Mask = NDArray[np.bool_]


class Overview:
    """Rows by columns. `total` are all rows of the collection, `len` those that were read; `columns` its own columns."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], total: int, columns: Columns) -> None:
        self.total, self.columns = total, columns
        self._size = len(rows)
        self._values: dict[str, list[Any]] = {}
        self._codes: dict[str, NDArray[np.int32]] = {}
        for name in (*FIELDS, *columns.keys_in_rows):
            known: dict[Any, int] = {}
            found = (row.get(name) for row in rows)
            codes = [-1 if value is None else known.setdefault(value, len(known)) for value in found]
            self._codes[name], self._values[name] = np.asarray(codes, np.int32), list(known)
        self._masks: dict[AnyCondition, Mask] = {}

    @classmethod
    def read(cls, collection: Collection, total: int, most: int = MOST_ROWS) -> Overview:
        """Reads at most `most` rows of a collection of `total`."""
        columns = collection.read_columns()
        rows: list[dict[str, Any]] = []
        for page in collection.scan_rows(None, ["id", *FIELDS, *columns.keys_in_rows], batch=5000, check=False):
            rows += page
            if len(rows) >= most:
                break
        return cls(rows[:most], total, columns)

    def __len__(self) -> int:
        return self._size

    @property
    def share(self) -> float:
        """Rows read of one row of the collection: 1 where all were."""
        return 1.0 if self._size >= self.total else self._size / self.total

    def extent(self, mask: Mask) -> tuple[float, float, float, float] | None:
        """South, west, north and east of the places of the masked rows, in degrees; None where no place is known."""
        latitudes, longitudes = self._numbers("latitude"), self._numbers("longitude")
        known = mask & (latitudes != UNKNOWN_COORDINATE)
        if not known.any():
            return None
        y, x = latitudes[known], longitudes[known]
        return float(y.min()), float(x.min()), float(y.max()), float(x.max())

    def mask(self, filter: Filter, leaving_out: str = "") -> Mask:
        """Which rows fulfil a filter, less its conditions on the field `leaving_out`.

        Raises:
            FilterError: there is no such column, or a value is of another type.
        """
        kept = np.ones(self._size, dtype=bool)
        for condition in filter.bound(self.columns).conditions:
            if condition.field != leaving_out:
                kept &= self._mask(condition)
        places = self._numbers("latitude").tolist(), self._numbers("longitude").tolist()
        for area in filter.areas:
            kept &= np.asarray(area.holds(*places), dtype=bool)
        return kept

    def counts(self, name: str, mask: Mask) -> list[tuple[Any, int]]:
        """The values of a field (or of an own column, by its name in the rows), and how many of the masked rows have each."""
        codes = self._codes[name][mask]
        return list(
            zip(
                self._values[name],
                np.bincount(codes[codes >= 0], minlength=len(self._values[name])).tolist(),
                strict=True,
            )
        )

    @cached_property
    def keys(self) -> tuple[NDArray[np.int64], list[str]]:
        """The rows' numbers in order of their keys, and the keys."""
        keys = self._values["key"]  # all different, so that codes count rows
        order = np.asarray(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
        return order, [keys[number] for number in order]

    def key_ahead(self, mask: Mask, after: str, items: int) -> str:
        """A key behind which, counting from the key `after`, about `items` masked items of the collection lie; '' for the end."""
        order, keys = self.keys
        begin = bisect_right(keys, after)
        ahead = np.flatnonzero(mask[order[begin:]])
        step = math.ceil(items * self.share)
        return keys[begin + int(ahead[step])] if step < len(ahead) else ""

    def _mask(self, condition: AnyCondition) -> Mask:
        if condition not in self._masks:
            if len(self._masks) >= MOST_MASKS:
                self._masks.clear()
            self._masks[condition] = self._judged(condition)
        return self._masks[condition]

    def _judged(self, condition: AnyCondition) -> Mask:
        """Each different value is judged once, with each kind that it occurs with: some fields mean nothing for some kinds."""
        column = self.columns.get(condition.field)
        name = condition.field if column is None else column.key
        codes, kinds = self._codes[name], self._codes["kind"]
        width = len(self._values["kind"]) + 1
        pairs, places = np.unique(codes.astype(np.int64) * width + kinds, return_inverse=True)
        held = [condition.matches(self._row(name, int(pair), width)) for pair in pairs]
        return np.asarray(held, dtype=bool)[places]

    def _row(self, name: str, pair: int, width: int) -> dict[str, Any]:
        code, kind = divmod(pair, width)
        row = {"kind": self._values["kind"][kind]}
        return row if code < 0 else {**row, name: self._values[name][code]}

    def _numbers(self, name: str) -> NDArray[np.float64]:
        values = np.asarray(self._values[name], dtype=np.float64)
        return values[self._codes[name]] if self._size else values


class Overviews:
    """The overview of a collection, read anew where its number of rows has changed; asked by one thread."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._known: Overview | None = None
        self._until = 0.0

    def now(self) -> Overview:
        """The overview, which may be older than the last change of the number of rows: see `KEPT_SECONDS`."""
        known, columns = self._known, self._collection.columns
        if known is not None and known.columns == columns and time.monotonic() < self._until:
            return known
        begun = time.monotonic()
        total = self._collection.count()
        if known is None or known.total != total or known.columns != columns:
            self._known = Overview.read(self._collection, total)
        ended = time.monotonic()
        self._until = ended + max(KEPT_SECONDS, KEPT_TIMES * (ended - begun))
        assert self._known is not None
        return self._known
