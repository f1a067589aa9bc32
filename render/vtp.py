"""Reads VTP files (VTK's XML format for PolyData): `read_vtp`.

The format: https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html.

Arrays may be text, base64 or appended behind the XML, and compressed by zlib or LZMA. Colours are arrays named ``RGB``, ``RGBA``,
``Colors`` or ``colors``, of the points or the cells, else three or four bytes each that the file marks as its scalars.
"""

from __future__ import annotations

import base64
import binascii
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render.colours import colour_bytes
from outcrop.render.polygons import Bytes, Integers, runs, starts_of
from outcrop.render.preflight import MAX_BYTES, check_claims, check_size
from outcrop.render.scenes import Part, Piece, Scene
from outcrop.render.text import numbers
from outcrop.render.xml_files import Element, tree_of
from outcrop.schema.errors import MeshError

_TYPES = {
    **{f"{kind}{8 * size}": f"{kind[0].lower()}{size}" for kind in ("Int", "UInt") for size in (1, 2, 4, 8)},
    "Float32": "f4",
    "Float64": "f8",
}
COLOURS = ("RGB", "RGBA", "Colors", "colors")


def read_vtp(path: Path, data: bytes) -> Scene:
    """The contents of a VTP file.

    Raises:
        MeshError: it is not one, or is damaged.
    """
    name = str(path)
    text, appended, raw = _split(data)
    root = tree_of(text, name)
    if root.tag != "VTKFile" or root.get("type") != "PolyData":
        raise MeshError(
            f"{name}: holds {root.get('type') or root.tag!r}, not PolyData of VTK; export its surface as VTP or PLY"
        )
    pieces = root.findall("PolyData/Piece")
    if not pieces:
        raise MeshError(f"{name}: holds no piece of PolyData; it is damaged")
    arrays = _Arrays(name, root, appended, raw)
    scene = Scene([])
    scene.parts = [Part("all", lambda: [_piece(each, arrays, scene) for each in pieces])]
    return scene


def _split(data: bytes) -> tuple[bytes, bytes, bool]:
    """The XML by itself, the data appended behind it, and whether these are bytes as they are (else base64)."""
    at = data.find(b"<AppendedData")
    if at < 0:
        return data, b"", False
    begin = data.find(b">", at)
    mark = data.find(b"_", begin)
    if begin < 0 or mark < 0:
        return data, b"", False
    return data[:at] + b"</VTKFile>", data[mark + 1 :], b"raw" in data[at:begin]


def _piece(piece: Element, arrays: _Arrays, scene: Scene) -> Piece:
    points = piece.find("Points/DataArray")
    if points is None:
        raise MeshError(f"{arrays.name}: a piece of it has no points; it is damaged")
    places = arrays.values(points, 3).astype(np.float64)
    check_size(len(places), 0, arrays.name)
    lengths, corners = _cells(piece.find("Polys"), arrays)
    before = sum(int(piece.get(count, 0) or 0) for count in ("NumberOfVerts", "NumberOfLines"))
    strips = _strips(*_cells(piece.find("Strips"), arrays))
    polys = len(lengths)
    lengths, corners = np.concatenate([lengths, np.full(len(strips), 3)]), np.concatenate([corners, strips.ravel()])
    check_size(len(places), int(np.maximum(lengths - 2, 0).sum()), arrays.name)
    colours, remarks = _colours(piece.find("PointData"), arrays, len(places), 0)
    scene.remarks += remarks
    if colours is None and polys and not len(strips):
        of_cells, remarks = _colours(piece.find("CellData"), arrays, polys, before)
        if of_cells is not None and corners.size and corners.min() >= 0 and corners.max() < len(places):
            scene.remarks += remarks
            places, colours = places[corners], np.repeat(of_cells, lengths, axis=0)
            corners = np.arange(len(corners))
    return Piece(places, lengths, corners, colours)


def _cells(cells: Element | None, arrays: _Arrays) -> tuple[Integers, Integers]:
    """Lengths and corners of cells."""
    named = {each.get("Name"): each for each in cells.findall("DataArray")} if cells is not None else {}
    if "offsets" not in named or "connectivity" not in named:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ends, corners = (arrays.values(named[each], 1)[:, 0].astype(np.int64) for each in ("offsets", "connectivity"))
    lengths = np.diff(ends, prepend=0)
    if len(lengths) and (lengths.min() < 0 or ends[-1] > len(corners)):
        raise MeshError(f"{arrays.name}: its cells claim corners that do not follow; it is cut short or damaged")
    return lengths, corners[: int(lengths.sum())]


def _strips(lengths: Integers, corners: Integers) -> Integers:
    """Strips as triangles, [T, 3]: every second one runs the other way round."""
    count = np.maximum(lengths - 2, 0)
    first = np.repeat(starts_of(lengths), count)
    step = runs(np.zeros(len(count), np.int64), count)
    made = corners[(first + step)[:, None] + np.arange(3)] if len(first) else np.empty((0, 3), np.int64)
    made[step % 2 == 1] = made[step % 2 == 1, ::-1]
    return made


