"""Positions of photographs from a file beside them: ODM's ``geo.txt``, or a table of PPK or RTK (CSV).

``geo.txt``: the first line names the coordinate system (``EPSG:4326``, a proj line, ``WGS84 UTM 32N``), each further line has a
file name, x (longitude), y (latitude) and, if known, the height; further columns are not read. A table has a header with a
column for the file name, latitude and longitude in degrees of WGS 84, and, if known, a height; commas, semicolons or tabs.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outcrop.schema.crs import names_system, to_degrees
from outcrop.schema.errors import InputError, nearest

NAMES = ("name", "filename", "file", "image", "imagename", "photo", "label", "source", "path")
LATITUDES = ("latitude", "lat", "decimallatitude")
LONGITUDES = ("longitude", "lon", "lng", "long", "decimallongitude")
HEIGHTS = ("altitude", "alt", "height", "elevation", "ellipsoidalheight", "ellh", "z")
"""Headings of columns, as `_heading` makes them."""
MAX_BYTES = 2**28


@dataclass(frozen=True)
class Position:
    """Where a photograph was taken, by a file: WGS 84 degrees, the height as the file has it (metres), and the file's name."""

    latitude: float
    longitude: float
    elevation: float | None
    source: str


@dataclass(frozen=True)
class Positions:
    """What a file says: positions by the names that it gives, as written."""

    path: Path
    rows: Mapping[str, Position]


@dataclass(frozen=True)
class Matched:
    """Positions by the photographs' paths, and what is to be said of rows and photographs that do not match."""

    by_source: Mapping[str, Position]
    remarks: tuple[str, ...]


def read_positions(path: Path) -> Positions:
    """Reads a file of positions.

    Raises:
        InputError: it cannot be read, a value is wrong (line and column are named), or its coordinate system needs pyproj.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES} bytes, too many for a file of positions")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"no file of positions at {path}; correct --positions") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"the positions {path} cannot be read: {reason}") from None
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    found = _geo(text, path) if names_system(first) else _table(text, path)
    if not found:
        raise InputError(f"the positions {path} hold no row")
    return Positions(path, found)


def matched(positions: Positions, sources: Iterable[str]) -> Matched:
    """The positions of photographs, by their paths below the root: a row names a path, a file, or a file without its ending."""
    sources = list(sources)
    by_name: dict[str, list[str]] = {}
    for source in sources:
        path = PurePosixPath(source)
        for name in {source, path.name, path.stem}:
            by_name.setdefault(_folded(name), []).append(source)
    found: dict[str, Position] = {}
    strangers: list[str] = []
    unclear: list[str] = []
    for name, position in positions.rows.items():
        meant = by_name.get(_folded(PurePosixPath(name.replace("\\", "/")).as_posix())) or by_name.get(
            _folded(_last(name)), []
        )
        exact = [source for source in meant if _folded(PurePosixPath(source).name) == _folded(_last(name))]
        meant = exact or meant
        if len(meant) == 1:
            found[meant[0]] = position
        else:
            (unclear if meant else strangers).append(name)
    silent = [source for source in sources if source not in found]
    said = [
        _named(positions.path, len(strangers), "rows name no photograph of the dataset", strangers),
        _named(
            positions.path, len(unclear), "rows name several photographs and are left out; write their paths", unclear
        ),
        _named(positions.path, len(silent), "photographs have no row and keep their own position", silent),
    ]
    return Matched(found, tuple(filter(None, said)))


def _named(path: Path, count: int, what: str, names: Sequence[str]) -> str:
    more = ", …" if count > 3 else ""
    return f"{path.name}: {count} {what} ({', '.join(names[:3])}{more})" if count else ""


def _last(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _geo(text: str, path: Path) -> dict[str, Position]:
    system = ""
    rows: list[tuple[int, str, float, float, float | None]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not system:
            system = line.strip()
            continue
        parts = [part.strip() for part in line.split("\t")] if "\t" in line else line.split()
        if len(parts) < 3:
            raise InputError(f"{path}, line {number}: a row has a file name, x and y; got {line.strip()!r}")
        values = [
            _number(part, path, number, column) for part, column in zip(parts[1:4], ("x", "y", "z"), strict=False)
        ]
        rows.append((number, parts[0], values[0], values[1], values[2] if len(values) > 2 else None))
    try:
        turn = to_degrees(system)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    places = turn([(x, y) for _, _, x, y, _ in rows])
    found: dict[str, Position] = {}
    for (number, name, _, _, height), (longitude, latitude) in zip(rows, places, strict=True):
        _add(found, name, latitude, longitude, height, path, number)
    return found


def _table(text: str, path: Path) -> dict[str, Position]:
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max((";", "\t", ","), key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    columns: dict[str, int] = {}
    found: dict[str, Position] = {}
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if not columns:
            columns = _columns(row, path)
            continue
        number = reader.line_num
        cells = {what: row[place].strip() if place < len(row) else "" for what, place in columns.items()}
        if not cells["latitude"] and not cells["longitude"]:
            continue  # a photograph without a fix
        values = {
            what: _number(cells[what].replace(",", ".") if delimiter == ";" else cells[what], path, number, what)
            for what in ("latitude", "longitude", "height")
            if what != "height" or cells.get(what)
        }
        _add(found, cells["name"], values["latitude"], values["longitude"], values.get("height"), path, number)
    return found


def _columns(header: Sequence[str], path: Path) -> dict[str, int]:
    names = [_heading(cell) for cell in header]
    found: dict[str, int] = {}
    for what, known in (("name", NAMES), ("latitude", LATITUDES), ("longitude", LONGITUDES), ("height", HEIGHTS)):
        place = next((names.index(name) for name in known if name in names), None)
        if place is not None:
            found[what] = place
        elif what != "height":
            hint = nearest(what, names)
            raise InputError(
                f"{path} has no column {what!r}{hint}; its header must name the file, the latitude and the longitude "
                "(degrees of WGS 84), or its first line a coordinate system as in ODM's geo.txt"
            )
    return found


def _heading(cell: str) -> str:
    """A heading in small letters, without its unit and what is not a letter: ``#Image_Name``, ``Latitude [deg]``."""
    return re.sub(r"[^a-z]", "", re.sub(r"[\[(].*|_deg\Z", "", cell.strip().casefold()))


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: {column} {text!r} is not a number")
    return value


def _add(
    found: dict[str, Position],
    name: str,
    latitude: float,
    longitude: float,
    height: float | None,
    path: Path,
    line: int,
) -> None:
    """Adds a row.

    Raises:
        InputError: it has no name, is out of range, or contradicts an earlier row.
    """
    if not name:
        raise InputError(f"{path}, line {line}: the row names no file")
    if not abs(latitude) <= 90 or not abs(longitude) <= 180:
        raise InputError(
            f"{path}, line {line}: latitude {latitude:g} and longitude {longitude:g} are not degrees; "
            "name the coordinate system, or exchange the columns"
        )
    if latitude == 0 and longitude == 0:
        return  # written before there is a fix
    position = Position(latitude, longitude, height, f"file:{path.name}")
    if found.setdefault(name, position) != position:
        raise InputError(f"{path}, line {line}: {name!r} has two positions; keep one")
