"""The header and the values of PLY files, by element and property.

A header's claims are compared with the file's size before anything is read. Elements whose lists are all as long as those of
their first row are read at once, others row by row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render.preflight import check_claims, check_text
from outcrop.render.text import numbers, readable, text_of
from outcrop.schema.errors import MeshError

LONGEST_HEADER = 64 * 1024
TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
ENCODINGS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Property:
    """One value of an element, or a list of them where `counted` is the type of its length. Types are numpy's."""

    name: str
    type: str
    counted: str = ""

    @property
    def least(self) -> int:
        """The fewest bytes that it takes in a binary file."""
        return size_of(self.counted or self.type)

    def as_double(self) -> Property:
        """The property as `read_tables` has it from text: every value and length a double."""
        return Property(self.name, "f8", self.counted and "f8")


@dataclass(frozen=True)
class Element:
    """One kind of thing in the file, and how many of it there are."""

    name: str
    count: int
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True)
class Header:
    """What a file says of itself. `order` is numpy's byte order, '' for text; `start` is where the values begin; `textures` are
    the names of files, as `outcrop.render.text.text_of` gives them."""

    order: str
    elements: tuple[Element, ...]
    textures: tuple[str, ...]
    start: int

    def count(self, name: str) -> int:
        """How many things of a kind the file claims to hold."""
        return sum(element.count for element in self.elements if element.name == name)


@dataclass(frozen=True)
class Lists:
    """Lists of different lengths: `lengths` [N], and all their values one after the other."""

    lengths: NDArray[np.int64]
    values: Numbers


Table = dict[str, Numbers | Lists]


def size_of(type: str) -> int:
    """The bytes that a value of one of the `TYPES` takes."""
    return int(type[1:])


def read_header(data: bytes, name: str) -> Header:
    """The header of a PLY file.

    Raises:
        MeshError: it is not a PLY file, its header is damaged, or it claims more than the file can hold.
    """
    if not data.startswith(b"ply"):
        raise MeshError(f"{name}: does not begin as a PLY file does; export it again")
    line_end = rb"\n" if b"\n" in data[:LONGEST_HEADER].split(b"end_header")[0] else rb"\r"
    end = re.search(line_end + rb"end_header[ \t]*\r?" + line_end, data[:LONGEST_HEADER])
    if end is None:
        raise MeshError(f"{name}: its PLY header has no end; the file is cut short or damaged")
    encoding, textures, elements = _statements(text_of(data[: end.start()]), name)
    if encoding not in ENCODINGS:
        raise MeshError(f"{name}: its PLY header names no known encoding ({encoding[:40]!r}); export it again")
    header = Header(ENCODINGS[encoding], elements, textures, end.end())
    least = sum(e.count * sum(p.least if header.order else 2 for p in e.properties) for e in elements)
    claims = {element.name: element.count for element in elements}
    check_claims(claims, least - (not header.order), len(data) - header.start, name)
    if not header.order:
        check_text(data, name)
    if header.count("tristrips"):
        raise MeshError(f"{name}: holds its triangles in strips; export it with plain faces")
    return header


def _statements(text: str, name: str) -> tuple[str, tuple[str, ...], tuple[Element, ...]]:
    """The encoding, the textures and the elements that a header states."""
    encoding, textures = "", []
    elements: list[Element] = []
    for line in text.split("\n"):
        try:
            match line.split():
                case ["format", encoding, *_]:
                    pass
                case ["comment", "TextureFile" | "texturefile", _, *_]:
                    textures.append(line.split(maxsplit=2)[2].strip())
                case ["element", kind, count]:
                    elements.append(Element(kind, int(count)))
                case ["property", "list", counted, of, property]:
                    _add(elements, Property(property, TYPES[of], TYPES[counted]))
                case ["property", of, property]:
                    _add(elements, Property(property, TYPES[of]))
        except (ValueError, KeyError, IndexError):
            said = readable(line.strip())[:80]
            raise MeshError(f"{name}: its PLY header says {said!r}, which cannot be read") from None
    names = [element.name for element in elements]
    for kind in ("vertex", "face"):
        if names.count(kind) > 1:
            raise MeshError(f"{name}: its PLY header declares {kind!r} twice; it is damaged")
    return encoding, tuple(textures), tuple(elements)


def _add(elements: list[Element], property: Property) -> None:
    elements[-1] = replace(elements[-1], properties=(*elements[-1].properties, property))


