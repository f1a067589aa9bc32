"""What a collection remembers of its datasets, by their names: one of its properties for each kind of thing.

Folders (`outcrop.store.folders`), maps (`outcrop.store.maps`) and tables of own columns (`outcrop.store.tables`) are kept so.
What cannot be read, because it is damaged or of another version, counts as not there: the next ingest writes it anew.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from outcrop.store.collection import Collection

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """One value of a kind (a pydantic type) for each dataset, in the property of this name."""

    def __init__(self, property_name: str, kind: type[Value] | object) -> None:
        self.property = property_name
        self._all: TypeAdapter[dict[str, Value]] = TypeAdapter(dict[str, kind])  # type: ignore[valid-type]

    def all(self, collection: Collection) -> dict[str, Value]:
        """The values by the names of their datasets (NFC)."""
        text = collection.properties().get(self.property) or "{}"
        try:
            return self._all.validate_python(json.loads(text))
        except (ValueError, ValidationError, RecursionError):
            return {}

    def get(self, collection: Collection | None, dataset: str) -> Value | None:
        """The value of a dataset; None where there is none, or no collection."""
        return self.all(collection).get(unicodedata.normalize("NFC", dataset)) if collection is not None else None

    def update(self, collection: Collection, values: Mapping[str, Value]) -> None:
        """Keeps values of datasets; those of others stay.

        Raises:
            OutcropError: the collection's properties cannot be changed.
        """
        before = self.all(collection)
        after = {**before, **{unicodedata.normalize("NFC", name): value for name, value in values.items()}}
        if after != before:
            collection.set_property(self.property, self._all.dump_json(after).decode())
