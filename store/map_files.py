"""A collection's items, without their vectors, as files for other programs: CSV for spreadsheets, GeoJSON and KML for maps.

Own columns stand beside the fields, under their names. CSV is UTF-8 with a byte order mark, which spreadsheets need to read it
so, and a text that a spreadsheet would compute as a formula has an apostrophe before it. GeoJSON (RFC 7946) and KML 2.2 hold the
items whose position is known.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

from outcrop.schema.column_files import harmless
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.schema.filters import Filter
from outcrop.schema.item import FIELDS, UNKNOWN_COORDINATE
from outcrop.store.collection import Collection
from outcrop.store.transfer import PAGE, require_complete

SUFFIXES = (".csv", ".geojson", ".kml")
MAP_FIELDS = ("key", "kind", "dataset", "category", "capture_id", "frame", "altitude", "captured_at", "source")
"""The fields that a place on a map says, beside its own columns; those that say nothing are left out."""
SOURCE = "position_source"


@dataclass(frozen=True)
class Written:
    """What was written: `rows` items, in `target`; `unlocated` were left out of a map, since their place is not known."""

    rows: int
    target: str
    unlocated: int = 0


def export_items(
    collection: Collection, path: Path, filter: Filter | None = None, *, progress: Callable[[int], None] | None = None
) -> Written:
    """Writes the items that a filter keeps, ordered by id; the ending of the path chooses the format.

    The file appears under its name only when it is whole.

    Raises:
        InputError: it cannot be written, or no item has a position to be put on a map. OutcropError: the scan missed rows.
    """
    begun = {".csv": _csv_file, ".geojson": _geojson_file, ".kml": _kml_file}[path.suffix.lower()]
    on_map = path.suffix.lower() != ".csv"
    expected, rows, located = collection.count(filter), 0, 0
    fields = ["id", *FIELDS, SOURCE, *collection.columns.keys_in_rows]
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        with begun(file, collection) as write:
            for page in collection.scan_rows(filter, fields, batch=PAGE):
                chosen = [row for row in page if not on_map or row["latitude"] < UNKNOWN_COORDINATE]
                for row in chosen:
                    write(row)
                rows, located = rows + len(page), located + len(chosen)
                if progress is not None:
                    progress(rows)
        require_complete(collection, rows, expected)
        if on_map and not located:
            raise InputError(
                f"none of {rows} items has a position, so there is nothing to put on a map; nothing was written. "
                "`collection annotate` gives positions (decimalLatitude, decimalLongitude), or write CSV"
            )
    return Written(located, str(path), rows - located)


Write = Callable[[Mapping[str, Any]], None]


@contextmanager
def _csv_file(file: IO[str], collection: Collection) -> Iterator[Write]:
    file.write("\ufeff")
    writer = csv.writer(file)
    own = list(collection.columns.values())
    writer.writerow([*FIELDS, *(column.name for column in own)])

    def write(row: Mapping[str, Any]) -> None:
        places = [_unknown_as_nothing(name, row[name]) for name in FIELDS]
        writer.writerow([harmless(value) for value in (*places, *(row.get(column.key, "") for column in own))])

    yield write


def _unknown_as_nothing(name: str, value: Any) -> Any:
    return "" if name in ("latitude", "longitude") and value == UNKNOWN_COORDINATE else value


@contextmanager
def _geojson_file(file: IO[str], collection: Collection) -> Iterator[Write]:
    file.write('{"type": "FeatureCollection", "features": [')
    between = "\n"

    def write(row: Mapping[str, Any]) -> None:
        nonlocal between
        place = {"type": "Point", "coordinates": [row["longitude"], row["latitude"]]}
        feature = {"type": "Feature", "id": row["key"], "geometry": place, "properties": _said(row, collection)}
        file.write(between + json.dumps(feature, ensure_ascii=False))
        between = ",\n"

    yield write
    file.write("\n]}\n")


@contextmanager
def _kml_file(file: IO[str], collection: Collection) -> Iterator[Write]:
    file.write('<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n')
    file.write(f"<name>{escape(collection.name)}</name>\n")

    def write(row: Mapping[str, Any]) -> None:
        data = "".join(
            f"<Data name={quoteattr(name)}><value>{escape(_text(value))}</value></Data>"
            for name, value in _said(row, collection).items()
        )
        file.write(
            f"<Placemark><name>{escape(_name(row))}</name><ExtendedData>{data}</ExtendedData>"
            f"<Point><coordinates>{row['longitude']!r},{row['latitude']!r}</coordinates></Point></Placemark>\n"
        )

    yield write
    file.write("</Document></kml>\n")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _name(row: Mapping[str, Any]) -> str:
    """What a map calls an item: the end of its key."""
    return "/".join(str(row["key"]).split("/")[-2:])


def _said(row: Mapping[str, Any], collection: Collection) -> dict[str, Any]:
    """What a map says of an item."""
    values = {name: row[name] for name in MAP_FIELDS if row["kind"] in FIELDS[name].kinds and row[name] != ""}
    if SOURCE in row:
        values[SOURCE] = row[SOURCE]
    return values | collection.columns.of(row)
