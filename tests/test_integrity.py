"""Rows that are not what was written are refused, and `collection verify` names them: on both backends."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from vectors import unit_vectors

from outcrop.schema.errors import Damaged, InputError
from outcrop.schema.filters import Filter, where
from outcrop.schema.item import CHECKSUM, FIELDS, Item, Kind
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.integrity import _plain, _text, checksum, fault_of
from outcrop.store.rows import pack
from outcrop.store.search import search
from outcrop.store.verify import verify

DIM, ROWS = 16, 40
SPACE = Space(model="m", weights_digest="1", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=DIM)


def item(frame: int) -> Item:
    extra = {
        "label": "가",
        "width": 4000,
        "crop_box": [0.5, 0.25, 1.0, 1.0],
        "nested": {"a": 1.5, "b": None, "c": True},
    }
    return Item(
        f"image/d/c/{frame:04d}", Kind.IMAGE, "d", "c", frame=frame, altitude=300.25, latitude=37.123456789, extra=extra
    )


@pytest.fixture
def filled(store: Store, name: str) -> Collection:
    """A collection of `ROWS` rows."""
    made = Collection.create(store, name, SPACE)
    made.upsert([item(n) for n in range(ROWS)], unit_vectors(ROWS, DIM))
    made.flush()
    return made


def write_raw(collection: Collection, row: dict[str, Any]) -> None:
    """Writes a row past `pack`, as a bad disk would leave it."""
    client = collection.store.client
    write = client.insert if collection.store.lite else client.upsert
    write(collection.physical, [row], partition_name="image__d")
    collection.flush()


def spoilt(frame: int, how: str) -> dict[str, Any]:
    """The row of a frame with one thing changed after its checksum was made."""
    row = dict(pack([item(frame)], unit_vectors(ROWS, DIM)[frame : frame + 1], DIM).rows()[0])
    vector: NDArray[np.float32] = np.array(row["vector"])
    if how == "vector":  # turned a little: its length is still 1
        vector[:2] = vector[1], vector[0]
    elif how == "length":
        vector[3] += 0.5
    elif how == "altitude":
        row["altitude"] = 300.5
    elif how == "extra":
        row["width"] = 4001
    else:
        row["key"] = "image/d/c/9999"
    return {**row, "vector": vector}


def test_sound_rows_are_sound(filled: Collection) -> None:
    assert sum(len(page) for page in filled.scan_rows(Filter(), ["*"])) == ROWS
    assert all(CHECKSUM in row for page in filled.scan_rows(Filter(), ["*"]) for row in page)
    stored = filled.items([item(3).id])
    assert stored[item(3).id][0].extra == item(3).extra
    assert verify(filled, k=3, samples=10).damaged == {}


@pytest.mark.parametrize("how", ["vector", "length", "altitude", "extra", "key"])
def test_a_spoilt_row_is_refused_and_named(filled: Collection, how: str) -> None:
    write_raw(filled, spoilt(7, how))
    vectors = unit_vectors(ROWS, DIM)
    for ask in (
        lambda: search(filled, vectors[7:8], 40),
        lambda: search(filled, vectors[7:8], 40, exact=True),
        lambda: filled.items([item(7).id]),
        lambda: list(filled.scan(vectors=True)),
    ):
        with pytest.raises(Damaged, match="is damaged in the store"):
            ask()
    if how == "length":
        with pytest.raises(Damaged):
            search(filled, vectors[:1], 3, exact=True)
    found = verify(filled, k=3, samples=10)
    assert set(found.damaged) == {"image/d/c/9999" if how == "key" else "image/d/c/0007"}
    filled.upsert([item(7)], vectors[7:8], replacing=True)
    filled.flush()
    assert verify(filled, k=3, samples=10).damaged == {}


def test_rows_without_a_checksum_are_judged_by_id_and_length(filled: Collection) -> None:
    row = spoilt(7, "altitude")
    del row[CHECKSUM]
    filled.delete([row["id"]])
    write_raw(filled, row)
    assert filled.items([row["id"]])[row["id"]][0].altitude == 300.5
    assert len(search(filled, unit_vectors(ROWS, DIM)[7:8], 3, where("frame=7")).hits[0]) == 1


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), json_values, max_size=4), st.integers(0, DIM * 32 - 1))
def test_every_bit_counts(extra: dict[str, Any], bit: int) -> None:
    vector = unit_vectors(1, DIM)
    row = pack([Item("image/d/c/0001", Kind.IMAGE, "d", "c", frame=1, extra=extra)], vector, DIM).rows()[0]
    assert fault_of(row) == "" and row[CHECKSUM] == checksum(row, vector[0])
    flipped = vector[0].copy()
    flipped.view(np.uint32)[bit // 32] ^= np.uint32(1 << (bit % 32))
    assert fault_of({**row, "vector": flipped}) != ""
    free = extra.keys() - FIELDS.keys()  # fields have their types in the collection
    as_read = {name: float(value) if type(value) is int and name in free else value for name, value in row.items()}
    assert fault_of(as_read) == "", "a backend may return whole numbers as floats"


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_the_text_of_a_dynamic_field_is_that_of_the_encoder(extra: dict[str, Any]) -> None:
    """Or the checksums of rows that exist would be others."""
    plain = {name: _plain(value) for name, value in extra.items()}
    assert _text(extra) == json.dumps(plain, sort_keys=True)


def test_a_score_that_is_not_that_of_the_vector_is_refused(
    lite_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index of Milvus Lite is a file beside that of the rows; a flipped bit there changes scores alone."""
    vectors = unit_vectors(ROWS, DIM)
    with Store.connect(lite_uri, create=True) as store:
        made = Collection.create(store, name, SPACE)
        made.upsert([item(n) for n in range(ROWS)], vectors)
        real = store.client.search

        def off(*args: Any, **kwargs: Any) -> Any:
            answer = real(*args, **kwargs)
            answer[0][2]["distance"] += 1e-4
            return answer

        assert len(search(made, vectors[7:8], 5).hits[0]) == 5
        monkeypatch.setattr(store.client, "search", off)
        with pytest.raises(Damaged, match="the index gives it a score of"):
            search(made, vectors[7:8], 5)


