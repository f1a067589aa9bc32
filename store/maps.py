"""The maps whose tiles a collection holds: which file each is, kept among its properties, as folders of photographs are."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from outcrop.store.collection import PROPERTY_MAPS, Collection


class KnownMap(BaseModel):
    """A map's file or folder as an absolute path, the sides of its tiles in metres, and its terrain model."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: Path
    scales: tuple[float, ...]
    terrain: Path | None = None


_KNOWN: TypeAdapter[dict[str, KnownMap]] = TypeAdapter(dict[str, KnownMap])


def known_maps(collection: Collection) -> dict[str, KnownMap]:
    """The maps by the names of their datasets."""
    text = collection.properties().get(PROPERTY_MAPS) or "{}"
    try:
        return _KNOWN.validate_python(json.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return {}  # damaged, or of another version: the next ingest writes it anew


def remember_map(collection: Collection, name: str, known: KnownMap) -> None:
    """Keeps the map of a dataset with the collection.

    Raises:
        OutcropError: the collection's properties cannot be changed.
    """
    before = known_maps(collection)
    after = {**before, unicodedata.normalize("NFC", name): known}
    if after != before:
        collection.set_property(PROPERTY_MAPS, _KNOWN.dump_json(after).decode())
