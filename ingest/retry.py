"""`ingest retry`: lists the failed items of a run again, and only those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outcrop.ingest.listing import Listing
from outcrop.ingest.runs import Failure, Record
from outcrop.schema.errors import InputError


def retry_listing(record: Record, failures: list[Failure]) -> Listing:
    """The sources of a run's failed items, listed as the run's command would list them now.

    Raises:
        InputError: nothing failed, the run's command cannot be retried, or nothing of it is there any more.
    """
    if not failures:
        raise InputError(
            f"run {record.run} has no failures to retry"
            + ("; it did not end: run the same command again" if record.state != "done" else "")
        )
    keys = sorted({failure.key for failure in failures})
    listing = _relisted(record, keys)
    if not listing.expected:
        raise InputError(
            f"none of the {len(keys)} failed items of run {record.run} is declared in the registry any more; nothing to retry"
        )
    return listing


def _relisted(record: Record, keys: list[str]) -> Listing:
    arguments = record.arguments
    match record.command:
        case "dataset":
            from outcrop.ingest.dataset import list_dataset

            return list_dataset(Path(arguments["registry"]), arguments["name"], Path(arguments["datasets"]), only=keys)
        case "references" if arguments["from"] is None:
            from outcrop.ingest.references import list_references

            write_to = Path(arguments["write_images"]) if arguments["write_images"] is not None else None
            return list_references(
                Path(arguments["registry"]),
                arguments["name"],
                Path(arguments["datasets"]),
                only=keys,
                write_to=write_to,
            )
        case "references":
            from outcrop.ingest.written import list_written_references

            return list_written_references(
                Path(arguments["registry"]),
                arguments["name"],
                Path(arguments["datasets"]),
                Path(arguments["from"]),
                only=keys,
            )
        case "manifest":
            from outcrop.ingest.manifest import list_manifest, whole
            from outcrop.schema.manifest import read_manifest

            parts = list_manifest(
                read_manifest(Path(arguments["manifest"])),
                Path(arguments["registry"]),
                Path(arguments["datasets"]),
                Path(arguments["references"]),
                only=keys,
            )
            return whole(arguments["name"], parts)
        case "specimens":
            return _specimens(arguments, keys)
    raise InputError(f"run {record.run} was `ingest {record.command}`, which cannot be retried; run it again")


def _specimens(arguments: dict[str, Any], keys: list[str]) -> Listing:
    from outcrop.embed.pooling import require_pool
    from outcrop.ingest.specimens import list_specimens
    from outcrop.render.views import ViewSpec
    from outcrop.render.workers import Workers
    from outcrop.schema.machine import cores

    look = ViewSpec(**{name: arguments[name] for name in ("views", "size", "layout", "seed", "up", "renderer")})
    renders = Path(arguments["save_renders"]) if arguments["save_renders"] is not None else None
    return list_specimens(
        Path(arguments["folder"]),
        arguments["name"],
        look,
        require_pool(arguments["pool"]),
        workers=Workers(arguments["workers"] or cores()),
        renders=renders,
        only=keys,
    )
