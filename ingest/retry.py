"""`ingest retry`: tries the failed items of a run again, and only those."""

from __future__ import annotations

from collections.abc import Container, Sequence

from outcrop.ingest.perform import ingest
from outcrop.ingest.records import find_run
from outcrop.ingest.runs import Failure, Record
from outcrop.ingest.watcher import Watcher
from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings


def retry(settings: Settings, run: str, watcher: Watcher = Watcher(), *, given: Container[str] = ()) -> Record:
    """Lists the failed items of a run as it would list them now, and ingests them as it did; returns the new run's record.

    `run` is a run's name or ``last``. The run's own collection and pace hold, unless the settings' names are in `given`.

    Raises:
        InputError: no such run, nothing failed, the run cannot be retried, or nothing of it is declared any more. See `ingest`.
    """
    record, failures = find_run(settings.state, run)
    keys = failed_keys(record, failures)
    if record.request is None:
        raise InputError(f"run {record.run} was `ingest {record.command}`, which cannot be retried; run it again")
    kept = record.settings.model_dump(exclude_unset=True)
    if record.collection:
        kept["collection"] = record.collection
    own = {name: value for name, value in kept.items() if name not in given}
    return ingest(record.request, settings.model_copy(update=own), watcher, only=keys, retry_of=record.run)


def failed_keys(record: Record, failures: Sequence[Failure]) -> list[str]:
    """The keys of a run's failures, each once.

    Raises:
        InputError: nothing failed, or the record is damaged.
    """
    if record.state == "damaged":
        raise InputError(f"run {record.run}: {record.error}")
    if not failures:
        raise InputError(
            f"run {record.run} has no failures to retry"
            + ("; it did not end: run the same command again" if record.state != "done" else "")
        )
    return sorted({failure.key for failure in failures})
