"""Whether the photographs of two stored items show the same ground, by local features."""

from __future__ import annotations

from pathlib import Path

from outcrop.query.verification.confidence import is_verified
from outcrop.query.verification.geometry import verify
from outcrop.query.verification.originals import Original, Originals
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.errors import OutcropError
from outcrop.schema.item import FIELDS, Item
from outcrop.store.collection import Collection


class VerifiedPairs:
    """Asked with two ids, says whether geometry verifies them. Where a picture is gone, or there is none (specimens), nothing is
    verified: `missing` has the reasons by id. The verifier is open."""

    def __init__(self, collection: Collection, originals: Originals, verifier: Verifier) -> None:
        self._collection, self._originals, self._verifier = collection, originals, verifier
        self._known: dict[str, Original | None] = {}
        self.missing: dict[str, str] = {}

    def __call__(self, one: str, other: str) -> bool:
        files: dict[Path, str] = {}
        for id in (one, other):
            original = self._original(id)
            if original is None:
                return False
            files[original.path] = original.digest
        features = list(self._verifier.features_of(files).values())
        for id, found in zip((one, other), features, strict=False):
            if isinstance(found, str):
                self.missing[id] = found
        first, last = features[0], features[-1]
        if isinstance(first, str) or isinstance(last, str):
            return False
        return is_verified(verify(first, last))

    def _original(self, id: str) -> Original | None:
        if id not in self._known:
            self._known[id] = None
            row = self._collection.lookup([id], fields=tuple(FIELDS)).get(id)
            try:
                if row is not None:
                    self._known[id] = self._originals.find(Item.from_row({name: row[name] for name in FIELDS}))
            except OutcropError as error:
                self.missing[id] = str(error)
        return self._known[id]
