"""Positions from files: geo.txt and tables, coordinate systems, GeoTIFFs; which source won is stored."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from commands import run
from pictures import picture, write_dataset

from outcrop.embed.images import decode, inspect
from outcrop.embed.reader_versions import version_of
from outcrop.schema.errors import InputError
from outcrop.schema.filters import where
from outcrop.schema.positions import matched, read_positions
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

MODEL = ("--model", "efficientnet_lite0", "--quiet", "--json")
SOURCES = ("a/DJI_0001.JPG", "a/DJI_0002.JPG", "b/DJI_0001.JPG", "b/x y.jpg")


def said(text: str, name: str = "geo.txt") -> dict[str, tuple[float, float, float | None]]:
    Path(name).write_text(text, encoding="utf-8")
    rows = read_positions(Path(name)).rows
    assert {each.source for each in rows.values()} <= {f"file:{name}"}
    return {key: (each.latitude, each.longitude, each.elevation) for key, each in rows.items()}


def test_geo_txt_in_degrees() -> None:
    text = "EPSG:4326\n# a note\nDJI_0001.JPG 8.55 47.37 412.5 1 2 3\nDJI_0002.JPG\t8.56\t47.38\n\nnofix.jpg 0 0 0\n"
    assert said(text) == {"DJI_0001.JPG": (47.37, 8.55, 412.5), "DJI_0002.JPG": (47.38, 8.56, None)}
    assert said("+proj=longlat +datum=WGS84 +no_defs\na.jpg -8.55 -47.37") == {"a.jpg": (-47.37, -8.55, None)}


@pytest.mark.parametrize("system", ["EPSG:32632", "WGS84 UTM 32N", "+proj=utm +zone=32 +datum=WGS84 +units=m +no_defs"])
def test_other_systems_through_pyproj(system: str) -> None:
    """The middle of a zone is 500,000 m on the equator; a place in Zurich is known to some 100 m."""
    assert said(f"{system}\na.jpg 500000 0\n")["a.jpg"][:2] == (pytest.approx(0, abs=1e-9), pytest.approx(9, abs=1e-9))
    latitude, longitude, height = said(f"{system}\na.jpg 465000 5247000 400\n")["a.jpg"]
    assert (latitude, longitude, height) == (pytest.approx(47.3757, abs=2e-3), pytest.approx(8.5364, abs=2e-3), 400)


def test_other_systems_without_pyproj_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyproj", None)
    with pytest.raises(InputError, match=r"'EPSG:32632' need pyproj: install outcrop\[positions\]"):
        said("EPSG:32632\na.jpg 465000 5247000\n")
    assert said("EPSG:4326\na.jpg 8 47\n")


@pytest.mark.parametrize(
    "text",
    [
        "name,lat,lon,alt\na.jpg,47.5,8.5,400\n",
        "﻿#Image_Name;Longitude [deg];Latitude [deg];Ellipsoidal height [m]\na.jpg;8,5;47,5;400,0\n",
        "x\tfilename\tlongitude\tlatitude\tz\n1\ta.jpg\t8.5\t47.5\t400\n",
    ],
)
def test_tables(text: str) -> None:
    assert said(text, "ppk.csv") == {"a.jpg": (47.5, 8.5, 400.0)}


def test_a_row_without_a_fix_says_nothing() -> None:
    assert said("name,lat,lon\na.jpg,,\nb.jpg,1,2\n", "t.csv") == {"b.jpg": (1.0, 2.0, None)}


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("EPSG:4326\na.jpg 8.5\n", "line 2: a row has a file name, x and y"),
        ("EPSG:4326\n\na.jpg 8.5 north\n", "line 3: y 'north' is not a number"),
        ("EPSG:4326\na.jpg 465000 5247000\n", "line 2: latitude 5.247e\\+06 and longitude 465000 are not degrees"),
        ("EPSG:4326\na.jpg nan 1\n", "line 2: x 'nan' is not a number"),
        ("EPSG:4326\na.jpg 8 47\na.jpg 8 48\n", "line 3: 'a.jpg' has two positions"),
        ("EPSG:99999999\n", "no column 'name'"),
        ("EPSG:999999\na.jpg 1 2\n", "not a coordinate system that pyproj knows"),
        ("name,lat\na,1\n", "no column 'longitude'"),
        ("name,lat,lon\na.jpg,1,x\n", "line 2: longitude 'x' is not a number"),
        ("name,lat,lon\n,1,2\n", "line 2: the row names no file"),
        ("EPSG:4326\n", "hold no row"),
        ("", "hold no row"),
        ("hello\n", "no column"),
    ],
)
def test_what_is_wrong_is_named(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        said(text)


def test_files_that_cannot_be_read() -> None:
    with pytest.raises(InputError, match="correct --positions"):
        read_positions(Path("none.txt"))
    Path("b.txt").write_bytes(b"EPSG:4326\n\xff\xfe 1 2")
    with pytest.raises(InputError, match="not UTF-8"):
        read_positions(Path("b.txt"))


def test_rows_and_photographs_meet_by_path_name_or_stem() -> None:
    text = "name,lat,lon\na\\DJI_0001.JPG,1,1\ndji_0002,2,2\nX Y.jpg,3,3\nDJI_0001.JPG,4,4\nother.jpg,5,5\n"
    Path("t.csv").write_text(text)
    found = matched(read_positions(Path("t.csv")), SOURCES)
    assert {source: each.latitude for source, each in found.by_source.items()} == {
        SOURCES[0]: 1,
        SOURCES[1]: 2,
        SOURCES[3]: 3,
    }
    assert found.remarks == (
        "t.csv: 1 rows name no photograph of the dataset (other.jpg)",
        "t.csv: 1 rows name several photographs and are left out; write their paths (DJI_0001.JPG)",
        "t.csv: 1 photographs have no row and keep their own position (b/DJI_0001.JPG)",
    )


def rows(dataset: str) -> dict[str, Any]:
    with Store.connect("outcrop.db") as store:
        fields = ["id", "source", "kind", "latitude", "longitude", "position_source", "elevation"]
        pages = Collection.open(store, "outcrop").scan_rows(where(f"dataset={dataset}"), fields)
        return {
            f"{row['kind']}/{row['source']}": (row["latitude"], row["longitude"], row.get("position_source"))
            for page in pages
            for row in page
        }


def test_positions_are_stored_with_their_source_and_followed() -> None:
    Path("p").mkdir()
    for number in (1, 2):
        picture(number).save(f"p/{number:04d}.jpg")
    Path("geo.txt").write_text("EPSG:4326\n0001.jpg 8.5 47.5 400\n")
    first = run("ingest", "images", "p", "--positions", "geo.txt", *MODEL)
    assert first.code == 0 and "1 photographs have no row" in first.err and "0002.jpg" in first.err
    assert rows("p") == {"image/0001.jpg": (47.5, 8.5, "file:geo.txt"), "image/0002.jpg": (999.0, 999.0, None)}
    assert run("ingest", "references", "p", "--angles", "0", *MODEL).code == 0
    assert rows("p")["reference/0001.jpg"] == (47.5, 8.5, "file:geo.txt")
    assert run("collection", "audit", "--json").json["findings"] == []
    Path("geo.txt").write_text("EPSG:4326\n0001.jpg 8.5 47.25 400\n")
    wrong = run("collection", "audit", "--json").json["findings"]
    assert [each["trouble"] for each in wrong] == ["changed", "changed"] and "positions" in wrong[0]["reason"]
    assert run("ingest", "images", "p", *MODEL).json["embedded"] == 1, "the collection remembers the file"
    assert rows("p")["image/0001.jpg"][0] == 47.25
    Path("geo.txt").unlink()
    assert "no file of positions" in run("collection", "audit").error(3)
    assert run("ingest", "images", "p", *MODEL).json["unchanged"] == 2
    assert run("collection", "audit", "--json").json["findings"] == []


def test_a_registry_and_a_manifest_name_positions() -> None:
    registry = write_dataset(Path(), {"a_100": 2}, name="town", root="town")
    known = json.loads(registry.read_text())
    known["datasets"]["town"]["positions"] = "geo.txt"
    registry.write_text(json.dumps(known))
    Path("town/geo.txt").write_text("EPSG:4326\na_100_0001.jpg 8.5 47.5\na_100_0002.jpg 8.5 47.6\n")
    assert run("ingest", "dataset", "town", *MODEL).code == 0
    assert {each[0] for each in rows("town").values()} == {47.5, 47.6}
    Path("ppk.csv").write_text("name,lat,lon\na_100_0001,1,2\na_100_0002,3,4\n")
    Path("m.json").write_text(
        json.dumps({"datasets": {"town": {"positions": "ppk.csv"}}, "model": "efficientnet_lite0"})
    )
    made = run("ingest", "manifest", "m.json", "--quiet", "--json")
    assert made.code == 0 and made.json["embedded"] == 2, made.err
    assert set(rows("town").values()) == {(1.0, 2.0, "file:ppk.csv"), (3.0, 4.0, "file:ppk.csv")}


# -- GeoTIFFs ------------------------------------------------------------------------------------------------------


def geotiff(keys: dict[int, int], tie: tuple[float, ...] = (), matrix: tuple[float, ...] = ()) -> bytes:
    """A picture of 80 x 60 pixels with geo keys; a pixel is 0.001 across and 0.002 down."""
    directory = [1, 1, 0, len(keys), *(part for key, value in keys.items() for part in (key, 0, 1, value))]
    tags: list[tuple[int, str, int, Any, bool]] = [(34735, "H", len(directory), directory, True)]
    if tie:
        tags += [(33550, "d", 3, (0.001, 0.002, 0.0), True), (33922, "d", 6, tie, True)]
    if matrix:
        tags += [(34264, "d", 16, matrix, True)]
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    tifffile.imwrite(file, pixels, photometric="rgb", metadata=None, extratags=tags)
    return file.getvalue()


def place(data: bytes) -> tuple[float | None, float | None, str | None]:
    found = inspect(data, name="x.tif")[2]
    assert decode(data, name="x.tif").metadata == found
    return found.latitude, found.longitude, found.position_source


TIE = (0.0, 0.0, 0.0, 8.5, 47.5, 0.0)


def test_the_middle_of_a_geotiff_in_degrees() -> None:
    data = geotiff({1024: 2, 1025: 1, 2048: 4326}, TIE)
    assert place(data) == (pytest.approx(47.5 - 30 * 0.002), pytest.approx(8.5 + 40 * 0.001), "geotiff")
    assert version_of(io.BytesIO(data)) == "geotiff1"
    point = place(geotiff({1024: 2, 1025: 2, 2048: 4326}, TIE))
    assert point[:2] == (pytest.approx(47.5 - 29.5 * 0.002), pytest.approx(8.5 + 39.5 * 0.001))


def test_a_geotiff_with_a_matrix() -> None:
    matrix = (0.0, 0.001, 0.0, 8.5, 0.002, 0.0, 0.0, 47.5, *[0.0] * 7, 1.0)
    found = place(geotiff({1024: 2, 1025: 1, 2048: 4326}, matrix=matrix))
    assert found[:2] == (pytest.approx(47.5 + 40 * 0.002), pytest.approx(8.5 + 30 * 0.001))


def test_a_geotiff_whose_rows_go_from_the_south_is_remarked_on() -> None:
    rest = (*[0.0] * 7, 1.0)
    for down, said in ((0.002, ["its rows go from the south"]), (-0.002, [])):
        found = decode(
            geotiff({1024: 2, 1025: 1, 2048: 4326}, matrix=(0.001, 0.0, 0.0, 8.5, 0.0, down, 0.0, 47.5, *rest)),
            name="x",
        )
        assert found.metadata.latitude == pytest.approx(47.5 + 30 * down)
        assert [each[: len("its rows go from the south")] for each in found.remarks] == said


def test_a_projected_geotiff_needs_pyproj(monkeypatch: pytest.MonkeyPatch) -> None:
    data = geotiff({1024: 1, 1025: 1, 3072: 32632}, (0.0, 0.0, 0.0, 465000.0, 5247000.0, 0.0))
    assert place(data) == (pytest.approx(47.3757, abs=2e-3), pytest.approx(8.5364, abs=2e-3), "geotiff")
    monkeypatch.setitem(sys.modules, "pyproj", None)
    found = decode(data, name="x.tif")
    assert found.metadata.position_source is None and version_of(io.BytesIO(data)) == ""
    assert any("EPSG:32632" in each and "outcrop[positions]" in each for each in found.remarks)


@pytest.mark.parametrize(
    "keys, tie, said",
    [
        ({1024: 1, 1025: 1, 3072: 32767}, TIE, "has no number"),
        ({1024: 2, 1025: 1, 2048: 4326}, (0.0, 0.0, 0.0, 500.0, 95.0, 0.0), "out of range"),
        ({1024: 2, 1025: 1, 2048: 4326}, (), ""),
    ],
)
def test_geotiffs_without_a_position_that_can_be_read(keys: dict[int, int], tie: tuple[float, ...], said: str) -> None:
    found = decode(geotiff(keys, tie), name="x.tif")
    assert (found.metadata.latitude, found.metadata.position_source) == (None, None)
    assert any(said in each for each in found.remarks) if said else not found.remarks
