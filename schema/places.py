"""Where files are: on a disk, or in an object store. The one place that knows both.

`place` makes the path that a text stands for. Everything else is `pathlib.Path`; what pathlib cannot list, `walk` and `names_at`
do for both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

from outcrop.schema.errors import InputError
from outcrop.schema.objects import MARKS, VERSION, ObjectPath

URI = "uri"
"""What rows that were made of an object keep its address as, in their dynamic part."""
HINT = "give a folder on a disk, and copy it to the store afterwards"


def place(path: Path | str) -> Path:
    """A path as it is meant: ``s3://bucket/key`` is an object, ``file:///folder`` a local path, all others stay as they are.

    Paths that pathlib has read already (``s3:/bucket/key``) are recognised too.

    Raises:
        InputError: the address holds a user or a password, names no bucket, or a version of an object.
    """
    path = Path(path) if isinstance(path, str) else path
    mark = path.parts[0] if path.parts else ""
    if isinstance(path, ObjectPath) or not mark.endswith(":") or len(mark) == 2:  # one letter is a drive of Windows
        return path
    if mark == "file:":
        return Path("/", *(unquote(part) for part in path.parts[1:]))
    if mark not in MARKS:
        return path
    if len(path.parts) < 2:
        raise InputError(f"{mark}// names no bucket; write {mark}//BUCKET/FOLDER")
    if "@" in path.parts[1] and ":" in path.parts[1]:
        raise InputError(
            f"an address of {mark}// holds a secret; give keys in the environment, as the store's tools read them"
        )
    if ".." in path.parts:
        raise InputError(f"{mark}//{'/'.join(path.parts[1:])} is not a valid address: it must be without '..'")
    if any(VERSION in part for part in path.parts):
        raise InputError(f"{mark}//{'/'.join(path.parts[1:])}: versions of objects are not read; give the key alone")
    return ObjectPath(*path.parts)


def below(base: Path, text: str | PurePath) -> Path:
    """The place that a text names: an address by itself, else a path from `base` on."""
    named = place(str(text))
    return named if is_remote(named) else base / text


def absolute(path: Path) -> Path:
    """The place of a path, from wherever the process is."""
    return place(path).absolute()


def placed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with all paths among them as places, those in lists too."""
    return {name: _placed(value) for name, value in values.items()}


def _placed(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_placed(each) for each in value)
    return place(value) if isinstance(value, Path) else value


def is_remote(path: Path) -> bool:
    """Whether a path leads into an object store."""
    return isinstance(path, ObjectPath)


def require_disk(path: Path, what: str, fix: str = HINT) -> None:
    """Refuses a place in an object store where files are written piece by piece, or read where they lie.

    Raises:
        InputError: it is one.
    """
    if is_remote(path):
        raise InputError(f"{what} {path} must be on a disk, not in an object store; {fix}")


def walk(root: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`: folders (which may be left out by changing the list, on a disk), and the names in each."""
    if isinstance(root, ObjectPath):
        try:
            yield from _pruned(root)
        except OSError as error:
            if onerror is None:
                raise
            onerror(error)
        return
    for folder, folders, names in os.walk(root, onerror=onerror):
        yield Path(folder), folders, names


def _pruned(root: ObjectPath) -> Iterator[tuple[Path, list[str], list[str]]]:
    """What is below, without folders that were taken out of the list that was given."""
    left: set[Path] = {root}
    for folder, folders, names in root.walk_objects():
        if folder in left:
            yield folder, folders, names
            left.update(folder / name for name in folders)


def names_at(folder: Path, depth: int) -> list[str]:
    """Regular files exactly `depth` levels below a folder, as paths from there, in order; links to files count, links to folders
    are not followed."""
    if isinstance(folder, ObjectPath):
        start = len(folder.parts)
        found = [
            (*at.parts[start:], name)
            for at, _, names in folder.walk_objects()
            if len(at.parts) == start + depth - 1
            for name in names
        ]
        return ["/".join(parts) for parts in sorted(found)]
    return _names_at(os.fspath(folder), depth)


def _names_at(folder: str, depth: int) -> list[str]:
    with os.scandir(folder) as entries:
        if depth == 1:
            return sorted([entry.name for entry in entries if entry.is_file()])
        folders = sorted([entry.name for entry in entries if entry.is_dir(follow_symlinks=False)])
    return [f"{name}/{below}" for name in folders for below in _names_at(os.path.join(folder, name), depth - 1)]
