"""What a collection should hold compared with what it holds: missing, changed and orphaned items of every kind; and the repair.

What is desired is in `outcrop.operate.desired`, what differs is judged by `outcrop.ingest.changes`, as in an ingest; here it is
counted, named, and carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from outcrop.embed.models import resolve_space
from outcrop.embed.opening import LazyEncoder, open_encoder
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.changes import STALE, STORED, Change, changes
from outcrop.ingest.checked import CheckedFiles
from outcrop.ingest.listing import ingest_listing
from outcrop.ingest.metadata import own_columns
from outcrop.ingest.pipeline import Options
from outcrop.ingest.requests import AuditRequest
from outcrop.ingest.runs import Run
from outcrop.ingest.sources import Listing
from outcrop.ingest.watcher import Watcher
from outcrop.operate.companions import REASONS, Companions
from outcrop.operate.desired import Desired
from outcrop.operate.maps import desired_map
from outcrop.operate.photographs import desired_photographs
from outcrop.operate.specimens import datasets_of, desired_specimens
from outcrop.schema.errors import OutcropError, SpaceMismatch
from outcrop.schema.filters import equals
from outcrop.schema.item import FOSSIL, item_id, item_of_key, made_together, parent_of
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.maps import MAPS

Trouble = Literal["missing", "changed", "orphan", "no file"]
TROUBLES: tuple[Trouble, ...] = ("missing", "changed", "orphan", "no file")
"""In this order they are listed: what can be mended first."""
_TROUBLE: dict[str, Trouble] = {
    "new": "missing",
    "lacking": "missing",
    "changed": "changed",
    "gone": "orphan",
    "no file": "no file",
}


@dataclass(frozen=True)
class Finding:
    """One item in trouble, and why. A specimen that must be drawn again is one finding, with its views.

    "missing": it should be in the collection, and is not. "changed": it is not what would be made now. "orphan": in the
    collection, but its file is gone, or nothing wants it any more. "no file": declared in the registry, not on disk.
    """

    trouble: Trouble
    key: str
    source: str
    reason: str = ""


@dataclass(frozen=True)
class Audit:
    """The audit of one dataset. `good` items are in order; `stale` says how the space differs ('' = it does not)."""

    dataset: str
    collection: str
    good: int
    findings: tuple[Finding, ...]
    stale: str = ""
    repairs: tuple[str, ...] = ()
    desired: Desired | None = field(default=None, repr=False, compare=False)

    def count(self, trouble: Trouble) -> int:
        """How many items are in this trouble."""
        return sum(finding.trouble == trouble for finding in self.findings)

    @property
    def in_order(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings and not self.stale


def audit(
    collection: Collection,
    settings: Settings,
    names: Sequence[str] | None = None,
    *,
    root: Path | None = None,
    digests: bool = False,
) -> list[Audit]:
    """Audits datasets of the registry and specimens: those named, or all that there are.

    Size and time of the files decide; `digests` reads every file. `root` is where the meshes lie now.

    Raises:
        RegistryError: unknown dataset, or a root that is not there. InputError: a folder is not there, or empty.
    """
    stale = stale_space(collection, settings)
    checked, companions = CheckedFiles(settings.state), Companions.of(collection, settings, whole=digests)
    return [
        _audit(collection, desired, digests, stale, checked, companions)
        for desired in _desired(collection, settings, names, root)
    ]


def repair(
    collection: Collection,
    found: Audit,
    settings: Settings,
    *,
    digests: bool = False,
    say: Callable[[str], None],
) -> None:
    """Embeds missing and changed items and removes orphans. What needs a person (missing files, another space) stays.

    Raises:
        OutcropError: the encoder or the collection cannot be opened or written. Refused: something is to be made in a collection
            of averaged vectors.
    """
    assert found.desired is not None, "an audit made by `audit` knows what is desired"
    stale = [finding for finding in found.findings if finding.reason == STALE]
    orphans = [finding for finding in found.findings if finding.trouble == "orphan" and finding.reason != STALE]
    made = [finding for finding in found.findings if finding.trouble in ("missing", "changed")]
    wanted = [finding.key for finding in made if finding.reason not in REASONS]
    beside = [finding.key for finding in made if finding.reason in REASONS]
    if made or stale:
        collection.require_plain()
    if (wanted or stale) and not found.stale:
        options = Options(digests=digests, checked=CheckedFiles(settings.state))
        _made(collection, found, settings, wanted, [*wanted, *(finding.key for finding in stale)], options, say)
    if beside and not found.stale:  # their rows are in order: without force nothing would be made
        _made(collection, found, settings, beside, beside, Options(force=True), say)
    if orphans:
        say(f"{found.dataset}: {prune(collection, orphans)} orphans removed")


class _Saying(Watcher):
    """Hands on what a person should know."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def say(self, text: str) -> None:
        """See `Watcher.say`."""
        self._say(text)

    def warn(self, text: str) -> None:
        """See `Watcher.warn`."""
        self._say(text)


