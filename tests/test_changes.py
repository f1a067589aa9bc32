"""What differs between sources and store is judged once: a dry run, an ingest and an audit agree."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome, run
from pictures import write_dataset

from outcrop.schema.filters import Filter, equals
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

FEW = ("--angles", "0,90,200", "--crops", "0.6")
GROUP = {"dataset": "town", "capture_id": "250918092555", "label_token": "300", "folder": "250918092555_300"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs with three references each, ingested; tests work on copies."""
    folder = tmp_path_factory.mktemp("changes")
    registry = write_dataset(folder, {"250918092555_300": 2, "250918101210_150": 1}, name="town", root="town")
    place = ("--registry", registry, "--uri", folder / "outcrop.db", "--state", folder / ".outcrop", "--quiet")
    model = ("--model", "efficientnet_lite0")
    assert run("ingest", "dataset", "town", *model, *place).code == 0
    assert run("ingest", "references", "town", *FEW, *model, *place).code == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def answer(outcome: Outcome, code: int = 0) -> Any:
    assert outcome.code == code, outcome.err
    return outcome.json


def audit(*more: object, code: int = 0) -> Any:
    return answer(run("collection", "audit", *more, "--json"), code)


def dry_run(*what: object) -> Any:
    return answer(run("ingest", *what, "--dry-run", "--json"))


def keys(kind: str) -> list[str]:
    with Store.connect("outcrop.db") as store:
        opened = Collection.open(store, "outcrop")
        return sorted(row["key"] for page in opened.scan_rows(equals("kind", kind), ["id", "key"]) for row in page)


def remove(count: int, kind: str = "reference") -> list[str]:
    """Removes the first `count` rows of a kind; returns their keys."""
    from outcrop.schema.item import item_id

    gone = keys(kind)[:count]
    with Store.connect("outcrop.db") as store:
        opened = Collection.open(store, "outcrop")
        opened.delete([item_id(key) for key in gone])
        opened.flush()
    return gone


def troubles(report: Any) -> list[tuple[str, str]]:
    return [(finding["trouble"], finding["key"]) for finding in report["findings"]]


def state_altitude(capture: str, frames: int, altitude: float) -> None:
    registry = json.loads(Path("data_key.json").read_text())
    registry["datasets"]["town"]["images"][capture] = {"frames": frames, "altitude": altitude}
    Path("data_key.json").write_text(json.dumps(registry))


def test_an_altitude_changed_in_the_registry_is_seen_by_the_dry_run_and_by_the_audit(here: Path) -> None:
    assert audit()["rows"][0]["good"] >= 3
    state_altitude("250918092555_300", 2, 310)
    assert dry_run("dataset", "town")["to_embed"] == 2
    assert dry_run("references", "town", *FEW)["to_embed"] == 6
    report = audit(code=4)
    assert {trouble for trouble, _ in troubles(report)} == {"changed"} and len(report["findings"]) == 2 + 6
    assert audit("--fix", "--yes")["rows"][0]["good"] == 3 + 9
    assert dry_run("dataset", "town")["to_embed"] == 0 == dry_run("references", "town", *FEW)["to_embed"]


def test_deleted_references_are_seen_by_the_dry_run_and_by_the_audit_and_brought_back(here: Path) -> None:
    gone = remove(5)
    assert dry_run("references", "town", *FEW)["to_embed"] == 5
    assert troubles(audit(code=4)) == [("missing", key) for key in gone]
    assert audit("--fix", "--yes")["rows"][0]["good"] == 3 + 9
    assert len(keys("reference")) == 9 and dry_run("references", "town", *FEW)["to_embed"] == 0


def test_references_that_were_pruned_come_back_with_their_photographs(here: Path) -> None:
    """Removed from the disk, pruned, restored: the audit misses photographs and references, and `--fix` brings both back."""
    folder = here / "town/250918092555_300"
    shutil.move(folder, here / "aside")
    assert answer(run("collection", "prune", "--yes", "--json"))["removed"] == 2 + 6
    shutil.move(here / "aside", folder)
    assert len(audit(code=4)["findings"]) == 2 + 6
    assert audit("--fix", "--yes")["rows"][0]["good"] == 3 + 9
    assert (len(keys("image")), len(keys("reference"))) == (3, 9)


