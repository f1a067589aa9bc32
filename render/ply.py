"""Reads PLY files (G. Turk, The PLY polygon file format, 1994), text and binary, strictly.

The one format with a reader of our own: it is what most scans come in, and the readers of the libraries tried either end the
process on a damaged file (Open3D), or refuse polygons of different sizes and keep what there is of a file that is cut short
(trimesh). A header's claims are held against the file's size before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import MeshError

LONGEST_HEADER = 64 * 1024
MAX_CORNERS = 64
"""Of one polygon: more is a damaged count."""
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
        return int(np.dtype(self.counted or self.type).itemsize)


@dataclass(frozen=True)
class Element:
    """One kind of thing in the file, and how many of it there are."""

    name: str
    count: int
    properties: tuple[Property, ...]


@dataclass(frozen=True)
class Header:
    """What a file says of itself. `order` is numpy's byte order, '' for text; `start` is where the values begin."""

    order: str
    elements: tuple[Element, ...]
    texture: str
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


def read_header(data: bytes, name: str) -> Header:
    """The header of a PLY file, its claims held against the file's size.

    Raises:
        MeshError: it is no PLY file, its header is damaged, or it claims more than the file can hold.
    """
    if not data.startswith(b"ply"):
        raise MeshError(f"{name}: does not begin as a PLY file does; export it again")
    end = re.search(rb"^end_header[ \t]*\r?\n", data[:LONGEST_HEADER], re.MULTILINE)
    if end is None:
        raise MeshError(f"{name}: its PLY header has no end; the file is cut short or damaged")
    encoding, texture = "", ""
    elements: list[Element] = []
    for line in data[: end.start()].decode("utf-8", "replace").splitlines():
        try:
            match line.split():
                case ["format", encoding, *_]:
                    pass
                case ["comment", "TextureFile" | "texturefile", *rest]:
                    texture = texture or " ".join(rest)
                case ["element", kind, count]:
                    elements.append(Element(kind, int(count), ()))
                case ["property", "list", counted, of, property]:
                    _add(elements, Property(property, TYPES[of], TYPES[counted]))
                case ["property", of, property]:
                    _add(elements, Property(property, TYPES[of]))
        except (ValueError, KeyError, IndexError):
            raise MeshError(f"{name}: its PLY header says {line.strip()[:80]!r}, which cannot be read") from None
    if encoding not in ENCODINGS:
        raise MeshError(f"{name}: its PLY header names no known encoding ({encoding[:40]!r}); export it again")
    if any(element.count < 0 for element in elements):
        raise MeshError(f"{name}: its PLY header claims a negative number of things; it is damaged")
    header = Header(ENCODINGS[encoding], tuple(elements), texture, end.end())
    least = sum(e.count * sum(p.least if header.order else 2 for p in e.properties) for e in elements) - (
        not header.order
    )
    if least > len(data) - header.start:
        claimed = ", ".join(f"{element.count:,} of {element.name!r}" for element in elements)
        raise MeshError(
            f"{name}: claims {claimed}, at least {least:,} bytes, but {len(data) - header.start:,} follow; "
            "it is cut short, or its counts are false"
        )
    if header.count("tristrips"):
        raise MeshError(f"{name}: holds its triangles in strips; export it with plain faces")
    return header


def read_tables(data: bytes, header: Header, name: str) -> dict[str, Table]:
    """All values, by element and property.

    Raises:
        MeshError: the file ends before they do, or holds what is no number.
    """
    tables: dict[str, Table] = {}
    if header.order:
        at = header.start
        for element in header.elements:
            tables[element.name], at = _binary(data, at, element, header.order, name)
        return tables
    try:
        words = np.fromstring(data[header.start :].decode("ascii"), sep=" ")
    except (ValueError, UnicodeDecodeError):
        raise MeshError(f"{name}: holds something among its numbers that is none; it is damaged") from None
    at = 0
    for element in header.elements:
        tables[element.name], at = _text(words, at, element, name)
    return tables


def _add(elements: list[Element], property: Property) -> None:
    last = elements[-1]
    elements[-1] = Element(last.name, last.count, (*last.properties, property))


def _binary(data: bytes, at: int, element: Element, order: str, name: str) -> tuple[Table, int]:
    """The values of an element that begins at a byte, and where it ends."""
    if not element.count:
        return {}, at
    lengths = _first_lengths(data, at, element, order, name)
    row = np.dtype(
        [
            field
            for n, (property, length) in enumerate(zip(element.properties, lengths, strict=True))
            for field in (
                [(f"{n}", order + property.type)]
                if not property.counted
                else [(f"{n}#", order + property.counted), (f"{n}", order + property.type, (length,))]
            )
        ]
    )
    if at + element.count * row.itemsize <= len(data):
        rows = np.frombuffer(data, row, element.count, at)
        if all(not p.counted or (rows[f"{n}#"] == lengths[n]).all() for n, p in enumerate(element.properties)):
            table: Table = {
                p.name: rows[f"{n}"]
                if not p.counted
                else Lists(np.full(element.count, lengths[n], np.int64), rows[f"{n}"].reshape(-1))
                for n, p in enumerate(element.properties)
            }
            return table, at + element.count * row.itemsize
    return _ragged(element, _byte_rows(data, at, element, order, name))


