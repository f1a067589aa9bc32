"""Thumbnails of what was embedded, by item id, in the state folder: reports show them and never reopen
sources."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from outcrop.schema.errors import InputError
from outcrop.schema.files import unfinished, whole_file
from outcrop.schema.objects import ObjectPath

EARLIER = ".webp"
"""The suffix of thumbnails of earlier versions."""


def media_type(data: bytes) -> str:
    """The media type of a thumbnail's bytes."""
    return "image/jpeg" if data[:2] == b"\xff\xd8" else "image/webp"


class ThumbnailStore:
    """JPEGs ``<folder>/<first two characters of id>/<id>.jpg``; any thread may write.

    Those of earlier versions are WebPs beside them, which are read as long as they are there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def below(cls, state: Path) -> ThumbnailStore:
        """The store in a state folder."""
        return cls(state / "thumbnails")

    def path(self, id: str) -> Path:
        """Where the thumbnail of an item lies, or would."""
        path = self.folder / id[:2] / f"{id}.jpg"
        return path if path.exists() or not path.with_suffix(EARLIER).exists() else path.with_suffix(EARLIER)

    def write(self, id: str, data: bytes) -> None:
        """Keeps a thumbnail, replacing an older one; a reader never sees half a file.

        Raises:
            InputError: it cannot be written.
        """
        if self._written(id, data):
            return
        path, fix = self.folder / id[:2] / f"{id}.jpg", "make room, or leave thumbnails out with --no-thumbnails"
        with whole_file(path, fix=fix, durable=False, parents=True) as file:
            file.write_bytes(data)
            path.with_suffix(EARLIER).unlink(missing_ok=True)

    def _written(self, id: str, data: bytes) -> bool:
        """Whether a thumbnail could be written in the shortest way; where it could not, `whole_file` finds out why, or makes its
        folder. References come by the thousand, and every step of pathlib counts."""
        folder = f"{self.folder}/{id[:2]}"
        path, temporary = f"{folder}/{id}", f"{folder}/{unfinished(f'{id}.jpg')}"
        if isinstance(self.folder, ObjectPath):
            return False
        try:
            with open(temporary, "wb", buffering=0) as file:
                whole = file.write(data) == len(data)
            if whole:
                os.replace(temporary, f"{path}.jpg")
        except OSError:
            whole = False
        with contextlib.suppress(OSError):
            os.unlink(f"{path}{EARLIER}" if whole else temporary)  # noqa: PTH108  pathlib takes longer
        return whole

    def remove(self, id: str) -> None:
        """Forgets a thumbnail, where there is one.

        Raises:
            InputError: it cannot be removed.
        """
        path = self.path(id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot be removed ({error.strerror}); correct the folder's permissions") from None

    def read(self, id: str) -> bytes | None:
        """The thumbnail's bytes, or None where there is none."""
        try:
            return self.path(id).read_bytes()
        except OSError:
            return None
