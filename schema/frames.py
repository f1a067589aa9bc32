"""Finds the files of a dataset: what is declared and there, declared but missing, there but undeclared.

A registry tells how many frames a capture has, not how they are numbered: cameras begin at 0, at 1, or anywhere, and leave
gaps. So the files that fit the template are listed, and the count is held against them.
"""

from __future__ import annotations

import os
import re
import string
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outcrop.schema.errors import RegistryError
from outcrop.schema.item import ImageKey
from outcrop.schema.registry import Dataset, Registry


@dataclass(frozen=True)
class Frame:
    """One file of a capture. `source` is its path relative to the dataset's root; `altitude` in metres, or None."""

    key: ImageKey
    path: Path
    source: str
    altitude: float | None
    label: str | None


@dataclass(frozen=True)
class CaptureFiles:
    """One capture held against the disk.

    `missing` names the frames that are declared but absent (numbers where they can be known); `missing_count` counts them;
    `undeclared` are files that fit the template but are not among the declared frames.
    """

    capture_id: str
    frames: tuple[Frame, ...]
    missing: tuple[int, ...]
    missing_count: int
    undeclared: tuple[Path, ...]


def dataset_root(registry: Registry, name: str, datasets: Path) -> Path:
    """The folder of a dataset, below the folder of all datasets.

    Raises:
        RegistryError: unknown dataset, or its folder does not exist.
    """
    dataset = registry.dataset(name)
    root = _on_disk(datasets, PurePosixPath(dataset.root).parts) if datasets.is_dir() else None
    if root is None:
        raise RegistryError(
            f"dataset {name!r}: its root {datasets / dataset.root} is no folder; "
            f"set --datasets to the folder that holds {dataset.root!r}"
        )
    return root


def list_captures(registry: Registry, name: str, datasets: Path) -> list[CaptureFiles]:
    """Every capture of a dataset, in the registry's order, with its files in frame order. Opens no file.

    Raises:
        RegistryError: unknown dataset, missing root, or a folder that leaves the root (by a link, say).
    """
    dataset = registry.dataset(name)
    root = dataset_root(registry, name, datasets)
    name = _nfc(name)
    try:
        return [_list_capture(dataset, name, capture_id, root) for capture_id in dataset.images]
    except OSError as error:
        raise RegistryError(f"dataset {name!r}: {error.filename} cannot be listed ({error.strerror})") from None


def _list_capture(dataset: Dataset, name: str, capture_id: str, root: Path) -> CaptureFiles:
    relative = dataset.folder(capture_id)
    folder = _on_disk(root, relative.parts)
    capture = dataset.images[capture_id]
    present: dict[int, Path] = {}
    if folder is not None:
        if not folder.resolve().is_relative_to(root.resolve()):
            raise RegistryError(
                f"capture {capture_id!r}: its folder {folder} leads out of the root {root}; move it below, or change the root"
            )
        pattern = _frame_pattern(dataset, capture_id)
        depth = len(pattern.split("/"))
        expression = re.compile(pattern)
        for path in _files(folder, depth):
            text = _nfc(path.relative_to(folder).as_posix())
            match = expression.fullmatch(text)
            if match and _nfc(dataset.filename(capture_id, int(match["frame"])).as_posix()) == text:
                present[int(match["frame"])] = path
    declared, missing, missing_count = _declared(capture.frames, set(present))
    altitude = dataset.altitude(capture_id)
    frames = tuple(
        Frame(
            ImageKey(name, capture_id, number),
            present[number],
            present[number].relative_to(root).as_posix(),
            altitude,
            capture.label,
        )
        for number in sorted(declared)
    )
    undeclared = tuple(present[number] for number in sorted(set(present) - declared))
    return CaptureFiles(capture_id, frames, missing, missing_count, undeclared)


def _declared(frames: int | str | tuple[int, ...], present: set[int]) -> tuple[set[int], tuple[int, ...], int]:
    """The present frames that are declared, the numbers of missing ones, and how many are missing."""
    if isinstance(frames, tuple):
        gone = tuple(sorted(set(frames) - present))
        return present & set(frames), gone, len(gone)
    if not isinstance(frames, int):
        return set(present), (), 0
    # A count: numbered from 0 or 1 where the files bear that out, otherwise in whatever order the camera counted.
    for first in (1, 0):
        expected = set(range(first, first + frames))
        if present and (present <= expected or expected <= present):
            gone = tuple(sorted(expected - present))
            return present & expected, gone, len(gone)
    taken = sorted(present)[:frames]
    return set(taken), (), max(0, frames - len(taken))


def _frame_pattern(dataset: Dataset, capture_id: str) -> str:
    """The filename template as a regular expression with a group `frame`."""
    values = dataset.template_values(capture_id)
    pattern, seen = "", False
    for text, field, _, _ in string.Formatter().parse(dataset.filename_template):
        pattern += re.escape(_nfc(text))
        if field == "frame":
            pattern += r"(?P=frame)" if seen else r"(?P<frame>\d{1,18})"
            seen = True
        elif field is not None:
            pattern += re.escape(_nfc(values[field]))
    return pattern


def _files(folder: Path, depth: int) -> list[Path]:
    """Regular files exactly `depth` levels below a folder; links to files count, links to folders are not followed."""
    found: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if depth == 1 and entry.is_file():
                found.append(Path(entry.path))
            elif depth > 1 and entry.is_dir(follow_symlinks=False):
                found += _files(Path(entry.path), depth - 1)
    return found


def _on_disk(root: Path, parts: tuple[str, ...]) -> Path | None:
    """A folder below `root`, found even where the disk spells its Unicode names otherwise (NFD); None where there is none."""
    folder = root
    for name in parts:
        direct = folder / name
        if not direct.is_dir():
            wanted = _nfc(name)
            named = [e for e in os.scandir(folder) if _nfc(e.name) == wanted and e.is_dir()]
            if not named:
                return None
            direct = Path(named[0].path)
        folder = direct
    return folder


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
