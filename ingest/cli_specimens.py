"""`ingest specimens`: meshes and point clouds, drawn, embedded and pooled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import run_ingest
from outcrop.ingest.options import NEW, SHARD, DryRun, Force, Metadata
from outcrop.ingest.request import dataset_name
from outcrop.screen.options import (
    DRAWING_RUN,
    MODEL,
    REGISTRY,
    STATE,
    STORE,
    Formerly,
    Session,
    command,
    hidden,
    option,
)


# fmt: off
@dataclass(frozen=True)
class Making:
    """How specimens are looked at, and what is written beside their vectors."""

    views: Annotated[int, option("--views", panel="What to make", min=1, max=360, show_default=True, help="Views of each specimen.")] = 12
    size: Annotated[Optional[int], option("--size", hidden=True, help="Side of the views in pixels. [what the model takes in]")] = None
    layout: Annotated[str, option("--cameras", panel="What to make", show_default=True, help="Where the views are taken from: ring (around the up axis) or sphere (from all sides)."), Formerly("--layout")] = "ring"
    up: Annotated[str, option("--up", hidden=True, show_default=True, help="The axis of the files that points up: x, y or z.")] = "y"
    align: Annotated[str, option("--align", panel="What to make", show_default=True, help="The pose they are drawn in: axes (turned to their own axes), axes-mirror (left and right count as the same too), or none (as in the file).")] = "axes"
    cuts: Annotated[int, option("--cuts", panel="What to make", help="Also draw the views of N cut copies of each, so that broken specimens are found (query specimen --by views). [0]")] = 0
    seed: Annotated[int, option("--seed", hidden=True, help="Rotates the cameras about the up axis; 0 leaves them.")] = 0
    renderer: Annotated[str, option("--renderer", panel="What to make", show_default=True, help="raycast (no GPU needed), egl (a GPU, by OpenGL), filament, or auto: egl where a GPU answers.")] = "auto"
    pool: Annotated[str, option("--pool", panel="What to make", show_default=True, help="How a specimen's vector is made of those of its views: mean, max or gem.")] = "mean"
    split: Annotated[bool, option("--split", panel="What to make", help="Make a specimen of each mesh in a GLB, glTF, 3MF, DAE or ZIP file, not of all together.")] = False
    save_renders: Annotated[Optional[Path], option("--save-renders", panel="What to make", help="Also write the views as PNG files below this folder.")] = None
    export_features: Annotated[Optional[Path], option("--export-features", panel="What to make", help="Afterwards write the dataset's vectors below this folder, as features/, embeddings/ and results/ (layout fossilvit).")] = None


@command(app, STORE, hidden(REGISTRY), MODEL, NEW, DRAWING_RUN, SHARD, STATE)
def specimens(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of meshes (PLY, OBJ, STL, OFF, GLB, glTF, 3MF, DAE, VTP, also as .gz or .zip); its folders are the categories.", show_default=False)],
    making: Making,
    table: Metadata,
    name: Annotated[Optional[str], option("--name", panel="Source", help="Name of the dataset. [the folder's name]")] = None,
    limit: Annotated[Optional[int], option("--limit", panel="Run", help="Only the first N specimens.")] = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Draw the specimens of a folder from several sides, embed the views and pool them; categories are the folders."""
    from outcrop.ingest.requests import SpecimensRequest

    made = asdict(making)
    request = SpecimensRequest(name=dataset_name(folder, name), folder=folder, limit=limit, force=force, **made)
    run_ingest(session, table.of(request), dry_run=dry_run)
# fmt: on
