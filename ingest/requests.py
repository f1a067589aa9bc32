"""What an ingest is asked for, as values: from the command (or a notebook) to the run's record, and back to `ingest retry`.

Each kind of request lists its sources itself: all of them, or those of some keys. A request says *what* is made; how fast and
with what patience is in the settings (see `outcrop.ingest.runs.RunSettings`). Paths are absolute, so that a record can be
retried from another folder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings

if TYPE_CHECKING:
    from outcrop.ingest.manifest import Part
    from outcrop.ingest.sources import Listing
    from outcrop.render.views import ViewSpec
    from outcrop.schema.manifest import Manifest
    from outcrop.schema.space import Space
    from outcrop.store.collection import Collection

AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
Say = Callable[[str], None]


class TableRequest(BaseModel):
    """A table of own columns, what its rows are `on` (None: what its header says), and its encoding (None: found out)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    table: AbsolutePath
    on: str | None = None
    encoding: str | None = None


class Request(BaseModel):
    """What every request says: a name for what is ingested, the features that are kept beside the vectors, own columns.

    `force` embeds unchanged items too. `features` are written as in ``patch:stride=2,grid:side=4``; None keeps none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    command: ClassVar[str]
    takes_space: ClassVar[bool] = False
    """Whether the listing depends on the space of the vectors; otherwise the sources are listed before the store is opened."""

    name: str
    force: bool = False
    features: str | None = None
    features_folder: AbsolutePath | None = None
    metadata: TableRequest | None = None

    def with_metadata(self, table: Path, on: str | None = None, encoding: str | None = None) -> Self:
        """The request with a table of own columns."""
        return self.model_copy(update={"metadata": TableRequest(table=table, on=on, encoding=encoding)})

    def check(self) -> None:
        """Refuses what cannot be done, before anything is listed or opened.

        Raises:
            InputError: a value is wrong; its option is named.
        """
        if self.features is not None:
            from outcrop.embed.features import FeatureKind

            FeatureKind.parse_all(self.features)

    @property
    def undeclared(self) -> bool:
        """Whether only the collection can say where the sources are, so that it is opened before they are listed."""
        return False

    def located(self, collection: Collection | None, settings: Settings) -> Self:
        """The request with the places that the collection it goes to knows.

        Raises:
            InputError: the collection knows another place.
        """
        return self

    def places(self) -> Iterable[tuple[Path, str]]:
        """The folders in which files are written beside the collection, each with what to do where that cannot be done."""
        if self.features and self.features_folder is not None:
            yield self.features_folder, "make room, or give another --features-folder"

    def settled(self, space: Space) -> Self:
        """The request with nothing left to choose, as the record keeps it."""
        return self

    @abstractmethod
    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """Lists the sources; `only` keeps those of these keys, `workers` is how many are prepared at once (0: one per core).

        Raises:
            InputError: a folder, a file or a value is wrong.
        """

    def finish(self, collection: Collection, settings: Settings, say: Say) -> None:
        """What is done once the items are stored, whether or not some failed."""


class _OfRegistry(Request):
    """What every request for a dataset of the registry says; `limit` keeps the first items that are on disk.

    `registry` and `datasets` are one folder where the dataset is that folder as it stands. `positions` is a file of positions.
    """

    registry: AbsolutePath
    datasets: AbsolutePath
    positions: AbsolutePath | None = None
    limit: int | None = None

    @property
    def undeclared(self) -> bool:
        """Whether the registry does not know the dataset; a collection may know its folder."""
        from outcrop.schema.registry import declares

        return self.registry != self.datasets and not declares(self.registry, self.name)

    def located(self, collection: Collection | None, settings: Settings) -> Self:
        """The request with the folder that a collection remembers, where the registry does not know the dataset."""
        from outcrop.store.folders import place_of

        if not self.undeclared:
            return self
        place = place_of(collection, settings, self.name)
        if place.registry == settings.registry:
            return self
        positions = self.positions or place.positions
        return self.model_copy(update={"registry": place.registry, "datasets": place.datasets, "positions": positions})

    @classmethod
    def of(cls, settings: Settings, name: str, **more: object) -> Self:
        """The request for a dataset of the registry that the settings name."""
        return cls.model_validate(
            {
                "name": name,
                "registry": settings.registry,
                "datasets": settings.datasets_folder,
                "features_folder": settings.features_folder if more.get("features") else None,
                **{field: value for field, value in more.items() if value is not None},
            }
        )


class DatasetRequest(_OfRegistry):
    """The pictures of a dataset of the registry."""

    command: ClassVar[str] = "dataset"
    kind: Literal["dataset"] = "dataset"

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.dataset import list_dataset

        limit = self.limit if only is None else None
        return list_dataset(self.registry, self.name, self.datasets, limit=limit, only=only, positions=self.positions)


class ImagesRequest(Request):
    """The photographs of a folder as it stands, without a registry (see `outcrop.schema.any_files`).

    `positions` is a file with their places; `limit` keeps the first N.
    """

    command: ClassVar[str] = "images"
    kind: Literal["images"] = "images"
    folder: AbsolutePath
    positions: AbsolutePath | None = None
    limit: int | None = None

    def check(self) -> None:
        """See `Request.check`."""
        super().check()
        if not self.folder.is_dir():
            raise InputError(f"no folder at {self.folder}; give the folder that holds the photographs")

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.dataset import list_folder

        limit = self.limit if only is None else None
        return list_folder(self.folder, self.name, limit=limit, only=only, positions=self.positions)

    def located(self, collection: Collection | None, settings: Settings) -> Self:
        """The request with the file of positions that the collection remembers; refused where the name is another dataset's."""
        from outcrop.ingest.folder_names import require_own_name
        from outcrop.store.folders import FOLDERS

        require_own_name(self.name, self.folder, collection, settings)
        known = FOLDERS.get(collection, self.name)
        if self.positions is not None or known is None or known.positions is None or not known.positions.is_file():
            return self
        return self.model_copy(update={"positions": known.positions})


