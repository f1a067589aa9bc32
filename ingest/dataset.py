"""`ingest dataset`: the pictures of a registered dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from outcrop.ingest.photos import PhotoSource
from outcrop.ingest.runs import Failure
from outcrop.ingest.sources import Listing, Source
from outcrop.schema.errors import InputError
from outcrop.schema.frames import CaptureFiles, Frame, list_captures
from outcrop.schema.item import Item, Kind, image_key
from outcrop.schema.registry import read_registry


def list_dataset(
    registry: Path, name: str, datasets: Path, *, limit: int | None = None, only: Iterable[str] | None = None
) -> Listing:
    """Lists a dataset's items.

    `limit` keeps the first N that are on disk; `only` keeps the items with these keys.

    Raises:
        RegistryError: the registry, the dataset's name, a template or a folder is wrong.
    """
    captures = list_captures(read_registry(registry), name, datasets)
    sources = [
        PhotoSource(frame_item(frame), frame.path, altitude_stated=frame.altitude is not None)
        for capture in captures
        for frame in capture.frames
    ]
    missing = [failure for capture in captures for failure in missing_frames(name, capture)]
    if only is not None:
        keys = set(only)
        sources = [s for s in sources if s.item.key in keys]
        missing = [m for m in missing if m.key in keys]
    return listing_of(name, captures, sources, missing, limit)


def listing_of(
    name: str,
    captures: Sequence[CaptureFiles],
    sources: Sequence[Source],
    missing: Sequence[Failure],
    limit: int | None = None,
) -> Listing:
    """The listing of sources made of a dataset's files; `limit` keeps the first N, and then nothing counts as missing.

    Raises:
        InputError: the limit is below 1.
    """
    if limit is not None:
        if limit < 1:
            raise InputError(f"--limit must be at least 1, not {limit}")
        sources, missing = sources[:limit], []
    undeclared = [path for capture in captures for path in capture.undeclared]
    return Listing(name, sources, missing, undeclared, _remarks(captures))


def frame_item(frame: Frame) -> Item:
    """The item of a photograph, as far as the registry says."""
    key = frame.key
    return Item(
        key=str(key),
        kind=Kind.IMAGE,
        dataset=key.dataset,
        capture_id=key.capture_id,
        frame=key.frame,
        altitude=frame.altitude or 0.0,
        source=frame.source,
        extra={"label": frame.label} if frame.label is not None else {},
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
