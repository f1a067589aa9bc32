"""`collection audit` and `prune`: registry, disk and collection against each other."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from operations import (
    MODEL,
    collection,
    done,
)
from pictures import picture, write_dataset

from outcrop.schema.filters import where
from outcrop.schema.item import image_key, item_id
from outcrop.store.collection import Collection
from outcrop.store.connection import Store


@pytest.fixture
def dataset(uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ingested dataset of six pictures in two captures; its folder. OUTCROP_COLLECTION is its collection."""
    monkeypatch.setenv("OUTCROP_COLLECTION", name)
    return ingested(Path.cwd())


@pytest.fixture
def lite_dataset(lite: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same on Milvus Lite alone, for what no backend can change."""
    monkeypatch.setenv("OUTCROP_COLLECTION", name)
    return ingested(Path.cwd())


def ingested(tmp_path: Path) -> Path:
    write_dataset(tmp_path, {"250918092555_300": 4, "250918101210_150": 2}, name="town")
    outcome = run("ingest", "dataset", "town", *MODEL, "--json", "--no-thumbnails")
    assert outcome.code == 0, outcome.err
    return tmp_path / "images"


def file_of(folder: Path, frame: int) -> Path:
    return folder / f"250918092555_300/250918092555_300_{frame:04d}.jpg"


def rows_of(uri: str, name: str) -> dict[str, dict[str, Any]]:
    with Store.connect(uri) as store:
        pages = Collection.open(store, name).scan_rows(where(), ["id", "key", "source_digest"])
        return {row["key"]: row for page in pages for row in page}


def test_audit_finds_and_repairs(uri: str, name: str, dataset: Path) -> None:
    in_order = done("audit")
    assert (in_order["findings"], in_order["rows"][0]["good"], in_order["fixed"]) == ([], 6, False)

    with Store.connect(uri) as store:
        Collection.open(store, name).delete([item_id(image_key("town", "250918092555_300", 1))])
    picture(900).save(file_of(dataset, 2), quality=90)
    file_of(dataset, 3).unlink()
    outcome = collection("audit", "--metrics-file", "audit.prom")
    line = outcome.error(4)
    assert "1 missing, 1 changed, 1 orphan, 1 no file" in line
    key = {frame: image_key("town", "250918092555_300", frame) for frame in range(1, 5)}
    assert [(f["trouble"], f["key"]) for f in outcome.json["findings"]] == [
        ("missing", key[1]), ("changed", key[2]), ("orphan", key[3]), ("no file", key[3]),
    ]  # fmt: skip
    assert outcome.json["rows"][0]["good"] == 3 and len(outcome.json["repairs"]) == 3
    metrics = Path("audit.prom").read_text()
    assert f'outcrop_audit_changed{{collection="{name}"}} 1\n' in metrics and "outcrop_audit_good" in metrics

    before = rows_of(uri, name)
    collection("audit", "--fix", "--dry-run").error(4)
    assert "--yes" in collection("audit", "--fix").error(6)  # an orphan would be lost, and nobody can be asked
    assert rows_of(uri, name) == before

    outcome = collection("audit", "--fix", "--yes")
    assert "1 no file" in outcome.error(4) and outcome.json["fixed"]
    assert [f["trouble"] for f in outcome.json["findings"]] == ["no file"]
    after = rows_of(uri, name)
    assert set(after) == (set(before) | {key[1]}) - {key[3]}
    assert [k for k in before if k in after and after[k] != before[k]] == [key[2]]

    registry = json.loads(Path("data_key.json").read_text())
    registry["datasets"]["town"]["images"]["250918092555_300"] = [1, 2, 4]
    Path("data_key.json").write_text(json.dumps(registry))
    assert done("audit")["rows"][0]["good"] == 5


def test_audit_by_digest_sees_what_size_and_time_hide(lite_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(lite_dataset, 2)
    stat = file.stat()
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (found,) = collection("audit").json["findings"]  # the ctime shows that it was written to
    assert (found["trouble"], found["reason"]) == ("changed", "its file holds other bytes")
    monkeypatch.setattr("outcrop.ingest.changes.written_since", lambda *_: False)  # a disk without such times
    assert done("audit")["findings"] == []
    assert "1 changed" in collection("audit", "--digests").error(4)
    os.utime(file_of(lite_dataset, 1))  # touched, but the same bytes
    assert "1 changed" in collection("audit", "--digests").error(4)


def test_audit_of_another_space(lite: str, name: str, lite_dataset: Path) -> None:
    """The weights were exchanged: every vector is stale, and `--fix` must not mix the two."""
    weights = Path(done("describe")["weights"])
    other = bytearray(weights.read_bytes())
    other[-1] ^= 1
    Path("other.pth").write_bytes(other)
    before = rows_of(lite, name)
    file_of(lite_dataset, 1).write_bytes(file_of(lite_dataset, 2).read_bytes())
    outcome = collection("audit", "--weights", "other.pth", "--fix", "--yes")
    assert "another space" in outcome.error(4)
    assert outcome.json["rows"][0]["stale"] and any("collection switch" in line for line in outcome.json["repairs"])
    assert rows_of(lite, name) == before


@pytest.mark.parametrize("how", ["empty", "gone"])
def test_a_disk_that_is_not_mounted_empties_nothing(lite: str, name: str, lite_dataset: Path, how: str) -> None:
    shutil.rmtree(lite_dataset)
    if how == "empty":
        lite_dataset.mkdir()
    before = rows_of(lite, name)
    for arguments in (("prune", "--yes"), ("prune", "--dry-run"), ("audit", "--fix", "--yes")):
        outcome = collection(*arguments)
        assert outcome.code in (3, 6), outcome.err
        assert "root images" in outcome.error(outcome.code)
        assert rows_of(lite, name) == before


def test_prune(uri: str, name: str, dataset: Path) -> None:
    assert done("prune", "--yes")["removed"] == 0
    file_of(dataset, 1).unlink()
    file_of(dataset, 4).unlink()
    before = rows_of(uri, name)
    gone = [image_key("town", "250918092555_300", frame) for frame in (1, 4)]
    dry = done("prune", "--dry-run")
    assert ([row["key"] for row in dry["rows"]], dry["removed"]) == (gone, 0)
    assert "Nobody can be asked here: give --yes" in collection("prune").error(6)
    assert "did you mean 'town'" in collection("prune", "--dataset", "twon", "--yes").error(3)
    assert rows_of(uri, name) == before
    pruned = done("prune", "--dataset", "town", "--yes")
    assert ([row["key"] for row in pruned["rows"]], pruned["removed"]) == (gone, 2)
    assert set(rows_of(uri, name)) == set(before) - set(gone)
    assert done("prune", "--yes")["removed"] == 0


def test_prune_judges_references_by_their_own_files(
    lite: str, lite_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those made of a photograph go with it; written ones go with their file, and stay where its folder is not there."""
    turned = ("ingest", "references", "town", "--angles", "0,90", "--quiet")
    written = tmp_path / "elsewhere"
    assert run(*turned, "--write-images", written).code == 0
    assert run(*turned, "--from", written).code == 0  # the same keys: now of the files
    assert run(*turned, "--angles", "45", "--add").code == 0
    assert done("prune", "--yes")["removed"] == 0  # nobody says where the written ones lie
    (gone,) = written.rglob("250918092555_300_0002_rot090_crop60.jpg")
    gone.unlink()
    assert done("prune", "--yes")["removed"] == 0
    monkeypatch.setenv("OUTCROP_REFERENCES", str(written))
    assert [row["key"] for row in done("prune", "--yes")["rows"]] == [
        "reference/town/250918092555_300/0002/rot090/crop60"
    ]
    file_of(lite_dataset, 1).unlink()
    assert [row["key"] for row in done("prune", "--yes")["rows"]] == [
        "image/town/250918092555_300/0001",
        "reference/town/250918092555_300/0001/rot045/crop60",
    ]


def test_vectors_read_from_files_are_no_orphans(lite: str, lite_dataset: Path, name: str, tmp_path: Path) -> None:
    vector = np.zeros(1280, np.float32)
    vector[0] = 1
    (tmp_path / "tree/town/Global/c_100").mkdir(parents=True)
    np.save(tmp_path / "tree/town/Global/c_100/c_100_0001.npy", vector)
    read = ("ingest", "features", tmp_path / "tree", "--layout", "imgmatching", "--name", "town", "--quiet")
    assert run(*read).code == 0
    assert image_key("town", "c_100", 1) in rows_of(lite, name)
    assert done("prune", "--yes")["removed"] == 0
    assert done("audit")["findings"] == []


def test_thumbnails_and_kept_features_are_looked_at(lite_dataset: Path) -> None:
    def reasons(*more: object) -> dict[str, str]:
        outcome = collection("audit", *more)
        return {each["key"]: each["reason"] for each in outcome.json["findings"]}

    features = ("--features", "dense,patch")
    assert run("ingest", "dataset", "town", "--force", *features, "--json").code == 0
    assert reasons() == {}
    thumbnails, kept = sorted(Path(".outcrop/thumbnails").rglob("*.jpg")), sorted(Path().rglob("patch/*/*.npy"))
    thumbnails[0].unlink()
    thumbnails[1].write_bytes(thumbnails[1].read_bytes()[:-7])
    kept[2].write_bytes(kept[2].read_bytes()[:-100])
    found = reasons()
    assert set(found.values()) == {
        "its thumbnail is missing",
        "its thumbnail is damaged",
        "its kept features are damaged",
    }
    assert collection("audit", "--fix", "--yes").code == 0
    assert reasons("--digests") == {}
    assert len(sorted(Path(".outcrop/thumbnails").rglob("*.jpg"))) == len(thumbnails)
