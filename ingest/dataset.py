"""`ingest dataset`: the pictures of a registered dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from outcrop.ingest.above_ground import grounded_files
from outcrop.ingest.film_source import Kept
from outcrop.ingest.films import Films, with_films
from outcrop.ingest.photos import PhotoSource
from outcrop.ingest.runs import Failure
from outcrop.ingest.sources import Alike, Listing, Source
from outcrop.schema.any_names import counted, kinds_of
from outcrop.schema.dataset_files import DatasetFiles, dataset_files
from outcrop.schema.errors import InputError
from outcrop.schema.films import seconds_of
from outcrop.schema.frames import CaptureFiles, Frame, dataset_root
from outcrop.schema.item import UNKNOWN_COORDINATE, Item, Kind, image_key
from outcrop.schema.registry import registry_at


def list_dataset(
    registry: Path,
    name: str,
    datasets: Path,
    *,
    limit: int | None = None,
    only: Iterable[str] | None = None,
    positions: Path | None = None,
) -> Listing:
    """Lists a dataset's items; `registry`, `datasets` and `positions` as in `outcrop.schema.dataset_files.dataset_files`.

    `limit` keeps the first N that are on disk; `only` keeps the items with these keys.

    Raises:
        RegistryError: the registry, the dataset's name, a template or a folder is wrong. InputError: the positions are.
    """
    return _listed(grounded_files(registry, name, datasets, positions), limit, only)


def _listed(found: DatasetFiles, limit: int | None, only: Iterable[str] | None) -> Listing:
    focal_length = found.dataset.focal_length

    def source(frame: Frame) -> Source:
        return PhotoSource(frame_item(frame), frame.path, frame.altitude is not None, focal_length)

    missing = missing_photographs(found)
    if only is None:
        return listing_of(found, Alike(found.frames, source, key_of), missing, limit)
    keys = set(only)
    sources = [source(frame) for frame in found.frames if key_of(frame) in keys]
    return listing_of(found, sources, [failure for failure in missing if failure.key in keys], limit)


def key_of(frame: Frame) -> str:
    """The key of a photograph."""
    return str(frame.key)


def list_folder(
    folder: Path,
    name: str,
    *,
    limit: int | None = None,
    only: Iterable[str] | None = None,
    positions: Path | None = None,
    films: Films | None = None,
) -> Listing:
    """Lists the photographs of a folder as it stands, under the name of a dataset; `limit` and `only` as in `list_dataset`.
    With `films`, those are listed too.

    Raises:
        InputError: it holds no photograph, or the positions are wrong. RegistryError: it cannot be listed.
    """
    found = dataset_files(folder, name, folder, positions)
    listing = _listed(found, limit, only)
    listing = replace(listing, summary=_summary(found, listing))
    if films is not None:
        listing = with_films(listing, films, limit=limit, only=only)
    if only is None and not listing.expected:
        held = f" but {kinds_of(listing.others)}" if listing.others else ": is its disk mounted?"
        raise InputError(f"the folder {folder} holds no photograph{held}; nothing is changed")
    return listing


def declared_films(registry: Path, name: str, datasets: Path, kept: Path | None) -> Films | None:
    """The films of a dataset, where the registry says that they belong to it; `kept` is the folder of `Kept`.

    Raises:
        RegistryError: as `list_dataset`.
    """
    known = registry_at(registry, datasets)
    every = known.dataset(name).films
    if every is None:
        return None
    return Films(dataset_root(known, name, datasets), name, seconds_of(every), Kept(kept))


def _summary(found: DatasetFiles, listing: Listing) -> str:
    """How many photographs a folder holds, in how many captures, and what becomes of one of them."""
    sources = listing.sources
    if isinstance(sources, Alike):
        captures = sum(1 for capture in found.captures if capture.frames)
    else:
        captures = len({source.wanted[0].item.capture_id for source in sources})
    said = f"{found.root}: {counted(len(sources), 'photograph')} in {counted(captures, 'capture')}"
    if not sources:
        return said
    first = sources[0].wanted[0].item
    return f"{said}, such as {first.source} as {first.key}"


def missing_photographs(found: DatasetFiles) -> list[Failure]:
    """A failure for each photograph that is declared but not on disk, and each that cannot have a key of its own."""
    missing = [failure for capture in found.captures for failure in missing_frames(found.name, capture)]
    refused = found.holding.refused if found.holding is not None else ()
    return missing + [
        Failure(each.key or shown_path(each.path), shown_path(each.path), "list", each.reason) for each in refused
    ]


def shown_path(path: Path) -> str:
    """A path as text, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def listing_of(
    found: DatasetFiles, sources: Sequence[Source], missing: Sequence[Failure], limit: int | None = None
) -> Listing:
    """The listing of sources made of a dataset's files; `limit` keeps the first N, and then nothing counts as missing.

    Raises:
        InputError: the limit is below 1.
    """
    captures = found.captures
    if limit is not None:
        if limit < 1:
            raise InputError(f"--limit must be at least 1, not {limit}")
        sources, missing = sources[:limit], []
    undeclared = [path for capture in captures for path in capture.undeclared]
    others = found.holding.others if found.holding is not None else {}
    return Listing(found.name, sources, missing, undeclared, [*_remarks(captures), *found.remarks], others)


def frame_item(frame: Frame) -> Item:
    """The item of a photograph, as far as the registry and a file of positions say."""
    key, place = frame.key, frame.position
    extra: dict[str, object] = {"label": frame.label} if frame.label is not None else {}
    if place is not None:
        extra["position_source"] = place.source
        extra |= {"elevation": place.elevation} if place.elevation is not None else {}
    return Item(
        key=str(key),
        kind=Kind.IMAGE,
        dataset=key.dataset,
        capture_id=key.capture_id,
        frame=key.frame,
        altitude=frame.altitude or 0.0,
        latitude=place.latitude if place is not None else UNKNOWN_COORDINATE,
        longitude=place.longitude if place is not None else UNKNOWN_COORDINATE,
        source=frame.source,
        extra=extra,
    )


def missing_frames(dataset: str, capture: CaptureFiles) -> list[Failure]:
    """A failure for each frame that is declared but not on disk; see `Failure.unnumbered` where its number is not known."""
    reason = f"declared in the registry, but not on disk{capture.hint}"
    named = [Failure(image_key(dataset, capture.capture_id, n), "", "list", reason) for n in capture.missing]
    rest = capture.missing_count - len(named)
    unnamed = [
        Failure(
            image_key(dataset, capture.capture_id, 0),
            "",
            "list",
            f"{reason} (one of {rest}; their numbers are not known)",
            unnumbered=n,
        )
        for n in range(1, rest + 1)
    ]
    return named + unnamed


def _remarks(captures: Iterable[CaptureFiles]) -> list[str]:
    said = []
    for capture in captures:
        if capture.undeclared:
            said.append(
                f"{capture.capture_id}: {len(capture.undeclared)} files fit the template but are not declared "
                f"(first: {capture.undeclared[0].name}); they are left out"
            )
        said += capture.doubled
        if capture.missing_count:
            first = f" (first: frame {capture.missing[0]})" if capture.missing else ""
            said.append(
                f"{capture.capture_id}: {capture.missing_count} declared frames are not on disk{first}{capture.hint}"
            )
    return said
