"""`ingest images FOLDER`: a folder without a registry, and everything else on the collection that it makes."""

from __future__ import annotations

import json
import random
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from commands import run
from pictures import picture

MODEL = ("--model", "efficientnet_lite0", "--quiet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four photographs with any names, ingested; tests work on copies."""
    folder = tmp_path_factory.mktemp("images")
    for number, name in enumerate(("DJI_0001.JPG", "north/DJI_0001.JPG", "north/9b810e76-6ec9.jpg", "south_80m/x.png")):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / "photos" / name)
    (folder / "photos/flight.srt").write_text("1")
    said = run(
        "ingest", "images", folder / "photos", "--uri", folder / "outcrop.db", "--state", folder / ".outcrop", *MODEL
    )
    assert said.code == 0, said.err
    (folder / "photos").rename(folder / "kept")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """The same in the current folder: the photographs moved there with the collection."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "kept").rename(tmp_path / "photos")
    assert images()["unchanged"] == 4
    return tmp_path / "photos"


def images(*more: object) -> Any:
    outcome = run("ingest", "images", "photos", *MODEL, *more, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def audit(*more: object, code: int = 0) -> Any:
    outcome = run("collection", "audit", *more, "--json")
    assert outcome.code == code, outcome.err
    return outcome.json


def test_it_says_what_it_will_do_and_what_it_does_not_read(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / "p").mkdir(exist_ok=True)
        picture(number).save(tmp_path / f"p/{uuid.UUID(int=number)}.jpg")
    (tmp_path / "p/notes.txt").write_text("x")
    looked = run("ingest", "images", "p", "--model", "efficientnet_lite0", "--dry-run", "--json")
    assert looked.code == 0 and looked.json["to_embed"] == 7 and looked.json["others"] == {".txt": 1}
    shown = looked.json["examples"]
    assert len(shown) == 5 and all(each["key"] == f"image/p/p/{each['frame']}" for each in shown)
    assert not Path("outcrop.db").exists()
    told = run("ingest", "images", "p", "--model", "efficientnet_lite0")
    assert told.code == 0, told.err
    assert "7 photographs in 1 capture, such as" in told.err and "not read: 1 .txt" in told.out
    assert run("ingest", "images", "p", *MODEL, "--json").json["others"] == {".txt": 1}


def test_everything_else_works_without_a_registry(here: Path) -> None:
    found = run("query", "image", here / "north/9b810e76-6ec9.jpg", "-k", 1, "--json").json
    assert found["queries"][0]["hits"][0]["source"] == "north/9b810e76-6ec9.jpg"
    assert len(run("query", "dataset", "photos", "-k", 1, "--exclude-self", "--json").json["queries"]) == 4
    assert audit()["findings"] == []
    made = run("ingest", "references", "photos", "--angles", "0,90", "--quiet", "--json")
    assert made.code == 0 and made.json["embedded"] == 8, made.err
    assert audit()["rows"][0]["good"] == 12
    ranked = run("query", "image", here / "DJI_0001.JPG", "--rerank", "geometric", "-k", 1, "--json")
    assert ranked.code == 0 and ranked.json["queries"][0]["hits"][0]["verified"], ranked.err
    measured = run("query", "evaluate", "photos", "--truth", "own", "--json")
    assert measured.code == 0, measured.err
    assert run("ingest", "dataset", "photos", "--quiet", "--json").json["unchanged"] == 4
    written = run("ingest", "references", "photos", "--angles", "30", "--write-images", "turned", "--quiet")
    assert written.code == 0, written.err
    again = run("ingest", "references", "photos", "--from", "turned", "--quiet", "--json")
    assert again.code == 0 and again.json["embedded"] == 4, again.err


def test_the_folder_is_remembered_by_either_backend(uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_COLLECTION", name)
    Path("photos/north").mkdir(parents=True)
    picture(1).save("photos/DJI_0001.JPG")
    picture(2).save("photos/north/x.jpg")
    assert images()["embedded"] == 2
    assert run("ingest", "references", "photos", "--angles", "0", "--quiet", "--json").json["embedded"] == 2
    assert audit()["rows"][0]["good"] == 4
    assert run("ingest", "all", "--quiet", "--json").json["datasets"][0]["unchanged"] == 2
    shutil.rmtree("photos/north")
    assert {each["trouble"] for each in audit(code=4)["findings"]} == {"orphan"}


def test_audit_and_prune_know_the_folder(here: Path) -> None:
    (here / "DJI_0001.JPG").unlink()
    picture(9).save(here / "north/new.jpg")
    troubles = {(each["trouble"], each["source"]) for each in audit(code=4)["findings"]}
    assert troubles == {("orphan", "DJI_0001.JPG"), ("missing", "north/new.jpg")}
    pruned = run("collection", "prune", "--yes", "--json")
    assert pruned.code == 0 and audit(code=4)["rows"][0]["missing"] == 1
    fixed = audit("--fix")
    assert fixed["findings"] == [] and fixed["rows"][0]["good"] == 4


def test_retry(here: Path) -> None:
    good = (here / "north/9b810e76-6ec9.jpg").read_bytes()
    (here / "broken.jpg").write_bytes(good[: len(good) // 3])
    assert run("ingest", "images", "photos", *MODEL).code == 4
    status = run("ingest", "status", "last", "--json").json
    assert [Path(each["path"]).name for each in status["failures"]] == ["broken.jpg"]
    (here / "broken.jpg").write_bytes(good)
    again = run("ingest", "retry", "last", "--quiet", "--json")
    assert again.code == 0 and again.json["embedded"] == 1, again.err


def test_an_empty_or_unmounted_folder_takes_nothing_away(here: Path) -> None:
    shutil.move(here, "away")
    assert "no folder at" in run("ingest", "images", "photos").error(3)
    assert "is its disk mounted" in run("collection", "audit").error(3)
    here.mkdir()
    assert "holds no photograph" in run("ingest", "images", "photos").error(3)
    assert "is its disk mounted" in run("collection", "audit", "--fix").error(3)
    assert "is its disk mounted" in run("collection", "prune", "--yes").error(3)
    here.rmdir()
    shutil.move("away", here)
    shutil.rmtree(here / "north")
    (here / "north").mkdir()
    found = audit()
    assert found["findings"] == [] and "1 folders of photos are empty (north)" in found["repairs"][0]
    (here / "north").rmdir()
    assert {each["trouble"] for each in audit(code=4)["findings"]} == {"orphan"}


def test_names_that_meet_fail_and_leave_rows_alone(here: Path) -> None:
    picture(7).save(here / "north/DJI_1.jpg")
    report = run("ingest", "images", "photos", *MODEL, "--json")
    assert report.code == 4 and report.json["failed"] == 2 and report.json["unchanged"] == 3
    found = audit(code=4)
    assert {each["trouble"] for each in found["findings"]} == {"no file"}
    assert "DJI_0001.JPG, north/DJI_1.jpg" in found["findings"][0]["reason"].replace("(north/", "(")


def test_the_registry_that_it_writes_makes_the_same_keys(here: Path) -> None:
    assert images("--write-registry", "data_key.json")["unchanged"] == 4
    known = json.loads(Path("data_key.json").read_text())["datasets"]["photos"]
    assert known["files"] == "any" and known["images"]["south_80m"] == {"altitude": 80.0}
    assert run("ingest", "dataset", "photos", "--quiet", "--json").json["unchanged"] == 4
    assert images()["unchanged"] == 4 and audit()["findings"] == []
    known["images"]["north"]["altitude"] = 55
    Path("data_key.json").write_text(json.dumps({"datasets": {"photos": known}}))
    assert run("ingest", "dataset", "photos", "--quiet", "--json").json["embedded"] == 2
    shutil.copytree(here, "more")
    added = run("ingest", "images", "more", "--write-registry", "data_key.json", *MODEL)
    assert added.code == 0, added.err
    assert set(json.loads(Path("data_key.json").read_text())["datasets"]) == {"photos", "more"}


def test_a_name_that_is_taken_is_refused(here: Path) -> None:
    shutil.copytree(here, "other/photos")
    assert "give" in run("ingest", "images", "other/photos").error(3)
    assert run("ingest", "images", "other/photos", "--name", "second", *MODEL).code == 0
    Path("data_key.json").write_text(json.dumps({"datasets": {"third": {"root": "x", "images": {}}}}))
    assert "ingest dataset third" in run("ingest", "images", "other/photos", "--name", "third").error(3)
    assert "photos, second" in run("ingest", "dataset", "fourth", "--registry", "none.json").error(3)


def test_a_folder_in_place_of_a_command(here: Path) -> None:
    said = run("ingest", "photos")
    assert said.code == 2 and "ingest images photos" in " ".join(said.err.replace("│", " ").split())


def test_a_folder_of_the_sample_under_uuid_names(shared_sample: Path, tmp_path: Path) -> None:
    """The two commands of a newcomer, on real photographs; the model is the one that needs no download."""
    rng, names = random.Random(7), {}
    for number, path in enumerate(sorted((shared_sample / "aerial/caliterra").glob("*.jpg"))):
        name = f"{'east/' if number % 2 else ''}{uuid.UUID(int=rng.getrandbits(128))}.jpg"
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "photos" / name)
        names[path.name] = name
    told = run("ingest", "images", "photos", "--json")
    assert told.code == 0 and told.json["embedded"] == 25, told.err
    assert "efficientnet_lite0 is used" in told.err
    asked = names["IMG_9387.jpg"]
    found = run("query", "image", tmp_path / "photos" / asked, "-k", 1, "--json")
    assert found.json["queries"][0]["hits"][0]["source"] == asked


def test_the_sample_world_renamed_gives_the_same_answers(
    sample_world: tuple[Path, tuple[object, ...]], tmp_path: Path
) -> None:
    world, place = sample_world
    rng, names = random.Random(3), {}
    (root,) = (path for path in world.iterdir() if path.is_dir() and any(path.glob("*_300/*.jpg")))
    for path in sorted(root.glob("*_300/*.jpg"))[:40]:
        name = f"{uuid.UUID(int=rng.getrandbits(128))}.jpg"
        (tmp_path / "flat").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "flat" / name)
        names[path.relative_to(root).as_posix()] = name
    assert run("ingest", "images", "flat", *MODEL).code == 0
    asked = list(names)[::8]
    mine = run("query", "image", *(root / name for name in asked), "-k", 1, "--json").json["queries"]
    assert [result["hits"][0]["source"] for result in mine] == [names[name] for name in asked]
    theirs = run("query", "image", *(root / name for name in asked), "-k", 1, *place, "--json").json["queries"]
    assert [result["hits"][0]["source"] for result in theirs] == asked
