"""Rows that go into Milvus Lite by column are the rows that it makes itself, and its errors are the same."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_congruence import SEED, SPACE, an_item, unit

from outcrop.schema.errors import Damaged, OutcropError, StoreUnusable
from outcrop.schema.item import Item
from outcrop.store import lite_write, table
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

ROWS = 120


def items(count: int = ROWS) -> list[Item]:
    rng = random.Random(SEED + 21)
    made = [an_item(rng, n) for n in range(count)]
    odd = {"text": 'é\0"', "whole": 3, "half": 0.5, "list": [1, 2.5, "x"], "none": None, "yes": True, "in": {"a": [1]}}
    return [replace(item, extra={**item.extra, **odd}) if n % 3 == 0 else item for n, item in enumerate(made)]


def engine_of(collection: Collection) -> Any:
    return lite_write.engine_of(collection.store, collection.physical)


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has rows written through pymilvus."""
    return lambda: monkeypatch.setattr(table.lite_write, "insert", lambda *_: False)


def test_the_same_log_as_milvus_lite_writes_itself(tmp_path: Path, usual: Any) -> None:
    vectors = unit(np.random.default_rng(4), ROWS)
    logs, numbers = [], []
    for name in ("direct", "usual"):
        if name == "usual":
            usual()
        with Store.connect(str(tmp_path / f"{name}.db")) as store:
            collection = Collection.create(store, "c", SPACE)
            assert collection.upsert([*items(), items()[5]], np.concatenate([vectors, vectors[5:6]])) == ROWS
            collection.upsert(items()[:30], vectors[30:60], replacing=True)
            collection.delete([items()[3].id])
            logs.append(engine_of(collection)._memtable._insert_batches)
            numbers.append((engine_of(collection)._next_seq, collection.count()))
    assert numbers[0] == numbers[1] == (ROWS + 32, ROWS - 1)
    assert len(logs[0]) == len(logs[1]) > 2, "several partitions"
    for one, other in zip(*logs, strict=True):
        assert one.equals(other)


@pytest.mark.parametrize("first", [True, False])
def test_the_same_tables_are_flushed(tmp_path: Path, first: bool) -> None:
    """Of a first ingest into one partition, and of rows in several that were replaced or are gone."""
    vectors = unit(np.random.default_rng(4), ROWS)
    with Store.connect(str(tmp_path / "a.db")) as store:
        collection = Collection.create(store, "c", SPACE)
        if first:
            mine = [item for item in items() if (item.kind, item.dataset) == (items()[0].kind, items()[0].dataset)]
            for start in (0, 2):
                some = mine[start : start + 2] if start == 0 else mine[2:]
                collection.upsert(some, vectors[: len(some)])
            count = len(mine)
        else:
            collection.upsert(items(), vectors)
            collection.upsert(items()[:30], vectors[30:60], replacing=True)
            collection.delete([items()[3].id])
            count = ROWS - 1
        memtable = engine_of(collection)._memtable
        ours = memtable.flush()
        del memtable._build_data_table
        usual = memtable.flush()
        assert ours.keys() == usual.keys() and (len(ours) > 2) is not first
        for partition, (table, gone) in usual.items():
            assert (table is None) == (ours[partition][0] is None)
            assert table is None or (table.equals(ours[partition][0]) and table.schema == ours[partition][0].schema)
            assert gone == ours[partition][1]
        collection.flush()
        assert collection.count() == count
        assert all(row["key"] for page in collection.scan_rows(None, ["*"]) for row in page), "each has its checksum"


def test_a_row_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Where nobody said that it was there, too."""
    vectors = unit(np.random.default_rng(4), 1)
    with Store.connect(str(tmp_path / "a.db")) as store:
        collection = Collection.create(store, "c", SPACE)
        (item,) = items(1)
        collection.upsert([item], vectors)
        collection.upsert([replace(item, extra={"new": 1})], vectors)
        (row,) = collection.lookup([item.id], ["*"]).values()
        assert row["new"] == 1 and not item.extra.keys() & row.keys()


def test_where_milvus_lite_is_made_otherwise_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(np.random.default_rng(4), 3)
    with Store.connect(str(tmp_path / "a.db")) as store:
        collection = Collection.create(store, "c", SPACE)
        monkeypatch.setattr(lite_write, "_COLUMNS", ["id"])
        assert collection.upsert(items(3), vectors) == 3 == collection.count()


def test_vectors_that_are_changed_afterwards_stay_as_written(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(4), 3)
    kept = vectors.copy()
    with Store.connect(str(tmp_path / "a.db")) as store:
        collection = Collection.create(store, "c", SPACE)
        collection.upsert(items(3), vectors)
        vectors[:] = 0
        stored = collection.items([item.id for item in items(3)])
        assert all(np.array_equal(stored[item.id][1], kept[n]) for n, item in enumerate(items(3)))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device"), StoreUnusable),
        (ValueError("parquet: damaged"), Damaged),
        (RuntimeError("?"), OutcropError),
    ],
)
def test_errors_are_those_of_the_usual_way(
    tmp_path: Path, usual: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[OutcropError]
) -> None:
    from milvus_lite.engine.collection import Collection as Engine

    def broken(*_: object) -> None:
        raise error

    said = []
    with Store.connect(str(tmp_path / "a.db")) as store:
        collection = Collection.create(store, "c", SPACE)
        collection.upsert(items(3), unit(np.random.default_rng(4), 3))
        monkeypatch.setattr(Engine, "_apply", broken)
        for _ in range(2):
            with pytest.raises(OutcropError) as caught:
                collection.upsert(items(3), unit(np.random.default_rng(4), 3))
            assert type(caught.value) is kind
            said.append(str(caught.value))
            usual()
        monkeypatch.undo()
    assert said[0] == said[1]
