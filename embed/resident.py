"""Photographs whose pixels never leave the device that encodes them: JPEGs are decoded, turned upright and fitted there.

Pixels are those of the CPU's way (`outcrop.embed.images`) as nearly as the decoder allows, so a vector does not depend on where
its photograph was decoded. What a device does not take, and why, is `undecoded`'s to say; the same header is read and the same
limits apply.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.images import EDGE, JPEG_QUALITY, Decoded, fit_to, thumbnail_size
from outcrop.embed.jpeg import Markers, read_markers, unfit
from outcrop.embed.jpeg_header import AtLeast, header_of
from outcrop.embed.photo import PhotoMetadata
from outcrop.schema.errors import PictureError
from outcrop.schema.space import Space

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.embed.decoding import JpegDecoder


TOGETHER = 50_000_000
"""Pixels of photographs of one size that are reduced at once, where a device works with floats; more on one with much memory."""
WORKING_BYTES = 256
"""Of a device's memory for each of these pixels, of which a sixth is used."""


@dataclass(frozen=True)
class Undecoded:
    """A JPEG that a device may decode: its bytes, what its markers and its EXIF say, and the `scale` to which it is reduced.

    `width` and `height` are upright, in pixels; `remarks` what was odd about the header. `staged` are the bytes where the device
    takes them from, once it is known that it does.
    """

    data: bytes
    markers: Markers
    orientation: int
    scale: int
    width: int
    height: int
    metadata: PhotoMetadata
    remarks: tuple[str, ...]
    staged: Tensor | None = None

    @property
    def pixels(self) -> int:
        """How many it is decoded to."""
        return self.width * self.height


