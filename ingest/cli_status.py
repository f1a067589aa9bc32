"""`ingest status` and `ingest retry`: the runs, or one with its failures, and its failures once more."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Optional

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import OnScreen, report
from outcrop.screen.options import CSV, MODEL, REGISTRY, RUN, STATE, STORE, Session, command, hidden, option
from outcrop.screen.tables import print_csv, print_json, print_table

RUNS = ("run", "state", "command", "dataset", "collection", "expected", "embedded", "unchanged", "failed", "seconds", "started")  # fmt: skip
GROUP = (
    "group",
    "state",
    "command",
    "dataset",
    "shards",
    "expected",
    "embedded",
    "unchanged",
    "failed",
    "removed",
    "seconds",
)
SHARDS = ("shard", "run", "state", "expected", "embedded", "unchanged", "failed", "seconds", "host")
FAILURES = ("key", "path", "stage", "reason")


@command(app, STATE, CSV)
def status(
    session: Session,
    run: Annotated[Optional[str], typer.Argument(help="A run, or `last`, with its failures; all runs when left out.", show_default=False)] = None,
    group: Annotated[Optional[str], option("--group", help="Show the shards of this sharded ingest as one, or of `last`.")] = None,
) -> None:  # fmt: skip
    """List the runs, or show one with its failures."""
    from outcrop.ingest.records import list_runs

    if group is not None:
        _group(session, group)
        return
    if run is not None:
        _one(session, run)
        return
    records = list_runs(session.settings.state)
    rows = [{**record.as_json(), "dataset": record.dataset} for record in records]
    if session.format == "json":
        print_json({"runs": rows})
    elif session.format == "csv":
        print_csv(rows, RUNS)
    elif rows:
        print_table(rows, RUNS, whole=RUNS[:2])
        for record in records:
            if record.state == "damaged":
                session.warn(record.error)
    else:
        print(f"no runs below {session.settings.state}")


@command(app, STORE, REGISTRY, MODEL, RUN, STATE)
def retry(session: Session, run: Annotated[str, typer.Argument(help="Name of the run, or `last`.")]) -> None:
    """Try the failed items of a run again, and only those."""
    from outcrop.ingest.retry import retry as retry_run

    with OnScreen(session) as screen:
        record = retry_run(session.settings, run, screen, given=session.given)
    report(session, record)


@command(app, STORE, hidden(REGISTRY), RUN, STATE)
def finish(
    session: Session,
    name: Annotated[str, typer.Argument(help="The group of the shards, one of their runs, or `last`.")],
) -> None:
    """Finish a sharded ingest whose last shard could not: stale rows, flush, index and verification."""
    from outcrop.ingest.finishing import finish as finish_group

    with OnScreen(session) as screen:
        record = finish_group(session.settings, name, screen, given=session.given)
    report(session, record)


def _group(session: Session, name: str) -> None:
    from outcrop.ingest.groups import find_group

    state = session.settings.state
    found = find_group(state, name)
    row, failed = found.row(), [asdict(failure) for failure in found.failures(state)]
    runs = [{**record.as_json(), "dataset": record.dataset} for record in found.shards]
    if session.format == "json":
        print_json({**row, "runs": runs, "failures": failed})
    elif session.format == "csv":
        print_csv([row], GROUP)
    else:
        print_table([row], GROUP, whole=GROUP[:2])
        print_table(runs, SHARDS, whole=SHARDS[:3])
        if failed:
            print_table(failed, ("key", "stage", "reason"), f"{len(failed)} failed items")


def _one(session: Session, run: str) -> None:
    from outcrop.ingest.records import find_run

    record, failures = find_run(session.settings.state, run)
    row, failed = {**record.as_json(), "dataset": record.dataset}, [asdict(failure) for failure in failures]
    if session.format == "json":
        print_json({**row, "failures": failed})
    elif session.format == "csv":
        print_csv(failed, FAILURES)
    else:
        print_table([row], RUNS, whole=RUNS[:2])
        if record.error:
            print(f"error: {record.error}")
        if failed:
            print_table(failed, ("key", "stage", "reason"), f"{len(failed)} failed items")
