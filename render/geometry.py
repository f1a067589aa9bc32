"""Meshes and point clouds from files: read, checked, and put into the unit ball.

trimesh reads OBJ, STL and OFF, `render.ply` reads PLY. Neither files nor readers are trusted: `preflight` holds a file's claims
against its size before, and what was read is checked after.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from outcrop.render.ply import Lists, Table, fans, read_header, read_tables
from outcrop.render.preflight import Claims, check_size, preflight, unfolded
from outcrop.schema.errors import MeshError

if TYPE_CHECKING:
    import trimesh

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """A mesh, or a point cloud where it has no faces.

    `vertices` [V, 3] float32; `faces` [F, 3] int32; `colours` sRGB of the vertices, uint8 [V, 3], or None; `normals` that a
    point cloud brings, [V, 3], or None; `uv` texture coordinates of the corners, float32 [F, 3, 2], or None; `texture_of` the
    number of each face's texture, int16 [F], -1 = none; `textures` uint8 [h, w, 3] each, their first row at v = 1.
    """

    name: str
    vertices: Floats
    faces: Integers
    colours: Bytes | None = None
    normals: Floats | None = None
    uv: Floats | None = None
    texture_of: NDArray[np.int16] | None = None
    textures: tuple[Bytes, ...] = ()

    @property
    def is_cloud(self) -> bool:
        """Whether this is a point cloud."""
        return len(self.faces) == 0


def load(path: Path, data: bytes | None = None) -> Shape:
    """Reads a `.ply`, `.obj`, `.stl` or `.off` file (any letter case); `data` spares reading it again.

    Materials and textures of an OBJ, and the texture of a PLY, are taken from below the file's own folder only.

    Raises:
        MeshError: what is wrong with the file, and what to do.
    """
    name = str(path)
    if data is None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise MeshError(f"{name}: cannot be read ({error.strerror}); check the path and its permissions") from None
    suffix = path.suffix.lower()
    claims = preflight(data, suffix, name)
    try:
        shape = _read(path, data, suffix, claims)
    except MeshError:
        raise
    except MemoryError:
        raise MeshError(f"{name}: reading it needs more memory than there is; simplify it") from None
    except Exception as error:  # the readers raise whatever they trip over
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise MeshError(f"{name}: damaged {suffix[1:].upper()} ({cause}); export it again") from error
    return _checked(shape)


def normalised(shape: Shape) -> Shape:
    """The shape in the unit ball: the middle of its bounding box at the origin, its farthest vertex at distance 1."""
    vertices = shape.vertices.astype(np.float64)
    vertices -= (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    vertices /= np.sqrt((vertices**2).sum(axis=1).max())
    return replace(shape, vertices=vertices.astype(np.float32))


def _read(path: Path, data: bytes, suffix: str, claims: Claims) -> Shape:
    if suffix == ".ply":
        return _read_ply(path, data)
    import trimesh

    from outcrop.render.textures import Folder

    if suffix == ".obj":
        data = _absolute_indices(unfolded(data), str(path))
    elif suffix == ".stl" and not claims.text:
        data = data[: 84 + 50 * claims.faces]
    scene = trimesh.load_scene(
        io.BytesIO(data), file_type=suffix[1:], resolver=Folder(path), process=False, allow_remote=False
    )
    parts = [_part(str(path), part) for part in scene.geometry.values()]
    if not parts:
        raise MeshError(f"{path}: holds no vertices and faces that can be read; export it again")
    shape = _joined(str(path), parts)
    if suffix == ".off":
        shape = replace(shape, colours=_off_colours(data, claims, len(shape.vertices)))
    return shape


def _part(name: str, part: trimesh.Trimesh | trimesh.PointCloud) -> Shape:
    """One geometry of a scene; a material's colour becomes that of its vertices."""
    faces = np.asarray(getattr(part, "faces", np.empty((0, 3))), np.int64).reshape(-1, 3)
    vertices = np.asarray(part.vertices, np.float64)
    check_size(len(vertices), len(faces), name)
    _check_indices(faces, len(vertices), name)
    shape = Shape(name, vertices.astype(np.float32), faces.astype(np.int32))
    visual = part.visual
    if visual.kind == "texture":
        material = visual.material
        image = getattr(material, "image", None)
        if image is None:
            image = getattr(material, "baseColorTexture", None)
        if image is not None and visual.uv is not None and len(visual.uv) == len(vertices):
            from outcrop.render.textures import texture_pixels

            pixels = texture_pixels(image)
            uv = np.asarray(visual.uv, np.float32)[faces]
            return replace(shape, uv=uv, texture_of=np.zeros(len(faces), np.int16), textures=(pixels,))
        colour = np.asarray(material.main_color, np.uint8)[:3]
        return replace(shape, colours=np.tile(colour, (len(vertices), 1)))
    if visual.kind == "vertex":
        return replace(shape, colours=np.asarray(visual.vertex_colors, np.uint8)[:, :3])
    if visual.kind == "face":
        # Every corner a vertex of its own, so that its colour is its face's.
        return replace(
            shape,
            vertices=shape.vertices[shape.faces.ravel()],
            faces=np.arange(shape.faces.size, dtype=np.int32).reshape(-1, 3),
            colours=np.repeat(np.asarray(visual.face_colors, np.uint8)[:, :3], 3, axis=0),
        )
    return shape


