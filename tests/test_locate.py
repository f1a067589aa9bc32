"""`--locate`: where a query was taken, from hits whose places are known; and what is said where they do not say enough."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image

from outcrop.query.answers import Query, Result, Results
from outcrop.query.ground import distances
from outcrop.query.locating import locate, verified_hits
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.geometry import GeometricMatch
from outcrop.query.verification.locate import Plane
from outcrop.query.verification.location import Location, features, write_geojson
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, image_key
from outcrop.store.search import Hit

QUERY, PHOTO = (900, 600), (1600, 1200)
ORIGIN = (48.2, 16.4)


@dataclass(frozen=True)
class Shot:
    """A nadir photograph: metres east and north of the origin, heading in degrees, metres of ground in one pixel."""

    east: float
    north: float
    heading: float
    pixel: float

    def to_ground(self, size: tuple[int, int]) -> np.ndarray:
        """Pixels to metres east and north, 3 x 3."""
        turn = math.radians(self.heading)
        right, down = (math.cos(turn), -math.sin(turn)), (-math.sin(turn), -math.cos(turn))
        x, y = (size[0] - 1) / 2, (size[1] - 1) / 2
        columns = np.array([[right[0], down[0]], [right[1], down[1]]]) * self.pixel
        return np.vstack([np.column_stack([columns, (self.east, self.north) - columns @ (x, y)]), [0, 0, 1]])


def match_between(query: Shot, photo: Shot) -> GeometricMatch:
    """What geometry would find of the two."""
    matrix = np.linalg.inv(photo.to_ground(PHOTO)) @ query.to_ground(QUERY)
    lines = tuple(tuple(map(float, line)) for line in matrix)
    rotation = (query.heading - photo.heading) % 360
    return GeometricMatch(80, 60, "sift", lines, rotation, query.pixel / photo.pixel, None, QUERY, PHOTO)  # type: ignore[arg-type]


def photo_file(folder: Path, number: int, *, focal: int | None = 24, pitch: float = -90.0) -> Path:
    """A photograph's file, of which only the metadata are looked at."""
    exif = Image.Exif()
    if focal is not None:
        exif.get_ifd(0x8769)[0xA405] = focal
    path = folder / f"{number:04d}.jpg"
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a drone-dji:GimbalPitchDegree="{pitch:+.1f}"/></x:xmpmeta>'
    Image.new("RGB", (16, 12)).save(path, exif=exif, xmp=xmp.encode())
    return path


def answer(folder: Path, query: Shot, photos: Sequence[Shot], **file: float | int | None) -> Result:
    """A re-ranked answer whose hits are all verified, with place, heading, height and focal length."""
    plane, hits, verifications = Plane(ORIGIN), [], {}
    for number, photo in enumerate(photos, 1):
        latitude, longitude = plane.place(complex(photo.east, photo.north))
        item = Item(
            image_key("d", "c", number), Kind.IMAGE, "d", "c", frame=number, latitude=latitude, longitude=longitude,
            altitude=photo.pixel * PHOTO[0] * 24 / 36, extra={"yaw": photo.heading},
        )  # fmt: skip
        hits.append(Hit(number, 0.9, item))
        verifications[item.key] = Verification(
            match_between(query, photo),
            True,
            "",
            photo_file(folder, number, **file),  # type: ignore[arg-type]
        )
    return Result(Query("q.jpg"), tuple(hits), verifications=verifications, match=True)


def changed(result: Result, **values: object) -> Result:
    """The same answer with other values in every item; None takes a value from `extra`."""
    hits = []
    for hit in result.hits:
        extra = {} if values.get("yaw", 0) is None else hit.item.extra
        item = replace(hit.item, extra=extra, **{k: v for k, v in values.items() if k != "yaw"})  # type: ignore[arg-type]
        hits.append(replace(hit, item=item))
    return replace(result, hits=tuple(hits))