def _first_lengths(data: bytes, at: int, element: Element, order: str, name: str) -> list[int]:
    """The lengths of the lists of an element's first row; 0 for plain properties."""
    lengths = []
    for property in element.properties:
        length = 0
        if property.counted:
            length = _integer(data, at, order + property.counted, element, name)
            at += np.dtype(property.counted).itemsize
        at += np.dtype(property.type).itemsize * (length if property.counted else 1)
        lengths.append(length)
    return lengths


def _integer(data: bytes, at: int, type: str, element: Element, name: str) -> int:
    """The length of a list that stands at a byte."""
    if at + np.dtype(type).itemsize > len(data):
        raise _past_end(element, name)
    length = int(np.frombuffer(data, type, 1, at)[0])
    if not 0 <= length <= MAX_CORNERS:
        raise MeshError(f"{name}: one of its {element.name!r} has a list of {length:,} values; it is damaged")
    return length


def _byte_rows(data: bytes, at: int, element: Element, order: str, name: str) -> Iterator[tuple[list[Numbers], int]]:
    """The values of each row of an element whose lists differ in length, and where the row ends."""
    for _ in range(element.count):
        row = []
        for property in element.properties:
            length = 1
            if property.counted:
                length = _integer(data, at, order + property.counted, element, name)
                at += np.dtype(property.counted).itemsize
            size = np.dtype(property.type).itemsize * length
            if at + size > len(data):
                raise _past_end(element, name)
            row.append(np.frombuffer(data, order + property.type, length, at))
            at += size
        yield row, at


def _text(words: NDArray[np.float64], at: int, element: Element, name: str) -> tuple[Table, int]:
    """The values of an element that begins at a word, and where it ends."""
    if not element.count:
        return {}, at
    plain = not any(property.counted for property in element.properties)
    width = len(element.properties)
    if plain:
        if at + element.count * width > len(words):
            raise _past_end(element, name)
        block = words[at : at + element.count * width].reshape(element.count, width)
        return {p.name: block[:, n].astype(p.type) for n, p in enumerate(element.properties)}, at + block.size
    if width == 1 and at < len(words):  # the usual faces: all of one length?
        length = _length(words[at], element, name)
        size = element.count * (1 + length)
        block = words[at : at + size]
        if len(block) == size and (block.reshape(-1, 1 + length)[:, 0] == length).all():
            only = element.properties[0]
            values = block.reshape(-1, 1 + length)[:, 1:].reshape(-1)
            return {only.name: Lists(np.full(element.count, length, np.int64), values)}, at + size
    return _ragged(element, _word_rows(words, at, element, name))


def _word_rows(words: NDArray[np.float64], at: int, element: Element, name: str) -> Iterator[tuple[list[Numbers], int]]:
    for _ in range(element.count):
        row: list[Numbers] = []
        for property in element.properties:
            length = 1
            if property.counted:
                if at >= len(words):
                    raise _past_end(element, name)
                length = _length(words[at], element, name)
                at += 1
            if at + length > len(words):
                raise _past_end(element, name)
            row.append(words[at : at + length])
            at += length
        yield row, at


def _length(word: float, element: Element, name: str) -> int:
    if not 0 <= word <= MAX_CORNERS or word != int(word):
        raise MeshError(f"{name}: one of its {element.name!r} has a list of {word:g} values; it is damaged")
    return int(word)


def _ragged(element: Element, rows: Iterator[tuple[list[Numbers], int]]) -> tuple[Table, int]:
    """The values of rows, by property, and where the last one ends."""
    columns: list[list[Numbers]] = [[] for _ in element.properties]
    at = 0
    for row, at in rows:  # noqa: B007  the last end is wanted
        for column, values in zip(columns, row, strict=True):
            column.append(values)
    table: Table = {}
    for property, column in zip(element.properties, columns, strict=True):
        values = np.concatenate(column)
        lengths = np.array([len(part) for part in column], np.int64)
        table[property.name] = Lists(lengths, values) if property.counted else values
    return table, at


def _past_end(element: Element, name: str) -> MeshError:
    return MeshError(f"{name}: its {element.count:,} {element.name!r} go past its end; it is cut short or damaged")


def fans(lists: Lists) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Polygons as triangles: the places of their corners among `lists.values`, [T, 3], and the polygon of each, [T]."""
    starts = np.concatenate([[0], np.cumsum(lists.lengths)[:-1]])
    triangles = np.maximum(lists.lengths - 2, 0)
    polygon = np.repeat(np.arange(len(lists.lengths)), triangles)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    first = starts[polygon]
    return np.stack([first, first + step + 1, first + step + 2], axis=1), polygon
