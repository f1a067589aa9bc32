"""Where the pixels of a map lie: from columns and rows to degrees, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.crs import from_degrees, is_degrees, to_degrees
from outcrop.schema.errors import InputError
from outcrop.schema.plane import Plane

WEB_MERCATOR = "EPSG:3857"
RADIUS = 6_378_137.0
"""Metres; of the sphere of Web Mercator."""
WORLD = 2 * math.pi * RADIUS
"""Metres of Web Mercator from edge to edge."""
EDGE = 0.01
"""Pixels beyond the edge of a map of the whole globe that are taken for its edge."""
POLE = 89.9
"""Degrees of latitude beyond which places around a map cannot be told by metres east and north."""
Affine = tuple[float, float, float, float, float, float]
Points = NDArray[np.float64]
"""[N, 2]."""


@dataclass(frozen=True)
class Georeference:
    """The place of every pixel of a map.

    `transform` is (a, b, c, d, e, f): the point (x, y), in pixels from the outer upper left corner of the map, x to the right and
    y down, has the coordinates (a x + b y + c, d x + e y + f) of `system` (``EPSG:32652``, or anything that pyproj reads).
    """

    transform: Affine
    system: str

    def degrees(self, points: Points) -> Points:
        """Latitude and longitude [N, 2] in WGS 84 degrees of points [N, 2] in pixels.

        Raises:
            InputError: the coordinate system needs pyproj, or is not known to it.
        """
        a, b, c, d, e, f = self.transform
        x, y = points[:, 0], points[:, 1]
        longitude, latitude = self._turned(self._forth, np.stack([a * x + b * y + c, d * x + e * y + f], axis=1))
        # Maps across the 180th meridian, and those from 0 to 360 degrees; what is farther off is no longitude at all.
        beyond = (np.abs(longitude) > 180) & (np.abs(longitude) <= 540)
        longitude[beyond] = (longitude[beyond] + 180) % 360 - 180
        return np.stack([latitude, longitude], axis=1)

    def pixels(self, places: Points, width: int, height: int) -> Points:
        """The inverse of `degrees`, of a map of `width` x `height` pixels: of all ways around the globe to a place the one that
        ends nearest to the map's middle, so that what lies a little beside an edge of the map is there."""
        a, b, c, d, e, f = self.transform
        x, y = self._turned(self._back, places[:, ::-1])
        if turn := self._turn:
            away = (x - (a * width / 2 + b * height / 2 + c)) / turn
            # A map of the whole globe has its edges half a turn off; rounding must not bring one of them to the other.
            around = (np.abs(away) > 0.5 + EDGE * math.hypot(a, b) / turn) & np.isfinite(away)
            x = np.where(around, x - turn * np.rint(np.where(around, away, 0.0)), x)
        return np.linalg.solve(np.array([[a, b], [d, e]]), np.stack([x - c, y - f])).T

    def metres_per_pixel(self, width: int, height: int) -> tuple[float, float]:
        """How many metres a pixel spans along a row and along a column, in the middle of a map of `width` x `height` pixels.

        Raises:
            InputError: the middle of the map is nowhere on the globe.
        """
        middle = np.array([width / 2, height / 2])
        places = self.degrees(middle + np.array([[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]]))
        latitude, longitude = places[0]
        if abs(latitude) > POLE and abs(latitude) <= 90:
            raise InputError(f"the map lies at a pole ({latitude:g} degrees of latitude); maps there are not read")
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # NaN and infinite, too
            raise InputError(
                f"the middle of the map lies at {latitude:g}, {longitude:g} degrees ({self.system}), which is nowhere; "
                "assign its coordinate system anew (gdal_edit.py -a_srs)"
            )
        plane = Plane((float(latitude), float(longitude)))
        ground = [plane.metres((float(one), float(other))) for one, other in places[1:]]
        return abs(ground[0] - ground[1]), abs(ground[2] - ground[3])

    def mirrored(self, width: int, height: int) -> bool:
        """Whether what a map of `width` x `height` pixels shows is a mirror image of the ground, by its middle."""
        middle, right, below = self.degrees(np.array([width, height]) / 2 + [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
        if not np.isfinite(middle).all():
            return False  # it is nowhere, which `metres_per_pixel` says
        plane = Plane((float(middle[0]), float(middle[1])))
        along, down = (plane.metres((float(place[0]), float(place[1]))) for place in (right, below))
        return (along.conjugate() * down).imag > 0  # y goes down in a picture

    def upside_down(self, height: int) -> Georeference:
        """The place of the pixels when the rows, `height` of them, are counted from the last to the first."""
        a, b, c, d, e, f = self.transform
        return Georeference((a, -b, c + b * height, d, -e, f + e * height), self.system)

    @cached_property
    def _turn(self) -> float:
        """By how much x grows around the globe, of systems in which it does so evenly; 0 in others."""
        return WORLD if self.system == WEB_MERCATOR else 360.0 if is_degrees(self.system) else 0.0

    def _turned(self, turn: Callable[[Points], Points], points: Points) -> Points:
        return turn(np.ascontiguousarray(points, np.float64)).T

    @cached_property
    def _forth(self) -> Callable[[Points], Points]:
        if self.system == WEB_MERCATOR:
            return _from_mercator
        turn = to_degrees(self.system)
        return lambda points: np.array(turn([(x, y) for x, y in points.tolist()]), np.float64).reshape(-1, 2)

    @cached_property
    def _back(self) -> Callable[[Points], Points]:
        if self.system == WEB_MERCATOR:
            return _to_mercator
        turn = from_degrees(self.system)
        return lambda points: np.array(turn([(x, y) for x, y in points.tolist()]), np.float64).reshape(-1, 2)


def _from_mercator(points: Points) -> Points:
    """Longitude and latitude of coordinates in Web Mercator."""
    x, y = points[:, 0] / RADIUS, points[:, 1] / RADIUS
    return np.degrees(np.stack([x, 2 * np.arctan(np.exp(y)) - math.pi / 2], axis=1))


def _to_mercator(points: Points) -> Points:
    """The inverse of `_from_mercator`."""
    longitude, latitude = np.radians(points[:, 0]), np.radians(points[:, 1])
    return RADIUS * np.stack([longitude, np.log(np.tan(math.pi / 4 + latitude / 2))], axis=1)
