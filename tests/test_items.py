"""`collection items`: all items, page by page, by their keys."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from commands import run

from outcrop.query.listing import page_of_items
from outcrop.schema.filters import where
from outcrop.schema.item import Item, Kind, image_key, specimen_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SPACE = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=8)


def places() -> list[Item]:
    found = [
        Item(
            image_key(dataset, capture, frame),
            Kind.IMAGE,
            dataset,
            capture,
            frame=frame,
            altitude=300.0,
            latitude=35.0 + frame / 1e5,
            longitude=129.0,
        )
        for dataset in ("seneca", "caliterra")
        for capture in ("b", "a")
        for frame in range(12, 0, -1)
    ]
    return [*found, Item(specimen_key("molars", "Alouatta", "000"), Kind.SPECIMEN, "molars", "000", "Alouatta")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items")
    vectors = np.random.default_rng(0).normal(size=(len(places()), 8))
    with Store.connect(str(folder / "outcrop.db")) as store:
        collection = Collection.create(store, "outcrop", SPACE)
        collection.upsert(places(), (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return folder


@pytest.mark.parametrize("limit", [1, 7, 49, 1000])
@pytest.mark.parametrize("conditions", [(), ("dataset=seneca",), ("kind=image", "frame=3..5")])
def test_pages_put_together_are_all_items_by_key(place: Path, limit: int, conditions: tuple[str, ...]) -> None:
    filter = where(*conditions)
    keys = sorted(item.key for item in places() if filter.matches({**item.row(), "kind": str(item.kind)}))
    seen: list[str] = []
    with Store.connect(str(place / "outcrop.db")) as store:
        collection = Collection.open(store, "outcrop")
        page = page_of_items(collection, filter, limit)
        while True:
            assert page.total == len(keys) and 0 < len(page.items) <= limit
            seen += [item.key for item in page.items]
            if not page.after:
                break
            page = page_of_items(collection, filter, limit, page.after)
    assert seen == keys


def test_the_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ("--uri", place / "outcrop.db")
    found = run("collection", "items", "--where", "dataset=caliterra", "--limit", 5, *store, "--json").json
    assert (found["total"], len(found["items"]), found["next"]) == (24, 5, "image/caliterra/a/0005")
    # A key that was deleted since still says where to go on, and an end of a key is enough.
    for after in ("image/caliterra/a/0005", "caliterra/a/5"):
        more = run("collection", "items", "--after", after, "--limit", 1, *store, "--json").json
        assert [item["key"] for item in more["items"]] == ["image/caliterra/a/0006"]
    rows = list(csv.DictReader(io.StringIO(run("collection", "items", *store, "--csv").out)))
    assert len(rows) == 49 and rows[-1]["key"] == "specimen/molars/Alouatta/000"
    monkeypatch.setenv("COLUMNS", "60")
    narrow = run("collection", "items", "--limit", 2, *store)
    assert "2 of 49 items" in narrow.out and "image/caliterra/a/0001" in narrow.out and "35.00001" in narrow.out
    assert "--after image/caliterra/a/0002" in narrow.err and max(map(len, narrow.out.splitlines())) <= 60


def test_nothing_found_says_why(place: Path) -> None:
    store = ("--uri", place / "outcrop.db")
    assert "the filter keeps 0 of 49 rows" in run("collection", "items", "--where", "frame=99", *store).err
    assert "did you mean 'seneca'?" in run("collection", "items", "--where", "dataset=senecca", *store).error(3)
    assert "no item 'nowhere/1'" in run("collection", "items", "--after", "nowhere/1", *store).error(3)
