"""From an item to the picture file that it was made of, which verification reads.

A reference leads to the photograph it was turned and cropped from. The file must lie below its dataset's root: what a collection
says about its items is not trusted beyond that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outcrop.schema.dataset_files import files_of
from outcrop.schema.digests import SourceDigest, digest_of
from outcrop.schema.errors import InputError, RegistryError
from outcrop.schema.films import moment_path, second_of
from outcrop.schema.frames import dataset_root, on_disk
from outcrop.schema.item import AERIAL, Item, Kind
from outcrop.schema.origin import Origin, origin_of
from outcrop.schema.registry import Registry, read_registry, registry_at
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.folders import FOLDERS
from outcrop.store.maps import MAPS


@dataclass(frozen=True)
class Original:
    """A picture file, or a frame of a film (see `outcrop.embed.film`), and the digest of its bytes if it is still the file that
    was ingested ('' otherwise)."""

    path: Path
    digest: str


class Originals:
    """Finds the pictures of items of the datasets of a registry, which lie below the folder `datasets`.

    `folders` are those of datasets that no registry declares, by name.
    """

    def __init__(self, registry: Registry, datasets: Path, folders: Mapping[str, Path] | None = None) -> None:
        self._registry, self._datasets = registry, datasets
        self._folders = folders or {}
        self._roots: dict[str, Path] = {}
        self._listed: dict[str, dict[tuple[str, int], str]] = {}

    @classmethod
    def of(cls, registry: Path, datasets: Path) -> Originals:
        """For the registry in a file.

        Raises:
            RegistryError: it cannot be read.
        """
        return cls(read_registry(registry), datasets)

    @classmethod
    def of_collection(cls, collection: Collection, settings: Settings) -> Originals:
        """For the registry of the settings and the folders that a collection remembers; with folders, no registry is needed.

        Raises:
            RegistryError: the registry cannot be read.
        """
        folders = {name: known.folder for name, known in FOLDERS.all(collection).items()}
        needed = not (folders or MAPS.all(collection)) or settings.registry.exists()
        registry = read_registry(settings.registry) if needed else Registry(datasets={})
        return cls(registry, settings.datasets_folder, folders)

    def find(self, item: Item) -> Original:
        """The picture that an item, or the reference's parent, was made of.

        Raises:
            InputError: the item has no photograph (views of specimens), it is gone, or it would lie outside its dataset's root.
        """
        if item.kind is Kind.TILE:
            raise InputError(f"{item.key} is a tile of a map, which has no photograph")
        if item.kind not in AERIAL:
            raise InputError(
                f"{item.key} is a {item.kind}, rendered and not photographed; only photographs can be verified"
            )
        root = self._root(item.dataset)
        written = is_written(item)
        relative = self._photograph(item) if written else PurePosixPath(item.source)
        if not relative.parts or relative.is_absolute() or ".." in relative.parts or "\0" in item.source:
            raise InputError(f"{item.key}: its source {item.source!r} is not a path below {root}; ingest it again")
        path = on_disk(root, relative.parts) or root / relative
        try:
            inside = path.parent.resolve().is_relative_to(root.resolve())
            stat = path.stat() if inside else None
        except OSError:
            raise InputError(f"the original of {item.key} is not at {path}; set --datasets, or bring it back") from None
        if stat is None or not path.is_file():
            raise InputError(f"{item.key}: its source {item.source!r} leads out of {root}, or is not a file")
        same = not written and (stat.st_size, stat.st_mtime_ns) == (item.source_size, item.source_mtime_ns)
        digest = SourceDigest.parse(item.source_digest).file if same else ""
        if (second := second_of(item)) is not None:
            # One film has many frames, and their features are cached by digest.
            return Original(moment_path(path, second), digest and digest_of(f"{digest} t={second:g}"))
        return Original(path, digest)

    def _root(self, dataset: str) -> Path:
        if dataset not in self._roots:
            registry, datasets = self._declared(dataset)
            self._roots[dataset] = dataset_root(registry, dataset, datasets)
        return self._roots[dataset]

    def _declared(self, dataset: str) -> tuple[Registry, Path]:
        """What declares a dataset, and the folder of its root."""
        folder = self._folders.get(dataset) if dataset not in self._registry.datasets else None
        return (registry_at(folder, folder), folder) if folder is not None else (self._registry, self._datasets)

    def _source(self, item: Item) -> str:
        """The path of a photograph by its capture and frame, in a dataset in which any file counts; '' where there is none."""
        if item.dataset not in self._listed:
            registry, datasets = self._declared(item.dataset)
            frames = files_of(registry, item.dataset, datasets).frames
            self._listed[item.dataset] = {(each.key.capture_id, each.key.frame): each.source for each in frames}
        return self._listed[item.dataset].get((item.capture_id, item.frame), "")

    def _photograph(self, item: Item) -> PurePosixPath:
        """Where the photograph of a reference lies that was ingested as a written file: where the registry puts the frame."""
        registry, _ = self._declared(item.dataset)
        dataset = registry.dataset(item.dataset)
        if dataset.files == "any":
            return PurePosixPath(self._source(item))
        if item.capture_id not in dataset.images:
            raise RegistryError(f"the registry has no capture {item.capture_id!r} of dataset {item.dataset!r}")
        return dataset.folder(item.capture_id) / dataset.filename(item.capture_id, item.frame)


def is_written(item: Item) -> bool:
    """Whether an item is a reference that was ingested as a file of its own: its digest says nothing of the photograph."""
    return origin_of(item.kind, item.dataset, item.source) is Origin.WRITTEN
