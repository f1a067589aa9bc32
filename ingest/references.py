"""References: rotated crops of photographs, made as tensors from the photograph itself and, on request, written as pictures.

A photograph is decoded once, all its references are cut out of it and embedded; nothing is written unless it is asked for. The
digest of a reference is that of the file's bytes followed by that of the transform (32 hex digits each), so what changed, be it
the file, the crop or the way of turning, is embedded again, and nothing else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from PIL import Image

from outcrop.embed.crops import CropSampler, crop_sampler, require_pixels
from outcrop.embed.images import Decoded, decode, inspect, thumbnail
from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.reader_versions import reader_version
from outcrop.embed.resident import Resident, Undecoded, smalls, undecoded
from outcrop.ingest.above_ground import grounded_files
from outcrop.ingest.dataset import frame_item, key_of, listing_of, missing_photographs
from outcrop.ingest.ground_windows import of_each, to_scale
from outcrop.ingest.photos import OF_FILE, complete
from outcrop.ingest.sources import Alike, Contents, Kept, Listing, Outcome, Prepared, Source, Todo, Unfit, Wanted
from outcrop.schema.crops import CropSpec, Window, crop_numbered
from outcrop.schema.dataset_files import DatasetFiles
from outcrop.schema.errors import InputError, PictureError, PlaceUnusable
from outcrop.schema.files import whole_file
from outcrop.schema.films import SUFFIXES
from outcrop.schema.frames import Frame
from outcrop.schema.item import Item, Kind, item_of_key, parent_of, reference_key
from outcrop.schema.registry import Dataset
from outcrop.schema.written import written_path

AT_ONCE = 16
"""References of one photograph that are held as pixels at once by each thread."""
JPEG_QUALITY = 95
"""Of references that are written; vectors of the file and of the tensor then agree to cosine 0.99 and better."""


@dataclass(frozen=True)
class ReferenceSource:
    """One photograph and the references made of it: a crop for each of `turns`, and no others if `whole`.

    `write_to` is the folder of written references, and `dataset` the registry's entry that names their files. `remark` says why
    they are not at the ground scale of the collection.
    """

    frame: Frame
    turns: tuple[CropSpec, ...]
    dataset: Dataset
    whole: bool = True
    write_to: Path | None = None
    remark: str = ""
    atomic: ClassVar[bool] = False
    stage: ClassVar[str] = "decode"

    @property
    def path(self) -> Path:
        """The photograph."""
        return self.frame.path

    @property
    def count(self) -> int:
        """How many references it makes."""
        return len(self.turns)

    @property
    def wanted(self) -> Sequence[Wanted]:
        """A reference for each crop spec, in their order."""
        photo, stated = frame_item(self.frame), self.frame.altitude is not None
        items = [reference_item(photo, turn.rotation, turn.crop.number) for turn in self.turns]
        reader = functools.cache(lambda: reader_version(self.path, cropped=True))
        return [
            Wanted(item, self.path, turn.digest, reader, outputs=self._outputs(item), altitude_stated=stated)
            for item, turn in zip(items, self.turns, strict=True)
        ]

    def read(self, path: Path) -> Contents:
        """See `outcrop.ingest.sources.Source.read`."""
        return Contents.read(path)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.sources.Source.make`."""
        width, height, _ = inspect(contents.data, name=str(self.path))
        windows = self._windows(todo, width, height)
        embed: list[Todo] = []
        full: Decoded | None = None
        for each in todo:
            window = windows[each.item.id]
            try:
                require_pixels(window, width, height, str(self.path))
                for file in each.wanted.outputs:
                    if not file.exists():
                        full = full or decode(contents.data, name=str(self.path))
                        _write(file, turned(full, window))
            except PictureError as error:
                yield Unfit(each.item, str(error))
                continue
            if each.embed:
                embed.append(each)
            else:
                yield Kept(each.item)
        del full
        if not embed:
            return
        needed = _needed(encoder, [windows[each.item.id] for each in embed])
        decoded = decode(contents.data, name=str(self.path), at_least=needed)
        contents = replace(contents, data=b"")  # not held while the references are embedded
        yield from self.made_of(decoded, embed, contents, encoder, thumbnails)

    def undecoded(self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder) -> Undecoded | str:
        """See `outcrop.ingest.on_device.ReadOnDevice`."""
        if any(each.wanted.outputs or not each.embed for each in todo):
            return "its references are also written"

        def needed(width: int, height: int, facts: PhotoMetadata) -> tuple[int, int]:
            windows = self._windows(todo, width, height)
            for window in windows.values():
                require_pixels(window, width, height, str(self.path))
            return _needed(encoder, list(windows.values()))

        return undecoded(contents.data, name=str(self.path), at_least=needed)

    def made_of(
        self,
        picture: Decoded | Resident,
        todo: Sequence[Todo],
        contents: Contents,
        encoder: PictureEncoder,
        thumbnails: bool,
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.on_device.ReadOnDevice`; all of `todo` are embedded."""
        windows = self._windows(todo, picture.width, picture.height)
        sampler = crop_sampler(picture, encoder.space, encoder.device)
        at_once = AT_ONCE if isinstance(picture, Decoded) else len(todo)
        for start in range(0, len(todo), at_once):
            taken = todo[start : start + at_once]
            some = [windows[each.item.id] for each in taken]
            described = _completed(taken, some, picture, contents)
            shapes = [(window.width * picture.width, window.height * picture.height) for window in some]
            proportions = shapes if encoder.space.fit == "squash" else [None] * len(shapes)
            remarks = self._remarks(picture) if start == 0 else ()
            yield from _prepared(picture, sampler, described, some, proportions, thumbnails, remarks)

    def _remarks(self, picture: Decoded | Resident) -> tuple[str, ...]:
        return (*picture.remarks, self.remark) if self.remark else picture.remarks

    def _windows(self, todo: Sequence[Todo], width: int, height: int) -> dict[str, Window]:
        """The window of each reference, by the id of its item, in a photograph of upright sides in pixels."""
        placed = _placed(self.turns, width, height)
        return {each.item.id: placed[each.item.rotation, each.item.crop] for each in todo}

    def _outputs(self, item: Item) -> tuple[Path, ...]:
        if self.write_to is None:
            return ()
        path = written_path(self.dataset, item.dataset, item.capture_id, item.frame, item.rotation, item.crop)
        return (self.write_to / path,)


@functools.lru_cache(maxsize=16)  # photographs of one dataset are mostly of one size
def _placed(turns: tuple[CropSpec, ...], width: int, height: int) -> dict[tuple[float, int], Window]:
    """The window of each of `turns`, by its rotation and the number of its crop, in a photograph of upright sides in pixels."""
    return {(turn.rotation, turn.crop.number): turn.window(width, height) for turn in turns}


def _completed(
    todo: Sequence[Todo], windows: Sequence[Window], picture: Decoded | Resident, contents: Contents
) -> list[Item]:
    """References of one photograph with what its file says, which is the same of all, and the box of each."""
    photo = complete(todo[0].wanted, picture, contents)
    said = {name: getattr(photo, name) for name in OF_FILE}
    return [
        each.item.changed(
            **said,
            source_digest=each.wanted.digest(contents),
            extra={**photo.extra, "crop_box": box_of(window)},
        )
        for each, window in zip(todo, windows, strict=True)
    ]


def _prepared(
    picture: Decoded | Resident,
    sampler: CropSampler,
    items: Sequence[Item],
    windows: Sequence[Window],
    shapes: Sequence[tuple[float, float] | None],
    thumbnails: bool,
    remarks: tuple[str, ...],
) -> Iterator[Prepared]:
    """References with their pixels and thumbnails, whose proportions are `shapes`; on the device where the picture is there. The
    first has the `remarks`."""
    said = (remarks, *((),) * len(items))
    if isinstance(picture, Resident):
        planes = sampler.planes(windows)
        little = smalls(planes, shapes=shapes) if thumbnails else [None] * len(items)
        for item, row, one, some in zip(items, planes, little, said, strict=False):
            yield Prepared(item, row, remarks=some, small=one)
        return
    for item, pixels, shape, some in zip(items, sampler.pixels(windows), shapes, said, strict=False):
        packed = thumbnail(Image.fromarray(pixels), shape=shape) if thumbnails else None
        yield Prepared(item, pixels, packed, remarks=some)


def _write(file: Path, picture: Image.Image) -> None:
    """Writes a reference as a JPEG.

    Raises:
        PictureError: it cannot be written; this reference fails, and not the run.
        PlaceUnusable: nor can the others.
    """
    try:
        with whole_file(
            file, fix="make room, or give another --write-images", durable=False, parents=True
        ) as temporary:
            picture.save(temporary, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    except PlaceUnusable:
        raise
    except InputError as error:
        raise PictureError(str(error)) from None


def list_references(
    registry: Path,
    name: str,
    datasets: Path,
    turns: Sequence[CropSpec] = (),
    *,
    limit: int | None = None,
    only: Iterable[str] | None = None,
    keep_others: bool = False,
    write_to: Path | None = None,
    positions: Path | None = None,
    window: tuple[float, float] | None = None,
) -> Listing:
    """Lists the references to be made of a dataset's photographs: one for each crop spec in `turns`.

    With a `window` (height and width in metres, of a ground scale) each photograph that says how much ground it shows has
    references of that window all over it instead, at the angles of `turns`; the heads of the files are read for it.

    `limit` keeps the first N photographs; `only` the references with these keys, whatever `turns` says. References that
    a photograph has besides are removed by the run, unless `keep_others` (or `only`) is given. `write_to` is the folder below
    which references are also written.

    Raises:
        RegistryError: the registry, the dataset's name, a template or a folder is wrong.
        InputError: no turns, or a limit below 1.
    """
    found = grounded_files(registry, name, datasets, positions)
    wanted = turns_of_keys(only) if only is not None else None
    if wanted is None and not turns:
        raise InputError("no angle or no crop is given, so there is nothing to make")
    if only is None:
        _require_photographs(found)

    def source(frame: Frame, some: tuple[CropSpec, ...] = tuple(turns), remark: str = "") -> Source:
        return ReferenceSource(frame, some, found.dataset, wanted is None and not keep_others, write_to, remark)

    sources: Sequence[Source]
    if wanted is not None:
        sources = [source(frame, some) for frame in found.frames if (some := wanted.get(key_of(frame), ()))]
    elif window is not None:
        focal, metres = found.dataset.focal_length, window
        scales = of_each(found.frames, lambda frame: to_scale(frame, tuple(turns), focal, metres))
        shown = zip(found.frames, scales, strict=True)
        sources = [source(frame, some, remark) for frame, (some, remark) in shown if some]
    else:
        sources = Alike(found.frames, source, key_of, len(turns))
    missing = [
        replace(failure, key=key)
        for failure in missing_photographs(found)
        for key in _missing_keys(failure.key, turns, wanted)
    ]
    return listing_of(found, sources, missing, limit)


def _require_photographs(found: DatasetFiles) -> None:
    """Refuses a folder of films, of whose frames no references are made.

    Raises:
        InputError: as said.
    """
    films = {kind for kind in found.holding.others if kind in SUFFIXES} if found.holding is not None else set()
    if films and not found.frames:
        raise InputError(
            f"{found.root} holds films ({', '.join(sorted(films))}) and no photograph; references are made of photographs only. "
            "Turn the query instead: `query image PHOTO --turns 12`"
        )


def reference_item(photo: Item, rotation: float, crop: int) -> Item:
    """The item of a reference, with what its photograph's item says."""
    key = reference_key(photo.dataset, photo.capture_id, photo.frame, rotation, crop)
    return photo.changed(key=key, kind=Kind.REFERENCE, rotation=rotation, crop=crop)


def turns_of_keys(keys: Iterable[str]) -> dict[str, tuple[CropSpec, ...]]:
    """The crop specs that keys of references name, by the key of their photograph; other keys and unknown crops are ignored."""
    found: dict[str, list[CropSpec]] = {}
    for key in keys:
        if not key.startswith(f"{Kind.REFERENCE}/"):
            continue
        item = item_of_key(key)
        crop = crop_numbered(item.crop)
        if crop is not None:
            found.setdefault(parent_of(item.key), []).append(CropSpec(item.rotation, crop))
    return {photo: tuple(turns) for photo, turns in found.items()}


def turned(picture: Decoded, window: Window) -> Image.Image:
    """A window of a picture, rotated upright, at the picture's own resolution (bicubic)."""
    width, height = picture.image.size
    across, down = round(window.width * width), round(window.height * height)
    cosine, sine = math.cos(math.radians(window.rotation)), math.sin(math.radians(window.rotation))
    # Pillow asks for the upper left corner of the window in the picture, and adds the halves of pixels itself.
    left = window.x * width - (across * cosine - down * sine) / 2
    top = window.y * height - (across * sine + down * cosine) / 2
    data = (cosine, -sine, left, sine, cosine, top)
    return picture.image.transform((across, down), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)


def box_of(window: Window) -> list[float]:
    """A window's middle and sides as fractions of the picture's width and height: what is kept as `crop_box`."""
    return [round(value, 6) for value in (window.x, window.y, window.width, window.height)]


def _needed(encoder: PictureEncoder, windows: Sequence[Window]) -> tuple[int, int]:
    """Height and width of the whole picture at which the smallest window still fills the network's input."""
    height, width = encoder.space.size
    return (
        math.ceil(height / min(window.height for window in windows)),
        math.ceil(width / min(window.width for window in windows)),
    )


def _missing_keys(photo: str, turns: Sequence[CropSpec], wanted: dict[str, tuple[CropSpec, ...]] | None) -> list[str]:
    """The keys of the references of a missing photograph."""
    some = turns if wanted is None else wanted.get(photo, ())
    if not photo.startswith(f"{Kind.IMAGE}/"):
        return [photo]  # a file that cannot have a key
    item = item_of_key(photo)
    make = functools.partial(reference_key, item.dataset, item.capture_id, item.frame)
    return [make(turn.rotation, turn.crop.number) for turn in some]