def _joined(name: str, parts: list[Shape]) -> Shape:
    """All parts as one shape. One untextured material says nothing of the specimen: it is left aside."""
    if len(parts) == 1:
        only = parts[0]
        plain = only.colours is not None and len(only.colours) > 0 and bool((only.colours == only.colours[0]).all())
        return replace(only, colours=None) if plain else only
    meshes = [part for part in parts if not part.is_cloud]
    parts = meshes or parts
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    texture_starts = np.cumsum([0, *(len(part.textures) for part in parts)])
    coloured = any(part.colours is not None for part in parts)
    textured = any(part.textures for part in parts)
    return Shape(
        name,
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + int(start) for part, start in zip(parts, starts[:-1], strict=True)]).astype(
            np.int32
        ),
        np.concatenate([_colours(part) for part in parts]) if coloured else None,
        None,
        np.concatenate([_uv(part) for part in parts]) if textured else None,
        np.concatenate(
            [
                part.texture_of + int(start) if part.texture_of is not None else np.full(len(part.faces), -1)
                for part, start in zip(parts, texture_starts[:-1], strict=True)
            ]
        ).astype(np.int16)
        if textured
        else None,
        tuple(texture for part in parts for texture in part.textures),
    )


def _colours(part: Shape) -> Bytes:
    return part.colours if part.colours is not None else np.full((len(part.vertices), 3), 204, np.uint8)


def _uv(part: Shape) -> Floats:
    return part.uv if part.uv is not None else np.zeros((len(part.faces), 3, 2), np.float32)


def _read_ply(path: Path, data: bytes) -> Shape:
    name = str(path)
    header = read_header(data, name)
    tables = read_tables(data, header, name)
    vertex, face = tables.get("vertex", {}), tables.get("face", {})
    places = _columns(vertex, "x", "y", "z")
    if places is None:
        raise MeshError(f"{name}: its vertices have no x, y and z; export it again")
    shape = Shape(name, places.astype(np.float32), np.empty((0, 3), np.int32), _ply_colours(vertex))
    corners = face.get("vertex_indices", face.get("vertex_index"))
    if not isinstance(corners, Lists):
        normals = _columns(vertex, "nx", "ny", "nz")
        return replace(shape, normals=None if normals is None else normals.astype(np.float32))
    triangles, polygon = fans(corners)
    faces = corners.values[triangles].astype(np.int64)
    _check_indices(faces, len(places), name)
    if shape.colours is None and (colours := _ply_colours(face)) is not None:
        faces, places = np.arange(faces.size).reshape(-1, 3), places[faces.ravel()]
        shape = replace(shape, vertices=places.astype(np.float32), colours=np.repeat(colours[polygon], 3, axis=0))
    shape = replace(shape, faces=faces.astype(np.int32))
    return _ply_textured(shape, path, header.texture, vertex, face, corners, triangles) if header.texture else shape


def _ply_textured(
    shape: Shape,
    path: Path,
    texture: str,
    vertex: Table,
    face: Table,
    corners: Lists,
    triangles: NDArray[np.int64],
) -> Shape:
    """The shape with the texture that its header names, where it has coordinates for it and the picture can be had."""
    uv: NDArray[np.floating] | None = None
    listed = face.get("texcoord")
    if isinstance(listed, Lists) and (listed.lengths == 2 * corners.lengths).all():
        uv = listed.values.reshape(-1, 2)[triangles]
    else:
        for names in (("texture_u", "texture_v"), ("u", "v"), ("s", "t")):
            if uv is None and (columns := _columns(vertex, *names)) is not None:
                uv = columns[corners.values[triangles].astype(np.int64)]
    if uv is None or not np.isfinite(uv).all():
        return shape
    from outcrop.render.textures import Folder

    pixels = Folder(path).pixels(texture)
    if pixels is None:
        return shape  # the folder has said why
    return replace(shape, uv=uv.astype(np.float32), texture_of=np.zeros(len(triangles), np.int16), textures=(pixels,))


