"""`query track`: the order of frames, what is made of their candidates, the command and its files."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from commands import run
from films import write_flight
from PIL import Image

from outcrop.query.answers import Query, Result, Results
from outcrop.query.tracks.answers import clock, csv_rows, summary, table_rows, track_json
from outcrop.query.tracks.files import write_geojson, write_kml
from outcrop.query.tracks.frames import Frame, Frames, list_frames
from outcrop.query.tracks.motion import Limits
from outcrop.query.tracks.page import drawing, write_page
from outcrop.query.tracks.track import Track, _Seen, joined
from outcrop.query.verification.location import LocatedMatch, Location
from outcrop.sample.flight import METRES_PER_DEGREE, Camera, Pose, photograph, write_jpeg
from outcrop.sample.land import make_land
from outcrop.sample.maps import write_maps
from outcrop.sample.track import water
from outcrop.schema.errors import InputError
from outcrop.schema.ground import UNKNOWN, Footing
from outcrop.schema.plane import Plane
from outcrop.schema.settings import Settings

PLANE = Plane((48.2, 16.4))
KML = "{http://www.opengis.net/kml/2.2}"


def shot(path: Path, second: int | None = None) -> Path:
    """A small picture that says when it was taken, or does not."""
    exif = Image.Exif()
    if second is not None:
        exif.get_ifd(0x8769)[0x9003] = (datetime(2025, 9, 21, 10) + timedelta(seconds=second)).strftime(
            "%Y:%m:%d %H:%M:%S"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12)).save(path, exif=exif)
    return path


def location(place: complex, spread: float = 1.0, heading: float = 90.0, inliers: int = 60) -> Location:
    latitude, longitude = PLANE.place(place)
    hits = (LocatedMatch("tile/m/60m/0001/0001", (latitude, longitude), inliers, 0.1),)
    return Location(latitude, longitude, spread, "map", heading, 0.1, (), hits)


def seen(places: Sequence[complex | None], *, every: float = 2.0) -> list[_Seen]:
    found = []
    for number, place in enumerate(places):
        frame = Frame(Path(f"{number}.jpg"), f"{number}.jpg", every * number)
        candidates = () if place is None else (location(place),)
        found.append(_Seen(frame, candidates, "" if candidates else "no hit", False, None))
    return found


def made(places: Sequence[complex | None]) -> Track:
    return Track("c", tuple(joined(seen(places))), True)


STRAIGHT = [complex(14.0 * n, 3.0 * n) for n in range(12)]


def test_frames_are_ordered_by_the_time_that_they_state(tmp_path: Path) -> None:
    for name, second in (("a.jpg", 20), ("b.jpg", 4), ("c/d.jpg", 4), ("e.jpg", 0), ("f.jpg", None)):
        shot(tmp_path / name, second)
    found = list_frames(tmp_path)
    # One that states no time follows its neighbour by name; those of one second share it.
    assert [each.name for each in found.frames] == ["e.jpg", "f.jpg", "b.jpg", "c/d.jpg", "a.jpg"] and found.timed
    assert [each.seconds for each in found.frames] == [0, 0.5, 4, 4.5, 20]
    assert found.frames[0].captured_at == "2025-09-21T10:00:00" and found.frames[1].captured_at == ""
    assert list_frames(tmp_path, "time") == found
    by_name = list_frames(tmp_path, "name", 2.0)
    assert [each.name for each in by_name.frames] == [
        "a.jpg",
        "b.jpg",
        "c/d.jpg",
        "e.jpg",
        "f.jpg",
    ] and not by_name.timed
    assert [each.seconds for each in by_name.frames] == [0, 2, 4, 6, 8]


def test_frames_without_times_are_ordered_by_name(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        shot(tmp_path / f"{number}.jpg")
    found = list_frames(tmp_path, every=0.5)
    assert [(each.name, each.seconds) for each in found.frames] == [("1.jpg", 0), ("2.jpg", 0.5), ("10.jpg", 1.0)]
    assert not found.timed
    with pytest.raises(InputError, match="--order name"):
        list_frames(tmp_path, "time")
    # All of one second say nothing of their order.
    for number in (2, 10, 1):
        shot(tmp_path / f"{number}.jpg", 7)
    assert not list_frames(tmp_path).timed
    with pytest.raises(InputError, match="single picture"):
        list_frames(tmp_path / "1.jpg")


@pytest.mark.parametrize(
    ("said", "order"),
    [
        (("02:59:58+02:00", "02:00:01+01:00", "02:00:05+01:00"), "abc"),  # summer time ends
        (("02:59:58", "02:00:01+01:00", "02:00:05+01:00"), "bca"),
    ],
)
def test_offsets_of_times_count_where_all_have_one(
    tmp_path: Path, said: Sequence[str], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        shot(tmp_path / f"{name}.jpg")
    stated = {f"{name}.jpg": f"2025-10-26T{text}" for name, text in zip("abc", said, strict=True)}
    monkeypatch.setattr("outcrop.query.tracks.frames._moment", lambda path: stated[path.name])
    found = list_frames(tmp_path).frames
    assert "".join(each.path.stem for each in found) == order
    if order == "abc":
        assert [each.seconds for each in found] == [0, 3, 7]


def test_frames_of_a_film(tmp_path: Path) -> None:
    film = write_flight(tmp_path).film
    found = list_frames(film, every=0.5)
    assert found.timed and [each.seconds for each in found.frames][:4] == [0, 0.5, 1, 1.5]
    assert found.frames[3].name == f"{film.name}#t=1.5"


def test_what_becomes_of_the_frames() -> None:
    places: list[complex | None] = list(STRAIGHT)
    places[4] = places[5] = None
    places[8] = STRAIGHT[8] + 60j  # within reach of an aircraft, but not of this one
    frames = made(places).frames
    assert [each.status for each in frames] == [
        *["located"] * 4,
        *["bridged"] * 2,
        *["located"] * 2,
        "outlier",
        *["located"] * 3,
    ]
    for frame, place in zip(frames, STRAIGHT, strict=True):
        assert frame.place is not None and frame.spread is not None
        assert abs(PLANE.metres(frame.place) - place) <= 2 * frame.spread < 10
    assert frames[8].off == pytest.approx(60, abs=3) and len(frames[8].candidates) == 1
    assert frames[4].reason == "no hit" and frames[4].heading is None and frames[3].heading == 90
    assert frames[4].spread > frames[1].spread  # type: ignore[operator]
    assert all(each.course == pytest.approx(78, abs=4) and each.speed == pytest.approx(7.2, abs=0.5) for each in frames)
    assert made(places).metres == pytest.approx(abs(STRAIGHT[-1]), abs=5)


def test_frames_far_from_any_other_have_no_place() -> None:
    frames = made([None] * 20 + list(STRAIGHT) + [None] * 100).frames
    assert frames[19].status == "bridged" and frames[33].status == "bridged"
    assert frames[-1].status == "unknown" and frames[-1].place is None and frames[-1].spread is None
    spreads = [each.spread for each in frames[32:] if each.spread is not None]
    assert spreads == sorted(spreads) and spreads[-1] <= 500
    nothing = made([None, None]).frames
    assert [each.status for each in nothing] == ["unknown", "unknown"]


def test_a_path_is_not_surer_than_its_fixes() -> None:
    """Many fixes from one region are off together: they do not make the path better than the best of them."""
    frames = list(joined([
        _Seen(Frame(Path("x"), "x", 2.0 * n), (location(p, spread=3.0),), "", False, None) for n, p in enumerate(STRAIGHT)
    ]))  # fmt: skip
    assert all(each.spread is not None and each.spread >= 3.0 for each in frames)


def test_another_candidate_of_a_frame_may_fit() -> None:
    found = seen(STRAIGHT)
    found[6] = _Seen(
        found[6].frame, (location(500 + 500j, inliers=40), location(STRAIGHT[6], inliers=13)), "", False, None
    )
    frames = list(joined(found, Limits(20, 90)))
    assert frames[6].status == "located" and frames[6].off is not None and frames[6].off < 2
    assert [len(each.candidates) for each in frames[5:8]] == [1, 2, 1]
    assert abs(PLANE.metres((frames[6].candidates[0].latitude, frames[6].candidates[0].longitude)) - STRAIGHT[6]) < 0.1


def test_files_of_a_track(tmp_path: Path) -> None:
    places: list[complex | None] = list(STRAIGHT)
    places[3] = None
    track = made([*places, *[None] * 90])
    known = [each for each in track.frames if each.place is not None]
    features = json.loads(write_geojson(track, tmp_path / "t.geojson").read_text())["features"]
    line, *points = features
    assert line["geometry"]["type"] == "LineString" and len(line["geometry"]["coordinates"]) == len(points) == len(
        known
    )
    assert points[3]["properties"]["status"] == "bridged" and points[3]["properties"]["spread_m"] > 1
    assert points[0]["geometry"]["coordinates"] == [round(v, 7) for v in reversed(known[0].place or ())]
    root = ElementTree.fromstring(write_kml(track, tmp_path / "t.kml").read_bytes())
    assert len(root.findall(f".//{KML}Point")) == len(known) and len(root.findall(f".//{KML}LineString")) == 1
    assert len(root.findall(f".//{KML}LineString/{KML}coordinates")[0].text.split()) == len(known)  # type: ignore[union-attr]
    page = write_page(track, tmp_path / "t.html").read_text()
    assert page.count("<figure") == len(track.frames) and page.count('class="place"') == len(known)
    assert "<script" not in page and "http" not in page.replace("http-equiv", "") and summary(track) in page
    drawn = drawing(track)
    assert drawn is not None and all(0 <= mark.x <= 900 and 0 <= mark.y <= 620 for mark in drawn.marks)
    nothing = made([None, None])
    assert (
        drawing(nothing) is None and "No frame could be located" in write_page(nothing, tmp_path / "n.html").read_text()
    )
    assert json.loads(write_geojson(nothing, tmp_path / "n.json").read_text())["features"] == []
    ElementTree.fromstring(write_kml(nothing, tmp_path / "n.kml").read_bytes())


def test_names_of_files_cannot_break_the_files(tmp_path: Path) -> None:
    bad = Frame(Path("x"), 'a<b>&"\x1b\udce4.jpg', 0.0)
    other = Frame(Path("y"), "y.jpg", 2.0)
    track = Track(
        "c",
        tuple(
            joined([_Seen(bad, (location(0j),), "", False, None), _Seen(other, (location(9 + 0j),), "", False, None)])
        ),
        True,
    )
    root = ElementTree.fromstring(write_kml(track, tmp_path / "t.kml").read_bytes())
    assert any("a<b>&" in (name.text or "") for name in root.iter(f"{KML}name"))
    assert "a<b>" not in write_page(track, tmp_path / "t.html").read_text()
    json.loads(write_geojson(track, tmp_path / "t.json").read_text())


def test_values_of_a_track() -> None:
    track = made([*STRAIGHT, None])
    told = track_json(track)
    assert told["located"] == 12 and told["bridged"] == 1 and told["outliers"] == told["unknown"] == 0
    assert told["frames"][0]["candidates"][0]["method"] == "map" and told["frames"][12]["reason"] == "no hit"
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert [row["status"] for row in csv_rows(track)][-1] == "bridged" and csv_rows(track)[0]["candidates"] == 1
    assert table_rows(track)[0]["latitude"] == f"{track.frames[0].place[0]:.6f}"  # type: ignore[index]
    assert summary(track) == "13 frames: 12 located, 0 outliers, 1 bridged; 172 m in 0:24 min"
    assert [clock(seconds) for seconds in (0, 83.5, 600)] == ["0:00", "1:23.5", "10:00"]


def test_a_flight_over_a_map(tmp_path: Path) -> None:
    """The whole command: sharp frames are located, open water is bridged, a broken picture is named and bridged."""
    land, camera = make_land(5, 280.0, 0.35), Camera(512, 384)
    maps = write_maps(tmp_path, land, tiles=False)
    (tmp_path / "flight").mkdir()
    poses = [Pose(-30.0 + 15 * n, -25.0 + 10 * n, 90.0, 56.3) for n in range(6)]
    for number, pose in enumerate(poses):
        dice = np.random.default_rng(number)
        picture = water(camera, dice) if number == 2 else photograph(land, pose, camera, dice)
        path = tmp_path / "flight" / f"{number}.jpg"
        write_jpeg(picture, path, None, datetime(2025, 9, 21, 10, 0, 2 * number), camera=camera)
    (tmp_path / "flight/3.jpg").write_bytes(b"no picture")
    said = run("ingest", "map", maps, "--scales", "120", "--model", "efficientnet_lite0", "--quiet")
    assert said.code == 0, said.err
    asked = run(
        "query",
        "track",
        tmp_path / "flight",
        "--turns",
        8,
        "--json",
        "--geojson",
        "t.json",
        "--kml",
        "t.kml",
        "--report",
        "t.html",
    )
    assert asked.code == 4 and "3.jpg" in asked.err and "1 of 6 pictures" in asked.err, asked.err
    frames = asked.json["frames"]
    assert [each["status"] for each in frames] == ["located", "located", "bridged", "bridged", "located", "located"]
    assert frames[3]["unreadable"] and frames[2]["reason"] and not frames[2]["candidates"]
    for frame, pose in zip(frames, poses, strict=True):
        latitude, longitude = pose.place
        east = (frame["longitude"] - longitude) * math.cos(math.radians(latitude))
        off = math.hypot(frame["latitude"] - latitude, east) * METRES_PER_DEGREE
        assert off < 2 and off <= 2 * frame["spread_m"]
    assert len(json.loads(Path("t.json").read_text())["features"]) == 7
    assert (
        Path("t.kml").read_text().count("<Placemark>") == 7 and Path("t.html").read_text().count("data:image/jpeg") == 5
    )


def test_a_track_as_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from outcrop.query.cli_track import _print
    from outcrop.screen.options import Session

    monkeypatch.setenv("COLUMNS", "80")
    places: list[complex | None] = list(STRAIGHT)
    places[8] = STRAIGHT[8] + 60j
    _print(Session(Settings()), made(places))
    said = capsys.readouterr()
    assert max(map(len, said.out.splitlines())) <= 80 and "12 frames: 11 located, 1 outliers" in said.out
    assert re.search(r"8\.jpg .*outlier .*48\.2\d{5}", said.out) and "outlier: 8.jpg: its own hits put it 6" in said.err


def test_frames_that_do_not_say_their_height(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where some frames state their height and some do not, the settings say it for these; what is asked whole is said."""
    from outcrop.query.cli_track import _print
    from outcrop.query.tracks import track as module
    from outcrop.screen.options import Session

    heights = []

    def asked(paths: Sequence[Path], *_: object, assumed: Footing, **__: object) -> Results:
        heights.append(assumed.altitude)
        remarks = ["" if path.stem == "0" else UNKNOWN for path in paths]
        return Results(
            "c", None, tuple(Result(Query(str(p), remark=r), ()) for p, r in zip(paths, remarks, strict=True))
        )

    monkeypatch.setattr(module, "query_images", asked)
    monkeypatch.setattr(module, "turns_for_maps", lambda *_, **__: 0)
    monkeypatch.setattr(module, "reranker", lambda *_, **__: contextlib.nullcontext(lambda results: results))
    frames = Frames(tuple(Frame(tmp_path / f"{n}.jpg", f"{n}.jpg", float(n)) for n in range(3)), True)
    settings = Settings(altitude=80)
    found = module.find_track(frames, None, SimpleNamespace(name="c"), settings)  # type: ignore[arg-type]
    assert heights == [80]
    assert [each.get("remark") for each in track_json(found)["frames"]] == [None, UNKNOWN, UNKNOWN]
    _print(Session(settings), found)
    assert f"1.jpg and 1 more: {UNKNOWN}" in capsys.readouterr().err


def test_wrong_use(tmp_path: Path) -> None:
    shot(tmp_path / "a.jpg", 1)
    assert "nowhere" in run("query", "track", "nowhere").error(3)
    assert "single picture" in run("query", "track", tmp_path / "a.jpg").error(3)
    assert "did you mean" in run("query", "track", tmp_path, "--order", "nmae").error(3)
    assert "--every" in run("query", "track", tmp_path, "--every", "often").error(3)
    assert "--kml" in run("query", "track", tmp_path, "--kml", tmp_path).error(3)
