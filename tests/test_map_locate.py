"""Photographs of the sample world located by its orthophoto alone; and by a terrain model, on hills that are computed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import run
from PIL import Image
from rasterio.transform import Affine

import outcrop
from outcrop.embed.georeference import Georeference
from outcrop.embed.maps import MapWindow
from outcrop.embed.terrain import Terrain, open_terrain
from outcrop.query.map_locating import _Fit, _Ground, _with_terrain
from outcrop.query.service.asked import Asked
from outcrop.query.service.engine import Engine
from outcrop.query.verification.geometry import GeometricMatch
from outcrop.query.verification.location import Location
from outcrop.query.verification.map_tiles import View
from outcrop.query.verification.pose import camera_pose
from outcrop.sample.flight import METRES_PER_DEGREE, Camera, Pose, photograph
from outcrop.sample.land import Land, make_land
from outcrop.sample.maps import write_maps
from outcrop.schema.settings import read_settings

MODEL = ("--model", "efficientnet_lite0", "--quiet")
SEED = 5
CAMERA = Camera(512, 384)
POSES = (Pose(12.0, -20.0, 90.0, 137.0),)


@pytest.fixture(scope="module")
def land() -> Land:
    return make_land(SEED, 280.0, 0.35)


def taken(land: Land, pose: Pose, path: Path) -> Path:
    """A photograph that says its focal length, and nothing of where it was taken."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = round(CAMERA.focal_length_35mm)
    photograph(land, pose, CAMERA, np.random.default_rng(SEED)).save(path, "JPEG", quality=90, exif=exif)
    return path


def apart(place: dict[str, float], pose: Pose) -> float:
    """Metres from a place to where a photograph was taken, in the flat-earth metres of the sample world."""
    latitude, longitude = pose.place
    east = (place["longitude"] - longitude) * math.cos(math.radians(latitude))
    return math.hypot(place["latitude"] - latitude, east) * METRES_PER_DEGREE


def test_by_the_orthophoto_alone(land: Land, tmp_path: Path) -> None:
    maps = write_maps(tmp_path, land, tiles=False).parent
    for number, pose in enumerate(POSES):
        taken(land, pose, tmp_path / f"{number}.jpg")
    Image.effect_noise((400, 300), 60).convert("RGB").save(tmp_path / "1.jpg")
    said = run("ingest", "map", maps / "orthophoto.tif", "--scales", "120", "--dem", maps / "terrain.tif", *MODEL)
    assert said.code == 0, said.err
    asked = run("query", "image", *(tmp_path / f"{n}.jpg" for n in range(2)), "--locate", "-k", 3, "--json",
                "--geojson", tmp_path / "places.json")  # fmt: skip
    assert asked.code == 0, asked.err
    *found, nowhere = asked.json["queries"]
    assert nowhere["location"] is None and "verified" in nowhere["location_missing"]
    for answer, pose in zip(found, POSES, strict=True):
        place = answer["location"]
        assert place["method"] == "terrain" and apart(place, pose) < 1.0 and place["spread_m"] < 1.0
        assert abs((place["heading"] - pose.heading + 180) % 360 - 180) < 1.0
        assert place["height"] == pytest.approx(pose.altitude, rel=0.03)
        longitude, latitude = place["camera"]["coordinates"]
        assert apart({"latitude": latitude, "longitude": longitude}, pose) < 3.0 and place["camera"]["tilt"] < 2.0
        assert {hit["key"].split("/")[1] for hit in place["hits"]} == {"orthophoto"}
    features = json.loads((tmp_path / "places.json").read_text())["features"]
    assert sum(each["properties"]["role"] == "query" for each in features) == 1
    same_from_python_and_by_the_service(tmp_path / "0.jpg", found[0]["location"])
    (maps / "orthophoto.tif").rename(maps / "moved.tif")
    gone = run("query", "image", tmp_path / "0.jpg", "--locate", "--json")
    assert gone.json["queries"][0]["location"] is None and "no map at" in gone.err


