"""`ingest FOLDER`: what to type instead, where a path was given in place of a command."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from outcrop.schema.any_names import PICTURES
from outcrop.schema.films import SUFFIXES as FILMS
from outcrop.screen import lazy

MAX_FILES = 2000
"""Files that are looked at to find out what a folder holds."""
MESHES = frozenset((".ply", ".obj", ".stl", ".off", ".glb", ".gltf", ".3mf", ".dae", ".vtp"))
VECTORS = frozenset((".npy", ".npz"))
DOCUMENTS = frozenset((".json", ".yaml", ".yml"))


class Commands(lazy.Commands):
    """The subcommands of `ingest`; an error says what to type where a path was given instead."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The subcommand that the first word names."""
        if args and self.get_command(ctx, args[0]) is None and (advice := what_to_type(args[0])):
            ctx.fail(advice)
        return super().resolve_command(ctx, args)


def what_to_type(word: str) -> str:
    """The advice for a path in place of a command; '' where the word does not look like a path."""
    if "://" in word:
        quoted = shlex.quote(word)
        return f"{word} is an address, not a command; type `ingest images {quoted}` or `ingest specimens {quoted}`"
    path = Path(word)
    if path.is_dir():
        return f"{word} is a folder, not a command; {_for_folder(word, path)}"
    if path.is_file():
        return f"{word} is a file, not a command; {_for_file(word, path)}"
    if os.sep in word or path.suffix:
        return f"{word} is not a command, and there is no such file or folder; `ingest --help` lists the commands"
    return ""


def holds_meshes(folder: Path) -> bool:
    """Whether a folder is one of meshes: there are some, and at least as many as pictures."""
    held = Counter(path.suffix.lower() for path in islice(_files(folder), MAX_FILES))
    meshes, pictures = (sum(held[suffix] for suffix in kind) for kind in (MESHES, PICTURES))
    return meshes > 0 and meshes >= pictures


def _for_folder(word: str, folder: Path) -> str:
    held = Counter(path.suffix.lower() for path in islice(_files(folder), MAX_FILES))
    meshes, pictures, vectors = (sum(held[s] for s in kind) for kind in (MESHES, PICTURES, VECTORS))
    quoted = shlex.quote(word)
    if vectors > max(meshes, pictures) or (folder / "space.json").is_file():
        layout = "imgmatching" if any(folder.glob("*/Global")) or (folder / "Global").is_dir() else "fossilvit"
        return f"to read its vectors, type `ingest features {quoted} --layout {layout}`"
    if meshes and meshes >= pictures:
        return f"to embed its meshes, type `ingest specimens {quoted}`"
    if pictures:
        return f"to embed its pictures, type `ingest images {quoted}`"
    if sum(held[suffix] for suffix in FILMS):
        return f"to embed frames of its films, type `ingest video {quoted}`"
    return f"type `ingest images {quoted}` for pictures, or `ingest specimens {quoted}` for meshes"


def _for_file(word: str, file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix in MESHES:
        return f"to embed the meshes of its folder, type `ingest specimens {shlex.quote(str(file.parent))}`"
    if suffix in FILMS:
        return f"to embed its frames, type `ingest video {shlex.quote(word)}`"
    if suffix in DOCUMENTS:
        return (
            f"if it is a manifest, type `ingest manifest {shlex.quote(word)}`; "
            f"if it is a registry, `ingest dataset NAME --registry {shlex.quote(word)}`"
        )
    if suffix in PICTURES:
        return f"to embed the pictures of its folder, type `ingest images {shlex.quote(str(file.parent))}`"
    return "pictures are embedded by their folder: `ingest images DIR`"


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))
