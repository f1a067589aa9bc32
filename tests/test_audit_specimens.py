"""`collection audit` and `prune` for specimens: their meshes on disk against what the collection holds of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import meshes
import pytest
from commands import Outcome, run
from toy_specimens import LOOK, SPACE, Ingest, ToyEncoder, shells

from outcrop.render.workers import Workers
from outcrop.schema.item import item_id
from outcrop.store.collection import Collection
from outcrop.store.connection import Store


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(2) as pool:
        yield pool


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collection's own model is the toy: what opens it in a repair is the toy too."""
    monkeypatch.setattr("outcrop.operate.audit.resolve_space", lambda *_, **__: None)
    monkeypatch.setattr("outcrop.operate.audit.open_encoder", lambda *_, **__: ToyEncoder())


@pytest.fixture
def folder(tmp_path: Path, lite_uri: str, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four ingested specimens of three views each."""
    monkeypatch.setenv("OUTCROP_URI", lite_uri)
    folder = shells(tmp_path / "shells")
    with Store.connect(lite_uri) as store:
        record, _ = Ingest(folder, Collection.create(store, "outcrop", SPACE), workers)()
        assert record.upserted == 16
    return folder


def collection(*arguments: object) -> Outcome:
    return run("collection", *arguments, "--json")


def troubles(outcome: Outcome) -> set[tuple[str, str]]:
    return {(finding["trouble"], finding["key"]) for finding in outcome.json["findings"]}


def row(outcome: Outcome) -> dict[str, Any]:
    (only,) = outcome.json["rows"]
    return dict(only)


def test_all_is_well_without_a_registry(folder: Path) -> None:
    outcome = collection("audit")
    assert (outcome.code, row(outcome)["good"]) == (0, 16)
    assert collection("audit", "--dataset", "shells", "--digests").code == 0
    assert collection("prune", "--dry-run").json["rows"] == []


def test_what_is_gone_changed_new_or_incomplete_is_found_and_mended(folder: Path, lite_uri: str) -> None:
    (folder / "scan.Ply").unlink()
    meshes.write(folder / "ammonites/early/smooth.ply", *meshes.ball(3, (1, 0.5, 1)))
    meshes.write(folder / "snails/short.off", *meshes.ball(2))
    with Store.connect(lite_uri) as store:
        opened = Collection.open(store, "outcrop")
        opened.delete([item_id("view/shells/snails/tall one/01"), item_id("specimen/shells/ammonites/early/RIBBED")])
        opened.flush()
    outcome = collection("audit")
    assert outcome.code == 4
    assert troubles(outcome) == {
        *(("orphan", f"view/shells/scan/{n:02d}") for n in range(3)),
        ("orphan", "specimen/shells/scan"),
        ("changed", "specimen/shells/ammonites/early/smooth"),
        ("missing", "specimen/shells/snails/short"),
        ("missing", "specimen/shells/snails/tall one"),
        ("missing", "specimen/shells/ammonites/early/RIBBED"),
    }
    assert any("ingest specimens" in line for line in outcome.json["repairs"])
    gone = collection("prune", "--dry-run")
    assert len(gone.json["rows"]) == 4 and gone.json["removed"] == 0
    mended = collection("audit", "--fix", "--yes")
    assert (mended.code, mended.json["fixed"], row(mended)["good"]) == (0, True, 16)
    with Store.connect(lite_uri) as store:
        assert Collection.open(store, "outcrop").count() == 16


def test_same_size_and_time_are_not_trusted_with_digests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "ammonites/early/RIBBED.STL"
    stat, data = file.stat(), bytearray(file.read_bytes())
    data[20] ^= 1  # in the header, which says nothing
    file.write_bytes(bytes(data))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert troubles(collection("audit")) == {("changed", "specimen/shells/ammonites/early/RIBBED")}, "its ctime is new"
    monkeypatch.setattr("outcrop.ingest.changes.written_since", lambda *_: False)  # a disk without such times
    assert collection("audit").code == 0
    assert troubles(collection("audit", "--digests")) == {("changed", "specimen/shells/ammonites/early/RIBBED")}


def test_nothing_is_removed_when_the_folder_is_away_or_empty(folder: Path, lite_uri: str) -> None:
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    for command in (("audit", "--fix", "--yes"), ("prune", "--yes")):
        assert "is its disk mounted" in collection(*command).error(3)
    folder.mkdir()
    for command in (("audit", "--fix", "--yes"), ("prune", "--yes")):
        assert "holds no mesh" in collection(*command).error(3)
    assert collection("audit", "--root", moved).code == 0
    (moved / "scan.Ply").unlink()
    assert collection("prune", "--root", moved, "--yes").json["removed"] == 4
    with Store.connect(lite_uri) as store:
        assert Collection.open(store, "outcrop").count() == 12


def test_specimens_of_two_folders_under_one_name_need_the_folder(
    folder: Path, tmp_path: Path, lite_uri: str, workers: Workers
) -> None:
    other = tmp_path / "more/shells"
    meshes.write(other / "new.stl", *meshes.ball(2))
    with Store.connect(lite_uri) as store:
        Ingest(other, Collection.open(store, "outcrop"), workers)(replace(LOOK, views=3))
    assert "come from several folders" in collection("audit").error(3)
    shutil.copy(other / "new.stl", folder)
    assert collection("audit", "--root", folder, "--digests").code == 0
