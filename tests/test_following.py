"""`ingest watch`: finished files in batches, unfinished ones waited for, and a clean end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

import pytest
from commands import run, start
from pictures import picture
from waiting import LONG, until

from outcrop.ingest import following
from outcrop.ingest.following import Followed, request_to_follow
from outcrop.ingest.sources import FileState
from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings

SETTLE = 0.6
"""Seconds after which a file counts as finished."""


class Batches:
    """The batches of the folder `p`, as they come. Seconds pass for its follower only where a test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.queue, self._now, self._looks = folder, Queue[frozenset[Path]](), time.monotonic(), 0
        self._followed, self._ended = Followed(folder, SETTLE), threading.Event()
        monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=self._look, time=time.time))
        self._thread = threading.Thread(target=self._gather, daemon=True)
        self._thread.start()

    def _gather(self) -> None:
        for batch in self._followed.batches():
            self.queue.put(batch)
            if self._ended.is_set():
                return

    def _look(self) -> float:
        self._looks += 1
        return self._now

    def next(self) -> frozenset[Path]:
        """The next batch. Time goes on where none comes: what the system says late about a file begins its time anew."""
        for _ in range(int(LONG)):
            with contextlib.suppress(Empty):
                return self.queue.get(timeout=1)
            self._now += 2 * SETTLE
        raise AssertionError("no batch came")

    def write(self, file: Path, text: bytes) -> None:
        """Appends to a file, and waits until the follower has seen it so."""
        with file.open("ab") as opened:
            opened.write(text)
        until(lambda: self.has_seen(file), f"{file.name} is noticed")

    def has_seen(self, file: Path) -> bool:
        """Whether the follower knows a file as it is now."""
        return file in self.pending and self.pending[file].state == FileState.of(file)

    @property
    def pending(self) -> dict[Path, Any]:
        """What the follower waits for."""
        return self._followed._pending

    def pass_by(self, seconds: float) -> None:
        """Lets seconds pass, and waits until the follower has looked again: twice, as one look may have begun before."""
        self._now += seconds
        enough = self._looks + 2
        until(lambda: self._looks >= enough, "a look")

    def end(self) -> None:
        self._ended.set()
        (self.folder / "last.jpg").write_bytes(b"x")
        until(lambda: self.has_seen(self.folder / "last.jpg"), "the last file is noticed")
        while self._thread.is_alive():  # what the system says late about a file begins its time anew
            self._now += 2 * SETTLE
            self._thread.join(1)
        assert not self._thread.is_alive()


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batches]:
    (tmp_path / "p").mkdir()
    made = Batches(tmp_path / "p", monkeypatch)
    assert made.next() == frozenset()  # what is there already
    yield made
    made.end()


def test_a_batch_waits_for_files_that_are_being_written(batches: Batches) -> None:
    for _ in range(4):
        batches.write(batches.folder / "a.jpg", b"x" * 1000)
        batches.pass_by(SETTLE - 0.1)
        assert batches.queue.empty()
    batches.pass_by(0.2)
    assert batches.next() == frozenset()


def test_many_files_are_one_batch_and_others_none(batches: Batches) -> None:
    for number in range(20):
        (batches.folder / f"{number}.jpg").write_bytes(b"x")
    until(lambda: all(batches.has_seen(batches.folder / f"{number}.jpg") for number in range(20)), "all are noticed")
    batches.pass_by(2 * SETTLE)
    assert batches.next() == frozenset()
    (batches.folder / ".outcrop").mkdir()
    (batches.folder / ".outcrop/thumbnail.jpg").write_bytes(b"x")
    (batches.folder / "notes.txt").write_bytes(b"x")
    (batches.folder / "1.jpg").unlink()
    batches.write(batches.folder / "another.jpg", b"x")  # what happened before it has been heard of by then
    assert set(batches.pending) == {batches.folder / "another.jpg"} and batches.queue.empty()


def test_a_file_that_never_ends_does_not_keep_the_others_back(
    batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LONGEST", 3 * SETTLE)
    slow = batches.folder / "slow.jpg"
    batches.write(batches.folder / "done.jpg", b"x")
    for _ in range(100):
        batches.write(slow, b"x")
        batches.pass_by(SETTLE - 0.1)
        if not batches.queue.empty():
            break
    assert batches.next() == {slow}
    batches.pass_by(2 * SETTLE)
    assert batches.next() == frozenset()


def test_what_can_be_followed(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "x.jpg")
    request, root = request_to_follow(str(tmp_path), Settings())
    assert (request.kind, request.name, root) == ("images", tmp_path.name, tmp_path)
    with pytest.raises(InputError, match="no folder at"):
        request_to_follow("some/where", Settings())
    with pytest.raises(InputError, match="neither a folder nor a dataset"):
        request_to_follow("town", Settings())
    (tmp_path / "town").mkdir()
    Path("data_key.json").write_text(json.dumps({"datasets": {"there": {"root": "town", "files": "any"}}}))
    request, root = request_to_follow("there", Settings())
    assert (request.kind, root) == ("dataset", tmp_path / "town")


def test_without_watchfiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    (tmp_path / "p").mkdir()
    assert "install outcrop[watch]" in run("ingest", "watch", "p").error(3)


def followed(tmp_path: Path, settle: float) -> subprocess.Popen[str]:
    """`ingest watch` on a folder with one photograph, which is ingested."""
    (tmp_path / "p").mkdir()
    picture(1).save(tmp_path / "p/one.jpg")
    process = start("ingest", "watch", "p", "--model", "efficientnet_lite0", "--settle", settle, "--json", cwd=tmp_path)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["state"], first["embedded"]) == ("done", 1)
    return process


def ended(process: subprocess.Popen[str], number: signal.Signals) -> int:
    """The exit code after a signal; nothing more is printed, and no traceback."""
    try:
        process.send_signal(number)
        out, err = process.communicate(timeout=LONG)
    finally:
        process.kill()
    assert out == "" and "stopped following" in err and "Traceback" not in err
    return process.returncode


@pytest.mark.slow
def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    assert ended(followed(tmp_path, 0.5), signal.SIGINT) == 130


@pytest.mark.slow
def test_a_folder_is_followed_until_it_is_terminated(tmp_path: Path) -> None:
    process = followed(tmp_path, 3)  # the file below is written within them, however busy the machine is
    data = (tmp_path / "p/one.jpg").read_bytes()
    with (tmp_path / "p/two.jpg").open("wb") as file:
        file.write(data[:1000])
        file.flush()
        os.fsync(file.fileno())
        time.sleep(0.3)
        file.write(data[1000:])
    assert process.stdout is not None
    second = json.loads(process.stdout.readline())
    assert (second["embedded"], second["unchanged"], second["failed"]) == (1, 1, 0)
    asked = run("query", "image", "p/two.jpg", "-k", 2, "--json")  # the store is closed between batches
    assert asked.code == 0 and {hit["source"] for hit in asked.json["queries"][0]["hits"]} == {"one.jpg", "two.jpg"}
    assert ended(process, signal.SIGTERM) == 143
    assert len(run("ingest", "status", "--json").json["runs"]) == 2
