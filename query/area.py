"""Where on the ground an item must lie: within metres of a place, or within polygons of a GeoJSON file.

Milvus sifts by ranges of latitude and longitude that hold the area; whether an item lies in it is decided here, in the same way
for every backend. Items whose place is not known lie in no area.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.query.ground import EARTH_RADIUS, distances
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Condition, Filter

MARGIN = 1e-6
"""Degrees (a decimetre) by which ranges are wider than the area: rounding loses nothing."""
HALF_WAY = math.pi * EARTH_RADIUS
MAX_BYTES = 2**26
EDGES_AT_ONCE = 2**20
"""Edges times places that are looked at in one go."""
POLYGONS = ("Polygon", "MultiPolygon")

Ring = NDArray[np.float64]
"""Corners [N, 2] of longitude and latitude in degrees, the first one again at the end."""


@dataclass(frozen=True)
class Near:
    """All places within `metres` of one (degrees), along the sphere of the mean radius, the edge included."""

    latitude: float
    longitude: float
    metres: float

    @classmethod
    def parse(cls, text: str) -> Near:
        """From ``LAT,LON,METRES``.

        Raises:
            InputError: it is not that, or out of range.
        """
        try:
            latitude, longitude, metres = (float(part) for part in text.split(","))
        except ValueError:
            raise InputError(
                f"--near must be LAT,LON,METRES, such as 35.1796,129.0756,500 (degrees of WGS 84), got {text!r}"
            ) from None
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            raise InputError(
                f"--near {text}: latitude {latitude:g} must be between -90 and 90, longitude {longitude:g} between -180 and "
                "180; the latitude comes first"
            )
        if not 0 <= metres < math.inf:
            raise InputError(f"--near {text}: the distance must be metres, 0 or more, got {metres:g}")
        return cls(latitude, longitude, metres)

    def holds(self, latitudes: Sequence[float], longitudes: Sequence[float]) -> Sequence[bool]:
        """Which places lie in it."""
        found: list[bool] = (distances(latitudes, longitudes, self.latitude, self.longitude) <= self.metres).tolist()
        return found

    @property
    def filter(self) -> Filter:
        """What an item must fulfil to lie in it."""
        angle = min(self.metres, HALF_WAY) / EARTH_RADIUS
        reach = math.degrees(angle)
        south, north = self.latitude - reach, self.latitude + reach
        widest = math.sin(angle) / math.cos(math.radians(self.latitude)) if abs(self.latitude) < 90 else 2.0
        if south <= -90 or north >= 90 or angle >= math.pi / 2 or widest >= 1:  # round a pole
            return _box(south, north, []) & Filter(areas=(self,))
        across = math.degrees(math.asin(widest))
        return _box(south, north, [(self.longitude - across, self.longitude + across)]) & Filter(areas=(self,))


@dataclass(frozen=True, eq=False)
class Within:
    """All places in any of some polygons, edges included. A polygon is its outer ring and its holes.

    As GeoJSON says, a line between two corners is straight in longitude and latitude. A polygon across the 180th meridian is cut
    there, or goes on beyond it (longitudes up to 540 degrees either way).
    """

    polygons: tuple[tuple[Ring, ...], ...]

    @classmethod
    def read(cls, path: Path) -> Within:
        """From a GeoJSON file: polygons, by themselves or in features and collections of these.

        Raises:
            InputError: it cannot be read, holds no polygon, or a ring is not one.
        """
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"--within {path} has more than {MAX_BYTES:,} bytes; simplify the area")
            data = path.read_bytes()
        except FileNotFoundError:
            raise InputError(f"--within: there is no file at {path}; check the path") from None
        except OSError as error:
            raise InputError(f"--within {path} cannot be read: {error.strerror}") from None
        return cls.parse(data, f"--within {path}")

    @classmethod
    def parse(cls, data: str | bytes, what: str) -> Within:
        """From GeoJSON, which errors call `what`.

        Raises:
            InputError: as `read`.
        """
        try:
            found = json.loads(data if isinstance(data, str) else data.decode("utf-8-sig"))
            polygons = tuple(_polygon(each, what) for each in _polygons(found, what))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{what} is not valid GeoJSON: {str(error).splitlines()[0][:200]}") from None
        if not polygons:
            raise InputError(f"{what} holds no polygon; draw the area as a Polygon or MultiPolygon")
        return cls(polygons)

    @property
    def geojson(self) -> str:
        """The polygons alone, as compact GeoJSON."""
        coordinates = [[ring.tolist() for ring in polygon] for polygon in self.polygons]
        return json.dumps({"type": "MultiPolygon", "coordinates": coordinates}, separators=(",", ":"))

    def holds(self, latitudes: Sequence[float], longitudes: Sequence[float]) -> Sequence[bool]:
        """Which places lie in it."""
        y, x = np.asarray(latitudes, dtype=np.float64), np.asarray(longitudes, dtype=np.float64)
        inside = np.zeros(len(x), dtype=bool)
        for turn in (-360.0, 0.0, 360.0):
            for polygon in self.polygons:
                inside |= _in_polygon(polygon, x + turn, y)
        found: list[bool] = inside.tolist()
        return found

    @property
    def filter(self) -> Filter:
        """What an item must fulfil to lie in it."""
        outer = [polygon[0] for polygon in self.polygons]
        south, north = min(ring[:, 1].min() for ring in outer), max(ring[:, 1].max() for ring in outer)
        spans = [(float(ring[:, 0].min()), float(ring[:, 0].max())) for ring in outer]
        return _box(float(south), float(north), spans) & Filter(areas=(self,))


def rectangle(text: str) -> Within:
    """From ``WEST,SOUTH,EAST,NORTH`` in degrees; east may be beyond 180 where it lies across the 180th meridian.

    Raises:
        InputError: it is not that, or out of range.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        west = south = east = north = math.nan
    if not (-90 <= south < north <= 90 and -540 <= west < east <= 540):  # not NaN, either
        raise InputError(
            f"area must be WEST,SOUTH,EAST,NORTH, such as 129.07,35.17,129.08,35.18 (degrees of WGS 84), got {text[:100]!r}"
        )
    if east - west >= 360:
        west, east = -180.0, 180.0
    middle = (west + east) / 2  # no edge spans more than half the globe
    corners = [(west, south), (middle, south), (east, south), (east, north), (middle, north), (west, north)]
    return Within(((np.array([*corners, corners[0]], dtype=np.float64),),))