def _colours(data: Element | None, arrays: _Arrays, count: int, before: int) -> tuple[Bytes | None, tuple[str, ...]]:
    """Colours of points or cells, None where the file has none."""
    found = data.findall("DataArray") if data is not None else []
    chosen = [each for name in COLOURS for each in found if each.get("Name") == name]
    scalars = data.get("Scalars") if data is not None else None
    chosen += [each for each in found if scalars and each.get("Name") == scalars and each.get("type") == "UInt8"]
    for each in chosen:
        width = int(each.get("NumberOfComponents", 1) or 1)
        if width not in (3, 4):
            continue
        values = arrays.values(each, width)[before : before + count, :3]
        if len(values) == count:
            return colour_bytes(values)
    return None, ()


@dataclass(frozen=True)
class _Arrays:
    """Reads the arrays of a file."""

    name: str
    root: Element
    appended: bytes
    raw: bool

    def values(self, array: Element, width: int) -> NDArray[Any]:
        """The numbers of an array, [N, width].

        Raises:
            MeshError: it is damaged, or compressed by what is not read.
        """
        kind = _TYPES.get(array.get("type", ""))
        if kind is None:
            raise MeshError(f"{self.name}: holds numbers of the unknown type {array.get('type')!r}; it is damaged")
        if int(array.get("NumberOfComponents", 1) or 1) != width:
            raise MeshError(
                f"{self.name}: an array of it has not {width} numbers for each point or cell; it is damaged"
            )
        order = ">" if self.root.get("byte_order") == "BigEndian" else "<"
        match array.get("format", "ascii"):
            case "ascii":
                found: NDArray[Any] = numbers(" ".join((array.text or "").split()), self.name).astype(kind)
            case "binary":
                found = np.frombuffer(self._decoded((array.text or "").encode(), False), order + kind)
            case _:
                start = int(array.get("offset", 0))
                if not 0 <= start < max(1, len(self.appended)):
                    raise MeshError(f"{self.name}: its appended data are missing; it is cut short")
                found = np.frombuffer(self._decoded(self.appended[start:], self.raw), order + kind)
        return found[: len(found) // width * width].reshape(-1, width)

    def _decoded(self, data: bytes, raw: bool) -> bytes:
        """The bytes of an array: behind a header of counts, whole or in compressed blocks."""
        size = 8 if self.root.get("header_type") == "UInt64" else 4
        packing = self.root.get("compressor", "")
        take = _Taken(data.lstrip() if not raw else data, raw, self.name)
        if not packing:
            length = self._counts(take.bytes(size, keep=True), size)[0]
            check_claims({"byte": length}, length, len(take), self.name)
            return take.bytes(size + length)[size:]
        blocks, full, last = self._counts(take.bytes(3 * size, keep=True), size)
        check_claims({"block": blocks}, blocks * size, len(take), self.name)
        if blocks * full > MAX_BYTES or last > MAX_BYTES:
            raise MeshError(
                f"{self.name}: claims {blocks:,} blocks of {full:,} bytes, more than can be read; it is damaged"
            )
        sizes = self._counts(take.bytes((3 + blocks) * size), size)[3:]
        check_claims({"byte": sum(sizes)}, sum(sizes), len(take), self.name)
        packed, found, at = take.bytes(sum(sizes)), [], 0
        for number, length in enumerate(sizes):
            most = last if last and number == blocks - 1 else full
            found.append(self._unpacked(packing, packed[at : at + length], most))
            at += length
        return b"".join(found)

    def _unpacked(self, packing: str, data: bytes, most: int) -> bytes:
        try:
            match packing:
                case "vtkZLibDataCompressor":
                    found = zlib.decompressobj().decompress(data, most + 1)
                case "vtkLZMADataCompressor":
                    found = lzma.LZMADecompressor(memlimit=2**30).decompress(data, most + 1)
                case _:
                    raise MeshError(
                        f"{self.name}: is compressed by {packing[:60]}; save it with zlib or without compression"
                    )
        except (zlib.error, lzma.LZMAError) as error:
            raise MeshError(
                f"{self.name}: its compressed data are damaged ({str(error)[:60]}); copy it again"
            ) from None
        if len(found) != most:
            raise MeshError(f"{self.name}: a block of it has not the {most:,} bytes that it claims; it is damaged")
        return found

    def _counts(self, data: bytes, size: int) -> list[int]:
        order = ">" if self.root.get("byte_order") == "BigEndian" else "<"
        if len(data) < size:
            raise MeshError(f"{self.name}: its data end too soon; it is cut short")
        return [int(each) for each in np.frombuffer(data[: len(data) // size * size], f"{order}u{size}")]


class _Taken:
    """Bytes from the front of data, as they are or as base64; each part that a writer encoded by itself is taken by itself."""

    def __init__(self, data: bytes, raw: bool, name: str) -> None:
        self._data, self._raw, self._name, self._at = data, raw, name, 0

    def __len__(self) -> int:
        left = len(self._data) - self._at
        return left if self._raw else left * 3 // 4

    def bytes(self, count: int, keep: bool = False) -> bytes:
        """The next bytes; with `keep` they are taken again next time."""
        length = count if self._raw else -(-count // 3) * 4
        taken = self._data[self._at : self._at + length]
        self._at += 0 if keep else length
        if self._raw:
            found = taken
        else:
            try:
                found = base64.b64decode(taken)
            except (binascii.Error, ValueError):
                raise MeshError(f"{self._name}: its data are not base64; it is damaged") from None
        if len(found) < count:
            raise MeshError(f"{self._name}: its data end too soon; it is cut short")
        return found[:count]
