"""Reads glTF 2.0 (Khronos), as text (.gltf) and binary (.glb): `read_gltf`.

Nodes are placed by their transforms in 64 bits; what looks up is decided elsewhere (`--up`; the standard says Y). Colours of
vertices and of materials are linear by the standard; 8-bit colours of vertices are sRGB as they are, which is what programs that
scan write into them. A texture is shown without its material's tint, as in OBJ. Compressed meshes (Draco, meshopt) are refused
by name. Buffers in files of their own are taken from below the file's folder only, and no address on a network is ever opened.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from outcrop.render.gltf_values import Values, embedded, entry, whole
from outcrop.render.polygons import Bytes, Doubles, Integers
from outcrop.render.scenes import MAX_PARTS, Part, Piece, Scene, unique
from outcrop.render.textures import Folder
from outcrop.schema.errors import MeshError

KNOWN = frozenset(("KHR_mesh_quantization", "KHR_texture_transform", "KHR_lights_punctual", "EXT_texture_webp"))
"""Extensions that a file may require; those about materials (KHR_materials_…) change no colour that is drawn here."""
COMPRESSED = {
    "KHR_draco_mesh_compression": "Draco",
    "EXT_meshopt_compression": "meshopt",
    "KHR_meshopt_compression": "meshopt",
}
_POINTS, _TRIANGLES, _STRIP, _FAN = 0, 4, 5, 6


def read_gltf(path: Path, data: bytes) -> Scene:
    """The contents of a .glb or .gltf file.

    Raises:
        MeshError: it is not one, is damaged, or needs what cannot be read.
    """
    tree, own = _chunks(data, str(path))
    _check(tree, str(path))
    return _Reader(path, tree, own).scene()


def buffer_files(path: Path, data: bytes) -> tuple[Path, ...]:
    """The files below its folder in which a glTF file keeps its numbers.

    Raises:
        MeshError: its JSON cannot be read.
    """
    tree, _ = _chunks(data, str(path))
    buffers = tree.get("buffers", [])
    uris = [each.get("uri") for each in buffers if isinstance(each, dict)] if isinstance(buffers, list) else []
    folder = Folder(path)
    found = [folder.find(_key(uri)) for uri in uris if isinstance(uri, str) and not uri.startswith("data:")]
    return tuple(dict.fromkeys(each for each in found if each is not None))


def _chunks(data: bytes, name: str) -> tuple[dict[str, Any], bytes | None]:
    """The JSON and the binary part of a file."""
    own, text = None, data
    if data[:4] == b"glTF":
        version, size = int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:12], "little")
        if version != 2:
            raise MeshError(f"{name}: is of version {version} of glTF; export it as glTF 2.0")
        if size > len(data):
            raise MeshError(f"{name}: claims {size:,} bytes, but has {len(data):,}; it is cut short")
        length = int.from_bytes(data[12:16], "little")
        text, rest = data[20 : 20 + length], data[20 + length : size]
        if data[16:20] != b"JSON" or len(text) < length:
            raise MeshError(f"{name}: its first part is damaged; export it again")
        if len(rest) >= 8:
            length = int.from_bytes(rest[:4], "little")
            own = rest[8 : 8 + length]
            if len(own) < length:
                raise MeshError(
                    f"{name}: its binary part claims {length:,} bytes, but {len(own):,} follow; it is cut short"
                )
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MeshError(f"{name}: its JSON cannot be read ({str(error)[:80]}); export it again") from None
    if not isinstance(tree, dict):
        raise MeshError(f"{name}: its JSON is not an object; is it a glTF file?")
    return tree, own


def _check(tree: dict[str, Any], name: str) -> None:
    asset = tree.get("asset")
    version = str(asset.get("version", "")) if isinstance(asset, dict) else ""
    if not version.startswith("2"):
        raise MeshError(f"{name}: is of version {version or 'unknown'} of glTF; export it as glTF 2.0")
    required = [str(each) for each in tree.get("extensionsRequired", [])]
    for needed in required:
        if needed in COMPRESSED:
            raise MeshError(f"{name}: its meshes are compressed by {COMPRESSED[needed]}; export it without compression")
        if needed not in KNOWN and not needed.startswith("KHR_materials_"):
            raise MeshError(
                f"{name}: needs the extension {needed[:60]!r}, which is not read; export it without, or as PLY"
            )


class _Reader:
    def __init__(self, path: Path, tree: dict[str, Any], own: bytes | None) -> None:
        self.name, self.tree, self.folder = str(path), tree, Folder(path)
        self.values = Values(tree, own, self._outside, self.name)
        self.found = Scene([], remarks=self.folder.remarks)
        self._textures: dict[int, int] = {}
        self._meshes: dict[int, tuple[Piece, ...]] = {}

    def scene(self) -> Scene:
        """The parts: one for each node that holds a mesh."""
        nodes = self._placed()
        names = unique([self._called(number) for number, _ in nodes])
        self.found.parts = [
            Part(name, functools.partial(self._pieces, number, matrix))
            for name, (number, matrix) in zip(names, nodes, strict=True)
        ]
        return self.found

    def _called(self, number: int) -> str:
        node = entry(self.tree, "nodes", number)
        mesh = entry(self.tree, "meshes", node["mesh"])
        return next(
            (str(said) for said in (node.get("name"), mesh.get("name")) if str(said or "").strip()), f"node-{number}"
        )

    def _placed(self) -> list[tuple[int, Doubles]]:
        """The nodes with a mesh, in the order of the tree, and where each lies; a node reached twice is a damaged tree."""
        nodes = self.tree.get("nodes", [])
        children = {child for node in nodes for child in node.get("children", [])}
        roots: Sequence[int] = [number for number in range(len(nodes)) if number not in children]
        if self.tree.get("scenes"):
            roots = entry(self.tree, "scenes", self.tree.get("scene", 0)).get("nodes", [])
        found: list[tuple[int, Doubles]] = []
        seen: set[int] = set()
        waiting = [(number, np.eye(4)) for number in reversed(roots)]
        while waiting:
            number, above = waiting.pop()
            node = entry(self.tree, "nodes", number)
            if number in seen or len(seen) >= MAX_PARTS:
                raise MeshError(f"{self.name}: its tree of nodes has no end, or more than {MAX_PARTS:,}; it is damaged")
            seen.add(number)
            matrix = above @ _matrix(node)
            if "mesh" in node:
                found.append((number, matrix))
            waiting += [(child, matrix) for child in reversed(node.get("children", []))]
        return found

    def _pieces(self, number: int, matrix: Doubles) -> list[Piece]:
        node = entry(self.tree, "nodes", number)
        if "skin" in node:
            self.found.remarks.append("is drawn in the pose in which its skeleton was bound")
            matrix = np.eye(4)  # the standard: only its joints move a skinned mesh
        mesh = node["mesh"]
        if mesh not in self._meshes:
            made = (self._piece(each) for each in entry(self.tree, "meshes", mesh)["primitives"])
            self._meshes[mesh] = tuple(piece for piece in made if piece is not None)
        return [piece.placed(matrix) for piece in self._meshes[mesh]]

    def _piece(self, primitive: dict[str, Any]) -> Piece | None:
        attributes = primitive["attributes"]
        extensions = primitive.get("extensions", {})
        for name, program in COMPRESSED.items():
            if name in extensions and "bufferView" not in entry(self.tree, "accessors", attributes.get("POSITION")):
                raise MeshError(f"{self.name}: its meshes are compressed by {program}; export it without compression")
        mode = primitive.get("mode", _TRIANGLES)
        if "POSITION" not in attributes or mode not in (_POINTS, _TRIANGLES, _STRIP, _FAN):
            self.found.remarks.append("holds points and lines beside its faces: left out")
            return None
        places = self._of(attributes["POSITION"], 3).astype(np.float64)
        index = np.arange(len(places))
        if "indices" in primitive:
            index = self._of(primitive["indices"], 1)[:, 0].astype(np.int64)
        corners = _triangles(index, mode) if mode != _POINTS else np.empty((0, 3), np.int64)
        colour, texture, place = self._material(primitive.get("material"))
        uv = None
        channel = f"TEXCOORD_{place.channel}"
        if texture >= 0 and channel in attributes and len(corners):
            on = self._of(attributes[channel], 2).astype(np.float64)
            if len(on) != len(places):
                raise MeshError(f"{self.name}: its texture coordinates are not as many as its vertices; it is damaged")
            uv = place.applied(on)[np.clip(corners.ravel(), 0, len(on) - 1)]
        return Piece(
            places,
            np.full(len(corners), 3, np.int64),
            corners.ravel(),
            self._vertex_colours(attributes, len(places)),
            self._normals(attributes, len(places)) if mode == _POINTS else None,
            uv,
            texture if uv is not None else -1,
            colour,
        )

    def _of(self, number: Any, width: int) -> Any:
        read = self.values.read(whole(number))
        if read.shape[1] < width:
            raise MeshError(f"{self.name}: an array of it is not of the type that is needed; it is damaged")
        return read[:, :width]

    def _normals(self, attributes: dict[str, Any], count: int) -> Doubles | None:
        if "NORMAL" not in attributes:
            return None
        normals: Doubles = self._of(attributes["NORMAL"], 3).astype(np.float64)
        return normals if len(normals) == count and np.isfinite(normals).all() else None

    def _vertex_colours(self, attributes: dict[str, Any], count: int) -> Bytes | None:
        if "COLOR_0" not in attributes:
            return None
        values = self._of(attributes["COLOR_0"], 3).astype(np.float64)
        if len(values) != count:
            raise MeshError(f"{self.name}: its colours are not as many as its vertices; it is damaged")
        if self.values.is_bytes(attributes["COLOR_0"]):
            shown: Bytes = np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
            return shown
        return srgb(values)

    def _material(self, number: Any) -> tuple[tuple[int, int, int] | None, int, _Placing]:
        """A material's colour, the number of its texture, and how that is laid on."""
        if number is None:
            return None, -1, _Placing()
        material = entry(self.tree, "materials", number)
        said = material.get("pbrMetallicRoughness", {})
        factor, texture = said.get("baseColorFactor"), said.get("baseColorTexture")
        older = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        if older and not said:
            factor, texture = older.get("diffuseFactor"), older.get("diffuseTexture")
        factor = [float(each) for each in (factor or [1, 1, 1])][:3]
        red, green, blue = srgb(np.array([factor]))[0].tolist()
        if texture is None:
            return (red, green, blue), -1, _Placing()
        placed = texture.get("extensions", {}).get("KHR_texture_transform", {})
        placing = _Placing(placed, whole(placed.get("texCoord", texture.get("texCoord", 0))))
        return (red, green, blue), self._texture(whole(texture["index"])), placing

    def _texture(self, number: int) -> int:
        """The number of a texture among the scene's; -1 where it cannot be had."""
        if number not in self._textures:
            texture = entry(self.tree, "textures", number)
            source = texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source", texture.get("source"))
            pixels = self._picture(source) if source is not None else None
            if source is None:
                kinds = ", ".join(texture.get("extensions", {})) or "no picture"
                self.folder.note(
                    f"texture {number}", f"it is in no format that is read ({kinds}); export it as PNG or JPEG"
                )
            self._textures[number] = len(self.found.textures) if pixels is not None else -1
            self.found.textures += [pixels] if pixels is not None else []
        return self._textures[number]

    def _picture(self, number: int) -> Bytes | None:
        image = entry(self.tree, "images", number)
        uri, name = image.get("uri"), str(image.get("name") or f"texture {number}")
        if "bufferView" in image:
            return self.folder.decoded(self.values.view(whole(image["bufferView"]))[0], name)
        if isinstance(uri, str) and uri.startswith("data:"):
            return self.folder.decoded(embedded(uri, self.name), name)
        return self.folder.pixels(_key(uri)) if isinstance(uri, str) else None

    def _outside(self, uri: str) -> bytes:
        """A buffer in a file of its own, below the folder."""
        written = PureWindowsPath(unquote(uri))
        if "://" in uri or written.anchor or ".." in written.parts:
            raise MeshError(f"{self.name}: its data lie at {uri[:80]!r}, outside of its folder; put them beside it")
        return self.folder.required(_key(uri))


