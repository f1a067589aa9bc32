"""`--rerank geometric --features patch`: patch tokens hold candidates, those that an ingest kept before any others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import run
from PIL import Image
from test_rerank import write_world

from outcrop.query.verification.confidence import MIN_INLIERS_PATCH, confidence
from outcrop.schema.item import image_key, item_id, parent_of

RERANK = ("--rerank", "geometric", "--features", "patch")
THIRD = image_key("d", "a_100", 3)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ingested world with patch features and references; tests copy it."""
    folder = tmp_path_factory.mktemp("collection")
    write_world(folder)
    place = ("--registry", folder / "data_key.json", "--uri", folder / "outcrop.db", "--state", folder / ".outcrop")
    model = ("--model", "efficientnet_lite0", "--size", 512, "--device", "cpu")
    kept = ("--features", "patch", "--features-folder", folder / "exports/features")
    assert run("ingest", "dataset", "d", *model, *kept, *place, "--json").code == 0
    assert run("ingest", "references", "d", "--angles", "0,90", "--crops", "0.6", *place, "--json").code == 0
    return folder


@pytest.fixture
def here(collection: Path, tmp_path: Path) -> Path:
    """The world, in the current folder, and a query: most of the third picture."""
    shutil.copytree(collection, tmp_path, dirs_exist_ok=True)
    with Image.open(tmp_path / "photos/a_100/a_100_0003.jpg") as whole:
        whole.crop((30, 22, 450, 338)).save(tmp_path / "query.png")
    return tmp_path


def made_anew() -> list[Path]:
    """Patch tokens that were made of pictures, and cached."""
    return sorted(Path(".outcrop/features").glob("patch-*/*/*.npz"))


def stored(key: str, kind: str = "patch") -> Path:
    """Where an item's kept features lie, or its JSON ('meta')."""
    id = item_id(key)
    return next(Path("exports/features").glob(f"*/{kind}/{id[:2]}/{id}.*"))


def test_kept_tokens_verify_without_a_look_at_the_pictures(here: Path) -> None:
    shutil.move("photos", "elsewhere")
    told = run("query", "image", "query.png", "--where", "kind=image", *RERANK, "--json").json
    (query,) = told["queries"]
    best, *others = query["hits"]
    assert query["match"] is True and best["key"] == THIRD and best["verified"] is True
    assert best["inliers"] >= 2 * MIN_INLIERS_PATCH and best["geometry"]["method"] == "patch"
    assert best["combined"] == pytest.approx(confidence(best["inliers"], "patch"), abs=1e-6)
    assert best["geometry"]["rotation"] == pytest.approx(0, abs=3) or best["geometry"]["rotation"] > 357
    assert best["geometry"]["candidate_size"] == [480, 360]
    assert len(others) == 3 and not any(hit["verified"] for hit in others)
    assert len(made_anew()) == 1, "more than the query was looked at"


def test_stored_items_ask_without_a_model(here: Path) -> None:
    shutil.rmtree("photos")
    told = run("query", "item", THIRD, "--where", "kind=image", *RERANK, "--device", "cuda:99", "--json")
    assert told.code == 0 and told.json["queries"][0]["hits"][0]["inliers"] > 200 and not made_anew()
    every = run(
        "query", "dataset", "d", "--against", "image", "--exclude-self", *RERANK, "--min-inliers", 25, "--json"
    ).json
    assert [query["hits"] for query in every["queries"]] == [[]] * 4 and not made_anew()


def test_references_are_held_by_the_tokens_of_their_photograph(here: Path) -> None:
    found = run("query", "image", "query.png", "--where", "kind=reference", "--group", "none", *RERANK, "--json").json
    best, second = found["queries"][0]["hits"][:2]
    assert parent_of(best["key"]) == parent_of(second["key"]) == THIRD
    assert best["inliers"] == second["inliers"] >= MIN_INLIERS_PATCH and len(made_anew()) == 1


def test_tokens_of_another_state_of_the_file_and_damaged_ones_are_made_anew(here: Path) -> None:
    meta = stored(THIRD, "meta")
    values = json.loads(meta.read_text())
    meta.write_text(json.dumps(values | {"source_digest": "0" * 32}))
    stored(image_key("d", "a_100", 1)).write_bytes(b"no array")
    stored(image_key("d", "a_100", 2)).unlink()
    asked = ("query", "image", "query.png", "--where", "kind=image", *RERANK, "--json")
    (query,) = run(*asked).json["queries"]
    assert query["hits"][0]["key"] == THIRD and query["hits"][0]["verified"] is True
    assert len(made_anew()) == 4  # the query, and three of four photographs
    shutil.rmtree("photos")
    shutil.rmtree(".outcrop")
    outcome = run(*asked)
    assert outcome.code == 0 and outcome.json["queries"][0]["match"] is False
    held = {hit["key"]: "tentative" in hit["geometry"] for hit in outcome.json["queries"][0]["hits"]}
    assert [held[image_key("d", "a_100", frame)] for frame in (1, 2, 3, 4)] == [False, False, False, True]


def test_another_folder_and_none(here: Path) -> None:
    shutil.move("exports", "kept")
    asked = ("query", "image", "query.png", "--where", "kind=image", *RERANK, "--json")
    kept = run(*asked, "--features-folder", "kept/features").json
    assert len(made_anew()) == 1
    anew = run(*asked).json
    assert len(made_anew()) == 5
    first, second = kept["queries"][0]["hits"][0], anew["queries"][0]["hits"][0]
    assert first["key"] == second["key"] and abs(first["inliers"] - second["inliers"]) <= 3


def test_an_evaluation_holds_patches_too(here: Path) -> None:
    shutil.rmtree("photos")
    asked = ("query", "evaluate", "d", "--truth", "own", "--where", "kind=reference", "--kind", "image", "--at", "1")
    told = run(*asked, *RERANK, "--json").json
    geometric = next(found for found in told["strategies"] if found["name"] == "geometric")
    assert geometric["overall"]["recall@1"]["value"] == 1.0


def test_the_report_needs_no_picture(here: Path) -> None:
    shutil.rmtree("photos")
    assert run("query", "item", THIRD, *RERANK, "--report", "r.html", "--json").code == 0
    assert "inliers" in Path("r.html").read_text()


def test_wrong_use(here: Path) -> None:
    ask = ("query", "image", "query.png")
    assert "--rerank geometric" in run(*ask, "--features", "patch").error(2)
    assert "--local-features patch" in run(*ask, "--rerank", "geometric", "--features-folder", "x").error(2)
    assert "patch" in run(*ask, "--rerank", "geometric", "--features", "pach").error(3)
