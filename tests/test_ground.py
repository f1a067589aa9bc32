"""Ground scale: windows of one number of metres out of photographs from any height, in collections and in queries."""

from __future__ import annotations

import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Outcome, run
from PIL import Image
from test_sources import ToyEncoder
from waiting import LONG

import outcrop
from outcrop.embed.crops import prepare
from outcrop.embed.images import decode, fit_to
from outcrop.embed.models import make_space
from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.placement import Placement
from outcrop.embed.presets import PRESETS
from outcrop.ingest.dataset import list_dataset
from outcrop.ingest.ground_windows import AT_ONCE, TOGETHER, of_each
from outcrop.ingest.photos import footing
from outcrop.ingest.references import list_references
from outcrop.query.pictures import read_query
from outcrop.sample.flight import Camera, Pose, photograph, write_jpeg
from outcrop.sample.land import Land, make_land
from outcrop.schema.crops import WHOLE, CropSpec
from outcrop.schema.errors import InputError, SpaceMismatch
from outcrop.schema.ground import (
    OBLIQUE,
    TOO_LITTLE,
    UNKNOWN,
    Footing,
    ground_crops,
    leaves_gaps,
    positive,
    query_crops,
    scaled,
)
from outcrop.schema.space import Space

CAMERA = Camera(512, 384)
LITE = PRESETS["efficientnet_lite0"]
WINDOW = (112.0, 112.0)
PLAIN = {
    "model": "m",
    "weights_digest": "0",
    "size": (8, 8),
    "mean": (0, 0, 0),
    "std": (1, 1, 1),
    "pooling": "avg",
    "dim": 8,
}


def test_heads_are_read_several_at_once_in_order_and_not_each_as_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    together, tasks = threading.Barrier(AT_ONCE), []
    submit = ThreadPoolExecutor.submit

    def counted(pool: ThreadPoolExecutor, *arguments: Any) -> Any:
        tasks.append(1)
        return submit(pool, *arguments)

    def look(number: int) -> int:
        if number % TOGETHER == 0:
            together.wait(LONG)  # broken where fewer threads than these read at the same time
        return 2 * number

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    numbers = range(TOGETHER * AT_ONCE * 2)
    assert of_each(numbers, look) == [2 * number for number in numbers]  # type: ignore[arg-type]
    assert len(tasks) == 2 * AT_ONCE
    with pytest.raises(InputError, match="too many"):
        of_each(range(3), lambda number: (_ for _ in ()).throw(InputError("too many")))  # type: ignore[arg-type]


def test_a_height_of_no_use_gives_way_to_one_that_is_assumed() -> None:
    assert footing(PhotoMetadata(relative_altitude=-4.0), 120.0, None).altitude == 120.0
    assert footing(PhotoMetadata(relative_altitude=80.0), -1.0, None).altitude == 80.0
    assert positive(-4.0, 120.0) == 120.0 and positive(None, 0.0) is None


def test_windows_that_do_not_meet_are_remarked_on() -> None:
    for altitude, gaps in ((300, False), (600, False), (750, True), (3000, True)):
        share = scaled(Footing(altitude, 24), 4000, 3000, WINDOW).share
        across = sorted({crop.centre[0] for crop in ground_crops(share, 4000, 3000, WINDOW)})
        assert bool(max(np.diff(across)) * altitude * 36 / 24 > WINDOW[1]) is gaps, altitude
        assert leaves_gaps(share, 4000, 3000, WINDOW) is gaps, altitude


def test_metres_of_a_pixel() -> None:
    assert Footing(100, 24).metres_per_pixel(4000, 3000) == pytest.approx(150 / 4000)
    assert Footing(100, 24).metres_per_pixel(3000, 4000) == pytest.approx(
        150 / 4000
    )  # focal lengths go by the longer side
    assert Footing(100, 24, -70).metres_per_pixel(4000, 3000) == pytest.approx(150 / 4000)
    for unknown in (
        Footing(),
        Footing(100),
        Footing(0, 24),
        Footing(-5, 24),
        Footing(100, 24, -45),
        Footing(100, 24, 0),
    ):
        assert unknown.metres_per_pixel(4000, 3000) is None


