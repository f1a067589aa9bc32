"""The rows of a Milvus Lite collection in one pass over its own tables, in this process.

Milvus Lite runs in the process that opens it, and its query builds every row as a dict, vector and all, whatever was asked
for; its iterator does so again for every page (1,900 rows/s in pages of 1,000 at 200,000 rows). Here its segments and its
memtable are looked at once: superseded and deleted rows are left out as Milvus Lite 3.2.2 leaves them out
(``milvus_lite/search/bitmap.py``), the filter is judged by Milvus Lite itself, and a page takes from the tables only the columns
that were asked for. Where a version of Milvus Lite is made otherwise, there is no selection, and the caller asks Milvus.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import Damaged

if TYPE_CHECKING:
    import pyarrow as pa

    from outcrop.store.connection import Store

_log = logging.getLogger(__name__)
_META = "$meta"
_INTERNAL = frozenset(("_seq", "_partition", _META))


@dataclass(frozen=True)
class Selection:
    """The rows that a filter keeps, ordered by id.

    `tables` are Milvus Lite's own (not copied); row n of the selection is row `places[n]` of table `sources[n]`.
    """

    tables: tuple[pa.Table, ...]
    sources: NDArray[np.int32]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def pages(self, fields: Sequence[str], size: int) -> Iterator[list[dict[str, Any]]]:
        """Pages of rows with the given fields (``"*"`` for all, dynamic ones included), as a query returns them; vectors are
        arrays [D] float32.

        Raises:
            Damaged: a table holds what cannot be read as text or JSON.
        """
        import pyarrow as pa

        try:
            yield from self._pages(fields, size)
        except (UnicodeDecodeError, ValueError, pa.ArrowException) as error:
            raise Damaged(
                f"cannot read rows: a file of Milvus Lite is damaged ({str(error).splitlines()[0][:200]}); put back a copy of "
                "the directory, or choose another --uri and ingest again"
            ) from None

    def _pages(self, fields: Sequence[str], size: int) -> Iterator[list[dict[str, Any]]]:
        for start in range(0, len(self), size):
            rows: list[dict[str, Any]] = [{} for _ in range(min(size, len(self) - start))]
            sources, places = self.sources[start : start + size], self.places[start : start + size]
            for number in np.unique(sources):
                positions = np.flatnonzero(sources == number)
                found = _rows(self.tables[number], places[positions], fields)
                for position, row in zip(positions.tolist(), found, strict=True):
                    rows[position] = row
            yield rows


def select(store: Store, physical: str, expression: str, partitions: list[str] | None) -> Selection | None:
    """The rows of a loaded Milvus Lite collection that an expression keeps ('' = all) in these partitions (None = all).

    None where Milvus Lite is not made as we know it, or does not understand the expression: Milvus then says it itself.
    """
    try:
        return _select(engine_of(store, physical), expression, partitions)
    except MemoryError:  # asking Milvus would take more
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, Milvus is asked instead: the same answer, only slower
        _log.debug("no direct reading of %s: %s: %s", physical, type(error).__name__, error)
        return None


def get(store: Store, physical: str, ids: Sequence[str], fields: Sequence[str]) -> list[dict[str, Any]] | None:
    """Scalar fields of the rows of a loaded Milvus Lite collection with these ids; those that are not there are left out.

    Milvus Lite reads a list of ids in a filter one character after the other, in our own process: a seventh of the time in
    which a first ingest of references ran Python went there. None where it is not made as we know it.
    """
    try:
        rows: list[dict[str, Any]] = engine_of(store, physical).get(list(ids), output_fields=["id", *fields])
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  see `select`
        _log.debug("no direct reading of %s: %s: %s", physical, type(error).__name__, error)
        return None
    return rows


def held(store: Store, physical: str, ids: Sequence[str]) -> int | None:
    """How many of these different ids have a row in a loaded Milvus Lite collection; None where rows are not on its disk yet, or
    it is not made as we know it. Its `get` makes each row whole to say that it is there: a tenth of what an ingest takes."""
    try:
        engine = engine_of(store, physical)
        engine._require_loaded()
        segments, deleted = engine._read_snapshot()
        if engine._memtable.size():
            return None
        found = 0
        for id in ids:
            newest = max((int(one.seqs[row]) for one in segments if (row := one.find_row(id)) is not None), default=-1)
            found += newest >= 0 and not deleted.is_deleted(id, newest)
        return found
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  see `select`
        _log.debug("no direct reading of %s: %s: %s", physical, type(error).__name__, error)
        return None


def engine_of(store: Store, physical: str) -> Any:
    """Milvus Lite's own collection behind a name."""
    from milvus_lite.server_manager import server_manager_instance

    path = os.path.abspath(store._directory)  # noqa: PTH100  as Milvus Lite does: `resolve` would follow links
    _, database, _ = server_manager_instance._servers[path]
    return database.get_collection(physical)


