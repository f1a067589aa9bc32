"""Reads 3MF files (3MF Consortium, core specification 1.3 with materials and production extensions): `read_3mf`.

What the build plate holds is drawn, each object where its item and components put it; supports are left out. Colours are those
of base materials and colour groups, textures those of 2D texture groups.
"""

from __future__ import annotations

import functools
import posixpath
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from outcrop.render.archives import Archive
from outcrop.render.colours import UNKNOWN
from outcrop.render.polygons import Bytes, Doubles
from outcrop.render.preflight import check_size
from outcrop.render.scenes import MAX_PARTS, Part, Piece, Scene, unique
from outcrop.render.textures import Folder
from outcrop.render.xml_files import stream
from outcrop.schema.errors import MeshError

MAX_DEPTH = 32
Id = tuple[str, str]
"""The file inside of the archive, and the number of a thing in it."""


@dataclass
class _Group:
    """Colours, [N, 3], or coordinates on a texture, [N, 2]."""

    texture: str | None = None
    values: list[tuple[float, ...]] = field(default_factory=list)


@dataclass
class _Object:
    name: str = ""
    kind: str = "model"
    group: str = ""
    index: int = -1
    vertices: array[float] = field(default_factory=lambda: array("d"))
    triangles: array[int] = field(default_factory=lambda: array("q"))
    properties: list[tuple[str, int, int, int]] = field(default_factory=list)
    components: list[tuple[Id, Doubles]] = field(default_factory=list)


@dataclass
class _Model:
    """What the XML files of an archive say."""

    name: str
    objects: dict[Id, _Object] = field(default_factory=dict)
    groups: dict[Id, _Group] = field(default_factory=dict)
    pictures: dict[Id, str] = field(default_factory=dict)
    items: list[tuple[Id, Doubles, str]] = field(default_factory=list)
    others: set[str] = field(default_factory=set)


def read_3mf(path: Path, data: bytes) -> Scene:
    """The contents of a 3MF file.

    Raises:
        MeshError: it is not one, or is damaged.
    """
    archive, model = Archive(data, str(path)), _Model(str(path))
    start = _start(archive)
    waiting, read = [start], set[str]()
    while waiting:
        file = waiting.pop()
        if file in read:
            continue
        read.add(file)
        _Lines(model, file, file == start).read(archive.read(file))
        waiting += sorted(model.others - read)
    return _Plate(path, archive, model).scene()


def _start(archive: Archive) -> str:
    """The file of the archive where its model begins."""
    if "_rels/.rels" in archive.members:
        found: list[str] = []

        def begun(tag: str, said: dict[str, str]) -> None:
            if tag == "Relationship" and said.get("Type", "").endswith("/3dmodel"):
                found.append(said.get("Target", "").lstrip("/"))

        stream(archive.read("_rels/.rels"), archive.name, begun, lambda tag: None)
        if found and found[0] in archive.members:
            return found[0]
    models = [name for name in sorted(archive.members) if name.lower().endswith(".model")]
    if not models:
        raise MeshError(f"{archive.name}: holds no model; is it a 3MF file?")
    return models[0]


