"""Tables of metadata, understood: which column names the items, which columns are kept, their types, and every cell checked.

A heading may declare a type, ``age_ma:number``; ``:skip`` leaves a column out. What a collection has already keeps its type, and
other columns have the narrowest type that all their cells fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from outcrop.schema.column_files import TableFile, read_table_file
from outcrop.schema.columns import (
    MAX_COLUMNS,
    RESERVED,
    TYPES,
    Column,
    Columns,
    ColumnType,
    ColumnValue,
    column_name,
    inferred,
    tidy,
)
from outcrop.schema.darwin_core import fault_of, fills
from outcrop.schema.errors import InputError, nearest

On = Literal["key", "source", "specimen", "capture"]
ONS: tuple[On, ...] = get_args(On)
NAMING: Mapping[str, tuple[str, ...]] = {
    "key": ("key",),
    "source": ("source", "file", "filename", "file_name", "image", "photo", "path"),
    "specimen": ("specimen", "specimen_id", "specimenid", "catalognumber", "occurrenceid"),
    "capture": ("capture", "capture_id", "captureid"),
}
"""Names (in small letters) of the column that says which items a row is about."""
KEPT_NAMES = ("catalognumber", "occurrenceid")
"""Those of them that are own columns too."""
SHOWN = 3
"""Wrong cells that a message names."""


@dataclass(frozen=True)
class Row:
    """One row: its number, what it names, its dataset ('' = any), and its values by their columns' keys (None = missing)."""

    number: int
    name: str
    dataset: str
    values: Mapping[str, ColumnValue | None]


@dataclass(frozen=True)
class MetadataTable:
    """A table that was read whole and checked; `remarks` are what a person should know of it."""

    path: Path
    on: On
    naming: str
    columns: Columns
    rows: Sequence[Row]
    encoding: str = ""
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.path.name}: {len(self.rows)} rows by {self.on} (column {self.naming!r}), columns: {self.columns or 'none'}"


def read_metadata(
    path: Path, on: str | None = None, encoding: str | None = None, known: Columns = Columns()
) -> MetadataTable:
    """Reads a table. `on` says what its rows are about, ``source``, ``key``, ``capture`` or ``specimen``, with ``=COLUMN`` where
    another column names it (None: what the header names). `known` are the columns that the collection has.

    Raises:
        InputError: the table cannot be read, names nothing, names something twice, or a cell is of another type.
    """
    file = read_table_file(path, encoding)
    plain, declared = _headings(file)
    meaning, place = _naming(file, plain, on)
    dataset = next((n for n, name in enumerate(plain) if name.casefold() == "dataset" and n != place), None)
    places, remarks = _kept(file, plain, declared, place)
    types, notes = _types(file, places, declared, known)
    columns = Columns(Column(name, types[name]) for name in types)
    rows = _rows(file, columns, places, place, dataset)
    _require_distinct(file, rows, plain[place])
    return MetadataTable(
        path,
        meaning,
        plain[place],
        columns,
        rows,
        file.encoding,
        (*file.remarks, *remarks, *notes, *fills(columns, path)),
    )


def _headings(file: TableFile) -> tuple[list[str], list[str]]:
    """The headings without types, and the types that they declare ('' = none)."""
    plain, declared = [], []
    for heading in file.header:
        name, _, kind = heading.rpartition(":")
        kind = kind.strip().casefold()
        if name and kind not in (*TYPES, "skip") and (hint := nearest(kind, TYPES, 0.7)):
            raise InputError(
                f"{file.path}, column {heading!r}: {kind!r} is not a type{hint} The types are {', '.join(TYPES)}, and skip, "
                "which leaves the column out"
            )
        typed = bool(name) and kind in (*TYPES, "skip")
        plain.append((name if typed else heading).strip().removeprefix("dwc:"))
        declared.append(kind if typed else "")
    return plain, declared


def _naming(file: TableFile, plain: Sequence[str], on: str | None) -> tuple[On, int]:
    """What rows are about, and the place of the column that names it."""
    small = [name.casefold() for name in plain]
    wanted, equals, column = (on or "").partition("=")
    if on is not None and wanted not in ONS:
        raise InputError(f"--on must be one of {', '.join(ONS)}, got {wanted!r}{nearest(wanted, ONS)}")
    if equals:
        if column not in plain:
            raise InputError(
                f"{file.path} has no column {column!r}{nearest(column, plain)}; correct --on {wanted}=COLUMN"
            )
        return _on(wanted), plain.index(column)
    for meaning in ONS if on is None else (wanted,):
        for name in NAMING[meaning]:
            if name in small:
                return _on(meaning), small.index(name)
    if on is None:
        raise InputError(
            f"{file.path} has no column that names items (such as source, key, specimen, capture, catalogNumber); "
            "say which does, as in --on source=COLUMN"
        )
    raise InputError(
        f"{file.path} has no column named {', '.join(NAMING[wanted])}; say which column it is, as in --on {wanted}=COLUMN"
    )


def _on(name: str) -> On:
    return next(each for each in ONS if each == name)