def off(found: Location | str, query: Shot) -> float:
    """Metres between an estimate and the truth."""
    assert isinstance(found, Location), found
    latitude, longitude = Plane(ORIGIN).place(complex(query.east, query.north))
    return float(distances(found.latitude, found.longitude, latitude, longitude))


TRUTH = Shot(12.0, -35.0, 137.0, 0.11)
PHOTOS = [
    Shot(0, 0, 20, 0.09), Shot(40, -10, 200, 0.09), Shot(5, -60, 350, 0.13), Shot(-30, -30, 91, 0.1),
    Shot(30, -70, 270, 0.06), Shot(60, -40, 45, 0.08),
]  # fmt: skip


def test_the_places_of_hits_give_position_heading_and_scale(tmp_path: Path) -> None:
    found = locate(answer(tmp_path, TRUTH, PHOTOS))
    assert off(found, TRUTH) < 0.01 and isinstance(found, Location)
    # Six hits that agree exactly still rest on the assumed error of a GPS, and on receivers that might all be late.
    assert found.method == "positions" and 1.0 < found.sigma_m < 2.0 and found.remarks == ()
    assert found.heading == pytest.approx(137, abs=0.01) and found.metres_per_pixel == pytest.approx(0.11, rel=1e-4)
    assert len(found.matches) == 6 and max(w.off for w in found.matches) < 0.01
    plane, ground = Plane(ORIGIN), TRUTH.to_ground(QUERY)
    for corner, (u, v) in zip(
        found.footprint, ((-0.5, -0.5), (899.5, -0.5), (899.5, 599.5), (-0.5, 599.5)), strict=True
    ):
        east, north, _ = ground @ (u, v, 1)
        assert abs(plane.metres(corner) - complex(east, north)) < 0.02
    # No heading, height or focal length is needed for this, and wrong headings do no harm but are remarked on.
    assert off(locate(changed(answer(tmp_path, TRUTH, PHOTOS, focal=None), yaw=None, altitude=0.0)), TRUTH) < 0.01
    turned = answer(tmp_path, TRUTH, PHOTOS)
    first = replace(turned.hits[0], item=replace(turned.hits[0].item, extra={"yaw": 200.0}))
    remarked = locate(replace(turned, hits=(first, *turned.hits[1:])))
    assert off(remarked, TRUTH) < 0.01 and isinstance(remarked, Location)
    assert len(remarked.remarks) == 1 and "200 degrees" in remarked.remarks[0] and "say 20" in remarked.remarks[0]


@pytest.mark.parametrize("photo", PHOTOS)
def test_one_hit_is_enough_where_it_states_heading_height_and_focal_length(tmp_path: Path, photo: Shot) -> None:
    found = locate(answer(tmp_path, TRUTH, [photo]))
    assert off(found, TRUTH) < 0.01 and isinstance(found, Location)
    assert found.method == "headings" and found.heading == pytest.approx(137, abs=0.01)
    assert found.metres_per_pixel == pytest.approx(0.11, rel=1e-4)
    away = abs(complex(TRUTH.east - photo.east, TRUTH.north - photo.north))
    assert found.sigma_m == pytest.approx(math.hypot(2.0, 0.05 * away), rel=1e-3)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    whole = answer(tmp_path, TRUTH, PHOTOS[:2])
    assert isinstance(locate(whole), Location)
    for lacking, result in (
        ("heading", changed(whole, yaw=None)),
        ("height above ground", changed(whole, altitude=0.0)),
        ("focal length", answer(tmp_path, TRUTH, PHOTOS[:2], focal=None)),
    ):
        told = locate(result)
        assert isinstance(told, str) and lacking in told and "three hits" in told, told
    nowhere = locate(changed(whole, latitude=999.0, longitude=999.0))
    assert isinstance(nowhere, str) and "GPS" in nowhere
    unverified = replace(whole, verifications={}, match=False, no_match="none of 2 candidates is verified")
    assert "none of 2 candidates" in str(locate(unverified))
    # Hits that hover over one place give no heading; one that states everything still does.
    hovering = [replace(PHOTOS[0], east=PHOTOS[0].east + step) for step in (0.0, 0.5, 1.0)]
    found = locate(answer(tmp_path, TRUTH, hovering))
    assert isinstance(found, Location) and found.method == "headings" and off(found, TRUTH) < 0.1
    assert isinstance(locate(changed(answer(tmp_path, TRUTH, hovering), yaw=None)), str)


