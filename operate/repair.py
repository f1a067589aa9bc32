"""The repairs of an audit: ingest what is missing or changed, remove what is orphaned; and whether the space is stale."""

from __future__ import annotations

from collections.abc import Callable

from outcrop.embed.models import resolve_space
from outcrop.embed.opening import LazyEncoder, open_encoder
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.dataset import list_dataset
from outcrop.ingest.listing import ingest_listing
from outcrop.ingest.requests import AuditRequest
from outcrop.ingest.runs import Run
from outcrop.operate.audit import Audit, mounted_root, prune
from outcrop.schema.errors import OutcropError, SpaceMismatch
from outcrop.schema.registry import read_registry
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection


def stale_space(collection: Collection, settings: Settings) -> str:
    """How the weights found now differ from those that made the collection ('' = they do not, or none are found here)."""
    try:
        resolve_space(collection.space, settings, collection.weights_hint)
    except SpaceMismatch as error:
        return str(error)
    except OutcropError:
        return ""  # no weights on this machine: nothing to compare with
    return ""


def repair(collection: Collection, audit: Audit, settings: Settings, *, say: Callable[[str], None]) -> None:
    """Embeds missing and changed items and removes orphans. What needs a person (missing files, another space) stays.

    Raises:
        InputError: orphans were to be removed, but the dataset's root is empty.
    """
    orphans = [finding for finding in audit.findings if finding.trouble == "orphan"]
    if orphans:
        mounted_root(read_registry(settings.registry), audit.dataset, settings.datasets_folder)
    wanted = [finding.key for finding in audit.findings if finding.trouble in ("missing", "changed")]
    if wanted and not audit.stale:
        listing = list_dataset(settings.registry, audit.dataset, settings.datasets_folder, only=wanted)
        model = resolve_space(collection.space, settings, collection.weights_hint)
        encoder = LazyEncoder(collection.space, lambda: open_encoder(model, settings))
        run = Run.begin(settings.state, "audit", AuditRequest(name=audit.dataset, collection=collection.name))
        record = ingest_listing(listing, encoder, collection, run, thumbnails=ThumbnailStore.below(settings.state))
        say(f"{audit.dataset}: {record.upserted} items embedded, {record.failed} failed (run {record.run})")
    if orphans:
        say(f"{audit.dataset}: {prune(collection, orphans)} orphans removed")
