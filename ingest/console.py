"""An ingest on screen: its meter, Ctrl-C, and what is printed at the end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.ingest.stopping import Stopping
from outcrop.ingest.watcher import Stoppable, Watcher
from outcrop.schema.any_names import kinds_of
from outcrop.schema.errors import PartialFailure
from outcrop.schema.films import SUFFIXES
from outcrop.screen.guard import INTERRUPTED, leave
from outcrop.screen.metrics import write_metrics
from outcrop.screen.options import Session
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.ingest.perform import Preview
    from outcrop.ingest.requests import AnyRequest
    from outcrop.ingest.runs import Record, Run

COUNTS = ("expected", "embedded", "upserted", "unchanged", "failed", "missing", "undeclared", "removed")
OUTLOOK = ("expected", "missing", "undeclared", "unchanged", "to_embed", "to_remove")


class OnScreen(Watcher):
    """Shows an ingest on stderr, with a meter that counts in `unit`; a context in which Ctrl-C stops it in order."""

    def __init__(self, session: Session, unit: str = "pictures") -> None:
        self._session, self._unit = session, unit
        self._stopping = Stopping(session.warn)
        self._closing = contextlib.ExitStack()
        self._meter: Meter | None = None

    def __enter__(self) -> OnScreen:
        self._closing.enter_context(self._stopping)
        return self

    def __exit__(self, *unused: object) -> None:
        self._closing.close()

    @property
    def stopped_by(self) -> int | None:
        """The number of the signal that asked to stop; None where none did."""
        return self._stopping.number

    def say(self, text: str) -> None:
        """On stderr, unless `--quiet` is given."""
        self._session.say(text)

    def warn(self, text: str) -> None:
        """On stderr."""
        self._session.warn(text)

    def begins(self, run: Run, title: str, expected: int) -> None:
        """Shows the meter."""
        self._stopping.run = run
        self._meter = self._closing.enter_context(Meter(title, expected, self._unit, self._session.quiet))

    def stoppable(self, pipeline: Stoppable) -> None:
        """Ctrl-C stops this pipeline."""
        self._stopping.pipeline = pipeline

    def progress(self, record: Record) -> None:
        """Moves the meter."""
        if self._meter is not None:
            written = max(record.upserted, record.embedded)  # many rows on their way go into the server at once
            done = written + record.unchanged + record.failed
            self._meter.update(done, f"{record.unchanged} unchanged, {record.failed} failed")


def run_ingest(session: Session, request: AnyRequest, *, dry_run: bool = False, unit: str = "pictures") -> None:
    """Ingests what a request names and prints what was done; with `dry_run`, what would be done.

    Raises:
        PartialFailure: some items failed. OutcropError: see `outcrop.ingest.perform.ingest`.
    """
    from outcrop.ingest.perform import ingest, preview

    with OnScreen(session, unit) as screen:
        if dry_run:
            print_preview(session, preview(request, session.settings, screen))
            return
        record = ingest(request, session.settings, screen)
    report(session, record)


def report(session: Session, record: Record) -> None:
    """Prints what a run did, and writes its figures where that is asked for.

    Raises:
        PartialFailure: some items failed. InputError: the figures cannot be written.
    """
    from outcrop.ingest.records import ledger_of

    figures_of(record)
    ledger = ledger_of(session.settings.state, record.run)
    print_record(session, record, ledger)
    if record.state == "interrupted":
        done = record.upserted + record.unchanged
        leave(
            f"interrupted after {done} of {record.expected} items; run the same command again to continue",
            INTERRUPTED,
        )
    if record.failed:
        raise PartialFailure(
            f"{record.failed} of {record.expected} items failed; they are listed in {ledger}; "
            f"`ingest retry {record.run}` tries them again"
        )


def figures_of(record: Record) -> None:
    """Writes the figures of a run for Prometheus, where that is asked for.

    Raises:
        InputError: they cannot be written.
    """
    if record.settings.metrics is not None:
        figures = {name: float(getattr(record, name)) for name in (*COUNTS, "seconds", "images_per_second")}
        labels = {"dataset": record.dataset, "collection": record.collection}
        write_metrics(record.settings.metrics, "ingest", figures, labels)


def print_line(session: Session, record: Record) -> None:
    """Prints the counts of a run in one line: of a batch among many."""
    counts = {name: getattr(record, name) for name in COUNTS}
    if session.format == "json":
        print(json.dumps({"run": record.run, "state": record.state, **counts, "seconds": record.seconds}), flush=True)
    else:
        said = ", ".join(f"{counts[name]} {name}" for name in ("embedded", "unchanged", "failed"))
        said += f", not read: {kinds_of(record.others)}" if record.others else ""
        print(f"run {record.run}: {said}, {record.seconds:g} s", flush=True)


def print_record(session: Session, record: Record, ledger: Path) -> None:
    """Prints the counts of a run."""
    counts = {name: getattr(record, name) for name in COUNTS}
    if session.format == "json":
        print_json(
            {
                "run": record.run,
                "collection": record.collection,
                "space": record.space,
                "device": record.device,
                "state": record.state,
                **counts,
                "left_out": record.left_out,
                "others": record.others,
                **({"metadata": record.metadata} if record.metadata else {}),
                "failures": str(ledger),
                "seconds": record.seconds,
                "images_per_second": round(record.images_per_second, 2),
                "stages": record.stages,
            }
        )
    else:
        row = {**counts, "seconds": round(record.seconds, 1), "images/s": round(record.images_per_second, 1)}
        print_table([row], tuple(row), f"run {record.run}", whole=("expected", "embedded", "unchanged", "failed"))
        if record.left_out:
            print(f"left out: {record.left_out} near-equal frames")
        if record.others:
            print(not_read(record.others))


def not_read(others: Mapping[str, int]) -> str:
    """What a folder holds and is not read, and what reads its films."""
    films = "; `ingest video` reads films" if SUFFIXES & others.keys() else ""
    return f"not read: {kinds_of(others)}{films}"


def print_preview(session: Session, preview: Preview) -> None:
    """Prints what a run would do (`--dry-run`)."""
    if preview.parts:
        _print_parts(session, preview)
        return
    values = {name: getattr(preview.outlook, name) for name in ("dataset", *OUTLOOK)} | {"space": str(preview.space)}
    if session.format == "json":
        shown: dict[str, Any] = (
            {"examples": _examples(preview), "others": dict(preview.others)} if preview.examples else {}
        )
        if preview.metadata.matches:
            shown["metadata"] = preview.metadata.as_json()
        print_json({"dry_run": True, **values, **shown})
        return
    print_table([values], tuple(values))
    if preview.examples:
        print_table(
            _examples(preview), ("source", "key", "capture_id", "frame", "altitude"), "for example", whole=("key",)
        )
    if preview.others:
        print(not_read(preview.others))


def _examples(preview: Preview) -> list[dict[str, Any]]:
    """Items as they would be stored; an altitude that no name gives is read from the file."""
    return [
        {
            "source": each.item.source,
            "key": each.item.key,
            "capture_id": each.item.capture_id,
            "frame": each.item.frame,
            "altitude": each.item.altitude if each.altitude_stated else None,
        }
        for each in preview.examples
    ]


def _print_parts(session: Session, preview: Preview) -> None:
    """The parts of a manifest, and about how long they take."""
    columns = ("expected", "missing", "unchanged", "to_embed")
    rows = [
        {"kind": str(part.kind), "dataset": part.dataset, **{name: getattr(outlook, name) for name in columns}}
        for part, outlook in preview.parts
    ]
    totals = {name: getattr(preview.outlook, name) for name in columns}
    seconds = round(totals["to_embed"] / preview.rate, 1) if preview.rate else None
    if session.format == "json":
        values = {"dry_run": True, "space": str(preview.space), **totals, "seconds": seconds, "parts": rows}
        print_json(values)
        return
    whole = {"kind": "in all", "dataset": "", **totals}
    print_table([*rows, whole], ("kind", "dataset", *columns), str(preview.space))
    if seconds is not None:
        print(f"about {seconds:g} s at {preview.rate:.1f} items/s, as in earlier runs of {preview.space.model}")
    elif totals["to_embed"]:
        print(f"no earlier run of {preview.space.model} says how long that takes")