def test_noise_shows_in_the_spread_and_outliers_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    errors: dict[str, list[float]] = {"positions": [], "headings": []}
    sigmas: dict[str, list[float]] = {"positions": [], "headings": []}
    for _ in range(15):
        photos = [
            Shot(float(e), float(n), float(h), 0.1)
            for e, n, h in zip(*rng.uniform(-70, 70, (2, 8)), rng.uniform(0, 360, 8), strict=True)
        ]
        truth = answer(tmp_path, TRUTH, photos)
        noisy = []
        for number, hit in enumerate(truth.hits):
            step = rng.normal(0, 1.5, 2) if number else (400.0, -300.0)  # one receiver had lost its way
            there = Plane(ORIGIN).metres((hit.item.latitude, hit.item.longitude)) + complex(*step)
            latitude, longitude = Plane(ORIGIN).place(there)
            heading = float(hit.item.extra["yaw"] + rng.normal(0, 3)) % 360
            altitude = hit.item.altitude * rng.normal(1, 0.03)
            item = replace(hit.item, latitude=latitude, longitude=longitude, altitude=altitude, extra={"yaw": heading})
            noisy.append(replace(hit, item=item))
        spoilt = replace(truth, hits=tuple(noisy))
        few = replace(spoilt, hits=(noisy[0], noisy[1], noisy[2], noisy[3]))
        for result, method in ((spoilt, "positions"), (few, "headings")):
            from outcrop.query.verification import locate as module

            found = locate(result)
            if method == "headings":
                evidence, plane = module._evidence(verified_hits(result))  # type: ignore[misc]  # not a text
                found = module._by_headings(evidence, plane)
            assert isinstance(found, Location) and found.method == method
            assert image_key("d", "c", 1) not in {w.key for w in found.matches}
            errors[method].append(off(found, TRUTH))
            sigmas[method].append(found.sigma_m)
    assert np.median(errors["positions"]) < 1.5 and max(errors["positions"]) < 5
    assert np.median(errors["headings"]) < 4 and max(errors["headings"]) < 12
    for method in errors:  # the spread says what to expect
        assert 0.2 < np.median(errors[method]) / np.median(sigmas[method]) < 1.5, method


