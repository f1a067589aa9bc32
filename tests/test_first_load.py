"""First ingests by files that a server reads: the rows of requests, nothing lost or doubled by a kill, one index at the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Outcome, run
from conftest import drop_since
from operations import DIM, SPACE, items, unit

from outcrop.ingest.layouts import write_space
from outcrop.schema.filters import Filter
from outcrop.schema.settings import Settings
from outcrop.store import bulk
from outcrop.store.bulk import Bulk
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.first_load import FirstLoad, make_single, recover, way_in
from outcrop.store.spool import Spool, folder_of, kept_in

ROWS = 2300
OUR_TIMES = {"ingested_at", "checksum", "vector"}
KILLED = """
import os, signal, sys
from outcrop.store import bulk
bulk.FILE_BYTES = 1
begin = bulk.begin_job
def begun(*some):
    begin(*some)
    os.kill(os.getpid(), signal.SIGKILL)
bulk.begin_job = begun
from outcrop.ingest.cli import main
main()
"""
"""An ingest that is killed as soon as the server has a job, which nobody waits for any more."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors as another program left them: an ingest that costs no model."""
    folder = tmp_path_factory.mktemp("tree")
    (folder / "town/Global/c_100").mkdir(parents=True)
    for number, vector in enumerate(unit(ROWS)):
        np.save(folder / f"town/Global/c_100/c_100_{number:04d}.npy", vector)
    write_space(folder, SPACE)
    return folder