def read_tables(data: bytes, header: Header, name: str) -> tuple[dict[str, Table], tuple[str, ...]]:
    """All values, by element and property, and a remark where the file holds more than it declares.

    Raises:
        MeshError: the file ends before they do, or holds something that is not a number.
    """
    tables: dict[str, Table] = {}
    at, order = header.start, header.order
    if not order:  # the numbers of a text are read as a binary file of doubles is
        data, at = numbers(data[header.start :].decode("latin-1"), name).tobytes(), 0
    for element in header.elements:
        if order:
            tables[element.name], at = _table(data, at, order, element, name)
            continue
        doubles = replace(element, properties=tuple(property.as_double() for property in element.properties))
        table, at = _table(data, at, "=", doubles, name)
        tables[element.name] = {p.name: _typed(table[p.name], p.type) for p in element.properties if p.name in table}
    if not data[at:].strip(b"\0 \t\r\n"):
        return tables, ()
    more = f"{len(data) - at:,} bytes" if order else f"{(len(data) - at) // 8:,} numbers"
    return tables, (f"{more} follow after what its header declares: left out",)


def _typed(values: Numbers | Lists, type: str) -> Numbers | Lists:
    """Doubles of a text as the type that the header names, if they all fit into it; else as they are."""
    if isinstance(values, Lists) or type[0] == "f":
        return values
    limits = np.iinfo(type)
    whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    return values.astype(type) if whole and limits.min <= values.min() and values.max() <= limits.max else values


def _table(data: bytes, at: int, order: str, element: Element, name: str) -> tuple[Table, int]:
    """The values of an element that begins at a byte, and where it ends."""
    if not element.count or not element.properties:
        return {}, at
    row = _first_row(data, at, order, element, name)
    if at + element.count * row.itemsize <= len(data):
        rows = np.frombuffer(data, row, element.count, at)
        lengths = {n: row[f"{n}"].shape[0] for n, p in enumerate(element.properties) if p.counted}
        if all((rows[f"{n}#"] == length).all() for n, length in lengths.items()):
            table: Table = {
                p.name: Lists(np.full(element.count, lengths[n], np.int64), rows[f"{n}"].reshape(-1))
                if p.counted
                else rows[f"{n}"]
                for n, p in enumerate(element.properties)
            }
            return table, at + element.count * row.itemsize
    return _ragged(data, at, order, element, name)


def _first_row(data: bytes, at: int, order: str, element: Element, name: str) -> np.dtype[Any]:
    """The layout of an element's first row: a field ``n`` for each property, before it ``n#`` where it has a length."""
    fields: list[Any] = []
    for n, (property, (_, length)) in enumerate(
        zip(element.properties, _row(data, at, order, element, name), strict=True)
    ):
        if property.counted:
            fields += [(f"{n}#", order + property.counted), (f"{n}", order + property.type, (length,))]
        else:
            fields.append((f"{n}", order + property.type))
    return np.dtype(fields)


def _row(data: bytes, at: int, order: str, element: Element, name: str) -> Iterator[tuple[int, int]]:
    """Where the values of each property of a row begin, and how many there are."""
    for property in element.properties:
        length, size = 1, size_of(property.type)
        if property.counted:
            length = _length(data, at, order + property.counted, element, name)
            at += size_of(property.counted)
        if at + size * length > len(data):
            said = f"its {element.count:,} {element.name!r} go past its end"
            if length > 1:
                said = f"one of its {element.name!r} has a list of {length:,} values, which goes past its end"
            raise MeshError(f"{name}: {said}; it is cut short or damaged")
        yield at, length
        at += size * length


def _length(data: bytes, at: int, type: str, element: Element, name: str) -> int:
    """The length of a list that is stated at a byte."""
    if at + size_of(type[1:]) > len(data):
        raise MeshError(f"{name}: its {element.count:,} {element.name!r} go past its end; it is cut short or damaged")
    (length,) = np.frombuffer(data, type, 1, at).tolist()
    if not 0 <= length < 2**32 or length != int(length):
        raise MeshError(f"{name}: one of its {element.name!r} has a list of {length:g} values; it is damaged")
    return int(length)


def _ragged(data: bytes, at: int, order: str, element: Element, name: str) -> tuple[Table, int]:
    """The values of an element whose lists differ in length, row by row, and where it ends."""
    sizes = [size_of(property.type) for property in element.properties]
    parts: list[list[bytes]] = [[] for _ in sizes]
    lengths: list[list[int]] = [[] for _ in sizes]
    for _ in range(element.count):
        for n, (start, length) in enumerate(_row(data, at, order, element, name)):
            at = start + sizes[n] * length
            parts[n].append(data[start:at])
            lengths[n].append(length)
    table: Table = {}
    for property, of_each, counted in zip(element.properties, parts, lengths, strict=True):
        values = np.frombuffer(b"".join(of_each), order + property.type)
        table[property.name] = Lists(np.array(counted, np.int64), values) if property.counted else values
    return table, at
