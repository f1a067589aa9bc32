"""What a drawing process makes of a view before it comes back: the pixels that the network takes, and the thumbnail.

The process that writes rows has one Python for all views of a run, and a graphics card draws them by the hundred a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.images import fit_to, thumbnail
from outcrop.schema.space import Fit


@dataclass(frozen=True)
class FinishedView:
    """A view for a network, uint8 [H, W, 3], its thumbnail, and itself, uint8 [S, S, 3], if it is to be kept."""

    pixels: NDArray[np.uint8]
    thumbnail: bytes | None
    picture: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Finish:
    """Makes views ready for networks of an input `size` (height, width); with `thumbnails` these too, and what to `keep`."""

    size: tuple[int, int]
    fit: Fit
    thumbnails: bool
    keep: bool

    def __call__(self, view: NDArray[np.uint8]) -> FinishedView:
        """What is made of a view, uint8 [S, S, 3]."""
        picture = Image.fromarray(view)
        small = thumbnail(picture) if self.thumbnails else None
        return FinishedView(fit_to(picture, self.size, self.fit), small, view if self.keep else None)
