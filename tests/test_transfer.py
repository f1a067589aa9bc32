"""Export, import and copy: what goes out comes back bit for bit."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving import (
    DIM,
    FORMATS,
    OTHER,
    SPACE,
    collection,
    content,
    content_of,
    done,
    expected,
    items,
    make,
    names,
    odd_items,
    unit,
)

from outcrop.schema.item import FIELDS, Item, Kind, image_key
from outcrop.schema.space import Space
from outcrop.store.arrays import export_arrays, import_arrays
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.maintenance import drop
from outcrop.store.transfer import export_parquet, import_parquet

# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_export_then_import(uri: str, name: str) -> None:
    rows = odd_items(300)
    physical = make(uri, name, rows)
    assert content(uri, name) == expected(rows)
    for file in FORMATS:
        assert done("export", name, file) == {"rows": 300, "file": file, "collection": physical}
        back = done("import", file, "--to", f"{name}_back")
        assert (back["rows"], back["physical"]) == (300, f"{name}_back__{SPACE.fingerprint[:8]}")
        assert content(uri, f"{name}_back") == expected(rows), file
        assert done("describe", f"{name}_back")["space"] == done("describe", name)["space"]
        done("drop", f"{name}_back", "--yes")
    assert not list(Path().glob(".*"))


def test_import_replaces_rows_of_the_same_key(uri: str, name: str) -> None:
    rows = items(30)
    make(uri, name, [replace(item, extra={"width": 640}) for item in rows])
    done("export", name, "x.parquet")
    before = content(uri, name)
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        opened.upsert([replace(rows[0], extra={"width": 1, "height": 2}), items(2, "field")[1]], unit(2, seed=5))
        opened.delete([rows[1].id])
    assert done("import", "x.parquet")["physical"] == done("describe", name)["physical"], "the name it came from"
    after = content(uri, name)
    assert {id: after[id] for id in before} == before
    assert len(after) == 31


def test_a_part_is_exported(uri: str, name: str) -> None:
    rows = [*items(12), *items(5, "field")]
    make(uri, name, rows)
    assert done("export", name, "x.parquet", "--where", "dataset=town", "--where", "altitude=100..200")["rows"] == 8
    assert set(pq.read_table("x.parquet").column("dataset").to_pylist()) == {"town"}
    assert done("export", name, "none.parquet", "--where", "dataset=sea")["rows"] == 0
    assert done("import", "none.parquet", "--to", f"{name}_none")["rows"] == 0
    assert done("export", name, "none.npy", "--where", "dataset=sea")["rows"] == 0
    assert np.load("none.npy").shape == (0, DIM)


def test_columns_are_the_fields(lite: str, name: str) -> None:
    rows = odd_items(40)
    make(lite, name, rows)
    done("export", name, "x.parquet")
    table = pq.read_table("x.parquet")
    assert table.column_names == [*FIELDS, "vector", "extra"]
    by_key = {item.key: (item, vector) for item, vector in zip(rows, unit(40), strict=True)}
    ids = []
    for row in table.to_pylist():
        item, vector = by_key[row["key"]]
        ids.append(item.id)
        assert all(row[field] == getattr(item, field) for field in FIELDS)
        assert np.asarray(row["vector"], np.float32).tobytes() == vector.tobytes()
        assert json.loads(row["extra"]) == item.extra
    assert ids == sorted(ids)
    assert Space.model_validate_json(table.schema.metadata[b"outcrop.space"]) == SPACE


def test_arrays_lie_row_by_row_beside_their_keys(lite: str, name: str) -> None:
    import faiss

    rows = odd_items(40)
    make(lite, name, rows)
    vector_of = {item.key: vector for item, vector in zip(rows, unit(40), strict=True)}
    for file in ("a.npy", "b.faiss"):
        done("export", name, file)
        keys = Path(file).with_suffix(".ids.txt").read_bytes().decode().split("\n")[:-1]
        vectors = np.load(file) if file == "a.npy" else faiss.read_index(file).reconstruct_n(0, 40)
        assert vectors.dtype == np.float32
        assert [v.tobytes() for v in vectors] == [vector_of[key].tobytes() for key in keys]
        lines = Path(file).with_suffix(".items.jsonl").read_bytes().decode().split("\n")[:-1]
        assert [json.loads(line)["key"] for line in lines] == keys
        assert Space.model_validate_json(Path(file).with_suffix(".space.json").read_text()) == SPACE


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(lambda t: unicodedata.normalize("NFC", t))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
RESERVED = {*FIELDS, "id", "vector", "extra", "$meta"}


@st.composite
def any_item(draw: st.DrawFn) -> Item:
    dataset = draw(TEXT.filter(bool))
    return Item(
        image_key(dataset, draw(TEXT.filter(bool)), draw(st.integers(0, 99999))),
        Kind.IMAGE,
        dataset,
        draw(TEXT),
        category=draw(TEXT),
        source=draw(TEXT),
        frame=draw(st.integers(-(2**63) + 1, 2**63 - 1)),
        altitude=draw(st.floats(0, 1e6)),
        captured_at=draw(TEXT.map(lambda text: text[:10])),
        extra=draw(st.dictionaries(TEXT.filter(lambda text: bool(text) and text not in RESERVED), JSON, max_size=3)),
    )


@pytest.mark.slow
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(any_item(), min_size=1, max_size=25, unique_by=lambda item: item.id))
def test_any_items_come_back(lite_uri: str, rows: list[Item]) -> None:
    with Store.connect(lite_uri) as store:
        one = Collection.create(store, "one", SPACE)
        one.upsert(rows, unit(len(rows)))
        for file in FORMATS:
            export, load = (export_parquet, import_parquet) if file == "x.parquet" else (export_arrays, import_arrays)
            assert export(one, Path(file)).rows == len(rows)
            load(store, Path(file), "two")
            two = Collection.open(store, "two")
            assert content_of(two) == expected(rows)
            drop(two)
        drop(one)


# -- copy --------------------------------------------------------------------------------------------------------------


def copy_there_and_back(lite: str, server: str, name: str, rows: list[Item]) -> None:
    make(lite, name, rows)
    before = content(lite, name)
    dry = done("copy", name, "--to-uri", server, "--dry-run")
    assert dry["rows"] == len(rows) and f"{name}__{SPACE.fingerprint[:8]}" not in names(server)
    try:
        there = done("copy", name, "--to-uri", server, "--index", "IVF_FLAT")
        assert there["rows"] == len(rows) and there["checked"] > 0
        assert content(server, name) == before
        assert done("describe", name, "--uri", server)["index"]["profile"] == "IVF_FLAT"
        done("copy", name, "--uri", server, "--to-uri", lite, "--to", "back")
        assert content(lite, "back") == before
    finally:
        run("collection", "drop", name, "--uri", server, "--yes")


@pytest.mark.slow
def test_copy_to_a_server_and_back(lite: str, server_uri: str, name: str) -> None:
    """More rows than two pages hold and than a segment needs for an index, odd ones among them."""
    copy_there_and_back(lite, server_uri, name, [*odd_items(200), *items(2000)])


@pytest.mark.slow
def test_copy_within_one_store_and_what_it_refuses(uri: str, name: str) -> None:
    physical = make(uri, name, items(30))
    assert "is the same collection" in collection("copy", name).error(6)
    assert "is the same collection" in collection("copy", physical).error(6)
    assert done("copy", physical, "--to", f"{name}_2", "--index", "HNSW")["rows"] == 30
    assert content(uri, f"{name}_2") == content(uri, name)
    make(uri, f"{name}_3", items(3), OTHER)
    assert "[" + OTHER.fingerprint[:8] in collection("copy", name, "--to", f"{name}_3").error(6)
    assert len(content(uri, f"{name}_3")) == 3
    line = collection("copy", name, "--to-uri", "http://127.0.0.1:9", "--timeout", 2).error(5)
    assert "http://127.0.0.1:9" in line


def test_copy_over_an_older_copy(lite: str, name: str) -> None:
    make(lite, name, items(30))
    done("copy", name, "--to", f"{name}_2")
    with Store.connect(lite) as store:
        opened = Collection.open(store, name)
        opened.upsert([replace(items(30)[0], source="changed")], unit(1, seed=9))
    done("copy", name, "--to", f"{name}_2")
    assert content(lite, f"{name}_2") == content(lite, name)