class Sheet:
    """Photographs of one size on a device: `planes` uint8 [n, 3, h, w], upright.

    What is made of each is made of all at once, as every call of torch costs the same time, however little it computes. One
    thread may use it.
    """

    def __init__(self, planes: Tensor) -> None:
        self.planes = planes
        self._made: dict[object, Tensor] = {}
        self._parts: dict[object, tuple[Tensor, ...]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.planes.shape[-1], self.planes.shape[-2]

    def made(self, key: object, make: Callable[[Tensor], Tensor]) -> Tensor:
        """What `make` makes of all photographs, [n, …]; made once for a key."""
        if key not in self._made:
            self._made[key] = make(self.planes)
        return self._made[key]

    def part(self, key: object, number: int, make: Callable[[Tensor], Tensor]) -> Tensor:
        """What `made` has made of one photograph."""
        if key not in self._parts:
            self._parts[key] = self.made(key, make).unbind(0)
        return self._parts[key][number]


@dataclass(frozen=True)
class Resident:
    """A photograph on a device, as `outcrop.embed.images.Decoded` is one on the CPU: that of a `number` on a `sheet`."""

    sheet: Sheet
    number: int
    width: int
    height: int
    metadata: PhotoMetadata
    remarks: tuple[str, ...] = ()

    @property
    def planes(self) -> Tensor:
        """Its pixels, uint8 [3, h, w]."""
        return self.sheet.planes[self.number]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height (pixels) of what was decoded."""
        return self.sheet.size


class Small:
    """A thumbnail that is made on a device among others, `planes` uint8 [n, 3, h, w], and brought to the host by `fetch`."""

    def __init__(self, planes: Tensor, number: int) -> None:
        self.planes: Tensor | None = planes
        self.number = number
        self.pixels: NDArray[np.uint8] | None = None

    def packed(self) -> bytes:
        """As it is kept; after `fetch`."""
        import cv2  # Pillow's encoder lets no other thread run Python meanwhile

        assert self.pixels is not None, "it is still on the device"
        done, data = cv2.imencode(".jpg", self.pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done, "it cannot be packed"
        return bytes(data)


def undecoded(data: bytes, *, name: str, at_least: AtLeast) -> Undecoded | str:
    """A file that a device may decode, or why the CPU has to, in a few words.

    `at_least` is as for `outcrop.embed.images.decode`, which says in full what is wrong with a file that is refused here.
    """
    if data[:3] != b"\xff\xd8\xff":
        return "not a JPEG"
    markers = read_markers(data)
    if (reason := unfit(markers, data)) or markers is None:
        return reason
    try:
        header = header_of(data, markers, name, at_least)
    except PictureError as error:
        return str(error)
    if (header.stored, header.srgb) != ((markers.width, markers.height), True):
        return "colour profile" if not header.srgb else "damaged"
    return Undecoded(
        data,
        markers,
        header.orientation,
        header.scale,
        header.width,
        header.height,
        header.metadata,
        header.remarks,
    )


class DeviceReader:
    """Decodes photographs on a device, in batches of up to `most` pixels. Threads may share it; each has a stream of its own."""

    def __init__(self, decoder: JpegDecoder, most: int, memory: int = 0) -> None:
        self.decoder, self.most = decoder, most
        self._together = max(TOGETHER, memory // WORKING_BYTES)
        self._own = threading.local()

    def decode(self, files: Sequence[Undecoded]) -> list[Resident | None]:
        """Photographs on the device; None for one that its decoder cannot take. Call it within `working`.

        Raises:
            RuntimeError: the device has too little memory.
        """
        found: list[Resident | None] = [None for _ in files]
        decoded = self.decoder.decode([file.data if file.staged is None else file.staged for file in files])
        for numbers in _alike(files, decoded, self._together):
            taken = [decoded[number] for number in numbers]
            for number in numbers:
                decoded[number] = None  # no more memory than is needed
            sheet = _sheet(files[numbers[0]], [planes for planes in taken if planes is not None])
            for place, number in enumerate(numbers):
                file = files[number]
                found[number] = Resident(sheet, place, file.width, file.height, file.metadata, file.remarks)
        return found

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A context on a stream of the device; when it is left, all that was begun there is done.

        nvJPEG writes on a stream of its own into memory that this one's allocator hands out, so nothing may be pending there
        when the next batch begins.
        """
        import torch

        if not self.decoder.device.startswith("cuda"):
            with torch.inference_mode():
                yield
            return
        stream = getattr(self._own, "stream", None)
        if stream is None:  # one for each thread: memory that was used on another is not used again here
            stream = self._own.stream = torch.cuda.Stream(self.decoder.device)  # type: ignore[no-untyped-call]
        with torch.inference_mode(), torch.cuda.stream(stream):
            try:
                yield
            finally:
                stream.synchronize()


def _alike(files: Sequence[Undecoded], decoded: Sequence[Tensor | None], together: int) -> list[list[int]]:
    """Those of the files that were decoded, by their numbers: together what is of one size and treated alike, up to so many
    pixels of it."""
    groups: dict[tuple[object, ...], list[list[int]]] = {}
    for number, (file, planes) in enumerate(zip(files, decoded, strict=True)):
        markers = file.markers
        if planes is None or tuple(planes.shape) != (3, markers.height, markers.width):
            continue
        key = (markers.width, markers.height, markers.sampling, file.scale, file.orientation)
        parts = groups.setdefault(key, [[]])
        if parts[-1] and (len(parts[-1]) + 1) * file.pixels > together:
            parts.append([])
        parts[-1].append(number)
    return [part for parts in groups.values() for part in parts]


def _sheet(like: Undecoded, taken: list[Tensor]) -> Sheet:
    """Photographs of one size, as they were decoded, reduced and turned upright."""
    import torch

    from outcrop.embed.resizing import reduced, upright

    planes = torch.stack(taken) if len(taken) > 1 else taken[0][None]
    taken.clear()
    return Sheet(upright(reduced(planes, like.scale, like.markers.sampling), like.orientation))


def fitted(picture: Resident, space: Space, share: float = 1.0) -> Tensor:
    """As `outcrop.embed.images.fit_to`, on the device: uint8 [3, H, W]."""
    if share < 1:  # another one of each photograph
        return _fitted(picture.planes[None], space, share)[0]
    return picture.sheet.part(("fitted", space.size, space.fit), picture.number, lambda planes: _fitted(planes, space))


def _fitted(planes: Tensor, space: Space, share: float = 1.0) -> Tensor:
    import torch

    from outcrop.embed.images import BACKGROUND, inner_box
    from outcrop.embed.resizing import resized

    height, width = space.size
    box, (left, top, across, down) = inner_box((planes.shape[-1], planes.shape[-2]), space.size, space.fit, share)
    made = resized(planes, (across, down), box)
    if (across, down) == (width, height):
        return made
    white = torch.tensor(BACKGROUND, dtype=torch.uint8, device=made.device)
    around = white.view(1, 3, 1, 1).expand(len(made), 3, height, width).contiguous()
    around[..., top : top + down, left : left + across] = made
    return around


def small(picture: Resident, edge: int = EDGE) -> Small:
    """As `outcrop.embed.images.thumbnail`, on the device and before it is packed."""
    from outcrop.embed.resizing import resized

    size = thumbnail_size(picture.size, edge, None)
    return Small(picture.sheet.made(("small", edge), lambda planes: resized(planes, size)), picture.number)


def smalls(planes: Tensor, edge: int = EDGE, *, shapes: Sequence[tuple[float, float] | None]) -> list[Small]:
    """Thumbnails of pictures of one size, uint8 [n, 3, H, W], each with its shape; those that come out equally large at once."""
    from outcrop.embed.resizing import resized

    sizes = [thumbnail_size((planes.shape[-1], planes.shape[-2]), edge, shape) for shape in shapes]
    found: dict[int, Small] = {}
    for size in dict.fromkeys(sizes):
        some = [n for n, one in enumerate(sizes) if one == size]
        made = resized(planes if len(some) == len(sizes) else planes[some], size)
        found |= {n: Small(made, place) for place, n in enumerate(some)}
    return [found[n] for n in range(len(sizes))]


def fetch(thumbnails: Sequence[Small]) -> None:
    """Brings thumbnails to the host, uint8 [h, w, 3] each, in one copy."""
    import torch

    sheets = {id(one.planes): one.planes for one in thumbnails if one.planes is not None}
    if not sheets:
        return
    rows = [planes.permute(0, 2, 3, 1) for planes in sheets.values()]
    together = torch.cat([one.reshape(-1) for one in rows]).cpu().numpy()
    parts = np.split(together, np.cumsum([one.numel() for one in rows])[:-1])
    arrays = {name: part.reshape(one.shape) for name, part, one in zip(sheets, parts, rows, strict=True)}
    for thumbnail in thumbnails:
        if thumbnail.planes is not None:
            thumbnail.pixels, thumbnail.planes = arrays[id(thumbnail.planes)][thumbnail.number], None


@dataclass(frozen=True)
class Comparison:
    """A photograph decoded on the device and on the CPU: the mean difference of its fitted pixels in grey levels, the `cosine` of
    the two vectors, and whether it came out in the right size at all; `failure` says why the device gave none."""

    difference: float
    cosine: float
    failure: str = ""


def compare(
    reader: DeviceReader, file: Undecoded, decoded: Decoded, space: Space, encode: Callable[[Any], Any]
) -> Comparison:
    """Compares a photograph with what the CPU made of the same bytes; `encode` makes vectors of fitted pixels."""
    expected = fit_to(decoded.image, space.size, space.fit)
    with reader.working():
        (picture,) = reader.decode([file])
        found = None if picture is None else fitted(picture, space).permute(1, 2, 0).cpu().numpy()
    if found is None:
        return Comparison(255.0, 0.0, reader.decoder.refusal(file.data) or "its sides are wrong")
    difference = float(np.abs(found.astype(np.int16) - expected).mean())
    one, other = np.asarray(encode(np.stack([found, expected])), np.float64)
    return Comparison(difference, float(one @ other))
