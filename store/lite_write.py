"""Rows into a Milvus Lite collection by column, past pymilvus, gRPC and Milvus Lite's checks of every number.

Milvus Lite runs in the process that opens it. On the usual way a row is made into a protobuf, sent to our own process, taken
apart again, its vector judged number by number, looked for among the stored ones and made into a column of Arrow: 0.22 ms of
processor time a row of 384 numbers, 0.33 of 1024, where 0.025 and 0.031 are spent here. `outcrop.store.rows.pack` has judged the
rows, by column, and the columns become the batch of Arrow that Milvus Lite 3.2.2 would have made of them
(`milvus_lite/engine/collection.py`, `insert`), which its own log and table of what is new then take. Where a version is made
otherwise nothing is written, and the caller asks Milvus.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.schema.item import FIELDS
from outcrop.store.lite_scan import engine_of

if TYPE_CHECKING:
    import pyarrow as pa

    from outcrop.store.connection import Store
    from outcrop.store.rows import Packed

_log = logging.getLogger(__name__)
_META = "$meta"
_COLUMNS = ["_seq", "_partition", "id", *FIELDS, "vector", _META]
"""The columns of Milvus Lite's log for a collection of ours."""
_json = json.JSONEncoder(sort_keys=True, allow_nan=False).encode


def insert(store: Store, physical: str, partition: str, rows: Packed) -> bool:
    """Writes rows, each replacing the whole row of its id; False where that cannot be done here, and nothing was written.

    Raises:
        pymilvus.MilvusException: what Milvus Lite says of its disk, as it would have come on the usual way.
    """
    try:
        engine = engine_of(store, physical)
        batch = _batch(engine, partition, rows)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, Milvus is asked instead, and says what is wrong
        _log.debug("no direct writing to %s: %s: %s", physical, type(error).__name__, error)
        return False
    from milvus_lite.engine.operation import InsertOp
    from milvus_lite.exceptions import MilvusLiteError

    from outcrop.store.lean_pymilvus import pymilvus

    _ease_flush(engine._memtable)
    try:
        engine._apply(InsertOp(partition=partition, batch=batch))
        if engine._should_flush():
            engine._trigger_flush()
    except MilvusLiteError:
        raise
    except Exception as error:  # what its server would have answered
        raise pymilvus.MilvusException(1, str(error)) from error
    return True


def _batch(engine: Any, partition: str, rows: Packed) -> pa.RecordBatch:
    """The rows as Milvus Lite keeps them in its log, with numbers of their own in the order of writing.

    Raises:
        LookupError: the collection has other columns than ours, or does more with its rows. ValueError, TypeError: a value is not
            JSON.
    """
    import pyarrow as pa

    schema = engine._wal_data_schema
    does_more = engine._auto_id or engine._ingestion_chain or engine._bm25_analyzers or engine._partition_key_field
    if schema.names != _COLUMNS or does_more or not engine._manifest.has_partition(partition):
        raise LookupError("its collection is not as we make them")
    count = len(rows)
    metas = [_json(extra) for extra in rows.extras]
    start = engine._next_seq
    columns: dict[str, Any] = {
        "_seq": np.arange(start, start + count, dtype=np.uint64),
        "_partition": [partition] * count,
        "id": rows.ids,
        **rows.fields,
        _META: metas,
    }
    arrays = [
        _vectors(rows, schema.field(name).type)
        if name == "vector"
        else pa.array(columns[name], type=schema.field(name).type)
        for name in _COLUMNS
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    engine._next_seq = start + count
    return batch


def _ease_flush(memtable: Any) -> None:
    """Has the rows of a table of what is new gathered by Arrow when it is flushed."""
    if "_build_data_table" in vars(memtable):
        return
    usual = memtable._build_data_table

    def gathered(rows: Sequence[tuple[int, int]]) -> pa.Table:
        """The rows by their batch and their place in it, without the column of the partition."""
        import pyarrow as pa

        try:
            batches = memtable._insert_batches
            before = [0, *itertools.accumulate(batch.num_rows for batch in batches)]
            places = [before[batch] + place for batch, place in rows]
            schema = memtable._data_schema
            table = pa.Table.from_batches(batches).select(schema.names)
            if places != list(range(before[-1])):  # a first ingest has all of them: to take some imports 0.1 s of Arrow
                table = table.take(pa.array(places, type=pa.int64()))
            return pa.Table.from_arrays(table.columns, schema=schema).combine_chunks()
        except Exception as error:  # noqa: BLE001  made otherwise than we know: as it does it itself
            _log.debug("no direct flush: %s: %s", type(error).__name__, error)
            return usual(rows)

    memtable._build_data_table = gathered


def _vectors(rows: Packed, kind: Any) -> Any:
    """The vectors as one column, in memory of their own."""
    import pyarrow as pa

    if kind.list_size != rows.vectors.shape[1]:
        raise LookupError("its vectors have another length")
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.reshape(-1).copy()), type=kind)
