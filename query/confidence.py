"""From inliers to a score: how sure a verified match is, and one number for geometry and embedding together.

The number of inliers alone cannot be compared with a cosine, and means something else for other features. So it goes through a
calibration curve, the share of right matches among those with so many inliers (the idea of WildFusion: Cermak et al., 2024).
"""

from __future__ import annotations

from query.geometry import Proof

MIN_INLIERS = 12
"""Inliers from which a candidate counts as verified. In 4,390 pairs of pictures of different ground none had more than 5."""
HALF, STEEPNESS = 8.0, 6.0
"""The calibration curve: the inliers at which a match is as likely wrong as right, and how fast that changes. The curve is
steeper in every set of pictures measured; this one leaves room for ground that repeats itself (docs/decisions/0013)."""
UNVERIFIED = 0.05
"""The most that an unverified candidate can reach: below every verified one."""


def confidence(inliers: int) -> float:
    """How likely a match with so many inliers is right, 0 to 1: ``1 / (1 + (8 / inliers)^6)``; 0 for none."""
    return 0.0 if inliers <= 0 else 1 / (1 + (HALF / inliers) ** STEEPNESS)


def is_verified(proof: Proof | None, min_inliers: int = MIN_INLIERS) -> bool:
    """Whether a proof has enough inliers to count."""
    return proof is not None and proof.homography is not None and proof.inliers >= min_inliers


def combined(proof: Proof | None, score: float, min_inliers: int = MIN_INLIERS) -> float:
    """One number, 0 to 1, for a candidate with a proof and an embedding score (cosine).

    Verified: its confidence. Unverified, or not to be verified: ``0.05 · (1 + score) / 2``, so that these stand below every
    verified one and among themselves as the embedding had them. It never falls when inliers are added.
    """
    if is_verified(proof, min_inliers) and proof is not None:
        return max(UNVERIFIED, confidence(proof.inliers))
    return UNVERIFIED * (1 + min(1.0, max(-1.0, score))) / 2


def order(proof: Proof | None, score: float, min_inliers: int = MIN_INLIERS) -> tuple[int, float]:
    """What candidates are sorted by, greatest first: inliers where verified (else 0), then the embedding score.

    The same order as `combined`, which cannot tell apart very many inliers from a few more.
    """
    return (proof.inliers if is_verified(proof, min_inliers) and proof is not None else 0), score
