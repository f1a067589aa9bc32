"""Finds the files of a dataset: what is declared and there, declared but missing, there but undeclared.

A registry says how many frames a capture has, not how they are numbered: cameras begin at 0, at 1, or anywhere, and leave
gaps. So the files that fit the template are listed, and the count is compared with them.
"""

from __future__ import annotations

import difflib
import unicodedata
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outcrop.schema.errors import RegistryError
from outcrop.schema.item import ImageKey
from outcrop.schema.naming import Naming
from outcrop.schema.places import below, is_remote, names_at
from outcrop.schema.positions import Position
from outcrop.schema.registry import Dataset, Registry
from outcrop.schema.sequences import Lazy

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


class CaptureFrames(Lazy[Frame]):
    """Frames of one capture, by their `numbers`; each is made when it is asked for, and takes eight bytes until then.

    Their files are in `folder`, whose path below the dataset's root is `below` ('' for the root itself), and have the names of
    `naming` but for those that are named `otherwise`. `like` is what the frames have in common.
    """

    def __init__(
        self, like: Frame, numbers: Sequence[int], naming: Naming, otherwise: Mapping[int, str], below: str
    ) -> None:
        self._like, self._naming, self._otherwise = like, naming, otherwise
        self._numbers = array("q", numbers)
        self._below = f"{below}/" if below else ""

    def __len__(self) -> int:
        return len(self._numbers)

    def _at(self, place: int) -> Frame:
        number, like = self._numbers[place], self._like
        name = self._otherwise.get(number) or self._naming.name(number)
        key = ImageKey(like.key.dataset, like.key.capture_id, number)
        return Frame(key, like.path / name, _nfc(self._below + name), like.altitude, like.label)


@dataclass(frozen=True)
class CaptureFiles:
    """One capture compared with the disk.

    `missing` names the frames that are declared but absent (numbers where they can be known); `missing_count` counts them;
    `undeclared` are files that fit the template but are not among the declared frames. `doubled` are sentences about files or
    folders of which several fit equally well: their names differ only in Unicode form or in letter case. `hint` is what to say
    of a capture of which no file fits: which files are there ('' otherwise).
    """

    capture_id: str
    frames: Sequence[Frame]
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
    naming = Naming.of(dataset, capture_id)
    present: dict[int, str] = {}
    hint = "" if folder is not None and folder.is_dir() else _no_folder(root, relative)
    if folder is not None and folder.is_dir():
        if not folder.resolve().is_relative_to(root.resolve()):
            raise RegistryError(
                f"capture {capture_id!r}: its folder {folder} leads out of the root {root}; move it below, or change the root"
            )
        names = names_at(folder, naming.depth)
        present = _present(naming, capture_id, names, doubled)
        hint = "" if present else _hint(dataset, capture_id, folder, names)
    declared, missing, missing_count = _declared(capture.frames, set(present))
    found: Sequence[Frame] = ()
    undeclared: tuple[Path, ...] = ()
    if folder is not None and present:
        below = folder.relative_to(root).as_posix().removeprefix(".")
        like = Frame(ImageKey(name, capture_id, 0), folder, below, dataset.altitude(capture_id), capture.label)
        otherwise = {number: text for number, text in present.items() if text != naming.name(number)}
        found = CaptureFrames(like, sorted(declared), naming, otherwise, below)
        undeclared = tuple(folder / present[number] for number in sorted(set(present) - declared))
    return CaptureFiles(capture_id, found, missing, missing_count, undeclared, tuple(doubled), hint)


def _present(naming: Naming, capture_id: str, names: Sequence[str], doubled: list[str]) -> dict[int, str]:
    """The names of a capture's files by frame. One that is the template's wins; else a single one that differs in letter case."""
    present: dict[int, str] = {}
    same: dict[int, list[str]] = {}
    alike: dict[int, list[str]] = {}
    for name in names:
        text = _nfc(name)
        number = naming.number(text)
        if number is None:
            if (number := naming.alike(text)) is not None:
                alike.setdefault(number, []).append(name)
        elif number in present:
            same.setdefault(number, [present[number]]).append(name)
        else:
            present[number] = name
    for number, some in same.items():
        # The spelling in NFC comes first, as in the registry; the other file is named, since nobody can see which is meant.
        first, *others = sorted(some, key=lambda name: _nfc(name) != name)
        present[number] = first
        doubled.append(_alike(capture_id, first, len(others), "Unicode form", f"the one in {_form(first)} is taken"))
    for number, some in alike.items():
        if number not in present and len(some) == 1:
            present[number] = some[0]
        elif number not in present:
            doubled.append(_alike(capture_id, some[0], len(some) - 1, "letter case", "none is taken; rename one"))
    return present


def _alike(capture_id: str, name: str, others: int, what: str, then: str) -> str:
    return f"{capture_id}: {name.rpartition('/')[2]} and {others} more differ only in {what}; {then}"


def _form(name: str) -> str:
    return "NFC" if _nfc(name) == name else "NFD"


def _hint(dataset: Dataset, capture_id: str, folder: Path, names: Sequence[str]) -> str:
    """What was looked for in a folder in which no file fits, and which files lie there instead, the most alike first."""
    wanted = dataset.filename(capture_id, 1).as_posix()
    if not names:
        return f"; looked for {wanted} first, and {folder} holds no files"
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
    return text if text.isascii() else unicodedata.normalize("NFC", text)
