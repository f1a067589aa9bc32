"""`collection average`: a collection whose photographs are averaged with their verified neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outcrop.operate.commands import app
from outcrop.operate.console import INDEX, STORE, Given, answer, opened, remark_on_size
from outcrop.schema.filters import asked
from outcrop.screen.options import REGISTRY, STATE, Session, command, hidden, option
from outcrop.screen.progress import Meter

if TYPE_CHECKING:
    from outcrop.operate.averaging import Averages

New = Annotated[str, typer.Argument(help="Name of the collection to make, or to bring up to date.")]
Where = Annotated[list[str] | None, option("--where", help="Only items that fit: FIELD=VALUE and so on; repeatable.")]
SHOWN = 5
"""Photographs without a file that the warning names."""


@command(app, STORE, hidden(REGISTRY), STATE, INDEX)
def average(
    session: Session,
    name: Given,
    new: New,
    neighbours: Annotated[
        int, option("--neighbours", min=1, max=100, help="Most similar photographs that each is matched with. [12]")
    ] = 12,
    where: Where = None,
) -> None:
    """Make a collection of averaged vectors: each photograph's with those of its neighbours that geometry verifies."""
    from outcrop.operate.averaging import average as average_collection

    conditions = tuple(where or ())
    with (
        opened(session, name) as source,
        Meter("average", source.count(asked(*conditions)), "rows", session.quiet) as meter,
    ):
        done = average_collection(
            source,
            new,
            session.settings,
            neighbours=neighbours,
            where=conditions,
            index=session.settings.index,
            progress=meter.update,
            say=session.say,
        )
        remark_on_size(session, source.store, done.rows)
    _remark(session, done)
    answer(session, done.as_json(), done.text)


def _remark(session: Session, done: Averages) -> None:
    """Says of which rows the vectors stayed, and why."""
    if done.copied:
        kinds = ", ".join(f"{count} of kind {kind}" for kind, count in sorted(done.copied.items()))
        session.say(f"copied as they are, for only photographs are averaged: {kinds}")
    if done.missing:
        shown = list(done.named)[:SHOWN]
        more = f" and {done.missing - len(shown)} more" if done.missing > len(shown) else ""
        session.warn(
            f"{done.missing} photographs keep their own vectors: {', '.join(shown)}{more}; "
            f"the first one because: {done.named[shown[0]]}"
        )
