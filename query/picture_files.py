"""The files that a query with pictures means; nothing of the pictures is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outcrop.schema.errors import InputError
from outcrop.schema.films import moment_of

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".avif"))
"""Endings of the files that are taken from a folder given as a query."""


def expand(paths: Sequence[Path]) -> list[Path]:
    """The picture files that paths stand for: files and moments of films as they are, folders as the pictures
    below them, by name.

    Raises:
        InputError: a path does not exist, or a folder holds no picture.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"the folder {path} holds no picture ({', '.join(sorted(SUFFIXES))})")
            files += inside
        elif path.exists() or moment_of(path) is not None:
            files.append(path)
        else:
            raise InputError(f"no picture at {path}; check the path")
    if not files:
        raise InputError("no picture is given")
    return files
