"""The sample world: the same every time, laid out as teams lay theirs out, and true to its own truth file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from outcrop.embed.photo import read_metadata
from outcrop.sample.flight import Camera, Pose, footprint, photograph, survey, to_degrees
from outcrop.sample.land import Land, make_land
from outcrop.sample.photos import write_photos
from outcrop.sample.world import UNFINISHED, World, overlap, write_world
from outcrop.schema.frames import list_captures
from outcrop.schema.registry import read_registry

SMALL = {"side": 620.0, "camera": Camera(160, 120), "queries": 4, "resolution": 0.6, "fossils": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small world, made once."""
    return write_world(tmp_path_factory.mktemp("sample") / "world", 3, **SMALL)


def test_same_seed_same_bytes(world: World, tmp_path: Path) -> None:
    again = write_world(tmp_path / "again", 3, **SMALL)
    files = sorted(p.relative_to(world.folder) for p in world.folder.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again.folder) for p in again.folder.rglob("*") if p.is_file())
    assert all((world.folder / f).read_bytes() == (again.folder / f).read_bytes() for f in files)


def test_finished_world_is_left_alone(world: World) -> None:
    before = {p: p.stat().st_mtime_ns for p in world.folder.rglob("*.jpg")}
    second = write_world(world.folder, 3, **SMALL)
    assert not second.made and (second.pictures, second.query_pictures) == (world.pictures, world.query_pictures)
    assert before == {p: p.stat().st_mtime_ns for p in world.folder.rglob("*.jpg")}
    with pytest.raises(FileExistsError):
        write_world(world.folder, 4, **SMALL)


def test_unfinished_world_is_made_again(world: World, tmp_path: Path) -> None:
    half = tmp_path / "half"
    (half / "queries").mkdir(parents=True)
    (half / "queries/stale.jpg").write_bytes(b"")
    (half / UNFINISHED).touch()
    made = write_world(half, 3, **SMALL)
    assert made.made and not (half / "queries/stale.jpg").exists() and not (half / UNFINISHED).exists()
    truth = json.loads(made.truth.read_text())
    (half / truth["dataset"][2]["path"]).unlink()
    assert write_world(half, 3, **SMALL).made, "a lost picture is made again"
    assert made.truth.read_bytes() == world.truth.read_bytes()


def test_other_folders_are_left_alone(world: World, tmp_path: Path) -> None:
    """Neither a folder of somebody's own queries nor a registry is taken for an unfinished world."""
    for name in ("queries/mine.jpg", "data_key.json", "truth.json"):
        folder = tmp_path / Path(name).stem
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"[]")
        with pytest.raises(FileExistsError, match=Path(name).parts[0]):
            write_world(folder, 3, **SMALL)
        assert (folder / name).read_bytes() == b"[]"


def test_a_world_of_an_older_version_is_made_again(world: World, tmp_path: Path) -> None:
    truth = json.loads(world.truth.read_text())
    truth["measures"]["version"] -= 1
    del truth["measures"]["resolution"]  # as if a later version had begun to name it
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    assert write_world(tmp_path, 3, **SMALL).made
    assert (tmp_path / "truth.json").read_bytes() == world.truth.read_bytes()


def test_layout_is_the_registry_of_aerial_teams(world: World) -> None:
    registry = read_registry(world.registry)
    dataset = registry.dataset("jamshill_image")
    assert dataset.root == "01_02_jamshill_data_image" and set(dataset.images) == {
        "250918092555_300",
        "250918101210_150",
    }
    captures = list_captures(registry, "jamshill_image", world.folder)
    assert all(not c.missing_count and not c.undeclared for c in captures)
    truth = json.loads(world.truth.read_text())
    listed = [str(frame.key) for capture in captures for frame in capture.frames]
    assert listed == [entry["key"] for entry in truth["dataset"]] and len(listed) == world.pictures
    assert sorted(p.name for p in world.queries.iterdir()) == [Path(q["path"]).name for q in truth["queries"]]


