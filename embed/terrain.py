"""Terrain models: the height of the ground at any place, from a raster of heights in metres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.map_rasters import Raster
from outcrop.embed.maps import MapWindow
from outcrop.schema.errors import InputError
from outcrop.schema.places import require_disk

MOST_SIDE = 4096
"""Pixels of the part that is read at once: places further apart than that are not one photograph's."""
POSSIBLE = (-500.0, 9500.0)
"""Metres of any ground on which photographs are taken from the air. What lies outside of them stands for nothing (-9999, -32768)
in a model that does not say so."""
UNITS = {
    "": 1.0, "m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0,
    "ft": 0.3048, "foot": 0.3048, "feet": 0.3048, "international foot": 0.3048,
    "us survey foot": 1200 / 3937, "us-ft": 1200 / 3937, "ftus": 1200 / 3937, "us_survey_foot": 1200 / 3937,
    "cm": 0.01, "centimetre": 0.01, "dm": 0.1, "decimetre": 0.1, "mm": 0.001, "millimetre": 0.001,
}  # fmt: skip
"""Metres of the units that rasters state for their heights; those that state none are in metres."""


class Terrain:
    """A terrain model; any number of threads may ask it."""

    def __init__(self, raster: Raster) -> None:
        """Raises:
        InputError: its heights are in a unit that is not known.
        """
        self._raster = raster
        self._scale, self._offset, unit = raster.scaling
        if unit.strip().lower() not in UNITS:
            raise InputError(
                f"{raster.path}: heights in {unit!r} are not read; convert them to metres (gdal_calc.py), and state that "
                "(gdal_edit.py -units m)"
            )
        self._metres = UNITS[unit.strip().lower()]

    def heights(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metres [N] above the model's datum at places [N, 2] (latitude and longitude in degrees), between its pixels linearly;
        NaN outside of it and where it says nothing.

        Raises:
            PictureError: it cannot be read. InputError: the places lie too far apart.
        """
        width, height = self._raster.width, self._raster.height
        points = self._raster.place.pixels(np.asarray(places, np.float64), width, height) - 0.5
        limits = np.array([width - 1, height - 1])
        # Half a pixel beyond the middles of the outer pixels still belongs to them.
        known = np.all(np.isfinite(points) & (points >= -0.5) & (points <= limits + 0.5), axis=1)
        found = np.full(len(points), np.nan)
        if not known.any():
            return found
        points = np.clip(points[known], 0, limits)
        low = np.floor(points.min(axis=0)).astype(int)
        high = np.minimum(np.floor(points.max(axis=0)).astype(int) + 1, limits)
        if (high - low).max() > MOST_SIDE:
            raise InputError(f"{self._raster.path}: the places lie more than {MOST_SIDE} pixels apart")
        window = MapWindow(int(low[0]), int(low[1]), int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
        found[known] = _between(self._metres_of(window), points - low)
        return found

    def _metres_of(self, window: MapWindow) -> NDArray[np.float64]:
        """The heights of a window in metres; NaN where it says nothing."""
        found = (self._raster.heights(window) * self._scale + self._offset) * self._metres
        return np.where((found > POSSIBLE[0]) & (found < POSSIBLE[1]), found, np.nan)

    def close(self) -> None:
        """Gives back its file."""
        self._raster.close()


def open_terrain(path: Path) -> Terrain:
    """Opens a terrain model.

    Raises:
        InputError: there is none, or it is not a raster that GDAL reads.
    """
    require_disk(path, "a terrain model", "copy it to a disk")
    if not path.is_file():
        raise InputError(f"no terrain model at {path}; give --dem a GeoTIFF of heights")
    return Terrain(Raster(path))


def _between(heights: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear values of an array [h, w] at points [N, 2] (x, y)."""
    x, y = np.floor(points).astype(int).T
    right, below = np.minimum(x + 1, heights.shape[1] - 1), np.minimum(y + 1, heights.shape[0] - 1)
    u, v = (points - np.floor(points)).T
    upper = heights[y, x] * (1 - u) + heights[y, right] * u
    lower = heights[below, x] * (1 - u) + heights[below, right] * u
    mixed: NDArray[np.float64] = upper * (1 - v) + lower * v
    return mixed
