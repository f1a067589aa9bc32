"""A map as the square pictures that browsers ask for (256 pixels, Web Mercator, ``z/x/y``), whatever it is made of."""

from __future__ import annotations

import io
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.maps import Map, MapWindow, open_map
from outcrop.schema.errors import InputError

SIDE = 256
"""Pixels of a tile's side."""
CELLS = 16
"""Into how many parts a tile's sides are cut where its place in the map is computed; between them it is interpolated."""
MOST_ZOOM = 24
EQUATOR = 2 * math.pi * 6_378_137.0
KEPT = 512
"""Tiles in memory."""
AT_ONCE = 4
"""Tiles that are made at once."""


@dataclass(frozen=True)
class Extent:
    """The part of the ground that a map shows, in degrees, and the zoom at which its pixels are those of tiles."""

    south: float
    west: float
    north: float
    east: float
    zoom: int


class Tiles:
    """An open map; any thread may use it."""

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            InputError: as `outcrop.embed.maps.open_map`.
        """
        self._map: Map = open_map(path)
        self.extent = _extent(self._map)
        self._made: OrderedDict[tuple[int, int, int], bytes | None] = OrderedDict()
        self._lock, self._few = threading.Lock(), threading.BoundedSemaphore(AT_ONCE)

    def close(self) -> None:
        """Gives back the map's files."""
        self._map.close()

    def tile(self, zoom: int, column: int, row: int) -> bytes | None:
        """A tile as WebP; None where the map shows nothing there, or where there is no such tile.

        Raises:
            PictureError: the map cannot be read.
        """
        if not (0 <= zoom <= MOST_ZOOM and 0 <= column < 2**zoom and 0 <= row < 2**zoom):
            return None
        address = zoom, column, row
        with self._lock:
            if address in self._made:
                self._made.move_to_end(address)
                return self._made[address]
        with self._few:
            made = self._drawn(address)
        with self._lock:
            self._made[address] = made
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        return made

    def _drawn(self, address: tuple[int, int, int]) -> bytes | None:
        import cv2

        places, shown = _places(*address), self._map
        points = shown.place.pixels(places, shown.width, shown.height).reshape(CELLS + 1, CELLS + 1, 2)
        if not np.isfinite(points).all():
            return None
        least, most = np.floor(points.min((0, 1))) - 1, np.ceil(points.max((0, 1))) + 1
        left, top = (int(max(0, value)) for value in least)
        right, bottom = int(min(self._map.width, most[0])), int(min(self._map.height, most[1]))
        if left >= right or top >= bottom:
            return None
        window = MapWindow(left, top, right - left, bottom - top)
        step = max(1.0, float((most - least).min()) / SIDE)  # pixels of the map for one of the tile
        size = max(1, math.ceil(window.width / step)), max(1, math.ceil(window.height / step))
        pixels, seen = self._map.read(window, size)
        alpha = np.where(seen, 255, 0).astype(np.uint8)
        across, down = window.width / size[0], window.height / size[1]
        x, y = (
            (_between(points[..., axis]) - begin) / scale - 0.5
            for axis, begin, scale in ((0, left, across), (1, top, down))
        )
        rgba = cv2.remap(
            np.ascontiguousarray(np.dstack([pixels, alpha])),
            x.astype(np.float32),
            y.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
        if not rgba[..., 3].any():
            return None
        rgba[..., 3] = np.where(rgba[..., 3] >= 128, 255, 0)
        made = io.BytesIO()
        Image.fromarray(rgba).save(made, "WEBP", quality=85)
        return made.getvalue()


def _extent(source: Map) -> Extent:
    """What a map shows.

    Raises:
        InputError: it is nowhere on the globe.
    """
    metres = source.place.metres_per_pixel(source.width, source.height)
    x, y = np.meshgrid(np.linspace(0, source.width, CELLS + 1), np.linspace(0, source.height, CELLS + 1))
    places = source.place.degrees(np.stack([x.ravel(), y.ravel()], axis=1))
    south, west = (float(value) for value in places.min(0))
    north, east = (float(value) for value in places.max(0))
    if not np.isfinite(places).all():
        raise InputError("a corner of the map is nowhere on the globe; cut it to where it has a meaning")
    finest = EQUATOR * math.cos(math.radians((south + north) / 2)) / SIDE / max(min(metres), 1e-6)
    return Extent(south, west, north, east, min(MOST_ZOOM, max(0, math.ceil(math.log2(max(1.0, finest))))))


def _places(zoom: int, column: int, row: int) -> NDArray[np.float64]:
    """Latitudes and longitudes [(CELLS + 1)², 2] of the corners of a tile's parts, row by row."""
    steps = np.arange(CELLS + 1) / CELLS
    east, south = (column + steps) / 2**zoom, (row + steps) / 2**zoom
    longitude, latitude = east * 360 - 180, np.degrees(np.arctan(np.sinh(math.pi * (1 - 2 * south))))
    return np.stack([np.repeat(latitude, CELLS + 1), np.tile(longitude, CELLS + 1)], axis=1)


def _between(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at the middles of a tile's pixels [SIDE, SIDE] from those at the corners of its parts [CELLS + 1, CELLS + 1]."""
    place = (np.arange(SIDE) + 0.5) * CELLS / SIDE
    low = np.minimum(place.astype(int), CELLS - 1)
    share = place - low
    weights = np.zeros((SIDE, CELLS + 1))
    weights[np.arange(SIDE), low], weights[np.arange(SIDE), low + 1] = 1 - share, share
    return np.asarray(weights @ corners @ weights.T)
