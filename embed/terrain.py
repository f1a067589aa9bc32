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


class Terrain:
    """A terrain model; any number of threads may ask it."""

    def __init__(self, raster: Raster) -> None:
        self._raster = raster

    def heights(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metres [N] above the model's datum at places [N, 2] (latitude and longitude in degrees), between its pixels linearly;
        NaN outside of it and where it says nothing.

        Raises:
            PictureError: it cannot be read. InputError: the places lie too far apart.
        """
        points = self._raster.place.pixels(np.asarray(places, np.float64)) - 0.5
        limits = np.array([self._raster.width - 1, self._raster.height - 1])
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
        found[known] = _between(self._raster.heights(window), points - low)
        return found

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