@pytest.mark.parametrize("bit", [0, 4, 6])
def test_a_damaged_manifest_is_found_before_rows_are_removed(lite_uri: str, name: str, bit: int) -> None:
    vectors = unit_vectors(2, DIM)
    with Store.connect(lite_uri, create=True) as store:
        made = Collection.create(store, name, SPACE)
        for number, dataset in enumerate(("d", "e")):
            written = Item(f"image/{dataset}/c/1", Kind.IMAGE, dataset, "c", frame=1)
            made.upsert([written], vectors[number : number + 1])
            made.flush()
    (manifest,) = Path(lite_uri).glob("collections/*/manifest.json")
    whole, rows = manifest.read_bytes(), sorted(Path(lite_uri).rglob("*.parquet"))
    assert len(rows) == 2
    for place in (whole.index(b"{"), whole.rindex(b"data_files") + 3, whole.rindex(b".parquet") - 1, len(whole) - 1):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << bit
        manifest.write_bytes(spoilt)
        with pytest.raises(Damaged, match=r"manifest\.json is damaged"):
            Store.connect(lite_uri)
        assert sorted(Path(lite_uri).rglob("*.parquet")) == rows
    manifest.write_bytes(whole)
    with Store.connect(lite_uri) as store:
        assert Collection.open(store, name).count() == 2


def test_damage_in_the_index_alone_is_found_by_verify(lite_uri: str, name: str) -> None:
    """The index of Milvus Lite is a file of its own."""
    with Store.connect(lite_uri, create=True) as store:
        made = Collection.create(store, name, SPACE)
        made.upsert([item(n) for n in range(ROWS)], unit_vectors(ROWS, DIM))
        made.flush()
        made.wait_for_index()
        assert verify(made, k=3, samples=3).damaged == {}
    (index,) = Path(lite_uri).rglob("*.idx")
    data = bytearray(index.read_bytes())
    place = data.index(unit_vectors(ROWS, DIM)[7].tobytes()) + 4 * 5 + 2
    data[place] ^= 1 << 6
    index.write_bytes(data)
    with Store.connect(lite_uri) as store:
        found = verify(Collection.open(store, name), k=3, samples=3).damaged
    assert list(found) == ["image/d/c/0007"] and "the index gives it a score of" in found["image/d/c/0007"]


@pytest.mark.parametrize("file", ["*.parquet", "*.idx"])
@pytest.mark.parametrize("how", ["cut", "zeroed", "header"])
def test_files_that_milvus_lite_stumbles_over_are_damage(lite_uri: str, name: str, file: str, how: str) -> None:
    vectors = unit_vectors(ROWS, DIM)
    with Store.connect(lite_uri, create=True) as store:
        made = Collection.create(store, name, SPACE)
        made.upsert([item(n) for n in range(ROWS)], vectors)
        made.flush()
        made.wait_for_index()
    (path,) = Path(lite_uri).rglob(file)
    whole = path.read_bytes()
    spoilt = {"cut": whole[: len(whole) // 2], "zeroed": bytes(len(whole)), "header": b"\xff" * 40 + whole[40:]}
    path.write_bytes(spoilt[how])
    with contextlib.suppress(Damaged), Store.connect(lite_uri) as store:  # refused, or right
        verify(Collection.open(store, name), k=3, samples=3)
        assert search(Collection.open(store, name), vectors[:1], 3).hits[0][0].score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("raw", ["frame >", "altitude == 'x'", "no_field > 3", "label > 3 and frame >= 0", "1 ="])
def test_a_filter_that_is_wrong_is_not_taken_for_damage(filled: Collection, raw: str) -> None:
    for ask in (
        lambda: filled.count(where(raw=raw)),
        lambda: search(filled, unit_vectors(ROWS, DIM)[:1], 3, where(raw=raw)),
    ):
        try:
            ask()
        except InputError as error:
            assert "filter" in str(error) or raw in str(error)
