"""The windows of photographs at a ground scale: which crops of each show as many metres as a collection's space asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TypeVar

from outcrop.embed.images import inspect
from outcrop.embed.photo import PhotoMetadata
from outcrop.ingest.photos import footing
from outcrop.schema.crops import CropSpec, crop_specs
from outcrop.schema.errors import PictureError
from outcrop.schema.frames import Frame
from outcrop.schema.ground import GAPS, ground_crops, leaves_gaps, scaled
from outcrop.schema.machine import cores

HEAD = 1 << 18
"""Bytes of a file in which what a photograph says of itself nearly always lies."""
AT_ONCE = 8
"""Heads that are read at once, however few cores there are: a disk in the network answers many as soon as one."""
TOGETHER = 64
"""Photographs that a thread is given at once: of a million, what each waits for would take a gigabyte."""

T = TypeVar("T")


def of_each(frames: Sequence[Frame], look: Callable[[Frame], T]) -> list[T]:
    """What `look`, which reads the head of a file, finds in each photograph, in their order. Raises what it raises."""
    parts = [frames[start : start + TOGETHER] for start in range(0, len(frames), TOGETHER)]
    with ThreadPoolExecutor(max(AT_ONCE, cores()), thread_name_prefix="heads") as pool:
        return list(chain.from_iterable(pool.map(lambda some: [look(frame) for frame in some], parts)))


def to_scale(
    frame: Frame, turns: Sequence[CropSpec], focal_length: float | None, window: tuple[float, float]
) -> tuple[tuple[CropSpec, ...], str]:
    """References of a photograph in windows of (height, width) metres at the angles of `turns`, and why they are not to scale.

    A photograph that does not say how much ground it shows has `turns` as they are; so has one that cannot be read, whose reason
    comes when it is decoded. `focal_length` is that of photographs that do not state theirs.

    Raises:
        InputError: they would be too many.
    """
    head = head_of(frame.path)
    if head is None:
        return tuple(turns), ""
    width, height, facts = head
    found = scaled(footing(facts, frame.altitude, focal_length), width, height, window)
    if found.remark and found.share == 1.0:
        return tuple(turns), found.remark
    angles = list(dict.fromkeys(turn.rotation for turn in turns))
    remark = GAPS if leaves_gaps(found.share, width, height, window) else found.remark
    return crop_specs(angles, ground_crops(found.share, width, height, window)), remark


def head_of(path: Path) -> tuple[int, int, PhotoMetadata] | None:
    """Sides and metadata of a photograph, from the beginning of its file if they are there; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(HEAD)
            try:
                return inspect(data, name=str(path))
            except PictureError:
                return inspect(data + file.read(), name=str(path))
    except (OSError, PictureError):
        return None
