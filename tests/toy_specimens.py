"""Specimens in a collection, for the tests: a folder of small meshes, and an encoder that needs no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import meshes
import numpy as np
from numpy.typing import NDArray
from toy_encoders import Submits

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.listing import ingest_listing
from outcrop.ingest.pipeline import Options
from outcrop.ingest.records import find_run
from outcrop.ingest.runs import Failure, Record, Run
from outcrop.ingest.sources import Listing
from outcrop.ingest.specimens import list_specimens
from outcrop.render.views import ViewSpec
from outcrop.render.workers import Workers
from outcrop.schema.space import Space
from outcrop.store.collection import Collection

SPACE = Space(
    model="toy", weights_digest="0", size=(64, 64), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=192, fit="squash"
)
LOOK = ViewSpec(views=3, size=64)


class ToyEncoder(Submits):
    """The picture itself, 8 x 8 pixels small, as a vector: enough to tell shapes apart, and at once."""

    space = SPACE

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        small = 256 - pixels.reshape(-1, 8, 8, 8, 8, 3).mean(axis=(2, 4)).reshape(len(pixels), -1).astype(np.float32)
        return small / np.linalg.norm(small, axis=1, keepdims=True)


@dataclass(frozen=True)
class Ingest:
    """Ingests a folder of specimens into a collection, as the command does."""

    folder: Path
    collection: Collection
    workers: Workers

    def listing(self, look: ViewSpec = LOOK, **more: Any) -> Listing:
        return list_specimens(self.folder, self.folder.name, look, workers=self.workers, **more)

    def __call__(self, look: ViewSpec = LOOK, *, force: bool = False, **more: Any) -> tuple[Record, list[Failure]]:
        listing, run = self.listing(look, **more), Run.begin(Path("state"), "specimens")
        options, thumbnails = Options(workers=2, force=force), ThumbnailStore.below(Path("state"))
        record = ingest_listing(listing, ToyEncoder(), self.collection, run, options, thumbnails=thumbnails)
        return record, find_run(Path("state"), record.run)[1]

    def rows(self) -> dict[str, tuple[dict[str, Any], NDArray[np.float32]]]:
        """All rows by key, with their vectors."""
        return {
            item.key: (item.row(), vector)
            for items, vectors in self.collection.scan(vectors=True)
            for item, vector in zip(items, vectors, strict=True)
        }


def shells(root: Path) -> Path:
    """Four specimens in two levels of categories, one of them a point cloud, with files beside them that are none."""
    meshes.write(root / "ammonites/early/smooth.ply", *meshes.ball(3, (1, 0.4, 1)))
    meshes.write(root / "ammonites/early/RIBBED.STL", *meshes.ball(3, (1, 0.4, 1), bumps=9))
    meshes.write(root / "snails/tall one.obj", *meshes.ball(3, (0.5, 1, 0.5)))
    (root / "scan.Ply").write_bytes(meshes.cloud_ply(meshes.ball(3)[0]))
    (root / "notes.txt").write_text("no mesh")
    meshes.write(root / ".hidden/old.ply", *meshes.box())
    (root / "snails/._tall one.obj").write_bytes(b"what a Mac leaves behind")
    return root
