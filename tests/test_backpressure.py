"""A server that takes no more for now: waited for with growing pauses, said once, nothing lost; and `--write-rate`."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from milvus_server import MilvusServer, why_not
from operations import SPACE
from pymilvus import MilvusException

from outcrop.schema.errors import StoreBusy, StoreUnreachable
from outcrop.schema.item import Item, Kind, image_key
from outcrop.schema.settings import Settings
from outcrop.store import lite_write
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, translate
from outcrop.store.patience import BUSY_PATIENCE, Courtesy

SERVER = "http://milvus:19530"
LIMITS = {
    "QUOTAANDLIMITS_ENABLED": "true",
    "QUOTAANDLIMITS_DML_ENABLED": "true",
    "QUOTAANDLIMITS_DML_INSERTRATE_MAX": "0.05",
    "QUOTAANDLIMITS_DML_UPSERTRATE_MAX": "0.05",
    "QUOTAANDLIMITS_DML_INSERTRATE_COLLECTION_MAX": "0.05",
}
"""A server's settings: megabytes a second."""
LIMITED = "request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded[rate=52428.8]"


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def courteous(clock: Clock, rate: float = 0.0) -> Courtesy:
    return Courtesy(rate, clock, clock.sleep)


def items(rows: int, first: int = 0) -> list[Item]:
    numbers = range(first, first + rows)
    return [Item(image_key("town", "c", n), Kind.IMAGE, "town", "c", frame=n, source=f"{n}.jpg") for n in numbers]


def vectors(rows: int) -> Any:
    made = np.random.default_rng(rows).normal(size=(rows, SPACE.dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "code, message",
    [
        (8, LIMITED),
        (9, "quota exceeded[reason=memory quota exceeded, please allocate more resources]"),
        (1, "memory quota exceeded, please allocate more resources"),
        (1, "disk quota exhausted, please allocate more resources"),
        (1, "[upsert_rows] Retry timeout: 30s, message=rate limit exceeded[rate=0.1]"),
    ],
)
def test_what_a_busy_server_says(code: int, message: str) -> None:
    found = translate(MilvusException(code, message), "write to 'x'", SERVER)
    assert isinstance(found, StoreBusy) and found.exit_code == 5
    assert SERVER in str(found) and "takes no more for now" in str(found)


@pytest.mark.parametrize(
    "code, message",
    [(1, "collection not found[rate=1]"), (1100, "invalid parameter: limit exceeded"), (2, "node not ready")],
)
def test_what_is_something_else(code: int, message: str) -> None:
    assert not isinstance(translate(MilvusException(code, message), "write", SERVER), StoreBusy)


def test_codes_of_milvus_lite_mean_something_else() -> None:
    assert not isinstance(translate(MilvusException(8, "a table is gone"), "write", "outcrop.db"), StoreBusy)


@pytest.fixture
def refusing(
    lite_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Collection, Clock, list[int]]]:
    """A collection whose client refuses as a server does, as often as the list says, before each request."""
    refusals: list[int] = []
    clock = Clock()
    with Store.connect(lite_uri) as store:
        made = Collection.create(store, name, SPACE)
        store.courtesy = courteous(clock)
        for method in ("upsert", "delete", "flush"):
            monkeypatch.setattr(store.client, method, refused(getattr(store.client, method), refusals))
        # The codes are a server's, which is asked by requests alone.
        monkeypatch.setattr(lite_write, "insert", lambda *some: False)
        store.uri = store._shown = SERVER
        yield made, clock, refusals
        store.uri = store._shown = lite_uri


def refused(call: Any, refusals: list[int]) -> Any:
    def instead(*some: Any, **more: Any) -> Any:
        if refusals and refusals[0]:
            refusals[0] -= 1
            raise MilvusException(8, LIMITED)
        if refusals:
            refusals.pop(0)
        return call(*some, **more)

    return instead


def test_rows_are_not_lost_and_it_is_said_once(refusing: tuple[Collection, Clock, list[int]]) -> None:
    collection, clock, refusals = refusing
    said: list[str] = []
    refusals[:] = [9, 2]
    for first in (0, 40):
        assert collection.upsert(items(40, first), vectors(40), patience=1, waiting=said.append) == 40
    assert refusals == [] and collection.count() == 80
    assert len(said) == 1 and "waiting until it does" in said[0]
    first, again = clock.pauses[:9], clock.pauses[9:]
    assert all(after > before for before, after in itertools.pairwise(first[:6])), first
    assert max(first) <= 30 * 1.25 and len(again) == 2 and again[0] < 1
    refusals[:] = [3, 1]
    assert collection.delete([item.id for item in items(5)]) == 5
    collection.flush()
    assert refusals == [] and collection.count() == 75


def test_it_ends_after_an_hour_with_the_reason(refusing: tuple[Collection, Clock, list[int]]) -> None:
    collection, clock, refusals = refusing
    refusals[:] = [10**6]
    begun = clock.now
    with pytest.raises(StoreBusy, match="rate limit exceeded") as raised:
        collection.upsert(items(3), vectors(3), patience=1)
    assert isinstance(raised.value, StoreUnreachable)
    assert BUSY_PATIENCE - 60 < clock.now - begun <= BUSY_PATIENCE


@pytest.mark.parametrize("rate, rows", [(100.0, 256), (2.5, 7), (5000.0, 400)])
def test_rows_a_second(rate: float, rows: int, lite_uri: str, name: str) -> None:
    clock = Clock()
    with Store.connect(lite_uri) as store:
        made = Collection.create(store, name, SPACE)
        store.courtesy = courteous(clock, rate)
        for first in (0, rows):
            made.upsert(items(rows, first), vectors(rows))
        assert made.count() == 2 * rows
    # The rows of a second may go before it is over.
    assert abs((clock.now - 1000.0) - 2 * rows / rate) <= max(1.0, 1 / rate) + 1e-6
    assert not clock.pauses or max(clock.pauses) <= max(1.0, 1 / rate) + 1e-6


def test_the_rate_is_a_setting(lite_uri: str) -> None:
    with Store.of(Settings(uri=lite_uri, write_rate=7), create=True) as store:
        assert store.courtesy.rate == 7
    with Store.of(Settings(uri=lite_uri), create=False) as store:
        assert store.courtesy.rate == 0


@pytest.mark.slow
def test_a_server_that_limits_its_writers(tmp_path: Path) -> None:
    """A real one, at 52 kB a second: more than that is refused, waited for, and in the end there."""
    if reason := why_not():
        pytest.skip(f"no Milvus server: {reason}")
    server = MilvusServer(tmp_path / "limited", more=LIMITS)
    server.start()
    try:
        with Store.connect(server.uri) as store:
            made = Collection.create(store, "limited", SPACE, index="FLAT")
            said: list[str] = []
            for first, rows in ((0, 900), (900, 50), (950, 50)):
                made.upsert(items(rows, first), vectors(rows), patience=5, waiting=said.append)
            assert made.count() == 1000
            assert len(said) == 1 and "rate limit exceeded" in said[0], said
    finally:
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)
