"""A folder of photographs as it stands: its sub-folders are the captures, and any file name will do.

The same listing serves `ingest images FOLDER` and a dataset of the registry with ``"files": "any"``. A capture is named after its
folder's path below the root (files in the root itself have the dataset's name); what else names say is in
`outcrop.schema.any_names`. Two files that would have one key are refused, both by name; other keys are not touched by that.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outcrop.schema.any_names import PICTURES, RAW, Named, named, named_altitude
from outcrop.schema.errors import InputError, RegistryError
from outcrop.schema.item import FIELDS, image_key
from outcrop.schema.places import walk
from outcrop.schema.registry import Dataset


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


@dataclass(frozen=True)
class Holding:
    """What a folder holds: `files` by capture and frame, those that are refused, and the other files counted by kind.

    `empty` are the folders below the root in which nothing lies (a disk that is not mounted, perhaps).
    """

    files: tuple[AnyFile, ...]
    refused: tuple[Unusable, ...]
    others: Mapping[str, int]
    empty: tuple[Path, ...]


def look_into(dataset: Dataset, name: str, root: Path) -> Holding:
    """Lists a folder and all folders below it; opens no file. Links to files count, links to folders are not followed.

    Raises:
        RegistryError: a folder cannot be listed.
    """
    others: Counter[str] = Counter()
    empty: list[Path] = []
    found: dict[str, list[AnyFile]] = {}
    refused: list[Unusable] = []
    for path in _photographs(root, others, empty):
        try:
            file, key = _keyed(dataset, name, root, path)
        except InputError as error:
            refused.append(Unusable(path, "", str(error)))
            continue
        found.setdefault(key, []).append(file)
    for key, same in found.items():
        if len(same) > 1:
            names = ", ".join(file.source for file in same)
            reason = f"{len(same)} files would have this key ({names}); rename or move all but one"
            refused += [Unusable(file.path, key, reason) for file in same]
    files = [same[0] for same in found.values() if len(same) == 1]
    files.sort(key=lambda file: (file.capture_id, file.frame))
    return Holding(tuple(files), tuple(refused), dict(sorted(others.items())), tuple(empty))


def _photographs(root: Path, others: Counter[str], empty: list[Path]) -> Iterator[Path]:
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
        yield from _of_folder(place, sorted(name for name in files if not name.startswith(".")), others)


def _of_folder(place: Path, names: Sequence[str], others: Counter[str]) -> Iterator[Path]:
    developed = {Path(name).stem.casefold() for name in names if _ending(name) in PICTURES - RAW}
    for name in names:
        ending = _ending(name)
        if ending in RAW and Path(name).stem.casefold() in developed:
            others["raw photograph beside its picture"] += 1
        elif ending in PICTURES and (place / name).is_file():
            yield place / name
        else:
            others[ending or "without an ending"] += 1


def _ending(name: str) -> str:
    return Path(name).suffix.lower()


def _keyed(dataset: Dataset, name: str, root: Path, path: Path) -> tuple[AnyFile, str]:
    """A photograph, and its key.

    Raises:
        InputError: its name cannot be stored.
    """
    source = _nfc(path.relative_to(root).as_posix())
    try:
        source.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name {source!r} is not valid Unicode text; rename the file") from None
    folder = PurePosixPath(source).parent
    # Without a folder below the root, the dataset's own name is what may stand before a number.
    said = named(PurePosixPath(source).name, folder.name or name, plain=_ending(source) not in RAW)
    capture_id = _capture(name, folder, said)
    stated = dataset.images.get(capture_id)
    altitude = stated.altitude if stated is not None else None
    if altitude is None:
        altitude = named_altitude(said.flight, *reversed(folder.parts))
    key = image_key(name, capture_id, said.frame)
    for field, text in (("key", key), ("capture_id", capture_id), ("source", source)):
        if (size := len(text.encode())) > (most := FIELDS[field].max_length):
            raise InputError(
                f"its {field} has {size} bytes, more than {most}; give the file or its folders shorter names"
            )
    return AnyFile(path, source, capture_id, said.frame, altitude, stated.label if stated is not None else None), key


def _capture(name: str, folder: PurePosixPath, said: Named) -> str:
    """The capture of a file: its folder below the root, and the flight that the file itself names."""
    parts = [part for part in (*folder.parts, said.flight) if part]
    if not parts:
        return name
    # A folder with the dataset's name must not meet the files of the root.
    return f"./{parts[0]}" if parts == [name] else "/".join(parts)


def captures_of(files: Iterable[AnyFile]) -> dict[str, list[AnyFile]]:
    """Photographs by capture, in their order."""
    found: dict[str, list[AnyFile]] = {}
    for file in files:
        found.setdefault(file.capture_id, []).append(file)
    return found


def _nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
