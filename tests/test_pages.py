"""Scans of a server: messages that it may send, whatever the size of the collection, and no memory for what was seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from operations import SPACE
from pymilvus import MilvusException

from outcrop.operate.cli_look import Sampling, _say_fewer
from outcrop.schema.errors import OutcropError
from outcrop.schema.indexes import PROFILES
from outcrop.schema.item import Item, Kind, image_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.pages import EachOnce, rows_of_a_page
from outcrop.store.search import queries_at_once
from outcrop.store.table import Table
from outcrop.store.verify import Verification, samples_for

MOST_BYTES = 64 * 2**20
"""What a server sends in one message."""
SEGMENT = 172_000
"""Rows in the largest segment of a million with 384 numbers: an answer had 5.8 times the rows that were asked for."""


@pytest.mark.parametrize("dim, most", [(384, 10**8), (1024, 10**8), (4096, 5 * 10**7)])
@pytest.mark.parametrize("rows", [10**4, 10**6, 10**7, 10**8])
def test_an_answer_fits_into_a_message(dim: int, most: int, rows: int) -> None:
    rows = min(rows, most)
    for fields in (["*"], ["id", "vector"], ["id"]):
        asked = rows_of_a_page(5000, dim, fields, rows)
        factor = max(1.0, rows / (SEGMENT * (384 * 4 + 1024) / (dim * 4 + 1024)))
        of_a_row = dim * 4 + 1024 if fields != ["id"] else 1024
        assert asked >= 1 and asked * factor * of_a_row <= MOST_BYTES


def test_what_was_asked_for_stays_where_it_fits() -> None:
    assert rows_of_a_page(1000, 384, ["*"], 10**6) == 1000
    assert rows_of_a_page(1, 4096, ["*"], 10**9) == 1
    assert rows_of_a_page(1000, 384, ["*"], 10**7) < 200


class Server:
    """A collection of `count` rows on a server, whose iterator gives them in the order of their ids, in pages as asked for."""

    tells = True

    def __init__(self, count: int, dim: int, stored: int) -> None:
        self.dim, self.stored, self.asked, self.described = dim, stored, 0, 0
        self.ids = sorted(Item(image_key("moor", "c", n), Kind.IMAGE, "moor", "c").id for n in range(count))

    def get_collection_stats(self, *_: object, **__: object) -> dict[str, int]:
        self.described += 1
        if not self.tells:
            raise MilvusException(65535, "PrivilegeGetStatistics: permission deny")
        return {"row_count": self.stored}

    def query(self, *_: object, output_fields: list[str], **__: object) -> list[dict[str, int]]:
        assert output_fields == ["count(*)"]
        return [{"count(*)": self.stored}]

    def load_collection(self, *_: object, **__: object) -> None:
        pass

    def list_partitions(self, *_: object, **__: object) -> list[str]:
        return ["_default"]

    def query_iterator(self, *_: object, batch_size: int, **__: object) -> Any:
        self.asked = batch_size
        ids = iter(self.ids)

        def following() -> list[dict[str, str]]:
            return [{"id": id} for _, id in zip(range(batch_size), ids, strict=False)]

        return SimpleNamespace(next=following, close=lambda: None)


@pytest.mark.parametrize("tells", [True, False], ids=["", "who may not ask for statistics"])
def test_a_scan_asks_for_fewer_rows_of_a_large_collection(tells: bool) -> None:
    for stored, most in ((2500, 1000), (10**7, 160)):
        server = Server(2500, 384, stored)
        server.tells = tells
        table = Table(Store("http://127.0.0.1:1", server, (2, 3, 5), 1.0), "moor", "moor__0", 384)  # type: ignore[arg-type]
        found = [row["id"] for page in table.scan_rows(None, ["id", "vector"], check=False) for row in page]
        assert found == server.ids and 1 <= server.asked <= most
        next(table.scan_rows(None, ["id"], check=False))
        assert server.described == 1


@pytest.mark.parametrize(
    "index, rows, most, samples",
    [
        ("FLAT", 10**5, 13, 100),
        ("FLAT", 10**6, 1, 26),
        ("FLAT", 10**9, 1, 10),
        ("FLAT", 0, 256, 100),
        ("HNSW", 10**9, 256, 100),
    ],
)
def test_as_many_queries_are_asked_as_a_server_answers_in_time(index: str, rows: int, most: int, samples: int) -> None:
    """In one request, and in all for a verification."""
    server = Server(0, 384, rows)
    store = Store("http://127.0.0.1:1", server, (2, 3, 5), 1.0)  # type: ignore[arg-type]
    space = SPACE.model_copy(update={"dim": 384})
    collection = Collection(store, "moor", "moor__0", space, PROFILES[index], {}, "")
    assert (queries_at_once(collection), samples_for(collection)) == (most, samples)


@pytest.mark.parametrize("asked, samples, rows, said", [(None, 26, 10**6, 1), (26, 26, 10**6, 0), (None, 4, 4, 0)])
def test_fewer_samples_than_usual_are_said(asked: int | None, samples: int, rows: int, said: int) -> None:
    texts: list[str] = []
    result = Verification("moor", "FLAT", 10, samples, rows, ())
    _say_fewer(SimpleNamespace(say=texts.append), Sampling(samples=asked), result)  # type: ignore[arg-type]
    assert len(texts) == said and all("26 samples" in text and "--samples" in text for text in texts)


@given(some.lists(some.integers(0, 50), min_size=1), some.integers(1, 5))
def test_a_row_that_comes_twice_or_late_is_seen(numbers: list[int], size: int) -> None:
    pages = [[f"{n:02d}" for n in numbers[start : start + size]] for start in range(0, len(numbers), size)]
    once = EachOnce("moor")
    try:
        for page in pages:
            once.require(page)
    except OutcropError as error:
        assert "gave a row twice" in str(error)
        assert sorted(set(numbers)) != numbers
    else:
        assert len(set(numbers)) == len(numbers)