class VideoRequest(Request):
    """Films: frames of those below `folder`, or of those that `films` names (paths below it), one every so many seconds.

    `known` is the folder that remembers which frames of a film were kept; `limit` keeps the first N.
    """

    command: ClassVar[str] = "video"
    kind: Literal["video"] = "video"
    folder: AbsolutePath
    films: tuple[str, ...] = ()
    every: float = 1.0
    known: AbsolutePath
    limit: int | None = None

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.video import Kept, list_films

        limit = self.limit if only is None else None
        kept = Kept(self.known)
        return list_films(self.folder, self.name, self.every, kept, films=self.films, limit=limit, only=only)

    def located(self, collection: Collection | None, settings: Settings) -> Self:
        """The request itself; refused where the name is another dataset's."""
        from outcrop.ingest.folder_names import require_own_name

        require_own_name(self.name, self.folder, collection, settings)
        return self


class ReferencesRequest(_OfRegistry):
    """Rotated crops of a dataset's photographs, made on the way.

    `add` keeps the references of these photographs that are not asked for; `write_images` is a folder for them as JPEGs.
    """

    command: ClassVar[str] = "references"
    kind: Literal["references"] = "references"
    angles: str = "0:360:30"
    crops: str = "0.6"
    add: bool = False
    write_images: AbsolutePath | None = None

    def check(self) -> None:
        """See `Request.check`."""
        super().check()
        if self.write_images is not None and self.write_images.exists() and not self.write_images.is_dir():
            raise InputError(f"--write-images {self.write_images} is a file; give a folder")

    def places(self) -> Iterable[tuple[Path, str]]:
        """See `Request.places`."""
        yield from super().places()
        if self.write_images is not None:
            yield self.write_images, "give another --write-images"

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.references import list_references
        from outcrop.schema.crops import crop_specs, parse_angles, parse_crops

        place = (self.registry, self.name, self.datasets)
        if only is not None:
            return list_references(*place, only=only, write_to=self.write_images, positions=self.positions)
        wanted = crop_specs(parse_angles(self.angles), parse_crops(self.crops))
        return list_references(
            *place,
            wanted,
            limit=self.limit,
            keep_others=self.add,
            write_to=self.write_images,
            positions=self.positions,
        )