def _select(engine: Any, expression: str, partitions: list[str] | None) -> Selection:
    engine._require_loaded()
    compiled = engine._compile_filter(expression) if expression else None
    plan = engine._indexed_filter_plan(compiled)
    segments, deleted = engine._read_snapshot()
    memtable = engine._memtable
    ids: list[str] = []
    tables, seqs, kept = [], [], []
    for segment in segments:
        if segment.num_rows and (partitions is None or segment.partition in partitions):
            tables.append(segment.table)
            ids += segment.pks
            seqs.append(segment.seqs)
            kept.append(_judged(segment, compiled, plan))
    fresh, fresh_seqs, _, _, table = memtable.to_search_snapshot(None, partitions, include_table=True)
    if fresh:
        tables.append(table)
        ids += fresh
        seqs.append(fresh_seqs)
        kept.append(_judged_table(table, compiled))
    if not ids:
        return Selection((), np.zeros(0, np.int32), np.zeros(0, np.int64))
    sizes = [len(each) for each in seqs]
    order = _live(ids, np.concatenate(seqs), np.concatenate(kept), deleted, memtable.delete_index_snapshot())
    sources = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    places = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
    return Selection(tuple(tables), sources[order], places[order])


def _judged(segment: Any, compiled: Any, plan: Any) -> NDArray[np.bool_]:
    """Which rows of a segment the filter keeps, by Milvus Lite's own evaluation."""
    if compiled is None:
        return np.ones(segment.num_rows, dtype=bool)
    from milvus_lite.search.indexed_filter import evaluate_segment_filter

    return np.asarray(evaluate_segment_filter(segment, compiled, plan), dtype=bool)


def _judged_table(table: Any, compiled: Any) -> NDArray[np.bool_]:
    if compiled is None:
        return np.ones(table.num_rows, dtype=bool)
    from milvus_lite.search.filter import evaluate_mask

    return np.asarray(evaluate_mask(compiled, table), dtype=bool)


def _live(
    ids: list[str], seqs: NDArray[np.uint64], kept: NDArray[np.bool_], deleted: Any, fresh_deleted: dict[str, Any]
) -> NDArray[np.int64]:
    """Positions of the rows that are there and kept, by id: the newest of each id, unless it was deleted since."""
    names = _sortable(ids)
    order = np.lexsort((seqs, names))
    newest = np.ones(len(order), dtype=bool)
    newest[:-1] = names[order[1:]] != names[order[:-1]]
    order = order[newest]
    order = order[kept[order]]
    gone = [
        deleted.is_deleted(ids[row], seq) or ((entry := fresh_deleted.get(ids[row])) is not None and entry[0] > seq)
        for row, seq in zip(order.tolist(), seqs[order].tolist(), strict=True)
    ]
    return np.asarray(order[~np.asarray(gone, dtype=bool)], dtype=np.int64)


def _sortable(ids: list[str]) -> NDArray[Any]:
    """Ids as an array that sorts as they do: 32 bytes each where all are digests."""
    joined = "".join(ids)
    if joined.isascii() and all(len(id) == 32 for id in ids):
        return np.frombuffer(joined.encode(), dtype="S32")
    return np.asarray(ids)


def _rows(table: pa.Table, places: NDArray[np.int64], fields: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a table as a query returns them."""
    import pyarrow as pa

    stored = [name for name in table.schema.names if name not in _INTERNAL]
    every = "*" in fields
    wanted = [name for name in stored if every or name in fields or name == "id"]
    dynamic = [name for name in fields if name != "*" and name not in stored]
    columns: dict[str, Any] = {}
    taken = table.select([*wanted, *([_META] if (every or dynamic) and _META in table.schema.names else [])])
    taken = taken.take(pa.array(places))
    for name in wanted:
        columns[name] = _vectors(taken.column(name)) if name == "vector" else taken.column(name).to_pylist()
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if _META in taken.schema.names:
        for row, text in zip(rows, taken.column(_META).to_pylist(), strict=True):
            extra = json.loads(text) if text else {}
            row.update({name: extra[name] for name in (extra if every else dynamic) if name in extra})
    return rows


def _vectors(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of vectors as [N, D] float32."""
    width = column.type.list_size
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, width)
