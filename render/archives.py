"""Compressed mesh files: ``.ply.gz`` and ZIP archives, read with bounds.

A few kilobytes can claim to be terabytes, name files outside of the folder they are unpacked in, or hold links and archives in
archives. Sizes, ratios and names are checked before anything is unpacked, sizes again while it is.
"""

from __future__ import annotations

import contextlib
import io
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from outcrop.render.preflight import ARCHIVES, MAX_BYTES, SUFFIXES, ending_of
from outcrop.schema.errors import MeshError

MAX_MEMBERS = 10_000
MAX_RATIO = 200
"""Bytes that one compressed byte may become, beyond `FREE` (text of meshes shrinks to a fifth, rarely to a fiftieth)."""
FREE = 32 * 2**20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


def gunzipped(data: bytes, name: str) -> bytes:
    """The contents of a gzip file.

    Raises:
        MeshError: it is damaged, or becomes more than a mesh may have.
    """
    most = min(MAX_BYTES, max(FREE, MAX_RATIO * len(data)))
    found: list[bytes] = []
    size, rest = 0, data
    try:
        while rest.strip(b"\0"):
            stream = zlib.decompressobj(31)
            found.append(stream.decompress(rest, most + 1 - size))
            size += len(found[-1])
            if size > most:
                raise MeshError(f"{name}: becomes more than {most:,} bytes; unpack it yourself if you trust it")
            if not stream.eof:
                raise MeshError(f"{name}: its compressed data end too soon; it is cut short")
            rest = stream.unused_data
    except zlib.error as error:
        raise MeshError(f"{name}: is not a whole gzip file ({error}); copy it again") from None
    return b"".join(found)


class Archive:
    """A ZIP archive whose directory has been checked; see the module's docstring."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            members = [member for member in self._zip.infolist() if not member.is_dir()]
        except _DAMAGE as error:
            raise MeshError(f"{name}: is not a whole ZIP archive ({str(error)[:80]}); copy it again") from None
        self.members = {member.filename: member for member in members}
        self._check(members, len(data))

    def _check(self, members: Sequence[zipfile.ZipInfo], size: int) -> None:
        if len(members) > MAX_MEMBERS:
            raise MeshError(f"{self.name}: holds {len(members):,} files, more than {MAX_MEMBERS:,}; unpack it yourself")
        if len(self.members) < len(members):
            raise MeshError(f"{self.name}: holds two files of one name; unpack it yourself")
        for member in members:
            _check_member(member, self.name)
        claimed = sum(member.file_size for member in members)
        most = min(MAX_BYTES, max(FREE, MAX_RATIO * size))
        if claimed > most:
            raise MeshError(
                f"{self.name}: its {size:,} bytes claim to become {claimed:,}, more than {most:,}; "
                "unpack it yourself if you trust it"
            )

    def read(self, member: str) -> bytes:
        """The bytes of a member, no more than its directory claims.

        Raises:
            MeshError: it is not there, is encrypted or damaged.
        """
        if member not in self.members:
            raise MeshError(f"{self.name}: does not hold {member[:120]!r}; export it again")
        claimed = self.members[member].file_size
        try:
            with self._zip.open(self.members[member]) as file:
                data = file.read(claimed + 1)
        except _DAMAGE as error:
            raise MeshError(
                f"{self.name}: {member[:120]!r} in it is damaged ({str(error)[:80]}); copy it again"
            ) from None
        if len(data) > claimed:
            raise MeshError(f"{self.name}: {member[:120]!r} in it is larger than its directory says; it is damaged")
        return data

    @property
    def meshes(self) -> list[str]:
        """The members that are meshes, by name; hidden files and what Macs put beside files are left out."""
        return sorted(name for name in self.members if _is_mesh(PurePosixPath(name)))

    @contextlib.contextmanager
    def unpacked(self, mesh: str) -> Iterator[Path]:
        """The path of a mesh, unpacked with its materials and textures into a folder that goes again."""
        with tempfile.TemporaryDirectory(prefix="outcrop-", ignore_cleanup_errors=True) as folder:
            for name in self.members:
                place = PurePosixPath(name)
                if name != mesh and (_is_mesh(place) or _hidden(place)):
                    continue
                path = Path(folder, *place.parts)
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(self.read(name))
                except OSError as error:
                    raise MeshError(
                        f"{self.name}: cannot be unpacked to {folder} ({error.strerror}); make room"
                    ) from None
            yield Path(folder, *PurePosixPath(mesh).parts)


def _check_member(member: zipfile.ZipInfo, name: str) -> None:
    # Zip names are cut at a zero byte by zipfile; what else may lead elsewhere is refused, never mended.
    said = member.filename
    parts = said.replace("\\", "/").split("/")
    if ".." in parts or said.startswith(("/", "\\")) or ":" in said or any(ord(letter) < 32 for letter in said):
        raise MeshError(f"{name}: names a file {said[:120]!r} that leads out of it; do not trust it")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise MeshError(f"{name}: holds a link ({said[:120]!r}); pack the file itself")
    if member.flag_bits & 1:
        raise MeshError(f"{name}: is encrypted; unpack it yourself")
    if ending_of(PurePosixPath(said)) in ARCHIVES:
        raise MeshError(f"{name}: holds an archive ({said[:120]!r}); unpack it yourself")


def _is_mesh(name: PurePosixPath) -> bool:
    return ending_of(name) in SUFFIXES and not _hidden(name)


def _hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
