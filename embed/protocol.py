"""What users of an encoder need of it, whether it is one device's (`outcrop.embed.encoder.Encoder`), several devices'
(`outcrop.embed.sharded.ShardedEncoder`) or not open yet (`outcrop.embed.opening.LazyEncoder`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.features import Features
from outcrop.schema.space import Space

if TYPE_CHECKING:
    from outcrop.embed.staging import Rows


class Pending(Protocol):
    """Vectors that are being made."""

    @property
    def done(self) -> bool:
        """Whether `result` would not wait."""
        ...

    def result(self) -> NDArray[np.float32]:
        """The vectors, or what `PictureEncoder.encode` raises; to be called once."""
        ...


class PictureEncoder(Protocol):
    """Makes vectors of one embedding space from pixels, which `outcrop.embed.crops` makes of pictures. Threads may share it."""

    space: Space

    @property
    def device(self) -> str:
        """Where it runs, as torch names it; several with commas (``cuda:0,cuda:1``)."""
        ...

    @property
    def batch(self) -> int:
        """How many pictures are best handed over at once."""
        ...

    @property
    def in_flight(self) -> int:
        """How many submitted batches keep it busy; more only take memory."""
        ...

    def encode(self, pixels: Rows) -> NDArray[np.float32]:
        """Vectors [N, D] of length 1 for pixels [N, H, W, 3], or for tensors [N, 3, H, W] on its device."""
        ...

    def submit(self, pixels: Rows) -> Pending:
        """As `encode`, without waiting for the vectors."""
        ...

    def features(self, pixels: Rows) -> Features:
        """The same vectors, and the patch tokens, from one pass; N at least 1."""
        ...

    def describe(self) -> str:
        """One line for logs."""
        ...

    def close(self) -> None:
        """Gives back what it holds; it is of no use afterwards."""
        ...
