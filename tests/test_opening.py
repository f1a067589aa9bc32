"""An encoder that is opened late: by the first picture, or ahead of it in a thread of its own."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import run
from pictures import write_dataset
from waiting import LONG

from outcrop.embed.models import find_model
from outcrop.embed.opening import LazyEncoder
from outcrop.schema.errors import WeightsError

SPACE = find_model("efficientnet_lite0").space


def fake(log: list[str]) -> Any:
    return SimpleNamespace(space=SPACE, encode=lambda pixels: log.append("encoded"), close=lambda: log.append("closed"))


def test_it_is_opened_ahead_by_another_thread_and_once() -> None:
    log: list[str] = []
    may_open, threads = threading.Event(), []

    def open_encoder() -> Any:
        threads.append(threading.current_thread())
        assert may_open.wait(LONG)
        return fake(log)

    encoder = LazyEncoder(SPACE, open_encoder, lambda opened: log.append("opened"))
    encoder.begin()
    encoder.begin()
    assert not encoder.is_open, "nobody waits for it yet"
    may_open.set()
    encoder.encode([])
    encoder.begin()
    encoder.close()
    assert log == ["opened", "encoded", "closed"]
    assert len(threads) == 1 and threads[0] is not threading.main_thread()


def test_whoever_asks_for_it_gets_the_reason_why_it_could_not_be_opened() -> None:
    tried: list[int] = []

    def open_encoder() -> Any:
        tried.append(1)
        raise WeightsError("damaged")

    encoder = LazyEncoder(SPACE, open_encoder)
    encoder.begin()
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"^damaged$"):
            encoder.encode([])
    encoder.close()
    assert tried == [1]


def test_close_waits_for_an_encoder_that_is_being_opened_and_closes_it() -> None:
    log: list[str] = []
    begun, may_open = threading.Event(), threading.Event()

    def open_encoder() -> Any:
        begun.set()
        assert may_open.wait(LONG)
        return fake(log)

    encoder = LazyEncoder(SPACE, open_encoder)
    encoder.begin()
    assert begun.wait(LONG)
    threading.Timer(0.05, may_open.set).start()
    encoder.close()
    assert log == ["closed"] and not encoder.is_open


def test_an_ingest_opens_ahead_only_where_something_is_to_be_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ingest = ("ingest", "dataset", "jamshill_image", "--model", "efficientnet_lite0")
    write_dataset(tmp_path, {"250918092555_300": 3})
    assert run(*ingest).code == 0
    begun: list[LazyEncoder] = []
    begin = LazyEncoder.begin
    monkeypatch.setattr(LazyEncoder, "begin", lambda self: (begun.append(self), begin(self)))
    assert run(*ingest).code == 0
    assert not begun, "nothing has changed"
    changed = tmp_path / "images/250918092555_300/250918092555_300_0002.jpg"
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert run(*ingest).code == 0
    assert len(begun) == 1
    changed.write_bytes(changed.read_bytes() + b"\0")
    said = run(*ingest, "--device", "cuda:99").error(3)
    assert "device cuda:99" in said and len(begun) == 2