class _Placing:
    """How a texture is laid on (KHR_texture_transform), and by which coordinates."""

    def __init__(self, said: dict[str, Any] | None = None, channel: int = 0) -> None:
        said = said or {}
        self.channel = channel
        self._offset = np.array(said.get("offset", (0, 0)), np.float64)
        self._scale = np.array(said.get("scale", (1, 1)), np.float64)
        self._turn = float(said.get("rotation", 0))

    def applied(self, uv: Doubles) -> Doubles:
        """Coordinates [N, 2] with v upwards, as they are drawn here; in the file v goes down."""
        sine, cosine = np.sin(self._turn), np.cos(self._turn)
        u, v = (uv * self._scale).T
        laid = np.stack([cosine * u + sine * v, cosine * v - sine * u], axis=1) + self._offset
        return np.stack([laid[:, 0], 1 - laid[:, 1]], axis=1)


def _key(uri: str) -> str:
    """A URI as `Folder` names files: the bytes of its name, one character each."""
    return unquote(uri).encode("utf-8", "replace").decode("latin-1")


def _triangles(index: Integers, mode: int) -> Integers:
    """Corners of triangles, [T, 3], of a list, a strip or a fan."""
    if mode == _TRIANGLES:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    if len(index) < 3:
        return np.empty((0, 3), np.int64)
    if mode == _FAN:
        return np.stack([np.full(len(index) - 2, index[0]), index[1:-1], index[2:]], axis=1)
    strip = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
    strip[1::2] = strip[1::2, ::-1]
    return strip


def _matrix(node: dict[str, Any]) -> Doubles:
    """A node's own transform [4, 4]: a matrix by columns, or scale, then rotation (a quaternion x, y, z, w), then translation."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    length = float(np.sqrt(x * x + y * y + z * z + w * w)) or 1.0
    x, y, z, w = x / length, y / length, z / length, w / length
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), np.float64).reshape(3)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64).reshape(3)
    return matrix


def srgb(linear: Doubles) -> Bytes:
    """Linear light from 0 to 1 as sRGB bytes (IEC 61966-2-1)."""
    light = np.clip(np.nan_to_num(linear), 0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    shown: Bytes = np.rint(255 * curve).astype(np.uint8)
    return shown
