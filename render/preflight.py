"""What a mesh file claims, compared with its size before memory is spent on it.

Readers that believe headers ask for 24 GB where one claims 10^9 vertices. Here a claim is compared with the bytes that follow it
(`check_claims`) and with what can be drawn (`check_size`), before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath

from outcrop.schema.errors import MeshError

SUFFIXES = frozenset((".ply", ".obj", ".stl", ".off", ".glb", ".gltf", ".3mf", ".dae", ".vtp"))
"""Endings of the files that can be drawn (compared in lower case)."""
ARCHIVES = frozenset((".zip", *(f"{suffix}.gz" for suffix in SUFFIXES)))
"""Endings of compressed ones: any of the others with ``.gz`` behind it, or a ZIP archive."""
MAX_VERTICES = 20_000_000
MAX_FACES = 10_000_000
MAX_BYTES = 2**30
"""A binary file larger than this (bytes) is not read; of text a third of it."""
READER = 2
"""Goes up when a file would be read otherwise than before."""


def reader_version(path: Path) -> str:
    """The version of the reader of a file's format: part of what a stored view was made with; '' for other files."""
    return str(READER) if is_mesh(path) else ""


def ending_of(path: PurePath) -> str:
    """A file's ending in lower case, both of them before ``.gz`` (``.ply.gz``)."""
    ending = path.suffix.lower()
    return PurePath(path.stem).suffix.lower() + ending if ending == ".gz" else ending


def is_mesh(path: PurePath) -> bool:
    """Whether a file can be drawn, by its name: a ZIP archive may hold anything."""
    return ending_of(path) in SUFFIXES | ARCHIVES


def stem_of(path: PurePath) -> str:
    """A mesh file's name without its ending, whatever that is."""
    return path.name[: -len(ending)] if (ending := ending_of(path)) else path.name


def read_file(path: Path) -> bytes:
    """The bytes of a mesh file.

    Raises:
        MeshError: it cannot be read, or is too large to be.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MeshError(f"{path}: has {path.stat().st_size:,} bytes, more than can be read; simplify it")
        return path.read_bytes()
    except OSError as error:
        raise MeshError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


def check_file(data: bytes, suffix: str, name: str) -> None:
    """Refuses what cannot be a mesh; `suffix` is its ending in lower case, `name` is what errors call it.

    Raises:
        MeshError: empty, of another format, or something else by its first bytes.
    """
    if suffix not in SUFFIXES:
        raise MeshError(f"{name}: {suffix or 'no ending'} is not a mesh format; give {', '.join(sorted(SUFFIXES))}")
    if not data.strip(b"\0 \t\r\n"):
        raise MeshError(f"{name}: the file is empty; copy or export it again")
    if data[:60].startswith(b"version https://git-lfs"):
        raise MeshError(f"{name}: a Git LFS pointer, not the mesh itself (run git lfs pull)")
    if data[:64].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise MeshError(f"{name}: an HTML page, not a mesh (a failed download?)")


def check_text(data: bytes, name: str) -> None:
    """Refuses text that would take more memory than a specimen may.

    Raises:
        MeshError: it is too long.
    """
    if len(data) > MAX_BYTES // 3:
        raise MeshError(f"{name}: has {len(data):,} bytes, more text than can be read; save it in a binary format")


def check_claims(claims: Mapping[str, int], needed: int, following: int, name: str) -> None:
    """Compares what a file says it holds (counts by kind) with its size: at least `needed` bytes, of which `following` are there.

    Raises:
        MeshError: the claims are impossible.
    """
    if any(count < 0 for count in claims.values()):
        raise MeshError(f"{name}: its header claims a negative count; it is damaged")
    if needed > following or any(count > following for count in claims.values()):
        claimed = ", ".join(f"{count:,} of {kind!r}" for kind, count in claims.items())
        raise MeshError(
            f"{name}: claims {claimed}, at least {max(needed, *claims.values()):,} bytes, but {following:,} follow; "
            "it is cut short, or its counts are false"
        )


def check_size(vertices: int, faces: int, name: str) -> None:
    """Refuses what would take more memory than a specimen may.

    Raises:
        MeshError: more vertices or faces than can be drawn.
    """
    if vertices > MAX_VERTICES:
        raise MeshError(f"{name}: {vertices:,} vertices, more than the {MAX_VERTICES:,} that can be drawn; simplify it")
    if faces > MAX_FACES:
        raise MeshError(f"{name}: {faces:,} faces, more than the {MAX_FACES:,} that can be drawn; simplify it")
