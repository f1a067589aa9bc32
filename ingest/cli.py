"""The `ingest` command: each subcommand parses, opens the target, calls one library function, and prints."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from outcrop.ingest import cli_features, cli_manifest, cli_models, cli_specimens
from outcrop.ingest.console import kept_features, run_ingest
from outcrop.ingest.options import (
    Batch,
    DryRun,
    Features,
    FeaturesFolder,
    FitTo,
    Force,
    Index,
    Limit,
    Metrics,
    NoThumbnails,
    Patience,
    Size,
    Workers,
    app,
)
from outcrop.schema.errors import InputError, UsageError
from outcrop.screen.guard import main_guard
from outcrop.screen.options import COMPILE, CSV, MODEL, REGISTRY, STATE, STORE, Session, command
from outcrop.screen.tables import print_csv, print_json, print_table

__all__ = ["app", "cli_features", "cli_manifest", "cli_models", "cli_specimens", "main"]


@command(app, STORE, REGISTRY, MODEL, COMPILE, STATE)
def dataset(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the dataset in the registry.")],
    limit: Limit = None,
    force: Force = False,
    dry_run: DryRun = False,
    batch: Batch = 0,
    workers: Workers = 0,
    no_thumbnails: NoThumbnails = False,
    size: Size = None,
    fit: FitTo = None,
    index: Index = None,
    patience: Patience = 60.0,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    metrics_file: Metrics = None,
) -> None:
    """Embed a dataset of the registry and upsert it: new and changed pictures only."""
    from outcrop.ingest.dataset import list_dataset

    settings = session.settings
    kept = kept_features(session, features, features_folder)
    listing = list_dataset(settings.registry, name, settings.datasets_folder, limit=limit)
    arguments = _arguments(session, name, limit, force, batch, workers, no_thumbnails, patience, metrics_file) | kept
    run_ingest(session, "dataset", listing, arguments, dry_run=dry_run, fit=fit, size=size, index=index)


@command(app, STORE, REGISTRY, MODEL, COMPILE, STATE)
def references(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the dataset in the registry.")],
    angles: Annotated[str, typer.Option("--angles", help="Degrees, counter-clockwise: START:STOP:STEP without the stop, a list, or both.")] = "0:360:30",
    crops: Annotated[str, typer.Option("--crops", help="Fractions of the picture's sides, and grids COLUMNSxROWS:FRACTION; a list.")] = "0.6",
    add: Annotated[bool, typer.Option("--add", help="Keep the references of these photographs that this run does not make.")] = False,
    write_images: Annotated[Optional[Path], typer.Option("--write-images", help="Also write the references as JPEGs below this folder.", show_default=False)] = None,
    from_: Annotated[Optional[Path], typer.Option("--from", help="Embed the written references below this folder instead.", show_default=False)] = None,
    limit: Annotated[Optional[int], typer.Option("--limit", help="Only those of the first N photographs that are on disk.", show_default=False)] = None,
    force: Force = False,
    dry_run: DryRun = False,
    batch: Batch = 0,
    workers: Workers = 0,
    no_thumbnails: NoThumbnails = False,
    size: Size = None,
    fit: FitTo = None,
    index: Index = None,
    patience: Patience = 60.0,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    metrics_file: Metrics = None,
) -> None:  # fmt: skip
    """Embed turned crops of a dataset's photographs, so that a query turned any way finds them; writes no pictures."""
    from outcrop.ingest.references import list_references
    from outcrop.ingest.written import list_written_references
    from outcrop.schema.turning import parse_angles, parse_crops, turns

    settings = session.settings
    kept = kept_features(session, features, features_folder)
    place = (settings.registry, name, settings.datasets_folder)
    if from_ is not None:
        if write_images is not None:
            raise UsageError("--from embeds references that are written already; leave --write-images out")
        listing = list_written_references(*place, from_, limit=limit, keep_others=add)
    else:
        if write_images is not None and write_images.exists() and not write_images.is_dir():
            raise InputError(f"--write-images {write_images} is a file; give a folder")
        wanted = turns(parse_angles(angles), parse_crops(crops))
        listing = list_references(*place, wanted, limit=limit, keep_others=add, write_to=write_images)
    arguments = (
        _arguments(session, name, limit, force, batch, workers, no_thumbnails, patience, metrics_file)
        | kept
        | {
            "angles": angles,
            "crops": crops,
            "add": add,
            "write_images": str(write_images.absolute()) if write_images is not None else None,
            "from": str(from_.absolute()) if from_ is not None else None,
        }
    )
    run_ingest(session, "references", listing, arguments, dry_run=dry_run, fit=fit, size=size, index=index)


@command(app, STORE, REGISTRY, MODEL, STATE)
def retry(session: Session, run: Annotated[str, typer.Argument(help="Name of the run, or `last`.")]) -> None:
    """Try the failed items of a run again, and only those."""
    from outcrop.ingest.retry import retry_listing
    from outcrop.ingest.runs import find_run

    record, failures = find_run(session.settings.state, run)
    listing = retry_listing(record, failures)
    if "collection" not in session.given and record.collection:
        session = replace(session, settings=session.settings.model_copy(update={"collection": record.collection}))
    run_ingest(session, record.command, listing, {**record.arguments, "retry_of": record.run})


@command(app, STATE, CSV)
def status(
    session: Session,
    run: Annotated[
        Optional[str],
        typer.Argument(help="A run, or `last`, with its failures; all runs when left out.", show_default=False),
    ] = None,
) -> None:
    """List the runs, or show one with its failures."""
    from outcrop.ingest.runs import find_run, list_runs

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


def _arguments(
    session: Session,
    name: str,
    limit: int | None,
    force: bool,
    batch: int,
    workers: int,
    no_thumbnails: bool,
    patience: float,
    metrics_file: Path | None,
) -> dict[str, Any]:
    """What a run of a dataset's pictures was asked for, as its record keeps it."""
    return {
        "name": name,
        "registry": str(session.settings.registry.absolute()),
        "datasets": str(session.settings.datasets_folder.absolute()),
        "limit": limit,
        "force": force,
        "batch": batch,
        "workers": workers,
        "thumbnails": not no_thumbnails,
        "patience": patience,
        "metrics": str(metrics_file) if metrics_file is not None else None,
    }


def main() -> None:
    """The console script."""
    main_guard(app)


if __name__ == "__main__":
    main()
