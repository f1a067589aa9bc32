"""Maps as references: what is read of them, into which tiles they are cut, and that a collection keeps up with them."""

from __future__ import annotations

import shutil
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

from outcrop.embed.georeference import Georeference
from outcrop.embed.map_pyramids import ArchiveTiles, FolderTiles, Pyramid
from outcrop.embed.map_rasters import Raster
from outcrop.embed.maps import Map, MapWindow, open_map, to_map, window_picture
from outcrop.embed.terrain import open_terrain
from outcrop.ingest.map_grid import tiles_of
from outcrop.schema.errors import InputError
from outcrop.schema.item import Kind, item_of_key, made_together, parent_of, tile_key
from outcrop.schema.plane import Plane

MODEL = ("--model", "efficientnet_lite0", "--quiet")
CORNER = (451_000.0, 5_411_000.0)
"""Upper left corner in UTM 32 N."""


def write_map(path: Path, pixels: NDArray[Any], transform: Affine | None = None, **more: Any) -> Path:
    """A GeoTIFF [H, W, B] of half a metre a pixel in UTM 32 N."""
    values = np.moveaxis(pixels, -1, 0)
    profile = {
        "driver": "GTiff", "width": pixels.shape[1], "height": pixels.shape[0], "count": len(values),
        "dtype": pixels.dtype, "crs": "EPSG:32632",
        "transform": transform or Affine(0.5, 0, CORNER[0], 0, -0.5, CORNER[1]), **more,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    return path


def ground(width: int = 480, height: int = 320, seed: int = 1) -> NDArray[np.uint8]:
    """A picture of something."""
    return np.array(picture(seed).resize((width, height)), dtype=np.uint8)


def kept(what: str = "tile") -> dict[str, dict[str, Any]]:
    """The rows of a kind, by key."""
    from outcrop.schema.filters import equals
    from outcrop.schema.settings import Settings
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    with Store.of(Settings()) as store:
        collection = Collection.open(store, "outcrop")
        ids = [item.id for items, _ in collection.scan(equals("kind", what)) for item in items]
        return {item.key: item.row() for item, _ in collection.items(ids).values()}


def ingest(*arguments: object) -> Any:
    outcome = run("ingest", "map", *arguments, *MODEL, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def test_keys() -> None:
    key = tile_key("north field/2", "120m", 3, 11)
    assert key == "tile/north field%2F2/120m/0003/0011"
    item = item_of_key(key)
    assert (item.kind, item.dataset, item.capture_id) == (Kind.TILE, "north field/2", "120m")
    assert parent_of(key) == key and made_together(key) == "tile/north field%2F2"


@pytest.mark.parametrize("system", ["EPSG:32632", "EPSG:3857", "EPSG:4326"])
def test_places_of_pixels_and_back(system: str) -> None:
    import pyproj

    x, y = pyproj.Transformer.from_crs("EPSG:4326", system, always_xy=True).transform(8.4, 48.9)
    step = 1e-5 if system == "EPSG:4326" else 0.5
    place = Georeference((step, 0.1 * step, x, 0.1 * step, -step, y), system)
    points = np.array([[0.0, 0.0], [100.0, 0.0], [30.0, 70.0]])
    places = place.degrees(points)
    assert places[0] == pytest.approx([48.9, 8.4], abs=1e-9)
    assert place.pixels(places, 200, 200) == pytest.approx(points, abs=1e-4)
    across, _ = place.metres_per_pixel(200, 200)
    plane = Plane((48.9, 8.4))
    assert across == pytest.approx(abs(plane.metres(tuple(places[1]))) / 100, rel=1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("system", "left", "step"),
    [("EPSG:4326", 179.998, 1e-5), ("EPSG:4326", 190.0, 1e-5), ("EPSG:3857", 20_037_308.34, 1.0)],
)
def test_longitudes_go_round(tmp_path: Path, system: str, left: float, step: float) -> None:
    """A map across the 180th meridian, and one from 0 to 360 degrees."""
    upper = -17.0 if system == "EPSG:4326" else -1_900_000.0
    path = write_map(tmp_path / "a.tif", ground(), Affine(step, 0, left, 0, -step, upper), crs=system)
    place = Raster(path).place
    assert place.transform[5] == upper, "not a mirror image"
    points = np.array([[0.5, 0.5], [239.7, 100.0], [479.0, 319.0]])
    places = place.degrees(points)
    degrees = left / 20_037_508.342789244 * 180 if system == "EPSG:3857" else left
    by_hand = degrees + points[:, 0] * (step / 20_037_508.342789244 * 180 if system == "EPSG:3857" else step)
    assert places[:, 1] == pytest.approx((by_hand + 180) % 360 - 180, abs=1e-8)
    assert place.pixels(places, 480, 320) == pytest.approx(points, abs=1e-3)
    with pytest.raises(InputError, match="at a pole"):
        Georeference((1.0, 0, 0, 0, -1.0, 0), "EPSG:3031").metres_per_pixel(2, 2)


@pytest.mark.parametrize("system", ["EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize(("across", "down"), [(1, -1), (-1, 1)], ids=["north up", "turned by 180 degrees"])
def test_places_beside_a_map_are_beside_it(system: str, across: int, down: int) -> None:
    """A tile of the map in the browser reaches over its edges."""
    step, x, y = (1e-5, 8.4, 48.9) if system == "EPSG:4326" else (1.0, 935_000.0, 6_260_000.0)
    place = Georeference((across * step, 0, x, 0, down * step, y), system)
    points = np.array([[-300.0, 10.0], [-5.0, 10.0], [0.0, 0.0], [399.0, 50.0], [700.0, 10.0]])
    assert place.pixels(place.degrees(points), 400, 300) == pytest.approx(points, abs=1e-3)


@pytest.mark.parametrize("left", [-180.0, 0.0])
def test_a_map_of_the_whole_globe_has_two_edges(left: float) -> None:
    place = Georeference((0.5, 0, left, 0, -0.5, 90.0), "EPSG:4326")
    points = np.array([[0.5, 180.0], [359.0, 180.0], [361.0, 180.0], [719.5, 180.0]])
    assert place.pixels(place.degrees(points), 720, 360) == pytest.approx(points, abs=1e-6)
    edge = Georeference((0.5, 0, -180.0 + 1e-9, 0, -0.5, 90.0), "EPSG:4326")
    assert edge.pixels(np.array([[0.0, -180.0], [0.0, 180.0]]), 720, 360)[:, 0] == pytest.approx([0, 720], abs=1e-6)


def test_windows_of_a_raster(tmp_path: Path) -> None:
    pixels = ground()
    found = Raster(write_map(tmp_path / "a.tif", pixels))
    shown, mask = found.read(MapWindow(40, 60, 100, 80), (100, 80))
    assert np.array_equal(shown, pixels[60:140, 40:140]) and mask.all()
    small, _ = found.read(MapWindow(40, 60, 100, 80), (25, 20))
    assert np.abs(small - pixels[60:140, 40:140].reshape(20, 4, 25, 4, 3).mean((1, 3))).max() <= 1
    made = window_picture(found, MapWindow(0, 0, 400, 300), (400, 300), (30, 40))
    assert made.size == (80, 60) and (made.width, made.height) == (400, 300)
    a, _, c, _, e, f = to_map(MapWindow(10, 20, 200, 100), (100, 100))
    assert (a * 0 + c, e * 99 + f) == (11.0, 119.5)
    found.close()


def test_other_bands_are_shown_alike_in_every_window(tmp_path: Path) -> None:
    grey = ground()[..., :1].astype(np.uint16) * 37 + 500
    found = Raster(write_map(tmp_path / "wide.tif", grey))
    left, _ = found.read(MapWindow(0, 0, 120, 80), (120, 80))
    whole, _ = found.read(MapWindow(0, 0, 480, 320), (480, 320))
    assert np.array_equal(left, whole[:80, :120]) and np.ptp(whole) > 240 and (whole[..., 0] == whole[..., 2]).all()
    index = np.arange(4, dtype=np.uint8).repeat(1200).reshape(60, 80, 1)
    with rasterio.open(write_map(tmp_path / "palette.tif", index, photometric="palette"), "r+") as file:
        file.write_colormap(1, {n: (n * 60, 10, 255 - n, 255) for n in range(4)})
    colours, _ = Raster(tmp_path / "palette.tif").read(MapWindow(0, 0, 80, 60), (80, 60))
    assert colours[0, 0].tolist() == [0, 10, 255] and colours[-1, -1].tolist() == [180, 10, 252]


def test_a_map_whose_rows_go_from_the_south_is_no_mirror_image(tmp_path: Path) -> None:
    pixels = ground()
    usual = Raster(write_map(tmp_path / "usual.tif", pixels))
    southern = Affine(0.5, 0, CORNER[0], 0, 0.5, CORNER[1] - 160)
    other = Raster(write_map(tmp_path / "other.tif", pixels[::-1], southern))
    window = MapWindow(40, 30, 200, 100)
    for found in (usual, other):
        shown, _ = found.read(window, (200, 100))
        assert np.array_equal(shown, pixels[30:130, 40:240])
    assert other.place.transform == pytest.approx(usual.place.transform)
    turned = Affine(-0.5, 0, CORNER[0] + 240, 0, 0.5, CORNER[1] - 160)  # no mirror image, but upside down
    half = Raster(write_map(tmp_path / "half.tif", pixels[::-1, ::-1], turned))
    assert np.array_equal(half.read(window, (200, 100))[0], pixels[::-1, ::-1][30:130, 40:240])
    pixels[300:] = 0
    void = Raster(write_map(tmp_path / "void.tif", pixels[::-1], southern, nodata=0))
    assert void.coverage((4, 32))[:-2].all() and not void.coverage((4, 32))[-2:].any()
    heights = open_terrain(write_map(tmp_path / "dem.tif", np.mgrid[:40, :60][0][..., None] + 7.0, southern))
    place = Georeference(southern[:6], "EPSG:32632")
    assert heights.heights(place.degrees(np.array([[10.5, 12.5]]))) == pytest.approx([19.0], abs=1e-3)


def test_black_and_white_are_what_the_file_says(tmp_path: Path) -> None:
    grey = ground()[..., :1]
    window, size = MapWindow(0, 0, 480, 320), (480, 320)
    for name, stored, more in (
        ("white", 255 - grey, {"photometric": "MINISWHITE"}),
        ("bits", grey >> 4, {"nbits": 4}),
    ):
        shown, _ = Raster(write_map(tmp_path / f"{name}.tif", stored, **more)).read(window, size)
        assert np.abs(shown[..., :1].astype(int) - grey).max() <= (0 if name == "white" else 15), name
    index = np.arange(4, dtype=np.uint16).repeat(1200).reshape(60, 80, 1) + 1000
    with rasterio.open(write_map(tmp_path / "palette.tif", index, photometric="palette"), "r+") as file:
        file.write_colormap(1, {1000 + n: (n * 60, 10, 255 - n, 255) for n in range(4)})
    colours, _ = Raster(tmp_path / "palette.tif").read(MapWindow(0, 0, 80, 60), (80, 60))
    assert colours[0, 0].tolist() == [0, 10, 255] and colours[-1, -1].tolist() == [180, 10, 252]


@pytest.mark.filterwarnings("error")
def test_nothing_is_nothing_however_it_is_said(tmp_path: Path) -> None:
    """NaN that nothing declares; an alpha band beside a value for nothing, which GDAL lets win."""
    values = ground().astype(np.float32) / 255
    values[:, 300:] = np.nan
    opaque = np.full((320, 480, 1), 255, np.uint8)
    opaque[:, 300:] = 0
    pixels = np.maximum(ground(), 1)
    pixels[:60] = 0
    both = write_map(
        tmp_path / "both.tif", np.concatenate([pixels, opaque], -1), nodata=0, photometric="RGB", alpha="YES"
    )
    for path, top in ((write_map(tmp_path / "nan.tif", values), 0), (both, 60)):
        found = Raster(path)
        shown, mask = found.read(MapWindow(0, 0, 480, 320), (480, 320))
        assert mask[top:, :300].all() and not mask[:, 300:].any() and not mask[:top].any(), path
        assert (shown[:, 300:] == 255).all()
        coverage = found.coverage((48, 32))
        assert coverage[top // 10 :, :30].all() and not coverage[:, 30:].any() and not coverage[: top // 10].any(), path


def test_tiles_cover_the_map_and_leave_out_what_shows_nothing(tmp_path: Path) -> None:
    pixels = ground()
    pixels[pixels == 0] = 1
    pixels[:, 300:] = 0
    found = Raster(write_map(tmp_path / "half.tif", pixels, nodata=0))  # 240 m x 160 m, 150 m of it shown
    tiles = tiles_of(found, (40.0, 100.0))
    seen = np.zeros((320, 480), int)
    for tile in tiles:
        window = tile.window
        assert window.left >= 0 and window.left + window.width <= 480 and window.top + window.height <= 320
        assert tile.sides == (window.width, window.height) and tile.metres == pytest.approx(0.5, rel=1e-3)
        if tile.scale == "40m":
            seen[window.top : window.top + window.height, window.left : window.left + window.width] += 1
    assert seen[:, :300].min() >= 1 and seen[40:-40, 40:200].min() >= 4 and seen[:, 380:].max() == 0
    lefts = sorted({tile.window.left for tile in tiles if tile.scale == "40m"})
    assert max(np.diff(lefts)) <= 41 and max(tile.window.left for tile in tiles if tile.scale == "100m") <= 200
    shown, mask = found.read(MapWindow(250, 0, 100, 100), (100, 100))
    assert mask[:, :50].all() and not mask[:, 50:].any() and (shown[:, 50:] == 255).all()
    assert len(tiles_of(found, (900.0, 1000.0))) == 1  # both are the whole map


def cut_pyramid(folder: Path, pixels: NDArray[np.uint8], zoom: int, x: int, y: int) -> None:
    """XYZ tiles of 64 pixels; the coarser zoom, too."""
    for level, image in ((zoom, pixels), (zoom - 1, pixels.reshape(len(pixels) // 2, 2, -1, 2, 3).mean((1, 3)))):
        for row in range(len(image) // 64):
            for column in range(image.shape[1] // 64):
                part = image[64 * row : 64 * row + 64, 64 * column : 64 * column + 64].astype(np.uint8)
                down = zoom - level
                path = folder / f"{level}/{(x >> down) + column}/{(y >> down) + row}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(part).save(path)


def same_pyramid(found: Map, pixels: NDArray[np.uint8]) -> None:
    assert (found.width, found.height) == (256, 256)
    shown, mask = found.read(MapWindow(30, 50, 100, 120), (100, 120))
    assert np.array_equal(shown, pixels[50:170, 30:130]) and mask.all()
    small, _ = found.read(MapWindow(0, 64, 128, 128), (64, 64))
    assert np.abs(small - pixels[64:192, :128].reshape(64, 2, 64, 2, 3).mean((1, 3))).max() <= 1
    across, down = found.place.metres_per_pixel(256, 256)
    assert across == pytest.approx(down, rel=0.01)


def test_a_folder_of_tiles_and_an_archive_are_the_same_map(tmp_path: Path) -> None:
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import write

    pixels = ground(256, 256)
    cut_pyramid(tmp_path / "xyz", pixels, 19, 2 * 137_500, 2 * 88_000)
    found = open_map(tmp_path / "xyz")
    assert isinstance(found, Pyramid)
    same_pyramid(found, pixels)
    before = found.files
    files = sorted((tmp_path / "xyz").glob("*/*/*.png"), key=lambda file: zxy_to_tileid(*address(file)))
    with write(tmp_path / "map.pmtiles") as writer:
        for file in files:
            writer.write_tile(zxy_to_tileid(*address(file)), file.read_bytes())
        writer.finalize(
            {"tile_type": TileType.PNG, "tile_compression": Compression.NONE, "min_zoom": 18, "max_zoom": 19,
             "min_lon_e7": 0, "min_lat_e7": 0, "max_lon_e7": 1, "max_lat_e7": 1, "center_zoom": 0,
             "center_lon_e7": 0, "center_lat_e7": 0}, {},
        )  # fmt: skip
    same_pyramid(Pyramid(ArchiveTiles(tmp_path / "map.pmtiles")), pixels)
    described = tmp_path / "tms/tilemapresource.xml"
    for file in files:
        zoom, column, row = address(file)
        southern = tmp_path / f"tms/{zoom}/{column}/{2**zoom - 1 - row}.png"
        southern.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, southern)
    described.write_text('<TileMap>\n <TileSets profile="mercator">')
    other = open_map(tmp_path / "tms")
    same_pyramid(other, pixels)
    assert other.place == found.place
    described.rename(described.with_name("aside"))
    (tmp_path / "tms/metadata.json").write_text('{"name": "x", "scheme": "tms"}')
    assert open_map(tmp_path / "tms").place == found.place
    described.write_text('<TileMap>\n <TileSets profile="raster">')
    with pytest.raises(InputError, match="--xyz"):
        open_map(tmp_path / "tms")
    assert not found.remarks
    files[-1].unlink()
    lacking = Pyramid(FolderTiles(tmp_path / "xyz"))
    assert lacking.files != before and not lacking.coverage((4, 4)).all() and not lacking.remarks
    for file in (tmp_path / "xyz/19").rglob("*.png"):
        if address(file)[1] >= 275_002:
            file.unlink()
    (said,) = Pyramid(FolderTiles(tmp_path / "xyz")).remarks
    assert "zoom 19 shows; 2 of the 4 pictures of zoom 18 show other ground" in said


def test_tiles_of_transparent_pictures_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map cut slantwise: every picture is there, and half of the ground is not."""
    pixels = np.dstack([ground(256, 256), np.where(np.add(*np.mgrid[:256, :256]) < 256, 255, 0)]).astype(np.uint8)
    for column in range(4):
        for row in range(4):
            path = tmp_path / f"xyz/19/{275_000 + column}/{176_000 + row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]).save(path)
    found = open_map(tmp_path / "xyz")
    size = found.place.metres_per_pixel(256, 256)[0] * 64
    tiles = tiles_of(found, (size,))
    shown = [pixels[t.window.top :, t.window.left :][:64, :64, 3].mean() / 255 for t in tiles]
    assert 21 <= len(tiles) <= 28 and min(shown) > 0.4, "of 49, those in the upper left; 7 are shown by half"
    monkeypatch.setattr("outcrop.embed.map_pyramids.MOST_LOOKED_AT", 1000)
    assert len(tiles_of(found, (size,))) == 49  # too large to be looked at: by its pictures


def address(file: Path) -> tuple[int, int, int]:
    zoom, column, row = (*file.parts[-3:-1], file.stem)
    return int(zoom), int(column), int(row)


def test_heights_between_the_pixels_of_a_terrain_model(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :60]
    heights = (100 + 2.0 * x - 3.0 * y).astype(np.float32)[..., None]
    heights[30:, :] = -9999
    model = open_terrain(write_map(tmp_path / "dem.tif", heights, nodata=-9999))
    place = Georeference((0.5, 0, CORNER[0], 0, -0.5, CORNER[1]), "EPSG:32632")
    points = np.array([[10.5, 20.5], [11.25, 20.5], [0.1, 0.1], [30, 35], [-5, 3], [61, 3]])
    found = model.heights(place.degrees(points))
    assert found[:3] == pytest.approx([60.0, 61.5, 100.0], abs=1e-3) and np.isnan(found[3:]).all()


def test_heights_have_units_and_scales(tmp_path: Path) -> None:
    values = np.full((8, 8, 1), 1000, np.int16)
    values[:, 5:] = -9999  # which nothing declares
    place = Georeference((0.5, 0, CORNER[0], 0, -0.5, CORNER[1]), "EPSG:32632")
    places = place.degrees(np.array([[2.5, 2.5], [6.5, 2.5], [5.0, 2.5]]))
    for scale, offset, unit, metres in (
        (1.0, 0.0, None, 1000.0), (0.1, -20.0, "m", 80.0), (1.0, 0.0, "ft", 304.8), (1.0, 0.0, "US survey foot", 304.8006),
    ):  # fmt: skip
        path = write_map(tmp_path / "dem.tif", values)
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = (scale,), (offset,)
            if unit:
                file.units = (unit,)
        found = open_terrain(path).heights(places)
        assert found[0] == pytest.approx(metres, abs=1e-3), unit
        assert np.isnan(found[1:]).all()
    with rasterio.open(path, "r+") as file:
        file.units = ("fathom",)
    with pytest.raises(InputError, match="'fathom' are not read; convert them to metres"):
        open_terrain(path)


def test_what_is_refused_says_what_to_do(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "nowhere.tif")
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.pmtiles").write_bytes(b"nothing" * 40)
    (tmp_path / "x.tif").write_text("text")
    for name, said in (
        ("nowhere.tif", "gdal_translate"), ("empty", "no XYZ tiles"), ("x.pmtiles", "not a PMTiles archive"),
        ("x.mbtiles", "pmtiles convert"), ("gone.tif", "no map at"), ("x.tif", "not a map that GDAL reads"),
    ):  # fmt: skip
        assert said in run("ingest", "map", tmp_path / name, *MODEL).error(3)
    write_map(tmp_path / "void.tif", np.zeros((60, 60, 3), np.uint8), nodata=0)
    assert "shows nothing" in run("ingest", "map", tmp_path / "void.tif", *MODEL).error(3)
    assert "lengths in metres" in run("ingest", "map", tmp_path / "void.tif", "--scales", "-3", *MODEL).error(3)
    write_map(tmp_path / "off.tif", ground(), Affine(0.5, 0, 1e12, 0, -0.5, 5e12))
    assert "which is nowhere" in run("ingest", "map", tmp_path / "off.tif", *MODEL).error(3)
    assert not Path("outcrop.db").exists()


def test_a_collection_keeps_up_with_a_map(tmp_path: Path) -> None:
    path = write_map(tmp_path / "field.tif", ground())
    assert ingest(path, "--scales", "80,160")["embedded"] == 5 * 3 + 2
    rows = kept()
    row = rows["tile/field/80m/0001/0002"]
    assert row["window"] == [160, 80, 160, 160] and row["crs"] == "EPSG:32632" and row["source"] == "field.tif"
    with rasterio.open(path) as file:
        middle = file.xy(159.5, 239.5)
    assert Georeference((1, 0, 0, 0, 1, 0), "EPSG:32632").degrees(np.array([middle]))[0] == pytest.approx(
        [row["latitude"], row["longitude"]], abs=1e-8
    )
    assert np.mean(row["footprint"], axis=0) == pytest.approx([row["latitude"], row["longitude"]], abs=1e-7)
    assert ingest(path)["unchanged"] == 17  # at the scales that it had
    assert (
        run("query", "item", "tile/field/80m/0001/0002", "-k", 1, "--json").json["queries"][0]["hits"][0]["score"]
        > 0.99
    )
    assert run("collection", "audit", "--json").json["rows"][0]["good"] == 17
    replaced = ingest(path, "--scales", "80")
    assert (replaced["unchanged"], replaced["removed"]) == (15, 2)
    write_map(path, ground(seed=2))
    audit = run("collection", "audit", "--json")
    assert audit.code == 4 and audit.json["rows"][0]["changed"] == 15, audit.err
    assert run("collection", "audit", "--fix", "--yes").code == 0
    assert ingest(path)["unchanged"] == 15
    other = write_map(tmp_path / "other.tif", ground())
    assert "another --name" in run("ingest", "map", other, "--name", "field", *MODEL).error(3)
    path.unlink()
    assert run("collection", "prune", "--yes").code == 0 and not kept()


def test_tiles_of_a_folder_are_made_anew_where_its_pictures_are(tmp_path: Path) -> None:
    cut_pyramid(tmp_path / "xyz", ground(256, 256), 19, 2 * 137_500, 2 * 88_000)
    first = ingest(tmp_path / "xyz", "--scales", "20")
    assert first["embedded"] > 4 and ingest(tmp_path / "xyz")["unchanged"] == first["embedded"]
    shutil.copy(tmp_path / "xyz/19/275000/176000.png", tmp_path / "xyz/19/275001/176001.png")
    assert ingest(tmp_path / "xyz")["embedded"] == first["embedded"]


def test_scales_follow_the_photographs(tmp_path: Path) -> None:
    for height in (50, 100):
        for number in range(3):
            (tmp_path / f"photos/flight_{height}m").mkdir(parents=True, exist_ok=True)
            picture(number + height).save(tmp_path / f"photos/flight_{height}m/{number}.jpg")
    assert run("ingest", "images", tmp_path / "photos", *MODEL).code == 0
    ingest(write_map(tmp_path / "field.tif", ground()))
    assert {key.split("/")[2] for key in kept()} == {"50m", "100m"}  # two thirds of 75 and 150 m
