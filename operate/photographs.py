"""A dataset of the registry as it should be: its photographs, and the references that the collection remembers."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from outcrop.embed.reader_versions import reader_version
from outcrop.ingest.above_ground import grounded_files
from outcrop.ingest.changes import Row
from outcrop.ingest.dataset import declared_films, list_dataset
from outcrop.ingest.film_source import Kept
from outcrop.ingest.films import Films, list_films, with_films
from outcrop.ingest.references import ReferenceSource, list_references
from outcrop.ingest.remembered import wanted_references
from outcrop.ingest.request import FILMS
from outcrop.ingest.sources import Listing, Source, Wanted
from outcrop.ingest.written import list_written_references
from outcrop.operate.desired import GONE, UNDECLARED, Desired, file_below
from outcrop.schema.crops import CropSpec, crop_numbered
from outcrop.schema.dataset_files import DatasetFiles as Listed
from outcrop.schema.errors import InputError
from outcrop.schema.frames import Frame, dataset_root
from outcrop.schema.item import Item, Kind, item_of_key, parent_of
from outcrop.schema.origin import Origin, origin_of
from outcrop.schema.registry import registry_at
from outcrop.schema.sequences import Joined
from outcrop.schema.settings import Settings
from outcrop.schema.written import written_folder
from outcrop.store.collection import Collection
from outcrop.store.folders import FOLDERS, KnownFolder, Place, place_of


def desired_photographs(collection: Collection, settings: Settings, name: str) -> Desired:
    """What the registry declares of a dataset, and the references that the collection remembers.

    Raises:
        RegistryError: unknown dataset, or its root is not there.
    """
    place = place_of(collection, settings, name)
    folder = place.registry == place.datasets
    known = FOLDERS.get(collection, name) if folder else None
    films, gone = _films(known, place, settings, name)
    files = DatasetFiles(settings, name, place)
    if known is not None and not known.photographs:
        listing = list_films(films) if films is not None and not gone else Listing(name, [])
        return Desired(name, listing, files, _films_again(known, films, name, collection))
    images = list_dataset(place.registry, name, place.datasets, positions=place.positions)
    references = wanted_references(collection, name, settings)
    listing = Listing(images.dataset, Joined(images.sources, references.sources), images.missing)
    again = f"ingest dataset {name} --collection {collection.name}"
    if films is not None:
        listing = with_films(listing, films)
    elif folder:
        again = f"ingest images {shlex.quote(str(place.datasets))} --name {name} --collection {collection.name}"
    return Desired(name, listing, files, again, (*references.remarks, *files.remarks))


def _films(known: KnownFolder | None, place: Place, settings: Settings, name: str) -> tuple[Films | None, bool]:
    """The films that belong to a dataset, if any do; and whether those that were named one by one are all gone."""
    kept = settings.state / FILMS
    if known is None:
        return declared_films(place.registry, name, place.datasets, kept), False
    if known.every is None:
        return None, False
    there = tuple(film for film in known.films if (known.folder / film).is_file())
    gone = bool(known.films) and not there
    return Films(known.folder, name, known.every, Kept(kept), there), gone


def _films_again(known: KnownFolder, films: Films | None, name: str, collection: Collection) -> str:
    named = films.named if films is not None else ()
    places = " ".join(shlex.quote(str(known.folder / film)) for film in named or ("",))
    return f"ingest video {places} --name {name} --every {known.every:g}s --collection {collection.name}"


class DatasetFiles:
    """The files behind the images and references of a dataset of the registry, or of a folder as it stands."""

    fields: Sequence[str] = ("kind",)

    def __init__(self, settings: Settings, name: str, place: Place) -> None:
        self._settings, self._name, self._place = settings, name, place
        known = registry_at(place.registry, place.datasets)
        self._root = dataset_root(known, name, place.datasets)
        self.scopes: Sequence[tuple[Kind, str]] = ((Kind.IMAGE, name), (Kind.REFERENCE, name))

    def gone(self, row: Row) -> str:
        """See `outcrop.operate.desired.Files.gone`."""
        origin = self._origin(row)
        if origin is Origin.VECTOR:
            return ""
        if origin is Origin.WRITTEN:
            return GONE if self._written_folders and self._file(row) is None else ""
        if self._file(row) is not None:
            return ""
        self._require_mounted()
        return "" if self._in_empty_folder(row["source"]) else GONE

    def judge(self, row: Row) -> Wanted | str | None:
        """See `outcrop.ingest.changes.Outside.judge`."""
        item, origin = item_of_key(row["key"]), self._origin(row)
        if origin is Origin.VECTOR:
            return None
        frame = self._frames.get(parent_of(row["key"])) if origin in (Origin.PHOTOGRAPH, Origin.CROP) else None
        crop = crop_numbered(item.crop)
        if frame is not None and item.kind is Kind.REFERENCE and crop is not None:
            return ReferenceSource(frame, (CropSpec(item.rotation, crop),), self._found.dataset).wanted[0]
        if reason := self.gone(row):
            return reason
        if origin in (Origin.PHOTOGRAPH, Origin.CROP):
            unclear = parent_of(row["key"]) in self._unclear or self._in_empty_folder(row["source"])
            return None if unclear else UNDECLARED
        path = self._file(row)
        return self._written(row, item, path) if path is not None else None

    def sources(self, keys: Iterable[str]) -> list[Source]:
        """See `outcrop.operate.desired.Files.sources`: references, turned from the photographs or written."""
        keys = list(keys)
        place = (self._place.registry, self._name, self._place.datasets)
        written = [
            source
            for folder in self._written_folders
            for source in list_written_references(*place, folder, only=keys).sources
        ]
        return [*list_references(*place, only=keys, positions=self._place.positions).sources, *written]

    def _origin(self, row: Row) -> Origin:
        return origin_of(Kind(row["kind"]), self._name, row["source"])

    def _file(self, row: Row) -> Path | None:
        """Where the row's file lies now; None where it does not."""
        folders = self._written_folders if self._origin(row) is Origin.WRITTEN else [self._root]
        return next((path for folder in folders if (path := file_below(folder, row["source"])) is not None), None)

    @cached_property
    def _written_folders(self) -> list[Path]:
        """The folders that hold written references of the dataset on this machine."""
        places = [self._settings.references, self._settings.datasets_folder]
        return [
            folder
            for folder in places
            if folder is not None and (inner := folder / written_folder(self._name)).is_dir() and any(inner.iterdir())
        ]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Folders in which nothing lies, of a dataset whose folders are its captures."""
        empty = [path.relative_to(self._root).as_posix() for path in self._empty]
        said = f"{len(empty)} folders of {self._name} are empty ({', '.join(empty[:3])}): are their disks mounted?"
        return (f"{said} Nothing of them counts as gone",) if empty else ()

    @cached_property
    def _found(self) -> Listed:
        return grounded_files(self._place.registry, self._name, self._place.datasets, self._place.positions)

    @cached_property
    def _frames(self) -> dict[str, Frame]:
        return {str(frame.key): frame for frame in self._found.frames}

    @property
    def _empty(self) -> Sequence[Path]:
        return self._found.holding.empty if self._found.holding is not None else ()

    @cached_property
    def _unclear(self) -> frozenset[str]:
        """Keys that several files would have: their rows stay as they are."""
        holding = self._found.holding
        return frozenset(each.key for each in holding.refused) if holding is not None else frozenset()

    def _in_empty_folder(self, source: str) -> bool:
        return any((self._root / source).is_relative_to(folder) for folder in self._empty)

    def _written(self, row: Row, item: Item, path: Path) -> Wanted:
        """A written reference as it is, with the altitude that the registry states."""
        dataset = self._found.dataset
        altitude = dataset.altitude(item.capture_id) if item.capture_id in dataset.images else None
        stated = replace(item, source=row["source"], altitude=altitude or 0.0)
        return Wanted(stated, path, reader=partial(reader_version, path), altitude_stated=altitude is not None)

    def _require_mounted(self) -> None:
        """Raises `InputError` where the dataset's root is empty."""
        if not any(self._root.iterdir()):
            raise InputError(
                f"the root {self._root} of dataset {self._name!r} is empty: is its disk mounted? Nothing is removed"
            )
