"""`query specimen` and `query sheet`: specimens that look like a mesh, and a specimen's views on one sheet."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Annotated

import typer

from outcrop.query.cli_search import print_answers
from outcrop.query.console import (
    Exact,
    ExcludeSelf,
    Explain,
    K,
    Output,
    Raw,
    RedisTtl,
    RedisUri,
    Report,
    Where,
    app,
    condition_of,
    open_encoder,
    opened,
)
from outcrop.query.delivery import delivery
from outcrop.schema.errors import InputError
from outcrop.screen.options import CSV, MODEL, REGISTRY, STATE, STORE, Session, command


@command(app, STORE, REGISTRY, MODEL, STATE, CSV)
def specimen(
    session: Session,
    names: Annotated[list[str], typer.Argument(metavar="MESH|KEY…", help="Mesh files, folders of them, keys of stored specimens, or photographs.", show_default=False)],
    k: K = 10,
    by: Annotated[str, typer.Option("--by", help="What is compared: pooled (one vector a specimen) or views (the best pairs of views, averaged).")] = "pooled",
    where: Where = None,
    filter: Raw = "",
    exclude_self: ExcludeSelf = False,
    exact: Exact = False,
    explain: Explain = False,
    report: Report = None,
    output: Output = None,
    redis: RedisUri = None,
    redis_ttl: RedisTtl = None,
) -> None:  # fmt: skip
    """Find the specimens that look like a mesh, a stored specimen or a photograph of one."""
    from outcrop.query.specimen import query_specimens

    condition = condition_of(where, filter)
    with delivery(session, report, output, redis, redis_ttl) as places:
        with opened(session) as collection:
            encoder = functools.partial(open_encoder, session, collection)
            results = query_specimens(
                names, collection, encoder, k, condition, by=by, exclude_self=exclude_self, exact=exact, workers=2
            )
        print_answers(session, [results], explain, places)


@command(app, STORE, REGISTRY, STATE)
def sheet(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="KEY|MESH", help="Key of a stored specimen, or a mesh file.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")] = Path("sheet.png"),
) -> None:  # fmt: skip
    """Draw all views of a specimen on one sheet."""
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.query.specimen_sheet import specimen_sheet, write_sheet
    from outcrop.render.views import ViewSpec
    from outcrop.schema.errors import OutcropError

    if output.is_dir() or not output.absolute().parent.is_dir():
        raise InputError(f"--output {output}: give the name of a file in a folder that exists")
    thumbnails = ThumbnailStore.below(session.settings.state)
    with contextlib.ExitStack() as stack:
        collection = None
        try:
            collection = stack.enter_context(opened(session))
        except OutcropError:
            if not Path(name).is_file():
                raise  # a mesh can be drawn without any collection
        picture = specimen_sheet(name, collection, thumbnails, None if collection is not None else ViewSpec())
    session.say(f"sheet: {write_sheet(output, picture).absolute()}")
