"""`ingest images`: the photographs of a folder as it stands, without a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

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
from outcrop.screen.options import COMPILE, MODEL, REGISTRY, RUN, STATE, STORE, Session, command, hidden, option


@command(app, STORE, hidden(REGISTRY), MODEL, NEW_OF_PICTURES, COMPILE, RUN, SHARD, STATE)
def images(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of photographs with any names; its folders are the captures.", show_default=False)],
    table: Metadata,
    name: Annotated[Optional[str], option("--name", panel="Source", help="Name of the dataset. [the folder's name]")] = None,
    positions: PositionsFile = None,
    write_registry: Annotated[Optional[Path], option("--write-registry", panel="Output", help="Also write the dataset into this registry (JSON), for `ingest dataset`.")] = None,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    limit: Limit = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Embed the photographs of a folder and of all folders in it; no registry is needed."""
    from outcrop.ingest.folder_names import add_to_registry
    from outcrop.ingest.requests import ImagesRequest

    more = {"limit": limit, "force": force, "features": features, "features_folder": features_folder}
    request = ImagesRequest.of(folder, name, session.settings, positions=positions, **more)
    if write_registry is not None and not dry_run:
        session.say(add_to_registry(write_registry, request.name, request.folder, positions))
    run_ingest(session, table.of(request), dry_run=dry_run)
