"""Meshes as files: PLY (binary of both byte orders, text), STL (binary, text), OBJ and OFF (text only).

Formats: Turk 1994 (PLY); 3D Systems 1989 (STL); Wavefront, Advanced Visualizer manual, appendix B1 (OBJ); Geomview manual
(OFF). Lengths are written with five significant decimals, as scanners' software does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .meshes import Mesh


def write_mesh(mesh: Mesh, path: Path, form: str) -> None:
    """Writes `mesh` to `path` in one of `FORMS`.

    Raises:
        ValueError: the format has no point clouds, or is not one of `FORMATS`.
    """
    if form not in FORMS:
        raise ValueError(f"{form!r} is not a valid mesh format; choose one of {', '.join(FORMS)}")
    if form.startswith("stl") and not len(mesh.faces):
        raise ValueError("STL holds triangles and no point clouds; choose another form")
    path.write_bytes(FORMS[form](mesh))


def _ply(mesh: Mesh, order: str) -> bytes:
    word = {"<": "binary_little_endian", ">": "binary_big_endian", "": "ascii"}[order]
    lines = ["ply", f"format {word} 1.0", "comment a fossil-like form, computed", f"element vertex {len(mesh.points)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    if mesh.colours is not None:
        lines += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    if len(mesh.faces):
        lines += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices"]
    header = ("\n".join([*lines, "end_header"]) + "\n").encode()
    if not order:
        return header + _ply_text(mesh)
    fields = [("place", f"{order}f4", 3)] + ([("colour", "u1", 3)] if mesh.colours is not None else [])
    vertices = np.zeros(len(mesh.points), dtype=fields)
    vertices["place"] = mesh.points
    if mesh.colours is not None:
        vertices["colour"] = mesh.colours
    faces = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corners", f"{order}i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    return header + vertices.tobytes() + faces.tobytes()


def _ply_text(mesh: Mesh) -> bytes:
    if mesh.colours is None:
        vertices = [f"{x:.5g} {y:.5g} {z:.5g}" for x, y, z in mesh.points.tolist()]
    else:
        rows = zip(mesh.points.tolist(), mesh.colours.tolist(), strict=True)
        vertices = [f"{x:.5g} {y:.5g} {z:.5g} {r} {g} {b}" for (x, y, z), (r, g, b) in rows]
    return _lines(vertices, [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()])


def _obj(mesh: Mesh) -> bytes:
    vertices = [f"v {x:.5g} {y:.5g} {z:.5g}" for x, y, z in mesh.points.tolist()]
    return _lines(
        ["# a fossil-like form, computed"], vertices, [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    )


def _off(mesh: Mesh) -> bytes:
    vertices = [f"{x:.5g} {y:.5g} {z:.5g}" for x, y, z in mesh.points.tolist()]
    faces = [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    return _lines(["OFF", f"{len(vertices)} {len(faces)} 0"], vertices, faces)


def _stl(mesh: Mesh) -> bytes:
    record = np.zeros(len(mesh.faces), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])
    record["corners"] = mesh.points[mesh.faces]
    record["normal"] = _flat_normals(mesh)
    return b"a fossil-like form, computed".ljust(80) + np.uint32(len(record)).tobytes() + record.tobytes()


def _stl_text(mesh: Mesh) -> bytes:
    facet = (
        "facet normal {:.3g} {:.3g} {:.3g}\nouter loop\nvertex {:.5g} {:.5g} {:.5g}\nvertex {:.5g} {:.5g} {:.5g}\n"
        "vertex {:.5g} {:.5g} {:.5g}\nendloop\nendfacet"
    )
    numbers = np.concatenate([_flat_normals(mesh), mesh.points[mesh.faces].reshape(-1, 9)], axis=1)
    return _lines(["solid fossil"], [facet.format(*row) for row in numbers.tolist()], ["endsolid fossil"])


def _flat_normals(mesh: Mesh) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = across / np.maximum(
        np.linalg.norm(across, axis=1, keepdims=True), 1e-30
    )
    return found


def _lines(*groups: list[str]) -> bytes:
    return ("\n".join(line for group in groups for line in group) + "\n").encode()


FORMS: dict[str, Callable[[Mesh], bytes]] = {
    "ply": lambda mesh: _ply(mesh, "<"),
    "ply-big-endian": lambda mesh: _ply(mesh, ">"),
    "ply-text": lambda mesh: _ply(mesh, ""),
    "stl": _stl,
    "stl-text": _stl_text,
    "obj": _obj,
    "off": _off,
}
"""Forms of mesh files: what stands before the dash is the file's ending."""
