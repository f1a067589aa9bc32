"""The `ingest` command: each subcommand parses, opens the target, calls one library function, and prints."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from schema.errors import InputError, PartialFailure, UsageError
from screen.guard import INTERRUPTED, leave, main_guard
from screen.metrics import write_metrics
from screen.options import CSV, MODEL, REGISTRY, STATE, STORE, Session, command
from screen.progress import Meter
from screen.tables import print_csv, print_json, print_table

if TYPE_CHECKING:
    from embed.encoder import Encoder
    from embed.opening import LazyEncoder
    from ingest.dataset import Listing, Outlook
    from ingest.pipeline import Pipeline
    from ingest.runs import Record, Run
    from schema.space import Fit
    from store.collection import Collection

app = typer.Typer(
    help="Embed pictures and keep their vectors and metadata in Milvus.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Limit = Annotated[
    Optional[int], typer.Option("--limit", help="Only the first N items that are on disk.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Embed unchanged items too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Batch = Annotated[int, typer.Option("--batch", min=1, max=4096, help="Pictures in one forward pass.")]
Workers = Annotated[int, typer.Option("--workers", min=0, max=256, help="Decoding threads; 0 = one per core.")]
NoThumbnails = Annotated[bool, typer.Option("--no-thumbnails", help="Keep no thumbnails for reports.")]
Size = Annotated[
    Optional[int],
    typer.Option(
        "--size", help="Side of the network's input in pixels, for a new collection. [the preset's]", show_default=False
    ),
]
FitTo = Annotated[
    Optional[str],
    typer.Option("--fit", help="squash, crop or pad, for a new collection. [the preset's]", show_default=False),
]
Index = Annotated[
    Optional[str],
    typer.Option(
        "--index", help="Index profile of a new collection. [FLAT on Milvus Lite, HNSW on a server]", show_default=False
    ),
]
Metrics = Annotated[
    Optional[Path],
    typer.Option(
        "--metrics-file", help="Also write the run's figures for Prometheus (text format).", show_default=False
    ),
]
Patience = Annotated[
    float, typer.Option("--patience", min=0, help="Seconds to wait for a server that went away during the run.")
]

COUNTS = ("expected", "embedded", "upserted", "unchanged", "failed", "missing", "undeclared")


@command(app, STORE, REGISTRY, MODEL, STATE)
def dataset(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the dataset in the registry.")],
    limit: Limit = None,
    force: Force = False,
    dry_run: DryRun = False,
    batch: Batch = 32,
    workers: Workers = 0,
    no_thumbnails: NoThumbnails = False,
    size: Size = None,
    fit: FitTo = None,
    index: Index = None,
    patience: Patience = 60.0,
    metrics_file: Metrics = None,
) -> None:
    """Embed a dataset of the registry and upsert it: new and changed pictures only."""
    from ingest.dataset import list_dataset

    settings = session.settings
    listing = list_dataset(settings.registry, name, settings.datasets_folder, limit=limit)
    arguments = {
        "name": name,
        "registry": str(settings.registry.absolute()),
        "datasets": str(settings.datasets_folder.absolute()),
        "limit": limit,
        "force": force,
        "batch": batch,
        "workers": workers,
        "thumbnails": not no_thumbnails,
        "patience": patience,
        "metrics": str(metrics_file) if metrics_file is not None else None,
    }
    _ingest(session, "dataset", listing, arguments, dry_run, _fit(fit), size, index)


@command(app, STORE, REGISTRY, MODEL, STATE)
def retry(session: Session, run: Annotated[str, typer.Argument(help="Name of the run, or `last`.")]) -> None:
    """Try the failed items of a run again, and only those."""
    from ingest.dataset import list_dataset, retry_arguments
    from ingest.runs import find_run

    settings = session.settings
    record, failures = find_run(settings.state, run)
    arguments, keys = retry_arguments(record, failures)
    listing = list_dataset(Path(arguments["registry"]), arguments["name"], Path(arguments["datasets"]), only=keys)
    if not listing.expected:
        raise InputError(
            f"none of the {len(keys)} failed items of run {record.run} is declared in the registry any more; nothing to retry"
        )
    if "collection" not in session.given and record.collection:
        session = Session(
            settings.model_copy(update={"collection": record.collection}), session.format, session.quiet, session.given
        )
    _ingest(session, "dataset", listing, {**arguments, "retry_of": record.run}, False, None, None, None)


@command(app, STATE, CSV)
def status(
    session: Session,
    run: Annotated[
        Optional[str],
        typer.Argument(help="A run, or `last`, with its failures; all runs when left out.", show_default=False),
    ] = None,
) -> None:
    """List the runs, or show one with its failures."""
    from ingest.runs import find_run, list_runs

    columns = (
        "run",
        "state",
        "command",
        "dataset",
        "collection",
        "expected",
        "embedded",
        "unchanged",
        "failed",
        "seconds",
        "started",
    )
    failures: list[dict[str, Any]] = []
    if run is not None:
        record, failed = find_run(session.settings.state, run)
        records, failures = [record], [asdict(failure) for failure in failed]
    else:
        records = list_runs(session.settings.state)
    rows = [{**asdict(r), "dataset": r.arguments.get("name", "")} for r in records]
    if session.format == "json":
        print_json({"runs": rows} if run is None else {**rows[0], "failures": failures})
    elif session.format == "csv":
        print_csv(rows if run is None else failures, columns if run is None else ("key", "path", "stage", "reason"))
    elif not rows:
        print(f"no runs below {session.settings.state}")
    else:
        print_table(rows, columns)
        if rows and run is not None and rows[0]["error"]:
            print(f"error: {rows[0]['error']}")
        if failures:
            print_table(failures, ("key", "stage", "reason"), f"{len(failures)} failed items")


def main() -> None:
    """The console script."""
    main_guard(app)


def _ingest(
    session: Session,
    name: str,
    listing: Listing,
    arguments: dict[str, Any],
    dry_run: bool,
    fit: Fit | None,
    size: int | None,
    index: str | None,
) -> None:
    from embed.opening import LazyEncoder
    from ingest.dataset import look_ahead
    from ingest.runs import Run
    from ingest.target import open_collection, open_encoder, target_space
    from store.collection import Collection
    from store.connection import Store

    settings = session.settings
    _report_gaps(session, listing)
    with Store.of(settings) as store:
        found = Collection.find(store, settings.collection)
        space, weights = target_space(settings, found, size, fit)
        if found is not None and index is not None:
            session.warn(f"--index {index} is left aside: collection {found.name!r} exists with {found.profile.name}")
        if dry_run:
            _print_outlook(session, look_ahead(listing, found, force=bool(arguments["force"])), str(space))
            return

        def open_now() -> Encoder:
            session.say(f"opening {space.model}")
            return open_encoder(settings, space, weights, int(arguments["batch"]))

        # A new collection is made only when its encoder could be opened; an existing one may need no encoder at all.
        first = open_now() if found is None else None
        collection = open_collection(store, settings, space, weights, index)
        for note in collection.notes:
            session.warn(note)
        session.say(f"{store.describe()}, collection {collection.name!r} ({collection.physical})")
        run = Run.begin(settings.state, name, arguments)
        run.record.model = space.model

        def opened(encoder: Encoder) -> None:
            run.record.device = encoder.device
            session.say(encoder.describe())

        encoder = LazyEncoder(space, lambda: first or open_now(), opened)
        record = _run(session, listing, arguments, encoder, collection, run)
    if arguments.get("metrics"):
        figures = {name: float(getattr(record, name)) for name in (*COUNTS, "seconds", "images_per_second")}
        write_metrics(
            Path(arguments["metrics"]), "ingest", figures, {"dataset": listing.dataset, "collection": record.collection}
        )
    _print_record(session, record, run)


def _run(
    session: Session,
    listing: Listing,
    arguments: dict[str, Any],
    encoder: LazyEncoder,
    collection: Collection,
    run: Run,
) -> Record:
    from embed.thumbnails import ThumbnailStore
    from ingest.dataset import ingest_dataset
    from ingest.pipeline import Options

    options = Options(
        int(arguments["batch"]), int(arguments["workers"]), bool(arguments["force"]), float(arguments["patience"])
    )
    thumbnails = ThumbnailStore.below(session.settings.state) if arguments["thumbnails"] else None
    with Meter(listing.dataset, listing.expected, "pictures", session.quiet) as meter, _stopping(session) as on_start:
        return ingest_dataset(
            listing,
            encoder,
            collection,
            run,
            options,
            thumbnails=thumbnails,
            on_start=on_start,
            waiting=session.warn,
            progress=lambda done: meter.update(done, f"{run.record.unchanged} unchanged, {run.record.failed} failed"),
        )


@contextmanager
def _stopping(session: Session) -> Iterator[Any]:
    """The first Ctrl-C (or SIGTERM) stops the pipeline after the batches in flight; the second ends the process."""
    pipelines: list[Pipeline] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not pipelines or pipelines[0].stopped:
            raise KeyboardInterrupt
        session.warn("stopping after the pictures in flight; once more to stop at once")
        pipelines[0].stop()

    if threading.current_thread() is not threading.main_thread():
        yield pipelines.append
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield pipelines.append
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report_gaps(session: Session, listing: Listing) -> None:
    for capture in listing.captures:
        if capture.undeclared:
            session.warn(
                f"{capture.capture_id}: {len(capture.undeclared)} files fit the template but are not declared "
                f"(first: {capture.undeclared[0].name}); they are left out"
            )
        if capture.missing_count:
            first = f" (first: frame {capture.missing[0]})" if capture.missing else ""
            session.warn(f"{capture.capture_id}: {capture.missing_count} declared frames are not on disk{first}")


def _print_outlook(session: Session, outlook: Outlook, space: str) -> None:
    values = {
        name: getattr(outlook, name)
        for name in ("dataset", "expected", "missing", "undeclared", "unchanged", "to_embed")
    } | {"space": space}
    if session.format == "json":
        print_json({"dry_run": True, **values})
    else:
        print_table([values], tuple(values))


def _print_record(session: Session, record: Record, run: Run) -> None:
    if session.format == "json":
        print_json(
            {
                "run": record.run,
                "collection": record.collection,
                "space": record.space,
                "device": record.device,
                "state": record.state,
                **{name: getattr(record, name) for name in COUNTS},
                "failures": str(run.ledger),
                "seconds": record.seconds,
                "images_per_second": round(record.images_per_second, 2),
                "stages": record.stages,
            }
        )
    else:
        row = {name: getattr(record, name) for name in COUNTS}
        print_table(
            [{**row, "seconds": record.seconds, "images/s": round(record.images_per_second, 1)}],
            (*COUNTS, "seconds", "images/s"),
            f"run {record.run}",
        )
    if record.state == "interrupted":
        leave(
            f"interrupted after {record.upserted + record.unchanged} of {record.expected} items; "
            "the same command goes on from here",
            INTERRUPTED,
        )
    if record.failed:
        raise PartialFailure(
            f"{record.failed} of {record.expected} items failed; they are listed in {run.ledger}; "
            f"`ingest retry {record.run}` tries them again"
        )


def _fit(text: str | None) -> Fit | None:
    if text is None:
        return None
    if text not in ("squash", "crop", "pad"):
        raise UsageError(f"--fit is squash, crop or pad, not {text!r}")
    return text  # type: ignore[return-value]  # just checked


if __name__ == "__main__":
    main()
