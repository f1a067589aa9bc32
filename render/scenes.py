"""Files that hold several meshes: what their readers give, and how it becomes one mesh.

A scene's parts are what a person would point at: a node of a glTF or COLLADA file, an object on a 3MF's plate. By default a
file is one specimen, all its parts where the file places them; with `part_named` each is one by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from outcrop.render.colours import UNKNOWN
from outcrop.render.polygons import Bytes, Doubles, Integers, Polygons
from outcrop.render.preflight import check_size
from outcrop.schema.errors import MeshError, nearest

MAX_PARTS = 20_000
"""Nodes of one file that are followed: more are an endless scene, or no specimen."""


@dataclass(frozen=True)
class Piece:
    """Polygons of one material, placed: as in `Polygons`, with `uv` [C, 2] on the scene's texture number `texture` (-1 = none).

    `colour` is the material's sRGB, None where it says none; `colours` are those of the vertices.
    """

    vertices: Doubles
    lengths: Integers
    corners: Integers
    colours: Bytes | None = None
    normals: Doubles | None = None
    uv: Doubles | None = None
    texture: int = -1
    colour: tuple[int, int, int] | None = None

    def placed(self, matrix: Doubles) -> Piece:
        """The piece where a matrix [4, 4] puts it (columns as in mathematics: the translation is its last column)."""
        if np.array_equal(matrix, np.eye(4)):
            return self
        turned = self.normals @ np.linalg.pinv(matrix[:3, :3]) if self.normals is not None else None
        with np.errstate(over="ignore", invalid="ignore"):
            vertices = self.vertices @ matrix[:3, :3].T + matrix[:3, 3]
        return Piece(vertices, self.lengths, self.corners, self.colours, turned, self.uv, self.texture, self.colour)


@dataclass(frozen=True)
class Part:
    """One thing of a scene: its name (unique in the file) and how its pieces are read."""

    name: str
    pieces: Callable[[], Sequence[Piece]] = field(repr=False)


@dataclass
class Scene:
    """The parts of a file in its order; `textures` and `remarks` grow while pieces are read."""

    parts: list[Part]
    textures: list[Bytes] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def unique(names: Sequence[str]) -> list[str]:
    """The names in their order, without surrounding space; those that come again as ``name-2``, ``name-3`` …"""
    taken: set[str] = set()
    found = []
    for name in (name.strip() for name in names):
        said, count = name, 1
        while said.casefold() in taken:
            count += 1
            said = f"{name}-{count}"
        taken.add(said.casefold())
        found.append(said)
    return found


def part_named(scene: Scene, part: str, path: Path) -> Scene:
    """The scene with one of its parts.

    Raises:
        MeshError: it has no part of that name.
    """
    found = [each for each in scene.parts if each.name == part]
    if not found:
        names = [each.name for each in scene.parts]
        raise MeshError(
            f"{path}: holds no part named {part!r}{nearest(part, names)}; it was another file when it was listed"
        )
    return Scene(found, scene.textures, scene.remarks)


def merged(scene: Scene, path: Path) -> Polygons:
    """All pieces of a scene as one mesh.

    Colours of vertices are kept where some piece has them; the colours of materials count where there are several, or beside
    vertices with colours and faces with a texture (one colour for all says nothing of the specimen).

    Raises:
        MeshError: it holds nothing to draw, or too much.
    """
    pieces: list[Piece] = []
    vertices = faces = 0
    for part in scene.parts:
        for piece in part.pieces():
            vertices += len(piece.vertices)
            faces += int(np.maximum(piece.lengths - 2, 0).sum())
            check_size(vertices, faces, str(path))
            pieces.append(piece)
    remarks = tuple(dict.fromkeys(scene.remarks))
    solid = [piece for piece in pieces if len(piece.lengths)]
    if solid and len(solid) < len(pieces):
        remarks += ("holds points and lines beside its faces: left out",)
    pieces = solid or pieces
    if not pieces:
        raise MeshError(f"{path}: holds no mesh; export it again")
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces[:-1])])
    return Polygons(
        np.concatenate([piece.vertices for piece in pieces]),
        np.concatenate([piece.lengths for piece in pieces]),
        np.concatenate([piece.corners + start for piece, start in zip(pieces, starts, strict=True)]),
        _colours(pieces),
        normals=np.concatenate([n for piece in pieces if (n := piece.normals) is not None])
        if _all_normals(pieces)
        else None,
        uv=np.concatenate([_uv(piece) for piece in pieces]) if scene.textures else None,
        texture_of=np.concatenate([np.full(len(p.lengths), p.texture) for p in pieces]) if scene.textures else None,
        textures=tuple(scene.textures),
        remarks=remarks,
    )


def _all_normals(pieces: Sequence[Piece]) -> bool:
    return all(piece.normals is not None and not len(piece.lengths) for piece in pieces)


def _uv(piece: Piece) -> Doubles:
    return piece.uv if piece.uv is not None else np.full((len(piece.corners), 2), np.nan)


def _colours(pieces: Sequence[Piece]) -> Bytes | None:
    plain = {piece.colour for piece in pieces if piece.texture < 0 and piece.colours is None}
    coloured = any(piece.colours is not None for piece in pieces)
    textured = any(piece.texture >= 0 for piece in pieces)
    if not coloured and not (len(plain) > 1 or (plain and textured)):
        return None
    return np.concatenate(
        [
            piece.colours
            if piece.colours is not None
            else np.broadcast_to(np.array(piece.colour or (UNKNOWN,) * 3, np.uint8), (len(piece.vertices), 3))
            for piece in pieces
        ]
    )