@pytest.fixture
def server(server_uri: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """A connection to the server; files of a thousand rows, from a thousand rows on."""
    monkeypatch.setattr(bulk, "FILE_BYTES", 1)
    monkeypatch.setenv("OUTCROP_BULK", str(tmp_path / "shared"))
    monkeypatch.setenv("OUTCROP_BULK_FROM", "1000")
    with Store.connect(server_uri) as store:
        before = set(store.client.list_collections())
        yield store
        drop_since(store, before)


def arguments(tree: Path, uri: str, name: str) -> list[str]:
    place = ("--uri", uri, "--collection", name, "--json")
    return ["features", str(tree), "--layout", "imgmatching", "--name", "town", *place]


def ingest(tree: Path, uri: str, name: str, *more: object) -> Outcome:
    return run("ingest", *arguments(tree, uri, name), *more)


def stored(store: Store, name: str) -> dict[str, Any]:
    pages = Collection.open(store, name).scan_rows(Filter(), ["*"])
    rows = [row for page in pages for row in page]
    return {
        row["key"]: ({k: v for k, v in row.items() if k not in OUR_TIMES}, np.float32(row["vector"]).tobytes())
        for row in rows
    }


def kill(tree: Path, uri: str, name: str) -> None:
    """An ingest in a process of its own that is killed."""
    code = [sys.executable, "-c", KILLED, *arguments(tree, uri, name)]
    ended = subprocess.run(code, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def left() -> list[Path]:
    return [path for path in Path(".outcrop/bulk").rglob("*") if path.suffix == ".rows"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_rows_are_those_of_requests_also_after_a_kill(
    tree: Path, server: Store, name: str, lite_uri: str, tmp_path: Path
) -> None:
    sent = ingest(tree, lite_uri, name)
    assert (sent.code, sent.json["upserted"]) == (0, ROWS), sent.err
    with Store.connect(lite_uri) as lite:
        expected = stored(lite, name)
    kill(tree, server.uri, name)
    assert len(left()) == 1 and any((tmp_path / "shared").iterdir())
    assert Collection.open(server, name).profile.name == "FLAT", "the index is built when all is there"
    record = json.loads(max(Path(".outcrop/runs").glob("*/run.json")).read_text())
    assert record["upserted"] == 0, "the server has not said that it has read them"
    done = ingest(tree, server.uri, name)
    assert (done.code, done.json["unchanged"] + done.json["upserted"]) == (0, ROWS), done.err
    assert done.json["unchanged"] >= 1000, "what was kept is not embedded again"
    assert "that an ingest had embedded before it was ended" in done.err
    assert "which the server read" in done.err and "building the index HNSW" in done.err
    assert stored(server, name) == expected and Collection.open(server, name).count() == ROWS
    Collection.open(server, name).wait_for_index(400)  # the server may merge segments meanwhile, and index them anew
    facts = run("collection", "describe", name, "--uri", server.uri, "--json").json
    assert (facts["index"]["profile"], facts["index"]["state"], facts["index"]["pending"]) == ("HNSW", "Finished", 0)
    assert not left() and not any((tmp_path / "shared").iterdir())
    again = ingest(tree, server.uri, name).json
    assert (again["unchanged"], again["upserted"]) == (ROWS, 0)


def test_what_is_written_twice_is_there_once_as_it_came_last(server: Store, name: str, tmp_path: Path) -> None:
    """By another process meanwhile, which the import does not see, and by the load itself."""
    collection = Collection.create(server, name, SPACE, index="FLAT")
    said: list[str] = []
    some, first, last = items(1500, mixed=False), unit(1500), unit(3, seed=1)
    load = FirstLoad(collection, Bulk(tmp_path / "shared", 1), tmp_path / "kept", said.append)
    collection.upsert(some[:700], first[:700])  # before the job begins: of rows imported earlier it would delete those
    load.add(some, first)
    load.add(some[:3], last)
    load.close()
    assert load.arrived() == 1503 and collection.count() == 1500 and "697 rows were there twice" in said[0]
    found = collection.items([item.id for item in some[:4]])
    for number, item in enumerate(some[:4]):
        assert np.array_equal(found[item.id][1], (last if number < 3 else first)[number])
    assert stored(server, name).keys() == {item.key for item in some} and make_single(collection) == 0


def test_who_loads_already_is_left_alone(server: Store, name: str, tmp_path: Path) -> None:
    collection = Collection.create(server, name, SPACE, index="FLAT")
    settings = Settings(state=tmp_path, bulk=tmp_path / "shared", bulk_from=10)
    said: list[str] = []
    with way_in(collection, settings, 100, said.append) as first, way_in(collection, settings, 9, said.append) as other:
        assert first.load is not None and first.alone and other.load is None and not other.alone
    assert "another ingest with this state folder" in said[0]
    with way_in(collection, settings, 9, said.append) as few:
        assert few.load is None and few.alone
    with way_in(collection, settings.model_copy(update={"shard": "0/2"}), 100, said.append) as shard:
        assert shard.load is None


def test_files_of_a_collection_that_was_dropped_are_not_taken(server: Store, name: str, tmp_path: Path) -> None:
    first = Collection.create(server, name, SPACE, index="FLAT")
    settings = Settings(state=tmp_path, bulk=tmp_path / "shared", bulk_from=10)
    with way_in(first, settings, 100, lambda text: None) as way:
        assert way.load is not None
        way.load.add(items(20), unit(20))
    server.client.drop_alias(name)
    server.client.drop_collection(first.physical)
    second = Collection.create(server, name, SPACE, index="FLAT")
    with way_in(second, settings, 1, lambda text: None):
        assert second.count() == 0


# -- what is kept on the way -------------------------------------------------------------------------------------------


def test_what_was_kept_is_read_up_to_where_it_was_cut(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.rows", unit(60)
    spool = Spool(path, DIM, "s3://bucket/x")
    ends = []
    for start in range(0, 60, 20):
        spool.append(items(60)[start : start + 20], wanted[start : start + 20])
        ends.append(path.stat().st_size)
    spool.close()
    whole = path.read_bytes()
    assert folder_of(path) == "s3://bucket/x"
    for size in (len(whole), *ends, ends[0] + 1, ends[1] - 1, ends[1] + 100, 500, 3, 0):
        path.write_bytes(whole[:size])
        found = list(kept_in(path, DIM))
        count = 20 * sum(end <= size for end in ends)
        assert [item for some, _ in found for item in some] == items(60)[:count]
        assert np.array_equal(np.concatenate([np.zeros((0, DIM)), *(each for _, each in found)]), wanted[:count])
    assert list(kept_in(path, DIM + 1)) == []


def test_damage_is_not_written(tmp_path: Path) -> None:
    """A power cut may leave zeros where rows were to be: they are left out, and embedded again."""
    path = tmp_path / "a.rows"
    spool = Spool(path, DIM, "")
    spool.append(items(20), unit(20))
    spool.close()
    whole = bytearray(path.read_bytes())
    place = whole.index(unit(20)[7].tobytes())
    whole[place : place + 8] = bytes(8)
    path.write_bytes(whole)
    kept = [item for some, _ in kept_in(path, DIM) for item in some]
    assert kept == items(20)[:7] + items(20)[8:]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"cannot be kept in .* make room there"):
        Spool(tmp_path, DIM, "")


def test_nothing_to_recover_asks_nothing(tmp_path: Path, lite_uri: str, name: str) -> None:
    with Store.connect(lite_uri) as store:
        collection = Collection.create(store, name, SPACE)
        assert recover(collection, tmp_path, lambda text: None) == 0
        with way_in(collection, Settings(state=tmp_path, bulk=tmp_path, bulk_from=1), 10**7, print) as way:
            assert way.load is None and not way.alone
