"""Where a query was taken: the estimate that `outcrop.query.verification.locate` makes, in JSON and GeoJSON (RFC 7946)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.schema.files import whole_file

ASSUMPTIONS = "camera straight down, flat ground"
ASSUMED = {"map": "flat ground", "terrain": "the terrain model"}
"""By method, where that assumes less."""
Place = tuple[float, float]
"""Latitude and longitude in degrees (WGS 84)."""


@dataclass(frozen=True)
class LocatedMatch:
    """A verified hit that the estimate rests on: its key and place, and by how many metres it disagrees with the estimate."""

    key: str
    place: Place
    inliers: int
    off: float


@dataclass(frozen=True)
class Camera:
    """Where the camera was: the place below it, metres above the ground there, and its degrees off straight down."""

    latitude: float
    longitude: float
    height: float
    tilt: float


@dataclass(frozen=True)
class Location:
    """The place on the ground at the middle of a query.

    `sigma_m` is the standard deviation in metres: how far the positions by single hits scatter about the estimate (root mean
    square); with a single hit it is the assumed error of its GPS and metadata. `heading` is the direction in which the top of
    the query points, in degrees clockwise from north; `metres_per_pixel` of the query, full size; `footprint` the places of its
    corners (upper left, upper right, lower right, lower left). `method` is "positions" (the places of three hits or more give
    position, heading and scale), "headings" (place, heading and height of each hit give the position), "map" (tiles of a map), or
    "terrain" (the same with the heights of a terrain model). By a map, `height` is the camera's above the ground in metres where
    the focal length is known, and with a terrain model `camera` says where it was. `remarks` name doubts.
    """

    latitude: float
    longitude: float
    sigma_m: float
    method: str
    heading: float
    metres_per_pixel: float
    footprint: tuple[Place, ...]
    matches: tuple[LocatedMatch, ...]
    remarks: tuple[str, ...] = ()
    height: float | None = None
    camera: Camera | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; places are rounded to a centimetre."""
        return {
            "latitude": round(self.latitude, 7),
            "longitude": round(self.longitude, 7),
            "spread_m": round(self.sigma_m, 2),
            "heading": round(self.heading, 1) % 360,
            "metres_per_pixel": round(self.metres_per_pixel, 5),
            "method": self.method,
            "assumptions": ASSUMED.get(self.method, ASSUMPTIONS),
            **({"height": round(self.height, 1)} if self.height is not None else {}),
            **({"camera": _camera_json(self.camera)} if self.camera is not None else {}),
            "hits": [
                {"key": m.key, "inliers": m.inliers, "off_m": round(m.off, 2), "coordinates": _coordinates(m.place)}
                for m in self.matches
            ],
            "footprint": [_coordinates(place) for place in self.footprint],
            **({"remarks": list(self.remarks)} if self.remarks else {}),
        }


def _camera_json(camera: Camera) -> dict[str, Any]:
    return {
        "coordinates": _coordinates((camera.latitude, camera.longitude)),
        "height": round(camera.height, 1),
        "tilt": round(camera.tilt, 1),
    }


def features(query: str, location: Location) -> list[dict[str, Any]]:
    """A location as GeoJSON features: the point, the footprint, and the hits it rests on (longitude first)."""
    values = location.as_json()
    known = {name: values[name] for name in ("spread_m", "heading", "metres_per_pixel", "method", "assumptions")}
    ring = [_coordinates(place) for place in location.footprint]
    return [
        _feature(
            "Point", _coordinates((location.latitude, location.longitude)), {"role": "query", "query": query, **known}
        ),
        # Rings of RFC 7946 run counterclockwise and end where they begin; corners run clockwise in a picture.
        _feature("Polygon", [[ring[0], *ring[:0:-1], ring[0]]], {"role": "footprint", "query": query}),
        *(
            _feature(
                "Point",
                _coordinates(m.place),
                {"role": "hit", "query": query, "key": m.key, "inliers": m.inliers, "off_m": round(m.off, 2)},
            )
            for m in location.matches
        ),
    ]


def write_geojson(located: Sequence[tuple[str, Location]], path: Path) -> Path:
    """Writes the locations of queries (name, location) as one feature collection, replacing the file whole.

    Raises:
        InputError: it cannot be written.
    """
    collection = {
        "type": "FeatureCollection",
        "features": [f for query, place in located for f in features(query, place)],
    }
    with whole_file(path, what=f"--geojson {path}", fix="give another file", durable=False) as file:
        file.write_text(
            json.dumps(collection, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", errors="backslashreplace"
        )
    return path


def _feature(kind: str, coordinates: Any, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def _coordinates(place: Place) -> list[float]:
    return [round(place[1], 7), round(place[0], 7)]
