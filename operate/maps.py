"""The tiles of a map as they should be: those of the file or folder that the collection remembers, at the scales it had."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from outcrop.ingest.changes import Row
from outcrop.ingest.maps import list_map
from outcrop.ingest.sources import Listing, Source, Wanted
from outcrop.operate.desired import GONE, Desired
from outcrop.schema.errors import InputError
from outcrop.schema.item import Kind
from outcrop.schema.origin import Origin, origin_of
from outcrop.store.collection import Collection
from outcrop.store.maps import MAPS, KnownMap


def desired_map(collection: Collection, name: str) -> Desired:
    """The tiles that a map should have.

    Raises:
        InputError: the map cannot be read, or its folder is not there.
    """
    known = MAPS.all(collection)[name]
    listing = Listing(name, ())
    if known.path.exists():
        listing = list_map(known.path, name, known.scales)
    scales = ",".join(f"{scale:g}" for scale in known.scales)
    again = f"ingest map {shlex.quote(str(known.path))} --name {name} --scales {scales} --collection {collection.name}"
    return Desired(name, listing, MapFiles(known, name), again)


class MapFiles:
    """The file or folder behind the tiles of a map."""

    fields: Sequence[str] = ("kind",)

    def __init__(self, known: KnownMap, name: str) -> None:
        self._path, self._name = known.path, name
        self.scopes: Sequence[tuple[Kind, str]] = ((Kind.TILE, name),)

    def gone(self, row: Row) -> str:
        """See `outcrop.operate.desired.Files.gone`."""
        if self._path.exists() or origin_of(Kind.TILE, self._name, row["source"]) is Origin.VECTOR:
            return ""
        if not _holds_anything(self._path.parent):
            raise InputError(
                f"the folder {self._path.parent} of map {self._name!r} is missing or empty: is its disk mounted? "
                "Nothing is removed"
            )
        return GONE

    def judge(self, row: Row) -> Wanted | str | None:
        """See `outcrop.ingest.changes.Outside.judge`: what the map is not cut into any more is known to be stale already."""
        return self.gone(row) or None

    def sources(self, keys: Iterable[str]) -> list[Source]:
        """Nothing: the listing has all tiles."""
        return []


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