class _Lines:
    """Reads one XML file into a model."""

    def __init__(self, model: _Model, file: str, is_start: bool) -> None:
        self._model, self._file, self._is_start = model, file, is_start
        self._object, self._group = _Object(), _Group()

    def read(self, data: bytes) -> None:
        stream(data, self._model.name, self._begun, lambda tag: None)

    def _begun(self, tag: str, said: dict[str, str]) -> None:
        match tag:
            case "vertex":
                self._object.vertices.extend((float(said["x"]), float(said["y"]), float(said["z"])))
                check_size(len(self._object.vertices) // 3, 0, self._model.name)
            case "triangle":
                self._triangle(said)
            case "object":
                index = int(said.get("pindex", -1))
                made = _Object(said.get("name", ""), said.get("type", "model"), said.get("pid", ""), index)
                self._object = self._model.objects[self._file, said["id"]] = made
            case "component":
                self._object.components.append((self._other(said), _matrix(said)))
            case "item" if self._is_start:
                self._model.items.append((self._other(said), _matrix(said), said.get("partnumber", "")))
            case "basematerials" | "colorgroup":
                self._group = self._model.groups[self._file, said["id"]] = _Group()
            case "texture2dgroup":
                self._group = self._model.groups[self._file, said["id"]] = _Group(said["texid"])
            case "base" | "color":
                self._group.values.append(_colour(said.get("displaycolor") or said.get("color", "")))
            case "tex2coord":
                self._group.values.append((float(said["u"]), float(said["v"])))
            case "texture2d":
                self._model.pictures[self._file, said["id"]] = said["path"].lstrip("/")

    def _triangle(self, said: dict[str, str]) -> None:
        self._object.triangles.extend((int(said["v1"]), int(said["v2"]), int(said["v3"])))
        check_size(0, len(self._object.triangles) // 3, self._model.name)
        first = int(said["p1"]) if "p1" in said else self._object.index
        more = int(said.get("p2", first)), int(said.get("p3", first))
        self._object.properties.append((said.get("pid", self._object.group), first, *more))

    def _other(self, said: dict[str, str]) -> Id:
        file = said.get("path", self._file).lstrip("/") if "path" in said else self._file
        if file != self._file:
            self._model.others.add(file)
        return file, said["objectid"]


class _Plate:
    """Places the objects of a model."""

    def __init__(self, path: Path, archive: Archive, model: _Model) -> None:
        self._path, self._archive, self._model = path, archive, model
        self._folder = Folder(path)
        self._found = Scene([], remarks=self._folder.remarks)
        self._textures: dict[Id, int] = {}
        self._count = 0

    def scene(self) -> Scene:
        items = self._model.items or [(id, np.eye(4), "") for id in self._model.objects if id not in self._used()]
        kept = [item for item in items if self._of(item[0]).kind in ("model", "solidsupport", "surface")]
        if len(kept) < len(items):
            self._found.remarks.append(f"{len(items) - len(kept)} of its {len(items)} items are supports: left out")
        names = unique([self._of(id).name or number or f"object-{id[1]}" for id, _, number in kept])
        self._found.parts = [
            Part(name, functools.partial(self._pieces, id, matrix))
            for name, (id, matrix, _) in zip(names, kept, strict=True)
        ]
        return self._found

    def _used(self) -> set[Id]:
        return {id for each in self._model.objects.values() for id, _ in each.components}

    def _of(self, id: Id) -> _Object:
        if id not in self._model.objects:
            raise MeshError(f"{self._path}: names an object {id[1][:40]!r} that is not there; it is damaged")
        return self._model.objects[id]

    def _pieces(self, id: Id, matrix: Doubles) -> list[Piece]:
        return [piece.placed(place) for leaf, place in self._leaves(id, matrix, 0) for piece in self._made(leaf)]

    def _leaves(self, id: Id, matrix: Doubles, depth: int) -> Iterator[tuple[Id, Doubles]]:
        """The objects with triangles below one, and where they lie."""
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_PARTS:
            raise MeshError(f"{self._path}: its components have no end, or are more than {MAX_PARTS:,}; it is damaged")
        if self._of(id).triangles:
            yield id, matrix
        for inner, place in self._of(id).components:
            yield from self._leaves(inner, matrix @ place, depth + 1)

    @functools.cache  # noqa: B019  the plate goes with its file
    def _made(self, id: Id) -> tuple[Piece, ...]:
        made = self._of(id)
        vertices = np.array(made.vertices, np.float64).reshape(-1, 3)
        faces = np.array(made.triangles, np.int64).reshape(-1, 3)
        groups = np.array([each[0] for each in made.properties])
        known = {name: self._model.groups.get((id[0], name)) for name in np.unique(groups)}
        if all(group is None for group in known.values()):
            return (Piece(vertices, np.full(len(faces), 3, np.int64), faces.ravel()),)
        if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise MeshError(f"{self._path}: its triangles name vertices that are not there; it is damaged")
        numbers = np.array([each[1:] for each in made.properties], np.int64)
        return tuple(
            self._coloured(vertices, faces[groups == name], numbers[groups == name], id[0], group)
            for name, group in known.items()
        )

    def _coloured(
        self, vertices: Doubles, faces: np.ndarray, numbers: np.ndarray, file: str, group: _Group | None
    ) -> Piece:
        """Triangles of one group, each corner a vertex of its own."""
        places, corners = vertices[faces.ravel()], np.arange(faces.size)
        lengths = np.full(len(faces), 3, np.int64)
        if group is None or not group.values:
            return Piece(places, lengths, corners)
        values, index = np.array(group.values, np.float64), numbers.ravel()
        known = (index >= 0) & (index < len(values))
        chosen = values[np.where(known, index, 0)]
        if group.texture is None:
            colours: Bytes = np.where(known[:, None], chosen, UNKNOWN).astype(np.uint8)
            return Piece(places, lengths, corners, colours)
        texture = self._texture((file, group.texture))
        chosen[~known] = np.nan
        return Piece(places, lengths, corners, uv=chosen if texture >= 0 else None, texture=texture)

    def _texture(self, id: Id) -> int:
        if id not in self._textures:
            name = posixpath.normpath(self._model.pictures.get(id, "?"))
            there = name in self._archive.members
            pixels = self._folder.decoded(self._archive.read(name), name) if there else None
            if not there:
                self._found.remarks.append(f"is drawn without {name[:120]!r}: it is not in the file")
            self._textures[id] = len(self._found.textures) if pixels is not None else -1
            self._found.textures += [pixels] if pixels is not None else []
        return self._textures[id]


def _matrix(said: dict[str, str]) -> Doubles:
    """``transform``: twelve numbers, row by row, of a matrix that stands behind row vectors."""
    matrix = np.eye(4)
    if text := said.get("transform"):
        rows = np.array([float(word) for word in text.split()], np.float64).reshape(4, 3)
        matrix[:3] = rows.T
    return matrix


def _colour(text: str) -> tuple[float, float, float]:
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}(?:[0-9A-Fa-f]{2})?", text):
        return (float(UNKNOWN),) * 3
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