def test_a_manifest_of_images_and_references_removes_stale_references(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six references of one capture; two of their files are gone: as many rows go, although the run has images besides."""
    place = ("--uri", here / "other.db", "--model", "efficientnet_lite0", "--quiet")
    assert run("ingest", "references", "town", *FEW, "--write-images", here / "refs", *place).code == 0
    shutil.rmtree(here / "outcrop.db")
    parts = {
        "model": "efficientnet_lite0",
        "datasets": {"town": {"captures": ["250918092555_300"]}},
        "image_groups": [GROUP],
    }
    (here / "manifest.json").write_text(json.dumps(parts))
    monkeypatch.setenv("OUTCROP_REFERENCES", str(here / "refs"))
    assert answer(run("ingest", "manifest", here / "manifest.json", "--json"))["upserted"] == 2 + 6
    for file in (here / "refs").rglob("*_rot200_*.jpg"):
        file.unlink()
    again = answer(run("ingest", "manifest", here / "manifest.json", "--json"))
    assert (again["embedded"], again["unchanged"], again["removed"]) == (0, 2 + 4, 2)
    assert len(keys("reference")) == 4 and len(keys("image")) == 2


@pytest.mark.parametrize("how", ["empty", "away"])
def test_an_unmounted_or_empty_root_makes_nothing_gone(here: Path, how: str) -> None:
    shutil.rmtree(here / "town")
    if how == "empty":
        (here / "town").mkdir()
    before = keys("image") + keys("reference")
    for arguments in (("audit", "--fix", "--yes"), ("prune", "--yes")):
        outcome = run("collection", *arguments, "--json")
        assert "root town" in outcome.error(3) and "orphan" not in outcome.out
    run("ingest", "references", "town", *FEW, "--quiet")
    run("ingest", "dataset", "town", "--quiet")
    assert keys("image") + keys("reference") == before


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that are read whole."""
    read: list[str] = []
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    yield read


def test_a_file_is_read_once_however_it_is_found_changed(here: Path, opened: list[str]) -> None:
    """The digest is that of the bytes that are decoded: a touched file is not read first and then once more."""
    photographs = sorted((here / "town").rglob("*.jpg"))
    run("ingest", "references", "town", *FEW)  # the files were copied here: they are read once to be known
    opened.clear()
    assert answer(run("ingest", "references", "town", *FEW, "--json"))["unchanged"] == 9
    assert not [name for name in opened if name.endswith(".jpg")]
    os.utime(photographs[0], (1, 1))
    assert answer(run("ingest", "references", "town", *FEW, "--json"))["unchanged"] == 9
    assert [name for name in opened if name.endswith(".jpg")] == [photographs[0].name]
    opened.clear()
    photographs[1].write_bytes(photographs[2].read_bytes())
    opened.clear()
    assert answer(run("ingest", "references", "town", *FEW, "--json"))["embedded"] == 3
    assert [name for name in opened if name.endswith(".jpg")].count(photographs[1].name) == 1
    opened.clear()
    assert answer(run("ingest", "dataset", "town", "--force", "--json"))["embedded"] == 3
    assert sorted(name for name in opened if name.endswith(".jpg")) == [path.name for path in photographs]


def test_what_is_there_is_all_in_order(here: Path) -> None:
    with Store.connect("outcrop.db") as store:
        assert Collection.open(store, "outcrop").count(Filter()) == 12
    assert audit()["findings"] == []


def replaced(path: Path) -> None:
    """Another content of the same size, with the time put back."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-9] ^= 1  # within the pixels
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def test_another_content_of_the_same_size_and_time_is_found(here: Path) -> None:
    """Its ctime is later than the row; the bytes decide."""
    one, other = sorted(here.rglob("*_150*.jpg"))[0], sorted(here.rglob("*_300*.jpg"))[0]
    assert dry_run("dataset", "town")["to_embed"] == 0
    replaced(one)
    os.utime(other, ns=(other.stat().st_atime_ns, other.stat().st_mtime_ns))  # touched only: its ctime is new
    assert dry_run("dataset", "town")["to_embed"] == 1
    for more in ((), ("--digests",)):
        found = audit(*more, code=4)["findings"]
        assert [each["trouble"] for each in found] == ["changed"] * 4  # with its three references
    done = answer(run("ingest", "dataset", "town", "--json"))
    assert (done["upserted"], done["unchanged"]) == (1, 2)


def test_a_copied_dataset_is_read_once_more_and_then_known(here: Path, opened: list[str]) -> None:
    assert answer(run("ingest", "dataset", "town", "--json"))["unchanged"] == 3
    assert sorted(set(opened)) and len([each for each in opened if each.endswith(".jpg")]) == 3
    opened.clear()
    assert answer(run("ingest", "dataset", "town", "--json"))["unchanged"] == 3
    assert not [each for each in opened if each.endswith(".jpg")]
    Path(".outcrop/checked.sqlite").write_bytes(b"damaged " * 200)
    assert answer(run("ingest", "dataset", "town", "--json"))["unchanged"] == 3