def _made(
    collection: Collection,
    found: Audit,
    settings: Settings,
    wanted: Sequence[str],
    keys: Sequence[str],
    options: Options,
    say: Callable[[str], None],
) -> None:
    """Makes the wanted items, with their thumbnails and the features that are kept; `keys` are of all whose sources are taken."""
    assert found.desired is not None
    listing = _narrowed(found.desired, set(map(made_together, keys)), wanted)
    tables = own_columns(None, listing, collection, _Saying(say))
    model = resolve_space(collection.space, settings, collection.weights_hint)
    tables.begin(collection, remember=False)
    encoder = LazyEncoder(collection.space, lambda: open_encoder(model, settings))
    run = Run.begin(settings.state, "audit", AuditRequest(name=found.dataset, collection=collection.name))
    features = Companions.of(collection, settings).keeper() if options.force else None
    record = ingest_listing(
        listing,
        encoder,
        collection,
        run,
        replace(options, columns=tables.matches),
        thumbnails=ThumbnailStore.below(settings.state),
        features=features,
        on_change=encoder.begin,
    )
    say(f"{found.dataset}: {record.upserted} items embedded, {record.failed} failed (run {record.run})")


def orphans(
    collection: Collection, settings: Settings, names: Sequence[str] | None = None, *, root: Path | None = None
) -> list[Finding]:
    """Items whose source file is gone, of the datasets named, or of all of the registry and all specimens.

    Unlike `audit` this asks the disk alone, not what is declared or wanted: an item whose file is there stays.

    Raises:
        RegistryError, InputError: as `audit`.
    """
    found = []
    for desired in _desired(collection, settings, names, root):
        for kind, dataset in desired.files.scopes:
            filter = equals("kind", str(kind)) & equals("dataset", dataset)
            for rows in collection.scan_rows(filter, ["id", "key", *STORED, *desired.files.fields]):
                found += [
                    Finding("orphan", row["key"], row["source"], reason)
                    for row in rows
                    if (reason := desired.files.gone(row))
                ]
    return sorted(found, key=lambda finding: finding.key)


def prune(collection: Collection, findings: Iterable[Finding]) -> int:
    """Removes orphans from the collection; returns how many rows are gone, counted before and after."""
    ids = [item_id(finding.key) for finding in findings if finding.trouble == "orphan"]
    before = collection.count()
    collection.delete(ids)
    collection.flush()
    after = collection.count()
    if before - after != len(ids):
        raise OutcropError(
            f"{len(ids)} items were to be removed, {before - after} are gone; run `collection audit` again"
        )
    return before - after


def stale_space(collection: Collection, settings: Settings) -> str:
    """How the weights found now differ from those that made the collection ('' = they do not, or none are found here)."""
    try:
        resolve_space(collection.space, settings, collection.weights_hint)
    except SpaceMismatch as error:
        return str(error)
    except OutcropError:
        return ""  # no weights on this machine: nothing to compare with
    return ""


def _desired(
    collection: Collection, settings: Settings, names: Sequence[str] | None, root: Path | None
) -> Iterator[Desired]:
    maps = [name for name in MAPS.all(collection) if names is None or name in names]
    rest = None if names is None else [name for name in names if name not in maps]
    photographs, specimens = datasets_of(collection, settings, rest)
    for name in photographs:
        yield desired_photographs(collection, settings, name)
    for name in specimens:
        yield desired_specimens(collection, name, root)
    for name in maps:
        yield desired_map(collection, name)


