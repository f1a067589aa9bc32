"""Own columns: what people know of their items beside what Outcrop knows, typed, and kept in the rows of a collection.

A column has a name, as the header of a table has it, and a type: text, number, boolean or date. Its values are in the dynamic
field of the rows, under `Column.key`, so that no column hides a field; a missing value is not there at all. Which columns there
are, and of which types, is a property of the collection.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, get_args

from outcrop.schema.item import CHECKSUM, FIELDS

ColumnType = Literal["text", "number", "boolean", "date"]
TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
ColumnValue = str | float | bool
PREFIX = "own_"
"""What the names of own columns begin with in the rows."""
RESERVED = frozenset((*FIELDS, "id", "vector", "extra", CHECKSUM))
"""Names that no own column has: they mean something else in conditions and in files."""
MAX_COLUMNS = 256
MAX_NAME = 64
"""Characters of a column's name."""
MAX_BYTES = 8192
"""UTF-8 bytes of one text. A row's own columns have 32 KiB together, half of what Milvus takes."""
MAX_ROW_BYTES = 32_768
MISSING = frozenset(("", "nan"))
"""Cells (in small letters) that are missing in any column."""
MISSING_FIGURES = MISSING | {"na", "n/a", "#n/a", "null", "none", "-"}
"""Cells that are missing where numbers, dates or booleans are meant."""
TRUE, FALSE = frozenset(("true", "yes", "y", "1", "t")), frozenset(("false", "no", "n", "0", "f"))
_DATE = re.compile(
    r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(Z|[+-]\d{2}:?\d{2})?)?)?)?\Z"
)


@dataclass(frozen=True)
class Column:
    """One own column."""

    name: str
    type: ColumnType

    @property
    def key(self) -> str:
        """Its name in the rows: an identifier of Milvus's expressions."""
        return key_of(self.name)

    def value(self, cell: object) -> ColumnValue | None:
        """A cell (text of a CSV file, or a value of a Parquet file) as a value of this column; None where it is missing.

        Raises:
            ValueError: it is of another type; the message goes on after the cell ("is not a number").
        """
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return None
        if isinstance(cell, str):
            cell = tidy(cell)
            if cell.casefold() in (MISSING if self.type == "text" else MISSING_FIGURES):
                return None
        match self.type:
            case "text":
                return _text(cell)
            case "number":
                return _number(cell)
            case "boolean":
                return _boolean(cell)
            case "date":
                return _date(cell)


class Columns(Mapping[str, Column]):
    """The own columns of a collection or a table, by name, in their order."""

    def __init__(self, columns: Iterable[Column] = ()) -> None:
        self._columns = {column.name: column for column in columns}

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def keys_in_rows(self) -> list[str]:
        """The names under which rows keep the values."""
        return [column.key for column in self.values()]

    def of(self, extra: Mapping[str, Any]) -> dict[str, ColumnValue]:
        """The values that the dynamic part of a row holds, by the names of their columns."""
        return {column.name: extra[column.key] for column in self.values() if column.key in extra}

    def and_those_of(self, other: Columns) -> Columns:
        """These columns and the others; where both have a name, it is the other's."""
        return Columns({**self, **other}.values())

    def as_text(self) -> str:
        """As a property of a collection."""
        return json.dumps({column.name: column.type for column in self.values()}, ensure_ascii=False)

    @classmethod
    def of_text(cls, text: str | None) -> Columns:
        """The inverse of `as_text`; what cannot be read is left out."""
        try:
            types = json.loads(text or "{}")
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(types, dict):
            return cls()
        return cls(Column(name, kind) for name, kind in types.items() if kind in TYPES)

    def __str__(self) -> str:
        return ", ".join(f"{column.name} ({column.type})" for column in self.values())


def key_of(name: str) -> str:
    """The name in the rows of a column: letters that are not ASCII as ``_u<code>_``."""
    return PREFIX + "".join(c if c.isascii() else f"_u{ord(c):x}_" for c in name)


def name_of(key: str) -> str:
    """The inverse of `key_of`."""
    return re.sub(r"_u([0-9a-f]+)_", lambda found: chr(int(found[1], 16)), key.removeprefix(PREFIX))


def own_of(extra: Mapping[str, Any]) -> dict[str, ColumnValue]:
    """The own columns in the dynamic part of a row, by name, whatever the collection says of them."""
    return {name_of(key): value for key, value in extra.items() if key.startswith(PREFIX)}


