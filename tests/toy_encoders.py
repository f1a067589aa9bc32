"""What toy encoders share: batches are submitted, and made when their vectors are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Later:
    """Vectors that are made by `encode` when they are asked for."""

    def __init__(self, encode: Callable[[Any], NDArray[np.float32]], pixels: NDArray[np.uint8], done: bool) -> None:
        self._encode, self._pixels, self.done = encode, pixels, done

    def result(self) -> NDArray[np.float32]:
        return self._encode(self._pixels)


class Submits:
    """Gives an encoder with `encode` its `submit`, and what else an ingest asks of it."""

    device = "cpu"
    in_flight = 1
    at_once = True
    encode: Callable[[Any], NDArray[np.float32]]

    def submit(self, pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> Later:
        return Later(self.encode, np.stack(pixels), self.at_once)