@pytest.mark.parametrize("hits", [3, 4, 8])
def test_the_error_is_within_two_spreads(tmp_path: Path, hits: int) -> None:
    """Few hits may agree by chance: what they state must not be smaller for it."""
    rng, plane, within, ratios = np.random.default_rng(hits), Plane(ORIGIN), [], []
    for _ in range(160 // hits):
        photos = [Shot(*map(float, rng.uniform(-60, 60, 2)), float(rng.uniform(0, 360)), 0.1) for _ in range(hits)]
        truth = answer(tmp_path, TRUTH, photos)
        noisy = []
        for hit in truth.hits:
            there = plane.metres((hit.item.latitude, hit.item.longitude)) + complex(*rng.normal(0, 1.5, 2))
            latitude, longitude = plane.place(there)
            noisy.append(replace(hit, item=replace(hit.item, latitude=latitude, longitude=longitude)))
        found = locate(replace(truth, hits=tuple(noisy)))
        assert isinstance(found, Location)
        within.append(off(found, TRUTH) <= 2 * found.sigma_m)
        ratios.append(off(found, TRUTH) / found.sigma_m)
    assert np.mean(within) >= 0.95 and max(ratios) < 3, sorted(ratios)[-5:]
    assert np.median(ratios) > 0.15, "a spread that is never reached says nothing"


def test_receivers_that_are_late_are_allowed_for(tmp_path: Path) -> None:
    """Photographs flown to and fro, each stated 12 m behind its middle: so a receiver would state the query, and it is said."""
    plane, late = Plane(ORIGIN), 12.0
    photos = [
        Shot(30.0 * (n % 4) - 45, 25.0 * (n // 4) - 60, (90, 270)[n // 4 % 2] + 3 * (n % 3), 0.1) for n in range(12)
    ]
    truth = answer(tmp_path, TRUTH, photos)

    def behind(shot: Shot) -> complex:
        return complex(shot.east, shot.north) - late * 1j * np.exp(-1j * math.radians(shot.heading))

    def stated(hit: Hit, shot: Shot) -> Hit:
        latitude, longitude = plane.place(behind(shot))
        return replace(hit, item=replace(hit.item, latitude=latitude, longitude=longitude))

    found = locate(replace(truth, hits=tuple(map(stated, truth.hits, photos))))
    assert isinstance(found, Location) and off(found, Shot(behind(TRUTH).real, behind(TRUTH).imag, 0, 1)) < 2.0
    assert any("11 m off" in remark and "180 degrees" in remark for remark in found.remarks), found.remarks
    exact = locate(truth)
    assert isinstance(exact, Location) and off(exact, TRUTH) < 0.01 and exact.remarks == ()


def test_a_tilted_camera_is_remarked_on(tmp_path: Path) -> None:
    found = locate(answer(tmp_path, TRUTH, PHOTOS[:1], pitch=-60.0))
    assert isinstance(found, Location) and "30 degrees off" in found.remarks[0]


@pytest.mark.parametrize("origin", [(48.2, 16.4), (-33.9, 151.2), (0.0, 179.9999), (70.0, -179.9999), (89.0, 5.0)])
def test_metres_and_places(origin: tuple[float, float]) -> None:
    plane = Plane(origin)
    for metres in (0j, 120 - 45j, -800 + 300j):
        place = plane.place(metres)
        assert abs(plane.metres(place) - metres) < 1e-6 and -180 <= place[1] <= 180
        assert float(distances(*origin, *place)) == pytest.approx(
            abs(metres), rel=7e-3, abs=1e-6
        )  # sphere against ellipsoid


def test_geojson(tmp_path: Path) -> None:
    found = locate(answer(tmp_path, TRUTH, PHOTOS))
    assert isinstance(found, Location)
    path = write_geojson([("q.jpg", found), ("r.jpg", found)], tmp_path / "out.geojson")
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection" and len(collection["features"]) == 2 * (1 + 1 + 6)
    point, footprint, hit = features("q.jpg", found)[:3]
    assert point["geometry"] == {"type": "Point", "coordinates": [round(found.longitude, 7), round(found.latitude, 7)]}
    assert point["properties"]["role"] == "query" and point["properties"]["spread_m"] < 2.0
    (ring,) = footprint["geometry"]["coordinates"]
    assert len(ring) == 5 and ring[0] == ring[-1]
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
    assert area > 0  # counterclockwise, as RFC 7946 wants it
    assert hit["properties"]["key"] == image_key("d", "c", 1)
    with pytest.raises(InputError, match="no/out"):
        write_geojson([], Path("no/out.geojson"))


def test_results_are_located_one_by_one(tmp_path: Path) -> None:
    from outcrop.query.locating import locate_all

    broken = Result(Query("x.jpg"), error="x.jpg is broken")
    found = locate_all(Results("c", None, (answer(tmp_path, TRUTH, PHOTOS), broken), {"search": 1.0}))
    first, second = found.results
    assert first.location is not None and second.location is None and second.no_location == ""
    assert found.as_json()["queries"][0]["location"]["method"] == "positions" and "locate" in found.timings


@pytest.mark.slow
def test_queries_of_the_sample_world_are_located(
    sample_world: tuple[Path, tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, place = sample_world
    truth = {q["path"]: q for q in json.loads((folder / "truth.json").read_text())["queries"]}
    names = sorted(truth)[::4]
    outcome = run(
        "query", "image", *(folder / name for name in names), "-k", 1, "--rerank-depth", 12, "--locate",
        "--geojson", "where.geojson", "--report", "where.html", *place, "--json",
    )  # fmt: skip
    told = outcome.json
    assert outcome.code == 0 and "where.geojson" in outcome.err and "locate" in told["timings"]
    for name, query in zip(names, told["queries"], strict=True):
        seen, found = truth[name], query["location"]
        assert found["method"] == "positions" and len(found["hits"]) >= 3 and len(query["hits"]) == 1
        error = float(distances(found["latitude"], found["longitude"], seen["latitude"], seen["longitude"]))
        assert error < 1.0 and found["spread_m"] < 3, (name, error, found["spread_m"])
        assert abs((found["heading"] - seen["heading"] + 180) % 360 - 180) < 0.5
        for (lon, lat), (true_lon, true_lat) in zip(found["footprint"], seen["footprint_degrees"], strict=True):
            assert float(distances(lat, lon, true_lat, true_lon)) < 5
    points = [
        f for f in json.loads(Path("where.geojson").read_text())["features"] if f["properties"]["role"] == "query"
    ]
    assert len(points) == len(names)
    page = Path("where.html").read_text()
    assert page.count("where the hits put the query") == page.count("give or take") == len(names)
    # One hit alone: from its GPS, heading, height and focal length.
    with monkeypatch.context() as patch:
        patch.setenv("OUTCROP_RERANK_REACH", "1")  # a hit that shows the ground leads to the next
        alone = run(
            "query", "image", *(folder / name for name in names), "--rerank-depth", 1, "--locate", *place, "--json"
        ).json
    for name, query in zip(names, alone["queries"], strict=True):
        found, seen = query["location"], truth[name]
        if found is not None:
            error = distances(found["latitude"], found["longitude"], seen["latitude"], seen["longitude"])
            assert found["method"] == "headings" and float(error) < 3
    assert sum(query["location"] is not None for query in alone["queries"]) >= 2
    table = run("query", "image", folder / names[0], "--rerank-depth", 12, "--locate", *place)
    assert " ± " in table.out


def test_real_photographs_are_located_by_their_neighbours(
    shared_sample: Path, real: tuple[Path, ...], tmp_path: Path
) -> None:
    """Each photograph of a real flight, left out, against its own GPS; six of them state a heading that is 180 degrees off."""
    from outcrop.query.locating import locate_all
    from outcrop.query.rerank import rerank
    from outcrop.query.search import query_items
    from outcrop.query.verification.originals import Originals
    from outcrop.query.verification.verifier import Verifier
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    registry, uri, state = real[1], real[3], real[5]
    keys = [image_key("brighton_beach", "brighton_beach", frame) for frame in range(18, 36)]
    with Store.connect(str(uri)) as store, Verifier.below(state, 2**30) as verifier:
        answers = query_items(keys, Collection.open(store, "outcrop"), 17, exclude_self=True)
        found = locate_all(rerank(answers, verifier, Originals.of(registry, shared_sample)))
    errors = []
    remarks: set[str] = set()
    for result in found.results:
        assert result.location is not None and result.location.method == "positions" and result.query.item is not None
        item = result.query.item
        errors.append(
            float(distances(result.location.latitude, result.location.longitude, item.latitude, item.longitude))
        )
        remarks |= {remark.split("/")[3][:4] for remark in result.location.remarks}
    assert np.median(errors) < 3 and max(errors) < 10, errors
    assert remarks == {"0024", "0025", "0026", "0027", "0028", "0029"}
    assert np.median([r.location.sigma_m for r in found.results if r.location is not None]) < 4


def test_wrong_use(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save("q.png")
    assert "does not exist" in run("query", "image", "q.png", "--geojson", "no/where.json").error(3)
    assert "folder" in run("query", "image", "q.png", "--geojson", tmp_path).error(3)
