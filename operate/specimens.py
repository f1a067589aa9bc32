"""The specimens of a dataset as they should be: each mesh of the folder they came from, looked at as it remembers itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from outcrop.embed.pooling import Pool, require_pool
from outcrop.ingest.changes import Row
from outcrop.ingest.sources import Listing, Source, Wanted
from outcrop.ingest.specimens import SpecimenSource, list_specimens
from outcrop.operate.desired import GONE, Desired, file_below
from outcrop.query.specimen import stored_look
from outcrop.render.views import ViewSpec
from outcrop.render.workers import Workers
from outcrop.schema.digests import SourceDigest
from outcrop.schema.errors import InputError
from outcrop.schema.filters import equals
from outcrop.schema.item import FOSSIL, Kind, item_of_key
from outcrop.schema.origin import Origin, origin_of
from outcrop.schema.places import place
from outcrop.schema.registry import read_registry
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.folders import FOLDERS
from outcrop.store.maps import MAPS

_LOOK = tuple(f"look_{each.name}" for each in fields(ViewSpec))


def datasets_of(
    collection: Collection, settings: Settings, chosen: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The datasets to be looked at, photographs' and specimens': those chosen, or all of the registry and the collection.

    Raises:
        InputError: a dataset is neither in the registry nor, as specimens, in the collection; or there are none.
    """
    specimens: set[str] = set()
    for rows in collection.scan_rows(equals("kind", str(Kind.SPECIMEN)), ["id", "dataset", "root"]):
        specimens |= {
            row["dataset"] for row in rows if row.get("root")
        }  # others were imported as vectors, without files
    registered = set(FOLDERS.all(collection))
    others = specimens or registered or MAPS.all(collection)
    if not others or settings.registry.exists():
        registered |= set(read_registry(settings.registry).datasets)
    if chosen is None:
        if not others and not registered:
            raise InputError(f"registry {settings.registry} has no datasets, and {collection.name!r} no specimens")
        return sorted(registered), sorted(specimens)
    # An unknown name is reported by the registry, which knows the nearest.
    return [name for name in chosen if name not in specimens or name in registered], [
        name for name in chosen if name in specimens
    ]


def desired_specimens(collection: Collection, name: str, root: Path | None = None) -> Desired:
    """The specimens on disk; `root` is where the meshes lie now, if not where they were ingested from.

    Raises:
        InputError: their folder is not known, not there, or holds no mesh.
    """
    known = _known(collection, name)
    folder = _folder(known.roots, name, root)
    look, how = stored_look(collection, equals("dataset", name))
    listed = list_specimens(folder, name, look, require_pool(how), workers=Workers(2), split=known.split)
    sources: list[Source] = []
    for source in listed.sources:
        assert isinstance(source, SpecimenSource)
        own = known.looks.get(source.key)
        sources.append(source if own is None else replace(source, look=own[0], how=own[1]))
    again = f"ingest specimens {folder} --name {name} --collection {collection.name}, with the options it had"
    return Desired(name, Listing(name, sources), MeshFiles(folder, name), again)


class MeshFiles:
    """The meshes behind the views and specimens of a dataset."""

    fields: Sequence[str] = ("kind",)

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self.scopes: Sequence[tuple[Kind, str]] = tuple((kind, name) for kind in FOSSIL)

    def gone(self, row: Row) -> str:
        """See `outcrop.operate.desired.Files.gone`."""
        vector = origin_of(Kind(row["kind"]), self._name, row["source"]) is Origin.VECTOR
        return GONE if self._file(row) is None and not vector else ""

    def judge(self, row: Row) -> Wanted | str | None:
        """See `outcrop.ingest.changes.Outside.judge`: several files that make one specimen are not listed, but are there."""
        if reason := self.gone(row):
            return reason
        path = self._file(row)
        if path is None:
            return None
        process = SourceDigest.parse(row["source_digest"]).transform
        return Wanted(replace(item_of_key(row["key"]), source=row["source"]), path, process)

    def sources(self, keys: Iterable[str]) -> list[Source]:
        """Nothing: which of several files is meant must be decided first."""
        return []

    def _file(self, row: Row) -> Path | None:
        return file_below(self._folder, row["source"])


@dataclass(frozen=True)
class _Known:
    """What stored specimens remember: the folders they came from, how each was looked at and pooled, by key, and whether
    files of several meshes were split."""

    roots: frozenset[str]
    looks: dict[str, tuple[ViewSpec, Pool]]
    split: bool


def _known(collection: Collection, name: str) -> _Known:
    roots: set[str] = set()
    looks: dict[str, tuple[ViewSpec, Pool]] = {}
    split = False
    filter = equals("kind", str(Kind.SPECIMEN)) & equals("dataset", name)
    for rows in collection.scan_rows(filter, ["id", "key", "root", "pool", "part", *_LOOK]):
        for row in rows:
            roots |= {str(row["root"])} if row.get("root") else set()
            split |= bool(row.get("part"))
            look = ViewSpec.of_extra(row)
            if look is not None and row.get("pool") is not None:
                looks[row["key"]] = look, require_pool(row["pool"])
    return _Known(frozenset(roots), looks, split)


def _folder(roots: frozenset[str], name: str, root: Path | None) -> Path:
    """Where the meshes of a dataset lie.

    Raises:
        InputError: it is not known, or not there.
    """
    if root is None and len(roots) != 1:
        said = f"come from several folders ({', '.join(sorted(roots))})" if roots else "do not say where they came from"
        raise InputError(f"the specimens of {name!r} {said}; give --root DIR")
    folder = root if root is not None else place(*roots)
    if not folder.is_dir():
        raise InputError(
            f"the folder {folder} of {name!r} is missing: is its disk mounted? If it moved, give --root DIR"
        )
    return folder
