"""Thumbnails written by processes of their own are there when rows are written, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from outcrop.embed.thumbnail_processes import ThumbnailProcesses
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.schema import processes
from outcrop.schema.errors import InputError


def batch(count: int, beginning: bytes = b"\xff\xd8") -> list[tuple[str, bytes]]:
    return [(f"{n % 7:02d}{n:030x}", beginning + bytes([n]) * (10 + n)) for n in range(count)]


def test_all_are_written_and_written_anew(tmp_path: Path) -> None:
    store = ThumbnailStore.below(tmp_path)
    apart = ThumbnailProcesses(store)
    try:
        for each in (batch(33), batch(33, b"\xff\xd8\xff"), [], batch(1)):
            apart.begin(each)
            apart.finish()
            assert [store.read(id) for id, _ in each] == [data for _, data in each]
        assert [path.name for path in store.folder.rglob("*") if path.is_file() and path.suffix != ".jpg"] == []
    finally:
        apart.close()


def test_what_a_process_that_ends_has_not_written_is_written_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ThumbnailStore.below(tmp_path)
    apart = ThumbnailProcesses(store)
    try:
        apart.begin(batch(8))
        apart.finish()
        for worker in apart._workers:
            os.kill(worker.pid, signal.SIGSTOP)
        apart.begin(batch(20))
        for worker in apart._workers:
            os.kill(worker.pid, signal.SIGKILL)
        apart.finish()
        assert [store.read(id) for id, _ in batch(20)] == [data for _, data in batch(20)]
        assert "SIGKILL" in caplog.text
        apart.begin(batch(20, b"\xff\xd8\xff"))
        apart.finish()
        assert [store.read(id) for id, _ in batch(20)] == [data for _, data in batch(20, b"\xff\xd8\xff")]
    finally:
        apart.close()


def test_a_thumbnail_that_cannot_be_written_is_said_as_ever(tmp_path: Path) -> None:
    (tmp_path / "thumbnails").write_text("a file where the folder should be")
    apart = ThumbnailProcesses(ThumbnailStore.below(tmp_path))
    try:
        apart.begin(batch(4))
        with pytest.raises(InputError, match="--no-thumbnails"):
            apart.finish()
    finally:
        apart.close()


def test_where_processes_do_not_start_thumbnails_are_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "python_command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    store = ThumbnailStore.below(tmp_path)
    apart = ThumbnailProcesses(store)
    for each in (batch(5), batch(9)):
        apart.begin(each)
        apart.finish()
        assert [store.read(id) for id, _ in each] == [data for _, data in each]
    apart.close()
    assert [record.message for record in caplog.records] == ["a process that writes thumbnails ended (exit code 3)"]
