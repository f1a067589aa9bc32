"""`--near` and `--within`: the items that plain geometry finds, also across the 180th meridian and at the poles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run

from outcrop.query.area import Near, Within
from outcrop.query.ground import EARTH_RADIUS
from outcrop.schema.errors import InputError
from outcrop.schema.item import UNKNOWN_COORDINATE, Item, Kind, image_key
from outcrop.schema.space import Space
from outcrop.store import search as searching
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

COUNT, DIM = 600, 8
SPACE = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=DIM)


def world() -> list[Item]:
    """Places all over the globe, many of them near a pole, the 180th meridian and Busan; the last ones are not known."""
    rng = np.random.default_rng(3)
    latitude = np.concatenate(
        (np.degrees(np.arcsin(rng.uniform(-1, 1, 300))), rng.uniform(88, 90, 60), rng.uniform(-90, -89, 40))
    )
    longitude = rng.uniform(-180, 180, 400)
    latitude = np.concatenate(
        (latitude, rng.normal(35.18, 0.02, 100), rng.normal(-17, 0.5, 80), [UNKNOWN_COORDINATE] * 20)
    )
    around = (rng.normal(180, 0.5, 80) + 180) % 360 - 180
    longitude = np.concatenate((longitude, rng.normal(129.07, 0.02, 100), around, [UNKNOWN_COORDINATE] * 20))
    return [
        Item(image_key("d", "c", n), Kind.IMAGE, "d", "c", frame=n, latitude=float(lat), longitude=float(lon))
        for n, (lat, lon) in enumerate(zip(latitude, longitude, strict=True), 1)
    ]


ITEMS = world()
VECTORS = np.random.default_rng(0).normal(size=(COUNT, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("area")
    with Store.connect(str(folder / "outcrop.db")) as store:
        Collection.create(store, "outcrop", SPACE).upsert(ITEMS, VECTORS)
    return folder


def on_the_sphere(latitude: float, longitude: float) -> np.ndarray:
    a, b = np.radians(latitude), np.radians(longitude)
    return np.array([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)])


def near_by_numpy(latitude: float, longitude: float, metres: float) -> set[str]:
    """By the angle between vectors in space: another way than the haversine."""
    middle = on_the_sphere(latitude, longitude)
    found = set()
    for item in ITEMS:
        if item.latitude != UNKNOWN_COORDINATE:
            there = on_the_sphere(item.latitude, item.longitude)
            angle = np.arctan2(np.linalg.norm(np.cross(middle, there)), middle @ there)
            if angle * EARTH_RADIUS <= metres:
                found.add(item.key)
    return found


def within_by_numpy(polygons: list, item: Item) -> bool:
    """By the winding number, angle by angle: another way than crossings."""
    if item.latitude == UNKNOWN_COORDINATE:
        return False
    for turn in (-360, 0, 360):
        for rings in polygons:
            winding = []
            for ring in rings:
                corners = np.asarray(ring) - (item.longitude + turn, item.latitude)
                angles = np.unwrap(np.arctan2(corners[:, 1], corners[:, 0]))
                winding.append(round((angles[-1] - angles[0]) / (2 * np.pi)) != 0)
            if winding[0] and not any(winding[1:]):
                return True
    return False


NEAR = [
    (35.18, 129.07, 2500.0),
    (-17.0, 179.9, 60_000.0),
    (-17.0, -180.0, 30_000.0),
    (89.5, 20.0, 100_000.0),
    (-90.0, 0.0, 50_000.0),
    (0.0, 0.0, 5_000_000.0),
    (10.0, -100.0, 15_000_000.0),
    (0.0, 0.0, 3e7),
    (35.18, 129.07, 0.0),
]
AREAS = {
    "town": [[[[129.05, 35.16], [129.1, 35.15], [129.09, 35.2], [129.07, 35.17], [129.04, 35.2], [129.05, 35.16]]]],
    "hole": [
        [
            [[129, 35], [129.2, 35], [129.2, 35.4], [129, 35.4], [129, 35]],
            [[129.06, 35.16], [129.08, 35.16], [129.08, 35.2], [129.06, 35.16]],
        ]
    ],
    "beyond 180": [[[[179.2, -18], [180.8, -18], [180.5, -16], [179.5, -16.2], [179.2, -18]]]],
    "cut at 180": [
        [[[179.2, -18], [180, -18], [180, -16], [179.2, -18]]],
        [[[-180, -18], [-179.2, -18], [-180, -16], [-180, -18]]],
    ],
    "polar cap": [[[[-180, 88.5], [180, 88.5], [180, 90], [-180, 90], [-180, 88.5]]]],
    "half the world": [[[[-180, -90], [0, -90], [0, 90], [-180, 90], [-180, -90]]]],
}


@pytest.mark.parametrize("asked", NEAR)
def test_near_is_the_great_circle(place: Path, asked: tuple[float, float, float]) -> None:
    wanted = near_by_numpy(*asked)
    filter = Near(*asked).filter
    assert {item.key for item in ITEMS if filter.matches({**item.row(), "kind": "image"})} == wanted
    text = ",".join(map(repr, asked))
    found = run("collection", "items", f"--near={text}", "--limit", 1000, "--uri", place / "outcrop.db", "--json").json
    assert {item["key"] for item in found["items"]} == wanted and found["total"] == len(wanted)


@pytest.mark.parametrize("name", AREAS)
def test_within_is_the_polygon(place: Path, name: str, tmp_path: Path) -> None:
    polygons = AREAS[name]
    wanted = {item.key for item in ITEMS if within_by_numpy(polygons, item)}
    file = tmp_path / "area.geojson"
    geometry = {"type": "MultiPolygon", "coordinates": polygons}
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry}]}))
    found = run("collection", "items", "--within", file, "--limit", 1000, "--uri", place / "outcrop.db", "--json").json
    assert wanted and {item["key"] for item in found["items"]} == wanted and found["total"] == len(wanted)


def test_every_backend_counts_and_finds_the_same(store: Store, name: str) -> None:
    collection = Collection.create(store, name, SPACE)
    collection.upsert(ITEMS, VECTORS)
    for asked in (NEAR[0], NEAR[1], NEAR[3]):
        filter, wanted = Near(*asked).filter, near_by_numpy(*asked)
        assert collection.count(filter) == len(wanted) > 5
        (hits,) = searching.search(collection, VECTORS[:1], len(wanted) + 3, filter).hits
        assert {hit.item.key for hit in hits} == wanted


@pytest.mark.parametrize("most", [searching.MAX_HITS, 8])
def test_hits_are_the_best_of_the_area(place: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where more hits than Milvus gives would have to be sifted: then the rows of the area are compared."""
    monkeypatch.setattr(searching, "MAX_HITS", most)
    queries = VECTORS[:5]
    for asked in NEAR[:4]:
        inside = near_by_numpy(*asked)
        kept = [n for n, item in enumerate(ITEMS) if item.key in inside]
        with Store.connect(str(place / "outcrop.db")) as store:
            answer = searching.search(Collection.open(store, "outcrop"), queries, 5, Near(*asked).filter)
        for query, hits in zip(queries, answer.hits, strict=True):
            order = sorted(kept, key=lambda n: -float(VECTORS[n] @ query))[:5]
            assert [hit.item.key for hit in hits] == [ITEMS[n].key for n in order]
            assert [hit.rank for hit in hits] == list(range(1, len(order) + 1))


