"""`ingest references`: rotated crops of a dataset's photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import run_ingest
from outcrop.ingest.options import NEW_OF_PICTURES, SHARD, DryRun, Features, FeaturesFolder, Force, Metadata
from outcrop.schema.errors import UsageError
from outcrop.screen.options import COMPILE, MODEL, REGISTRY, RUN, STATE, STORE, Session, command, option


@command(app, STORE, REGISTRY, MODEL, NEW_OF_PICTURES, COMPILE, RUN, SHARD, STATE)
def references(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the dataset in the registry.")],
    table: Metadata,
    angles: Annotated[str, option("--angles", panel="What to make", show_default=True, help="Degrees, counter-clockwise: START:STOP:STEP without the stop, a list, or both.")] = "0:360:30",
    crops: Annotated[str, option("--crops", panel="What to make", show_default=True, help="Fractions of the picture's sides, and grids COLUMNSxROWS:FRACTION; a list.")] = "0.6",
    add: Annotated[bool, option("--add", panel="What to make", help="Keep the references of these photographs that this run does not make.")] = False,
    write_images: Annotated[Optional[Path], option("--write-images", panel="What to make", help="Also write the references as JPEGs below this folder.")] = None,
    from_: Annotated[Optional[Path], option("--from", panel="Source", help="Embed the written references below this folder instead.")] = None,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    limit: Annotated[Optional[int], option("--limit", panel="Run", help="Only those of the first N photographs that are on disk.")] = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Embed rotated crops of a dataset's photographs, so that a query of any heading finds them; writes no pictures."""
    from outcrop.ingest.requests import AnyRequest, ReferencesRequest, WrittenReferencesRequest

    settings, common = (
        session.settings,
        {"limit": limit, "force": force, "features": features, "features_folder": features_folder, "add": add},
    )
    request: AnyRequest
    if from_ is None:
        request = ReferencesRequest.of(settings, name, angles=angles, crops=crops, write_images=write_images, **common)
    elif write_images is None:
        request = WrittenReferencesRequest.of(settings, name, folder=from_, **common)
    else:
        raise UsageError("--from embeds references that are written already; leave --write-images out")
    run_ingest(session, table.of(request), dry_run=dry_run)
