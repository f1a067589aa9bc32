"""Reads COLLADA files (Khronos, 1.4 and 1.5; .dae): `read_dae`.

Geometries are drawn where the nodes of the visual scene put them, polygons whole. Skinned ones are drawn as they were bound.
Materials give their diffuse colour, or its texture from below the file's folder.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from outcrop.render.colours import colour_bytes
from outcrop.render.polygons import Bytes, Doubles, Integers
from outcrop.render.preflight import check_size
from outcrop.render.scenes import MAX_PARTS, Part, Piece, Scene, unique
from outcrop.render.text import numbers
from outcrop.render.textures import Folder
from outcrop.render.xml_files import Element, tree_of
from outcrop.schema.errors import MeshError

PRIMITIVES = ("triangles", "polylist", "polygons", "tristrips", "trifans")
MAX_DEPTH = 64


@dataclass(frozen=True)
class _Instance:
    """A geometry in a node: its placing, and the materials by the symbols of its primitives."""

    name: str
    geometry: Element
    matrix: Doubles
    materials: dict[str, str]
    skinned: bool


def read_dae(path: Path, data: bytes) -> Scene:
    """The contents of a COLLADA file.

    Raises:
        MeshError: it is not one, or is damaged.
    """
    root = tree_of(data, str(path))
    if root.tag != "COLLADA":
        raise MeshError(f"{path}: begins with <{root.tag[:40]}>, not with <COLLADA>; is it a COLLADA file?")
    return _Reader(path, root).scene()


class _Reader:
    def __init__(self, path: Path, root: Element) -> None:
        self.name, self.root, self.folder = str(path), root, Folder(path)
        self.ids = {element.get("id", ""): element for element in root.iter() if element.get("id")}
        self.found = Scene([], remarks=self.folder.remarks)
        self._local: dict[str, Element] = {}
        self._textures: dict[str, int] = {}
        self._followed = 0

    def scene(self) -> Scene:
        instances = list(self._instances())
        names = unique([each.name for each in instances])
        self.found.parts = [
            Part(name, functools.partial(self._pieces, each)) for name, each in zip(names, instances, strict=True)
        ]
        return self.found

    def _instances(self) -> Iterator[_Instance]:
        """The geometries that the scene shows; all of them where there is no scene."""
        shown = self.root.find("scene/instance_visual_scene")
        scenes = [self._at(shown.get("url", ""))] if shown is not None else self.root.findall("library_visual_scenes/*")
        if not scenes:
            for geometry in self.root.findall("library_geometries/geometry"):
                yield _Instance(_called(geometry), geometry, np.eye(4), {}, False)
        for scene in scenes:
            for node in scene.findall("node"):
                yield from self._below(node, np.eye(4), 0)

    def _below(self, node: Element, above: Doubles, depth: int) -> Iterator[_Instance]:
        self._followed += 1
        if depth > MAX_DEPTH or self._followed > MAX_PARTS:
            raise MeshError(f"{self.name}: its tree of nodes has no end, or more than {MAX_PARTS:,}; it is damaged")
        matrix = above
        for child in node:
            match child.tag:
                case "matrix" | "translate" | "rotate" | "scale" | "lookat" | "skew":
                    matrix = matrix @ self._transform(child)
        for child in node:
            match child.tag:
                case "node":
                    yield from self._below(child, matrix, depth + 1)
                case "instance_node":
                    yield from self._below(self._at(child.get("url", "")), matrix, depth + 1)
                case "instance_geometry":
                    yield self._instance(node, child, self._at(child.get("url", "")), matrix)
                case "instance_controller":
                    yield self._bound(node, child)

    def _instance(self, node: Element, shown: Element, geometry: Element, matrix: Doubles) -> _Instance:
        materials = {each.get("symbol", ""): each.get("target", "") for each in shown.iter("instance_material")}
        return _Instance(_called(node) or _called(geometry), geometry, matrix, materials, False)

    def _bound(self, node: Element, shown: Element) -> _Instance:
        """The geometry of a skin or a morph, as it was bound."""
        inner: Element | None = self._at(shown.get("url", ""))
        matrix = np.eye(4)
        for _ in range(MAX_DEPTH):
            skin = inner.find("skin") if inner is not None else None
            skin = inner.find("morph") if skin is None and inner is not None else skin
            if skin is None:
                break
            bind = skin.find("bind_shape_matrix")
            matrix = self._numbers(bind).reshape(4, 4) @ matrix if bind is not None else matrix
            inner = self._at(skin.get("source", ""))
        assert inner is not None
        made = self._instance(node, shown, inner, matrix)
        return _Instance(made.name, made.geometry, made.matrix, made.materials, True)

    def _transform(self, element: Element) -> Doubles:
        values, matrix = self._numbers(element), np.eye(4)
        match element.tag:
            case "matrix":
                return values.reshape(4, 4)
            case "translate":
                matrix[:3, 3] = values.reshape(3)
            case "scale":
                matrix[[0, 1, 2], [0, 1, 2]] = values.reshape(3)
            case "rotate":
                matrix[:3, :3] = _turned(values.reshape(4))
            case _:
                raise MeshError(
                    f"{self.name}: places a mesh by <{element.tag}>, which is not read; export it with matrices"
                )
        return matrix

    def _pieces(self, instance: _Instance) -> list[Piece]:
        if instance.skinned:
            self.found.remarks.append("is drawn in the pose in which its skeleton was bound")
        mesh = instance.geometry.find("mesh")
        self._local = {each.get("id", ""): each for each in mesh.iter() if each.get("id")} if mesh is not None else {}
        if mesh is None:
            self.found.remarks.append("holds a curve or a convex hull, which is not a mesh: left out")
            return []
        made = [self._piece(each, instance.materials) for each in mesh if each.tag in PRIMITIVES]
        return [piece.placed(instance.matrix) for piece in made if piece is not None]

    def _piece(self, primitive: Element, materials: dict[str, str]) -> Piece | None:
        inputs = [(int(each.get("offset", 0)), each) for each in primitive.findall("input")]
        width = 1 + max((offset for offset, _ in inputs), default=0)
        indices, lengths = self._corners(primitive, width)
        if not len(lengths):
            return None
        by_kind: dict[str, tuple[int, Element]] = {}
        for offset, each in inputs:
            by_kind.setdefault(each.get("semantic", ""), (offset, each))
        offset, each = by_kind["VERTEX"]
        vertices = self._at(each.get("source", ""))
        places = self._source(next(one for one in vertices.findall("input") if one.get("semantic") == "POSITION"), 3)
        check_size(len(places), int((lengths - 2).sum()), self.name)
        symbol = primitive.get("material", "")
        colour, texture = self._material(materials.get(symbol, f"#{symbol}" if symbol in self.ids else ""))
        corners, uv = indices[:, offset], None
        if texture >= 0 and "TEXCOORD" in by_kind:
            offset, each = by_kind["TEXCOORD"]
            uv = _chosen(self._source(each, 2), indices[:, offset])
        colours: Bytes | None = None
        if "COLOR" in by_kind:
            offset, each = by_kind["COLOR"]
            if corners.min() < 0 or corners.max() >= len(places):
                raise MeshError(f"{self.name}: its faces name vertices that are not there; it is damaged")
            colours, remarks = colour_bytes(_chosen(self._source(each, 3), indices[:, offset]))
            self.found.remarks += remarks
            places, corners = places[corners], np.arange(len(corners))
        return Piece(places, lengths, corners, colours, None, uv, texture if uv is not None else -1, colour)

    def _corners(self, primitive: Element, width: int) -> tuple[Integers, Integers]:
        """What the corners of a primitive's polygons name, [C, width], and the polygons' lengths."""
        lists = [self._whole(each) for each in (*primitive.findall("p"), *primitive.findall("ph/p"))]
        if primitive.find("ph/h") is not None:
            self.found.remarks.append("holds polygons with holes: drawn without the holes")
        rows = [each[: len(each) // width * width].reshape(-1, width) for each in lists]
        count = np.array([len(each) for each in rows], np.int64)
        if not len(rows) or not count.sum():
            return np.empty((0, width), np.int64), np.empty(0, np.int64)
        match primitive.tag:
            case "polygons":
                return np.concatenate(rows), count
            case "polylist":
                stated = primitive.find("vcount")
                lengths = self._whole(stated) if stated is not None else np.empty(0, np.int64)
                if (len(lengths) and lengths.min() < 0) or int(lengths.sum()) != int(count.sum()):
                    raise MeshError(
                        f"{self.name}: its polygons do not have as many corners as it states; it is damaged"
                    )
                return np.concatenate(rows), lengths
            case "triangles":
                whole = np.concatenate(rows)
                whole = whole[: len(whole) // 3 * 3]
                return whole, np.full(len(whole) // 3, 3, np.int64)
        made = [_strip(each) if primitive.tag == "tristrips" else _fan(each) for each in rows if len(each) >= 3]
        whole = np.concatenate(made) if made else np.empty((0, width), np.int64)
        return whole, np.full(len(whole) // 3, 3, np.int64)

    def _source(self, wanted: Element, width: int) -> Doubles:
        """The numbers of a source, [N, width]."""
        source = self._at(wanted.get("source", ""))
        array, accessor = source.find("float_array"), source.find("technique_common/accessor")
        if array is None or accessor is None:
            raise MeshError(f"{self.name}: a list of numbers of it is missing; it is damaged")
        values, stride = self._numbers(array), int(accessor.get("stride", 1))
        count, start = int(accessor.get("count", 0)), int(accessor.get("offset", 0))
        if stride < width or count < 0 or start < 0 or start + stride * count > len(values):
            raise MeshError(
                f"{self.name}: claims {count:,} values of {stride} numbers, but {len(values):,} follow; it is cut short"
            )
        return values[start : start + stride * count].reshape(count, stride)[:, :width]

    def _material(self, url: str) -> tuple[tuple[int, int, int] | None, int]:
        """The colour of a material (sRGB), and the number of its texture (-1 = none)."""
        material = self.ids.get(url.lstrip("#"))
        used = material.find("instance_effect") if material is not None else None
        effect = self.ids.get(used.get("url", "").lstrip("#")) if used is not None else None
        profile = effect.find("profile_COMMON") if effect is not None else None
        diffuse = profile.find("technique/*/diffuse") if profile is not None else None
        if profile is None or diffuse is None:
            return None, -1
        colour, texture = diffuse.find("color"), diffuse.find("texture")
        if texture is not None and (name := self._picture(profile, texture.get("texture", ""))):
            return None, self._texture(name)
        if colour is None:
            return None, -1
        shown = np.rint(255 * np.clip(np.nan_to_num(self._numbers(colour)[:3]), 0, 1)).astype(int).tolist()
        return (shown[0], shown[1], shown[2]), -1

    def _picture(self, profile: Element, name: str) -> str:
        """The file of a texture: through a sampler and its surface, or by the id of an image."""
        params = {each.get("sid"): each for each in profile.iter("newparam")}
        for _ in range(3):
            param = params.get(name)
            below = param.iter() if param is not None else iter(())
            inner = next((each for each in below if each.tag in ("source", "init_from", "instance_image")), None)
            if inner is None:
                break
            name = (inner.text or inner.get("url") or "").strip().lstrip("#")
        image = self.ids.get(name)
        file = next(iter(image.iter("init_from")), None) if image is not None else None
        if file is None:
            return ""
        inner = file.find("ref")
        return ((file if inner is None else inner).text or "").strip()

    def _texture(self, name: str) -> int:
        if name not in self._textures:
            key = unquote(name.removeprefix("file://")).encode("utf-8", "replace").decode("latin-1")
            pixels = self.folder.pixels(key)
            self._textures[name] = len(self.found.textures) if pixels is not None else -1
            self.found.textures += [pixels] if pixels is not None else []
        return self._textures[name]

    def _at(self, url: str) -> Element:
        """What a reference names, of the mesh at hand first: some writers use an id again in every mesh."""
        found = self._local.get(url.lstrip("#"), self.ids.get(url.lstrip("#")))
        if found is None:
            raise MeshError(f"{self.name}: names {url[:60]!r}, which is not in the file; it is damaged")
        return found

    def _numbers(self, element: Element) -> Doubles:
        return numbers(" ".join((element.text or "").split()), self.name)

    def _whole(self, element: Element) -> Integers:
        values = self._numbers(element)
        if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
            raise MeshError(f"{self.name}: its faces name vertices by numbers that are not whole; it is damaged")
        return np.clip(values, -(2**31), 2**31).astype(np.int64)


def _called(element: Element) -> str:
    return element.get("name") or element.get("id") or "node"


def _chosen(values: Doubles, index: Integers) -> Doubles:
    """Rows of values, NaN where there is none of that number."""
    known = (index >= 0) & (index < len(values))
    found = np.full((len(index), values.shape[1]), np.nan)
    found[known] = values[index[known]]
    return found


def _turned(values: Doubles) -> Doubles:
    """A rotation about an axis by degrees, [3, 3] (O. Rodrigues, 1840)."""
    axis, angle = values[:3] / (float(np.linalg.norm(values[:3])) or 1.0), float(np.radians(values[3]))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turned: Doubles = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return turned


def _strip(rows: Any) -> Any:
    corners = np.stack([np.arange(len(rows) - 2) + step for step in range(3)], axis=1)
    corners[1::2] = corners[1::2, ::-1]
    return rows[corners.ravel()]


def _fan(rows: Any) -> Any:
    corners = np.stack(
        [np.zeros(len(rows) - 2, np.int64), *(np.arange(1, len(rows) - 1) + step for step in (0, 1))], axis=1
    )
    return rows[corners.ravel()]
