"""What an ingest is asked for, as values: from the command (or a notebook) to the run's record, and back to `ingest retry`.

Each kind of request lists its sources itself: all of them, or those of some keys. A request says *what* is made; how fast and
with what patience is in the settings (see `outcrop.ingest.runs.RunSettings`). Paths are absolute, so that a record can be
retried from another folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from outcrop.ingest.photo_requests import (
    DatasetRequest,
    ImagesRequest,
    ReferencesRequest,
    VideoRequest,
    WrittenReferencesRequest,
)
from outcrop.ingest.request import AbsolutePath, Request, Say, TableRequest
from outcrop.ingest.specimens_request import SpecimensRequest
from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings

if TYPE_CHECKING:
    from outcrop.ingest.manifest import Part
    from outcrop.ingest.sources import Listing
    from outcrop.schema.manifest import Manifest
    from outcrop.schema.space import Space
    from outcrop.store.collection import Collection

__all__ = [
    "AnyRequest",
    "AuditRequest",
    "DatasetRequest",
    "FeaturesRequest",
    "ImagesRequest",
    "ManifestRequest",
    "MapRequest",
    "ReferencesRequest",
    "Request",
    "SpecimensRequest",
    "TableRequest",
    "VideoRequest",
    "WrittenReferencesRequest",
]


class MapRequest(Request):
    """The tiles of a map. `scales` are the sides of tiles in metres, None where the collection says what suits its photographs.

    `terrain` is a model of the ground's heights, which queries use.
    """

    command: ClassVar[str] = "map"
    kind: Literal["map"] = "map"
    path: AbsolutePath
    scales: tuple[float, ...] | None = None
    terrain: AbsolutePath | None = None

    @property
    def undeclared(self) -> bool:
        """Whether only the collection can say at what scales the map is cut."""
        return self.scales is None

    def check(self) -> None:
        """See `Request.check`."""
        from outcrop.embed.maps import opened_map
        from outcrop.embed.terrain import open_terrain

        super().check()
        with opened_map(self.path):
            pass
        if self.terrain is not None:
            open_terrain(self.terrain).close()

    def located(self, collection: Collection | None, settings: Settings) -> Request:
        """The request with its scales: those that the map had, else what suits the photographs of the collection."""
        from outcrop.ingest.map_scales import DEFAULT, scales_of

        if collection is None:
            return self if self.scales is not None else self.model_copy(update={"scales": DEFAULT})
        scales, terrain = scales_of(collection, self.name, self.path)
        kept = {"scales": self.scales or scales, "terrain": self.terrain or terrain}
        return self if kept == {"scales": self.scales, "terrain": self.terrain} else self.model_copy(update=kept)

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.map_scales import DEFAULT
        from outcrop.ingest.maps import list_map

        return list_map(self.path, self.name, self.scales or DEFAULT, only=only)


class ManifestRequest(Request):
    """The datasets and the written references that a manifest names, as one run."""

    command: ClassVar[str] = "manifest"
    kind: Literal["manifest"] = "manifest"
    manifest: AbsolutePath
    registry: AbsolutePath
    datasets: AbsolutePath
    references: AbsolutePath

    @classmethod
    def of(cls, settings: Settings, file: Path, described: Manifest, *, force: bool = False) -> ManifestRequest:
        """The request for a manifest that was read from a file; `settings` are those that it leads to."""
        features = ",".join(described.kinds) or None
        given = described.metadata
        table = file.parent / given.table if given is not None else None
        return cls(
            name=file.name,
            force=force or described.run.force,
            features=features,
            features_folder=settings.features_folder if features else None,
            metadata=TableRequest(table=table, on=given.on, encoding=given.encoding) if given and table else None,
            manifest=file,
            registry=settings.registry,
            datasets=settings.datasets_folder,
            references=settings.references or settings.datasets_folder,
        )

    def parts(self, only: Iterable[str] | None = None) -> tuple[Part, ...]:
        """The parts of the manifest, listed one by one."""
        from outcrop.ingest.manifest import list_manifest
        from outcrop.schema.manifest import read_manifest

        place = (self.registry, self.datasets, self.references)
        return list_manifest(read_manifest(self.manifest), *place, only=only, base=self.manifest.parent)

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.manifest import whole

        return whole(self.name, self.parts(only))

    def finish(self, collection: Collection, settings: Settings, say: Say) -> None:
        """Writes the files of the manifest's items to its output roots; what is up to date there stays."""
        from outcrop.ingest.manifest_run import write_files
        from outcrop.schema.manifest import read_manifest

        write_files(read_manifest(self.manifest), self.manifest.parent, collection, settings.features_folder, say)


class FeaturesRequest(Request):
    """Vectors that were made elsewhere, from a tree of files in a known layout."""

    command: ClassVar[str] = "features"
    kind: Literal["features"] = "features"
    folder: AbsolutePath
    layout: str

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`; files that make an item of `only` are kept with all their items."""
        from outcrop.ingest.bundles import list_bundles
        from outcrop.ingest.layout_names import layout_named

        return list_bundles(layout_named(self.layout), self.folder, self.name, only=only)


class AuditRequest(Request):
    """What `collection audit --fix` embedded: known by name only, and not listed again."""

    command: ClassVar[str] = "audit"
    kind: Literal["audit"] = "audit"
    collection: str = ""

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """Not possible.

        Raises:
            InputError: always.
        """
        raise InputError("a repair by `collection audit --fix` cannot be retried; run it again")


AnyRequest = Annotated[
    DatasetRequest
    | ImagesRequest
    | VideoRequest
    | ReferencesRequest
    | WrittenReferencesRequest
    | SpecimensRequest
    | MapRequest
    | ManifestRequest
    | FeaturesRequest
    | AuditRequest,
    Field(discriminator="kind"),
]