def _audit(
    collection: Collection,
    desired: Desired,
    digests: bool,
    stale: str,
    checked: CheckedFiles,
    companions: Companions,
) -> Audit:
    good, findings = 0, []
    found = changes(
        desired.listing, collection, digests=digests, outside=desired.files, arrays_stay=True, checked=checked
    )
    for parent, some in groupby(found, key=_unit):
        together = list(some)
        wrong = [change for change in together if change.kind != "unchanged"]
        good += len(together) - len(wrong)
        findings += _of_specimen(parent, wrong) if _is_specimen(parent) else list(map(_finding, wrong))
    beside = _beside(collection, desired, companions, {finding.key for finding in findings})
    good, findings = good - sum(beside.values()), [*findings, *beside]
    order = {trouble: place for place, trouble in enumerate(TROUBLES)}
    findings.sort(key=lambda finding: (order[finding.trouble], finding.key))
    return Audit(
        desired.dataset,
        collection.name,
        good,
        tuple(findings),
        stale,
        tuple(_repairs(collection, desired, findings, stale)),
        desired,
    )


def _beside(collection: Collection, desired: Desired, companions: Companions, known: set[str]) -> dict[Finding, int]:
    """Findings of thumbnails and features of what is in order otherwise, each with how many rows it is of: a specimen with its
    views is one."""
    faults: dict[str, Finding] = {}
    rows: dict[str, set[str]] = {}
    for row, fault in companions.faults(collection, desired.files.scopes):
        key = parent_of(row["key"]) if _is_specimen(row["key"]) else row["key"]
        if key not in known and row["key"] not in known:
            faults.setdefault(key, Finding("changed", key, row["source"], fault))
            rows.setdefault(key, set()).add(row["key"])
    return {finding: len(rows[key]) for key, finding in faults.items()}


def _unit(change: Change) -> str:
    """What is judged together: a specimen with its views; every other item by itself."""
    return change.key if change.kind in ("gone", "no file") else parent_of(change.key)


def _is_specimen(key: str) -> bool:
    return key.partition("/")[0] in tuple(map(str, FOSSIL))


def _finding(change: Change) -> Finding:
    return Finding(_TROUBLE[change.kind], change.key, change.source, change.reason)


def _of_specimen(key: str, wrong: Sequence[Change]) -> list[Finding]:
    """The finding of a specimen with its views: changed where one of them is, else missing; what is gone, one by one."""
    gone = [_finding(change) for change in wrong if change.kind == "gone"]
    made = [change for change in wrong if change.kind != "gone"]
    if not made:
        return gone
    worst = next((change for change in made if change.kind == "changed"), made[0])
    return [*gone, Finding(_TROUBLE[worst.kind], key, worst.source, worst.reason)]


def _narrowed(desired: Desired, parents: set[str], keys: Sequence[str]) -> Listing:
    """The sources of parents in trouble, and those of items that the listing does not want but whose files are there."""
    sources = [source for source in desired.listing.sources if made_together(source.wanted[0].item.key) in parents]
    listed = {each.item.key for source in sources for each in source.wanted}
    rest = [key for key in keys if key not in listed]
    return Listing(desired.dataset, [*sources, *(desired.files.sources(rest) if rest else ())])


def _repairs(collection: Collection, desired: Desired, findings: Sequence[Finding], stale: str) -> Iterator[str]:
    """What to do, one line each."""
    troubles = {finding.trouble for finding in findings}
    if collection.averaged is None:
        yield from _repairs_of_plain(collection.name, desired, findings, stale)
    elif stale or troubles - {"no file"}:
        source = collection.averaged.source
        mended = f"collection audit {source} --dataset {desired.dataset} says what is to be mended there"
        yield f"the vectors are averaged, so mend their source: {mended}; then {collection.averaged.again(collection.name)}"
    if "no file" in troubles:
        yield "bring the declared files back, or correct the counts in the registry"
    yield from desired.remarks


def _repairs_of_plain(collection: str, desired: Desired, findings: Sequence[Finding], stale: str) -> Iterator[str]:
    """The commands that mend a collection whose vectors are those of its pictures."""
    if stale:
        steps = "collection create, ingest, verify, collection switch"
        yield f"embed again with the new weights beside the old: {steps} ({stale})"
    troubles = {finding.trouble for finding in findings}
    if troubles & {"missing", "changed"}:
        kinds = {item_of_key(f.key).kind for f in findings if f.trouble in ("missing", "changed")}
        fixes = f"collection audit {collection} --dataset {desired.dataset} --fix"
        yield desired.again if kinds <= {"image", "tile", *FOSSIL} else f"{fixes} (embeds what is missing or changed)"
    if "orphan" in troubles:
        yield f"collection audit {collection} --dataset {desired.dataset} --fix (removes the orphans)"
