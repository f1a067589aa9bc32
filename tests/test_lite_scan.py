"""Reading a Milvus Lite collection straight from its tables gives what its own iterator gives: rows, order, fields and counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_congruence import SEED, SPACE, a_filter, an_item, unit

from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter, where
from outcrop.schema.item import FIELDS, Item
from outcrop.store import lite_scan, table
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.inventory import lite_remark
from outcrop.store.plan import LITE_ROWS

ROWS = 300


@pytest.fixture(scope="module")
def items() -> list[Item]:
    rng = random.Random(SEED + 9)
    return [an_item(rng, n) for n in range(ROWS)]


@pytest.fixture(scope="module")
def collection(items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Rows in several files and in memory, some of them replaced or deleted, before and after a flush."""
    with Store.connect(str(tmp_path_factory.mktemp("scan") / "s.db")) as store:
        made = Collection.create(store, "scan", SPACE, index="FLAT")
        vectors = unit(np.random.default_rng(3), ROWS)
        made.upsert([replace(item, source="old") for item in items[:150]], vectors[150:])
        made.flush()
        made.upsert(items[:200], vectors[:200], replacing=True)
        made.delete([item.id for item in items[:10]])
        made.flush()
        made.delete([item.id for item in items[10:20]])
        made.upsert(items[5:15], vectors[5:15])
        made.upsert(items[190:], vectors[190:], replacing=True)
        made.load()
        yield made


def read(collection: Collection, filter: Filter, fields: list[str], batch: int = 64) -> list[dict[str, Any]]:
    """All rows, with vectors as bytes so that they compare."""
    rows = [row for page in collection.scan_rows(filter, fields, batch=batch) for row in page]
    for row in rows:
        if "vector" in row:
            row["vector"] = np.asarray(row["vector"], dtype=np.float32).tobytes()
    return rows


FIELD_LISTS = (
    ["*"],
    ["id", *FIELDS],
    ["id"],
    ["key", "altitude", "width"],
    ["id", "vector"],
    ["vector", "x", "source"],
)


@pytest.mark.parametrize("number", range(12))
def test_the_same_rows_as_from_the_iterator(
    collection: Collection, items: list[Item], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    rng = random.Random(SEED + number)
    filter = Filter() if number == 0 else a_filter(rng, items)
    fields = FIELD_LISTS[number % len(FIELD_LISTS)]
    straight, count = read(collection, filter, fields, rng.choice([7, 64, 1000])), collection.count(filter)
    monkeypatch.setattr(table, "select", lambda *_: None)
    assert straight == read(collection, filter, fields)
    assert count == collection.count(filter) == len(straight)
    if number == 0:
        assert count == ROWS - 10, "10 to 14 and 5 to 9 came back, 0 to 4 and 15 to 19 did not"


def test_this_milvus_lite_is_read_straight(collection: Collection) -> None:
    """Otherwise everything would work, many times slower, without a word."""
    found = lite_scan.select(collection.store, collection.physical, "", None)
    assert found is not None and len(found) == ROWS - 10


def test_a_relative_address_is_read_straight_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Milvus Lite knows its directories by their whole paths; the process may have gone elsewhere since it opened one."""
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    with Store.connect("../r.db") as store:
        made = Collection.create(store, "relative", SPACE, index="FLAT")
        made.load()
        monkeypatch.chdir(tmp_path.parent)
        assert lite_scan.select(store, made.physical, "", None) is not None


def test_missing_memory_is_said(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(lite_scan, "_select", full)
    with pytest.raises(MemoryError):
        collection.count()


def test_a_milvus_lite_made_otherwise_is_asked(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise AttributeError("_read_snapshot")

    expected = read(collection, where("altitude=0.."), ["*"])
    monkeypatch.setattr(lite_scan, "engine_of", gone)
    assert read(collection, where("altitude=0.."), ["*"]) == expected
    assert collection.count() == ROWS - 10


def test_pages_of_the_iterator_grow(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at every row for every page, so a scan of everything takes large ones; one that stops early does not."""
    monkeypatch.setattr(table, "select", lambda *_: None)
    asked: list[int] = []
    iterator = collection.store.client.query_iterator

    def counted(*arguments: Any, **more: Any) -> Any:
        asked.append(more["batch_size"])
        return iterator(*arguments, **more)

    monkeypatch.setattr(collection.store.client, "query_iterator", counted)
    next(collection.scan_rows(None, ["id"], batch=1))
    next(collection.scan_rows(None, ["id"]))
    assert asked[0] == 1 and asked[1] == table.MOST_ROWS


def test_an_expression_that_is_not_understood_is_named(collection: Collection) -> None:
    with pytest.raises(InputError, match="does not understand the filter"):
        collection.count(Filter(raw="altitude >>> 3"))
    with pytest.raises(InputError, match="does not understand the filter"):
        next(collection.scan_rows(Filter(raw="altitude >>> 3"), ["id"]))


def test_writes_during_a_scan_do_not_disturb_it(collection: Collection, items: list[Item]) -> None:
    """A scan shows the rows that were there when it began."""
    pages = collection.scan_rows(None, ["*"], batch=50)
    first = next(pages)
    vectors = unit(np.random.default_rng(5), 30)
    new = [replace(item, key=f"{item.key}x") for item in items[:30]]
    collection.upsert(new, vectors)
    collection.flush()
    assert len(first) + sum(map(len, pages)) == ROWS - 10
    collection.delete([item.id for item in new])


def test_from_some_size_on_a_server_serves_better(collection: Collection) -> None:
    assert lite_remark(collection.store, LITE_ROWS) == ""
    assert "200,001 rows" in (text := lite_remark(collection.store, LITE_ROWS + 1)) and "--to-uri" in text


@pytest.mark.parametrize("fields", [("source_digest",), tuple(FIELDS), ("source_size", "source_mtime_ns", "mine")])
def test_rows_by_id_are_those_that_milvus_gives(
    collection: Collection, items: list[Item], fields: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [item.id for item in reversed(items)] + ['" or id != "', "gone"]
    found = collection.lookup(ids, fields)
    monkeypatch.setattr(lite_scan, "get", lambda *_: None)
    assert found == collection.lookup(ids, fields)
    assert len(found) == ROWS - 10 and collection.lookup([], fields) == {}


def test_ids_that_have_a_row_are_counted(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced, deleted and made again, on the disk and in memory."""
    with Store.connect(str(tmp_path / "s.db")) as store:
        made = Collection.create(store, "held", SPACE, index="FLAT")
        vectors, ids = unit(np.random.default_rng(4), ROWS), [item.id for item in items]
        made.upsert(items[:60], vectors[:60])
        made.flush()
        made.upsert(items[:40], vectors[:40], replacing=True)
        made.delete(ids[:30])
        made.flush()
        made.upsert(items[10:15], vectors[10:15])
        asked = [*ids[:80], "gone"]
        assert lite_scan.held(store, made.physical, asked) is None and made.held(asked) == 35
        made.flush()
        assert lite_scan.held(store, made.physical, asked) == made.held(asked) == 35
        monkeypatch.setattr(lite_scan, "held", lambda *_: None)
        assert made.held(asked) == 35 and made.held([]) == 0
