"""`ingest watch`: finished files in batches, unfinished ones waited for, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from commands import run, start
from pictures import picture

from outcrop.ingest import following
from outcrop.ingest.following import Followed, request_to_follow
from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings


@pytest.fixture
def batches(tmp_path: Path) -> Iterator[Queue[frozenset[Path]]]:
    """The batches of the folder `p`, as they come; files count as finished after 0.6 s."""
    (tmp_path / "p").mkdir()
    queue: Queue[frozenset[Path]] = Queue()
    ended = threading.Event()

    def gather() -> None:
        for batch in Followed(tmp_path / "p", 0.6).batches():
            queue.put(batch)
            if ended.is_set():
                return

    thread = threading.Thread(target=gather, daemon=True)
    thread.start()
    assert queue.get(timeout=20) == frozenset()  # what is there already
    yield queue
    ended.set()
    (tmp_path / "p/last.jpg").write_bytes(b"x")
    thread.join(20)


def test_a_batch_waits_for_files_that_are_being_written(batches: Queue[frozenset[Path]], tmp_path: Path) -> None:
    with (tmp_path / "p/a.jpg").open("wb") as file:
        for _ in range(8):
            file.write(b"x" * 1000)
            file.flush()
            time.sleep(0.2)
            assert batches.empty()
    written = time.monotonic()
    assert batches.get(timeout=20) == frozenset()
    assert time.monotonic() - written > 0.3


def test_many_files_are_one_batch_and_others_none(batches: Queue[frozenset[Path]], tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"p/{number}.jpg").write_bytes(b"x")
    assert batches.get(timeout=20) == frozenset()
    (tmp_path / "p/.outcrop").mkdir()
    (tmp_path / "p/.outcrop/thumbnail.jpg").write_bytes(b"x")
    (tmp_path / "p/notes.txt").write_bytes(b"x")
    (tmp_path / "p/1.jpg").unlink()
    time.sleep(1.5)
    assert batches.empty()


def test_a_file_that_never_ends_does_not_keep_the_others_back(
    batches: Queue[frozenset[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LONGEST", 1.5)
    (tmp_path / "p/done.jpg").write_bytes(b"x")
    slow, until = tmp_path / "p/slow.jpg", time.monotonic() + 20
    with slow.open("wb") as file:
        while batches.empty() and time.monotonic() < until:
            file.write(b"x")
            file.flush()
            time.sleep(0.1)
    assert batches.get(timeout=1) == {slow}
    assert batches.get(timeout=20) == frozenset()


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


def followed(tmp_path: Path) -> subprocess.Popen[str]:
    """`ingest watch` on a folder with one photograph, which is ingested."""
    (tmp_path / "p").mkdir()
    picture(1).save(tmp_path / "p/one.jpg")
    process = start("ingest", "watch", "p", "--model", "efficientnet_lite0", "--settle", "0.5", "--json", cwd=tmp_path)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert (first["state"], first["embedded"]) == ("done", 1)
    return process


def ended(process: subprocess.Popen[str], number: signal.Signals) -> int:
    """The exit code after a signal; nothing more is printed, and no traceback."""
    try:
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert out == "" and "stopped following" in err and "Traceback" not in err
    return process.returncode


@pytest.mark.slow
def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    assert ended(followed(tmp_path), signal.SIGINT) == 130


@pytest.mark.slow
def test_a_folder_is_followed_until_it_is_terminated(tmp_path: Path) -> None:
    process = followed(tmp_path)
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
