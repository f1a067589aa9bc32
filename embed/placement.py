"""Where the pixels of a network's input lie in the picture they were made of.

Coordinates are (x, y), x to the right and y down, in pixels; the upper left pixel has its centre at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.images import Decoded, inner_box
from outcrop.embed.resident import Resident
from outcrop.schema.space import Fit


@dataclass(frozen=True)
class Placement:
    """An affine transform from points of the input to points of the upright full-size picture.

    `matrix` is (a, b, c, d, e, f): x' = a x + b y + c, y' = d x + e y + f. `width` and `height` are the picture's.
    """

    matrix: tuple[float, float, float, float, float, float]
    width: int
    height: int

    @classmethod
    def of(cls, decoded: Decoded | Resident, size: tuple[int, int], fit: Fit, share: float = 1.0) -> Placement:
        """The placement of what `outcrop.embed.images.fit_to` makes of a decoded picture."""
        box, (left, top, width, height) = inner_box(decoded.size, size, fit, share)
        full = decoded.width / decoded.size[0], decoded.height / decoded.size[1]
        scale_x = (box[2] - box[0]) / width * full[0]
        scale_y = (box[3] - box[1]) / height * full[1]
        x = (0.5 - left) * scale_x + box[0] * full[0] - 0.5
        y = (0.5 - top) * scale_y + box[1] * full[1] - 0.5
        return cls((scale_x, 0.0, x, 0.0, scale_y, y), decoded.width, decoded.height)

    def to_source(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Points of the picture, [..., 2], from points of the input [..., 2]. They may lie outside it where the picture was
        padded."""
        a, b, c, d, e, f = self.matrix
        x, y = np.asarray(points, np.float64)[..., 0], np.asarray(points, np.float64)[..., 1]
        return np.stack([a * x + b * y + c, d * x + e * y + f], -1)
