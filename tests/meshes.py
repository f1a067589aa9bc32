"""Small meshes for the tests: shapes that are cheap to make and easy to tell apart, in every format, whole and broken."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vertices = NDArray[np.float64]
Faces = NDArray[np.int64]


def ball(subdivisions: int = 2, stretched: Sequence[float] = (1, 1, 1), bumps: int = 0) -> tuple[Vertices, Faces]:
    """A sphere of triangles (320 for two subdivisions), stretched along its axes, with bumps from pole to pole."""
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = np.array(mesh.vertices)
    if bumps:
        angle = np.arctan2(vertices[:, 2], vertices[:, 0])
        vertices *= (1 + 0.15 * np.sin(bumps * angle) * (1 - vertices[:, 1] ** 2))[:, None]
    return vertices * np.array(stretched), np.array(mesh.faces)


def box() -> tuple[Vertices, Faces]:
    """The unit cube: 8 vertices, 12 triangles, outside out."""
    vertices = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    faces = [(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1)]
    faces += [(2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)]
    return vertices, np.array(faces)


def write(path: Path, vertices: Vertices, faces: Faces, *, text: bool = False) -> Path:
    """Writes a mesh in the format of the path's ending, binary where the format has it unless `text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix.lower():
        case ".ply":
            path.write_bytes(ply(vertices, faces, "ascii" if text else "binary_little_endian"))
        case ".stl":
            path.write_bytes(stl_text(vertices, faces) if text else stl(vertices, faces))
        case ".off":
            path.write_bytes(off(vertices, faces))
        case ".obj":
            path.write_bytes(obj(vertices, faces))
    return path


def ply(vertices: Vertices, faces: Faces, encoding: str = "binary_little_endian") -> bytes:
    """A PLY file of triangles."""
    header = (
        f"ply\nformat {encoding} 1.0\ncomment made for a test\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    if encoding == "ascii":
        return header + (_rows(vertices) + _rows(np.insert(faces, 0, 3, axis=1))).encode()
    order = ">" if "big" in encoding else "<"
    table = np.empty(len(faces), np.dtype([("count", "u1"), ("corners", f"{order}i4", 3)]))
    table["count"], table["corners"] = 3, faces
    return header + vertices.astype(f"{order}f4").tobytes() + table.tobytes()


def cloud_ply(points: Vertices, colours: NDArray[np.uint8] | None = None) -> bytes:
    """A PLY file of points, with colours where given."""
    names = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue")) if colours is not None else ""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
        f"property float x\nproperty float y\nproperty float z\n{names}end_header\n"
    )
    table = np.empty(len(points), np.dtype([("place", "<f4", 3), *([("colour", "u1", 3)] if names else [])]))
    table["place"] = points
    if colours is not None:
        table["colour"] = colours
    return header.encode() + table.tobytes()


def stl(vertices: Vertices, faces: Faces) -> bytes:
    """A binary STL file."""
    table = np.zeros(len(faces), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("extra", "<u2")]))
    table["corners"] = vertices[faces]
    return b"made for a test".ljust(80) + struct.pack("<I", len(faces)) + table.tobytes()


def stl_text(vertices: Vertices, faces: Faces) -> bytes:
    """A text STL file."""
    facets = [
        "facet normal 0 0 0\nouter loop\n" + "".join(f"vertex {x:.7g} {y:.7g} {z:.7g}\n" for x, y, z in corners)
        for corners in vertices[faces]
    ]
    return ("solid test\n" + "endloop\nendfacet\n".join([*facets, ""]) + "endsolid test\n").encode()


def off(vertices: Vertices, faces: Faces) -> bytes:
    """An OFF file."""
    return (f"OFF\n{len(vertices)} {len(faces)} 0\n" + _rows(vertices) + _rows(np.insert(faces, 0, 3, axis=1))).encode()


