"""`ingest video`: frames of films, with the telemetry beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import run_ingest
from outcrop.ingest.options import NEW_OF_PICTURES, DryRun, Features, FeaturesFolder, Force, Limit, Metadata
from outcrop.screen.options import COMPILE, MODEL, REGISTRY, RUN, STATE, STORE, Session, command, hidden, option


@command(app, STORE, hidden(REGISTRY), MODEL, NEW_OF_PICTURES, COMPILE, RUN, STATE)
def video(
    session: Session,
    place: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A film, or a folder of films; each is a capture. DJI's .SRT beside a film says where it was.", show_default=False)],
    table: Metadata,
    name: Annotated[Optional[str], option("--name", panel="Source", help="Name of the dataset. [the folder's name]")] = None,
    every: Annotated[str, option("--every", panel="What to make", show_default=True, help="Time between two frames: 1s, 500ms, 2min. Near-equal frames are left out.")] = "1s",
    features: Features = None,
    features_folder: FeaturesFolder = None,
    limit: Limit = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Embed frames of a film, or of all films in a folder; needs the extra outcrop[video]."""
    from outcrop.ingest.requests import VideoRequest

    more = {"limit": limit, "force": force, "features": features, "features_folder": features_folder}
    request = VideoRequest.of(place, name, every, session.settings, **more)
    run_ingest(session, table.of(request), dry_run=dry_run)
