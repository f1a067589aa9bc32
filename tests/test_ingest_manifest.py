"""`ingest manifest`: parts in one run, twice; frames and rotations chosen; plans; retry; what is wrong is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import Outcome, run
from pictures import picture, write_dataset

from outcrop.schema.filters import where
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

GROUP = {"dataset": "town", "capture_id": "250918092555", "label_token": "300", "folder": "250918092555_300"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two datasets, and references of one of them written as pictures."""
    folder = tmp_path_factory.mktemp("manifest")
    write_dataset(folder, {"250918092555_300": 4, "250918101210_150": 3}, name="town", root="town")
    write_dataset(folder, {"field_100": 2}, name="field", root="field", seed=1)
    outcome = run(
        *("ingest", "references", "town", "--angles", "0:360:90", "--crops", "0.6", "--write-images", folder / "refs"),
        *("--registry", folder / "data_key.json", "--model", "efficientnet_lite0", "--quiet"),
        *("--uri", folder / "made.db", "--state", folder / "state"),
    )
    assert outcome.code == 0, outcome.err
    shutil.rmtree(folder / "made.db")
    shutil.rmtree(folder / "state")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("OUTCROP_REFERENCES", str(tmp_path / "refs"))
    return tmp_path


def manifest(folder: Path, *more: object, **fields: object) -> Outcome:
    """Writes a manifest and runs it."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({"model": "efficientnet_lite0", **fields}, indent=1), encoding="utf-8")
    return run("ingest", "manifest", path, "--json", *more)


def counts() -> dict[str, int]:
    with Store.connect("outcrop.db") as store:
        opened = Collection.open(store, "outcrop")
        return {text: opened.count(where(*text.split())) for text in ("kind=image", "kind=reference", "dataset=field")}


def test_datasets_and_references_in_one_run_and_again(here: Path) -> None:
    parts = {"datasets": {"town": {"captures": ["250918092555_300"]}, "field": "all"}, "image_groups": [GROUP]}
    outlook = manifest(here, "--dry-run", **parts).json
    assert (outlook["expected"], outlook["to_embed"], outlook["seconds"]) == (22, 22, None)
    assert [(p["kind"], p["dataset"], p["to_embed"]) for p in outlook["parts"]] == [
        ("image", "town", 4),
        ("image", "field", 2),
        ("reference", "town", 16),
    ]
    with Store.connect("outcrop.db") as store:
        assert Collection.find(store, "outcrop") is None
    first = manifest(here, **parts)
    assert first.code == 0, first.err
    assert (first.json["embedded"], first.json["upserted"]) == (22, 22)
    assert counts() == {"kind=image": 6, "kind=reference": 16, "dataset=field": 2}
    second = manifest(here, **parts).json
    assert (second["embedded"], second["unchanged"], second["removed"]) == (0, 22, 0)
    outlook = manifest(here, "--dry-run", **parts).json
    assert outlook["to_embed"] == 0 and outlook["seconds"] == 0
    assert "in all" in run("ingest", "manifest", here / "manifest.json", "--dry-run").out


def test_references_that_were_embedded_as_they_were_written_stay(here: Path) -> None:
    shutil.rmtree(here / "refs")
    written = ("town", "--angles", "0:360:90", "--crops", "0.6", "--write-images", here / "refs")
    model = ("--model", "efficientnet_lite0", "--quiet", "--json")
    first = run("ingest", "references", *written, *model).json
    assert first["embedded"] == 28
    parts = {"image_groups": [GROUP]}
    assert manifest(here, "--dry-run", **parts).json["to_embed"] == 0
    assert (found := manifest(here, **parts).json)["embedded"] == 0 and found["unchanged"] == 16
    rewritten = sorted((here / "refs").rglob("*rot090*.jpg"))[0]
    rewritten.write_bytes(rewritten.read_bytes())
    assert manifest(here, **parts).json["embedded"] == 1
    photo = next((here / "town").rglob("*_0002.*"))
    picture(9).save(photo)
    assert manifest(here, **parts).json["embedded"] == 4  # cut from a photograph that is another now


def test_a_plan_counts_items_that_lack_features(here: Path) -> None:
    assert manifest(here, datasets=["field"]).json["embedded"] == 2
    assert manifest(here, "--dry-run", datasets=["field"]).json["to_embed"] == 0
    wanted = {"datasets": ["field"], "features": {"grid": 2}}
    assert manifest(here, "--dry-run", **wanted).json["to_embed"] == 2
    assert manifest(here, **wanted).json["embedded"] == 2
    assert manifest(here, "--dry-run", **wanted).json["to_embed"] == 0


def test_frames_indices_and_rotations_are_chosen(here: Path) -> None:
    part = {"datasets": {"town": {"captures": {"250918092555_300": "2..3", "250918101210_150": [1, 9]}}}}
    outcome = manifest(here, **part, image_groups=[{**GROUP, "indices": [1, 2], "rotations": [90, 180]}])
    assert outcome.code == 0, outcome.err
    assert (
        outcome.json["embedded"] == 7
        and "frames of the manifest that the registry does not declare: 1 (first: 9)" in outcome.err
    )
    with Store.connect("outcrop.db") as store:
        opened = Collection.open(store, "outcrop")
        rows = [row for page in opened.scan_rows(where(), ["kind", "capture_id", "frame", "rotation"]) for row in page]
    assert {(r["capture_id"], r["frame"]) for r in rows if r["kind"] == "image"} == {
        ("250918092555_300", 2),
        ("250918092555_300", 3),
        ("250918101210_150", 1),
    }
    assert {(r["frame"], r["rotation"]) for r in rows if r["kind"] == "reference"} == {
        (n, r) for n in (1, 2) for r in (90.0, 180.0)
    }
    # Another choice adds; what it does not name stays.
    assert manifest(here, image_groups=[{**GROUP, "indices": 1, "rotations": 0}]).json["removed"] == 0
    assert counts()["kind=reference"] == 5


def test_features_and_files_of_a_manifest(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFERENCE_EMBED_ROOT", str(here / "reference_embeds"))
    parts = {
        "datasets": ["field"],
        "image_groups": [{**GROUP, "indices": 1}],
        "size": 96,
        "features": {"patch": True, "grid": 2},
        "variants": ["raw", "subsample"],
        "output": {"root": "embeds"},
    }
    assert manifest(here, **parts).code == 0
    name = "field_100_0001.npy"
    shapes = {
        "Global": (1280,),
        "Patch/raw": (3, 3, 320),
        "Patch/subsample-stride2": (2, 2, 320),
        "Grid/2": (2, 2, 320),
    }
    for place, shape in shapes.items():
        found = np.load(here / f"embeds/field/{place}/field_100/{name}").shape
        assert len(found) == len(shape) and found[:-1] == shape[:-1], place
    turned = here / "reference_embeds/town/Global/R250918092555_300/250918092555_300_0001_rot090_crop60.npy"
    assert turned.exists() and not (here / "embeds/town").exists()
    files = {path: path.stat().st_mtime_ns for path in here.rglob("*embeds/**/*.npy")}
    assert len(files) > 20
    assert manifest(here, **parts).json["embedded"] == 0
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*embeds/**/*.npy")} == files


def test_options_win_over_the_manifest_and_it_over_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_COLLECTION", "environment")
    monkeypatch.setenv("OUTCROP_MODEL", "dinov2_vits14")
    part = {"datasets": ["field"], "collection": "described", "size": 96}
    assert manifest(here, "--dry-run", **part).json["space"].startswith("efficientnet_lite0 96x96")
    assert manifest(here, **part).json["collection"] == "described"
    assert manifest(here, "--collection", "asked", **part).json["collection"] == "asked"


def test_what_failed_is_tried_again(here: Path) -> None:
    good = (here / "town/250918092555_300/250918092555_300_0002.jpg").read_bytes()
    (here / "town/250918092555_300/250918092555_300_0002.jpg").write_bytes(good[:200])
    (here / "town/250918092555_300/250918092555_300_0004.jpg").unlink()
    turned = sorted((here / "refs").rglob("*_0003_rot090_*.jpg"))[0]
    turned.write_bytes(b"no picture")
    parts = {"datasets": ["town"], "image_groups": [GROUP]}
    first = manifest(here, **parts)
    assert first.code == 4 and first.json["failed"] == 3 and first.json["missing"] == 1
    (here / "town/250918092555_300/250918092555_300_0002.jpg").write_bytes(good)
    picture(5).save(turned, quality=90)
    again = run("ingest", "retry", "last", "--json")
    assert again.code == 4 and (again.json["expected"], again.json["embedded"], again.json["failed"]) == (3, 2, 1)
    assert counts()["kind=image"] == 6 and counts()["kind=reference"] == 16


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"datasets": ["twon"]}, "unknown dataset 'twon'; did you mean 'town'?"),
        ({"datasets": {"town": {"captures": ["250918092555_30"]}}}, "did you mean '250918092555_300'?"),
        ({"image_groups": [{**GROUP, "label_token": "30"}]}, "capture '250918092555_30' is not in dataset 'town'"),
        ({"image_groups": [{**GROUP, "rotations": [45]}]}, "matches no written reference on disk"),
        ({"image_groups": [{**GROUP, "folder": "elsewhere"}]}, "matches no written reference on disk"),
        ({"image_groups": [{**GROUP, "dataset": "field"}]}, "references_field"),
        ({"datasets": ["town"], "weights": "dinov3_weights.vitl"}, "weights 'dinov3_weights.vitl' is neither a file"),
        ({"datasets": ["town"], "registry": "nowhere.json"}, "no registry at"),
        ({"datasets": ["town"], "varaints": []}, "line 6: unknown field 'varaints'; did you mean 'variants'?"),
    ],
)
def test_what_is_wrong_is_named(here: Path, fields: dict[str, object], said: str) -> None:
    assert said in manifest(here, **fields).error(3)
    assert not (here / "outcrop.db").exists()


def test_the_sample_world_by_a_manifest_twice(
    sample_world: tuple[Path, tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of all captures, written references of one, patch features raw and thinned, files: the second run does nothing."""
    world, _ = sample_world
    place = ("--registry", world / "data_key.json", "--quiet")
    scratch = ("--uri", tmp_path / "scratch.db", "--state", tmp_path / "scratch", "--model", "efficientnet_lite0")
    written = ("--angles", "0:360:90", "--crops", "0.6", "--limit", 4, "--write-images", tmp_path / "refs")
    assert run("ingest", "references", "jamshill_image", *written, *place, *scratch).code == 0
    monkeypatch.setenv("OUTCROP_REFERENCES", str(tmp_path / "refs"))
    monkeypatch.setenv("EMBED_ROOT", str(tmp_path / "embeds"))
    monkeypatch.setenv("REFERENCE_EMBED_ROOT", str(tmp_path / "reference_embeds"))
    captures = json.loads((world / "data_key.json").read_text())["datasets"]["jamshill_image"]["images"]
    capture = sorted(folder.name for folder in (tmp_path / "refs/references_jamshill_image").iterdir())[0].removeprefix(
        "R"
    )
    session, token = capture.rsplit("_", 1)
    parts = {
        "registry": str(world / "data_key.json"),
        "datasets": {"jamshill_image": {"captures": {name: f"1..{count}" for name, count in captures.items()}}},
        "image_groups": [
            {"dataset": "jamshill_image", "capture_id": session, "label_token": token, "folder": capture,
             "indices": [1, 2, 3, 4], "rotations": [0, 90, 180, 270]}
        ],
        "features": {"patch": True, "grid": 2},
        "variants": ["raw", "subsample"],
        "run": {"generate_denseft": True},
        "output": {},
    }  # fmt: skip
    first = manifest(tmp_path, **parts)
    images = sum(captures.values())
    assert first.code == 0, first.err
    assert (first.json["embedded"], first.json["failed"]) == (images + 16, 0)

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}

    before = files()
    assert len(list((tmp_path / "embeds").rglob("*.npy"))) >= images
    assert len(list((tmp_path / "reference_embeds").rglob("*.npy"))) >= 16
    second = manifest(tmp_path, **parts).json
    assert (second["embedded"], second["unchanged"], second["upserted"]) == (0, images + 16, 0)
    assert files() == before
    with Store.connect("outcrop.db") as store:
        opened = Collection.open(store, "outcrop")
        assert opened.count(where("kind=image")) == images and opened.count(where("kind=reference")) == 16
