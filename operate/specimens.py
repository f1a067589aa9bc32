"""Specimens against the disk: which are missing, changed or orphaned, and the repair. Their folder is the one they remember."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from outcrop.embed.models import resolve_space
from outcrop.embed.opening import LazyEncoder, open_encoder
from outcrop.embed.pooling import require_pool
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.listing import ingest_listing
from outcrop.ingest.requests import AuditRequest
from outcrop.ingest.runs import Run
from outcrop.ingest.sources import Listing
from outcrop.ingest.specimens import list_specimens
from outcrop.operate.audit import Audit, Finding, changed, prune, sorted_findings
from outcrop.query.specimen import stored_look
from outcrop.render.views import ViewSpec
from outcrop.render.workers import Workers
from outcrop.schema.errors import InputError
from outcrop.schema.filters import equals
from outcrop.schema.item import Kind, parent_of
from outcrop.schema.registry import read_registry
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection

_LOOK = tuple(f"look_{each.name}" for each in fields(ViewSpec))
_FIELDS = ("id", "key", "kind", "source", "source_size", "source_mtime_ns", "source_digest", "root", *_LOOK)


@dataclass
class _Known:
    """A specimen as the collection has it: its own row (perhaps none), and those of its views."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    own: dict[str, Any] | None = None

    @property
    def whole(self) -> bool:
        """Whether all its views are there, and itself."""
        look = ViewSpec.of_extra(self.own) if self.own is not None else None
        return look is not None and len(self.rows) == look.views + 1


