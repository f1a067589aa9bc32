"""`ingest manifest`: runs what a manifest describes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import run_ingest
from outcrop.ingest.options import NEW_OF_PICTURES, SHARD, DryRun, Force, Metadata
from outcrop.screen.options import COMPILE, MODEL, REGISTRY, RUN, STATE, STORE, Session, command, hidden


@command(app, STORE, REGISTRY, MODEL, hidden(NEW_OF_PICTURES), COMPILE, RUN, SHARD, STATE)
def manifest(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The manifest, JSON or YAML.", show_default=False)],
    table: Metadata,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Embed the datasets and written references that a manifest names; options win over what it says."""
    from outcrop.ingest.manifest_run import settings_of
    from outcrop.ingest.requests import ManifestRequest
    from outcrop.schema.manifest import read_manifest

    described = read_manifest(file)
    session = replace(session, settings=settings_of(session.settings, described, file.parent, session.given))
    request = ManifestRequest.of(session.settings, file, described, force=force)
    run_ingest(session, table.of(request), dry_run=dry_run)
