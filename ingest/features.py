"""Features beside the vectors: which items still lack them, and how they come out of the same pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.feature_files import FeatureFolder, FeatureRecord, halved
from outcrop.embed.features import FeatureKind
from outcrop.embed.protocol import PictureEncoder
from outcrop.ingest.sources import Prepared
from outcrop.schema.item import Item, Kind

if TYPE_CHECKING:
    from outcrop.embed.staging import Rows

Arrays = Mapping[str, NDArray[np.float16]]
"""Features of one item by the name of their kind."""


@dataclass(frozen=True)
class FeatureKeeper:
    """Keeps features of the kinds asked for, by item id. An item has them once they are of the source that its row is of.

    Without kinds nothing is made, and features that lie beside vectors made elsewhere are kept in the `folder`.
    """

    folder: FeatureFolder
    kinds: Sequence[FeatureKind]

    def lacks(self, item: Item, row: Mapping[str, Any]) -> bool:
        """Whether an item must be embedded for its features, however unchanged its row is."""
        if item.kind is Kind.SPECIMEN or not self.kinds:
            return False  # pooled of vectors: it has no pixels
        return not self.folder.has(item.id, str(row["source_digest"]), self.kinds)

    def encode(self, encoder: PictureEncoder, pixels: Rows) -> tuple[NDArray[np.float32], list[Arrays]]:
        """Vectors and features of pictures, in the forms that `Encoder.encode` takes, from one pass.

        Raises:
            PictureError: a picture gives no usable vector, or features that float16 does not hold.
        """
        made = encoder.features(pixels)
        rows, columns, dim = made.patches.shape[1:]
        self.folder.note(self.kinds, (rows, columns), dim)
        by_kind = {kind.name: halved(kind.make(made, encoder.space.size), kind.name) for kind in self.kinds}
        return made.vectors, [{name: arrays[n] for name, arrays in by_kind.items()} for n in range(len(pixels))]

    def keep(self, prepared: Prepared, arrays: Arrays) -> None:
        """Writes the features of an item.

        Raises:
            InputError: they cannot be written.
        """
        item = prepared.item
        shapes = {name: array.shape for name, array in arrays.items()}
        size = self.folder.space.size
        record = FeatureRecord(item.id, item.key, item.source, item.source_digest, shapes, size, prepared.placement)
        self.folder.write(record, arrays)