def datasets_of(
    collection: Collection, settings: Settings, chosen: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The datasets to be looked at, photographs' and specimens': those chosen, or all of the registry and the collection.

    Raises:
        InputError: a dataset is neither in the registry nor, as specimens, in the collection; or there are none.
    """
    specimens: set[str] = set()
    for rows in collection.scan_rows(equals("kind", str(Kind.SPECIMEN)), ["id", "dataset", "root"]):
        specimens |= {
            row["dataset"] for row in rows if row.get("root")
        }  # others were imported as vectors, without files
    if specimens and not settings.registry.exists():
        registered: set[str] = set()
    else:
        registered = set(read_registry(settings.registry).datasets)
    if chosen is None:
        if not registered and not specimens:
            raise InputError(f"registry {settings.registry} has no datasets, and {collection.name!r} no specimens")
        return sorted(registered), sorted(specimens)
    # A name that is nowhere is the registry's to complain about: it knows the nearest.
    return [name for name in chosen if name not in specimens or name in registered], [
        name for name in chosen if name in specimens
    ]


def audit_specimens(
    collection: Collection, name: str, *, root: Path | None = None, digests: bool = False, stale: str = ""
) -> Audit:
    """Holds a dataset's specimens against their files, by size and time (`digests` reads every file).

    "missing" is a mesh on disk that is not in the collection, or not with all its views; `root` is where the meshes lie now,
    if not where they were ingested from. Findings of one specimen stand under its key, those to be removed one by one.

    Raises:
        InputError: their folder is not there, or holds no mesh.
    """
    known = _known(collection, name)
    folder = _folder(known, name, root)
    listing = _listing(collection, name, folder)
    findings: list[Finding] = []
    good = 0
    for key, one in known.items():
        path = folder / one.rows[0]["source"]
        if not path.is_file():
            findings += [Finding("orphan", row["key"], row["source"]) for row in one.rows]
        elif any(changed(path, row, digests) for row in (one.rows if digests else one.rows[:1])):
            findings.append(Finding("changed", key, one.rows[0]["source"]))
        elif not one.whole:
            findings.append(Finding("missing", key, one.rows[0]["source"]))
        else:
            good += len(one.rows)
    for source in listing.sources:
        item = source.wanted[-1].item
        if item.key not in known:
            findings.append(Finding("missing", item.key, item.source))
    troubles = {finding.trouble for finding in findings}
    repairs = [f"embed again with the new weights beside the old ({stale})"] if stale else []
    if troubles & {"missing", "changed"}:
        repairs.append(
            f"ingest specimens {folder} --name {name} --collection {collection.name}, with the options it had"
        )
    if "orphan" in troubles:
        repairs.append(f"collection audit {collection.name} --dataset {name} --fix (removes the orphans)")
    return Audit(name, collection.name, good, sorted_findings(findings), stale, tuple(repairs))


def repair_specimens(
    collection: Collection, audit: Audit, settings: Settings, *, root: Path | None = None, say: Callable[[str], None]
) -> None:
    """Draws and embeds missing and changed specimens as the others were, and removes orphans.

    Raises:
        InputError: the folder is not there, or holds no mesh: nothing is removed then.
    """
    folder = _folder(_known(collection, audit.dataset), audit.dataset, root)
    wanted = [finding.key for finding in audit.findings if finding.trouble in ("missing", "changed")]
    orphans = [finding for finding in audit.findings if finding.trouble == "orphan"]
    if wanted and not audit.stale:
        model = resolve_space(collection.space, settings, collection.weights_hint)
        encoder = LazyEncoder(collection.space, lambda: open_encoder(model, settings))
        run = Run.begin(settings.state, "audit", AuditRequest(name=audit.dataset, collection=collection.name))
        thumbnails = ThumbnailStore.below(settings.state)
        record = ingest_listing(
            _listing(collection, audit.dataset, folder, wanted), encoder, collection, run, thumbnails=thumbnails
        )
        say(f"{audit.dataset}: {record.upserted} items embedded, {record.failed} failed (run {record.run})")
    if orphans:
        say(f"{audit.dataset}: {prune(collection, orphans)} orphans removed")


def specimen_orphans(collection: Collection, name: str, root: Path | None = None) -> list[Finding]:
    """Items of specimens whose file is gone.

    Raises:
        InputError: their folder is not there, or holds no mesh: a disk that is not mounted must not empty a collection.
    """
    known = _known(collection, name)
    folder = _folder(known, name, root)
    _listing(collection, name, folder)
    return [
        Finding("orphan", row["key"], row["source"])
        for _, one in sorted(known.items())
        if not (folder / one.rows[0]["source"]).is_file()
        for row in one.rows
    ]


def _known(collection: Collection, name: str) -> dict[str, _Known]:
    """The specimens of a dataset by key, with all their rows."""
    known: dict[str, _Known] = {}
    filter = equals("kind", str(Kind.VIEW), str(Kind.SPECIMEN)) & equals("dataset", name)
    for rows in collection.scan_rows(filter, _FIELDS):
        for row in rows:
            one = known.setdefault(parent_of(row["key"]), _Known())
            one.rows.append(row)
            if row["kind"] == Kind.SPECIMEN:
                one.own = row
    return known


def _folder(known: dict[str, _Known], name: str, root: Path | None) -> Path:
    """Where the meshes of a dataset lie.

    Raises:
        InputError: it is not known, or not there.
    """
    roots = {str(one.own["root"]) for one in known.values() if one.own is not None and one.own.get("root")}
    if root is None and len(roots) != 1:
        said = f"come from several folders ({', '.join(sorted(roots))})" if roots else "do not say where they came from"
        raise InputError(f"the specimens of {name!r} {said}; give --root DIR")
    folder = root if root is not None else Path(roots.pop())
    if not folder.is_dir():
        raise InputError(
            f"the folder {folder} of {name!r} is not there: is its disk mounted? If it moved, give --root DIR"
        )
    return folder


def _listing(collection: Collection, name: str, folder: Path, only: Iterable[str] | None = None) -> Listing:
    """The specimens on disk, to be looked at as those in the collection were.

    Raises:
        InputError: there are none on disk.
    """
    look, how = stored_look(collection, equals("dataset", name))
    return list_specimens(folder, name, look, require_pool(how), workers=Workers(2), only=only)
