"""From inliers to a score: how sure a verified match is, and one number for geometry and embedding together.

The number of inliers alone cannot be compared with a cosine, and means something else for other features. So it goes through a
calibration curve, the share of right matches at that number of inliers (the idea of WildFusion: Cermak et al., 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.query.verification.geometry import GeometricMatch

MIN_INLIERS = 12
"""Inliers from which a candidate counts as verified. In 4,447 pairs of pictures of different ground none had more than 5."""
MIN_INLIERS_PATCH = 25
"""The same of patch tokens, which are fewer, coarser and judged with more tolerance: of EfficientNet-Lite0's at 512 pixels, no
pair of 117 photographs of different ground had more than 5, but of 30 pairs of noise-like pictures two had 21."""
NEAR = 0.5
"""Of the inliers that verify, the share from which a candidate may still be verified at full size. Half of 12 is more than
pictures of different ground have."""
HALF, STEEPNESS = 8.0, 6.0
"""The calibration curve: the inliers at which a match is as likely wrong as right, and how fast that changes. The curve is
steeper in every set of pictures measured; this one leaves room for ground that repeats itself (docs/decisions/0011)."""
UNVERIFIED = 0.05
"""The most that an unverified candidate can reach: below every verified one."""


def least_inliers(method: str) -> int:
    """Inliers from which a candidate counts as verified by features of a method."""
    return MIN_INLIERS_PATCH if method == "patch" else MIN_INLIERS


def confidence(inliers: int, method: str = "sift") -> float:
    """How likely a match with this number of inliers is right, 0 to 1: ``1 / (1 + (8 / inliers)^6)``; 0 for none.

    The curve is measured for SIFT; for patch tokens it is stretched by the ratio of the inliers that count, no more.
    """
    half = HALF * least_inliers(method) / MIN_INLIERS
    return 0.0 if inliers <= 0 else 1 / (1 + (half / inliers) ** STEEPNESS)


def is_verified(match: GeometricMatch | None, min_inliers: int = MIN_INLIERS) -> bool:
    """Whether a match has enough inliers to count."""
    return match is not None and match.homography is not None and match.inliers >= min_inliers


@dataclass(frozen=True)
class Verification:
    """What became of one candidate of a query.

    `match` is None where the candidate could not be matched with the query at all; `reason` says why it is not verified ('' if
    it is); `original` is the picture whose pixels the match refers to, if it still exists; `unseen` marks candidates whose
    picture is missing or unreadable and of which no features were kept; `again` those that are verified at full working size.
    """

    match: GeometricMatch | None = None
    verified: bool = False
    reason: str = ""
    original: Path | None = None
    unseen: bool = False
    again: bool = False

    @classmethod
    def of(cls, match: GeometricMatch, original: Path | None, min_inliers: int = MIN_INLIERS) -> Verification:
        """The verification of a candidate that was matched with the query."""
        if is_verified(match, min_inliers):
            return cls(match, True, "", original)
        return cls(match, False, match.reason or f"{match.inliers} inliers, {min_inliers} are needed", original)

    def combined(self, score: float) -> float:
        """One number, 0 to 1, for geometry and an embedding score (cosine) together.

        Verified: the confidence of its inliers. Otherwise ``0.05 · (1 + score) / 2``, so that unverified hits rank below all
        verified ones, and among themselves as the embedding ranked them. It never falls when inliers are added. It says how sure
        a match is, not which of two sure ones shows more of the query: that is the order's.
        """
        if self.verified and self.match is not None:
            return max(UNVERIFIED, confidence(self.match.inliers, self.match.method))
        # 1 + score rounds to 2 just below a score of 1.
        return min(UNVERIFIED * (1 + min(1.0, max(-1.0, score))) / 2, math.nextafter(UNVERIFIED, 0.0))

    def order(self, score: float) -> tuple[int, float, float]:
        """What hits are sorted by, greatest first: whether they are verified (2: at full working size), the evidence, and the
        embedding score, which alone orders what is not verified.

        The evidence of two sizes cannot be compared: what was looked at again, the best of the first pass, stays before the rest.
        """
        if not self.verified or self.match is None:
            return 0, 0.0, score
        return 1 + self.again, self.match.evidence, score

    def as_json(self, score: float) -> dict[str, Any]:
        """``{"combined", "verified", "inliers", "geometry"}``: what a hit's answer has beside the embedding's score."""
        return {
            "combined": round(self.combined(score), 6),
            "verified": self.verified,
            "inliers": self.match.inliers if self.match is not None else None,
            "geometry": {
                **(self.match.as_json() if self.match is not None else {}),
                **({"reason": self.reason} if self.reason else {}),
            },
        }
