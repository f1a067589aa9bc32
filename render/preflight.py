"""What a mesh file claims, held against its size before memory is spent on it.

Readers of meshes believe headers: one that claims 10^9 vertices makes them ask for 24 GB, and one that claims fewer faces than
there are, or more, is read in part without a word. Here the claims are checked first, from the header and the size alone where
the format is binary, by counting lines where it is text.

Formats: PLY (see `render.ply`), STL (3D Systems, 1989), OFF (Geomview), OBJ (Wavefront).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from outcrop.render.ply import read_header
from outcrop.schema.errors import MeshError

SUFFIXES = frozenset((".ply", ".obj", ".stl", ".off"))
"""Endings of the files that can be drawn (compared in lower case)."""
MAX_VERTICES = 20_000_000
MAX_FACES = 10_000_000
MAX_BYTES = 2**30
"""A binary file larger than this (bytes) is not read; of text a third of it."""


@dataclass(frozen=True)
class Claims:
    """What a file says it holds, and whether it is text."""

    vertices: int
    faces: int
    text: bool


def preflight(data: bytes, suffix: str, name: str) -> Claims:
    """Checks a file's claims; `suffix` is its ending in lower case, `name` is what errors call it.

    Raises:
        MeshError: empty, of another format, false or impossible counts, or larger than can be drawn.
    """
    if suffix not in SUFFIXES:
        raise MeshError(f"{name}: {suffix or 'no ending'} is no mesh format; give {', '.join(sorted(SUFFIXES))}")
    if not data.strip(b"\0 \t\r\n"):
        raise MeshError(f"{name}: the file is empty; copy or export it again")
    if data[:60].startswith(b"version https://git-lfs"):
        raise MeshError(f"{name}: a Git LFS pointer, not the mesh itself (run git lfs pull)")
    if data[:64].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise MeshError(f"{name}: an HTML page, not a mesh (a failed download?)")
    claims = {".ply": _ply, ".stl": _stl, ".off": _off, ".obj": _obj}[suffix](data, name)
    if claims.vertices < 1:
        raise MeshError(f"{name}: holds no vertices; export it again")
    check_size(claims.vertices, claims.faces, name)
    if len(data) > (MAX_BYTES // 3 if claims.text else MAX_BYTES):
        fix = "save it in a binary format" if claims.text else "simplify it"
        raise MeshError(f"{name}: has {len(data):,} bytes, more than can be read; {fix}")
    return claims


def check_size(vertices: int, faces: int, name: str) -> None:
    """Refuses what would take more memory than a specimen may.

    Raises:
        MeshError: more vertices or faces than can be drawn.
    """
    if vertices > MAX_VERTICES:
        raise MeshError(f"{name}: {vertices:,} vertices, more than the {MAX_VERTICES:,} that can be drawn; simplify it")
    if faces > MAX_FACES:
        raise MeshError(f"{name}: {faces:,} faces, more than the {MAX_FACES:,} that can be drawn; simplify it")


def _ply(data: bytes, name: str) -> Claims:
    header = read_header(data, name)
    return Claims(header.count("vertex"), header.count("face"), not header.order)


def _stl(data: bytes, name: str) -> Claims:
    """Binary: 80 bytes, a count, 50 bytes a triangle. Text: ``solid`` … ``facet`` … ``vertex X Y Z`` … ``endsolid``."""
    claimed = int.from_bytes(data[80:84], "little") if len(data) >= 84 else 0
    if len(data) >= 84 and len(data) == 84 + 50 * claimed:
        return Claims(3 * claimed, claimed, False)
    if data[:512].lstrip().lower().startswith(b"solid") and b"\0" not in data[:512]:
        text = data.lower()
        corners, facets = len(re.findall(rb"\bvertex\b", text)), len(re.findall(rb"\bendfacet\b", text))
        if corners != 3 * facets or not re.search(rb"\bendsolid\b", text):
            raise MeshError(f"{name}: its last facet or its `endsolid` is missing; it is cut short or damaged")
        return Claims(corners, facets, True)
    if len(data) >= 84 and claimed and len(data) > 84 + 50 * claimed and not any(data[84 + 50 * claimed :]):
        return Claims(3 * claimed, claimed, False)  # padded with zeros, as some writers do
    raise MeshError(
        f"{name}: claims {claimed:,} triangles, which take {84 + 50 * claimed:,} bytes, but has {len(data):,}; "
        "it is cut short, its count is false, or it is no STL file"
    )


def _off(data: bytes, name: str) -> Claims:
    """``[C][N][ST]OFF``, then the counts of vertices, faces and edges, then a line for each vertex and each face."""
    head = re.match(rb"\s*(?:#[^\n]*\n\s*)*(ST)?(C)?(N)?(4)?(n)?OFF\b[ \t]*(BINARY)?", data[:4096])
    if head is None:
        raise MeshError(f"{name}: does not begin as an OFF file does; export it again")
    if any(head.group(n) for n in (1, 4, 5, 6)):
        raise MeshError(f"{name}: a binary, textured or higher-dimensional OFF file; export it as plain OFF or as PLY")
    body = re.sub(rb"#[^\n]*", b"", data[head.end() :]).strip()
    first, _, rest = body.partition(b"\n")
    counts = first.split()
    if len(counts) < 2 or not all(re.fullmatch(rb"[-+]?\d{1,18}", word) for word in counts):
        raise MeshError(f"{name}: its OFF header has no counts of vertices and faces; export it again")
    vertices, faces = int(counts[0]), int(counts[1])
    if vertices < 0 or faces < 0:
        raise MeshError(f"{name}: its OFF header claims a negative number of things; it is damaged")
    lines = 0 if vertices + faces > len(rest) else sum(1 for line in rest.splitlines() if line.strip())
    if lines < vertices + faces:
        raise MeshError(
            f"{name}: claims {vertices:,} vertices and {faces:,} faces, but holds "
            f"{f'{lines:,} lines' if lines else f'only {len(rest):,} bytes'}; it is cut short, or its counts are false"
        )
    return Claims(vertices, faces, True)


def _obj(data: bytes, name: str) -> Claims:
    """Lines ``v X Y Z [R G B]``, ``f A[/T][/N] B… C…``; indices count from 1, or backwards from -1."""
    if b"\0" in data[:4096]:
        raise MeshError(f"{name}: holds binary data, no OBJ text; export it again")
    data = unfolded(data)
    if short := re.search(rb"^[ \t]*v(?:[ \t]+[^\s#]+){0,2}[ \t]*(?:#[^\n]*)?\r?$", data, re.MULTILINE):
        raise MeshError(f"{name}: the line {_shown(short)!r} has fewer than three coordinates; it is damaged")
    if short := re.search(rb"^[ \t]*f(?:[ \t]+[^\s#]+){0,2}[ \t]*(?:#[^\n]*)?\r?$", data, re.MULTILINE):
        raise MeshError(f"{name}: the line {_shown(short)!r} has fewer than three corners; it is damaged")
    if zero := re.search(rb"^[ \t]*f[ \t][^\n]*?(?<=[ \t])0+(?=[/\s])[^\n]*", data, re.MULTILINE):
        raise MeshError(f"{name}: the line {_shown(zero)!r} names vertex 0, but they count from 1; it is damaged")
    vertices = len(re.findall(rb"^[ \t]*v[ \t]", data, re.MULTILINE))
    faces = len(re.findall(rb"^[ \t]*f[ \t]", data, re.MULTILINE))
    if not vertices:
        raise MeshError(f"{name}: holds no line of an OBJ file with a vertex; is it one?")
    return Claims(vertices, faces, True)


def unfolded(data: bytes) -> bytes:
    """OBJ text without continued lines (a backslash at the end)."""
    return re.sub(rb"\\\r?\n", b" ", data) if b"\\" in data else data


def _shown(found: re.Match[bytes]) -> str:
    return found.group().strip().decode("utf-8", "replace")[:60]