def test_photographs_tell_where_they_were_taken(world: World) -> None:
    truth = json.loads(world.truth.read_text())
    for entry in truth["dataset"][::5] + truth["queries"]:
        with Image.open(world.folder / entry["path"]) as picture:
            facts = read_metadata(picture)
        assert facts.latitude == pytest.approx(entry["latitude"], abs=1e-8)
        assert facts.longitude == pytest.approx(entry["longitude"], abs=1e-8)
        assert facts.relative_altitude == pytest.approx(entry["altitude"], abs=0.01)
        assert facts.yaw is not None and abs((facts.yaw - entry["heading"] + 180) % 360 - 180) < 0.02
        assert facts.captured_at is not None and facts.captured_at.startswith("2025-09-")


def test_survey_overlaps_as_it_should() -> None:
    camera = Camera(1024, 768)
    poses = survey(550, 150, camera, np.random.default_rng(0))
    prints = [footprint(pose, camera) for pose in poses]
    within = [
        overlap(a, b)
        for a, b, p, q in zip(prints, prints[1:], poses, poses[1:], strict=False)
        if abs(p.east - q.east) < 20
    ]
    assert 0.6 < np.median(within) < 0.8
    strips = sorted({round(p.east / 20) for p in poses})
    assert len(strips) >= 5
    across = [
        max(overlap(a, b) for b, q in zip(prints, poses, strict=True) if q.east > p.east + 30)
        for a, p in zip(prints, poses, strict=True)
        if p.east < 300
    ]
    assert 0.4 < np.median(across) < 0.7
    assert all(abs(x) <= 550 and abs(y) <= 550 for corners in prints for x, y in corners), "a picture leaves the land"


def test_camera_shows_what_the_footprint_says() -> None:
    """A mark on an empty land appears where the footprint's geometry puts it, whatever the heading."""
    size, resolution = 1000, 0.5
    for heading in (0.0, 90.0, 200.0, 333.0):
        picture = Image.new("RGB", (size, size), (90, 120, 80))
        east, north = 60.0, -35.0
        x, y = size / 2 + east / resolution, size / 2 - north / resolution
        picture.paste((250, 40, 40), (round(x) - 4, round(y) - 4, round(x) + 4, round(y) + 4))
        camera, pose = Camera(400, 300), Pose(40.0, -20.0, 100.0, heading)
        seen = np.asarray(photograph(Land(picture, resolution, 0), pose, camera, np.random.default_rng(1))).astype(int)
        rows, columns = np.nonzero(seen[..., 0] - seen[..., 1] > 80)
        corners = np.array(footprint(pose, camera))
        right, down = corners[1] - corners[0], corners[3] - corners[0]
        u, v = np.linalg.solve(np.stack([right, down], axis=1), np.array([east, north]) - corners[0])
        assert columns.mean() + 0.5 == pytest.approx(u * 400, abs=1.5) and rows.mean() + 0.5 == pytest.approx(
            v * 300, abs=1.5
        )


def square(x: float, y: float, side: float) -> tuple[tuple[float, float], ...]:
    return ((x, y + side), (x + side, y + side), (x + side, y), (x, y))


def test_overlap_of_known_squares() -> None:
    assert overlap(square(0, 0, 2), square(1, 0, 2)) == pytest.approx(0.5)
    assert overlap(square(0, 0, 2), square(1, 1, 2)) == pytest.approx(0.25)
    assert overlap(square(0, 0, 1), square(-1, -1, 5)) == pytest.approx(1)
    assert overlap(square(-1, -1, 5), square(0, 0, 1)) == pytest.approx(1 / 25)
    assert overlap(square(0, 0, 1), square(3, 3, 1)) == 0
    assert overlap(square(0, 0, 2), tuple(reversed(square(1, 0, 2)))) == pytest.approx(0.5)


