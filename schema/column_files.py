"""Tables of metadata as files, CSV, TSV or Parquet: which encoding, header, records. What the cells mean is decided elsewhere.

Rows are numbered as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.schema.errors import InputError
from outcrop.schema.files import at_hand

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
MAX_BYTES = 2**30
"""Bytes of a table; a larger one is hardly metadata."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes; exported ones have an apostrophe before it."""
ENCODINGS = ("cp949", "shift_jis", "cp1252")
"""Tried where a file is not UTF-8."""


@dataclass(frozen=True)
class TableFile:
    """A table as its file has it: `cells` are (number of the row, one value a column); `encoding` is '' for Parquet."""

    path: Path
    header: Sequence[str]
    cells: Sequence[tuple[int, Sequence[Any]]]
    encoding: str = ""
    decimal_comma: bool = False
    remarks: tuple[str, ...] = ()


def read_table_file(path: Path, encoding: str | None = None) -> TableFile:
    """Reads a table.

    Raises:
        InputError: it cannot be read, has no header, two columns of one name, or a row with more cells than the header.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} must be a table that ends in .csv, .tsv or .parquet; save a spreadsheet as CSV (UTF-8)"
        )
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"no table at {path} ({error.strerror}); correct its path") from None
    if size > MAX_BYTES:
        raise InputError(f"{path} has {size} bytes, more than {MAX_BYTES}; split the table")
    table = _parquet(path) if path.suffix.lower() == ".parquet" else _text_table(path, encoding)
    doubled = sorted({name for name in table.header if table.header.count(name) > 1 and name})
    if doubled:
        raise InputError(f"{path} has two columns named {doubled[0]!r}; rename one of them")
    if not table.cells:
        raise InputError(f"{path} has no row below its header")
    return table


def harmless(value: Any) -> Any:
    """A value as a cell that no spreadsheet computes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def _text_table(path: Path, encoding: str | None) -> TableFile:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    text, used, remarks = _decoded(data, path, encoding)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max((",", ";", "\t"), key=first.count)
    header: list[str] = []
    cells: list[tuple[int, Sequence[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    for number, row in _records(reader, path):
        if not any(cell.strip() for cell in row):
            continue
        if not header:
            header = [cell.strip() for cell in row]
            continue
        extra = [cell for cell in row[len(header) :] if cell.strip()]
        if extra:
            raise InputError(
                f"{path}, row {number} has more cells than the header ({extra[0][:60]!r}); quote its commas"
            )
        cells.append((number, [_unescaped(cell) for cell in row[: len(header)]]))
    if not header:
        raise InputError(f"{path} is empty; its first row must name the columns")
    return TableFile(path, header, cells, used, delimiter == ";", remarks)


def _records(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        for number, row in enumerate(reader, 1):
            yield number, row
    except csv.Error as error:
        raise InputError(f"{path}, row {number + 1} is not CSV ({error})") from None


def _unescaped(cell: str) -> str:
    """A cell without the apostrophe that keeps a spreadsheet from computing it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULAS) else cell


def _decoded(data: bytes, path: Path, encoding: str | None) -> tuple[str, str, tuple[str, ...]]:
    """The text, its encoding, and what to say of it."""
    if encoding is not None:
        try:
            codecs.lookup(encoding)
            return data.decode(encoding).removeprefix("\ufeff"), encoding, ()
        except LookupError:
            raise InputError(f"--encoding {encoding!r} is not known; write utf-8, cp949 or shift_jis") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not {encoding}: byte {error.start} does not fit; correct --encoding") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16"), "utf-16", (f"{path.name} is read as UTF-16",)
        except UnicodeDecodeError:
            raise InputError(f"{path} begins as UTF-16 does, but is not; save it as CSV (UTF-8)") from None
    try:
        return data.decode("utf-8-sig"), "utf-8", ()
    except UnicodeDecodeError:
        pass
    found = [(score, name, text) for name in ENCODINGS for score, text in _tried(data, name)]
    if not found:
        raise InputError(f"{path} is not UTF-8, nor CP949 or Shift-JIS; name its encoding with --encoding")
    _, name, text = max(found, key=lambda each: (each[0], -ENCODINGS.index(each[1])))
    return text, name, (f"{path.name} is not UTF-8 and is read as {name}; --encoding says otherwise",)


def _tried(data: bytes, encoding: str) -> Iterator[tuple[float, str]]:
    """The text in an encoding, with how much of what is not ASCII is common in its languages; nothing where it does not fit."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return
    foreign = [ord(c) for c in text if ord(c) > 127]
    yield sum(_plausible(code, encoding) for code in foreign) / max(1, len(foreign)), text


def _plausible(code: int, encoding: str) -> float:
    if encoding == "cp949":
        return (1.0 if 0xAC00 <= code <= 0xD7A3 else 0.3) if _is_common_korean(chr(code)) else 0.0
    if encoding == "shift_jis":
        return 1.0 if 0x3040 <= code <= 0x30FF else 0.6 if 0x4E00 <= code <= 0x9FFF or 0x3000 <= code <= 0x303F else 0.0
    return 0.5 if 0xC0 <= code <= 0xFF or code == 0xB0 else 0.0


def _is_common_korean(letter: str) -> bool:
    """Whether a letter is of KS X 1001; the rest of CP949, syllables that nobody writes, is what Japanese kana look like."""
    try:
        return len(letter.encode("euc_kr")) == 2  # longer where it is put together
    except UnicodeEncodeError:
        return False


def _parquet(path: Path) -> TableFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with (
            at_hand(path) as here,
            pq.ParquetFile(here) as file,
        ):  # not `read_table`: folders named a=b would become columns
            table = file.read()
        wrong = [field.name for field in table.schema if not _is_plain(field.type)]
        if wrong:
            raise InputError(
                f"{path}: column {wrong[0]!r} is of type {table.schema.field(wrong[0]).type}; leave it out"
            )
        columns = [_values(column) for column in table.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0][:160]})") from None
    rows = list(enumerate(zip(*columns, strict=True), 2))
    return TableFile(path, list(table.schema.names), rows)


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return any(test(kind) for test in (*tests, types.is_date, types.is_timestamp, types.is_decimal, types.is_null))


def _values(column: Any) -> list[Any]:
    import pyarrow as pa
    import pyarrow.types as types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif types.is_timestamp(kind):  # Python knows no nanoseconds
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    return list(column.to_pylist())