def test_share_of_a_picture_and_what_is_said_where_it_is_not_to_scale() -> None:
    assert scaled(Footing(300, 24), 4000, 3000, WINDOW).share == pytest.approx(112 / 337.5)
    assert scaled(Footing(300, 24), 3000, 4000, WINDOW).share == pytest.approx(112 / 337.5)
    assert scaled(Footing(60, 24), 4000, 3000, WINDOW) == scaled(Footing(50, 24), 4000, 3000, WINDOW)
    assert scaled(Footing(60, 24), 4000, 3000, WINDOW).remark == TOO_LITTLE
    assert (scaled(Footing(), 4000, 3000, WINDOW).share, scaled(Footing(), 4000, 3000, WINDOW).remark) == (1.0, UNKNOWN)
    assert scaled(Footing(100, 24, -20), 4000, 3000, WINDOW).remark == OBLIQUE


@pytest.mark.parametrize("altitude", [130.0, 150.0, 210.0, 300.0, 480.0])
@pytest.mark.parametrize("sides", [(4000, 3000), (3000, 4000), (3000, 3000), (1600, 1000)])
def test_windows_show_the_whole_picture_but_its_rim_at_one_scale(altitude: float, sides: tuple[int, int]) -> None:
    share = scaled(Footing(altitude, 24), *sides, WINDOW).share
    metres = Footing(altitude, 24).metres_per_pixel(*sides)
    assert metres is not None and share < 1
    seen = np.zeros((sides[1] // 10, sides[0] // 10), bool)
    for crop in ground_crops(share, *sides, WINDOW):
        across, down = crop.fraction * sides[0], crop.fraction * sides[1]
        side = min(across, down)
        assert side * metres == pytest.approx(112, rel=0.03)  # shares are whole hundredths
        x, y = crop.centre[0] * sides[0], crop.centre[1] * sides[1]
        left, right, top, bottom = (round(v / 10) for v in (x - side / 2, x + side / 2, y - side / 2, y + side / 2))
        assert min(left, top) >= -1 and right <= seen.shape[1] + 1 and bottom <= seen.shape[0] + 1
        seen[max(0, top) : bottom, max(0, left) : right] = True
    long, short = max(sides), min(sides)
    rim = share * (long - short) / long  # on the longer side, where the crop is wider than what the network sees of it
    assert seen.mean() >= 1 - rim - 0.03


def test_queries_have_fewer_windows_and_whole_pictures_one() -> None:
    share = scaled(Footing(300, 24), 4000, 3000, WINDOW).share
    assert 1 < len(query_crops(share, 4000, 3000, WINDOW)) < len(ground_crops(share, 4000, 3000, WINDOW))
    assert len(query_crops(0.05, 4000, 3000, WINDOW)) <= 16
    assert [
        crop.number for crop in (*ground_crops(1.0, 4000, 3000, WINDOW), *query_crops(1.0, 4000, 3000, WINDOW))
    ] == [0, 0]
    numbers = [crop.number for crop in ground_crops(0.04, 4000, 3000, WINDOW)]
    assert len(set(numbers)) == len(numbers) == 81


def test_spaces_without_a_scale_keep_their_fingerprint_and_one_with_it_is_another() -> None:
    plain, scale = Space(**PLAIN), Space(**PLAIN, fit="crop", gsd=0.5)  # type: ignore[arg-type]
    assert plain.fingerprint == "eb9c45c89498c16c628c9e2b9b7a9ceb"  # as before there were scales
    assert Space.model_validate_json(plain.model_dump_json()) == plain
    assert Space.model_validate_json(scale.model_dump_json()) == scale
    assert scale.window == (4.0, 4.0) and plain.window is None
    other = scale.model_copy(update={"gsd": 0.6})
    assert len({plain.fingerprint, scale.fingerprint, other.fingerprint}) == 3
    assert scale.difference(other) == "gsd 0.5 != 0.6" and "gsd none != 0.5" in plain.difference(scale)
    assert "at 0.5 m a pixel" in str(scale) and "a pixel" not in str(plain)


def test_the_fit_of_a_scale_keeps_proportions() -> None:
    assert make_space(LITE, "0", gsd=0.5).fit == "crop"
    with pytest.raises(InputError, match="keep their proportions; leave --fit out"):
        make_space(LITE, "0", fit="squash", gsd=0.5)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_a_share_of_a_picture_is_its_middle(fit: outcrop.schema.space.Fit) -> None:
    rng = np.random.default_rng(4)
    picture = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(
        (400, 300), Image.Resampling.BICUBIC
    )
    half = picture.crop((100, 75, 300, 225))
    assert np.abs(fit_to(picture, (64, 64), fit, 0.5).astype(int) - fit_to(half, (64, 64), fit)).mean() < 2
    assert np.array_equal(fit_to(picture, (64, 64), fit, 1.0), fit_to(picture, (64, 64), fit))


@functools.cache
def land_of(seed: int) -> Land:
    return make_land(seed, 580.0, 0.8)


def land_photo(path: Path, seed: int, pose: Pose) -> None:
    """A photograph of the land of a seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = photograph(land_of(seed), pose, CAMERA, np.random.default_rng(seed))
    write_jpeg(picture, path, pose, datetime(2025, 9, 18, 9), camera=CAMERA)


class Encoder(ToyEncoder):
    """One of a space with a ground scale, on the CPU."""

    device = "cpu"

    def __init__(self) -> None:
        super().__init__()
        self.space = Space(**{**PLAIN, "size": (64, 64)}, fit="crop", gsd=1.75)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queries")
    land_photo(folder / "low.jpg", 5, Pose(40, -30, 150, 70))
    land_photo(folder / "high.jpg", 5, Pose(0, 0, 300, 10))
    with Image.open(folder / "low.jpg") as photo:
        photo.save(folder / "bare.jpg", quality=95)
    return folder


def test_a_query_is_cut_into_windows_of_the_scale(queries: Path) -> None:
    encoder = Encoder()
    low, high = (read_query(queries / name, encoder) for name in ("low.jpg", "high.jpg"))
    assert low.pixels is not None and high.pixels is not None
    assert (len(low.pixels), len(high.pixels)) == (2, 12) and low.query.remark == high.query.remark == ""
    turned = read_query(queries / "low.jpg", encoder, 3)
    assert turned.angles == (0, 0, 120, 120, 240, 240) and turned.pixels is not None and len(turned.pixels) == 6
    seen = decode((queries / "low.jpg").read_bytes(), name="low")
    share = 112 / (150 * 36 / round(CAMERA.focal_length_35mm) * 0.75)
    middle = prepare(seen, encoder.space, share).astype(int)
    assert min(np.abs(middle - window).mean() for window in low.pixels) < 40


def test_a_query_that_does_not_say_its_scale_is_asked_whole_unless_it_is_stated(queries: Path) -> None:
    encoder = Encoder()
    bare = read_query(queries / "bare.jpg", encoder)
    assert bare.query.remark == UNKNOWN and bare.pixels is not None and len(bare.pixels) == 1
    whole = decode((queries / "bare.jpg").read_bytes(), name="bare", at_least=(64, 64))
    assert np.array_equal(bare.pixels[0], prepare(whole, encoder.space))
    stated = read_query(queries / "bare.jpg", encoder, assumed=Footing(150, round(CAMERA.focal_length_35mm)))
    low = read_query(queries / "low.jpg", encoder, assumed=Footing(999, 5))  # what it says itself wins
    assert stated.pixels is not None and low.pixels is not None and stated.query.remark == ""
    assert np.abs(stated.pixels.astype(int) - low.pixels).mean() < 3


def test_placement_of_a_share() -> None:
    rng = np.random.default_rng(1)
    from outcrop.embed.images import Decoded
    from outcrop.embed.photo import PhotoMetadata

    image = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    placed = Placement.of(Decoded(image, 800, 600, PhotoMetadata()), (64, 64), "crop", 0.5)
    corners = placed.to_source(np.array([[-0.5, -0.5], [63.5, 63.5]]))
    assert corners.tolist() == [[249.5, 149.5], [549.5, 449.5]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two lands from 300 m, one of them again without metadata, and queries from 150 m."""
    folder = tmp_path_factory.mktemp("ground")
    for seed in range(1, 3):
        land_photo(folder / f"images/c_300/c_300_{seed:04d}.jpg", seed, Pose(0, 0, 300, 0))
        land_photo(folder / f"queries/{seed}.jpg", seed, Pose(60, 40, 150, 95))
    with Image.open(folder / "images/c_300/c_300_0002.jpg") as photo:
        photo.save(folder / "images/c_300/c_300_0003.jpg", quality=90)
    dataset = {"root": "images", "images": {"c_300": 3}}
    (folder / "data_key.json").write_text(
        json.dumps({"datasets": {"lands": dataset}, "weights": {"dinov3_weights": {}}})
    )
    return folder


def place(folder: Path) -> tuple[object, ...]:
    return ("--registry", folder / "data_key.json", "--uri", folder / "outcrop.db", "--state", folder / "state")


def ok(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def test_queries_from_half_the_height_find_their_ground(world: Path) -> None:
    where = place(world)
    first = ok(run("ingest", "dataset", "lands", "--model", "efficientnet_lite0", "--gsd", "0.65", *where, "--json"))
    assert first.json["embedded"] == 3 and f"c_300_0003.jpg: {UNKNOWN}" in first.err
    made = ok(run("ingest", "references", "lands", "--angles", "0", *where, "--json"))
    assert made.json["embedded"] == 2 * 12 + 1 and f"c_300_0003.jpg: {UNKNOWN}" in made.err
    assert ok(run("ingest", "references", "lands", "--angles", "0", *where, "--json")).json["unchanged"] == 25
    answers = ok(run("query", "image", world / "queries", "--turns", "4", *where, "--json")).json["queries"]
    for seed, answer in enumerate(answers, 1):
        best = answer["hits"][0]
        assert best["parent"] == f"image/lands/c_300/{seed:04d}" and best["kind"] == "reference", answer
        assert "remark" not in answer and best["rotation"] == 0
    audit = ok(run("collection", "audit", "--dataset", "lands", *where, "--json")).json
    assert audit["findings"] == [] and audit["rows"][0]["good"] == 28, audit


def test_a_collection_keeps_its_scale(world: Path) -> None:
    where = place(world)
    other = run("ingest", "dataset", "lands", "--gsd", "0.7", *where)
    assert other.code == SpaceMismatch("").exit_code and "at metres per pixel of 0.65, not 0.7" in other.err
    crops = run("ingest", "references", "lands", "--crops", "0.5", *where)
    assert crops.code == 3 and "leave --crops out" in crops.err


def terrain_model(path: Path, places: list[tuple[float, float]], level: float) -> None:
    """A terrain model around places: at the first the ground lies at `level` metres, and rises eastwards by 50 m to the last."""
    rasterio = pytest.importorskip("rasterio", reason="extra maps")
    (latitude, west), (_, east) = places[0], places[-1]
    step = (east - west) / 20
    heights = np.tile(level + 50 * (np.arange(41) - 10) / 20, (41, 1)).astype(np.float32)
    transform = rasterio.Affine(step, 0, west - 10.5 * step, 0, -step, latitude + 20.5 * step)
    with rasterio.open(
        path, "w", driver="GTiff", width=41, height=41, count=1, dtype="float32", crs="EPSG:4326", transform=transform
    ) as file:
        file.write(heights, 1)


def test_heights_above_a_terrain_model(tmp_path: Path) -> None:
    """Both aircraft say 300 m above their take-off; one is 250 m above the hill that it photographs."""
    land, folder = land_of(1), tmp_path / "images/c"
    folder.mkdir(parents=True)
    poses = [Pose(0, 0, 300, 0), Pose(200, 0, 300, 0)]
    for number, pose in enumerate([*poses, None], 1):
        picture = photograph(land, poses[0], Camera(64, 48), np.random.default_rng(1))
        write_jpeg(picture, folder / f"c_{number:04d}.jpg", pose, datetime(2025, 9, 18))
    terrain_model(tmp_path / "images/dem.tif", [pose.place for pose in poses], level=20)
    dataset = {"root": "images", "terrain": "dem.tif", "images": {"c": {"frames": 3, "altitude": 200}}}

    def listed() -> tuple[list[float], str, list[float]]:
        (tmp_path / "data_key.json").write_text(
            json.dumps({"datasets": {"d": dataset}, "weights": {"dinov3_weights": {}}})
        )
        place = (tmp_path / "data_key.json", "d", tmp_path)
        found = list_dataset(*place)
        references = list_references(*place, [CropSpec(0, WHOLE)], window=WINDOW)
        shares = [source.turns[0].crop.fraction for source in references.sources]
        return [source.wanted[0].item.altitude for source in found.sources], " ".join(found.remarks), shares

    altitudes, said, shares = listed()
    assert altitudes == [pytest.approx(300, abs=0.2), pytest.approx(250, abs=0.2), 200]
    assert "1 of 3 photographs state no place" in said and "datum" not in said
    assert shares[1] / shares[0] == pytest.approx(300 / 250, abs=0.03)
    terrain_model(tmp_path / "images/dem.tif", [pose.place for pose in poses], level=300)
    altitudes, said, _ = listed()
    assert altitudes == [pytest.approx(20, abs=0.2), 200, 200] and "1 of 3 photographs lie below the ground" in said
    (tmp_path / "images/dem.tif").unlink()
    with pytest.raises(InputError, match="no terrain model at"):
        listed()