@given(*[st.floats(-300, 300) for _ in range(4)], *[st.floats(0, 360) for _ in range(2)])
def test_shared_ground_is_the_same_seen_from_both(
    ax: float, ay: float, bx: float, by: float, ah: float, bh: float
) -> None:
    camera = Camera()
    a, b = footprint(Pose(ax, ay, 150, ah), camera), footprint(Pose(bx, by, 150, bh), camera)
    assert 0 <= overlap(a, b) <= 1
    assert overlap(a, b) == pytest.approx(overlap(b, a), abs=1e-6)  # both footprints have the same area
    assert overlap(a, a) == pytest.approx(1)


def test_queries_are_not_in_the_dataset(world: World) -> None:
    truth = json.loads(world.truth.read_text())
    places = np.array([entry["centre"] for entry in truth["dataset"]])
    assert all(np.hypot(*(places - q["centre"]).T).min() > 0.5 for q in truth["queries"])
    headings = sorted(q["heading"] for q in truth["queries"])
    assert max(b - a for a, b in zip(headings, [*headings[1:], headings[0] + 360], strict=True)) < 120


def test_degrees() -> None:
    latitude, longitude = to_degrees(1000, 1000)
    assert latitude == pytest.approx(37.515 + 1000 / 111_319.49) and longitude > 127.073


def test_land_is_varied() -> None:
    """Places differ: the mean colours of the cells of a land spread far more than grain would."""
    land = np.asarray(make_land(5, 400.0, 0.5).picture.reduce(50)).reshape(-1, 3).astype(float)
    assert land.std(axis=0).min() > 12


def test_large_photographs(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "large", 2, (1600, 1200))
    assert len(paths) == 2 and paths[0].read_bytes() != paths[1].read_bytes()
    with Image.open(paths[0]) as picture:
        assert picture.size == (1600, 1200) and read_metadata(picture).latitude is not None


def test_a_flight_without_gps_and_its_truth(tmp_path: Path) -> None:
    made = write_world(tmp_path / "world", 3, **SMALL, track=True)
    truth = json.loads((made.folder / "track.json").read_text())["frames"]
    files = sorted((made.folder / "track").iterdir())
    assert [made.folder / entry["path"] for entry in truth] == files and len(files) == 60
    shows = [entry["shows"] for entry in truth]
    assert shows.count("land") == 30 and shows.count("water") == 12 and shows[0] == shows[-1] == "land"
    with Image.open(files[7]) as picture:
        facts = read_metadata(picture)
    assert facts.captured_at == truth[7]["captured_at"] + "+09:00" and facts.focal_length_35mm is not None
    assert (facts.latitude, facts.longitude, facts.yaw, facts.relative_altitude) == (None, None, None, None)
    # It flies as an aircraft does, over the land alone.
    places = np.array([complex(*entry["centre"]) for entry in truth])
    speeds = np.abs(np.diff(places)) / 3
    assert speeds.max() <= 10.1 and speeds.min() > 4
    assert all(abs(x) <= 310 and abs(y) <= 310 for entry in truth for x, y in entry["footprint"])
    sharp = {
        kind: np.mean([_detail(made.folder / e["path"]) for e in truth if e["shows"] == kind]) for kind in set(shows)
    }
    assert sharp["land"] > 2 * sharp["blurred"] and sharp["land"] > 2 * sharp["water"]
    # Asked for later, it is the same; another world's is removed.
    before = (made.folder / "track.json").read_bytes(), files[9].read_bytes()
    (made.folder / "track.json").unlink()
    assert not write_world(made.folder, 3, **SMALL, track=True).made
    assert before == ((made.folder / "track.json").read_bytes(), files[9].read_bytes())
    write_world(made.folder, 4, **SMALL, force=True)
    assert not (made.folder / "track").exists() and not (made.folder / "track.json").exists()


def _detail(path: Path) -> float:
    """How much neighbouring pixels differ."""
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L")).astype(float)
    return float(np.abs(np.diff(grey, axis=1)).mean())
