"""Reads OFF files (Geomview's object file format) in text: `read_off`.

``[C][N]OFF``, the counts of vertices, faces and edges, then a line for each vertex (and its normal and colour) and each face: the
number of its corners, the corners, and perhaps a colour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from outcrop.render.colours import UNKNOWN, colour_bytes
from outcrop.render.polygons import Bytes, Doubles, Integers, Polygons, runs, starts_of
from outcrop.render.preflight import check_claims, check_size, check_text
from outcrop.render.text import numbers, text_of
from outcrop.schema.errors import MeshError

_HEAD = re.compile(
    r"\s*(?:#[^\n]*\n\s*)*(?:(ST)?(C)?(N)?(4)?(n)?(?:OFF|off)(?![A-Za-z_])[ \t]*(BINARY)?|(?=\d+[ \t]+\d+\s))"
)
"""The format's own word may be left out (Geomview's manual): the counts then come first."""


def read_off(path: Path, data: bytes) -> Polygons:
    """The contents of an OFF file.

    Raises:
        MeshError: it is not one in text, its counts are false, or it is damaged.
    """
    name = str(path)
    check_text(data, name)
    text = text_of(data)
    head = _HEAD.match(text)
    if head is None:
        raise MeshError(f"{name}: does not begin as an OFF file does; export it again")
    if any(head.group(n) for n in (1, 4, 5, 6)):
        raise MeshError(f"{name}: a binary, textured or higher-dimensional OFF file; export it as plain OFF or as PLY")
    first, _, rest = re.sub("#[^\n]*", "", text[head.end() :]).strip().partition("\n")
    vertices, faces = _counts(first, len(rest), name)
    lines = [line for line in rest.split("\n") if line.strip()]
    if len(lines) < vertices + faces:
        raise MeshError(
            f"{name}: claims {vertices:,} vertices and {faces:,} faces, but holds {len(lines):,} lines; "
            "it is cut short, or its counts are false"
        )
    places, colours, remarks = _vertices(lines[:vertices], bool(head.group(2)), bool(head.group(3)), name)
    more = len(lines) - vertices - faces
    remarks += (f"{more:,} lines follow after what its header declares: left out",) if more else ()
    lengths, corners, face_colours, further = _faces(lines[vertices : vertices + faces], name)
    return Polygons(places, lengths, corners, colours, face_colours, remarks=remarks + further)


def _counts(line: str, following: int, name: str) -> tuple[int, int]:
    """How many vertices and faces a file claims."""
    counts = line.split()
    if len(counts) < 2 or not all(re.fullmatch(r"[-+]?\d{1,18}", word) for word in counts):
        raise MeshError(f"{name}: its OFF header has no counts of vertices and faces; export it again")
    vertices, faces = int(counts[0]), int(counts[1])
    check_claims({"vertex": vertices, "face": faces}, 6 * vertices + 2 * faces - 1, following, name)
    check_size(vertices, faces, name)
    if not vertices:
        raise MeshError(f"{name}: holds no vertices; export it again")
    return vertices, faces


def _vertices(
    lines: Sequence[str], coloured: bool, normals: bool, name: str
) -> tuple[Doubles, Bytes | None, tuple[str, ...]]:
    """Places, and colours where every vertex has one: the values after the place (and the normal).

    Some programs write colours without saying so in the header: values of which none is negative are taken for such.
    """
    widths = np.array([len(line.split()) for line in lines])
    if widths.min() < 3:
        shown = lines[int(widths.argmin())].strip()[:60]
        raise MeshError(f"{name}: the line {shown!r} has fewer than three coordinates; it is damaged")
    values, starts = numbers(lines, name), starts_of(widths)
    places = values[starts[:, None] + np.arange(3)]
    before = 6 if normals else 3
    if widths.min() < before + 3:
        return places, None, ()
    written = values[starts[:, None] + before + np.arange(3)]
    if not coloured and not (written >= 0).all():
        return places, None, ()
    colours, remarks = colour_bytes(written)
    return (
        places,
        colours,
        remarks if coloured else (*remarks, "its header does not say so, but its vertices have colours"),
    )


def _faces(lines: Sequence[str], name: str) -> tuple[Integers, Integers, Bytes | None, tuple[str, ...]]:
    """Lengths and corners of the faces, and their colours where some have one."""
    widths = np.array([len(line.split()) for line in lines], np.int64)
    values, starts = numbers(lines, name), starts_of(widths)
    stated = values[starts]
    wrong = ~((stated >= 0) & (stated == np.floor(stated)) & (stated < widths))
    if wrong.any():
        shown = lines[int(wrong.argmax())].strip()[:60]
        raise MeshError(f"{name}: the face {shown!r} does not have as many corners as it states; it is damaged")
    lengths = stated.astype(np.int64)
    named = values[runs(starts + 1, lengths)]
    if not (np.isfinite(named).all() and (named == np.rint(named)).all()):
        raise MeshError(f"{name}: its faces name vertices by numbers that are not whole; it is damaged")
    corners = np.clip(named, -1, 2**31).astype(np.int64)
    coloured = np.flatnonzero(
        np.isin(widths - 1 - lengths, (3, 4))
    )  # one number alone is a place in a table of colours
    if not len(coloured):
        return lengths, corners, None, ()
    found, remarks = colour_bytes(values[(starts + 1 + lengths)[coloured, None] + np.arange(3)])
    colours = np.full((len(lines), 3), UNKNOWN, np.uint8)
    colours[coloured] = found
    return lengths, corners, colours, remarks
