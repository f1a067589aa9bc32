"""Which references a dataset should have: the collection remembers the requests, the audit lists them again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import run
from pictures import write_dataset

from outcrop.ingest.remembered import wanted_references
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import item_id
from outcrop.schema.settings import Settings
from outcrop.store.collection import PROPERTY_REFERENCES, Collection
from outcrop.store.connection import Store

MODEL = ("--model", "efficientnet_lite0", "--quiet")
CAPTURE = "250918092555_300"
GROUP = {"dataset": "town", "capture_id": "250918092555", "label_token": "300", "folder": CAPTURE}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, ingested, with two references each; tests work on copies."""
    folder = tmp_path_factory.mktemp("remembered")
    registry = write_dataset(folder, {CAPTURE: 2}, name="town", root="town")
    place = ("--registry", registry, "--uri", folder / "outcrop.db", "--state", folder / ".outcrop", *MODEL)
    assert run("ingest", "dataset", "town", *place).code == 0
    assert run("ingest", "references", "town", "--angles", "0,90", *place).code == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def references(*more: object) -> Any:
    outcome = run("ingest", "references", "town", *more, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def audit(*more: object, code: int = 0) -> Any:
    outcome = run("collection", "audit", *more, "--json")
    assert outcome.code == code, outcome.err
    return outcome.json


def wanted() -> list[tuple[int, float, int]]:
    """Frame, rotation and crop of every reference that the collection should have."""
    with Store.connect("outcrop.db") as store:
        found = wanted_references(Collection.open(store, "outcrop"), "town", Settings())
        items = [each.item for source in found.sources for each in source.wanted]
    assert len({item.key for item in items}) == len(items), "a reference is wanted once"
    return sorted((item.frame, item.rotation, item.crop) for item in items)


def delete(filter: Filter) -> int:
    with Store.connect("outcrop.db") as store:
        opened = Collection.open(store, "outcrop")
        keys = [row["key"] for page in opened.scan_rows(filter, ["id", "key"]) for row in page]
        opened.delete([item_id(key) for key in keys])
        opened.flush()
        return len(keys)


def test_requests_add_up_and_a_whole_one_takes_their_place(here: Path) -> None:
    both = [(frame, rotation, 60) for frame in (1, 2) for rotation in (0.0, 90.0)]
    assert wanted() == both
    references("--angles", "90,45", "--add")
    assert wanted() == sorted([*both, (1, 45.0, 60), (2, 45.0, 60)])
    references("--angles", "10", "--crops", "0.5", "--limit", 1)
    assert wanted() == [(1, 10.0, 50), (2, 0.0, 60), (2, 45.0, 60), (2, 90.0, 60)]
    assert audit()["rows"][0]["good"] == 2 + 4
    references("--angles", "0")
    assert wanted() == [(1, 0.0, 60), (2, 0.0, 60)]
    assert audit()["rows"][0]["good"] == 2 + 2


def test_a_retry_and_a_dry_run_are_not_remembered(here: Path) -> None:
    before = wanted()
    assert run("ingest", "references", "town", "--angles", "5", "--dry-run", "--json").code == 0
    (here / f"town/{CAPTURE}/{CAPTURE}_0001.jpg").write_bytes(b"no picture")
    assert run("ingest", "references", "town", "--angles", "0,90", "--quiet").code == 4
    assert run("ingest", "retry", "last", "--quiet").code == 4
    assert wanted() == before


def test_written_references_are_wanted_where_their_files_are(here: Path) -> None:
    references("--angles", "0,90", "--write-images", "refs")
    references("--angles", "0,90", "--from", "refs")
    assert audit()["rows"][0]["good"] == 2 + 4
    assert delete(equals("kind", "reference")) == 4
    report = audit(code=4)
    assert [finding["trouble"] for finding in report["findings"]] == ["missing"] * 4
    assert audit("--fix", "--yes")["rows"][0]["good"] == 2 + 4
    with Store.connect("outcrop.db") as store:
        rows = next(Collection.open(store, "outcrop").scan_rows(equals("kind", "reference"), ["source"]))
    assert all(row["source"].startswith("references_town/") for row in rows)
    shutil.move("refs", "away")  # not mounted: nothing is said of them, and nothing is gone
    report = audit()
    assert report["findings"] == [] and any("cannot be listed again" in line for line in report["repairs"])
    assert run("collection", "prune", "--yes", "--json").json["removed"] == 0


def test_the_references_of_a_manifest_are_remembered(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references("--angles", "0,90", "--write-images", "refs")
    shutil.rmtree("outcrop.db")
    monkeypatch.setenv("OUTCROP_REFERENCES", str(here / "refs"))
    group = {**GROUP, "rotations": [90]}
    parts = {"model": "efficientnet_lite0", "datasets": ["town"], "image_groups": [group]}
    Path("manifest.json").write_text(json.dumps(parts))
    assert run("ingest", "manifest", "manifest.json", "--json").json["upserted"] == 2 + 2
    assert wanted() == [(1, 90.0, 60), (2, 90.0, 60)]
    assert delete(equals("kind", "reference")) == 2
    assert len(audit(code=4)["findings"]) == 2
    assert audit("--fix", "--yes")["rows"][0]["good"] == 2 + 2


def test_references_that_nobody_remembers_are_judged_by_their_files(here: Path) -> None:
    """As in collections of earlier versions: what is deleted cannot be missed, what is changed or gone is seen and mended."""
    with Store.connect("outcrop.db") as store:
        Collection.open(store, "outcrop").set_property(PROPERTY_REFERENCES, "")
    assert wanted() == [] and audit()["rows"][0]["good"] == 2 + 4
    first, second = sorted((here / "town").rglob("*.jpg"))
    first.write_bytes(second.read_bytes())
    report = audit(code=4)
    assert sorted(finding["trouble"] for finding in report["findings"]) == ["changed"] * 3
    assert audit("--fix", "--yes")["rows"][0]["good"] == 2 + 4
    second.unlink()
    report = audit("--fix", "--yes", code=4)
    assert [finding["trouble"] for finding in report["findings"]] == ["no file"] and report["rows"][0]["good"] == 3


def test_what_only_digests_find_is_mended_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sorted((here / "town").rglob("*.jpg"))[0]
    stat, data = file.stat(), bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    monkeypatch.setattr("outcrop.ingest.changes.written_since", lambda *_: False)  # a disk that does not show it
    assert audit()["findings"] == []
    report = audit("--digests", code=4)
    assert {finding["reason"] for finding in report["findings"]} == {"its file holds other bytes"}
    assert len(report["findings"]) == 3
    assert audit("--digests", "--fix", "--yes")["rows"][0]["good"] == 2 + 4


def test_rows_that_their_file_no_longer_makes_are_orphans(here: Path) -> None:
    """A run that was interrupted before its end leaves rows of other angles: the audit names them, and `--fix` removes them."""
    place = ("town", "--angles", "200", "--uri", here / "other.db", *MODEL)
    assert run("ingest", "references", *place).code == 0
    with Store.connect("outcrop.db") as store, Store.connect("other.db") as other:
        items, vectors = next(Collection.open(other, "outcrop").scan(vectors=True))
        Collection.open(store, "outcrop").upsert(items, vectors)
    report = audit(code=4)
    assert {(f["trouble"], f["reason"]) for f in report["findings"]} == {("orphan", "its file no longer makes it")}
    assert audit("--fix", "--yes")["rows"][0]["good"] == 2 + 4


def test_a_copy_remembers_too(here: Path) -> None:
    before = wanted()
    assert run("collection", "copy", "outcrop", "--to-uri", here / "copy.db", "--json").code == 0
    shutil.rmtree("outcrop.db")
    shutil.move("copy.db", "outcrop.db")
    assert wanted() == before and audit()["rows"][0]["good"] == 2 + 4


def test_vectors_that_were_read_from_arrays_are_in_order_whatever_their_photographs_are(here: Path) -> None:
    tree = ("imgmatching", "--name", "town", "--quiet")
    assert run("collection", "export", "outcrop", "tree", "--layout", "imgmatching", "--quiet").code == 0
    for meta in Path("tree").rglob("*.json"):
        if meta.name != "space.json":
            meta.unlink()  # as made elsewhere: nothing says which photograph a vector is of but its name
    shutil.rmtree("outcrop.db")
    assert run("ingest", "features", "tree", "--layout", *tree, "--model", "efficientnet_lite0").code == 0
    with Store.connect("outcrop.db") as store:
        sources = [r["source"] for p in Collection.open(store, "outcrop").scan_rows(Filter(), ["source"]) for r in p]
    assert sources and all(source.endswith(".npy") for source in sources)
    assert [f for f in audit()["findings"] if f["trouble"] != "missing"] == []
