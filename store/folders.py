"""The datasets of a collection that no registry declares: which folder of photographs each is, kept among its properties.

`ingest images FOLDER` writes it; whatever needs a dataset's files (references, audits, re-ranking) asks `place_of`, for which a
registry that declares the dataset comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from outcrop.schema.errors import InputError, nearest
from outcrop.schema.places import place
from outcrop.schema.registry import declares
from outcrop.schema.settings import Settings
from outcrop.store.collection import PROPERTY_FOLDERS, Collection
from outcrop.store.remembered import Remembered


class KnownFolder(BaseModel):
    """The folder that a dataset was ingested from, and the file of its positions, as absolute paths.

    Its `photographs` are in the dataset, its films where `every` (seconds between two frames) is not None; `films` are the paths
    below the folder of those that were named singly.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    folder: Annotated[Path, AfterValidator(place)]
    positions: Annotated[Path, AfterValidator(place)] | None = None
    photographs: bool = True
    every: float | None = None
    films: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_films(cls, values: Any) -> Any:
        """Where earlier versions remembered films, the dataset had no photographs."""
        known = isinstance(values, dict) and values.get("every") is not None
        return {"photographs": False, **values} if known else values


FOLDERS: Remembered[KnownFolder] = Remembered(PROPERTY_FOLDERS, KnownFolder)


@dataclass(frozen=True)
class Place:
    """Where a dataset is declared: a registry and the folder of the roots, or one folder twice; and its file of positions."""

    registry: Path
    datasets: Path
    positions: Path | None = None


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
    known = FOLDERS.get(collection, name)
    if known is not None:
        return Place(known.folder, known.folder, known.positions)
    folders = FOLDERS.all(collection)
    if folders and not settings.registry.exists():
        raise InputError(
            f"collection {collection.name!r} knows no folder of dataset {name!r}"
            f"{nearest(name, folders) or '; it knows: ' + ', '.join(sorted(folders))}, "
            f"and there is no registry at {settings.registry}"
        )
    return registered
