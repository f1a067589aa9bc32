"""`query specimen` and `query sheet`: specimens that look like a mesh, and a specimen's views on one sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outcrop.query.commands import app
from outcrop.query.console import open_encoder, opened, print_answers
from outcrop.query.delivery import delivery
from outcrop.query.options import Conditions, Places, Search, check_file
from outcrop.screen.options import (
    ASKED_MODEL,
    CSV,
    REDIS,
    REGISTRY,
    STATE,
    STORE,
    Formerly,
    Session,
    command,
    hidden,
    option,
)

DRAWING_PROCESSES = 2
"""Meshes that are drawn at once for a query."""
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="MESH|KEY…",
        help="Mesh files, folders of them, keys or names of stored specimens, or photographs.",
        show_default=False,
    ),
]
By = Annotated[
    str,
    option("--by", help="Compare pooled (one vector a specimen) or views (the best pairs of views). [pooled]"),
]


@command(app, STORE, hidden(REGISTRY), ASKED_MODEL, REDIS, STATE, CSV)
def specimen(
    session: Session,
    names: Names,
    search: Search,
    conditions: Conditions,
    places: Places,
    by: By = "pooled",
) -> None:
    """Find the specimens that look like a mesh, a stored specimen or a photograph of one."""
    from outcrop.query.specimen import query_specimens

    condition, processes = conditions.condition, session.settings.drawing_processes or DRAWING_PROCESSES
    with delivery(session, places) as deliver:
        with opened(session) as collection:
            how = {"exclude_self": search.exclude_self, "exact": search.exact}
            results = query_specimens(
                names,
                collection,
                lambda: open_encoder(session, collection),
                search.k,
                condition,
                by=by,
                workers=processes,
                **how,
            )
        print_answers(session, results, deliver, explain=search.explain)


@command(app, STORE, hidden(REGISTRY), STATE)
def sheet(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="KEY|MESH", help="Key of a stored specimen, or a mesh file.", show_default=False)
    ],
    png: Annotated[
        Path, option("--png", panel="Output", help="The PNG file to write. [sheet.png]"), Formerly("--output", "-o")
    ] = Path("sheet.png"),
) -> None:
    """Draw all views of a specimen on one sheet."""
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.query.specimen_sheet import specimen_sheet, write_sheet
    from outcrop.schema.errors import OutcropError
    from outcrop.schema.places import place

    check_file(png, "--png")
    thumbnails = ThumbnailStore.below(session.settings.state)
    try:
        with opened(session) as collection:
            picture = specimen_sheet(name, collection, thumbnails)
    except OutcropError:
        if not place(name).is_file():
            raise  # a mesh can be drawn without any collection
        picture = specimen_sheet(name, None, thumbnails)
    session.say(f"sheet: {write_sheet(png, picture).absolute()}")
