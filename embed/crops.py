"""Turned and cropped pictures, as tensors on the device: one decoded picture in, the pixels of many references out.

A crop of a turned picture is sampled straight from the decoded picture, `OVERSAMPLING` times as fine as the network's input and
then reduced with an antialiasing filter, as if the turned picture had been written, read and fitted. `schema.crops` says what
a rotation and a crop are. The picture is never turned as a whole and nothing is written.

Samples are bilinear where the picture is finer than they are, which the reduction hides (cosine 0.998 to the vectors of turned
files of 12 megapixels). Where it is not, they are bicubic and as many as the picture's own pixels: bilinear ones blur, and
EfficientNet-Lite0's vectors fall to 0.97.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.images import BACKGROUND, MIN_SIDE, REDUCING_GAP, Decoded, fit_to
from outcrop.embed.resident import Resident
from outcrop.schema.crops import Window
from outcrop.schema.errors import PictureError
from outcrop.schema.space import Fit, Space

if TYPE_CHECKING:
    import torch

OVERSAMPLING = 2.0
"""Samples along a side of the network's input for each of its pixels, at most."""
_Map = list[list[float]]
LEVELS = 2
"""Scaled pictures per octave: a window is sampled from the smallest that is fine enough."""
AT_ONCE = 32
"""Windows in one pass on an accelerator. A CPU takes one at a time, which stays in its cache."""


@dataclass(frozen=True)
class _Sampling:
    """How a window is sampled: from the picture reduced by 2 ** (level / LEVELS), at `samples` (rows, columns) points, which
    are then reduced to the `inner` pixels (rows, columns) that the window fills of the network's input."""

    level: int
    mode: str
    inner: tuple[int, int]
    samples: tuple[int, int]


@dataclass(frozen=True)
class _Group:
    """Windows that are sampled alike, by their numbers, with the map of each."""

    sampling: _Sampling
    numbers: tuple[int, ...]
    maps: tuple[_Map, ...]


def prepare(decoded: Decoded, space: Space, share: float = 1.0) -> NDArray[np.uint8]:
    """The pixels of one picture, or of a `share` of its sides in the middle, as the encoders of a space want them: uint8 [H, W,
    3]."""
    return fit_to(decoded.image, space.size, space.fit, share)


def crop_sampler(decoded: Decoded | Resident, space: Space, device: str = "cpu") -> CropSampler:
    """Cuts windows out of one picture as the encoders of a space want them; out of one on a device, there.

    It works on the `device` of the encoder, but on the CPU where that is Apple's (no bicubic samples there) or several (they
    belong to other processes).
    """
    if isinstance(decoded, Resident):
        return CropSampler(decoded.planes, space.size, space.fit, decoded.planes.device)
    return CropSampler(decoded.image, space.size, space.fit, "cpu" if device == "mps" or "," in device else device)


