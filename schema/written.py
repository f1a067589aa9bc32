"""References that were written as files, ``references_<dataset>/R<folder>/<scene>_<altitude>_<index>_rot###_crop##.jpg``.

This is the layout of teams that write every turned crop as a picture: the capture's name is taken apart into scene and altitude
(its label, where the registry gives one; 0 where there is neither). Folder and file names come from the registry, so a file
leads back to its capture and frame, and so to the same key as the reference that is turned without being written.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outcrop.schema.errors import InputError, RegistryError
from outcrop.schema.item import part
from outcrop.schema.places import walk
from outcrop.schema.registry import Dataset, Registry

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
"""Endings of the files that may be references."""
_NAME = re.compile(r"(?P<capture>.+)_(?P<frame>\d{1,18})_rot(?P<rotation>\d{3}(?:\.\d{1,3})?)_crop(?P<crop>\d{1,9})\Z")


@dataclass(frozen=True)
class WrittenReference:
    """One file: what it shows, where it lies, and its path relative to the folder that holds ``references_<dataset>``."""

    capture_id: str
    frame: int
    rotation: float
    crop: int
    path: Path
    source: str


@dataclass(frozen=True)
class WrittenReferences:
    """The references of a dataset that lie below a folder; `unknown` are picture files that no capture's name explains."""

    files: tuple[WrittenReference, ...]
    unknown: tuple[Path, ...]


def written_folder(name: str) -> str:
    """``references_<dataset>``."""
    return f"references_{part(name)}"


def written_path(dataset: Dataset, name: str, capture_id: str, frame: int, rotation: float, crop: int) -> PurePosixPath:
    """Where the file of a reference belongs, relative to the folder of all references."""
    folder = dataset.template_values(capture_id)["folder"]
    turned = f"{rotation:07.3f}".rstrip("0").rstrip(".")
    file = f"{_file_prefix(dataset, capture_id)}_{frame:04d}_rot{turned}_crop{crop:02d}.jpg"
    return PurePosixPath(written_folder(name), f"R{part(folder)}", file)


def list_written(registry: Registry, name: str, folder: Path) -> WrittenReferences:
    """The written references of a dataset below `folder`, which holds ``references_<dataset>`` or is it; opens no file.

    Raises:
        RegistryError: unknown dataset, or two captures whose files would have the same names.
        InputError: there is no such folder.
    """
    dataset = registry.dataset(name)
    name = unicodedata.normalize("NFC", name)
    inner = folder / written_folder(name)
    if not inner.is_dir() and folder.name == written_folder(name):
        inner = folder
    if not inner.is_dir():
        raise InputError(
            f"no folder {folder / written_folder(name)}; give the folder that holds {written_folder(name)!r}"
        )
    captures = _captures(dataset)
    found: dict[tuple[str, int, float, int], WrittenReference] = {}
    unknown: list[Path] = []
    for path in _pictures(inner):
        match = _NAME.match(unicodedata.normalize("NFC", path.stem))
        capture_id = captures.get(match["capture"]) if match else None
        if match is None or capture_id is None or not float(match["rotation"]) < 360:
            unknown.append(path)
            continue
        source = (PurePosixPath(written_folder(name)) / path.relative_to(inner).as_posix()).as_posix()
        reference = WrittenReference(
            capture_id, int(match["frame"]), float(match["rotation"]), int(match["crop"]), path, source
        )
        key = (capture_id, reference.frame, reference.rotation, reference.crop)
        if found.setdefault(key, reference) is not reference:
            unknown.append(path)  # the same reference twice, as .jpg and .png, say
    order = {capture_id: number for number, capture_id in enumerate(dataset.images)}
    files = sorted(found.values(), key=lambda r: (order[r.capture_id], r.frame, r.rotation, r.crop))
    return WrittenReferences(tuple(files), tuple(unknown))


def _captures(dataset: Dataset) -> dict[str, str]:
    """The captures by the beginning of their files' names."""
    found: dict[str, str] = {}
    for capture_id in dataset.images:
        prefix = _file_prefix(dataset, capture_id)
        if prefix in found:
            raise RegistryError(
                f"the written references of captures {found[prefix]!r} and {capture_id!r} would both be named {prefix}_…; "
                "give one of them another label in the registry"
            )
        found[prefix] = capture_id
    return found


def _file_prefix(dataset: Dataset, capture_id: str) -> str:
    """``<scene>_<altitude>``: the capture's scene, and its label, its altitude or 0."""
    values = dataset.template_values(capture_id)
    altitude = dataset.altitude(capture_id)
    label = values["label"] or (f"{altitude:g}" if altitude is not None else "0")
    return f"{part(values['scene'])}_{part(label)}"


def _pictures(folder: Path) -> list[Path]:
    """The picture files below a folder, by name; links to folders are not followed."""
    found = []
    for inner, folders, names in walk(folder):
        folders.sort()
        found += [inner / name for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES]
    return found
