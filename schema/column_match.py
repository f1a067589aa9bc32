"""Which items the rows of a table are about, and what these then are.

A row is about a *unit*: a photograph with its references, a specimen with its views, a capture, or one item. A name that fits
several units is refused by leaving the row out, and saying so: no value ends up with the wrong fossil.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from outcrop.schema.column_tables import MetadataTable, On, Row
from outcrop.schema.darwin_core import filled
from outcrop.schema.errors import InputError
from outcrop.schema.item import AERIAL, FOSSIL, Item, parent_of

Unit = tuple[str, ...]
"""What a row is about: the dataset, and what names it there."""
SHOWN = 3
"""Names that a remark lists."""


@dataclass(frozen=True)
class Match:
    """A table and the units that its rows are about.

    `unmatched_rows` are names of rows that fit no unit, `unclear_rows` of those that fit several, `unmatched_items` the names of
    units without a row; `units` how many there are.
    """

    table: MetadataTable
    rows: Mapping[Unit, Row] = field(default_factory=dict)
    units: int = 0
    unmatched_rows: Sequence[str] = ()
    unclear_rows: Sequence[str] = ()
    unmatched_items: Sequence[str] = ()

    def of(self, item: Item) -> Item:
        """The item with the values of its row: they replace those of the table's columns, a missing one removes it. Items
        without a row are as they were."""
        row = next((self.rows[unit] for unit in _units(item, self.table.on) if unit in self.rows), None)
        if row is None:
            return item
        extra = {name: value for name, value in item.extra.items() if name not in row.values}
        extra |= {name: value for name, value in row.values.items() if value is not None}
        return filled(replace(item, extra=extra), row.values, self.table.path.name)

    def has(self, item: Item) -> bool:
        """Whether the table has a row for an item."""
        return any(unit in self.rows for unit in _units(item, self.table.on))

    def remarks(self) -> list[str]:
        """What a person should know: how many match, and what does not."""
        name, on = self.table.path.name, self.table.on
        said = [f"{name}: {len(self.rows)} of {len(self.table.rows)} rows match, of {self.units} by {on}"]
        said += _named(name, self.unmatched_rows, f"rows that match nothing by {on}")
        said += _named(name, self.unclear_rows, "rows that fit several and are left out (write keys, and --on key)")
        return said + _named(name, self.unmatched_items, "without a row")

    def as_json(self) -> dict[str, Any]:
        """Plain values, with all names."""
        table = self.table
        return {
            "table": str(table.path),
            "on": table.on,
            "column": table.naming,
            "encoding": table.encoding,
            "columns": {column.name: column.type for column in table.columns.values()},
            "rows": len(table.rows),
            "matched": len(self.rows),
            "unmatched_rows": list(self.unmatched_rows),
            "unclear_rows": list(self.unclear_rows),
            "unmatched_items": list(self.unmatched_items),
            "remarks": list(table.remarks),
        }


def match(table: MetadataTable, items: Iterable[Item]) -> Match:
    """Matches a table with items, of which each unit needs only one.

    Raises:
        InputError: two rows are about the same unit.
    """
    named: dict[str, list[Unit]] = {}
    shown: dict[Unit, str] = {}
    for item in items:
        for unit in _units(item, table.on):
            if unit not in shown:
                shown[unit] = unit[-1]
                for name in _names(unit, item, table.on):
                    named.setdefault(_folded(name), []).append(unit)
    rows: dict[Unit, Row] = {}
    strangers: list[str] = []
    unclear: list[str] = []
    for row in table.rows:
        meant = _meant(row, named, table.on)
        if len(meant) != 1:
            (unclear if meant else strangers).append(row.name)
            continue
        first = rows.setdefault(meant[0], row)
        if first is not row:
            raise InputError(
                f"{table.path}: rows {first.number} and {row.number} are both about {shown[meant[0]]!r}; keep one of them"
            )
    # A key's references and views are parts of its unit, whether or not they could have rows of their own.
    whole = [unit for unit in shown if table.on != "key" or parent_of(unit[-1]) == unit[-1]]
    silent = [shown[unit] for unit in whole if unit not in rows]
    return Match(table, rows, len(whole), strangers, unclear, silent)


def _meant(row: Row, named: Mapping[str, Sequence[Unit]], on: On) -> Sequence[Unit]:
    """The units that a row's name fits; one whose whole name it is comes before those whose part it is."""
    path = PurePosixPath(row.name.replace("\\", "/"))
    for name in (row.name, path.as_posix(), path.name) if on == "source" else (row.name,):
        found = [unit for unit in named.get(_folded(name), ()) if row.dataset in ("", unit[0])]
        exact = [unit for unit in found if _folded(unit[-1]) == _folded(name)]
        if found:
            return exact or found
    return ()


def _units(item: Item, on: On) -> Iterator[Unit]:
    """The units of an item, the narrowest first; none where the table is not about its kind."""
    match on:
        case "key":
            yield (item.dataset, item.key)
            if (parent := parent_of(item.key)) != item.key:
                yield (item.dataset, parent)
        case "source" if item.source:
            yield (item.dataset, item.source)
        case "capture" if item.kind in AERIAL:
            yield (item.dataset, item.capture_id)
        case "specimen" if item.kind in FOSSIL:
            yield (item.dataset, parent_of(item.key))


def _names(unit: Unit, item: Item, on: On) -> set[str]:
    """The names by which a table may call a unit."""
    if on == "source":
        path = PurePosixPath(item.source)
        return {item.source, path.name, path.stem}
    if on == "specimen":
        levels = unit[-1].removeprefix("specimen/").partition("/")[2]
        return {unit[-1], levels, item.capture_id}
    return {unit[-1]}


def _named(table: str, names: Sequence[str], what: str) -> list[str]:
    more = ", …" if len(names) > SHOWN else ""
    return [f"{table}: {what}: {len(names)} ({', '.join(names[:SHOWN])}{more})"] if names else []


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