def obj(vertices: Vertices, faces: Faces) -> bytes:
    """An OBJ file."""
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    return ("\n".join(lines) + "\n").encode()


def _rows(table: NDArray[np.float64] | NDArray[np.int64]) -> str:
    return "".join(" ".join(f"{value:.7g}" for value in row) + "\n" for row in table)


def broken() -> dict[str, tuple[bytes, str]]:
    """Broken files by name: their bytes, and what the reason for their refusal must say."""
    vertices, faces = box()
    good = {kind: make(vertices, faces) for kind, make in (("ply", ply), ("stl", stl), ("off", off), ("obj", obj))}
    huge = 10**9
    beyond, nan = faces.copy(), vertices.copy()
    beyond[3, 1] = 99
    nan[2, 1] = np.nan
    triangle = struct.pack("<12fH", 0, 0, 0, np.nan, 0, 0, 1, 0, 0, 0, 1, 0, 0)
    return {
        "empty.ply": (b"", "empty"),
        "blank.obj": (b"\n\n  \n", "empty"),
        "cut.ply": (good["ply"][:-40], "cut short"),
        "word.ply": (ply(vertices, faces, "ascii").replace(b"1 1 1", b"1 x 1"), "is not a number"),
        "no_end.ply": (good["ply"][:60], "header has no end"),
        "huge.ply": (good["ply"].replace(b"vertex 8", b"vertex %d" % huge), "1,000,000,000"),
        "huge_text.ply": (ply(vertices, faces, "ascii").replace(b"vertex 8", b"vertex %d" % huge), "1,000,000,000"),
        "few_faces.ply": (b"\n".join(ply(vertices, faces, "ascii").splitlines()[:-3]), "past its end"),
        "long_list.ply": (good["ply"].replace(b"\x03", b"\xff", 1), "a list of 255 values"),
        "beyond.ply": (ply(vertices, beyond), "1 of 12 faces name vertices that are not there"),
        "negative.ply": (ply(vertices, np.where(beyond == 99, -5, beyond)), "not there"),
        "nan.ply": (ply(nan, faces), "not finite"),
        "strips.ply": (good["ply"].replace(b"element face 12", b"element tristrips 12"), "strips"),
        "cut.stl": (good["stl"][:-70], "cut short"),
        "huge.stl": (good["stl"][:80] + struct.pack("<I", huge) + good["stl"][84:], "1,000,000,000"),
        "false.stl": (good["stl"][:80] + struct.pack("<I", 10) + good["stl"][84:], "false"),
        "cut_text.stl": (stl_text(vertices, faces)[:700], "cut short"),
        "nan.stl": (good["stl"][:80] + struct.pack("<I", 1) + triangle, "not finite"),
        "huge.off": (good["off"].replace(b"8 12", b"%d 12" % huge), "1,000,000,000"),
        "negative.off": (good["off"].replace(b"8 12", b"-8 12"), "negative"),
        "cut.off": (good["off"][:100], "cut short"),
        "beyond.off": (off(vertices, beyond), "1 of 12 faces name vertices that are not there"),
        "beyond.obj": (obj(vertices, beyond), "1 of 12 faces name vertices that are not there"),
        "zero.obj": (good["obj"] + b"f 0 1 2\n", "count from 1"),
        "short.obj": (good["obj"] + b"v 1 2\n", "fewer than three coordinates"),
        "edge.obj": (good["obj"] + b"f 1 2\n", "fewer than three corners"),
        "nan.obj": (obj(nan, faces), "not finite"),
        "binary.obj": (bytes(range(256)) * 8, "binary"),
        "prose.obj": (b"hello world\n", "no line of an OBJ"),
        "point.ply": (ply(np.zeros((8, 3)), faces), "one point"),
        "page.stl": (b"<!DOCTYPE html><html><body>not found</body></html>", "HTML"),
        "pointer.ply": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs"),
        "three.ply": (cloud_ply(vertices[:3]), "too few"),
    }