def area_filter(near: str | None, within: Path | None) -> Filter:
    """What ``--near`` and ``--within`` say together.

    Raises:
        InputError: one of them is not valid.
    """
    filter = Near.parse(near).filter if near else Filter()
    return filter & Within.read(within).filter if within is not None else filter


def _box(south: float, north: float, spans: Sequence[tuple[float, float]]) -> Filter:
    """Ranges that hold latitudes from south to north and all spans of longitudes (west, east; none: all longitudes)."""
    # A range also keeps out items whose place is not known.
    latitudes = Condition("latitude", "range", (max(-90.0, south - MARGIN), min(90.0, north + MARGIN)))
    gap = _widest_gap(spans)
    if gap is None:
        return Filter((latitudes, Condition("longitude", "range", (-180.0, 180.0))))
    west, east = gap[1] - MARGIN, gap[0] + MARGIN  # of what is left beside the gap
    west, east = (west + 180) % 360 - 180, (east + 180) % 360 - 180
    if west <= east:
        return Filter((latitudes, Condition("longitude", "range", (west, east))))
    # Across the 180th meridian: everything but what lies between.
    between = (math.nextafter(east, math.inf), math.nextafter(west, -math.inf))
    return Filter((latitudes, Condition("longitude", "range", between, negated=True)))


