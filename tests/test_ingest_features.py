"""`ingest dataset --features`: patch and grid features by item, beside the vectors, from the same pass, once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run
from pictures import picture, write_dataset
from PIL import Image

from outcrop.embed.crops import prepare
from outcrop.embed.encoder import Encoder
from outcrop.embed.feature_files import FeatureFolder
from outcrop.embed.features import FeatureKind
from outcrop.embed.images import decode
from outcrop.embed.models import find_model
from outcrop.schema.item import image_key, item_id
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

CAPTURE = "250918092555_300"
HEADER = 128
"""Bytes of a ``.npy`` before its numbers, for every array of up to five axes."""


@pytest.fixture
def ingest(tmp_path: Path, tiny_vit: Path, lite: str) -> object:
    """The command with the smallest model."""

    def call(*more: object, features: str = "patch,grid:side=2") -> object:
        options = ("--registry", tmp_path / "data_key.json", "--weights", tiny_vit, "--model", "timm:test_vit")
        return run("ingest", "dataset", "jamshill_image", *options, "--features", features, "--json", *more)

    return call


def kept(folder: Path = Path("exports/features")) -> FeatureFolder:
    """What was kept, found by anybody who looks into the folder."""
    roots = [path.parent for path in folder.glob("*/features.json")]
    assert len(roots) == 1
    return FeatureFolder.open(roots[0])


def id_of(frame: int) -> str:
    return item_id(image_key("jamshill_image", CAPTURE, frame))


def test_500_pictures_are_written_and_read_back_mapped(ingest, tmp_path: Path, tiny_vit: Path) -> None:
    """Sizes are those that docs/features.md gives: 128 bytes and two for each number."""
    folder = tmp_path / "images" / CAPTURE
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    for frame in range(1, 501):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((200, 150), Image.Resampling.BICUBIC).save(folder / f"{CAPTURE}_{frame:04d}.jpg")
    datasets = {"jamshill_image": {"root": "images", "images": {CAPTURE: 500}}}
    (tmp_path / "data_key.json").write_text(json.dumps({"datasets": datasets}))
    done = ingest("--features-folder", tmp_path / "kept", "--no-thumbnails").json
    assert (done["embedded"], done["failed"]) == (500, 0)
    found = kept(tmp_path / "kept")
    ids = list(found.ids())
    assert len(ids) == 500 and set(ids) == {id_of(frame) for frame in range(1, 501)}
    total = sum(path.stat().st_size for path in found.root.rglob("*.npy"))
    assert total == 500 * (HEADER + 10 * 10 * 64 * 2) + 500 * (HEADER + 2 * 2 * 64 * 2)
    assert {path.stat().st_size for path in (found.root / "patch").rglob("*.npy")} == {12928}
    encoder = Encoder.open(find_model("timm:test_vit", weights=tiny_vit), device="cpu")
    for frame in (1, 250, 500):
        path = folder / f"{CAPTURE}_{frame:04d}.jpg"
        pixels = prepare(decode(path.read_bytes(), name="x", at_least=(160, 160)), encoder.space)
        expected = encoder.features(pixels[None])
        for kind in FeatureKind.parse_all("patch,grid:side=2"):
            array = found.read(id_of(frame), kind.name)
            assert isinstance(array, np.memmap) and array.dtype == np.float16
            wanted = kind.make(expected, (160, 160))[0]
            assert np.abs(array - wanted).max() < 2e-3 * np.abs(wanted).max()
    with Store.connect("outcrop.db") as store:
        items, vectors = next(Collection.open(store, "outcrop").scan(vectors=True))
        pooled = encoder.space.pooling
    assert pooled == "token" and len(items) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_second_run_does_nothing_and_new_kinds_are_added(ingest, tmp_path: Path) -> None:
    write_dataset(tmp_path, {CAPTURE: 4})
    assert ingest().json["embedded"] == 4
    before = {path: path.stat().st_mtime_ns for path in Path("exports").rglob("*")}
    again = ingest().json
    assert (again["embedded"], again["unchanged"]) == (0, 4)
    assert {path: path.stat().st_mtime_ns for path in Path("exports").rglob("*")} == before
    more = ingest("--dry-run", features="patch,patch:stride=2").json
    assert (more["unchanged"], more["to_embed"]) == (0, 4)
    assert ingest(features="patch,patch:stride=2").json["embedded"] == 4
    assert dict(kept().record(id_of(1)).kinds) == {
        "patch": (10, 10, 64),
        "grid2": (2, 2, 64),
        "patch-stride2": (5, 5, 64),
    }
    assert ingest(features="grid:side=2").json["embedded"] == 0


def test_features_of_a_collection_that_was_made_without_them(ingest, tmp_path: Path, tiny_vit: Path) -> None:
    """Rows stay as they are, and only the features are new."""
    registry = write_dataset(tmp_path, {CAPTURE: 3})
    plain = ("--registry", registry, "--weights", tiny_vit, "--model", "timm:test_vit", "--json")
    assert run("ingest", "dataset", "jamshill_image", *plain).json["embedded"] == 3
    assert not Path("exports").exists()
    assert ingest().json["embedded"] == 3
    assert len(list(kept().ids())) == 3
    assert run("ingest", "dataset", "jamshill_image", *plain).json["unchanged"] == 3


def test_a_changed_or_lost_file_is_made_again_and_only_it(ingest, tmp_path: Path) -> None:
    write_dataset(tmp_path, {CAPTURE: 3})
    ingest()
    folder = kept()
    before = np.array(folder.read(id_of(2), "patch"))
    digest = folder.record(id_of(2)).source_digest
    picture(4711).save(tmp_path / "images" / CAPTURE / f"{CAPTURE}_0002.jpg", quality=90)
    folder.path("grid2", id_of(3)).unlink()
    done = ingest().json
    assert (done["embedded"], done["unchanged"]) == (2, 1)
    assert folder.record(id_of(2)).source_digest != digest
    assert not np.array_equal(folder.read(id_of(2), "patch"), before)
    assert folder.read(id_of(3), "grid2").shape == (2, 2, 64)


def test_points_lead_back_to_the_picture(ingest, tmp_path: Path) -> None:
    write_dataset(tmp_path, {CAPTURE: 1})  # 320 x 240
    ingest("--fit", "crop", "--size", 96)
    folder = kept()
    record = folder.record(id_of(1))
    assert record.key == image_key("jamshill_image", CAPTURE, 1) and record.input == (96, 96)
    assert record.placement is not None
    assert (record.placement.width, record.placement.height) == (320, 240)
    centres = FeatureKind.parse("patch").centres((6, 6), record.input)
    places = record.placement.to_source(centres)
    assert np.allclose(places[0, 0], [40 + 19.5, 19.5]) and np.allclose(places[-1, -1], [279.5 - 20, 239.5 - 20])


def test_a_bad_picture_fails_alone(ingest, tmp_path: Path) -> None:
    write_dataset(tmp_path, {CAPTURE: 3})
    (tmp_path / "images" / CAPTURE / f"{CAPTURE}_0002.jpg").write_bytes(b"no picture")
    outcome = ingest()
    assert outcome.code == 4 and outcome.json["failed"] == 1
    assert set(kept().ids()) == {id_of(1), id_of(3)}


def test_what_is_wrong_with_the_kinds_is_said_first(ingest, tmp_path: Path) -> None:
    write_dataset(tmp_path, {CAPTURE: 1})
    assert "did you mean 'patch'" in ingest(features="path").error(3)
    assert not Path("outcrop.db").exists()


def test_a_folder_that_cannot_be_written_is_named(ingest, tmp_path: Path) -> None:
    write_dataset(tmp_path, {CAPTURE: 1})
    (tmp_path / "file").touch()
    assert "file" in ingest("--features-folder", tmp_path / "file").error(3)


def test_references_have_features_too_and_a_retry_keeps_them(ingest, tmp_path: Path, tiny_vit: Path) -> None:
    registry = write_dataset(tmp_path, {CAPTURE: 2})
    bad = tmp_path / "images" / CAPTURE / f"{CAPTURE}_0002.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(b"no picture")
    options = ("--registry", registry, "--weights", tiny_vit, "--model", "timm:test_vit", "--json")
    turned = ("jamshill_image", "--angles", "0,90", "--features", "grid:side=2")
    assert run("ingest", "references", *turned, *options).json["failed"] == 2
    assert len(list(kept().ids())) == 2
    bad.write_bytes(whole)
    assert run("ingest", "retry", "last", *options[:-1], "--json").json["embedded"] == 2
    records = [kept().record(id) for id in kept().ids()]
    assert len(records) == 4 and all(r is not None and r.placement is None for r in records)
    assert {r.key.split("/")[0] for r in records if r is not None} == {"reference"}
    assert run("ingest", "references", *turned, *options).json["embedded"] == 0


def test_prune_removes_the_features_of_items_that_are_gone(ingest, tmp_path: Path) -> None:
    registry = write_dataset(tmp_path, {CAPTURE: 4})
    ingest()
    folder = kept()
    (tmp_path / "images" / CAPTURE / f"{CAPTURE}_0002.jpg").unlink()
    prune = ("collection", "prune", "--registry", registry, "--json")
    place = ("--features-folder", "exports/features")
    assert run(*prune, *place, "--dry-run").json["features"] == 1
    assert len(list(folder.ids())) == 4 and "features" not in run(*prune, "--dry-run").json
    assert run(*prune, "--yes").json["removed"] == 1  # rows alone
    assert len(list(folder.ids())) == 4
    assert "give --yes" in run(*prune, *place).error(6)
    pruned = run(*prune, *place, "--yes").json
    assert (pruned["removed"], pruned["features"]) == (0, 1)
    assert set(folder.ids()) == {id_of(1), id_of(3), id_of(4)}
    assert not list(Path("exports").rglob(f"{id_of(2)}*")) and folder.read(id_of(3), "patch").ndim == 3
    assert run(*prune, *place, "--yes").json["features"] == 0
    assert "nowhere" in run(*prune, "--features-folder", "nowhere").error(3)
