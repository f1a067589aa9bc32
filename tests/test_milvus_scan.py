"""Scans of a server: partitions side by side, and yet every row once, in the order of the ids, in pages as asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from operations import SPACE, items, unit

from outcrop.schema.errors import OutcropError
from outcrop.schema.filters import Filter, where
from outcrop.store import milvus_scan
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.maintenance import drop

COUNT = 60
DATASETS = ("a", "b", "c")


@pytest.fixture
def filled(server_uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    """Items of three datasets, which are read in pages of seven rows each."""
    monkeypatch.setattr(milvus_scan, "SCAN_BYTES", 0)
    monkeypatch.setattr(milvus_scan, "LEAST_ROWS", 7)
    with Store.connect(server_uri) as store:
        made = Collection.create(store, name, SPACE, index="FLAT")
        for seed, dataset in enumerate(DATASETS):
            made.upsert(items(COUNT, dataset), unit(COUNT, seed=seed))
        yield made
        drop(made)


def expected(*datasets: str) -> list[str]:
    return sorted(item.id for dataset in datasets for item in items(COUNT, dataset))


@pytest.mark.parametrize("size", [20, 64, 1000])
def test_every_row_comes_once_in_the_order_of_ids(filled: Collection, size: int) -> None:
    pages = list(filled.scan_rows(Filter(), ["id", "key", "vector"], batch=size))
    assert [row["id"] for page in pages for row in page] == expected(*DATASETS)
    assert all(0 < len(page) <= size for page in pages)
    vectors = {
        item.key: v
        for seed, d in enumerate(DATASETS)
        for item, v in zip(items(COUNT, d), unit(COUNT, seed=seed), strict=True)
    }
    assert all(np.array_equal(np.float32(row["vector"]), vectors[row["key"]]) for page in pages for row in page)


def test_filters_are_kept_to_beyond_the_first_page(filled: Collection) -> None:
    two = filled.scan_rows(where("dataset=a,c"), ["id"], batch=20)
    assert [row["id"] for page in two for row in page] == expected("a", "c")
    some = [row for page in filled.scan_rows(where("frame=10..49"), ["id", "frame"], batch=20) for row in page]
    assert len(some) == 3 * 40 and all(10 <= row["frame"] <= 49 for row in some)
    assert [row["id"] for row in some] == sorted(row["id"] for row in some)


def test_a_row_that_comes_from_two_partitions_is_noticed(filled: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    merged = milvus_scan._merged
    monkeypatch.setattr(
        milvus_scan,
        "_merged",
        lambda streams: merged([*streams, streams[0].__class__(iter([[{"id": expected("a")[30]}]]))]),
    )
    with pytest.raises(OutcropError, match="gave a row twice"):
        list(filled.scan_rows(Filter(), ["id"], batch=20, check=False))
