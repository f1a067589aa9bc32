"""`ingest map`: an orthophoto or another map, as tiles that photographs are located on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import run_ingest
from outcrop.ingest.options import NEW_OF_PICTURES, DryRun, Features, FeaturesFolder, Force, Metadata
from outcrop.screen.options import COMPILE, MODEL, REGISTRY, RUN, STATE, STORE, Session, command, hidden, option


@command(app, STORE, hidden(REGISTRY), MODEL, NEW_OF_PICTURES, COMPILE, RUN, STATE)
def map(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="MAP", help="GeoTIFF, folder of XYZ tiles (z/x/y.png), or .pmtiles file.", show_default=False)],
    table: Metadata,
    name: Annotated[Optional[str], option("--name", panel="Source", help="Name of the map's dataset. [the file's name]")] = None,
    scales: Annotated[Optional[str], option("--scales", panel="What to make", help="Sides of the tiles in metres, as in 60,120. [as before, else what suits the collection's photographs, else 60,120,240]")] = None,
    dem: Annotated[Optional[Path], option("--dem", panel="Source", help="Terrain model (GeoTIFF of heights in metres) that queries with --locate use. [as before]")] = None,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Embed a map (GeoTIFF, XYZ tiles, PMTiles) as overlapping tiles, so that a photograph is located without GPS; writes no pictures."""
    from outcrop.ingest.map_grid import parse_scales
    from outcrop.ingest.requests import MapRequest

    request = MapRequest(
        name=name if name is not None else path.absolute().stem,
        path=path,
        scales=parse_scales(scales) if scales is not None else None,
        terrain=dem,
        force=force,
        features=features,
        features_folder=(features_folder or session.settings.features_folder) if features else None,
    )
    run_ingest(session, table.of(request), dry_run=dry_run, unit="tiles")
