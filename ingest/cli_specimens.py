"""`ingest specimens`: meshes and point clouds, drawn, embedded and pooled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from outcrop.ingest.console import run_ingest
from outcrop.ingest.options import Batch, DryRun, FitTo, Force, Index, Metrics, NoThumbnails, Patience, app
from outcrop.schema.errors import InputError, PartialFailure
from outcrop.schema.filters import equals
from outcrop.screen.options import MODEL, REGISTRY, STATE, STORE, Session, command

if TYPE_CHECKING:
    from outcrop.ingest.listing import Listing
    from outcrop.schema.space import Space


@command(app, STORE, REGISTRY, MODEL, STATE)
def specimens(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of .ply, .obj, .stl and .off files; its folders are the categories.", show_default=False)],
    name: Annotated[Optional[str], typer.Option("--name", help="Name of the dataset. [the folder's name]", show_default=False)] = None,
    views: Annotated[int, typer.Option("--views", min=1, max=360, help="Views of each specimen.")] = 12,
    size: Annotated[Optional[int], typer.Option("--size", help="Side of the views in pixels. [what the model takes in]", show_default=False)] = None,
    layout: Annotated[str, typer.Option("--layout", help="Where the views are taken from: ring (around the up axis) or sphere (from all sides).")] = "ring",
    up: Annotated[str, typer.Option("--up", help="The axis of the files that points up: x, y or z.")] = "y",
    seed: Annotated[int, typer.Option("--seed", help="Turns the layout around the up axis; 0 leaves it.")] = 0,
    renderer: Annotated[str, typer.Option("--renderer", help="raycast (no GPU needed), filament, or auto: filament where a GPU draws for it.")] = "auto",
    pool: Annotated[str, typer.Option("--pool", help="How a specimen's vector is made of those of its views: mean, max or gem.")] = "mean",
    save_renders: Annotated[Optional[Path], typer.Option("--save-renders", help="Also write the views as PNG files below this folder.", show_default=False)] = None,
    export_features: Annotated[Optional[Path], typer.Option("--export-features", help="Afterwards write the dataset's vectors below this folder, as features/, embeddings/ and results/ (layout fossilvit).", show_default=False)] = None,
    limit: Annotated[Optional[int], typer.Option("--limit", help="Only the first N specimens.", show_default=False)] = None,
    force: Force = False,
    dry_run: DryRun = False,
    batch: Batch = 0,
    workers: Annotated[int, typer.Option("--workers", min=0, max=256, help="Drawing processes; 0 = one per core.")] = 0,
    no_thumbnails: NoThumbnails = False,
    input_size: Annotated[Optional[int], typer.Option("--input-size", help="Side of the network's input in pixels, for a new collection. [the preset's]", show_default=False)] = None,
    fit: FitTo = None,
    index: Index = None,
    patience: Patience = 60.0,
    metrics_file: Metrics = None,
) -> None:  # fmt: skip
    """Draw the specimens of a folder from several sides, embed the views and pool them; categories are the folders."""
    from outcrop.embed.pooling import require_pool
    from outcrop.ingest.layouts import check_tree
    from outcrop.ingest.specimens import check_renders, find_meshes, list_specimens
    from outcrop.render.views import ViewSpec
    from outcrop.render.workers import Workers, choose_renderer
    from outcrop.schema.machine import cores

    dataset = name if name is not None else folder.absolute().name
    if not dataset:
        raise InputError("the dataset needs a name; give --name")
    how, drawing = require_pool(pool), choose_renderer(renderer)
    look = ViewSpec(views, size or 224, layout, seed, up, drawing)  # type: ignore[arg-type]  # checked by ViewSpec
    if save_renders is not None:
        check_renders(save_renders)
    if export_features is not None:
        check_tree(export_features)
    meshes = find_meshes(folder)
    arguments = {
        "name": dataset,
        "folder": str(folder.absolute()),
        "views": views,
        "size": size,
        "layout": layout,
        "up": up,
        "seed": seed,
        "renderer": drawing,
        "pool": how,
        "save_renders": str(save_renders.absolute()) if save_renders is not None else None,
        "limit": limit,
        "force": force,
        "batch": batch,
        "workers": workers,
        "thumbnails": not no_thumbnails,
        "patience": patience,
        "metrics": str(metrics_file) if metrics_file is not None else None,
    }
    with Workers(workers or cores()) as pool_of_workers:

        def listing(space: Space) -> Listing:
            drawn = look.sized_for(space.size) if size is None else look
            arguments["size"] = drawn.size  # a retry is to draw as this run did
            return list_specimens(
                folder,
                dataset,
                drawn,
                how,
                workers=pool_of_workers,
                renders=save_renders,
                limit=limit,
                meshes=meshes,
            )

        failed: PartialFailure | None = None
        try:
            run_ingest(session, "specimens", listing, arguments, dry_run=dry_run, fit=fit, size=input_size, index=index)
        except PartialFailure as error:
            failed = error
    if export_features is not None and not dry_run:
        _export(session, dataset, export_features)
    if failed is not None:
        raise failed


def _export(session: Session, dataset: str, folder: Path) -> None:
    from outcrop.ingest.layout_names import layout_named
    from outcrop.ingest.layouts import export_tree
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    with Store.of(session.settings) as store:
        collection = Collection.open(store, session.settings.collection)
        rows = export_tree(layout_named("fossilvit"), collection, folder, equals("dataset", dataset))
    session.say(f"{rows} vectors in {folder.absolute()}")
