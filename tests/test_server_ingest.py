"""`ingest` and `query` on a real server: the same answers as Milvus Lite, and what happens when the server is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome, run, start
from conftest import drop_since
from milvus_server import MilvusServer, why_not
from pictures import picture, write_dataset
from waiting import SLOWLY, records, until

from outcrop.schema.filters import where
from outcrop.schema.item import image_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

MODEL = ("--model", "efficientnet_lite0")


def done(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome.json


def keys(uri: str, name: str) -> list[str]:
    """The key of every row; a row that is there twice is named twice."""
    with Store.connect(uri, timeout=60) as store:
        opened = Collection.open(store, name)
        found = [row["key"] for page in opened.scan_rows(where(), ["id", "key"]) for row in page]
        assert opened.count() == len(found)
        return sorted(found)


# -- the same as on Lite -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(server_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same two datasets ingested by command into a server and into `lite.db`; the folder of it all."""
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder, {"a_300": 5, "a_150": 3}, name="first", root="one")
    write_dataset(folder, {"b_300": 4}, name="second", root="two", seed=1)
    with Store.connect(server_uri) as store:
        before = set(store.client.list_collections())
    for uri, more in ((server_uri, ("--index", "HNSW")), (str(folder / "lite.db"), ())):
        for name in ("first", "second"):
            report = done(ingest(folder, uri, name, *more))
            assert (report["embedded"], report["upserted"], report["failed"]) == (report["expected"],) * 2 + (0,)
    yield folder
    with Store.connect(server_uri) as store:
        drop_since(store, before)


def ingest(folder: Path, uri: str, name: str, *more: object) -> Outcome:
    place = ("--registry", folder / "data_key.json", "--state", folder / "state", "--uri", uri, "--collection", "world")
    return run("ingest", "dataset", name, *MODEL, *place, "--json", *more)


def both(world: Path, server_uri: str, *arguments: object) -> tuple[Any, Any]:
    """The answers of the server and of Lite to one query."""
    common = ("--collection", "world", "--state", world / "state", "--json")
    return tuple(done(run("query", *arguments, *common, "--uri", uri)) for uri in (server_uri, world / "lite.db"))  # type: ignore[return-value]


def test_second_run_embeds_nothing(world: Path, server_uri: str) -> None:
    again = done(ingest(world, server_uri, "first"))
    assert (again["embedded"], again["upserted"], again["unchanged"]) == (0, 0, 8)
    assert done(ingest(world, server_uri, "first", "--dry-run"))["to_embed"] == 0
    assert keys(server_uri, "world") == keys(str(world / "lite.db"), "world")


@pytest.mark.parametrize(
    ("arguments", "hits"),
    [
        (("item", image_key("first", "a_300", 2), "-k", 5), 5),
        (("item", image_key("first", "a_300", 2), "-k", 20, "--exclude-self"), 11),
        (("item", image_key("first", "a_300", 2), "--where", "altitude=100..200"), 3),
        (("item", image_key("first", "a_300", 2), "--where", "dataset=second", "--where", "frame=2..3"), 2),
        (("item", image_key("first", "a_300", 2), "--where", "capture_id=a_*", "--where", "kind!=reference"), 8),
        (("item", image_key("first", "a_300", 2), "--filter", 'capture_id == "b_300" or frame == 1'), 6),
        (("item", image_key("first", "a_300", 2), "--where", "frame=99"), 0),
        (("item", image_key("first", "a_300", 2), "--exact", "-k", 7), 7),
        (("dataset", "second", "-k", 3, "--exclude-self", "--where", "altitude=300"), 3),
        (("image", "one/a_150", "-k", 2, *MODEL), 2),
    ],
)
def test_answers_are_those_of_lite(
    world: Path, server_uri: str, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], hits: int
) -> None:
    monkeypatch.chdir(world)
    server, lite = both(world, server_uri, *arguments)
    assert len(server["queries"]) == len(lite["queries"]) > 0
    for ours, theirs in zip(server["queries"], lite["queries"], strict=True):
        assert ours["query"] == theirs["query"]
        assert len(ours["hits"]) == len(theirs["hits"]) == hits
        for one, other in zip(ours["hits"], theirs["hits"], strict=True):
            assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-5)
            assert one == other


def test_an_image_finds_itself_first(world: Path, server_uri: str) -> None:
    answer, _ = both(world, server_uri, "dataset", "first", "-k", 1)
    assert [q["hits"][0]["key"] for q in answer["queries"]] == [q["query"] for q in answer["queries"]]
    assert all(q["hits"][0]["score"] == pytest.approx(1, abs=1e-5) for q in answer["queries"])


