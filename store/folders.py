"""The datasets of a collection that no registry declares: which folder of photographs each is, kept among its properties.

`ingest images FOLDER` writes it; whatever needs a dataset's files (references, audits, re-ranking) asks `place_of`, for which a
registry that declares the dataset comes first.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from outcrop.schema.errors import InputError, nearest
from outcrop.schema.registry import declares
from outcrop.schema.settings import Settings
from outcrop.store.collection import PROPERTY_FOLDERS, Collection


class KnownFolder(BaseModel):
    """The folder that a dataset was ingested from, and the file of its positions, as absolute paths.

    Of films, `every` is the seconds between two frames, and `films` the paths below the folder of those that were named singly.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    folder: Path
    positions: Path | None = None
    every: float | None = None
    films: tuple[str, ...] = ()


_KNOWN: TypeAdapter[dict[str, KnownFolder]] = TypeAdapter(dict[str, KnownFolder])


@dataclass(frozen=True)
class Place:
    """Where a dataset is declared: a registry and the folder of the roots, or one folder twice; and its file of positions."""

    registry: Path
    datasets: Path
    positions: Path | None = None


def known_folders(collection: Collection) -> dict[str, KnownFolder]:
    """The folders by the names of their datasets."""
    text = collection.properties().get(PROPERTY_FOLDERS) or "{}"
    try:
        return _KNOWN.validate_python(json.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return {}  # damaged, or of another version: the next ingest writes it anew


def remember_folder(collection: Collection, name: str, known: KnownFolder) -> None:
    """Keeps the folder of a dataset with the collection.

    Raises:
        OutcropError: the collection's properties cannot be changed.
    """
    before = known_folders(collection)
    after = {**before, unicodedata.normalize("NFC", name): known}
    if after != before:
        collection.set_property(PROPERTY_FOLDERS, _KNOWN.dump_json(after).decode())


def place_of(collection: Collection | None, settings: Settings, name: str) -> Place:
    """Where a dataset is declared: in the registry of the settings, else by the folder that the collection remembers.

    Where neither knows it, the place is the registry's, which then says what is wrong.

    Raises:
        RegistryError: the registry is there but cannot be read.
        InputError: there is no registry, and the collection knows other folders only: the nearest is named.
    """
    registered = Place(settings.registry, settings.datasets_folder)
    if collection is None or declares(settings.registry, name):
        return registered
    folders = known_folders(collection)
    known = folders.get(unicodedata.normalize("NFC", name))
    if known is not None:
        return Place(known.folder, known.folder, known.positions)
    if folders and not settings.registry.exists():
        raise InputError(
            f"collection {collection.name!r} knows no folder of dataset {name!r}"
            f"{nearest(name, folders) or '; it knows: ' + ', '.join(sorted(folders))}, "
            f"and there is no registry at {settings.registry}"
        )
    return registered
