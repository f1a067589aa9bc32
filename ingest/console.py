"""An ingest as the commands run it: remarks, the run with its progress and Ctrl-C, and what is printed at the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from outcrop.schema.errors import PartialFailure, UsageError
from outcrop.screen.guard import INTERRUPTED, leave
from outcrop.screen.metrics import write_metrics
from outcrop.screen.options import Session
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.embed.opening import LazyEncoder
    from outcrop.embed.protocol import OpenEncoder
    from outcrop.ingest.features import FeatureKeeper
    from outcrop.ingest.listing import Listing, Outlook
    from outcrop.ingest.pipeline import Pipeline
    from outcrop.ingest.runs import Record, Run
    from outcrop.schema.space import Fit, Space
    from outcrop.store.collection import Collection

COUNTS = ("expected", "embedded", "upserted", "unchanged", "failed", "missing", "undeclared", "removed")


def run_ingest(
    session: Session,
    name: str,
    listing: Listing | Callable[[Space], Listing],
    arguments: dict[str, Any],
    *,
    dry_run: bool = False,
    fit: str | None = None,
    size: int | None = None,
    index: str | None = None,
) -> None:
    """Ingests a listing as the command `name` and prints what was done; with `dry_run`, what would be done.

    A listing that depends on the space of the vectors is given as a function of it. `arguments` go into the run's record and
    must tell `ingest.retry` how to list the same sources again; of them `batch`, `workers`, `force`, `thumbnails`, `patience`,
    `features` and `features_folder` are obeyed here. `fit`, `size` and `index` are for a new collection.

    Raises:
        PartialFailure: some items failed. OutcropError: see `outcrop.ingest.listing.ingest_listing`.
    """
    from outcrop.embed.models import resolve
    from outcrop.embed.opening import LazyEncoder, open_encoder
    from outcrop.ingest.listing import look_ahead
    from outcrop.ingest.runs import Run
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    chosen_fit = _fit(fit)
    settings = session.settings
    with Store.of(settings) as store:
        found = Collection.find(store, settings.collection)
        asked = (found.space, found.weights_hint) if found is not None else ()
        model = resolve(settings, *asked, size=size, fit=chosen_fit)
        listing = listing(model.space) if callable(listing) else listing
        for remark in listing.remarks:
            session.warn(remark)
        if found is not None and index is not None:
            session.warn(f"--index {index} is left aside: collection {found.name!r} exists with {found.profile.name}")
        if dry_run:
            outlook = look_ahead(
                listing, found, force=bool(arguments["force"]), features=keeper_of(arguments, model.space)
            )
            print_outlook(session, outlook, str(model.space))
            return

        def open_now() -> OpenEncoder:
            session.say(f"opening {model.space.model}")
            return open_encoder(model, settings, int(arguments["batch"]))

        # A new collection is made only when its encoder could be opened; an existing one may need no encoder at all.
        first = open_now() if found is None else None
        collection = found or Collection.create(
            store, settings.collection, model.space, index=index, weights=model.hint
        )
        for note in collection.notes:
            session.warn(note)
        session.say(f"{store.describe()}, collection {collection.name!r} ({collection.physical})")
        run = Run.begin(settings.state, name, arguments)
        run.record.model = model.space.model

        def opened(encoder: OpenEncoder) -> None:
            run.record.device = encoder.device
            session.say(encoder.describe())

        encoder = LazyEncoder(model.space, lambda: first or open_now(), opened)
        with closing(encoder):
            record = _run(session, listing, arguments, encoder, collection, run)
    if arguments.get("metrics"):
        figures = {name: float(getattr(record, name)) for name in (*COUNTS, "seconds", "images_per_second")}
        write_metrics(
            Path(arguments["metrics"]), "ingest", figures, {"dataset": listing.dataset, "collection": record.collection}
        )
    print_record(session, record, run)


def _run(
    session: Session,
    listing: Listing,
    arguments: dict[str, Any],
    encoder: LazyEncoder,
    collection: Collection,
    run: Run,
) -> Record:
    from outcrop.embed.sharded import device_names
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.ingest.listing import ingest_listing
    from outcrop.ingest.pipeline import Options

    options = Options(
        int(arguments["batch"]) * len(device_names(session.settings.device)),
        int(arguments["workers"]),
        bool(arguments["force"]),
        float(arguments["patience"]),
    )
    thumbnails = ThumbnailStore.below(session.settings.state) if arguments["thumbnails"] else None
    with Meter(listing.dataset, listing.expected, "pictures", session.quiet) as meter, _stopping(session) as on_start:
        return ingest_listing(
            listing,
            encoder,
            collection,
            run,
            options,
            thumbnails=thumbnails,
            features=keeper_of(arguments, encoder.space),
            on_start=on_start,
            waiting=session.warn,
            progress=lambda done: meter.update(done, f"{run.record.unchanged} unchanged, {run.record.failed} failed"),
        )


def kept_features(session: Session, features: str | None, folder: Path | None) -> dict[str, Any]:
    """The arguments that `run_ingest` obeys for `--features` and `--features-folder`.

    Raises:
        InputError: there are no such features.
    """
    if features is None:
        return {}
    from outcrop.embed.features import FeatureKind

    FeatureKind.parse_all(features)  # what is wrong with them is said before anything is listed
    return {"features": features, "features_folder": str((folder or session.settings.exports / "features").absolute())}


def keeper_of(arguments: dict[str, Any], space: Space) -> FeatureKeeper | None:
    """What keeps the features that were asked for, if any were."""
    if not arguments.get("features"):
        return None
    from outcrop.embed.feature_files import FeatureFolder
    from outcrop.embed.features import FeatureKind
    from outcrop.ingest.features import FeatureKeeper

    folder = FeatureFolder.below(Path(arguments["features_folder"]), space)
    return FeatureKeeper(folder, FeatureKind.parse_all(arguments["features"]))


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


def print_outlook(session: Session, outlook: Outlook, space: str) -> None:
    """Prints what a run would do (`--dry-run`)."""
    values = {
        name: getattr(outlook, name)
        for name in ("dataset", "expected", "missing", "undeclared", "unchanged", "to_embed")
    } | {"space": space}
    if session.format == "json":
        print_json({"dry_run": True, **values})
    else:
        print_table([values], tuple(values))


def print_record(session: Session, record: Record, run: Run) -> None:
    """Prints what a run did.

    Raises:
        PartialFailure: some items failed.
    """
    for remark in run.remarks:
        session.say(remark)
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
