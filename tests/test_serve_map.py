"""The map of the page: tiles of any map in Web Mercator, outlines that rows give, and what is looked for on the ground."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from commands import run
from numpy.typing import NDArray
from pictures import picture
from PIL import Image
from rasterio.transform import Affine
from starlette.testclient import TestClient

from outcrop.embed.georeference import Georeference
from outcrop.query.service.app import application
from outcrop.query.service.engine import Engine
from outcrop.query.service.places import area_json, outline_of
from outcrop.query.service.tiles import EQUATOR, SIDE, Tiles
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind
from outcrop.schema.settings import Settings

CORNER = (451_000.0, 5_411_000.0)
"""Upper left corner in UTM 32 N."""
HERE = "http://127.0.0.1:8421"


def ground(width: int, height: int) -> NDArray[np.uint8]:
    """Colours that say where they are: red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return np.dstack([x, y, np.full_like(x, 90)]).astype(np.uint8)


def write_map(path: Path, pixels: NDArray[np.uint8], system: str, transform: Affine) -> Path:
    profile = {"driver": "GTiff", "width": pixels.shape[1], "height": pixels.shape[0], "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=system, transform=transform, **profile) as file:
        file.write(np.moveaxis(pixels, -1, 0))
    return path


def tile_of(latitude: float, longitude: float, zoom: int) -> tuple[int, int, float, float]:
    """The tile that a place lies in, and where in it (pixels)."""
    x = (longitude + 180) / 360 * 2**zoom
    y = (1 - np.arcsinh(np.tan(np.radians(latitude))) / np.pi) / 2 * 2**zoom
    return int(x), int(y), (x % 1) * SIDE, (y % 1) * SIDE


@pytest.mark.parametrize("turned", [0.0, 30.0])
def test_every_pixel_of_a_tile_shows_its_place(tmp_path: Path, turned: float) -> None:
    transform = Affine.translation(*CORNER) @ Affine.rotation(turned) @ Affine.scale(0.5, -0.5)
    tiles = Tiles(write_map(tmp_path / "m.tif", ground(600, 400), "EPSG:32632", transform))
    place = Georeference(tuple(transform)[:6], "EPSG:32632")  # type: ignore[arg-type]
    extent = tiles.extent
    for x, y in ((60.5, 40.5), (300.5, 200.5), (540.5, 350.5)):
        latitude, longitude = place.degrees(np.array([[x, y]]))[0]
        assert extent.south < latitude < extent.north and extent.west < longitude < extent.east
        for zoom in (extent.zoom - 2, extent.zoom, extent.zoom + 1):
            column, row, across, down = tile_of(latitude, longitude, zoom)
            data = tiles.tile(zoom, column, row)
            assert data is not None
            with Image.open(io.BytesIO(data)) as image:
                assert image.size == (SIDE, SIDE)
                red, green, _, alpha = image.convert("RGBA").getpixel((int(across), int(down)))  # type: ignore[misc]
            assert alpha == 255
            assert abs(red - x / 600 * 250) < 6 and abs(green - y / 400 * 250) < 6
    metres = EQUATOR * np.cos(np.radians(extent.south)) / SIDE / 2**extent.zoom
    assert 0.2 < metres <= 0.5


def test_tiles_beside_the_map_are_none_and_a_corner_is_transparent(tmp_path: Path) -> None:
    transform = Affine(0.5, 0, CORNER[0], 0, -0.5, CORNER[1])
    tiles = Tiles(write_map(tmp_path / "m.tif", ground(600, 400), "EPSG:32632", transform))
    extent = tiles.extent
    column, row, *_ = tile_of(extent.north, extent.west, extent.zoom)
    assert tiles.tile(extent.zoom, column - 2, row) is None
    far = tiles.tile(extent.zoom - 7, column >> 7, row >> 7)
    assert far is not None and tiles.tile(0, 0, 0) is None  # a dot; of all the world UTM knows nothing
    for wrong in ((-1, 0, 0), (25, 0, 0), (3, 8, 0), (3, 0, 8), (10**9, 0, 0)):
        assert tiles.tile(*wrong) is None
    data = tiles.tile(extent.zoom, column, row)
    assert data is not None and tiles.tile(extent.zoom, column, row) is data
    with Image.open(io.BytesIO(data)) as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0 and set(np.unique(alpha)) == {0, 255}
    tiles.close()
    with pytest.raises(InputError, match="no map at"):
        Tiles(tmp_path / "missing.tif")


def test_a_folder_of_tiles_gives_its_own_pictures(tmp_path: Path) -> None:
    for column in (2, 3):
        (tmp_path / f"3/{column}").mkdir(parents=True)
        picture(column, SIDE, SIDE).save(tmp_path / f"3/{column}/4.png")
    tiles = Tiles(tmp_path)
    data = tiles.tile(3, 2, 4)
    assert data is not None
    with Image.open(io.BytesIO(data)) as made, Image.open(tmp_path / "3/2/4.png") as kept:
        seen, own = np.asarray(made.convert("RGB"), float), np.asarray(kept.convert("RGB"), float)
    assert np.abs(seen - own).mean() < 6
    assert tiles.tile(3, 5, 5) is None and tiles.extent.zoom in (3, 4)


def test_only_numbers_are_outlines() -> None:
    def outline(corners: object) -> str:
        return outline_of(Item("tile/a/150m/0000/0000", Kind.TILE, "a", "150m", extra={"footprint": corners}), {})

    square = [[35.0, 129.0], [35.0, 129.1], [35.1, 129.1], [35.1, 129]]
    assert outline(square) == "35.0,129.0 35.0,129.1 35.1,129.1 35.1,129.0"
    for wrong in (None, "<script>", [1, 2, 3], [["a", "b"]] * 4, [[float("nan"), 1]] * 4, square[:2], [[1e9, 1]] * 4):
        assert outline(wrong) == ""
    assert area_json("35,129,500", "1,2,3,4") == {"near": [35.0, 129.0, 500.0], "area": [1.0, 2.0, 3.0, 4.0]}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("served_map")
    pixels = np.array(picture(1).resize((480, 320)), dtype=np.uint8)
    transform = Affine(0.5, 0, CORNER[0], 0, -0.5, CORNER[1])
    path = write_map(folder / "site.tif", pixels, "EPSG:32632", transform)
    place = ("--uri", folder / "outcrop.db", "--state", folder / "state")
    made = run("ingest", "map", path, "--scales", "40", "--model", "efficientnet_lite0", "--quiet", *place)
    assert made.code == 0, made.err
    engine = Engine(Settings(uri=str(folder / "outcrop.db"), state=folder / "state"))
    yield TestClient(application(engine), base_url=HERE, follow_redirects=False)
    engine.close()


def map_on(page: str) -> dict[str, Any]:
    found = re.search(r"data-map='([^']+)'", page)
    assert found is not None
    return json.loads(unescape(found[1]))  # type: ignore[no-any-return]


def test_the_map_that_the_tiles_were_cut_from_is_the_background(client: TestClient) -> None:
    page = client.get("/items").text
    said = map_on(page)
    bounds, zoom = said["background"]["bounds"], said["background"]["zoom"]
    column, row, *_ = tile_of((bounds[0][0] + bounds[1][0]) / 2, (bounds[0][1] + bounds[1][1]) / 2, zoom)
    tile = client.get(f"/tiles/{zoom}/{column}/{row}.webp")
    assert tile.status_code == 200 and tile.headers["content-type"] == "image/webp"
    for path in (
        "/tiles/3/1/1.webp",
        "/tiles/99/0/0.webp",
        "/tiles/-1/0/0.webp",
        "/tiles/1/..%2f/0.webp",
        "/tiles/a/b/c.webp",
    ):
        assert client.get(path).status_code == 404, path
    outlines = re.findall(r'data-outline="([^"]+)"', page)
    places = re.findall(r'data-place="([^"]+)"', page)
    assert len(outlines) == len(places) > 10 and all(len(outline.split(" ")) == 4 for outline in outlines)


def test_the_ground_asked_for_is_drawn_and_kept(client: TestClient) -> None:
    south, west, north, east = map_on(client.get("/").text)["extent"]
    middle = f"{(south + north) / 2},{(west + east) / 2},15"
    page = client.get("/items", params={"near": middle}).text
    assert 0 < page.count("data-place") < client.get("/items").text.count("data-place")
    assert map_on(page)["ground"]["near"][2] == 15
    half = f"{west},{south},{east},{(south + north) / 2}"
    said = client.get("/items", params={"area": half, "limit": 200}, headers={"accept": "application/json"}).json()
    assert said["items"] and all(item["latitude"] <= (south + north) / 2 for item in said["items"])
    key = said["items"][0]["key"]
    hits = client.get("/api/search", params={"item": key, "area": half, "k": 200}).json()["queries"][0]["hits"]
    assert {hit["key"] for hit in hits} == {item["key"] for item in said["items"]} - {key}
    corners = [[west, south], [east, south], [east, (south + north) / 2], [west, (south + north) / 2], [west, south]]
    outline = json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}})
    within = client.get("/api/search", params={"item": key, "within": outline, "k": 200}).json()["queries"][0]["hits"]
    assert within == hits
    for wrong in ("{", '{"type": "Point", "coordinates": [1, 2]}', '{"type": "Polygon", "coordinates": [[[1, 2]]]}'):
        refused = client.get("/api/search", params={"item": key, "within": wrong})
        assert refused.status_code == 400 and refused.json()["error"].startswith("within")
    shown = client.get("/", params={"item": key}).text
    assert map_on(shown)["query"]["place"] and 'data-rank="1"' in shown
