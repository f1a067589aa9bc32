"""Thumbnails of what was embedded, by item id, in the state folder: reports show them and never reopen
sources."""

from __future__ import annotations

from pathlib import Path

from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file


class ThumbnailStore:
    """WebP files ``<folder>/<first two characters of id>/<id>.webp``; any thread may write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def below(cls, state: Path) -> ThumbnailStore:
        """The store in a state folder."""
        return cls(state / "thumbnails")

    def path(self, id: str) -> Path:
        """Where the thumbnail of an item lies, or would."""
        return self.folder / id[:2] / f"{id}.webp"

    def write(self, id: str, data: bytes) -> None:
        """Keeps a thumbnail, replacing an older one; a reader never sees half a file.

        Raises:
            InputError: it cannot be written.
        """
        path, fix = self.path(id), "make room, or leave thumbnails out with --no-thumbnails"
        with whole_file(path, fix=fix, durable=False, parents=True) as file:
            file.write_bytes(data)

    def remove(self, id: str) -> None:
        """Forgets a thumbnail, where there is one.

        Raises:
            InputError: it cannot be removed.
        """
        try:
            self.path(id).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.path(id)} cannot be removed ({error.strerror}); correct the folder's permissions"
            ) from None

    def read(self, id: str) -> bytes | None:
        """The thumbnail's bytes, or None where there is none."""
        try:
            return self.path(id).read_bytes()
        except OSError:
            return None