def _kept(
    file: TableFile, plain: Sequence[str], declared: Sequence[str], naming: int
) -> tuple[dict[str, int], list[str]]:
    """The places of the own columns by their names, and what to say of the others."""
    places: dict[str, int] = {}
    fields: list[str] = []
    renamed: list[str] = []
    listed = {name for names in NAMING.values() for name in names if name not in KEPT_NAMES}
    for place, heading in enumerate(plain):
        if declared[place] == "skip" or (place == naming and heading.casefold() in listed):
            continue
        if not heading and not any(place < len(cells) and str(cells[place] or "").strip() for _, cells in file.cells):
            continue
        try:
            name = column_name(heading)
        except ValueError as error:
            raise InputError(f"{file.path}, column {place + 1}: {heading!r} {error}") from None
        if name in RESERVED:
            fields += [name] if name != "dataset" and name not in ("id", "vector") else []
            continue
        if name in places:
            raise InputError(
                f"{file.path}: columns {plain[places[name]]!r} and {heading!r} would both be {name!r}; rename one"
            )
        places[name] = place
        renamed += [f"{heading!r} as {name}"] if name != heading else []
    if len(places) > MAX_COLUMNS:
        raise InputError(f"{file.path} has {len(places)} columns; {MAX_COLUMNS} are possible, so mark some with :skip")
    said = (
        [f"{file.path.name}: not read, since fields of every item have these names: {', '.join(fields)}"]
        if fields
        else []
    )
    return places, said + (
        [f"{file.path.name}: columns are named so that conditions can name them: {', '.join(renamed)}"]
        if renamed
        else []
    )


def _types(
    file: TableFile, places: Mapping[str, int], declared: Sequence[str], known: Columns
) -> tuple[dict[str, ColumnType], list[str]]:
    """The types of the own columns, as declared, known or inferred; columns without any value are left out where none is."""
    types: dict[str, ColumnType] = {}
    empty: list[str] = []
    for name, place in places.items():
        given = next((kind for kind in TYPES if kind == declared[place]), None)
        if name in known and given not in (None, known[name].type):
            raise InputError(
                f"{file.path}: column {name!r} is declared as {given}, but the collection has it as {known[name].type}; "
                "declare that, or rename the column"
            )
        kind = given or (known[name].type if name in known else None)
        kind = kind or inferred(_point(file, cell) for _, cell in _column(file, place))
        if kind is None:
            empty.append(name)
        else:
            types[name] = kind
    return types, [f"{file.path.name}: columns without any value are left out: {', '.join(empty)}"] if empty else []


def _column(file: TableFile, place: int) -> Iterator[tuple[int, Any]]:
    return ((number, cells[place] if place < len(cells) else None) for number, cells in file.cells)


def _point(file: TableFile, cell: Any) -> Any:
    """A cell with a decimal point where the table has commas for it."""
    if not file.decimal_comma or not isinstance(cell, str) or cell.count(",") != 1:
        return cell
    whole, _, rest = cell.strip().partition(",")
    return f"{whole}.{rest}" if whole.lstrip("+-").isdigit() and rest.isdigit() else cell


def _rows(file: TableFile, columns: Columns, places: Mapping[str, int], naming: int, dataset: int | None) -> list[Row]:
    """Every row with typed values.

    Raises:
        InputError: cells are of another type, or a row names nothing; the first of them are named by row and column.
    """
    rows: list[Row] = []
    wrong: list[str] = []
    kept = [
        (column, places[column.name], file.decimal_comma and column.type == "number") for column in columns.values()
    ]
    for number, cells in file.cells:
        name = _cell_text(cells, naming)
        if not name:
            wrong.append(f"row {number}, column {file.header[naming]!r}: the cell is empty, so the row names nothing")
        values: dict[str, ColumnValue | None] = {}
        for column, place, comma in kept:
            cell = cells[place] if place < len(cells) else None
            try:
                values[column.key] = column.value(_point(file, cell) if comma else cell)
            except ValueError as error:
                wrong.append(f"row {number}, column {column.name!r}: {str(cell)[:60]!r} {error}")
        if fault := fault_of(values):
            wrong.append(f"row {number}, {fault}")
        rows.append(Row(number, name, _cell_text(cells, dataset), values))
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more cells" if len(wrong) > SHOWN else ""
        raise InputError(f"{file.path}, {'; '.join(wrong[:SHOWN])}{more}. Nothing was changed")
    return rows


def _cell_text(cells: Sequence[Any], place: int | None) -> str:
    if place is None or place >= len(cells) or cells[place] is None:
        return ""
    cell = cells[place]
    return tidy(str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell))


def _require_distinct(file: TableFile, rows: Sequence[Row], column: str) -> None:
    """Refuses a table in which two rows name the same."""
    first: dict[tuple[str, str], int] = {}
    twice = [
        f"rows {first[place]} and {row.number} both name {row.name!r}"
        for row in rows
        if first.setdefault(place := (row.dataset, row.name.casefold()), row.number) != row.number
    ]
    if twice:
        more = f" (and {len(twice) - SHOWN} more)" if len(twice) > SHOWN else ""
        raise InputError(f"{file.path}, column {column!r}: {'; '.join(twice[:SHOWN])}{more}; keep one row each")