def column_name(heading: str) -> str:
    """A heading as the name of a column: NFC, with ``_`` for what conditions could not name (``Age (Ma)`` is ``Age_Ma``).

    Raises:
        ValueError: nothing is left of it, it is too long, or reserved; the message goes on after the heading.
    """
    name = re.sub(r"\W+", "_", unicodedata.normalize("NFC", heading.strip())).strip("_")
    if not name:
        raise ValueError("is not a name; name the column")
    name = f"_{name}" if name[0].isdigit() or not (name[0].isalpha() or name[0] == "_") else name
    if len(name) > MAX_NAME:
        raise ValueError(f"has more than {MAX_NAME} characters; shorten it")
    if name_of(key_of(name)) != name:
        raise ValueError("looks like the way in which other letters are written; rename it")
    return name


def inferred(cells: Iterable[object]) -> ColumnType | None:
    """The narrowest type that all cells fit that are not missing; None where all are missing.

    Whole numbers with leading zeros, or more than 15 digits, are names and not amounts; years alone are numbers.
    """
    found = [cell for cell in cells if not _is_missing(cell)]
    if not found:
        return None
    kinds = {type(cell) for cell in found}
    if kinds == {bool}:
        return "boolean"
    if kinds <= {int, float}:
        return "number" if all(abs(float(cell)) <= 2**53 for cell in found) else "text"  # type: ignore[arg-type]
    if all(issubclass(kind, date) for kind in kinds):  # datetime is one
        return "date"
    if kinds != {str}:
        return "text"
    texts = [tidy(str(cell)) for cell in found]
    if all(text.casefold() in ("true", "false") for text in texts):
        return "boolean"
    if all(_is_amount(text) for text in texts):
        return "number"
    return "date" if all(_is_day(text) for text in texts) else "text"


def tidy(text: str) -> str:
    """A text as it is stored: NFC, stripped, with a blank for control characters (no condition could name them)."""
    text = unicodedata.normalize("NFC", text)
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text).strip()


def day(text: str) -> str:
    """A date or time, whole or its beginning (``2021``, ``2021-05``), as it is stored and compared; UTC where a zone is given.

    Raises:
        ValueError: it is not a date.
    """
    found = _DATE.match(text.strip())
    if not found:
        raise ValueError("is not a date; write YYYY-MM-DD")
    year, month, of_month, hour, minute, second, fraction, zone = found.groups()
    microseconds = int((fraction or "0")[:6].ljust(6, "0"))
    date_of = (int(year), int(month or 1), int(of_month or 1))
    try:
        moment = datetime(*date_of, int(hour or 0), int(minute or 0), int(second or 0), microseconds)
    except ValueError as error:
        raise ValueError(f"is not a date ({error})") from None
    if zone and hour:
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{zone.replace('Z', '+00:00')}")
        try:
            moment = moment.replace(tzinfo=offset.tzinfo).astimezone(UTC).replace(tzinfo=None)
        except OverflowError:
            raise ValueError("is not a date") from None
    whole = moment.isoformat(timespec="microseconds" if moment.microsecond else "seconds")
    if hour:
        return whole if second or fraction else whole[:16]
    return whole[: 10 if of_month else 7 if month else 4]


def _is_missing(cell: object) -> bool:
    if isinstance(cell, str):
        return cell.strip().casefold() in MISSING_FIGURES
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _is_amount(text: str) -> bool:
    if re.fullmatch(r"[+-]?0\d+", text) or len(re.sub(r"[.eE].*|\D", "", text)) > 15:
        return False
    try:
        _number(text)
    except ValueError:
        return False
    return True


def _is_day(text: str) -> bool:
    try:
        return len(day(text)) >= 7
    except ValueError:
        return False


def _text(cell: object) -> str:
    if isinstance(cell, bool):
        return str(cell).lower()
    text = tidy(f"{cell:.17g}" if isinstance(cell, float) and cell.is_integer() else str(cell))
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES} bytes; shorten it")
    return text


def _number(cell: object) -> float:
    if isinstance(cell, bool) or not isinstance(cell, str | int | float) or (isinstance(cell, str) and "_" in cell):
        raise ValueError("is not a number")
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        raise ValueError("is not a number") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value + 0.0  # no -0.0: Milvus Lite does not find it among [0.0, …]


def _boolean(cell: object) -> bool:
    if isinstance(cell, bool):
        return cell
    word = (f"{cell:g}" if isinstance(cell, int | float) else str(cell)).casefold()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError("is neither true nor false")


def _date(cell: object) -> str:
    if isinstance(cell, date):
        return day(cell.isoformat())
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return day(str(cell))
