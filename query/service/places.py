"""What the map of a page shows, as plain values: the background, the query and its location, the part of the ground asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from outcrop.query.answers import Result
from outcrop.query.area import Near
from outcrop.query.service.tiles import Tiles
from outcrop.schema.item import UNKNOWN_COORDINATE, Item

FOOTPRINT = "footprint"
"""What a tile's row says of its corners: latitude and longitude of four."""
SIGMAS = 2.0
"""Standard deviations that the circle about an estimated place has as its radius."""


def background_json(tiles: Tiles | None) -> dict[str, Any] | None:
    """Where a map's tiles lie; None without a map."""
    if tiles is None:
        return None
    extent = tiles.extent
    bounds = [[extent.south, extent.west], [extent.north, extent.east]]
    return {"address": "/tiles/{z}/{x}/{y}.webp", "bounds": bounds, "zoom": extent.zoom}


def query_json(result: Result | None) -> dict[str, Any]:
    """The place that a query says it was taken at, and where its hits put it."""
    if result is None:
        return {}
    place, found = result.query.place, result.location
    values: dict[str, Any] = {"place": list(place)} if place is not None else {}
    if found is not None:
        values["located"] = {
            "place": [found.latitude, found.longitude],
            "radius": SIGMAS * found.sigma_m,
            "footprint": [list(corner) for corner in found.footprint],
            "heading": found.heading,
        }
    return values


def area_json(near: str, area: str) -> dict[str, Any]:
    """The part of the ground that is asked for."""
    values: dict[str, Any] = {}
    if near:
        place = Near.parse(near)
        values["near"] = [place.latitude, place.longitude, place.metres]
    if area:
        values["area"] = [float(part) for part in area.split(",")]
    return values


def place_of(item: Item) -> str:
    """An item's place as ``latitude,longitude``; '' where it is not known."""
    return f"{item.latitude!r},{item.longitude!r}" if item.latitude != UNKNOWN_COORDINATE else ""


def outline_of(item: Item, footprints: Mapping[str, Any]) -> str:
    """An item's outline on the ground as ``latitude,longitude latitude,longitude …``; '' where it is not known."""
    corners = item.extra.get(FOOTPRINT, footprints.get(item.id))
    if not isinstance(corners, Sequence) or isinstance(corners, str) or not 3 <= len(corners) <= 64:
        return ""
    if not all(_is_place(corner) for corner in corners):
        return ""
    return " ".join(f"{float(latitude)!r},{float(longitude)!r}" for latitude, longitude in corners)


def _is_place(corner: Any) -> bool:
    return (
        isinstance(corner, Sequence)
        and len(corner) == 2
        and all(isinstance(value, int | float) and math.isfinite(value) and abs(value) <= 540 for value in corner)
    )
