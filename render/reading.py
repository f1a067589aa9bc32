"""Which reader reads a mesh file, through compression and archives, and what parts it has: `read_polygons`, `part_names`."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from outcrop.render.archives import Archive, gunzipped
from outcrop.render.collada import read_dae
from outcrop.render.gltf import buffer_files, read_gltf
from outcrop.render.obj import read_obj
from outcrop.render.off import read_off
from outcrop.render.ply import read_ply
from outcrop.render.polygons import Polygons
from outcrop.render.preflight import check_file, ending_of, is_mesh, read_file
from outcrop.render.scenes import Scene, merged, part_named
from outcrop.render.stl import read_stl
from outcrop.render.text import is_marked_text, text_of
from outcrop.render.threemf import read_3mf
from outcrop.render.vtp import read_vtp
from outcrop.schema.errors import MeshError

READERS: dict[str, Callable[[Path, bytes], Polygons]] = {
    ".ply": read_ply,
    ".obj": read_obj,
    ".stl": read_stl,
    ".off": read_off,
}
SCENES: dict[str, Callable[[Path, bytes], Scene]] = {
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".3mf": read_3mf,
    ".dae": read_dae,
    ".vtp": read_vtp,
}
SPLIT = frozenset((".glb", ".gltf", ".3mf", ".dae", ".zip"))
"""Endings of the files that may hold several specimens."""


def read_polygons(path: Path, data: bytes | None = None, part: str = "") -> Polygons:
    """What a mesh file holds, or one of its parts (see `part_names`); `data` spares reading it again.

    Raises:
        MeshError: what is wrong with the file, and what to do.
    """
    data = read_file(path) if data is None else data
    if ending_of(path) == ".zip":
        return _of_archive(path, data, part)
    with _explained(str(path), ending_of(path)):
        inner, ending, data = _unpacked(path, data)
        with _named(inner, str(path)):
            if ending in SCENES:
                scene = SCENES[ending](inner, data)
                return merged(part_named(scene, part, inner) if part else scene, inner)
            return READERS[ending](inner, data)


def part_names(path: Path) -> list[str]:
    """The names of a file's parts in its order, each once; none where its format has no parts.

    They are the names of a scene's nodes or objects, and of an archive the meshes in it.

    Raises:
        MeshError: what is wrong with the file, and what to do.
    """
    ending = ending_of(path).removesuffix(".gz")
    if ending not in SPLIT:
        return []
    data = read_file(path)
    if ending == ".zip":
        return _meshes(path, Archive(data, str(path)))
    with _explained(str(path), ending):
        inner, ending, data = _unpacked(path, data)
        with _named(inner, str(path)):
            return [part.name for part in SCENES[ending](inner, data).parts]


def may_hold_mesh(path: Path) -> bool:
    """Whether a file can be drawn by its name, and of a ZIP archive by the names in it; a damaged one is left to be refused."""
    if ending_of(path) != ".zip":
        return is_mesh(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return any(is_mesh(PurePosixPath(name)) for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return True


def files_beside(path: Path) -> tuple[Path, ...]:
    """The files in which the coordinates of a .gltf lie; () for all others, and where it cannot be read."""
    if ending_of(path) != ".gltf":
        return ()
    try:
        return buffer_files(path, read_file(path))
    except MeshError:
        return ()


def _unpacked(path: Path, data: bytes) -> tuple[Path, str, bytes]:
    """The file, its ending and its bytes without gzip, checked; text with a byte order mark is as if it had none."""
    ending, name = ending_of(path), str(path)
    if ending.endswith(".gz"):
        if not data:
            raise MeshError(f"{name}: the file is empty; copy or export it again")
        path, ending, data = path.with_name(path.stem), ending.removesuffix(".gz"), gunzipped(data, name)
    check_file(data, ending, name)
    if is_marked_text(data):
        data = text_of(data).encode("latin-1")
        if ending in (".dae", ".vtp"):  # what declares UTF-16 is UTF-8 now
            data = data.replace(b'"utf-16"', b'"utf-8"', 1).replace(b'"UTF-16"', b'"utf-8"', 1)
    return path, ending, data


def _of_archive(path: Path, data: bytes, part: str) -> Polygons:
    archive = Archive(data, str(path))
    meshes = _meshes(path, archive)
    if len(meshes) > 1 and not part:
        raise MeshError(
            f"{path}: holds {len(meshes)} meshes ({', '.join(meshes[:3])}{', …' if len(meshes) > 3 else ''}); "
            "--split makes a specimen of each, or unpack it"
        )
    chosen = part or meshes[0]
    if chosen not in meshes:
        raise MeshError(f"{path}: holds no mesh {part[:120]!r}; it was another file when it was listed")
    with archive.unpacked(chosen) as inner, _named(inner, f"{path}/{chosen}"):
        return read_polygons(inner)


def _meshes(path: Path, archive: Archive) -> list[str]:
    if not archive.meshes:
        raise MeshError(f"{path}: holds no mesh; leave it out of the folder, or pack a mesh into it")
    return archive.meshes


@contextlib.contextmanager
def _named(inner: Path, shown: str) -> Iterator[None]:
    """Errors name the file that a person has, not what was unpacked of it."""
    try:
        yield
    except MeshError as error:
        raise MeshError(str(error).replace(str(inner), shown)) from error if str(inner) != shown else error.__cause__


@contextlib.contextmanager
def _explained(name: str, ending: str) -> Iterator[None]:
    """What nobody foresaw costs this file only."""
    try:
        yield
    except MeshError:
        raise
    except MemoryError:
        raise MeshError(f"{name}: reading it needs more memory than there is; simplify it") from None
    except Exception as error:
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise MeshError(f"{name}: damaged {ending[1:].upper()} ({cause}); export it again") from error
