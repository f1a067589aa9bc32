"""`ingest all` and `ingest watch`: what runs by itself, from cron or as a service."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import OnScreen, figures_of, print_line
from outcrop.ingest.options import (
    NEW_OF_PICTURES,
    SHARD,
    DryRun,
    Features,
    FeaturesFolder,
    Force,
    Metadata,
    PositionsFile,
)
from outcrop.screen.guard import INTERRUPTED, leave
from outcrop.screen.options import COMPILE, MODEL, REGISTRY, RUN, STATE, STORE, Session, command, hidden, option
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.ingest.every import Done
    from outcrop.ingest.runs import Record

COLUMNS = ("dataset", "expected", "embedded", "unchanged", "failed", "seconds", "run", "result")
WOULD = ("dataset", "expected", "missing", "unchanged", "to_embed", "result")


@command(app, STORE, REGISTRY, MODEL, hidden(NEW_OF_PICTURES), COMPILE, RUN, SHARD, STATE)
def all_(
    session: Session,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Embed every dataset of the registry and every folder that the collection knows, one after the other; made for cron."""
    from outcrop.ingest.every import every_dataset, ingest_every, worst

    more = {"features": features, "features_folder": features_folder, "force": force}
    names = every_dataset(session.settings)
    outcomes = list(ingest_every(session.settings, names, lambda: OnScreen(session), dry_run=dry_run, **more))
    for done in outcomes:
        if done.record is not None:
            figures_of(done.record)
    columns, rows = WOULD if dry_run else COLUMNS, [_row(done) for done in outcomes]
    if session.format == "json":
        print_json(
            {
                "dry_run": dry_run,
                "datasets": [{"exit_code": d.code, **row} for d, row in zip(outcomes, rows, strict=True)],
            }
        )
    else:
        print_table(rows, columns, whole=("dataset",))
    if any(done.interrupted for done in outcomes):
        leave("interrupted; run the same command again to continue", INTERRUPTED)
    if (error := worst(outcomes)) is not None:
        raise error


def _row(done: Done) -> dict[str, object]:
    said: object = done.record if done.record is not None else done.preview.outlook if done.preview else None
    names = (*COLUMNS, *WOULD)
    return {name: getattr(said, name) for name in names if hasattr(said, name)} | {
        "dataset": done.dataset,
        "result": done.result,
    }


@command(app, STORE, REGISTRY, MODEL, hidden(NEW_OF_PICTURES), COMPILE, RUN, STATE)
def watch(
    session: Session,
    place: Annotated[str, typer.Argument(metavar="DIR|NAME", help="A folder, or the name of a dataset.", show_default=False)],
    table: Metadata,
    positions: PositionsFile = None,
    settle: Annotated[float, option("--settle", panel="Run", min=0.1, max=3600, show_default=True, help="Seconds without a change after which a file counts as finished.")] = 2.0,
    features: Features = None,
    features_folder: FeaturesFolder = None,
) -> None:  # fmt: skip
    """Follow a folder: embed what is in it and what comes into it, in batches, until Ctrl-C or SIGTERM."""
    from outcrop.ingest.following import follow, request_to_follow

    kept = (features_folder or session.settings.features_folder) if features else None
    more = {"positions": positions, "features": features, "features_folder": kept}
    request, root = request_to_follow(place, session.settings, **more)
    screens: list[OnScreen] = []

    def screen() -> OnScreen:
        screens[:] = [OnScreen(session)]
        return screens[0]

    def done(record: Record) -> None:
        figures_of(record)
        print_line(session, record)

    with contextlib.suppress(KeyboardInterrupt):
        follow(table.of(request), root, session.settings, screen, done, settle)
    number = screens[0].stopped_by or signal.SIGINT
    leave(f"stopped following {root}", 128 + number)
