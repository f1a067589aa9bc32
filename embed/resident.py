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

from outcrop.embed.images import DRAFT_MARGIN, EDGE, Decoded, fit_to, opened_jpeg, thumbnail_size, webp
from outcrop.embed.jpeg import Markers, read_markers, unfit
from outcrop.embed.photo import PhotoMetadata
from outcrop.schema.errors import PictureError
from outcrop.schema.space import Space

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.embed.decoding import JpegDecoder


@dataclass(frozen=True)
class Undecoded:
    """A JPEG that a device may decode: its bytes, what its markers and its EXIF say, and the `scale` to which it is reduced.

    `width` and `height` are upright, in pixels; `remarks` what was odd about the header.
    """

    data: bytes
    markers: Markers
    orientation: int
    scale: int
    width: int
    height: int
    metadata: PhotoMetadata
    remarks: tuple[str, ...]

    @property
    def pixels(self) -> int:
        """How many it is decoded to."""
        return self.width * self.height


@dataclass(frozen=True)
class Resident:
    """A photograph on a device, as `outcrop.embed.images.Decoded` is one on the CPU: `planes` uint8 [3, h, w] upright."""

    planes: Tensor
    width: int
    height: int
    metadata: PhotoMetadata
    remarks: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height (pixels) of what was decoded."""
        return self.planes.shape[-1], self.planes.shape[-2]


class Small:
    """A thumbnail that is made on a device, and brought to the host by `fetch`, with others in one copy."""

    def __init__(self, planes: Tensor) -> None:
        self.planes: Tensor | None = planes
        self.pixels: NDArray[np.uint8] | None = None

    def packed(self) -> bytes:
        """As it is kept; after `fetch`."""
        from PIL import Image

        assert self.pixels is not None, "it is still on the device"
        return webp(Image.fromarray(self.pixels))


def undecoded(data: bytes, *, name: str, at_least: tuple[int, int] | None) -> Undecoded | str:
    """A file that a device may decode, or why the CPU has to, in a few words.

    `at_least` is as for `outcrop.embed.images.decode`, which says in full what is wrong with a file that is refused here.
    """
    if data[:3] != b"\xff\xd8\xff":
        return "not a JPEG"
    markers = read_markers(data)
    if (reason := unfit(markers, data)) or markers is None:
        return reason
    smallest = None if at_least is None else (DRAFT_MARGIN * at_least[1], DRAFT_MARGIN * at_least[0])
    try:
        with opened_jpeg(data, name, smallest) as header:
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
    except PictureError as error:
        return str(error)


class DeviceReader:
    """Decodes photographs on a device, in batches of up to `most` pixels. Threads may share it; each has a stream of its own."""

    def __init__(self, decoder: JpegDecoder, most: int) -> None:
        self.decoder, self.most = decoder, most
        self._own = threading.local()

    def decode(self, files: Sequence[Undecoded]) -> list[Resident | None]:
        """Photographs on the device; None for one that its decoder cannot take. Call it within `working`.

        Raises:
            RuntimeError: the device has too little memory.
        """
        from outcrop.embed.resizing import reduced, upright

        found: list[Resident | None] = []
        decoded = self.decoder.decode([file.data for file in files])
        for number, file in enumerate(files):
            planes, decoded[number] = decoded[number], None  # no more memory than is needed
            if planes is None or tuple(planes.shape) != (3, file.markers.height, file.markers.width):
                found.append(None)
                continue
            made = upright(reduced(planes, file.scale, file.markers.sampling), file.orientation)
            found.append(Resident(made, file.width, file.height, file.metadata, file.remarks))
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


def fitted(picture: Resident, space: Space) -> Tensor:
    """As `outcrop.embed.images.fit_to`, on the device: uint8 [3, H, W]."""
    import torch

    from outcrop.embed.images import BACKGROUND, inner_box
    from outcrop.embed.resizing import resized

    height, width = space.size
    box, (left, top, across, down) = inner_box(picture.size, space.size, space.fit)
    made = resized(picture.planes, (across, down), box)
    if (across, down) == (width, height):
        return made
    white = torch.tensor(BACKGROUND, dtype=torch.uint8, device=made.device)
    around = white.view(3, 1, 1).expand(3, height, width).contiguous()
    around[:, top : top + down, left : left + across] = made
    return around


def small(planes: Tensor, edge: int = EDGE, *, shape: tuple[float, float] | None = None) -> Small:
    """As `outcrop.embed.images.thumbnail`, on the device and before it is packed."""
    from outcrop.embed.resizing import resized

    size = thumbnail_size((planes.shape[-1], planes.shape[-2]), edge, shape)
    return Small(resized(planes, size))


def smalls(planes: Tensor, edge: int = EDGE, *, shapes: Sequence[tuple[float, float] | None]) -> list[Small]:
    """Thumbnails of pictures of one size, uint8 [n, 3, H, W], each with its shape; those that come out equally large at once."""
    from outcrop.embed.resizing import resized

    sizes = [thumbnail_size((planes.shape[-1], planes.shape[-2]), edge, shape) for shape in shapes]
    found = [planes[n] for n in range(len(planes))]
    for size in set(sizes):
        some = [n for n, one in enumerate(sizes) if one == size]
        for n, made in zip(some, resized(planes[some], size), strict=True):
            found[n] = made
    return [Small(one) for one in found]


def fetch(thumbnails: Sequence[Small]) -> None:
    """Brings thumbnails to the host, uint8 [h, w, 3] each, in one copy."""
    import torch

    planes = [one.planes for one in thumbnails if one.planes is not None]
    if not planes:
        return
    together = torch.cat([one.permute(1, 2, 0).reshape(-1) for one in planes]).cpu().numpy()
    parts = np.split(together, np.cumsum([one.numel() for one in planes])[:-1])
    for thumbnail, one, part in zip(thumbnails, planes, parts, strict=True):
        thumbnail.pixels, thumbnail.planes = part.reshape(one.shape[1], one.shape[2], 3), None


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
