"""What a collection should hold of a dataset: the listing that an audit compares with it, and what is said of all other rows.

- **Photographs**: those that the registry declares and the disk has (`outcrop.operate.photographs`).
- **References**: those of the requests that the collection remembers (`outcrop.ingest.remembered`), turned or written.
- **Specimens**: the meshes below the folder they came from (`outcrop.operate.specimens`).

Rows besides are gone where their file is, provided that the folder it lay in is there and not empty: a disk that is not mounted
must not empty a collection. Vectors that were read from arrays have no file here, and nothing is said of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from outcrop.ingest.changes import Outside, Row
from outcrop.ingest.sources import Listing, Source
from outcrop.schema.frames import on_disk

GONE, UNDECLARED = "its file is gone", "the registry no longer declares it"


class Files(Outside, Protocol):
    """What lies on the disk behind a dataset's rows."""

    def gone(self, row: Row) -> str:
        """Why a row's file is gone; '' where it is there, or where nothing can be said.

        Raises:
            InputError: the folder it lay in is empty.
        """
        ...

    def sources(self, keys: Iterable[str]) -> list[Source]:
        """Sources of items that no listing wants, but whose files are there."""
        ...


@dataclass(frozen=True)
class Desired:
    """A dataset as it should be, and the files behind what else there is of it. `remarks` are what a person should know.

    `again` is the command that ingests it.
    """

    dataset: str
    listing: Listing
    files: Files
    again: str
    remarks: tuple[str, ...] = ()


def file_below(root: Path, source: str) -> Path | None:
    """The file that a row's `source` names below a folder, however the disk spells its Unicode name; None where it is gone."""
    direct = root / source
    if direct.is_file():
        return direct
    path = on_disk(root, PurePosixPath(source).parts)
    return path if path is not None and path.is_file() else None
