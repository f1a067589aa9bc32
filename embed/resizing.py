"""Pictures as tensors, made smaller and turned exactly as Pillow and libjpeg do it, on whichever device they are.

A network's vectors are more sensitive than they look: those of EfficientNet-Lite0 move by up to 0.002 in cosine where a tenth
of the pixels differ by one grey level. So the steps, their order and their rounding are those of the CPU's way
(`outcrop.embed.images`): Pillow's two passes with bytes between them and coefficients of 22 bits, its boxes of whole pixels
before, and the means of blocks that libjpeg's scaled decoding gives.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from outcrop.embed.images import REDUCING_GAP

Box = tuple[float, float, float, float]

_SUPPORT = 2.0
"""Pixels on each side that a bicubic filter takes in."""
_COEFFICIENT = 1 << 22
"""Pillow keeps its coefficients in this many parts of one."""
_TOGETHER = 256
"""Pixels of the result that are made by one matrix: the whole of a network's input, while long sides stay banded."""

_UPRIGHT = {2: (0, 1, 0), 3: (0, 1, 1), 4: (0, 0, 1), 5: (1, 0, 0), 6: (1, 1, 0), 7: (1, 1, 1), 8: (1, 0, 1)}
"""What makes a picture of each EXIF orientation upright: transposed, then flipped across, then flipped down."""


def upright(planes: Tensor, orientation: int) -> Tensor:
    """Pixels [..., H, W] turned as their EXIF orientation asks for."""
    transposed, across, down = _UPRIGHT.get(orientation, (0, 0, 0))
    if transposed:
        planes = planes.transpose(-1, -2)
    flipped = [axis for axis, wanted in ((-1, across), (-2, down)) if wanted]
    return planes.flip(flipped).contiguous() if flipped else planes.contiguous()


def reduced(planes: Tensor, scale: int, sampling: tuple[tuple[int, int], ...]) -> Tensor:
    """JPEGs decoded whole, uint8 [n, 3, H, W], as libjpeg decodes them at 1/`scale`: uint8 [n, 3, ceil(H / scale),
    ceil(W / scale)].

    libjpeg's scaled decoding gives means of blocks of luminance, and of colour with whatever it is sampled by (`sampling` of each
    component, across and down): both are made here of the pixels, from which the stored values are got back by rounding.
    """
    if scale == 1:
        return planes
    count, _, height, width = planes.shape
    stored = (_luminance_and_colour(str(planes.device)) @ planes.reshape(count, 3, -1).to(torch.float32)).round_()
    means = _means(stored.reshape(count, 3, height, width), scale, scale)
    grey, colours = means[:, 0].round(), means[:, 1:]
    if len(sampling) == 1:
        return grey.to(torch.uint8)[:, None].expand(-1, 3, -1, -1).contiguous()
    across, down = sampling[0]
    if across == down:
        colours = colours.round()
    else:  # libjpeg scales what is sampled in one direction as it does luminance, and then interpolates
        colours = _doubled(_means(colours, down, across).round_(), -1 if across > down else -2, scale < 8)
        colours = colours[..., : grey.shape[-2], : grey.shape[-1]]
    bluish, reddish = colours.unbind(1)
    made = [grey + 1.402 * reddish, grey - 0.344136 * bluish - 0.714136 * reddish, grey + 1.772 * bluish]
    return torch.stack(made, 1).round_().clamp_(0, 255).to(torch.uint8)


@functools.cache
def _luminance_and_colour(device: str) -> Tensor:
    """What red, green and blue are multiplied by to be luminance and the two colours of a JPEG (JFIF 1.02)."""
    rows = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    return torch.tensor(rows, dtype=torch.float32, device=device)


def resized(planes: Tensor, size: tuple[int, int], box: Box | None = None) -> Tensor:
    """Pixels uint8 [..., H, W] resized as Pillow does it (bicubic with antialiasing, `REDUCING_GAP`): uint8 [..., height, width].

    `size` is (width, height) and `box` the part of the picture (left, top, right, bottom; fractions are allowed), as in Pillow.
    """
    height, width = planes.shape[-2:]
    whole = (0.0, 0.0, float(width), float(height))
    box = box or whole
    if (width, height) == size and box == whole:
        return planes
    across = int((box[2] - box[0]) / size[0] / REDUCING_GAP) or 1
    down = int((box[3] - box[1]) / size[1] / REDUCING_GAP) or 1
    made = planes
    if across > 1 or down > 1:
        left, right = _safe(box[0], box[2], size[0], width)
        top, bottom = _safe(box[1], box[3], size[1], height)
        made = _boxes(made[..., top:bottom, left:right], down, across)
        box = (box[0] - left) / across, (box[1] - top) / down, (box[2] - left) / across, (box[3] - top) / down
        height, width = made.shape[-2:]
    if 0 < height - size[1] > 2 * (width - size[0]):  # Pillow's rule of which pass comes first
        made = _along(made.transpose(-1, -2), size[1], box[1], box[3]).transpose(-1, -2)
        return _along(made, size[0], box[0], box[2]).contiguous()
    made = _along(made, size[0], box[0], box[2])
    return _along(made.transpose(-1, -2), size[1], box[1], box[3]).transpose(-1, -2).contiguous()


