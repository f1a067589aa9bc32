"""Photographs that are decoded in processes of their own: the same rows, thumbnails and failures as by threads."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import write_dataset
from test_device_ingest import CAPTURE, Ingested, alike, files, lite, one_thread, photographs, same
from waiting import LONG, until

from outcrop.embed.encoder import Encoder
from outcrop.ingest import makers
from outcrop.ingest.makers import Makers, wanted_processes
from outcrop.ingest.references import list_references
from outcrop.ingest.sources import Contents, Todo
from outcrop.schema import processes
from outcrop.schema.crops import crop_specs, parse_angles, parse_crops
from outcrop.schema.errors import PictureError

__all__ = ["lite", "one_thread"]


def test_rows_thumbnails_and_failures_are_those_of_threads(tmp_path: Path, lite: Encoder) -> None:
    listing = photographs(tmp_path / "photos", files())
    apart = Ingested(tmp_path / "apart", listing, lite, processes=2, thumbnail_processes=1)
    here = Ingested(tmp_path / "here", listing, lite, processes=0)
    assert apart.record.upserted == here.record.upserted == 12 and apart.record.failed == 4
    same(apart, here)
    alike(apart, here)


def test_references_are_those_of_threads(tmp_path: Path, lite: Encoder) -> None:
    """What is also written as a picture is written there."""
    registry = write_dataset(tmp_path, {CAPTURE: 2})
    wanted = crop_specs(parse_angles("0,90"), parse_crops("0.6"))
    made = []
    for name, count in (("apart", 1), ("here", 0)):
        written = tmp_path / f"written-{name}"
        listing = list_references(registry, "jamshill_image", tmp_path, wanted, write_to=written)
        made.append(Ingested(tmp_path / name, listing, lite, processes=count, thumbnail_processes=count))
        assert len([path for path in written.rglob("*.*") if path.is_file()]) == 4
    assert made[0].record.upserted == 4
    same(*made)
    alike(*made)


def test_photographs_do_go_there(tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    make = Makers.make

    def watched(self: Makers, source, todo, given, *rest):  # type: ignore[no-untyped-def]
        assert given == source.path, "nothing of it is read here"
        asked.append(source.path.name)
        return make(self, source, todo, given, *rest)

    monkeypatch.setattr(Makers, "make", watched)
    listing = photographs(tmp_path / "photos", {f"{n}.jpg": data for n, data in enumerate(list(files().values())[:3])})
    Ingested(tmp_path / "state", listing, lite, processes=1)
    assert sorted(asked) == ["0.jpg", "1.jpg", "2.jpg"]


def test_only_where_there_are_many_cores_and_much_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makers, "cores", lambda: 16)
    assert (wanted_processes(999), wanted_processes(1000)) == (0, 16)
    monkeypatch.setattr(makers, "cores", lambda: 128)
    assert wanted_processes(10**6) == makers.MOST, "memory is bounded"
    monkeypatch.setattr(makers, "cores", lambda: 2)
    assert wanted_processes(10**6) == 0


def test_a_process_that_ends_costs_one_photograph(tmp_path: Path, lite: Encoder) -> None:
    listing = photographs(tmp_path / "photos", {"a.jpg": files()["plain0.jpg"]})
    (source,) = listing.sources
    contents, todo = Contents.read(source.path), [Todo(wanted) for wanted in source.wanted]
    made = Makers(1)
    try:
        ((outcome,),) = made.make(source, todo, contents, lite.space, True)
        assert outcome.item.key == todo[0].item.key
        (worker,) = made._pool.workers
        os.kill(worker.pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(lambda: list(made.make(source, todo, contents, lite.space, True)))
            until(lambda: worker.busy, "a question")  # and it cannot answer
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(PictureError, match=r"a\.jpg: decoding it ended the process \(SIGKILL"):
                answer.result(LONG)
        ((outcome,),) = made.make(source, todo, contents, lite.space, False)
        assert outcome.item.source_digest
    finally:
        made.close()


def test_where_processes_do_not_start_threads_decode(
    tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "python_command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    listing = photographs(tmp_path / "photos", files())
    done = Ingested(tmp_path / "state", listing, lite, processes=2)
    assert (done.record.upserted, done.record.failed) == (12, 4)
    assert "threads decode instead" in caplog.text
