"""Maps of the sample land: an orthophoto, a terrain model and XYZ tiles, as survey software writes them.

::

    <folder>/maps/orthophoto.tif      GeoTIFF in degrees (EPSG:4326), JPEG inside
    <folder>/maps/terrain.tif         heights of the ground in metres: the land is flat
    <folder>/maps/tiles/z/x/y.jpg     the same picture in Web Mercator

The land's own flat-earth metres are degrees by two factors (`outcrop.sample.flight.to_degrees`), so the orthophoto is exact.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from .flight import to_degrees
from .land import Land

FOLDER = "maps"
GROUND = 20.0
"""Metres above the sea of the flat land."""
ZOOMS = (17, 18, 19)
TILE = 256
CELL = 10.0
"""Metres of a cell of the terrain model."""


def write_maps(folder: Path, land: Land, *, quality: int = 88, tiles: bool = True) -> Path:
    """Writes the maps of a land below `folder`; returns the orthophoto's path."""
    maps = folder / FOLDER
    maps.mkdir(parents=True, exist_ok=True)
    orthophoto = maps / "orthophoto.tif"
    side = land.half * 2
    _write_tiff(land.picture, orthophoto, side, compression="jpeg", quality=quality)
    cells = math.ceil(side / CELL)
    _write_tiff(Image.fromarray(np.full((cells, cells), GROUND, np.float32)), maps / "terrain.tif", side)
    if tiles:
        for zoom in ZOOMS:
            _write_tiles(land, maps / "tiles" / str(zoom), zoom, quality)
    return orthophoto


def _write_tiff(picture: Image.Image, path: Path, side: float, **how: object) -> None:
    """A picture of the whole land with GeoTIFF's keys for degrees of WGS 84."""
    north, west = to_degrees(-side / 2, side / 2)
    south, east = to_degrees(side / 2, -side / 2)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, values in (
        (33550, 12, ((east - west) / picture.width, (north - south) / picture.height, 0.0)),
        (33922, 12, (0.0, 0.0, 0.0, west, north, 0.0)),
        # Geographic, pixels are areas, EPSG:4326.
        (34735, 3, (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)),
    ):
        tags.tagtype[tag] = kind
        tags[tag] = values
    picture.save(path, "TIFF", tiffinfo=tags, **how)


def _write_tiles(land: Land, folder: Path, zoom: int, quality: int) -> None:
    """The pictures of a zoom that lie on the land, at least in part; what does not is white."""
    left, top = _address(-land.half, land.half, zoom)
    right, bottom = _address(land.half, -land.half, zoom)
    for column in range(math.floor(left), math.ceil(right)):
        (folder / str(column)).mkdir(parents=True, exist_ok=True)
        for row in range(math.floor(top), math.ceil(bottom)):
            west, north = _pixel(land, column, row, zoom)
            east, south = _pixel(land, column + 1, row + 1, zoom)
            across, down = (east - west) / TILE, (south - north) / TILE
            finer = max(1, math.floor(across))
            size = TILE * finer, TILE * finer
            shown = land.picture.transform(
                size,
                Image.Transform.AFFINE,
                (across / finer, 0.0, west, 0.0, down / finer, north),
                Image.Resampling.BICUBIC,
                fillcolor=(255, 255, 255),
            )
            picture = shown.reduce(finer) if finer > 1 else shown
            picture.save(folder / str(column) / f"{row}.jpg", "JPEG", quality=quality)


def _address(east: float, north: float, zoom: int) -> tuple[float, float]:
    """Column and row (with fractions) of a place in metres."""
    latitude, longitude = to_degrees(east, north)
    angle = math.radians(latitude)
    return (
        (longitude + 180) / 360 * 2**zoom,
        (1 - math.asinh(math.tan(angle)) / math.pi) / 2 * 2**zoom,
    )


def _pixel(land: Land, column: int, row: int, zoom: int) -> tuple[float, float]:
    """The point of the land's picture in which the upper left corner of a tile lies."""
    longitude = column / 2**zoom * 360 - 180
    latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / 2**zoom))))
    origin = to_degrees(0.0, 0.0)
    one = to_degrees(1.0, 1.0)
    east, north = (longitude - origin[1]) / (one[1] - origin[1]), (latitude - origin[0]) / (one[0] - origin[0])
    return land.picture.width / 2 + east / land.resolution, land.picture.height / 2 - north / land.resolution