def same_from_python_and_by_the_service(photo: Path, place: dict[str, float]) -> None:
    """The picture is turned without being asked to by whoever is asked to locate it."""
    with outcrop.open_collection() as opened:
        answers = [outcrop.query_images(opened, photo, 3, locate=True)]
    engine = Engine(read_settings())
    try:
        upload = engine.uploads.keep(photo.read_bytes(), photo.name)
        answers.append(engine.search(Asked(picture=upload.digest, k=3, rerank=True, locate=True)))
    finally:
        engine.close()
    for (result,) in (answer.results for answer in answers):
        assert result.location is not None
        assert (result.location.latitude, result.location.longitude) == pytest.approx(
            (place["latitude"], place["longitude"]), abs=1e-7
        )


def test_a_camera_over_hills() -> None:
    rng = np.random.default_rng(2)
    ground = np.column_stack([rng.uniform(-80, 80, (200, 2)), rng.uniform(0, 40, 200)])
    tilt = math.radians(20)
    # Right is east; down and ahead lean north by the tilt.
    axes = np.array([[1, 0, 0], [0, -math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), -math.cos(tilt)]])
    seen = (ground - [5.0, -30.0, 150.0]) @ axes.T
    pixels = 900 * seen[:, :2] / seen[:, 2:] + [511.5, 383.5]
    pixels[:40] = rng.uniform(0, 700, (40, 2))  # wrong matches
    pose = camera_pose(pixels, ground, 900.0, (1024, 768))
    assert pose is not None and pose.tilt == pytest.approx(20, abs=0.1)
    assert (pose.east, pose.north, pose.up) == pytest.approx((5.0, -30.0, 150.0), abs=0.3)
    assert pose.used[40:].all() and pose.used[:40].sum() < 4
    met = pose.ground((0.0, 0.0), 10.0)
    assert met == pytest.approx(complex(5.0, -30 + 140 * math.tan(tilt)), abs=0.3)
    assert camera_pose(pixels[:7], ground[:7], 900.0, (1024, 768)) is None


def test_a_terrain_model_moves_what_flat_ground_gets_wrong(tmp_path: Path) -> None:
    """A steep slope seen straight down: the middle of the picture is right, and so are the corners, at their heights."""
    pixel, corner = 0.5, (451_000.0, 5_411_000.0)
    place = Georeference((pixel, 0, corner[0], 0, -pixel, corner[1]), "EPSG:32632")
    rows = np.mgrid[:800, :800][0]
    with rasterio.open(
        tmp_path / "slope.tif", "w", driver="GTiff", width=800, height=800, count=1, dtype="float32", crs="EPSG:32632",
        transform=Affine(pixel, 0, corner[0], 0, -pixel, corner[1]),
    ) as file:  # fmt: skip
        file.write((0.2 * pixel * rows).astype(np.float32), 1)  # higher in the south, by a fifth
    terrain: Terrain = open_terrain(tmp_path / "slope.tif")
    rng = np.random.default_rng(3)
    points = rng.uniform(250, 550, (300, 2))
    ground = _Ground(place, np.array([400.0, 400.0]))
    metres = ground.metres(points)
    heights = terrain.heights(place.degrees(points))
    above, focal, size = 190.0, 800.0, (1000, 1000)
    pixels = np.column_stack([metres.real, -metres.imag]) * focal / (above - heights)[:, None] + 499.5
    view = View(source=None, window=MapWindow(0, 0, 800, 800), sides=(800, 800))  # type: ignore[arg-type]
    match = GeometricMatch(
        300, 300, "sift", query_size=size, candidate_size=(800, 800),
        pairs=np.hstack([pixels, points - 0.5]).astype(np.float32),
    )  # fmt: skip
    flat = Location(0.0, 0.0, 1.0, "map", 0.0, 0.2, (), ())
    found = _with_terrain(flat, _Fit(np.eye(3), match, view), ground, place, terrain, focal)
    assert found.method == "terrain" and found.camera is not None
    assert abs(ground.plane.metres((found.latitude, found.longitude))) < 0.5
    assert found.camera.tilt < 0.3 and found.height == pytest.approx(above - 40, abs=0.7)
    north, south = (abs(ground.plane.metres(found.footprint[n])) for n in (0, 2))
    assert north > south + 10  # lower ground in the north is further away, so that a picture shows more of it
    terrain.close()
    assert replace(found, method="map").as_json()["assumptions"] == "flat ground"
