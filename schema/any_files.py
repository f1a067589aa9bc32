"""A folder of photographs as it stands: its sub-folders are the captures, and any file name will do.

The same listing serves `ingest images FOLDER` and a dataset of the registry with ``"files": "any"``. A capture is named after its
folder's path below the root (files in the root itself have the dataset's name); what else names say is in
`outcrop.schema.any_names`. Two files that would have one key are refused, both by name; other keys are not touched by that.
"""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from outcrop.schema.any_names import PICTURES, RAW, Named, named, named_altitude
from outcrop.schema.errors import InputError, RegistryError
from outcrop.schema.item import FIELDS, image_key
from outcrop.schema.places import is_remote, walk
from outcrop.schema.registry import Dataset
from outcrop.schema.sequences import Joined, Lazy


@dataclass(frozen=True)
class AnyFile:
    """One photograph of a folder: its path, its path below the root in NFC, its capture, frame and altitude (metres or None)."""

    path: Path
    source: str
    capture_id: str
    frame: int
    altitude: float | None
    label: str | None


@dataclass(frozen=True)
class Unusable:
    """A photograph that cannot have its key, which is '' where it has none at all, and why."""

    path: Path
    key: str
    reason: str


class AnyFiles(Lazy[AnyFile]):
    """The photographs of one capture in one folder, by frame; of each only its frame and its name are held.

    `like` is what they have in common: their folder, its path below the root ('' for the root itself), capture, altitude, label.
    """

    def __init__(self, like: AnyFile) -> None:
        self.like = like
        self.frames = array("q")
        self.names: list[str] = []

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, name: str, frame: int) -> None:
        """Takes a file of the folder."""
        self.frames.append(frame)
        self.names.append(name)

    def without(self, frames: Container[int]) -> AnyFiles:
        """The files in the order of their frames, less those of some."""
        kept = AnyFiles(self.like)
        for frame, name in sorted(zip(self.frames, self.names, strict=True)):
            if frame not in frames:
                kept.add(name, frame)
        return kept

    def _at(self, place: int) -> AnyFile:
        like, name = self.like, self.names[place]
        source = _nfc(f"{like.source}/{name}" if like.source else name)
        return AnyFile(like.path / name, source, like.capture_id, self.frames[place], like.altitude, like.label)


@dataclass(frozen=True)
class Holding:
    """What a folder holds: its photographs by capture, each by frame; those that are refused; the other files counted by kind.

    `empty` are the folders below the root in which nothing lies (a disk that is not mounted, perhaps).
    """

    captures: Mapping[str, Sequence[AnyFile]]
    refused: tuple[Unusable, ...]
    others: Mapping[str, int]
    empty: tuple[Path, ...]

    @property
    def files(self) -> Sequence[AnyFile]:
        """All photographs."""
        return Joined(*self.captures.values())


def look_into(dataset: Dataset, name: str, root: Path) -> Holding:
    """Lists a folder and all folders below it; opens no file. Links to files count, links to folders are not followed.

    Raises:
        RegistryError: a folder cannot be listed.
    """
    others: Counter[str] = Counter()
    empty: list[Path] = []
    found: dict[str, list[AnyFiles]] = {}
    refused: list[Unusable] = []
    for place, names in _photographs(root, others, empty):
        for files in _of_captures(dataset, name, root, place, names, refused):
            found.setdefault(files.like.capture_id, []).append(files)
    captures = {capture: _distinct(name, found[capture], refused) for capture in sorted(found)}
    return Holding(
        {each: files for each, files in captures.items() if files},
        tuple(refused),
        dict(sorted(others.items())),
        tuple(empty),
    )


def _distinct(name: str, parts: Sequence[AnyFiles], refused: list[Unusable]) -> Sequence[AnyFile]:
    """The photographs of a capture by frame, from all its folders; files of one frame, and so of one key, are refused."""
    counts = Counter(chain.from_iterable(files.frames for files in parts))
    doubled = {frame for frame, count in counts.items() if count > 1} if len(counts) < counts.total() else set()
    same: dict[int, list[AnyFile]] = {}
    for file in chain.from_iterable(parts) if doubled else ():
        if file.frame in doubled:
            same.setdefault(file.frame, []).append(file)
    for frame, some in same.items():
        names = ", ".join(file.source for file in some)
        reason = f"{len(some)} files would have this key ({names}); rename or move all but one"
        refused += [Unusable(file.path, image_key(name, file.capture_id, frame), reason) for file in some]
    kept = [files.without(doubled) for files in parts]
    return kept[0] if len(kept) == 1 else sorted(chain.from_iterable(kept), key=lambda file: file.frame)


