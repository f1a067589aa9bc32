"""Finds the files of a dataset: what is declared and there, declared but missing, there but undeclared.

A registry says how many frames a capture has, not how they are numbered: cameras begin at 0, at 1, or anywhere, and leave
gaps. So the files that fit the template are listed, and the count is compared with them.
"""

from __future__ import annotations

import difflib
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outcrop.schema.errors import RegistryError
from outcrop.schema.item import ImageKey
from outcrop.schema.places import below, files_at, is_remote
from outcrop.schema.positions import Position
from outcrop.schema.registry import Dataset, Registry

MAX_NAMED = 3
"""Files or folders that a message names where none fits."""
MAX_COMPARED = 2000
"""Names that are compared with the one that was looked for."""


@dataclass(frozen=True)
class Frame:
    """One file of a capture: `path` is where it lies, `source` its path relative to the dataset's root, in NFC however the disk
    spells it; `altitude` in metres, or None; `position` as a file of positions states it."""

    key: ImageKey
    path: Path
    source: str
    altitude: float | None
    label: str | None
    position: Position | None = None


@dataclass(frozen=True)
class CaptureFiles:
    """One capture compared with the disk.

    `missing` names the frames that are declared but absent (numbers where they can be known); `missing_count` counts them;
    `undeclared` are files that fit the template but are not among the declared frames. `doubled` are sentences about files or
    folders of which several fit equally well: their names differ only in Unicode form or in letter case. `hint` is what to say
    of a capture of which no file fits: which files are there ('' otherwise).
    """

    capture_id: str
    frames: tuple[Frame, ...]
    missing: tuple[int, ...]
    missing_count: int
    undeclared: tuple[Path, ...]
    doubled: tuple[str, ...] = ()
    hint: str = ""


