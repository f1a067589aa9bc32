"""The ImgMatching layout: global, patch and grid features out of a collection and back; names without JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import Outcome, run
from pictures import write_dataset
from vectors import unit_vectors

from outcrop.embed.feature_files import FeatureFolder
from outcrop.schema.item import image_key, item_id, reference_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

CAPTURE = "250918092555_300"
KINDS = ("patch", "patch-stride2", "grid3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures with features, two references of each without; written as a tree."""
    folder = tmp_path_factory.mktemp("imgmatching")
    write_dataset(folder, {CAPTURE: 2}, name="town")
    place = (
        "--registry",
        folder / "data_key.json",
        "--uri",
        folder / "from.db",
        "--state",
        folder / "state",
        "--quiet",
    )
    kinds = ("--features", "patch,patch:stride=2,grid:side=3", "--features-folder", folder / "exports/features")
    model = ("--model", "efficientnet_lite0", "--size", 96)
    assert run("ingest", "dataset", "town", *place, *model, *kinds).code == 0
    assert run("ingest", "references", "town", "--angles", "0,90", *place).code == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "exports", tmp_path / "exports")
    shutil.copytree(made / "from.db", tmp_path / "from.db")
    assert export().code == 0
    return tmp_path


def export(*more: object) -> Outcome:
    return run(
        "collection", "export", "outcrop", "tree", "--layout", "imgmatching", "--uri", "from.db", "--json", *more
    )


def features(folder: object, *more: object) -> Outcome:
    return run("ingest", "features", folder, "--layout", "imgmatching", "--name", "town", "--json", *more)


def stored(uri: str) -> dict[str, tuple[object, bytes]]:
    with Store.connect(uri) as store:
        pages = Collection.open(store, "outcrop").scan(vectors=True)
        return {i.key: (i, v.tobytes()) for items, vectors in pages for i, v in zip(items, vectors, strict=True)}


def test_the_files_are_those_of_the_layout(here: Path) -> None:
    tree, rows = here / "tree/town", stored("from.db")
    assert len(rows) == 6
    names = [f"{CAPTURE}_{n:04d}" for n in (1, 2)]
    turned = [f"{name}_rot{r:03d}_crop60" for name in names for r in (0, 90)]
    assert sorted(p.stem for p in (tree / f"Global/{CAPTURE}").iterdir()) == names
    assert sorted(p.stem for p in (tree / f"Global/R{CAPTURE}").iterdir()) == turned
    vector = np.load(tree / f"Global/R{CAPTURE}/{turned[1]}.npy")
    assert vector.dtype == np.float32 and vector.tobytes() == rows[reference_key("town", CAPTURE, 1, 90, 60)][1]
    space = next(iter((here / "exports/features").iterdir()))
    kept = FeatureFolder.open(space)
    for kind, place in zip(KINDS, ("Patch/raw", "Patch/subsample-stride2", "Grid/3"), strict=True):
        array = np.load(tree / place / CAPTURE / f"{names[0]}.npy")
        assert array.dtype == np.float16
        assert np.array_equal(array, kept.read(item_id(image_key("town", CAPTURE, 1)), kind))
        assert not (tree / place / f"R{CAPTURE}").exists()
    meta = json.loads((tree / f"meta/{CAPTURE}/{names[0]}.json").read_text())
    assert meta["item"]["altitude"] == 300 and meta["model"] == "efficientnet_lite0" and meta["input"] == [96, 96]
    assert meta["files"]["Global"] == [1280] and meta["files"]["Grid/3"][:2] == [3, 3]
    assert meta["features"]["placement"]["width"] == 320


def test_writing_again_leaves_alone_what_is_up_to_date(here: Path) -> None:
    files = {p: p.stat().st_mtime_ns for p in (here / "tree").rglob("*.npy")}
    gone = here / f"tree/town/meta/{CAPTURE}/{CAPTURE}_0002.json"
    gone.unlink()
    assert export().code == 0 and gone.exists()
    again = {p for p, time in files.items() if p.stat().st_mtime_ns != time}
    assert {p.stem for p in again} == {f"{CAPTURE}_0002"}


def test_what_went_out_comes_back_with_its_features(here: Path) -> None:
    shutil.move(here / "exports", here / "before")
    outcome = features("tree")
    assert outcome.code == 0, outcome.err
    assert outcome.json["upserted"] == 6
    assert stored("outcrop.db") == stored("from.db")
    (space,) = (here / "exports/features").iterdir()
    old, new = FeatureFolder.open(here / "before/features" / space.name), FeatureFolder.open(space)
    assert list(old.ids()) == list(new.ids())
    for id in old.ids():
        before, after = old.record(id), new.record(id)
        assert before == after
        for kind in KINDS:
            assert np.array_equal(old.read(id, kind), new.read(id, kind))
    assert features("tree").json["unchanged"] == 6


def test_names_tell_where_no_json_does(tmp_path: Path) -> None:
    vectors = unit_vectors(3, 384)
    base = tmp_path / "seed/town/Global"
    for name, vector in zip(("c_150/c_150_0007", "Rc_150/c_150_0007_rot090_crop60", "c/c_0001"), vectors, strict=True):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(base / f"{name}.npy", vector[None])
    outcome = features("seed", "--model", "dinov2_vits14")
    assert outcome.code == 0, outcome.err
    rows = stored("outcrop.db")
    assert set(rows) == {
        image_key("town", "c_150", 7),
        reference_key("town", "c_150", 7, 90, 60),
        image_key("town", "c", 1),
    }
    assert [rows[key][0].altitude for key in sorted(rows)] == [0, 150, 150]  # type: ignore[attr-defined]
    assert rows[image_key("town", "c", 1)][1] == vectors[2].tobytes()
    assert features("seed/town").json["unchanged"] == 3  # the same tree, seen from the folder of the dataset
    np.save(base / "c/odd.npy", vectors[0])
    assert "its name must be <capture>_<frame>.npy" in features("seed").error(3)
    assert "neither Global nor" in features(base).error(3)