def _columns(table: Table, *names: str) -> NDArray[np.floating] | None:
    """Properties side by side, [N, len(names)]; None where one is missing."""
    columns = [table.get(name) for name in names]
    if any(column is None or isinstance(column, Lists) for column in columns):
        return None
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _ply_colours(table: Table) -> Bytes | None:
    for prefix in ("", "diffuse_"):
        names = [prefix + channel for channel in ("red", "green", "blue")]
        columns = _columns(table, *names)
        if columns is not None and np.isfinite(columns).all():
            whole = np.asarray(table[names[0]]).dtype.kind in "iu"
            colours: Bytes = np.rint(np.clip(columns if whole else columns * 255, 0, 255)).astype(np.uint8)
            return colours
    return None


def _absolute_indices(data: bytes, name: str) -> bytes:
    """OBJ text whose faces count vertices from the beginning: trimesh takes indices such as -1 for those of the whole file."""
    if not re.search(rb"^[ \t]*f[ \t][^\n]*-", data, re.MULTILINE):
        return data
    counts = {b"v": 0, b"vt": 0, b"vn": 0}
    kinds = (b"v", b"vt", b"vn")
    lines = []
    for line in data.splitlines():
        words = line.split()
        if words and words[0] in counts:
            counts[words[0]] += 1
        elif words and words[0] == b"f" and b"-" in line:
            corners = [
                b"/".join(
                    b"%d" % (counts[kinds[n]] + 1 + int(index)) if index.startswith(b"-") else index
                    for n, index in enumerate(corner.split(b"/"))
                )
                for corner in words[1:]
            ]
            if any(b"-" in corner or corner.startswith(b"0") for corner in corners):
                shown = line.decode("utf-8", "replace").strip()[:60]
                raise MeshError(f"{name}: the line {shown!r} counts back beyond the first vertex; it is damaged")
            line = b" ".join([b"f", *corners])
        lines.append(line)
    return b"\n".join(lines)


def _off_colours(data: bytes, claims: Claims, vertices: int) -> Bytes | None:
    """The vertex colours of a ``COFF`` file: bytes, or numbers from 0 to 1; trimesh leaves them aside."""
    head = re.match(rb"\s*(?:#[^\n]*\n\s*)*CN?OFF\b", data[:4096])
    if head is None or vertices != claims.vertices:
        return None
    lines = [line for line in re.sub(rb"#[^\n]*", b"", data[head.end() :]).splitlines() if line.strip()]
    skipped = 6 if b"N" in head.group()[:6].upper().replace(b"CNOFF", b"N") else 3
    words = [line.split()[skipped : skipped + 3] for line in lines[1 : 1 + vertices]]
    if any(len(word) < 3 for word in words):
        return None
    values = np.array(words, np.float64)
    whole = not any(b"." in word for row in words for word in row) or values.max() > 1
    return np.rint(np.clip(values if whole else values * 255, 0, 255)).astype(np.uint8)


def _checked(shape: Shape) -> Shape:
    """The shape without unused vertices, if everything in it is finite and in range and it has an extent.

    Raises:
        MeshError: it is not so.
    """
    name, vertices, faces = shape.name, shape.vertices, shape.faces
    check_size(len(vertices), len(faces), name)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise MeshError(f"{name}: its vertices do not have three coordinates each; it is damaged")
    if not len(vertices):
        raise MeshError(f"{name}: holds no vertices; export it again")
    if len(faces):
        _check_indices(faces, len(vertices), name)
        shape = _without_unused(shape)
        vertices = shape.vertices
    if not np.isfinite(vertices).all():
        wrong = int((~np.isfinite(vertices).all(axis=1)).sum())
        raise MeshError(
            f"{name}: {wrong:,} of {len(vertices):,} vertices are not finite numbers; clean it and export it again"
        )
    extent = float((vertices.max(axis=0).astype(np.float64) - vertices.min(axis=0)).max())
    if not extent > 0 or extent < 1e-6 * float(np.abs(vertices).max()):
        raise MeshError(f"{name}: all its vertices lie in one point; export it again")
    if shape.is_cloud and len(vertices) < 16:
        raise MeshError(f"{name}: holds no faces and only {len(vertices)} points; too few to draw")
    return shape


def _check_indices(faces: NDArray[np.integer], vertices: int, name: str) -> None:
    if faces.size and (faces.min() < 0 or faces.max() >= vertices):
        wrong = int(((faces < 0) | (faces >= vertices)).any(axis=1).sum())
        raise MeshError(
            f"{name}: {wrong:,} of {len(faces):,} faces name vertices that are not there (it has {vertices:,}); it is damaged"
        )


def _without_unused(shape: Shape) -> Shape:
    """Vertices of no face may lie anywhere, and must not decide how large the specimen is."""
    used = np.zeros(len(shape.vertices), bool)
    used[shape.faces.ravel()] = True
    if used.all():
        return shape
    new = np.cumsum(used, dtype=np.int32) - 1
    return replace(
        shape,
        vertices=shape.vertices[used],
        faces=new[shape.faces],
        colours=shape.colours[used] if shape.colours is not None else None,
        normals=None,
    )