def _widest_gap(spans: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The widest range of longitudes (west, east) that no span touches, round the globe; None where there is hardly any."""
    if not spans or any(east - west >= 360 for west, east in spans):
        return None
    turned = sorted(((west + 180) % 360 - 180, east - west) for west, east in spans)
    first, best = turned[0][0], (0.0, 0.0)
    reached = max(turned[0][0] + turned[0][1], max(west + width - 360 for west, width in turned))
    for west, width in [*turned[1:], (first + 360, 0.0)]:
        if west - reached > best[1] - best[0]:
            best = (reached, west)
        reached = max(reached, west + width)
    return best if best[1] - best[0] > 4 * MARGIN else None


def _in_polygon(polygon: Sequence[Ring], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which places lie in a polygon or on its edges: an edge more is crossed on the way east for each ring around."""
    inside = np.zeros(len(x), dtype=bool)
    outer = polygon[0]
    near = np.flatnonzero(
        (x >= outer[:, 0].min()) & (x <= outer[:, 0].max()) & (y >= outer[:, 1].min()) & (y <= outer[:, 1].max())
    )
    px, py = x[near], y[near]
    odd, on_edge = np.zeros(len(near), dtype=bool), np.zeros(len(near), dtype=bool)
    step = max(1, EDGES_AT_ONCE // max(1, len(near)))
    for ring in polygon:
        for start in range(0, len(ring) - 1, step):
            (x0, y0), (x1, y1) = ring[start : len(ring) - 1][:step].T[..., None], ring[start + 1 :][:step].T[..., None]
            side = (x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)
            between = (np.minimum(x0, x1) <= px) & (px <= np.maximum(x0, x1))
            between &= (np.minimum(y0, y1) <= py) & (py <= np.maximum(y0, y1))
            on_edge |= ((side == 0) & between).any(0)
            odd ^= np.logical_xor.reduce(((y0 > py) != (y1 > py)) & ((side > 0) == (y1 > y0)), axis=0)
    inside[near] = odd | on_edge
    return inside


def _polygons(found: Any, what: str) -> Iterator[Any]:
    """The coordinates of each polygon in a GeoJSON value."""
    kind = found.get("type") if isinstance(found, dict) else None
    if kind == "FeatureCollection":
        for feature in _listed(found.get("features"), what):
            yield from _polygons(feature, what)
    elif kind == "Feature":
        yield from _polygons(found.get("geometry"), what)
    elif kind == "GeometryCollection":
        for geometry in _listed(found.get("geometries"), what):
            yield from _polygons(geometry, what)
    elif kind in POLYGONS:
        coordinates = _listed(found.get("coordinates"), what)
        yield from coordinates if kind == "MultiPolygon" else [coordinates]
    else:
        raise InputError(
            f"{what}: an area is made of polygons, got {kind or type(found).__name__}; draw it as a Polygon"
        )


def _listed(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{what}: a list is missing where GeoJSON has one")
    return value


def _polygon(coordinates: Any, what: str) -> tuple[Ring, ...]:
    rings = tuple(_ring(each, what) for each in _listed(coordinates, what))
    if not rings:
        raise InputError(f"{what}: a polygon has no ring")
    return rings


def _ring(corners: Any, what: str) -> Ring:
    ring = np.asarray([corner[:2] for corner in _listed(corners, what)], dtype=np.float64)
    if ring.ndim != 2 or ring.shape[0] < 4 or ring.shape[1] != 2 or not np.isfinite(ring).all():
        raise InputError(f"{what}: a ring has at least four corners of longitude and latitude")
    if (ring[0] != ring[-1]).any():
        raise InputError(f"{what}: a ring does not end where it begins")
    if np.abs(ring[:, 1]).max() > 90 or np.abs(ring[:, 0]).max() > 540:
        raise InputError(f"{what}: a corner is not longitude and latitude in degrees; the longitude comes first")
    across = np.abs(np.diff(ring[:, 0]))
    if ((across > 180) & (across < 360)).any():
        raise InputError(
            f"{what}: an edge spans {across.max():g} degrees of longitude, and it is not clear which way; cut the area "
            "at the 180th meridian, write longitudes beyond it (190 for -170), or add a corner"
        )
    return ring