def _photographs(root: Path, others: Counter[str], empty: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    """The files that are taken for photographs, folder by folder; the others are counted, and empty folders noted."""

    def unreadable(error: OSError) -> None:
        raise RegistryError(f"{error.filename} cannot be listed ({error.strerror})") from None

    for place, folders, files in walk(root, onerror=unreadable):
        if not folders and not files and place != root:
            empty.append(place)
        others.update("hidden" for name in (*folders, *files) if name.startswith("."))
        links = [name for name in folders if not name.startswith(".") and (place / name).is_symlink()]
        others.update("link to a folder" for _ in links)
        stores = [name for name in folders if name.endswith(".db")]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in (*links, *stores))
        yield place, _of_folder(place, sorted(name for name in files if not name.startswith(".")), others)


def _of_folder(place: Path, names: Sequence[str], others: Counter[str]) -> list[str]:
    found: list[str] = []
    stems: set[str] | None = None
    links = _links(place) if not is_remote(place) else frozenset()
    for name in names:
        ending = _ending(name)
        if ending in RAW:
            if stems is None:
                stems = {_stem(other) for other in names if _ending(other) in PICTURES - RAW}
            if _stem(name) in stems:
                others["raw photograph beside its picture"] += 1
                continue
        if ending in PICTURES and (name not in links or (place / name).is_file()):
            found.append(name)
        else:
            others[ending or "without an ending"] += 1
    return found


def _links(folder: Path) -> frozenset[str]:
    """The names in a folder that are not regular files: links, which may lead nowhere, pipes, sockets."""
    with os.scandir(folder) as entries:
        return frozenset(entry.name for entry in entries if not entry.is_file(follow_symlinks=False))


def _stem(name: str) -> str:
    return Path(name).stem.casefold()


def _ending(name: str) -> str:
    dot = name.rfind(".")  # as `Path.suffix`, which takes ten times as long, and is asked of a million
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def _of_captures(
    dataset: Dataset, name: str, root: Path, place: Path, names: Sequence[str], refused: list[Unusable]
) -> Iterable[AnyFiles]:
    """The photographs of one folder, by the captures that their names say; names that cannot be stored are refused."""
    below = place.relative_to(root).as_posix().removeprefix(".")
    folder = PurePosixPath(_nfc(below))
    own = (
        folder.name or name
    )  # without a folder below the root, the dataset's own name is what may stand before a number
    found: dict[str, AnyFiles] = {}
    for text in names:
        try:
            if not text.isascii() or not below.isascii():
                _require_unicode(_nfc(f"{below}/{text}" if below else text))
            said = named(_nfc(text), own, plain=_ending(text) not in RAW)
            files = found.get(said.flight)
            if files is None:
                files = AnyFiles(_like(dataset, name, place, below, folder, said))
            _require_room(name, files.like, text, said.frame)
        except InputError as error:
            refused.append(Unusable(place / text, "", str(error)))
            continue
        found[said.flight] = files
        files.add(text, said.frame)
    return found.values()


def _like(dataset: Dataset, name: str, place: Path, below: str, folder: PurePosixPath, said: Named) -> AnyFile:
    """What the files of a folder that name one flight have in common."""
    capture_id = _capture(name, folder, said)
    stated = dataset.images.get(capture_id)
    altitude = stated.altitude if stated is not None else None
    if altitude is None:
        altitude = named_altitude(said.flight, *reversed(folder.parts))
    return AnyFile(place, below, capture_id, 0, altitude, stated.label if stated is not None else None)


def _require_unicode(source: str) -> None:
    try:
        source.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name {source!r} is not valid Unicode text; rename the file") from None


SURELY = 200
"""Characters of a path in ASCII that always fit: in a key each of them may take three bytes."""


def _require_room(name: str, like: AnyFile, text: str, frame: int) -> None:
    """Refuses a file whose name is too long.

    Raises:
        InputError: something that is made of it is.
    """
    if (
        len(like.source) + len(text) + len(name) < SURELY
        and text.isascii()
        and like.source.isascii()
        and name.isascii()
    ):
        return
    source = _nfc(f"{like.source}/{text}" if like.source else text)
    key = image_key(name, like.capture_id, frame)
    for field, value in (("key", key), ("capture_id", like.capture_id), ("source", source)):
        if (size := len(value.encode())) > (most := FIELDS[field].max_length):
            raise InputError(
                f"its {field} has {size} bytes, more than {most}; give the file or its folders shorter names"
            )


def _capture(name: str, folder: PurePosixPath, said: Named) -> str:
    """The capture of a file: its folder below the root, and the flight that the file itself names."""
    parts = [part for part in (*folder.parts, said.flight) if part]
    if not parts:
        return name
    # A folder with the dataset's name must not meet the files of the root.
    return f"./{parts[0]}" if parts == [name] else "/".join(parts)


def _nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
