"""Reads STL files (3D Systems, 1989), text and binary: `read_stl`. trimesh reads the binary ones.

Two programs keep colours in the 16 bits that the format leaves unused behind each triangle: VisCAM (bit 15 set: blue, green, red
from bit 0 on) and Materialise Magics (``COLOR=`` and four bytes in the header; bit 15 clear: red, green, blue).
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.render.colours import UNKNOWN
from outcrop.render.polygons import Bytes, Doubles, Polygons
from outcrop.render.preflight import check_size, check_text
from outcrop.render.text import numbers, text_of
from outcrop.schema.errors import MeshError

HEADER = 84
TRIANGLE = 50
"""Bytes before the triangles of a binary file, and of each triangle."""


def read_stl(path: Path, data: bytes) -> Polygons:
    """The contents of an STL file.

    Raises:
        MeshError: it is not one, its count is false, or it is damaged.
    """
    name = str(path)
    count = int.from_bytes(data[80:HEADER], "little") if len(data) >= HEADER else 0
    size = HEADER + TRIANGLE * count
    if len(data) >= HEADER and len(data) == size:
        return _binary(data, count, name)
    if data[:512].lstrip().lower().startswith(b"solid") and b"\0" not in data[:512]:
        return _text(data, name)
    if len(data) > size > HEADER and not any(data[size:]):  # padded with zeros, as some writers do
        return _binary(data[:size], count, name)
    raise MeshError(
        f"{name}: claims {count:,} triangles, which take {size:,} bytes, but has {len(data):,}; "
        "it is cut short, its count is false, or it is not an STL file"
    )


def _binary(data: bytes, count: int, name: str) -> Polygons:
    check_size(3 * count, count, name)
    if not count:
        raise MeshError(f"{name}: holds no triangles; export it again")
    from trimesh.exchange.stl import load_stl_binary

    read = load_stl_binary(io.BytesIO(data))
    colours, remarks = _colours(data[:80], read["face_attributes"]["stl"])
    return _soup(read["vertices"].astype(np.float64), colours, remarks)


def _text(data: bytes, name: str) -> Polygons:
    """``solid`` … ``facet`` … ``vertex X Y Z`` … ``endsolid``; names are left out, which may hold any of these words."""
    check_text(data, name)
    text = re.sub(
        r"(?m)^([ \t]*(?:end)?solid)\b[^\n]*?(?=\s+facet\s+normal\s+(?:[-+.\d]|nan|inf)|$)",
        r"\1",
        text_of(data).lower(),
    )
    facets = text.count("endfacet")
    corners = [" ".join(part.split(None, 3)[:3]) for part in text.split("vertex")[1:]]
    if len(corners) != 3 * facets or "endsolid" not in text:
        raise MeshError(f"{name}: its last facet or its `endsolid` is missing; it is cut short or damaged")
    check_size(len(corners), facets, name)
    if not facets:
        raise MeshError(f"{name}: holds no triangles; export it again")
    places = numbers(corners, name)
    if places.size != 9 * facets:
        raise MeshError(f"{name}: not all of its vertices have three coordinates; it is damaged")
    return _soup(places.reshape(-1, 3), None, ())


def _soup(corners: Doubles, colours: Bytes | None, remarks: tuple[str, ...]) -> Polygons:
    """Triangles each of three vertices of its own, [3 T, 3]."""
    lengths = np.full(len(corners) // 3, 3, np.int64)
    return Polygons(corners, lengths, np.arange(len(corners)), face_colours=colours, remarks=remarks)


def _colours(header: bytes, bits: NDArray[np.uint16]) -> tuple[Bytes | None, tuple[str, ...]]:
    """Colours of the triangles, [T, 3], None where nothing says so, and remarks."""
    marked = (bits & 0x8000) != 0
    first, second, third = (np.rint((bits >> shift & 31) * (255 / 31)).astype(np.uint8) for shift in (0, 5, 10))
    at = header.find(b"COLOR=")
    if at >= 0 and len(header) >= at + 10:
        whole = np.frombuffer(header, np.uint8, 4, at + 6)
        own = ~marked if bits.any() else np.zeros(len(bits), bool)
        if not own.any() and len(set(whole[:3].tolist())) == 1:
            return None, ()  # a grey or white that the program gives to everything says nothing of the specimen
        colours = np.where(own[:, None], np.stack([first, second, third], axis=1), whole[:3])
        return colours, ("the colours of its triangles are read as Materialise Magics writes them",)
    if not marked.any():
        return None, ()
    colours = np.where(marked[:, None], np.stack([third, second, first], axis=1), np.uint8(UNKNOWN))
    return colours, ("the colours of its triangles are read as VisCAM writes them",)
