"""A dataset compared with the disk, whether templates explain its files' names or any file counts; with its positions."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from outcrop.schema.any_files import AnyFile, Holding, look_into
from outcrop.schema.frames import CaptureFiles, Frame, dataset_root, list_captures
from outcrop.schema.item import ImageKey
from outcrop.schema.positions import matched, read_positions
from outcrop.schema.registry import Capture, Dataset, Registry, registry_at
from outcrop.schema.sequences import Joined, Made


@dataclass(frozen=True)
class DatasetFiles:
    """A dataset's entry of the registry, its root, and its captures with their files, in order.

    Where any file counts, the entry has the captures that were found, and `holding` says what else the folder holds.
    `remarks` are about positions.
    """

    name: str
    dataset: Dataset
    root: Path
    captures: tuple[CaptureFiles, ...]
    holding: Holding | None = None
    remarks: tuple[str, ...] = ()

    @property
    def frames(self) -> Sequence[Frame]:
        """The photographs, capture by capture; each is made anew when it is asked for."""
        return Joined(*(capture.frames for capture in self.captures))


def dataset_files(registry: Path, name: str, datasets: Path, positions: Path | None = None) -> DatasetFiles:
    """Lists a dataset; opens no photograph. `positions` wins over the file of positions that the registry names.

    `registry` is a registry file and `datasets` the folder of the roots; or both are one folder, which is taken as it stands.

    Raises:
        RegistryError: the registry, the dataset's name, a template or a folder is wrong. InputError: the positions are.
    """
    return files_of(registry_at(registry, datasets), name, datasets, positions)


def files_of(known: Registry, name: str, datasets: Path, positions: Path | None = None) -> DatasetFiles:
    """The same with a registry that has been read.

    Raises:
        RegistryError, InputError: as `dataset_files`.
    """
    name = unicodedata.normalize("NFC", name)
    dataset, root = known.dataset(name), dataset_root(known, name, datasets)
    if dataset.files == "any":
        holding = look_into(dataset, name, root)
        found = _of_holding(name, dataset, root, holding)
    else:
        found = DatasetFiles(name, dataset, root, tuple(list_captures(known, name, datasets)))
    file = positions if positions is not None else root / dataset.positions if dataset.positions is not None else None
    return _placed(found, file) if file is not None else found


def registry_with(found: DatasetFiles) -> Registry:
    """A registry that holds the one dataset, with the captures that were found."""
    return Registry.model_construct(datasets={found.name: found.dataset})  # found, not written: its folders are stated


def _of_holding(name: str, dataset: Dataset, root: Path, holding: Holding) -> DatasetFiles:
    captures = []
    images: dict[str, Capture] = {}
    for capture_id, files in holding.captures.items():
        captures.append(CaptureFiles(capture_id, Made(files, partial(_frame, name)), (), 0, ()))
        folder = PurePosixPath(files[0].source).parent.as_posix()
        images[capture_id] = Capture(frames="all", altitude=files[0].altitude, label=files[0].label, folder=folder)
    return DatasetFiles(name, dataset.model_copy(update={"images": images}), root, tuple(captures), holding)


def _frame(name: str, file: AnyFile) -> Frame:
    return Frame(ImageKey(name, file.capture_id, file.frame), file.path, file.source, file.altitude, file.label)


def _placed(found: DatasetFiles, file: Path) -> DatasetFiles:
    """The dataset with the positions of a file, and what is to be said of names that do not match."""
    placed = matched(read_positions(file), [frame.source for frame in found.frames])

    def with_positions(frames: Sequence[Frame]) -> tuple[Frame, ...]:
        return tuple(replace(frame, position=placed.by_source.get(frame.source)) for frame in frames)

    captures = tuple(replace(capture, frames=with_positions(capture.frames)) for capture in found.captures)
    return replace(found, captures=captures, remarks=placed.remarks)
