"""`ingest manifest`: the datasets and the written references that a manifest names, as one run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from outcrop.ingest.checked import CheckedFiles
from outcrop.ingest.dataset import list_dataset
from outcrop.ingest.features import FeatureKeeper
from outcrop.ingest.listing import Outlook, look_ahead
from outcrop.ingest.photos import PhotoSource
from outcrop.ingest.records import list_runs
from outcrop.ingest.sources import Listing, Source
from outcrop.ingest.written import WrittenSource, list_written_references
from outcrop.schema.errors import ManifestError, nearest
from outcrop.schema.item import Item, Kind, item_of_key, part
from outcrop.schema.manifest import DatasetPart, ImageGroup, Manifest
from outcrop.schema.registry import Registry, read_registry
from outcrop.schema.sequences import Joined
from outcrop.schema.written import WrittenReference
from outcrop.store.collection import Collection

RATE_RUNS = 10
"""The number of earlier runs of a model from which the speed of the next one is estimated."""
RATE_ITEMS = 20
"""Runs that embedded fewer items are left out: most of their time was starting up."""


@dataclass(frozen=True)
class Part:
    """One part of a manifest: images or references of a dataset, listed."""

    kind: Kind
    dataset: str
    listing: Listing


def list_manifest(
    manifest: Manifest,
    registry: Path,
    datasets: Path,
    references: Path,
    *,
    only: Iterable[str] | None = None,
    base: Path = Path(),
) -> tuple[Part, ...]:
    """Lists the parts of a manifest, datasets first; opens no picture. `only` keeps the items with these keys.

    `base` is the manifest's folder, `datasets` the one that holds the datasets' roots, and `references` the one that holds
    ``references_<dataset>``.

    Raises:
        RegistryError: the registry, or the name of a dataset, is wrong. ManifestError: a capture is not in the registry, or a
        group names no file that is there. InputError: no such folder.
    """
    known = read_registry(registry)
    keys = frozenset(only) if only is not None else None
    parts = []
    for name, chosen in manifest.datasets.items():
        places = base / chosen.positions if chosen.positions is not None else None
        pictures = list_dataset(registry, name, datasets, only=keys, positions=places)
        parts.append(Part(Kind.IMAGE, name, _images(pictures, chosen, known, name)))
    for name in dict.fromkeys(group.dataset for group in manifest.image_groups):
        groups = [group for group in manifest.image_groups if group.dataset == name]
        listed = list_written_references(registry, name, datasets, references, only=keys, or_cut=True)
        parts.append(Part(Kind.REFERENCE, name, _references(listed, groups, known, name, strict=keys is None)))
    return tuple(parts)


def whole(name: str, parts: Sequence[Part]) -> Listing:
    """The parts as one listing, for one run."""
    listings = [part.listing for part in parts]
    return Listing(
        name,
        Joined(*(listing.sources for listing in listings)),
        [failure for listing in listings for failure in listing.missing],
        [path for listing in listings for path in listing.undeclared],
        [remark for listing in listings for remark in listing.remarks],
    )


def plan(
    parts: Sequence[Part],
    collection: Collection | None,
    *,
    force: bool = False,
    features: FeatureKeeper | None = None,
    checked: CheckedFiles | None = None,
    stale: bool = True,
) -> list[tuple[Part, Outlook]]:
    """What a run would do, part by part; embeds and writes nothing. Items that lack `features` would be embedded.

    `stale` as in `outcrop.ingest.listing.look_ahead`.
    """
    more = {"force": force, "stale": stale}
    return [(part, look_ahead(part.listing, collection, features=features, checked=checked, **more)) for part in parts]


def expected_rate(state: Path, model: str) -> float | None:
    """Items per second of the latest runs of a model in a state folder (their median); None where there are none."""
    runs = [
        run for run in list_runs(state) if run.model == model and run.state == "done" and run.embedded >= RATE_ITEMS
    ]
    return statistics.median(run.images_per_second for run in runs[:RATE_RUNS]) if runs else None


def _images(listing: Listing, chosen: DatasetPart, registry: Registry, name: str) -> Listing:
    if chosen.captures == "all":
        return listing
    _require(chosen.captures, registry, name)
    wanted = {capture: frozenset(frames) if frames != "all" else None for capture, frames in chosen.captures.items()}

    def kept(item: Item) -> bool:
        frames = wanted.get(item.capture_id, frozenset())
        return frames is None or item.frame in frames

    sources = [source for source in listing.sources if isinstance(source, PhotoSource) and kept(source.item)]
    missing = [failure for failure in listing.missing if kept(item_of_key(failure.key))]
    there = {(s.item.capture_id, s.item.frame) for s in sources} | {
        (item.capture_id, item.frame) for item in (item_of_key(failure.key) for failure in missing)
    }
    about = {*wanted, Path(chosen.positions or "").name}
    remarks = [remark for remark in listing.remarks if remark.partition(":")[0] in about]
    for capture, frames in wanted.items():
        unknown = sorted(frame for frame in frames or () if (capture, frame) not in there)
        if unknown:
            remarks.append(
                f"{capture}: frames of the manifest that the registry does not declare: {len(unknown)} (first: {unknown[0]})"
            )
    return Listing(listing.dataset, sources, missing, (), remarks)


def _references(
    listing: Listing, groups: Sequence[ImageGroup], registry: Registry, name: str, *, strict: bool
) -> Listing:
    captures = [_capture_of(group, registry, name) for group in groups]
    found: list[Source] = []
    seen = [0] * len(groups)
    for source in listing.sources:
        assert isinstance(source, WrittenSource)  # nothing else lists references
        files = []
        for file in source.files:
            of = [n for n, group in enumerate(groups) if captures[n] == file.capture_id and _meant(group, file)]
            if of:
                files.append(file)
            for n in of:
                seen[n] += 1
        if files:
            complete = len(files) == len(source.files)
            found.append(source if complete else replace(source, files=tuple(files), whole=False))
    for group, count in zip(groups, seen, strict=True):
        if strict and not count:
            raise ManifestError(
                f"the image group of capture {group.capture_id!r} in {name!r} matches no written reference on disk; "
                "check its folder, label_token, indices and rotations"
            )
    return Listing(listing.dataset, found, listing.missing, (), listing.remarks)


def _meant(group: ImageGroup, file: WrittenReference) -> bool:
    """Whether a group includes a file."""
    folder = PurePosixPath(file.source).parent.name
    return (
        (group.folder is None or folder in (f"R{group.folder}", f"R{part(group.folder)}", group.folder))
        and (group.indices == "all" or file.frame in group.indices)
        and (group.rotations == "all" or any(abs(file.rotation - r) < 1e-6 for r in group.rotations))
    )


def _capture_of(group: ImageGroup, registry: Registry, name: str) -> str:
    """The registry's name of a group's capture: as written, or followed by its label."""
    known = registry.dataset(name).images
    for candidate in (f"{group.capture_id}_{group.label_token}", group.capture_id):
        if candidate in known:
            return candidate
    wanted = "_".join(filter(None, (group.capture_id, group.label_token)))
    raise ManifestError(f"capture {wanted!r} is not in dataset {name!r} of the registry{nearest(wanted, known)}")


def _require(captures: Iterable[str], registry: Registry, name: str) -> None:
    known = registry.dataset(name).images
    for capture in captures:
        if capture not in known:
            raise ManifestError(
                f"capture {capture!r} is not in dataset {name!r} of the registry{nearest(capture, known)}"
            )