class WrittenReferencesRequest(_OfRegistry):
    """References of a dataset that are pictures on disk already, below `folder`."""

    command: ClassVar[str] = "references"
    kind: Literal["written_references"] = "written_references"
    folder: AbsolutePath = Field(alias="from")
    add: bool = False

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.written import list_written_references

        place = (self.registry, self.name, self.datasets, self.folder)
        if only is not None:
            return list_written_references(*place, only=only)
        return list_written_references(*place, limit=self.limit, keep_others=self.add)


class SpecimensRequest(Request):
    """The meshes and point clouds below a folder: views of each, and the specimens pooled from them.

    `size` is the side of the views in pixels, None as large as the model takes them; `layout` where the cameras are; `split`
    makes a specimen of each mesh of a file; `align` is as `outcrop.render.pose` has it, and "none" where the record of a run by
    an older version does not say.
    """

    command: ClassVar[str] = "specimens"
    takes_space: ClassVar[bool] = True
    kind: Literal["specimens"] = "specimens"
    folder: AbsolutePath
    views: int = 12
    size: int | None = None
    layout: str = "ring"
    up: str = "y"
    seed: int = 0
    renderer: str = "auto"
    align: str = "none"
    pool: str = "mean"
    save_renders: AbsolutePath | None = None
    export_features: AbsolutePath | None = None
    split: bool = False
    limit: int | None = None

    def check(self) -> None:
        """See `Request.check`."""
        from outcrop.embed.pooling import require_pool
        from outcrop.ingest.layouts import check_tree
        from outcrop.ingest.specimens import check_renders

        super().check()
        require_pool(self.pool)
        self._view_spec()
        if self.save_renders is not None:
            check_renders(self.save_renders)
        if self.export_features is not None:
            check_tree(self.export_features)
        if not self.folder.is_dir():
            raise InputError(f"no folder at {self.folder}; give the folder that holds the meshes")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit must be at least 1, got {self.limit}")

    def places(self) -> Iterable[tuple[Path, str]]:
        """See `Request.places`."""
        yield from super().places()
        if self.save_renders is not None:
            yield self.save_renders, "give another --save-renders"
        if self.export_features is not None:
            yield self.export_features.parent, "give another --export-features"

    def settled(self, space: Space) -> Self:
        """With the size and the renderer that are used: a retry draws as the run did."""
        spec = self._view_spec()
        if self.size is None:
            spec = spec.sized_for(space.size)
        return self.model_copy(update={"size": spec.size, "renderer": spec.renderer})

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.embed.pooling import require_pool
        from outcrop.ingest.specimens import list_specimens
        from outcrop.render.workers import Workers
        from outcrop.schema.machine import cores

        spec = self._view_spec()
        if self.size is None and space is not None:
            spec = spec.sized_for(space.size)
        return list_specimens(
            self.folder,
            self.name,
            spec,
            require_pool(self.pool),
            workers=Workers(workers or cores()),
            renders=self.save_renders,
            limit=self.limit if only is None else None,
            only=only,
            split=self.split,
        )

    def finish(self, collection: Collection, settings: Settings, say: Say) -> None:
        """Writes the dataset's vectors as FossilViT's tree of files, where that was asked for."""
        if self.export_features is None:
            return
        from outcrop.ingest.layout_names import layout_named
        from outcrop.ingest.layouts import export_tree
        from outcrop.schema.filters import equals

        rows = export_tree(layout_named("fossilvit"), collection, self.export_features, equals("dataset", self.name))
        say(f"{rows} vectors in {self.export_features}")

    def _view_spec(self) -> ViewSpec:
        from outcrop.render.views import ViewSpec
        from outcrop.render.workers import choose_renderer

        drawing = choose_renderer(self.renderer)
        return ViewSpec(self.views, self.size or 224, self.layout, self.seed, self.up, drawing, self.align)  # type: ignore[arg-type]  # checked by ViewSpec


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

    def located(self, collection: Collection | None, settings: Settings) -> Self:
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
