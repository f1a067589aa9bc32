"""The request for specimens: which meshes, how they are drawn and pooled, and what is written besides."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from outcrop.ingest.request import AbsolutePath, Request, Say
from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings

if TYPE_CHECKING:
    from outcrop.ingest.sources import Listing
    from outcrop.render.views import ViewSpec
    from outcrop.schema.space import Space
    from outcrop.store.collection import Collection


class SpecimensRequest(Request):
    """The meshes and point clouds below a folder: views of each, and the specimens pooled from them.

    `size` is the side of the views in pixels, None as large as the model takes them; `layout` where the cameras are; `split`
    makes a specimen of each mesh of a file; `cuts` draws as many cut copies of each; `align` is as `outcrop.render.pose` has it,
    and "none" where the record of a run by an older version does not say.
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
    cuts: int = 0
    pool: str = "mean"
    save_renders: AbsolutePath | None = None
    export_features: AbsolutePath | None = None
    split: bool = False
    limit: int | None = None

    def check(self) -> None:
        """See `Request.check`."""
        from outcrop.embed.pooling import require_pool
        from outcrop.ingest.fossilvit import FossilVit
        from outcrop.ingest.layouts import check_tree
        from outcrop.ingest.specimens import check_renders

        super().check()
        require_pool(self.pool)
        self._view_spec()
        if self.save_renders is not None:
            check_renders(self.save_renders)
        if self.export_features is not None:
            check_tree(self.export_features, FossilVit())
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
        return ViewSpec(self.views, self.size or 224, self.layout, self.seed, self.up, drawing, self.align, self.cuts)  # type: ignore[arg-type]  # checked by ViewSpec
