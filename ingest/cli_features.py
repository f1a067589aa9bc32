"""`ingest features`: vectors made elsewhere, from a tree of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import run_ingest
from outcrop.ingest.options import INDEX, SHARD, DryRun, FeaturesFolder, Force, Metadata
from outcrop.ingest.request import dataset_name
from outcrop.screen.options import MODEL, REGISTRY, RUN, STATE, STORE, Session, command, hidden, option


@command(app, STORE, hidden(REGISTRY), hidden(MODEL, "device", "pooling", "precision"), INDEX, RUN, SHARD, STATE)
def features(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the tree.", show_default=False)],
    layout: Annotated[
        str, option("--layout", panel="Source", help="How the files are laid out: fossilvit or imgmatching.")
    ],
    table: Metadata,
    name: Annotated[
        Optional[str], option("--name", panel="Source", help="Name of the dataset. [the folder's name]")
    ] = None,
    features_folder: FeaturesFolder = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Read vectors that were made elsewhere into the collection; no model runs. New and changed files only."""
    from outcrop.ingest.requests import FeaturesRequest

    request = FeaturesRequest(
        name=dataset_name(folder, name), folder=folder, layout=layout, force=force, features_folder=features_folder
    )
    run_ingest(session, table.of(request), dry_run=dry_run, unit="vectors")
