"""`ingest status` and `ingest retry`: the runs, or one with its failures, and its failures once more."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Optional

import typer

from outcrop.ingest.commands import app
from outcrop.ingest.console import OnScreen, report
from outcrop.screen.options import CSV, MODEL, REGISTRY, RUN, STATE, STORE, Session, command
from outcrop.screen.tables import print_csv, print_json, print_table

RUNS = ("run", "state", "command", "dataset", "collection", "expected", "embedded", "unchanged", "failed", "seconds", "started")  # fmt: skip
FAILURES = ("key", "path", "stage", "reason")


@command(app, STATE, CSV)
def status(
    session: Session,
    run: Annotated[Optional[str], typer.Argument(help="A run, or `last`, with its failures; all runs when left out.", show_default=False)] = None,
) -> None:  # fmt: skip
    """List the runs, or show one with its failures."""
    from outcrop.ingest.records import list_runs

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
