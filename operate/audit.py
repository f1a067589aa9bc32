"""Registry against disk against collection: what is missing, changed, orphaned, or of another space; and the repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from outcrop.ingest.dataset import list_dataset
from outcrop.schema.digests import SourceDigest, digest_of_file
from outcrop.schema.errors import InputError, OutcropError
from outcrop.schema.filters import equals
from outcrop.schema.frames import dataset_root
from outcrop.schema.item import Kind, item_id
from outcrop.schema.registry import Registry, read_registry
from outcrop.schema.written import written_folder
from outcrop.store.collection import Collection

Trouble = Literal["missing", "changed", "orphan", "no file"]
FROM_FILES = (Kind.IMAGE, Kind.REFERENCE)
"""Kinds whose `source` is a file below the dataset's root."""


@dataclass(frozen=True)
class Finding:
    """One item in trouble.

    "missing": on disk, not in the collection. "changed": the file is not the one that was embedded. "orphan": in the
    collection, its source is gone or no longer declared. "no file": declared in the registry, not on disk.
    """

    trouble: Trouble
    key: str
    source: str


@dataclass(frozen=True)
class Audit:
    """The audit of one dataset. `good` items are in order; `stale` says how the space differs ('' = it does not)."""

    dataset: str
    collection: str
    good: int
    findings: tuple[Finding, ...]
    stale: str = ""
    repairs: tuple[str, ...] = field(default=())

    def count(self, trouble: Trouble) -> int:
        """How many items are in this trouble."""
        return sum(finding.trouble == trouble for finding in self.findings)

    @property
    def in_order(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings and not self.stale


def audit_dataset(
    collection: Collection,
    registry: Path,
    datasets: Path,
    name: str,
    *,
    digests: bool = False,
    stale: str = "",
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Holds a dataset's images against disk and collection, by size and time of the files (`digests` reads every file).

    Raises:
        RegistryError: unknown dataset, or a root that is not there.
    """
    listing = list_dataset(registry, name, datasets)
    declared = {each.item.id: (each.item, each.path) for source in listing.sources for each in source.wanted}
    findings = [Finding("no file", failure.key, "") for failure in listing.missing]
    good, found = 0, set()
    fields = ["id", "key", "source", "source_size", "source_mtime_ns", "source_digest"]
    filter = equals("kind", str(Kind.IMAGE)) & equals("dataset", name)
    for rows in collection.scan_rows(filter, fields):
        for row in rows:
            found.add(row["id"])
            if _from_array(str(row["source"])):
                continue  # its picture is nowhere here
            if row["id"] not in declared:
                findings.append(Finding("orphan", row["key"], row["source"]))
            elif changed(declared[row["id"]][1], row, digests):
                findings.append(Finding("changed", row["key"], row["source"]))
            else:
                good += 1
        if progress is not None:
            progress(len(found))
    findings += [Finding("missing", item.key, item.source) for id, (item, _) in declared.items() if id not in found]
    return Audit(
        name,
        collection.name,
        good,
        sorted_findings(findings),
        stale,
        tuple(_repairs(collection.name, name, findings, stale)),
    )


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by trouble, what can be mended first, and by key."""
    order = {"missing": 0, "changed": 1, "orphan": 2, "no file": 3}
    return tuple(sorted(findings, key=lambda finding: (order[finding.trouble], finding.key)))


def orphans(
    collection: Collection,
    registry: Path,
    datasets: Path,
    names: Iterable[str] | None = None,
    *,
    references: Path | None = None,
) -> list[Finding]:
    """Items of kinds made from files whose source file is gone, for the datasets named (all of the registry otherwise).

    Unlike `audit_dataset` this asks the disk alone, not what the registry declares: an item whose file is there stays. So do
    vectors that were read from arrays, and written references whose folder lies neither in `references` nor in `datasets`.

    Raises:
        InputError: a dataset's root is not there, or empty.
    """
    known = read_registry(registry)
    gone = []
    for name in names if names is not None else sorted(known.datasets):
        root = mounted_root(known, name, datasets)
        filter = equals("kind", *map(str, FROM_FILES)) & equals("dataset", name)
        places = [folder for folder in (references, datasets) if folder is not None]
        written = [folder for folder in places if _holds_something(folder / written_folder(name))]
        for rows in collection.scan_rows(filter, ["id", "key", "source"]):
            for row in rows:
                source = str(row["source"])
                if _from_array(source):
                    continue
                of_files = source.startswith(f"{written_folder(name)}/")
                if not any((folder / source).is_file() for folder in ([*written, root] if of_files else [root])) and (
                    written or not of_files
                ):
                    gone.append(Finding("orphan", row["key"], source))
    return sorted(gone, key=lambda finding: finding.key)


def _from_array(source: str) -> bool:
    """Whether an item was read as a vector (`ingest features`): no file of ours made it."""
    return source.endswith(".npy")


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def mounted_root(registry: Registry, name: str, datasets: Path) -> Path:
    """The folder of a dataset; to be asked before anything is removed because its file is gone.

    Raises:
        InputError: the folder is not there, or empty: a disk that is not mounted must not empty a collection.
    """
    root = dataset_root(registry, name, datasets)
    if not any(root.iterdir()):
        raise InputError(f"the root {root} of dataset {name!r} is empty: is its disk mounted? Nothing is removed")
    return root


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


def changed(path: Path, row: Mapping[str, Any], digests: bool) -> bool:
    """Whether a file is another than a row was made of: by its size and time, and by its digest where these do not tell."""
    try:
        stat = path.stat()
    except OSError:
        return True
    if stat.st_size != row["source_size"]:
        return True
    if stat.st_mtime_ns == row["source_mtime_ns"] and not digests:
        return False
    return digest_of_file(path) != SourceDigest.parse(row["source_digest"]).file


def _repairs(collection: str, name: str, findings: list[Finding], stale: str) -> list[str]:
    kinds = {finding.trouble for finding in findings}
    repairs = []
    if stale:
        repairs.append(
            f"embed again with the new weights beside the old: collection create, ingest, verify, collection switch ({stale})"
        )
    if kinds & {"missing", "changed"}:
        repairs.append(f"ingest dataset {name} --collection {collection}")
    if "orphan" in kinds:
        repairs.append(f"collection audit {collection} --dataset {name} --fix (removes the orphans)")
    if "no file" in kinds:
        repairs.append("bring the declared files back, or correct the counts in the registry")
    return repairs
