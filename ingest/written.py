"""`ingest references --from`: references that lie on disk as turned and cropped pictures, in the layout of `schema.written`.

Their keys are those of the references that `ingest references` makes itself, so both meet in the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from outcrop.embed.crops import prepare
from outcrop.embed.images import decode, inspect, thumbnail
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.reader_versions import reader_version
from outcrop.ingest.dataset import frame_item
from outcrop.ingest.photos import complete, with_metadata
from outcrop.ingest.references import box_of, reference_item
from outcrop.ingest.sources import MAX_BYTES, Contents, Listing, Outcome, Prepared, Todo, Wanted
from outcrop.schema.crops import CropSpec, crop_numbered
from outcrop.schema.dataset_files import dataset_files, registry_with
from outcrop.schema.errors import InputError, PictureError, RegistryError
from outcrop.schema.frames import Frame
from outcrop.schema.item import ImageKey, Item
from outcrop.schema.registry import Dataset, Registry, registry_at
from outcrop.schema.written import WrittenReference, list_written, written_folder


@dataclass(frozen=True)
class WrittenSource:
    """The written references of one photograph, which need not be there itself: `photo` is then what the registry says of it.

    With `or_cut`, rows that were cut from the photograph are in order, too, until the written picture is newer than they are.
    """

    files: tuple[WrittenReference, ...]
    photo: Item
    photo_path: Path | None
    altitude_stated: bool
    whole: bool = True
    or_cut: bool = False
    atomic: ClassVar[bool] = False
    stage: ClassVar[str] = "decode"

    @property
    def path(self) -> Path:
        """The first of its files."""
        return self.files[0].path

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self.files)

    @property
    def wanted(self) -> Sequence[Wanted]:
        """A reference for each file, in their order."""
        return [
            Wanted(
                replace(reference_item(self.photo, file.rotation, file.crop), source=file.source),
                file.path,
                reader=partial(reader_version, file.path),
                altitude_stated=self.altitude_stated,
                instead=self._cut(file),
            )
            for file in self.files
        ]

    def _cut(self, file: WrittenReference) -> Wanted | None:
        """The reference as `ingest references` cuts it from the photograph; None where that does not count, or is not on disk."""
        crop = crop_numbered(file.crop)
        if not self.or_cut or self.photo_path is None or crop is None:
            return None
        return Wanted(
            reference_item(self.photo, file.rotation, file.crop),
            self.photo_path,
            CropSpec(file.rotation, crop).digest,
            partial(reader_version, self.photo_path, cropped=True),
            altitude_stated=self.altitude_stated,
        )

    def read(self, path: Path) -> Contents:
        """See `outcrop.ingest.sources.Source.read`."""
        return Contents.read(path)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.sources.Source.make`."""
        for each in todo:
            decoded = decode(contents.data, name=str(each.wanted.path), at_least=encoder.space.size)
            made = self._of_photo(complete(each.wanted, decoded, contents))
            small = thumbnail(decoded.image) if thumbnails else None
            yield Prepared(made, prepare(decoded, encoder.space), small, remarks=decoded.remarks)

    def _of_photo(self, item: Item) -> Item:
        """The item with what its photograph says of itself, where that can be read: place, time, heading, and the crop's box."""
        photo = self._photo
        if photo is None:
            return item
        crop = crop_numbered(item.crop)
        width, height = photo.extra["width"], photo.extra["height"]
        box = {"crop_box": box_of(CropSpec(item.rotation, crop).window(width, height))} if crop is not None else {}
        return replace(
            item,
            altitude=photo.altitude,
            latitude=photo.latitude,
            longitude=photo.longitude,
            captured_at=photo.captured_at,
            extra={**photo.extra, **box},
        )

    @cached_property
    def _photo(self) -> Item | None:
        """The photograph's item with what its header says; None where it cannot be read."""
        if self.photo_path is None:
            return None
        try:
            if self.photo_path.stat().st_size > MAX_BYTES:
                return None
            width, height, facts = inspect(self.photo_path.read_bytes(), name=str(self.photo_path))
        except (PictureError, OSError):
            return None
        return with_metadata(self.photo, width, height, facts, self.altitude_stated)


def list_written_references(
    registry: Path,
    name: str,
    datasets: Path,
    folder: Path,
    *,
    limit: int | None = None,
    only: Iterable[str] | None = None,
    keep_others: bool = False,
    or_cut: bool = False,
) -> Listing:
    """Lists the written references of a dataset below `folder`; `limit`, `only` and `keep_others` as in `list_references`,
    `or_cut` as in `WrittenSource`.

    Photographs that are on disk lend their references what they say of themselves (place, time, heading).

    Raises:
        RegistryError: the registry or the dataset's name is wrong. InputError: no such folder, or no reference in it.
    """
    known, frames = _frames(registry, name, datasets)
    dataset = known.dataset(name)
    found = list_written(known, name, folder)
    keys = set(only) if only is not None else None
    sources: list[WrittenSource] = []
    for (capture_id, number), group in groupby(found.files, key=lambda file: (file.capture_id, file.frame)):
        frame = frames.get((capture_id, number))
        photo = frame_item(frame) if frame is not None else _registered(dataset, name, capture_id, number)
        files = tuple(group)
        if keys is not None:
            files = tuple(f for f in files if reference_item(photo, f.rotation, f.crop).key in keys)
        if files:
            stated = dataset.altitude(capture_id) is not None
            whole = keys is None and not keep_others
            sources.append(
                WrittenSource(files, photo, frame.path if frame is not None else None, stated, whole, or_cut)
            )
    if not sources and keys is None:
        raise InputError(
            f"no file below {folder} is a reference of dataset {name!r}; they are named "
            f"{written_folder(name)}/R<folder>/<scene>_<altitude>_<index>_rot###_crop##.jpg"
        )
    if limit is not None:
        if limit < 1:
            raise InputError(f"--limit must be at least 1, not {limit}")
        sources = sources[:limit]
    remarks = []
    if found.unknown:
        remarks.append(
            f"{len(found.unknown)} pictures below {folder} do not belong to a capture of the registry "
            f"(first: {found.unknown[0].name}); they are left out"
        )
    return Listing(name, sources, (), found.unknown, remarks)


def _frames(registry: Path, name: str, datasets: Path) -> tuple[Registry, dict[tuple[str, int], Frame]]:
    """The registry, and the photographs that are on disk, by capture and frame; none where the dataset's root is missing."""
    known = registry_at(registry, datasets)
    try:
        found = dataset_files(registry, name, datasets)
    except RegistryError:
        return known, {}
    frames = {(frame.key.capture_id, frame.key.frame): frame for frame in found.frames}
    return (registry_with(found) if found.holding is not None else known), frames


def _registered(dataset: Dataset, name: str, capture_id: str, number: int) -> Item:
    """The item of a photograph that is not on disk, as the registry has it."""
    label = dataset.images[capture_id].label
    return frame_item(Frame(ImageKey(name, capture_id, number), Path(), "", dataset.altitude(capture_id), label))
