"""Metres around a place on the ellipsoid."""

from __future__ import annotations

import math

Place = tuple[float, float]
"""Latitude and longitude in degrees (WGS 84)."""
_SEMI_MAJOR, _SQUARED_ECCENTRICITY = 6_378_137.0, 6.694379990141e-3  # WGS 84


class Plane:
    """Metres east and north (as east + north·j) around a place on the ellipsoid; good to millimetres over a kilometre."""

    def __init__(self, origin: Place) -> None:
        self._origin = origin
        sine = math.sin(math.radians(origin[0]))
        bend = 1 - _SQUARED_ECCENTRICITY * sine**2
        self._north = math.radians(_SEMI_MAJOR * (1 - _SQUARED_ECCENTRICITY) / bend**1.5)
        self._east = math.radians(_SEMI_MAJOR / math.sqrt(bend)) * math.cos(math.radians(origin[0]))

    def metres(self, place: Place) -> complex:
        """Where a place lies."""
        east = (place[1] - self._origin[1] + 180) % 360 - 180  # across the 180th meridian, too
        return complex(east * self._east, (place[0] - self._origin[0]) * self._north)

    def place(self, metres: complex) -> Place:
        """The inverse of `metres`."""
        longitude = self._origin[1] + metres.real / self._east
        return self._origin[0] + metres.imag / self._north, (longitude + 180) % 360 - 180