def test_a_changed_picture_replaces_its_row(world: Path, server_uri: str) -> None:
    """Last of these, for it changes the world."""
    picture(500).save(world / "two/b_300/b_300_0001.jpg", quality=90)
    report = done(ingest(world, server_uri, "second"))
    assert (report["embedded"], report["unchanged"]) == (1, 3)
    assert len(keys(server_uri, "world")) == len(set(keys(server_uri, "world"))) == 12


# -- killed ------------------------------------------------------------------------------------------------------------


def begin(folder: Path, uri: str, name: str, patience: float) -> subprocess.Popen[str]:
    """An ingest as a process of its own."""
    options = ("--batch", 4, "--no-thumbnails", "--json", "--uri", uri, "--collection", name, "--state", folder / name)
    return start(
        "ingest", "dataset", "town", *MODEL, *options, "--patience", patience, "--timeout", 10, cwd=folder,
        PYTHONPATH=str(Path(__file__).parents[1]), **SLOWLY,
    )  # fmt: skip


def halt_in_the_middle(folder: Path, ingests: dict[str, subprocess.Popen[str]]) -> None:
    """Stops each of the ingests, by the names of their collections, as soon as it has written some of its items."""
    going = dict(ingests)

    def halted() -> bool:
        for name, process in list(going.items()):
            if any(each["upserted"] >= 20 for each in records(folder / name)):
                process.send_signal(signal.SIGSTOP)
                del going[name]
            elif process.poll() is not None:
                raise AssertionError(f"{name}: nothing was written: {process.communicate()}")
        return not going

    until(halted, "rows of all")


@pytest.mark.slow
def test_server_killed_during_an_ingest(tmp_path: Path) -> None:
    """With patience the run waits for the server and ends complete; without, it ends with 5 and the next one completes."""
    if reason := why_not():
        pytest.skip(f"no Milvus server: {reason}")
    total = 160
    write_dataset(tmp_path, {"250918092555_300": total}, name="town")
    expected = [image_key("town", "250918092555_300", n) for n in range(1, total + 1)]
    server = MilvusServer(tmp_path / "milvus")
    server.start()
    patient, hasty = begin(tmp_path, server.uri, "patient", 120), begin(tmp_path, server.uri, "hasty", 1)
    try:
        halt_in_the_middle(tmp_path, {"patient": patient, "hasty": hasty})
        server.kill()
        for process in (patient, hasty):
            process.send_signal(signal.SIGCONT)

        out, err = hasty.communicate(timeout=240)
        line = Outcome(hasty.returncode, out, err).error(5)
        assert server.uri in line
        (record,) = (json.loads(f.read_text()) for f in (tmp_path / "hasty/runs").glob("*/run.json"))
        assert record["state"] == "failed" and record["error"] and 20 <= record["upserted"] < total

        assert patient.poll() is None, "the run did not wait"
        server.start()
        out, err = patient.communicate(timeout=240)
        assert patient.returncode == 0, err
        assert "Traceback" not in err
        report = json.loads(out)
        assert (report["embedded"], report["upserted"], report["failed"]) == (total, total, 0)
        assert keys(server.uri, "patient") == expected

        options = ("--uri", server.uri, "--collection", "hasty", "--state", tmp_path / "hasty", "--patience", 60)
        second = done(run("ingest", "dataset", "town", *MODEL, *options, "--no-thumbnails", "--json"))
        assert second["unchanged"] >= record["upserted"], "what was acknowledged is lost"
        assert second["embedded"] + second["unchanged"] == total and second["failed"] == 0
        assert keys(server.uri, "hasty") == expected
    finally:
        server.kill()
        for process in (patient, hasty):
            if process.poll() is None:
                process.kill()
                process.communicate()


# -- two at once -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_ingests_into_one_lite_directory(tmp_path: Path) -> None:
    total = 120
    write_dataset(tmp_path, {"250918092555_300": total}, name="town")
    first = begin(tmp_path, str(tmp_path / "outcrop.db"), "outcrop", 60)
    halt_in_the_middle(tmp_path, {"outcrop": first})
    second = run("ingest", "dataset", "town", *MODEL, "--json", "--patience", 0)
    first.send_signal(signal.SIGCONT)
    line = second.error(5)
    assert os.path.join("outcrop.db", "LOCK") in line and str(first.pid) in line
    out, err = first.communicate(timeout=240)
    assert first.returncode == 0, err
    assert json.loads(out)["upserted"] == total
    assert len(set(keys("outcrop.db", "outcrop"))) == total
    assert done(run("ingest", "dataset", "town", *MODEL, "--json"))["unchanged"] == total
