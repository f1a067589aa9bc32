"""The files that an ingest keeps beside the rows, thumbnails and features: which are missing, damaged, or of another state.

One that is missing counts where most items of its kind and dataset have theirs: a state folder of another machine, or runs
without thumbnails, are in order as they are.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from outcrop.embed.feature_files import FeatureFolder
from outcrop.embed.features import FeatureKind
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.features import FeatureKeeper
from outcrop.schema.errors import InputError, OutcropError
from outcrop.schema.filters import equals
from outcrop.schema.item import Kind
from outcrop.schema.origin import Origin, origin_of
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection

NO_THUMBNAIL, BAD_THUMBNAIL = "its thumbnail is missing", "its thumbnail is damaged"
NO_FEATURES, BAD_FEATURES, OLD_FEATURES = (
    "its kept features are missing",
    "its kept features are damaged",
    "its kept features are of another state of its file",
)
REASONS = frozenset((NO_THUMBNAIL, BAD_THUMBNAIL, NO_FEATURES, BAD_FEATURES, OLD_FEATURES))
FIELDS = ("id", "key", "kind", "source", "source_digest")


class Faults:
    """What is wrong with the thumbnails (or the features) of one kind and dataset, of at most `of` rows.

    Rows that have none count where more have theirs. They are let go as soon as that can no longer be: where nobody keeps
    thumbnails, all of a million lack theirs.
    """

    def __init__(self, of: int) -> None:
        self._most = (of - 1) // 2
        self._there = self._lack = 0
        self._wrong: list[tuple[Mapping[str, Any], str]] = []
        self.lacking: list[tuple[Mapping[str, Any], str]] = []

    def take(self, row: Mapping[str, Any], fault: str | None) -> None:
        """Takes what is wrong with a row: '' where nothing is, None where it has none by its nature."""
        if fault in (NO_THUMBNAIL, NO_FEATURES):
            self._lack += 1
            if self._lack <= self._most:
                self.lacking.append(({"key": row["key"], "source": row["source"]}, fault))
            else:
                self.lacking.clear()
            return
        self._there += fault is not None
        if fault:
            self._wrong.append((row, fault))

    def found(self) -> Iterator[tuple[Mapping[str, Any], str]]:
        """The rows that are not in order, with what is wrong."""
        yield from self._wrong
        if self._there > self._lack:
            yield from self.lacking


@dataclass(frozen=True)
class Companions:
    """The thumbnails of a state folder and the features of a space; `whole` decodes every thumbnail, which takes a while."""

    thumbnails: ThumbnailStore
    features: FeatureFolder
    whole: bool = False

    @classmethod
    def of(cls, collection: Collection, settings: Settings, *, whole: bool = False) -> Companions:
        """Those that the settings name."""
        features = FeatureFolder.below(settings.features_folder, collection.space)
        return cls(ThumbnailStore.below(settings.state), features, whole)

    def faults(
        self, collection: Collection, scopes: Sequence[tuple[Kind, str]]
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        """Rows of these kinds and datasets whose companions are not in order, and what is wrong with them."""
        for kind, dataset in scopes:
            filter = equals("kind", str(kind)) & equals("dataset", dataset)
            of = collection.count(filter)
            thumbnails, features = Faults(of), Faults(of)
            for rows in collection.scan_rows(filter, FIELDS):
                for row in rows:
                    if origin_of(kind, dataset, row["source"]) is Origin.VECTOR:
                        continue
                    thumbnails.take(row, self._thumbnail(row))
                    features.take(row, self._features(row, kind))
            yield from thumbnails.found()
            yield from features.found()

    def keeper(self) -> FeatureKeeper | None:
        """What makes the features again, of the kinds that there are; None where there are none."""
        try:
            kinds = tuple(map(FeatureKind.named, self.features.kinds))
        except OutcropError:
            return None  # there are none, or they were made elsewhere, in a way that we do not know
        return FeatureKeeper(self.features, kinds) if kinds else None

    def _thumbnail(self, row: Mapping[str, Any]) -> str:
        path = self.thumbnails.path(row["id"])
        try:
            data = path.read_bytes()
            if not _is_complete(data):
                return BAD_THUMBNAIL
            if self.whole:
                with Image.open(io.BytesIO(data), formats=("JPEG", "WEBP")) as image:
                    image.load()
        except FileNotFoundError:
            return NO_THUMBNAIL
        except Exception:  # noqa: BLE001  whatever its decoder says, it cannot be shown
            return BAD_THUMBNAIL
        return ""

    def _features(self, row: Mapping[str, Any], kind: Kind) -> str | None:
        """'' where they are in order; None where an item has none by its nature."""
        if kind is Kind.SPECIMEN:
            return None  # pooled of vectors: it has no pixels
        if not self._meta(row["id"]).exists():
            return NO_FEATURES
        record = self.features.record(row["id"])
        if record is None:
            return BAD_FEATURES
        if record.source_digest != row["source_digest"]:
            return OLD_FEATURES
        try:
            for name in record.kinds:
                self.features.read(row["id"], name)
        except InputError:
            return BAD_FEATURES
        return ""

    def _meta(self, id: str) -> Path:
        return self.features.root / "meta" / id[:2] / f"{id}.json"


def _is_complete(data: bytes) -> bool:
    """Whether a thumbnail has its beginning and its end: a JPEG's markers, or the length that a WebP states."""
    if data[:4] == b"RIFF":
        return data[8:12] == b"WEBP" and int.from_bytes(data[4:8], "little") + 8 == len(data)
    return data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9")
