"""Patch tokens of a vision model as local features: what `query match --features patch` holds against each other.

A token says what a patch shows, not where its corner is: matches are right to about half a patch. Learned tokens find ground
that has changed its look (season, light), and are weak against turned pictures, which SIFT is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embed.features import FeatureKind
from embed.placement import Placement
from query.features import LocalFeatures
from query.geometry import TOLERANCE

if TYPE_CHECKING:
    from embed.encoder import Encoder
    from embed.images import Decoded

WITHIN = 0.75
"""Patches by which an inlier may lie off."""


@dataclass(frozen=True)
class PatchTokens:
    """The patch tokens of an encoder, as an `Extractor`."""

    encoder: Encoder

    @property
    def method(self) -> str:
        """The kind of features."""
        return "patch"

    @property
    def fingerprint(self) -> str:
        """Kind, version of this code, and the encoder's space."""
        return f"patch-1-{self.encoder.space.fingerprint}"

    @property
    def wanted(self) -> tuple[int, int]:
        """The network's input."""
        return self.encoder.space.size

    def extract(self, decoded: Decoded) -> LocalFeatures:
        """A feature for each patch whose middle lies in the picture (not in the padding around it)."""
        space = self.encoder.space
        tokens = self.encoder.features(self.encoder.prepare(decoded)[None]).patches[0]
        grid = tokens.shape[0], tokens.shape[1]
        placement = Placement.of(decoded, space.size, space.fit)
        points = placement.to_source(FeatureKind.parse("patch").centres(grid, space.size)).reshape(-1, 2)
        inside = ((points > -0.5) & (points < [decoded.width - 0.5, decoded.height - 0.5])).all(axis=1)
        flat = tokens.reshape(-1, tokens.shape[-1])[inside].astype(np.float32)
        unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
        across, down = placement.matrix[0] * space.size[1] / grid[1], placement.matrix[4] * space.size[0] / grid[0]
        # The tolerance of the homography is in working pixels: so large that it is `WITHIN` patches.
        working = max(across, down) * WITHIN / TOLERANCE
        return LocalFeatures(
            points[inside].astype(np.float32),
            unit.astype(np.float16),
            decoded.width,
            decoded.height,
            working,
            self.method,
        )
