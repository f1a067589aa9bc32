"""`ingest models`: the models there are, and their weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Optional

import typer

from outcrop.ingest.commands import app
from outcrop.screen.options import CSV, REGISTRY, WEIGHTS, Session, command
from outcrop.screen.tables import print_csv, print_json, print_table

COLUMNS = ("model", "dim", "patch", "parameters", "input", "pooling", "licence", "weights")


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
    rows = [asdict(entry) for entry in list_models(name, settings.weights, search)]
    places = list(map(str, search if settings.weights is None else [settings.weights]))
    if session.format == "json":
        print_json({"looked_in": places, "models": rows})
    elif session.format == "csv":
        print_csv([{**row, "input": _size(row)} for row in rows], COLUMNS)
    else:
        title = f"weights looked for in {', '.join(places) or 'no folder: give --weights'}"
        print_table([_shown(row) for row in rows], COLUMNS, title)
        print(
            "Weights that end in *.pth were not found: that is the name they are looked for under; hub: downloads them."
        )


def _size(row: dict[str, Any]) -> str:
    return "x".join(map(str, row["size"]))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as people read it."""
    return {
        **row,
        "input": _size(row),
        "parameters": f"{row['parameters'] / 1e6:,.1f} M",
        "patch": row["patch"] or "",
        "weights": row["weights"] or row["files"][0],
    }
