"""What users of an encoder need of it: `outcrop.embed.encoder.Encoder`, `outcrop.embed.sharded.ShardedEncoder` and
`outcrop.embed.opening.LazyEncoder` are such."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.features import Features
from outcrop.embed.images import Decoded
from outcrop.embed.turning import CropSampler
from outcrop.schema.space import Space


class PictureEncoder(Protocol):
    """Makes vectors of one embedding space from pictures."""

    space: Space

    def prepare(self, decoded: Decoded) -> NDArray[np.uint8]:
        """Pixels [H, W, 3] for `encode`."""
        ...

    def sampler(self, decoded: Decoded) -> CropSampler:
        """Cuts turned windows out of one picture, as pixels for `encode`."""
        ...

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors [N, D] of length 1 for pixels [N, H, W, 3]."""
        ...

    def features(self, pixels: NDArray[np.uint8]) -> Features:
        """The same vectors, and the patch tokens, from one pass; N at least 1."""
        ...

    @property
    def batch(self) -> int:
        """How many pictures are best handed over at once."""
        ...


class OpenEncoder(PictureEncoder, Protocol):
    """An encoder that holds a device, or several (``cuda:0,cuda:1``)."""

    device: str

    def describe(self) -> str:
        """One line for logs."""
        ...

    def close(self) -> None:
        """Gives back what it holds; it is of no use afterwards."""
        ...
