"""Patch tokens of a vision model as local features: what `--features patch` matches.

They are made of a picture, or read where an ingest kept them (`embed.feature_files`). A token says what a patch shows, not where
its corner is: matches are right to about half a patch. Learned tokens find ground that has changed its look (season, light), but
are weak on rotated pictures, unlike SIFT.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.crops import prepare
from outcrop.embed.features import FeatureKind
from outcrop.embed.placement import Placement
from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.geometry import TOLERANCE
from outcrop.query.verification.originals import is_written
from outcrop.schema.digests import SourceDigest
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, item_id, parent_of
from outcrop.schema.space import Space

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder
    from outcrop.embed.feature_files import FeatureFolder
    from outcrop.embed.images import Decoded

METHOD = "patch"
WITHIN = 0.75
"""Patches by which an inlier may lie off."""


class PatchTokens:
    """The patch tokens of an encoder of `space`, as an `Extractor`. The encoder is opened (once) for the first picture."""

    def __init__(self, space: Space, open: Callable[[], Encoder]) -> None:
        self.space = space
        self._open, self._lock = open, threading.Lock()
        self._encoder: Encoder | None = None

    @classmethod
    def of(cls, encoder: Encoder) -> PatchTokens:
        """Those of an open encoder."""
        return cls(encoder.space, lambda: encoder)

    @property
    def method(self) -> str:
        """The kind of features."""
        return METHOD

    @property
    def fingerprint(self) -> str:
        """Kind, version of this code, and the encoder's space."""
        return f"patch-1-{self.space.fingerprint}"

    @property
    def wanted(self) -> tuple[int, int]:
        """The network's input."""
        return self.space.size

    def extract(self, decoded: Decoded) -> LocalFeatures:
        """A feature for each patch whose middle lies in the picture (not in the padding around it)."""
        with self._lock:
            if self._encoder is None:
                self._encoder = self._open()
        tokens = self._encoder.features(prepare(decoded, self.space)[None]).patches[0]
        return local_features(tokens, Placement.of(decoded, self.space.size, self.space.fit), self.space.size)


@dataclass(frozen=True)
class StoredTokens:
    """The raw patch tokens that an ingest kept (``--features patch``), by item: no picture is read for them."""

    folder: FeatureFolder

    def of(self, item: Item) -> LocalFeatures | None:
        """The tokens of a photograph, or of the one that a virtual reference was made of; None if they were not kept, are
        incomplete, or belong to another state of the file."""
        if is_written(item) or item.kind not in (Kind.IMAGE, Kind.REFERENCE):
            return None
        id = item_id(parent_of(item.key))
        record = self.folder.record(id)
        if record is None or record.placement is None or not _same_picture(record.source_digest, item):
            return None
        try:
            tokens = self.folder.read(id, METHOD)
        except InputError:
            return None
        return local_features(tokens, record.placement, record.input) if tokens.ndim == 3 else None


def _same_picture(kept: str, item: Item) -> bool:
    """Whether kept features belong to the picture that an item shows: the same bytes and, of a photograph, the same reader."""
    if item.kind is Kind.IMAGE:
        return kept == item.source_digest
    return SourceDigest.parse(kept).file == SourceDigest.parse(item.source_digest).file


def local_features(tokens: NDArray[Any], placement: Placement, size: tuple[int, int]) -> LocalFeatures:
    """Raw patch tokens [H, W, D] of an input of `size` (height, width) as local features of the picture it was placed in."""
    grid = tokens.shape[0], tokens.shape[1]
    points = placement.to_source(FeatureKind.parse("patch").centres(grid, size)).reshape(-1, 2)
    inside = ((points > -0.5) & (points < [placement.width - 0.5, placement.height - 0.5])).all(axis=1)
    flat = tokens.reshape(-1, tokens.shape[-1])[inside].astype(np.float32)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    across, down = placement.matrix[0] * size[1] / grid[1], placement.matrix[4] * size[0] / grid[0]
    # The tolerance of the homography is in working pixels: scaled so that it equals `WITHIN` patches.
    working = max(across, down) * WITHIN / TOLERANCE
    return LocalFeatures(
        points[inside].astype(np.float32), unit.astype(np.float16), placement.width, placement.height, working, METHOD
    )
