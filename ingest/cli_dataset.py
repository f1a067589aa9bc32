"""`ingest dataset`: the photographs of a dataset that the registry declares."""

from __future__ import annotations

from typing import Annotated

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import run_ingest
from outcrop.ingest.options import (
    NEW_OF_PICTURES,
    SHARD,
    DryRun,
    Features,
    FeaturesFolder,
    Force,
    Limit,
    Metadata,
    PositionsFile,
)
from outcrop.screen.options import COMPILE, MODEL, REGISTRY, RUN, STATE, STORE, Session, command


@command(app, STORE, REGISTRY, MODEL, NEW_OF_PICTURES, COMPILE, RUN, SHARD, STATE)
def dataset(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the dataset in the registry.")],
    table: Metadata,
    positions: PositionsFile = None,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    limit: Limit = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Embed a dataset of the registry and upsert it: new and changed pictures only."""
    from outcrop.ingest.requests import DatasetRequest

    kept = {"features": features, "features_folder": features_folder, "positions": positions}
    request = DatasetRequest.of(session.settings, name, limit=limit, force=force, **kept)
    run_ingest(session, table.of(request), dry_run=dry_run)