def test_the_query_commands_take_them(place: Path) -> None:
    store = ("--uri", place / "outcrop.db", "--json")
    near = ("--near", "35.18,129.07,2500")
    wanted = near_by_numpy(35.18, 129.07, 2500.0)
    (answer,) = run("query", "item", ITEMS[0].key, "-k", 5, *near, *store).json["queries"]
    assert len(answer["hits"]) == 5 and {hit["key"] for hit in answer["hits"]} <= wanted
    answers = run("query", "dataset", "d", "--limit", 3, "-k", 4, *near, *store).json["queries"]
    assert all({hit["key"] for hit in each["hits"]} <= wanted for each in answers)
    nothing = run("collection", "items", "--near", "0,-30,1", "--uri", place / "outcrop.db")
    assert nothing.code == 0 and "the filter keeps 0 of 600 rows" in nothing.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("35,129", "LAT,LON,METRES"),
        ("129.07,35.18,5", "latitude comes first"),
        ("35,129,-1", "metres"),
        ("nan,1,2", "latitude"),
    ],
)
def test_a_place_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Near.parse(text)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"type": "Point", "coordinates": [1, 2]}, "made of polygons, got Point"),
        ({"type": "FeatureCollection", "features": []}, "holds no polygon"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, "at least four corners"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [2, 2]]]}, "does not end where it begins"),
        ({"type": "Polygon", "coordinates": [[[35, 129], [36, 129], [36, 130], [35, 129]]]}, "longitude comes first"),
        ({"type": "Polygon", "coordinates": [[[170, 0], [-170, 0], [-170, 9], [170, 0]]]}, "spans 340 degrees"),
        ({"type": "Polygon", "coordinates": [[["a", 0], [1, 1], [1, 0], [2, 2]]]}, "not valid GeoJSON"),
        ({"type": "Polygon", "coordinates": [5]}, "a list is missing"),
        ([1], "got list"),
    ],
)
def test_an_area_that_is_none_is_refused(found: object, said: str, tmp_path: Path) -> None:
    file = tmp_path / "area.geojson"
    file.write_text(json.dumps(found))
    with pytest.raises(InputError, match=said):
        Within.read(file)
    with pytest.raises(InputError, match="no file"):
        Within.read(tmp_path / "nowhere.geojson")