class CropSampler:
    """A decoded picture from which windows are cut for a network's input of `size` (height, width), by `fit`.

    Threads must not share one.
    """

    def __init__(
        self, image: Image.Image | torch.Tensor, size: tuple[int, int], fit: Fit, device: torch.device | str = "cpu"
    ) -> None:
        self._image, self._size, self._fit, self._device = image, size, fit, device
        self._across, self._down = image.size if isinstance(image, Image.Image) else (image.shape[-1], image.shape[-2])
        self._scaled: dict[int, torch.Tensor] = {}

    def pixels(self, windows: Sequence[Window]) -> NDArray[np.uint8]:
        """The pixels of windows of the turned picture as `encode` wants them: uint8 [n, H, W, 3]."""
        height, width = self._size
        found = np.empty((len(windows), height, width, 3), dtype=np.uint8)
        for numbers, (left, top, right, bottom), turned in self._made(windows):
            for number, one in zip(numbers, turned.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
                if (right - left, bottom - top) != (width, height):
                    found[number] = BACKGROUND
                found[number, top:bottom, left:right] = one
        return found

    def planes(self, windows: Sequence[Window]) -> torch.Tensor:
        """The same on the device: uint8 [n, 3, H, W]."""
        import torch

        height, width = self._size
        found: torch.Tensor | None = None
        for numbers, (left, top, right, bottom), turned in self._made(windows):
            if len(numbers) == len(windows) and (right - left, bottom - top) == (width, height):
                return turned  # mostly
            if found is None:
                white = torch.tensor(BACKGROUND, dtype=torch.uint8, device=self._device).view(1, 3, 1, 1)
                found = white.repeat(len(windows), 1, height, width)
            found[list(numbers), :, top:bottom, left:right] = turned
        assert found is not None, "there are windows"
        return found

    def _made(
        self, windows: Sequence[Window]
    ) -> Iterator[tuple[Sequence[int], tuple[int, int, int, int], torch.Tensor]]:
        """Windows by their numbers, with the place (left, top, right, bottom) that they fill of the network's input, and their
        pixels there, uint8 [n, 3, h, w] on the device."""
        step = 1 if str(self._device) == "cpu" else AT_ONCE
        for group in _grouped(tuple(windows), (self._across, self._down), self._size, self._fit):
            down, across = group.sampling.inner
            top, left = (self._size[0] - down) // 2, (self._size[1] - across) // 2
            for start in range(0, len(group.numbers), step):
                turned = self._sampled(group.sampling, group.maps[start : start + step])
                yield group.numbers[start : start + step], (left, top, left + across, top + down), turned

    def _picture(self, level: int) -> torch.Tensor:
        """The picture at a level: float32 [1, 3, h, w] on the device."""
        import torch

        from outcrop.embed.resizing import resized

        if level not in self._scaled:
            image, by = self._image, 2 ** (-level / LEVELS)
            sides = (max(1, round(self._across * by)), max(1, round(self._down * by))) if level else None
            if isinstance(image, Image.Image):
                if sides:
                    image = image.resize(sides, Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
                image = torch.from_numpy(np.array(image, dtype=np.uint8)).to(self._device).permute(2, 0, 1)
            elif sides:
                image = resized(image, sides)
            self._scaled[level] = image[None].to(torch.float32).contiguous()
        return self._scaled[level]

    def _sampled(self, sampling: _Sampling, affine: Sequence[_Map]) -> torch.Tensor:
        import torch
        from torch.nn.functional import affine_grid, grid_sample, interpolate

        from outcrop.embed.resizing import resized

        picture = self._picture(sampling.level)
        maps = torch.tensor(affine, device=self._device)
        with torch.inference_mode():
            grid = affine_grid(maps, [len(maps), 3, *sampling.samples], align_corners=False)
            every = picture.expand(len(maps), -1, -1, -1)
            turned = grid_sample(every, grid, mode=sampling.mode, padding_mode="border", align_corners=False)
            # Bytes in channels-last order have a fast path on CPUs.
            turned = turned.round_().clamp_(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)
            if sampling.samples != sampling.inner:
                if turned.device.type != "cpu":  # where torch has no bytes that are resized as the CPU's
                    return resized(turned, (sampling.inner[1], sampling.inner[0]))
                turned = interpolate(turned, sampling.inner, mode="bicubic", antialias=True, align_corners=False)
            return turned


def require_pixels(window: Window, width: int, height: int, name: str) -> None:
    """Refuses a window with a side of fewer than `MIN_SIDE` pixels of a picture of `width` x `height`.

    Raises:
        PictureError: naming the picture, `name`.
    """
    across, down = round(window.width * width), round(window.height * height)
    if min(across, down) < MIN_SIDE:
        raise PictureError(
            f"{name}: is {width}x{height} pixels, and its crop at {window.rotation:g} degrees would be {across}x{down}; "
            f"a crop needs at least {MIN_SIDE}x{MIN_SIDE}: take larger crops, or a larger picture"
        )


@functools.lru_cache(maxsize=16)  # the same windows are cut out of all photographs of one size
def _grouped(
    windows: tuple[Window, ...], picture: tuple[int, int], size: tuple[int, int], fit: Fit
) -> tuple[_Group, ...]:
    """Windows of a picture of some width and height, by how they are sampled for a network's input of `size` (height, width)."""
    groups: dict[_Sampling, list[tuple[int, _Map]]] = {}
    for number, window in enumerate(windows):
        inner = _inside(window, picture, size, fit)
        sides = _sides(window, inner, picture, fit)
        some = groups.setdefault(_sampling(sides, inner, picture), [])
        some.append((number, _map(window, *sides, picture[0] / picture[1])))
    return tuple(
        _Group(sampling, tuple(number for number, _ in some), tuple(affine for _, affine in some))
        for sampling, some in groups.items()
    )


def _inside(window: Window, picture: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """The pixels (height, width) of the network's input that a window fills: all of them unless it is padded."""
    height, width = size
    if fit != "pad":
        return height, width
    across, down = window.width * picture[0], window.height * picture[1]
    scale = min(width / across, height / down)
    return max(1, round(down * scale)), max(1, round(across * scale))


def _sides(window: Window, inner: tuple[int, int], picture: tuple[int, int], fit: Fit) -> tuple[float, float]:
    """Width and height of what is shown of a window, as fractions of the picture's: less than all where it is cut."""
    if fit != "crop":
        return window.width, window.height
    across, down = window.width * picture[0], window.height * picture[1]
    scale = min(across / inner[1], down / inner[0])
    return window.width * inner[1] * scale / across, window.height * inner[0] * scale / down


def _sampling(sides: tuple[float, float], inner: tuple[int, int], picture: tuple[int, int]) -> _Sampling:
    """How a window whose shown part has `sides` is sampled."""
    own = sides[1] * picture[1], sides[0] * picture[0]
    finer = min(pixels / side for pixels, side in zip(own, inner, strict=True)) / OVERSAMPLING
    most = tuple(math.ceil(OVERSAMPLING * side) for side in inner)
    if finer >= 1:
        return _Sampling(math.floor(LEVELS * math.log2(finer) + 1e-6), "bilinear", inner, (most[0], most[1]))
    samples = [max(1, min(limit, round(pixels))) for limit, pixels in zip(most, own, strict=True)]
    return _Sampling(0, "bicubic", inner, (samples[0], samples[1]))


def _map(window: Window, width: float, height: float, ratio: float) -> _Map:
    """From the window's coordinates to the picture's, both from -1 to 1: rows of an affine map [2, 3].

    Turning the picture counter-clockwise turns the window clockwise over it, y pointing down: (x, y) of the window lies at
    (x cos - y sin, x sin + y cos) of the picture. `ratio` is the picture's width by its height.
    """
    turn = math.radians(window.rotation)
    cosine, sine = math.cos(turn), math.sin(turn)
    return [
        [width * cosine, -height * sine / ratio, 2 * window.x - 1],
        [width * sine * ratio, height * cosine, 2 * window.y - 1],
    ]
