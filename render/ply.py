"""Reads PLY files (G. Turk, The PLY polygon file format, 1994), text and binary: `read_ply`.

`render.ply_values` reads the values, this module says what they mean. Why not a library: docs/decisions/0013-mesh-readers.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render.colours import colour_bytes
from outcrop.render.ply_values import Lists, Table, read_header, read_tables
from outcrop.render.polygons import NO_FACES, Bytes, Doubles, Integers, Polygons, runs, starts_of
from outcrop.render.preflight import check_size
from outcrop.render.text import readable
from outcrop.render.textures import Folder
from outcrop.schema.errors import MeshError

CORNERS = ("vertex_indices", "vertex_index", "vertex_indexes")
COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
UV = (("texture_u", "texture_v"), ("u", "v"), ("s", "t"))
FIRST_HARMONIC = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 √π): Gaussian splats keep their base colour as a multiple of it around 0.5."""


def read_ply(path: Path, data: bytes) -> Polygons:
    """The contents of a PLY file.

    Raises:
        MeshError: it is not one, its counts are false, it is damaged, or has no vertices or no corners for its faces.
    """
    name = str(path)
    header = read_header(data, name)
    vertices, faces = header.count("vertex"), header.count("face")
    check_size(vertices, faces, name)
    if not vertices:
        raise MeshError(f"{name}: holds no vertices; export it again")
    tables, remarks = read_tables(data, header, name)
    vertex, face = _in_small_letters(tables["vertex"]), _in_small_letters(tables.get("face", {}))
    places = _columns(vertex, "x", "y", "z")
    if places is None:
        raise MeshError(f"{name}: its vertices have no x, y and z; export it again")
    colours, more = _colours(vertex)
    corners = _corners(face, faces, name)
    if corners is None:
        normals = _columns(vertex, "nx", "ny", "nz")
        return Polygons(places, *NO_FACES, colours, normals=normals, remarks=remarks + more)
    face_colours, further = _colours(face) if colours is None else (None, ())
    whole = _integers(corners.values, name)
    polygons = Polygons(places, corners.lengths, whole, colours, face_colours, remarks=remarks + more + further)
    return _textured(polygons, path, header.textures, vertex, face) if header.textures else polygons


def _in_small_letters(table: Table) -> Table:
    """A table by the names of its properties in small letters, where these stay different."""
    small = {name.lower(): column for name, column in table.items()}
    return small if len(small) == len(table) else table


def _corners(face: Table, faces: int, name: str) -> Lists | None:
    """The corners of the faces; None where there are no faces.

    Raises:
        MeshError: there are faces, but nothing says which vertices are theirs.
    """
    if not faces:
        return None
    named = next((face[corner] for corner in CORNERS if corner in face), None)
    if not isinstance(named, Lists):
        raise MeshError(f"{name}: its {faces:,} faces have no list of vertex indices; export it again")
    return named


def _integers(values: NDArray[Any], name: str) -> Integers:
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise MeshError(f"{name}: its faces name vertices by numbers that are not whole; it is damaged")
    return values.astype(np.int64)


def _columns(table: Table, *names: str) -> Doubles | None:
    """Properties side by side, [N, len(names)]; None where one is missing."""
    columns = [table.get(name) for name in names]
    if any(column is None or isinstance(column, Lists) for column in columns):
        return None
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _colours(table: Table) -> tuple[Bytes | None, tuple[str, ...]]:
    """Colours of vertices or faces, and remarks on them."""
    for names in COLOURS:
        if _columns(table, *names) is not None:
            return colour_bytes(np.stack([np.asarray(table[name]) for name in names], axis=1))
    splats = _columns(table, "f_dc_0", "f_dc_1", "f_dc_2")
    if splats is None:
        return None, ()
    colours, remarks = colour_bytes(np.clip(0.5 + FIRST_HARMONIC * splats, 0, 1))
    return colours, ("Gaussian splats: drawn as points in their base colours (f_dc)", *remarks)


def _textured(polygons: Polygons, path: Path, names: tuple[str, ...], vertex: Table, face: Table) -> Polygons:
    """The polygons with the textures that the header names, where there are coordinates and the pictures can be had."""
    uv = _texture_coordinates(polygons, vertex, face)
    if uv is None:
        return polygons
    folder = Folder(path)
    pictures = [folder.pixels(name) for name in names]
    number, remarks = _texture_numbers(face, names, len(polygons.lengths))
    kept = [n for n, picture in enumerate(pictures) if picture is not None]
    new = np.full(len(names) + 1, -1, np.int64)  # the last one is for -1
    new[kept] = np.arange(len(kept))
    return replace(
        polygons,
        uv=uv,
        texture_of=new[number],
        textures=tuple(picture for picture in pictures if picture is not None),
        remarks=(*polygons.remarks, *remarks, *folder.remarks),
    )


def _texture_coordinates(polygons: Polygons, vertex: Table, face: Table) -> Doubles | None:
    """Texture coordinates of the corners, [C, 2], NaN where a face has none; None where no face has."""
    listed = face.get("texcoord")
    if isinstance(listed, Lists):
        fits = listed.lengths == 2 * polygons.lengths
        uv = np.full((len(polygons.corners), 2), np.nan)
        starts, lengths = starts_of(polygons.lengths)[fits], polygons.lengths[fits]
        values = listed.values[runs(starts_of(listed.lengths)[fits], 2 * lengths)]
        uv[runs(starts, lengths)] = values.reshape(-1, 2)
        return uv if fits.any() else None
    columns = next((found for names in UV if (found := _columns(vertex, *names)) is not None), None)
    corners = polygons.corners
    if columns is None or not len(corners) or corners.min() < 0 or corners.max() >= len(columns):
        return None  # whoever checks the corners will say so
    return columns[corners]


def _texture_numbers(face: Table, names: tuple[str, ...], faces: int) -> tuple[Integers, tuple[str, ...]]:
    """The texture of each face, -1 = none, and remarks."""
    stated = face.get("texnumber")
    if stated is None or isinstance(stated, Lists):
        shown = f"{len(names)} textures, but no texnumber: all faces are given {readable(names[0])!r}"
        return np.zeros(faces, np.int64), (shown,) if len(names) > 1 else ()
    number = np.nan_to_num(np.asarray(stated, np.float64), nan=-1).astype(np.int64)
    if len(names) > 1 and len(number) and (number.min(), number.max()) == (1, len(names)):
        return number - 1, ("its texnumber counts from 1",)
    wrong = (number < -1) | (number >= len(names))
    remarks = (f"{int(wrong.sum()):,} faces name a texture that the header does not",) if wrong.any() else ()
    return np.where(wrong, -1, number), remarks