def _boxes(planes: Tensor, down: int, across: int) -> Tensor:
    """Means of boxes of bytes [..., H, W], those at the edge of what there is of them; by Pillow's integers."""
    height, width = planes.shape[-2:]
    flat = planes.reshape(1, -1, height, width).to(torch.float32)
    sums = avg_pool2d(flat, (down, across), ceil_mode=True, divisor_override=1).to(torch.int64)
    rows, columns = (
        torch.tensor([min(step, length - start) for start in range(0, length, step)], device=planes.device)
        for length, step in ((height, down), (width, across))
    )
    counts = rows[:, None] * columns
    factors = (float(1 << 24) / counts.to(torch.float32)).to(torch.int64)
    made = ((sums + counts // 2) * factors) >> 24
    return made.to(torch.uint8).reshape(*planes.shape[:-2], *made.shape[-2:])


def _along(planes: Tensor, size: int, start: float, end: float) -> Tensor:
    """The last axis resampled to `size` pixels from `start` to `end`."""
    length = planes.shape[-1]
    if size == length and (start, end) == (0.0, float(length)):
        return planes
    made = torch.empty((*planes.shape[:-1], size), dtype=torch.uint8, device=planes.device)
    for first, low, matrix in _matrices(length, size, start, end, str(planes.device)):
        taken = planes[..., low : low + matrix.shape[0]].to(torch.float32)
        made[..., first : first + matrix.shape[1]] = _bytes(taken @ matrix)
    return made


@functools.lru_cache(maxsize=256)
def _matrices(length: int, size: int, start: float, end: float, device: str) -> list[tuple[int, int, Tensor]]:
    """Matrices that each make some pixels of the result: (the first of them, the first pixel taken, [taken, made])."""
    lows, weights = _coefficients(length, size, start, end)
    found = []
    for first in range(0, size, _TOGETHER):
        some = range(first, min(first + _TOGETHER, size))
        low = min(int(lows[n]) for n in some)
        high = max(int(lows[n]) + len(weights[n]) for n in some)
        matrix = np.zeros((high - low, len(some)), np.float32)
        for column, n in enumerate(some):
            matrix[lows[n] - low : lows[n] - low + len(weights[n]), column] = weights[n]
        found.append((first, low, torch.from_numpy(matrix).to(device)))
    return found


def _coefficients(length: int, size: int, start: float, end: float) -> tuple[list[int], list[NDArray[np.float64]]]:
    """For each pixel of the result the first pixel taken and the weights, as Pillow computes and rounds them."""
    left, right = np.float32(start), np.float32(end)  # as Pillow keeps a box
    scale, start = float(right - left) / size, float(left)
    stretch = max(scale, 1.0)
    support = _SUPPORT * stretch
    lows, weights = [], []
    for n in range(size):
        centre = start + (n + 0.5) * scale
        low, high = max(0, int(centre - support + 0.5)), min(length, int(centre + support + 0.5))
        found = _bicubic((np.arange(low, high, dtype=np.float64) - centre + 0.5) / stretch)
        found = found / found.sum()
        lows.append(low)
        weights.append(np.trunc(found * _COEFFICIENT + np.where(found < 0, -0.5, 0.5)) / _COEFFICIENT)
    return lows, weights


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys's cubic filter with a = -0.5 (IEEE Trans. ASSP 29, 1981), as Pillow's."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _safe(start: float, end: float, size: int, length: int) -> tuple[int, int]:
    """The whole pixels that a filter may need of a part, as Pillow chooses them."""
    support = (_SUPPORT - 0.5) * (end - start) / size
    return max(0, int(start - support)), min(length, math.ceil(end + support))


def _means(planes: Tensor, down: int, across: int) -> Tensor:
    """Means of blocks of [n, C, H, W]; those at the edge are filled up with the edge's pixels, as encoders do."""
    height, width = planes.shape[-2:]
    if height % down or width % across:
        planes = pad(planes, (0, -width % across, 0, -height % down), mode="replicate")
    return avg_pool2d(planes, (down, across))


def _doubled(planes: Tensor, axis: int, smooth: bool) -> Tensor:
    """Twice as many values along an axis: three quarters of the nearest and one of the next where `smooth`, else repeated."""
    values = planes.transpose(axis, -1)
    if not smooth:
        return values.repeat_interleave(2, -1).transpose(axis, -1)
    before = torch.cat([values[..., :1], values[..., :-1]], -1)
    after = torch.cat([values[..., 1:], values[..., -1:]], -1)
    # libjpeg rounds the first of a pair down and the second up where they lie between two bytes
    first, second = (0.75 * values + 0.25 * before + 0.25).floor_(), (0.75 * values + 0.25 * after + 0.5).floor_()
    return torch.stack([first, second], -1).flatten(-2).transpose(axis, -1)


def _bytes(values: Tensor) -> Tensor:
    """Values as bytes, halves rounded up as Pillow does."""
    return (values + 0.5).floor_().clamp_(0, 255).to(torch.uint8)
