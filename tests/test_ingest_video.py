"""`ingest video`: a flight of the sample world, located and found by a photograph; films that change, or are damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome, run
from films import HOVER, Damage, pose, seen, write_film, write_flight, write_srt
from pictures import picture

import outcrop
from outcrop.ingest import following
from outcrop.ingest.following import endings_of, request_to_follow
from outcrop.ingest.requests import ImagesRequest
from outcrop.schema.filters import asked, equals
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

MODEL = ("--model", "efficientnet_lite0", "--quiet")
KEPT = [0, 1, 2, 3, 4, 5, 9, 10, 11]
"""The seconds at which the flight shows something new."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card with one film, ingested; tests work on copies."""
    folder = tmp_path_factory.mktemp("films")
    write_flight(folder / "card")
    (folder / "card/notes.txt").write_text("x")
    said = run(
        "ingest", "video", folder / "card", "--uri", folder / "outcrop.db", "--state", folder / ".outcrop", *MODEL
    )
    assert said.code == 0, said.err
    assert "left out: 3 near-equal frames" in said.out and "not read: 1 .txt" in said.out
    (folder / "card").rename(folder / "kept")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """The same in the current folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "kept").rename(tmp_path / "card")
    again = video()
    assert (again["embedded"], again["unchanged"], again["left_out"]) == (0, 9, 3), (
        "known frames are not embedded again"
    )
    return tmp_path / "card"


def video(*more: object, place: str = "card", code: int = 0) -> Any:
    outcome = run("ingest", "video", place, *MODEL, *more, "--json")
    assert outcome.code == code, outcome.err
    return outcome.json


def rows() -> list[dict[str, Any]]:
    """What is stored, in the order of the film."""
    from outcrop.schema.item import FIELDS
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    names = ["position_source", "relative_altitude", "absolute_altitude", "yaw", "width", "height", "second"]
    with Store.connect("outcrop.db") as store:
        pages = Collection.open(store, "outcrop").scan_rows(equals("kind", "image"), ["id", *FIELDS, *names])
        return sorted((dict(row) for page in pages for row in page), key=lambda row: (row["source"], row["frame"]))


def test_frames_have_seconds_places_heights_and_times(here: Path) -> None:
    stored = rows()
    assert [row["second"] for row in stored] == KEPT and HOVER == (5.0, 8.0)
    row = stored[3]
    assert (row["key"], row["capture_id"], row["source"]) == ("image/card/DJI_0001/3000", "DJI_0001", "DJI_0001.MP4")
    assert (row["latitude"], row["longitude"]) == pytest.approx(pose(3.0).place, abs=2e-6)
    assert (row["altitude"], row["relative_altitude"], row["absolute_altitude"]) == (70, 70, 90)
    assert (row["position_source"], row["captured_at"], row["yaw"]) == ("srt", "2025-09-18T09:00:03", 350)
    assert (row["width"], row["height"]) == (320, 240)


def test_a_photograph_finds_the_second_and_geometry_verifies_it(here: Path) -> None:
    seen(10.1).save("photo.png")
    found = run("query", "image", "photo.png", "-k", 3, "--json").json["queries"][0]["hits"]
    assert (found[0]["second"], found[0]["source"]) == (10, "DJI_0001.MP4")
    table = run("query", "image", "photo.png", "-k", 3)
    assert "second" in table.out and "10" in table.out, table.out
    verified = run("query", "image", "photo.png", "-k", 2, "--report", "report.html", "--rerank", "geometric", "--json")
    assert verified.code == 0, verified.err
    hit = verified.json["queries"][0]["hits"][0]
    assert hit["verified"] and hit["second"] == 10
    assert hit["inliers"] > 20
    assert "DJI_0001" in Path("report.html").read_text(encoding="utf-8")
    near = run("query", "image", "photo.png", "--where", "frame=2000..4000", "-k", 9, "--json").json["queries"][0][
        "hits"
    ]
    assert sorted(hit["second"] for hit in near) == [2, 3, 4]


def test_an_unchanged_film_is_not_decoded(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.embed.film.Film.read", lambda *_: pytest.fail("it was decoded"))
    again = video()
    assert (again["embedded"], again["unchanged"], again["expected"]) == (0, 9, 9)
    assert run("ingest", "all", *MODEL, "--json").json["datasets"][0]["unchanged"] == 9
    assert len(run("query", "dataset", "card", "-k", 1, "--json").json["queries"]) == 9
    report = run("collection", "audit", "--json")
    assert report.code == 0 and report.json["findings"] == [], report.out


def test_another_time_between_frames_and_another_telemetry_are_changes(here: Path) -> None:
    fewer = video("--every", "2s")
    assert (fewer["embedded"], fewer["unchanged"], fewer["removed"]) == (1, 4, 5)
    assert [row["second"] for row in rows()] == [0, 2, 4, 6, 10]
    write_srt(here / "DJI_0001.SRT", 3)
    changed = video("--every", "2s")
    assert changed["embedded"] == 5
    assert [row["latitude"] == 999 for row in rows()] == [False, False, False, True, True]


def test_a_changed_film_is_embedded_again_and_its_old_frames_go(here: Path) -> None:
    write_film(here / "DJI_0001.MP4", seconds=4)
    changed = video()
    assert (changed["embedded"], changed["removed"]) == (4, 5)
    (here / "DJI_0001.MP4").rename(here / "DJI_0002.MP4")
    report = run("collection", "audit", "--json").json["findings"]
    assert {finding["trouble"] for finding in report} == {"missing", "orphan"}


def test_of_a_damaged_film_what_can_be_read_is(here: Path) -> None:
    Damage(0.4, 0.5).done_to(here / "DJI_0001.MP4", here / "DJI_0003.MP4")
    (here / "DJI_0004.MP4").write_bytes((here / "DJI_0001.MP4").read_bytes()[:5000])
    (here / "DJI_0001.MP4").unlink()
    done = video(code=4)
    assert done["embedded"] >= 4 and done["failed"] >= 2
    failures = run("ingest", "status", "last", "--json").json["failures"]
    reasons = {failure["key"]: failure["reason"] for failure in failures}
    assert any("DJI_0003.MP4: " in reason and "damaged there" in reason for reason in reasons.values())
    assert any("DJI_0004.MP4: cannot be opened as a film" in reason for reason in reasons.values())
    tried = run("ingest", "retry", "last", "--quiet", "--json")
    assert tried.code == 4 and tried.json["embedded"] == 0


def test_one_film_and_what_is_wrong_with_places(here: Path) -> None:
    shutil.copy(here / "DJI_0001.MP4", here / "DJI_0002.MP4")
    one = video("--name", "one", place="card/DJI_0002.MP4")
    assert one["embedded"] == 9
    assert run("collection", "audit", "--dataset", "one", "--json").json["findings"] == []
    shutil.copy(here / "DJI_0001.MP4", here / "DJI_0002.mov")
    assert video("--name", "two", code=4)["failed"] == 2
    (here / "empty").mkdir()
    (here / "empty/a.jpg").write_bytes(b"?")
    assert "holds no film" in (said := run("ingest", "video", here / "empty", *MODEL).error(3)) and "1 .jpg" in said
    assert "no film or folder at lost" in run("ingest", "video", "lost", *MODEL).error(3)
    assert "--every must be" in run("ingest", "video", here, "--every", "often", *MODEL).error(3)


def test_seconds_are_asked_for(here: Path) -> None:
    """`--where second=…` is about frames of films alone; the expression keeps what its definition keeps."""
    picture(3).save(here / "0004.jpg")
    assert run("ingest", "images", "card", *MODEL).code == 0
    for text, seconds in (
        ("second=3..5", [3, 4, 5]),
        ("second=9", [9]),
        ("second=0,11", [0, 11]),
        ("second!=1..9", [0, 10, 11]),
        ("second=..0.5", [0]),
    ):
        said = run("query", "image", here / "0004.jpg", "-k", 20, "--where", text, "--json").json
        assert sorted(hit["second"] for hit in said["queries"][0]["hits"]) == seconds, text
        with Store.connect("outcrop.db") as store:
            made = Collection.open(store, "outcrop")
            bound = asked(text).bound(made.columns)
            everything = [row for page in made.scan_rows(None, ["*"]) for row in page]
            assert sum(bound.matches(row) for row in everything) == made.count(bound) == len(seconds)
    assert "second is a number" in run("query", "image", here / "0004.jpg", "--where", "second=soon").error(3)


def test_photographs_and_films_of_one_folder_are_one_dataset(here: Path) -> None:
    """`ingest images` and `ingest video` of a card: later runs of the dataset take both, and the audit knows both."""
    picture(3).save(here / "0004.jpg")
    said = run("ingest", "images", "card", *MODEL)
    assert said.code == 0 and "1 .mp4" in said.out and "`ingest video` reads films" in said.out
    assert run("collection", "audit", "--json").code == 0
    picture(4).save(here / "0005.jpg")
    shutil.copy(here / "DJI_0001.MP4", here / "DJI_0002.MP4")
    assert run("collection", "audit").code == 4, "one photograph and one film are missing"
    (again,) = run("ingest", "all", *MODEL, "--json").json["datasets"]
    assert (again["embedded"], again["unchanged"], again["failed"]) == (1 + len(KEPT), 1 + len(KEPT), 0)
    assert run("ingest", "dataset", "card", *MODEL, "--json").json["unchanged"] == 2 + 2 * len(KEPT)
    (here / "DJI_0002").mkdir()
    picture(5).save(here / "DJI_0002/0001.jpg")
    met = run("ingest", "dataset", "card", *MODEL)
    assert "finished" not in met.err and "one capture with the photographs" in Path(ledger(met)).read_text()
    (here / "DJI_0002.MP4").unlink()
    shutil.rmtree(here / "DJI_0002")
    assert run("collection", "audit", "--fix", "--yes").code == 0
    assert {row["source"] for row in rows()} == {"DJI_0001.MP4", "0004.jpg", "0005.jpg"}


def test_a_registry_declares_films(here: Path) -> None:
    known = {"datasets": {"flight": {"root": "card", "files": "any", "films": "2s"}}}
    Path("data_key.json").write_text(json.dumps(known))
    said = run("ingest", "dataset", "flight", *MODEL, "--json")
    assert said.code == 0 and said.json["embedded"] == 5 and said.json["others"] == {".txt": 1}
    assert run("collection", "audit", "--dataset", "flight").code == 0
    found = run("query", "item", "image/flight/DJI_0001/4000", "--where", "dataset=flight", "--rerank", "geometric")
    assert found.code == 0, found.err
    assert "references are made of photographs only" in run("ingest", "references", "flight", *MODEL).error(3)
    known["datasets"]["flight"]["films"] = "often"
    Path("data_key.json").write_text(json.dumps(known))
    assert "films must be a time such as 1s" in run("ingest", "dataset", "flight", *MODEL).error(3)


def test_from_python(here: Path) -> None:
    with outcrop.open_collection("outcrop.db", model="efficientnet_lite0") as collection:
        record = outcrop.ingest_video(collection, here / "DJI_0001.MP4", name="py", every="3s")
        assert (record.embedded, record.failed) == (4, 0)
        assert collection.stored.count(outcrop.where("dataset=py", "second=3..9")) == 3


def test_a_folder_with_films_is_followed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs and films where PyAV is there; else films are counted, and named."""
    request, root = request_to_follow("card", Settings())
    assert isinstance(request, ImagesRequest) and request.every == 1 and ".srt" in endings_of(request, Settings())
    request, root = request_to_follow(str(root), Settings())
    picture(3).save(here / "0004.jpg")
    listed = request.list(None)
    assert listed.expected == 1 + len(KEPT) and listed.others == {".txt": 1}
    unfinished = frozenset({here / "DJI_0001.SRT"})
    assert following._finished(request, unfinished) == ["image/card/card/0004"], "a film waits for its telemetry"
    monkeypatch.setattr(following, "find_spec", lambda name: None)
    request, _ = request_to_follow(str(here), Settings())
    assert request.list(None).others == {".mp4": 1, ".srt": 1, ".txt": 1}


def ledger(outcome: Outcome) -> str:
    """The file that names what failed."""
    return outcome.error(4).partition("listed in ")[2].partition(";")[0]