def dataset_root(registry: Registry, name: str, datasets: Path) -> Path:
    """The folder of a dataset, below the folder of all datasets.

    Raises:
        RegistryError: unknown dataset, or its folder does not exist.
    """
    dataset = registry.dataset(name)
    named = below(datasets, dataset.root)
    root: Path | None = named
    if not is_remote(named):
        root = on_disk(datasets, PurePosixPath(dataset.root).parts) if datasets.is_dir() else None
    if root is None or not root.is_dir():
        if dataset.root == ".":
            raise RegistryError(f"dataset {name!r}: its folder {datasets} is not there; is its disk mounted?")
        held = f" ({datasets} holds {_most_alike(dataset.root, there)})" if (there := _folders(datasets)) else ""
        raise RegistryError(
            f"dataset {name!r}: its root {datasets / dataset.root} is not a folder; "
            f"set --datasets to the folder that holds {dataset.root!r}{held}"
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
    doubled: list[str] = []
    relative = dataset.folder(capture_id)
    folder = on_disk(root, relative.parts, doubled)
    capture = dataset.images[capture_id]
    present: dict[int, Path] = {}
    hint = "" if folder is not None and folder.is_dir() else _no_folder(root, relative)
    if folder is not None and folder.is_dir():
        if not folder.resolve().is_relative_to(root.resolve()):
            raise RegistryError(
                f"capture {capture_id!r}: its folder {folder} leads out of the root {root}; move it below, or change the root"
            )
        depth = len(_frame_pattern(dataset, capture_id).split("/"))
        files = sorted(files_at(folder, depth))
        present = _present(dataset, capture_id, folder, files, doubled)
        hint = "" if present else _hint(dataset, capture_id, folder, files)
    declared, missing, missing_count = _declared(capture.frames, set(present))
    altitude = dataset.altitude(capture_id)
    frames = tuple(
        Frame(
            ImageKey(name, capture_id, number),
            present[number],
            _nfc(present[number].relative_to(root).as_posix()),
            altitude,
            capture.label,
        )
        for number in sorted(declared)
    )
    undeclared = tuple(present[number] for number in sorted(set(present) - declared))
    return CaptureFiles(capture_id, frames, missing, missing_count, undeclared, tuple(doubled), hint)


def _present(
    dataset: Dataset, capture_id: str, folder: Path, files: Sequence[Path], doubled: list[str]
) -> dict[int, Path]:
    """The files of a capture by frame. One that has the template's name wins; else a single one that differs in letter case."""
    expression = re.compile(_frame_pattern(dataset, capture_id), re.IGNORECASE)
    exact: dict[int, list[Path]] = {}
    alike: dict[int, list[Path]] = {}
    for path in files:
        text = _nfc(path.relative_to(folder).as_posix())
        if match := expression.fullmatch(text):
            number = int(match["frame"])
            named = _nfc(dataset.filename(capture_id, number).as_posix())
            if named == text:
                exact.setdefault(number, []).append(path)
            elif named.casefold() == text.casefold():
                alike.setdefault(number, []).append(path)
    present: dict[int, Path] = {}
    for number, paths in exact.items():
        # The spelling in NFC comes first, as in the registry; the other file is named, since nobody can see which is meant.
        first, *others = sorted(paths, key=lambda path: _nfc(path.as_posix()) != path.as_posix())
        present[number] = first
        if others:
            doubled.append(
                _alike(capture_id, first, len(others), "Unicode form", f"the one in {_form(first)} is taken")
            )
    for number, paths in alike.items():
        if number not in exact and len(paths) == 1:
            present[number] = paths[0]
        elif number not in exact:
            doubled.append(_alike(capture_id, paths[0], len(paths) - 1, "letter case", "none is taken; rename one"))
    return present


def _alike(capture_id: str, path: Path, others: int, what: str, then: str) -> str:
    return f"{capture_id}: {path.name} and {others} more differ only in {what}; {then}"


def _form(path: Path) -> str:
    return "NFC" if _nfc(path.name) == path.name else "NFD"


def _hint(dataset: Dataset, capture_id: str, folder: Path, files: Sequence[Path]) -> str:
    """What was looked for in a folder in which no file fits, and which files lie there instead, the most alike first."""
    wanted = dataset.filename(capture_id, 1).as_posix()
    if not files:
        return f"; looked for {wanted} first, and {folder} holds no files"
    names = [path.relative_to(folder).as_posix() for path in files]
    return f"; looked for {wanted} first, and {folder} holds {_most_alike(wanted, names)}"


def _no_folder(root: Path, relative: PurePosixPath) -> str:
    """Which folder was looked for, and which lie there instead, the most alike first."""
    parent = (root / relative).parent
    said = f"; there is no folder {root / relative}"
    return said + (f", and {parent} holds {_most_alike(relative.name, names)}" if (names := _folders(parent)) else "")


def _folders(parent: Path) -> list[str]:
    """The folders in a folder, without hidden ones; none where it cannot be listed."""
    try:
        return sorted(each.name for each in parent.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return []


def _most_alike(wanted: str, names: Sequence[str]) -> str:
    """``a.jpg, b.jpg and 3 more``."""
    likeness = {name: difflib.SequenceMatcher(None, wanted, name).ratio() for name in names[:MAX_COMPARED]}
    shown = sorted(likeness, key=lambda name: (-likeness[name], name))[:MAX_NAMED]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more


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


def on_disk(root: Path, parts: Sequence[str], doubled: list[str] | None = None) -> Path | None:
    """A file or folder below `root`, found even where the disk spells its Unicode names otherwise (NFD); None where it is absent.

    Where several names differ only in form, the one as asked for, else the first, is taken, and a sentence is added to `doubled`.
    """
    place = root
    for name in parts:
        direct = place / name
        named: list[str] = []
        if not name.isascii() and place.is_dir():
            wanted = _nfc(name)
            named = sorted(entry.name for entry in place.iterdir() if _nfc(entry.name) == wanted)
        if not direct.exists():
            if not named:
                return None
            direct = place / named[0]
        if len(named) > 1 and doubled is not None:
            doubled.append(f"{direct} and {len(named) - 1} more differ only in Unicode form; the first is taken")
        place = direct
    return place


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
