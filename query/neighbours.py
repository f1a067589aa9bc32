"""The neighbours of stored photographs that geometry verifies: the most similar other ones, matched as re-ranking matches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from outcrop.query.verification.originals import Original, Originals
from outcrop.query.verification.pairs import Key, Pair, PairsKept, key_of, match_pairs
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.digests import SourceDigest, digest_of_file
from outcrop.schema.errors import InputError, RegistryError
from outcrop.schema.filters import Filter
from outcrop.schema.item import Item
from outcrop.store.collection import Collection
from outcrop.store.search import search

AT_ONCE = 128
"""Pairs whose features are in memory together (0.2 MB a picture), and after which what was found is kept."""
REMEMBERED = 16_384
"""Photographs of which it is remembered where they lie."""


@dataclass(frozen=True)
class Neighbours:
    """The verified neighbours of a photograph: their ids, and the evidence of each (how much of the photograph it explains, above
    0 to 1). `asked` were looked at; `missing` says why the photograph itself could not be ('' if it could)."""

    ids: tuple[str, ...] = ()
    evidence: tuple[float, ...] = ()
    asked: int = 0
    missing: str = ""


class VerifiedNeighbours:
    """Finds the verified ones among the `count` most similar other photographs of a collection that a filter of images keeps.

    Pairs that are `kept` are not matched again; `matched` counts those that were. A neighbour whose file is gone, or is not what
    its row was made of any more, is not verified. Verifier and `kept` are open.
    """

    def __init__(
        self,
        collection: Collection,
        images: Filter,
        count: int,
        originals: Originals,
        verifier: Verifier,
        kept: PairsKept,
    ) -> None:
        self._collection, self._images, self._count = collection, images, count
        self._originals, self._verifier, self._kept = originals, verifier, kept
        self._pictures = lru_cache(REMEMBERED)(self._looked_for)
        self.matched = 0

    def of(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> list[Neighbours]:
        """The verified neighbours of each of some stored photographs with their vectors [N, D]."""
        near = [
            [hit.item for hit in hits if hit.item.id != item.id][: self._count]
            for item, hits in zip(
                items, search(self._collection, vectors, self._count + 1, self._images).hits, strict=True
            )
        ]
        pictures = {
            each.id: self._pictures(_Row(each)) for each in (*items, *(other for some in near for other in some))
        }
        seen = {id: picture for id, picture in pictures.items() if isinstance(picture, Original)}
        keys = [
            key_of(seen[item.id].digest, seen[other.id].digest)
            for item, others in zip(items, near, strict=True)
            if item.id in seen
            for other in others
            if other.id in seen
        ]
        pairs, unread = self._paired(list(dict.fromkeys(keys)), {each.digest: each for each in seen.values()})

        def neighbours(item: Item, others: list[Item]) -> Neighbours:
            own = pictures[item.id]
            if isinstance(own, str) or own.digest in unread:
                return Neighbours(asked=len(others), missing=own if isinstance(own, str) else unread[own.digest])
            found = [(other.id, _evidence(own, seen.get(other.id), pairs)) for other in others]
            verified = [(id, evidence) for id, evidence in found if evidence > 0]
            return Neighbours(tuple(id for id, _ in verified), tuple(each for _, each in verified), len(others))

        return [neighbours(item, others) for item, others in zip(items, near, strict=True)]

    def why_not(self, item: Item) -> str:
        """Why a photograph cannot be matched: its file is gone, or is another by now; '' where it can."""
        found = self._looked_for(
            _Row(item)
        )  # which is not remembered: the item may lack what its file does not depend on
        return found if isinstance(found, str) else ""

    def _paired(self, keys: list[Key], seen: dict[str, Original]) -> tuple[dict[Key, Pair], dict[str, str]]:
        """What is known of pairs, matched where nothing was; and why files could not be read, by their digests."""
        pairs = self._kept.get(keys)
        files = {digest: picture.path for digest, picture in seen.items()}
        unread: dict[str, str] = {}
        for some in _parts([key for key in keys if key not in pairs]):
            made, reasons = match_pairs(some, files, self._verifier)
            self._kept.keep(made)
            self.matched += len(made)
            pairs |= made
            unread |= reasons
        return pairs, unread

    def _looked_for(self, row: _Row) -> Original | str:
        """The file of a photograph with its digest, or why it cannot be matched."""
        try:
            found = self._originals.find(row.item)
            wanted = SourceDigest.parse(row.item.source_digest).file
            if found.digest:
                return found
            # Copied, its time was not kept: the bytes decide. A vector of what the file was says nothing of what it is.
            if wanted and digest_of_file(found.path) == wanted:
                return Original(found.path, wanted)
        except (InputError, RegistryError) as error:
            return str(error)
        except OSError as error:
            return f"the original of {row.item.key} cannot be read ({error.strerror or error})"
        return f"{row.item.key} was changed since it was ingested; ingest it again"


@dataclass(frozen=True)
class _Row:
    """An item, the same as another of its id: what is remembered of photographs is remembered by that."""

    item: Item

    def __hash__(self) -> int:
        return hash(self.item.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Row) and self.item.id == other.item.id


def _evidence(own: Original, other: Original | None, pairs: dict[Key, Pair]) -> float:
    if other is None:
        return 0.0
    key = key_of(own.digest, other.digest)
    pair = pairs.get(key)
    return pair.evidence_for(own.digest, key) if pair is not None else 0.0


def _parts(keys: list[Key]) -> Iterator[list[Key]]:
    for start in range(0, len(keys), AT_ONCE):
        yield keys[start : start + AT_ONCE]
