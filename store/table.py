"""The rows of one physical collection: writing and reading items, whole, by id, by filter, page by page."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.columns import Columns
from outcrop.schema.errors import FilterError, Refused
from outcrop.schema.filters import Filter, ids_expression
from outcrop.schema.item import FIELDS, Item, Kind
from outcrop.store import lite_scan, lite_write
from outcrop.store.connection import Store
from outcrop.store.integrity import require_sound, require_unit
from outcrop.store.lite_scan import select
from outcrop.store.pages import EachOnce, rows_of_a_page
from outcrop.store.partitions import chosen, home_of, partition_name
from outcrop.store.rechecked import Rechecked
from outcrop.store.rows import Packed, pack, unpack

LOOKUP = 1000
"""Ids asked for in one request."""
MESSAGE_BYTES = 8 * 2**20
"""Bytes of rows sent in one request: a server takes 64 MB, and larger ones are not faster."""
LARGE = 500
"""A scan in pages of this size or larger reads everything; in smaller ones it may stop after the first."""
MOST_ROWS = 16_384
"""Rows that Milvus returns in one page at most."""
PAGE_BYTES = 256 * 2**20
VALUE_BYTES = 32
"""A number of a vector, as pymilvus returns it: a Python float in a list."""
SETTLED = 5.0
"""Seconds for which it is remembered whether all rows are answered by the index."""
WHOLE_EVERY = 5.0
"""Seconds between two answers of a server whose hits are compared with their checksums."""

PROPERTY_PARTLY = "outcrop.partly_loaded"
"""On a collection of which some partitions were loaded or released by themselves; see `Table.load`."""
PROPERTY_COLUMNS = "outcrop.columns"
"""The own columns and their types."""

PLACE = ("latitude", "longitude")


def _inside(rows: list[dict[str, Any]], filter: Filter, places: Sequence[str]) -> list[dict[str, Any]]:
    """The rows in the areas of a filter, less the fields that were only read to see it."""
    kept = [row for row, inside in zip(rows, filter.inside(rows), strict=True) if inside]
    return [{name: value for name, value in row.items() if name not in places} for row in kept] if places else kept


class Table:
    """Items with vectors of `dim` numbers in the physical collection `physical`; `name` is used in messages."""

    def __init__(self, store: Store, name: str, physical: str, dim: int) -> None:
        self.store = store
        self.name = name
        self.physical = physical
        self.dim = dim
        self.columns = Columns()
        self._partitions: set[str] | None = None
        self._loaded = False
        self.partly_loaded = False
        self._size: Rechecked[int] = Rechecked(60.0)
        self._settled: Rechecked[bool] = Rechecked(SETTLED)  # see `Collection.sifts`
        self._whole_after = -math.inf  # see `reads_whole`

    # -- writing ---------------------------------------------------------------------------------------------------

    def upsert(
        self,
        items: Sequence[Item],
        vectors: NDArray[np.float32],
        *,
        replacing: bool = False,
        patience: float = 0.0,
        waiting: Callable[[str], None] | None = None,
    ) -> int:
        """Writes items with their vectors [N, D] float32 (length 1), replacing rows of the same id; returns how many rows.

        Where the server goes away, tries again for `patience` seconds: the same rows twice are the same rows. Where it answers
        but takes no more (a rate limit, a quota), waits longer: see `Courtesy.write`. Say `replacing` where rows of these ids may
        be there: Milvus Lite would keep what their `extra` had and the new one has not.

        Raises:
            InputError: vectors of a wrong shape or length, or a field too long.
            StoreUnreachable: no answer within the patience. StoreBusy: the server took nothing for an hour.
        """
        rows = pack(items, vectors, self.dim)
        self._settled.forget()
        by_partition: dict[tuple[str, str], list[int]] = {}
        for number, home in enumerate(zip(rows.fields["kind"], rows.fields["dataset"], strict=True)):
            by_partition.setdefault(home, []).append(number)
        courtesy = self.store.courtesy
        limit = courtesy.most(max(1, MESSAGE_BYTES // (self.dim * 4 + 1024)))
        for (kind, dataset), members in by_partition.items():
            partition = courtesy.write(functools.partial(self.home, Kind(kind), dataset), patience, waiting)
            for start in range(0, len(members), limit):
                chunk = rows.taken(members[start : start + limit])
                courtesy.pace(len(chunk))
                courtesy.write(functools.partial(self._send, chunk, partition, replacing), patience, waiting)
        return len(rows)

    def _send(self, rows: Packed, partition: str, replacing: bool) -> None:
        """Writes rows of one partition in one request."""
        with self.store.calling(f"write to {self.name!r}"):
            if self.store.lite and lite_write.insert(self.store, self.physical, partition, rows):
                return
            client = self.store.client
            # Milvus Lite's upsert merges dynamic fields; its insert replaces the whole row of an id. A server's insert would add
            # one.
            write = client.insert if replacing and self.store.lite else client.upsert
            # pymilvus would wait by itself where the server is busy, and not say so
            write(
                self.physical,
                rows.rows(),
                partition_name=partition,
                timeout=self.store.timeout,
                retry_on_rate_limit=False,
            )

    def delete(self, ids: Iterable[str]) -> int:
        """Removes rows by id; returns how many ids were asked for."""
        ids = list(ids)
        for start in range(0, len(ids), LOOKUP):
            some = ids_expression(ids[start : start + LOOKUP])

            def send(some: str = some) -> None:
                with self.store.calling(f"delete from {self.name!r}"):
                    self.store.client.delete(
                        self.physical, filter=some, timeout=self.store.timeout, retry_on_rate_limit=False
                    )

            self.store.courtesy.write(send, 0.0)
        return len(ids)

    def flush(self) -> None:
        """Seals what was written and makes it durable. Once at the end of an ingest: servers allow one in ten seconds."""

        def send() -> None:
            with self.store.calling(f"flush {self.name!r}"):
                self.store.client.flush(self.physical, timeout=max(120.0, self.store.timeout))

        self.store.courtesy.write(send, 60.0)
        self.store.persist()

    # -- reading ---------------------------------------------------------------------------------------------------

    def count(self, filter: Filter | None = None, *, growing: bool = True) -> int:
        """The true number of rows that a filter keeps (`count(*)`, strongly consistent).

        Without `growing`, a server leaves out rows of segments that still take more; Milvus Lite has none.
        """
        self.load()
        filter = self.bound(filter or Filter())
        names, _ = self.chosen(filter)
        if names is not None and not names:
            return 0
        if filter.areas:
            return sum(len(rows) for rows in self.scan_rows(filter, ["id"], batch=MOST_ROWS, check=False))
        if self.store.lite and (selection := select(self.store, self.physical, filter.expression, names)) is not None:
            return len(selection)
        expression = filter.expression or 'id >= ""'  # without any expression Milvus Lite counts superseded rows
        with self.store.reading(f"count in {self.name!r}", filter.raw):
            found = self.store.client.query(
                self.physical,
                filter=expression,
                output_fields=["count(*)"],
                partition_names=names,
                consistency_level="Strong",
                ignore_growing=not growing,
                timeout=self.store.timeout,
            )
        return int(found[0]["count(*)"])

    def lookup(
        self, ids: Sequence[str], fields: Sequence[str] = ("source_size", "source_mtime_ns", "source_digest")
    ) -> dict[str, dict[str, Any]]:
        """The given fields of the rows with these ids, by id; ids that are not there are left out."""
        self.load()
        if (
            self.store.lite
            and "*" not in fields
            and (got := lite_scan.get(self.store, self.physical, ids, fields)) is not None
        ):
            return {row["id"]: dict(row) for row in got}
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), LOOKUP):
            with self.store.reading(f"look up items in {self.name!r}"):
                rows = self.store.client.query(
                    self.physical,
                    filter=ids_expression(ids[start : start + LOOKUP]),
                    output_fields=["id", *fields],
                    consistency_level="Strong",
                    timeout=self.store.timeout,
                )
            found.update({row["id"]: dict(row) for row in rows})
        return found

    def held(self, ids: Sequence[str]) -> int:
        """How many of these different ids have a row."""
        self.load()
        found = lite_scan.held(self.store, self.physical, ids) if self.store.lite else None
        return len(self.lookup(ids, fields=("kind",))) if found is None else found

    def items(self, ids: Sequence[str], *, check: bool = True) -> dict[str, tuple[Item, NDArray[np.float32]]]:
        """Items with their vectors [D] float32, by id; ids that are not there are left out.

        Raises:
            Damaged: one of them is not what was written (unless `check` is false).
        """
        rows = self.lookup(ids, fields=("*",))
        if check:
            require_sound(rows.values(), self.name)
        items, vectors = unpack(rows.values())
        return {item.id: (item, vector) for item, vector in zip(items, vectors, strict=True)}

    def reads_whole(self) -> bool:
        """Whether the hits of a search are to be read with their vectors, so that they can be compared with their checksums.

        On Milvus Lite always. A server fetches vectors in a second request of its own, which doubles the time of an answer: there
        the hits of the first answer are, and then of one every `WHOLE_EVERY` seconds.
        """
        if self.store.lite:
            return True
        now = time.monotonic()
        if now < self._whole_after:
            return False
        self._whole_after = now + WHOLE_EVERY
        return True

    def scan(
        self, filter: Filter | None = None, *, vectors: bool = False, batch: int = 1000
    ) -> Iterator[tuple[list[Item], NDArray[np.float32]]]:
        """All rows that a filter keeps, in batches: items and their vectors [N, D]. Order: by id.

        Without `vectors` these are [N, 0], and items come without `extra`: do not write them back.

        Raises:
            OutcropError: Milvus gave a row twice (its iterators have done so). Damaged: a row is not what was written.
        """
        fields = ["*"] if vectors else ["id", *FIELDS]
        for rows in self.scan_rows(filter, fields, batch=batch):
            yield unpack(rows)

    def scan_rows(
        self, filter: Filter | None, fields: Sequence[str], *, batch: int = 1000, check: bool = True
    ) -> Iterator[list[dict[str, Any]]]:
        """As `scan`, but plain rows with the given fields (``"*"`` for all, dynamic ones included).

        Raises:
            Damaged: a row or its vector is not what was written (unless `check` is false).
        """
        self.load()
        filter = filter or Filter()
        names, rest = self.chosen(filter)
        if names is not None and not names:
            return
        places = [name for name in PLACE if filter.areas and name not in fields and "*" not in fields]
        for rows in self._pages(rest, names, [*fields, *places], batch):
            if check:
                self._require_sound(rows)
            kept = _inside(rows, rest, places) if rest.areas else rows
            if kept:
                yield kept

    def _pages(
        self, rest: Filter, names: list[str] | None, fields: Sequence[str], batch: int
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages of rows: on Milvus Lite straight from its tables, else from Milvus's iterator."""
        if self.store.lite:
            if (selection := select(self.store, self.physical, rest.expression, names)) is not None:
                yield from selection.pages(fields, batch)
                return
            if batch >= LARGE:  # its iterator looks at every row for every page
                batch = max(batch, min(MOST_ROWS, PAGE_BYTES // (self.dim * VALUE_BYTES + 4096)))
        else:
            batch = rows_of_a_page(batch, self.dim, fields, self.about())
        once = EachOnce(self.name)
        with self.store.reading(f"scan {self.name!r}", rest.raw):
            pages = self.store.client.query_iterator(
                self.physical,
                batch_size=batch,
                filter=rest.expression,
                output_fields=list(fields),
                partition_names=names,
                consistency_level="Strong",
                timeout=self.store.timeout,
            )
        try:
            while True:
                with self.store.reading(f"scan {self.name!r}", rest.raw):
                    page = pages.next()
                if not page:
                    return
                rows = [dict(row) for row in page]
                once.require([row["id"] for row in rows])
                yield rows
        finally:
            pages.close()

    def about(self) -> int:
        """About how many rows a server stores; asked for once a minute."""
        return self._size.get(self._stored)

    def _stored(self) -> int:
        try:  # a server knows without counting, rows that were replaced since among them
            with self.store.reading(f"describe {self.name!r}"):
                said = self.store.client.get_collection_stats(self.physical, timeout=self.store.timeout)
        except Refused:  # who may only search and query
            return self.count()
        return int(said.get("row_count", 0))

    def _require_sound(self, rows: list[dict[str, Any]]) -> None:
        if "vector" in rows[0] and "key" not in rows[0]:  # judged together: this is the way of an exact search
            vectors = np.asarray([row["vector"] for row in rows], dtype=np.float32)
            require_unit([row["id"] for row in rows], vectors, self.name)
        else:
            require_sound(rows, self.name)

    # -- memory and partitions -------------------------------------------------------------------------------------

    def load(self) -> None:
        """Makes the collection answer queries (once; it costs nothing when it is loaded)."""
        if self._loaded:
            return
        client, timeout = self.store.client, max(120.0, self.store.timeout)
        with self.store.reading(f"load {self.name!r}"):
            if self.partly_loaded:
                # Milvus 2.3.5 calls a collection loaded of which only some partitions are, and counts 0 in the others.
                client.release_collection(self.physical, timeout=timeout)
            client.load_collection(self.physical, timeout=timeout)
            if self.partly_loaded:
                client.alter_collection_properties(self.physical, {PROPERTY_PARTLY: ""}, timeout=timeout)
        self.partly_loaded = False
        self._loaded = True

    def partitions(self, fresh: bool = False) -> set[str]:
        """The names of the partitions (remembered; `fresh` asks again)."""
        if self._partitions is None or fresh:
            with self.store.reading(f"list the partitions of {self.name!r}"):
                self._partitions = set(self.store.client.list_partitions(self.physical, timeout=self.store.timeout))
        return self._partitions

    def chosen(self, filter: Filter) -> tuple[list[str] | None, Filter]:
        """The partitions that a filter chooses (None = all) and what is left to be sifted; see `outcrop.store.partitions.chosen`.

        Milvus is asked anew where partitions matter: another process may have made some.

        Raises:
            FilterError: a condition is on an own column that the collection has not.
        """
        filter = self.bound(filter)
        pinned = filter.chosen("kind") is not None or filter.chosen("dataset") is not None
        return chosen(filter, self.partitions(fresh=pinned))

    def bound(self, filter: Filter) -> Filter:
        """The filter with its conditions on own columns typed (see `Filter.bound`); columns that are new since are asked for.

        Raises:
            FilterError: the collection has no such column, or a value is of another type.
        """
        try:
            return filter.bound(self.columns)
        except FilterError:
            self.columns = self.read_columns()
            return filter.bound(self.columns)

    def read_columns(self) -> Columns:
        """The own columns as Milvus has them now."""
        with self.store.reading(f"describe {self.name!r}"):
            facts = self.store.client.describe_collection(self.physical, timeout=self.store.timeout)
        return Columns.of_text((facts.get("properties") or {}).get(PROPERTY_COLUMNS))

    def home(self, kind: Kind, dataset: str) -> str:
        """The partition of an item, made where it is missing."""
        wanted = partition_name(kind, dataset)
        existing = self.partitions()
        if wanted in existing:
            return wanted
        name = home_of(kind, dataset, self.partitions(fresh=True))
        if name not in self.partitions():
            with self.store.calling(f"create partition {name} of {self.name!r}"):
                self.store.client.create_partition(self.physical, name, timeout=self.store.timeout)
            self.partitions().add(name)
        return name
