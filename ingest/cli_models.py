"""`ingest models`: the models there are, and their weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Optional

import typer

from outcrop.ingest.options import app
from outcrop.screen.options import CSV, REGISTRY, WEIGHTS, Session, command
from outcrop.screen.tables import print_csv, print_json, print_table


@command(app, REGISTRY, WEIGHTS, CSV)
def models(
    session: Session,
    name: Annotated[
        Optional[str], typer.Argument(help="A preset, or timm:<name>; all presets when left out.", show_default=False)
    ] = None,
) -> None:
    """List the models with dimension, patch, parameters and licence, and where their weights are or are looked for."""
    from outcrop.embed.catalogue import list_models
    from outcrop.schema.registry import weights_search

    settings = session.settings
    search = weights_search(settings.registry)
    found = list_models(name, settings.weights, search)
    places = [str(settings.weights)] if settings.weights is not None else [str(place) for place in search]
    rows = [asdict(entry) for entry in found]
    if session.format == "json":
        print_json({"looked_in": places, "models": rows})
        return
    columns = ("model", "dim", "patch", "parameters", "input", "pooling", "licence", "weights")
    for row in rows:
        row["input"] = "x".join(map(str, row["size"]))
        if session.format == "table":
            row["parameters"] = f"{row['parameters'] / 1e6:,.1f} M"
            row["patch"], row["weights"] = row["patch"] or "", row["weights"] or row["files"][0]
    if session.format == "csv":
        print_csv(rows, columns)
        return
    print_table(rows, columns, f"weights looked for in {', '.join(places) or 'no folder: give --weights'}")
    print("Weights that end in *.pth are not at hand: that is the name they are looked for under; hub: fetches them.")
