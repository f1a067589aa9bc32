"""Where a GeoTIFF lies: the middle of its picture in WGS 84, by its tie point and pixel scale or its matrix (OGC GeoTIFF 1.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.remarks import note
from outcrop.embed.tiff import Directory
from outcrop.schema.crs import to_degrees
from outcrop.schema.errors import InputError

PIXEL_SCALE, TIE_POINT, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735
_MODEL, _RASTER, _GEOGRAPHIC, _PROJECTED = 1024, 1025, 2048, 3072
_POINT = 2
"""The value of `_RASTER` where coordinates are those of pixels' middles."""
_OWN = 32767
"""The value of a coordinate system that has no number."""


def with_position(facts: PhotoMetadata, page: Directory) -> PhotoMetadata:
    """The metadata of a photograph; a position that it lacks is that of the middle of the picture, where the TIFF says it."""
    if facts.position_source is not None or (place := position_of(page)) is None:
        return facts
    return replace(facts, latitude=place[0], longitude=place[1], position_source="geotiff")


def position_of(page: Directory) -> tuple[float, float] | None:
    """Latitude and longitude (WGS 84 degrees) of the middle of a picture; None where the TIFF does not say them.

    A coordinate system that needs pyproj, and pyproj is not there, is remarked on.
    """
    keys = _keys(page)
    middle = _middle(page, keys.get(_RASTER) == _POINT)
    if middle is None or not keys:
        return None
    code = keys.get(_GEOGRAPHIC if keys.get(_MODEL) == 2 else _PROJECTED, _OWN)
    if code == _OWN:
        note("its GeoTIFF coordinate system has no number, so that its position is not read")
        return None
    try:
        ((longitude, latitude),) = to_degrees(f"EPSG:{code}")([middle])
    except InputError as error:
        note(f"its GeoTIFF position is not read: {error}")
        return None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # infinite outside of the system's area
        note(f"its GeoTIFF position ({latitude:g}, {longitude:g}) is out of range and is not read")
        return None
    return latitude, longitude


def _middle(page: Directory, point: bool) -> tuple[float, float] | None:
    """The coordinates (x, y) of the middle of the picture in the file's own system."""
    width, height = page.size
    column, row = (width - point) / 2, (height - point) / 2
    matrix = _numbers(page, TRANSFORMATION)
    if len(matrix) == 16:
        if matrix[0] * matrix[5] - matrix[1] * matrix[4] > 0:
            note(
                "its rows go from the south: it is a mirror image of the ground, which matches no photograph; gdalwarp turns it"
            )
        x = matrix[0] * column + matrix[1] * row + matrix[3]
        y = matrix[4] * column + matrix[5] * row + matrix[7]
        return x, y
    scale, tie = _numbers(page, PIXEL_SCALE), _numbers(page, TIE_POINT)
    if len(scale) < 2 or len(tie) < 6:
        return None
    return tie[3] + (column - tie[0]) * scale[0], tie[4] - (row - tie[1]) * scale[1]


def _keys(page: Directory) -> dict[int, int]:
    """The geo keys that are numbers within the directory itself."""
    values = page.numbers(GEO_KEYS)
    entries = [values[start : start + 4] for start in range(4, len(values) - 3, 4)]
    return {key: value for key, location, _, value in entries if location == 0}


def _numbers(page: Directory, tag: int) -> Sequence[float]:
    """A tag that is a list of finite numbers; empty where it is missing or something else."""
    values = page.tags.get(tag, ())
    if not isinstance(values, tuple) or not all(isinstance(one, (int, float)) and math.isfinite(one) for one in values):
        return ()
    return values
