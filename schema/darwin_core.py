"""Darwin Core: which terms of a table fill fields that items have anyway, the category and the position.

https://dwc.tdwg.org/terms/. Every term stays an own column under its name; besides, a specimen without a category gets one of
its taxon, and an item without a position that of ``decimalLatitude`` and ``decimalLongitude``. What came from a table says so in
the row (`CATEGORY_SOURCE`, `POSITION_SOURCE`), so that another table may replace it, and an item embedded again keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from outcrop.schema.columns import Columns, key_of
from outcrop.schema.item import FIELDS, FOSSIL, UNKNOWN_COORDINATE, Item

RANKS = ("class", "order", "family", "genus", "scientificName")
"""The levels of a category, from the widest."""
LATITUDE, LONGITUDE = "decimalLatitude", "decimalLongitude"
CATEGORY_SOURCE, POSITION_SOURCE = "category_source", "position_source"
TABLE = "table:"
"""What the source of a category or position begins with that came from a table; the table's name follows."""


def fills(columns: Columns, path: Path) -> list[str]:
    """What is to be said of the terms among the columns that fill fields."""
    ranks = [rank for rank in RANKS if rank in columns]
    said = [f"{path.name}: {', '.join(ranks)} are the category of specimens that have none"] if ranks else []
    wrong = [name for name in (LATITUDE, LONGITUDE) if name in columns and columns[name].type != "number"]
    if wrong:
        said.append(
            f"{path.name}: not all cells of {' and '.join(wrong)} are decimal degrees, so they give no position"
        )
    elif LATITUDE in columns and LONGITUDE in columns:
        said.append(f"{path.name}: {LATITUDE} and {LONGITUDE} are the position of items that have none")
    return said


def category_of(values: Mapping[str, Any]) -> str:
    """The category that a row's values (by the keys of their columns) give; '' for none."""
    levels = [str(values[key_of(rank)]).replace("/", " ") for rank in RANKS if values.get(key_of(rank)) is not None]
    return "/".join(levels)


def position_of(values: Mapping[str, Any]) -> tuple[float, float] | None:
    """Latitude and longitude in degrees that a row's values give; None for none, and for 0, 0."""
    latitude, longitude = values.get(key_of(LATITUDE)), values.get(key_of(LONGITUDE))
    if not isinstance(latitude, float) or not isinstance(longitude, float) or (latitude == 0 and longitude == 0):
        return None
    return latitude, longitude


def fault_of(values: Mapping[str, Any]) -> str:
    """What is wrong with the category or position of a row's values; '' for nothing."""
    place = position_of(values)
    if place is not None and not abs(place[0]) <= 90:
        return f"column {LATITUDE!r}: {place[0]:g} is not a latitude in degrees"
    if place is not None and not abs(place[1]) <= 180:
        return f"column {LONGITUDE!r}: {place[1]:g} is not a longitude in degrees"
    if len(category_of(values).encode()) > FIELDS["category"].max_length:
        return f"{', '.join(RANKS)} together are longer than {FIELDS['category'].max_length} bytes"
    return ""


def filled(item: Item, values: Mapping[str, Any], table: str) -> Item:
    """The item with the category and position of a row's values, where it has none of its own."""
    extra, changed = dict(item.extra), {}
    category, place = category_of(values), position_of(values)
    of_table = not item.category or from_table(extra, CATEGORY_SOURCE)
    if category and item.kind in FOSSIL and of_table and category != item.category:
        changed["category"] = category
        extra[CATEGORY_SOURCE] = TABLE + table
    free = item.latitude == UNKNOWN_COORDINATE or from_table(extra, POSITION_SOURCE)
    if place is not None and free and place != (item.latitude, item.longitude):
        extra[POSITION_SOURCE] = TABLE + table
        return replace(item, **changed, latitude=place[0], longitude=place[1], extra=extra)  # type: ignore[arg-type]
    return replace(item, **changed, extra=extra)  # type: ignore[arg-type]


def kept(item: Item, row: Mapping[str, Any]) -> Item:
    """An item made anew, with what its row (or its parent's) had from a table and it has not by itself."""
    extra, changed = dict(item.extra), dict[str, Any]()
    if item.kind in FOSSIL and not item.category and from_table(row, CATEGORY_SOURCE):
        changed["category"], extra[CATEGORY_SOURCE] = row["category"], row[CATEGORY_SOURCE]
    if item.latitude == UNKNOWN_COORDINATE and from_table(row, POSITION_SOURCE):
        changed |= {"latitude": row["latitude"], "longitude": row["longitude"]}
        extra[POSITION_SOURCE] = row[POSITION_SOURCE]
    return replace(item, **changed, extra=extra)


def from_table(extra: Mapping[str, Any], name: str) -> bool:
    """Whether a source that a row states is a table."""
    return str(extra.get(name, "")).startswith(TABLE)
