"""The second pass of re-ranking: the few best candidates are matched with the query again, at their full working size.

The first pass looks at pictures reduced to 800 pixels, which is cheap enough for all candidates but makes neighbours that overlap
look alike. What it verified, or nearly, is looked at once more as large as the pictures are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from outcrop.query.verification.confidence import NEAR, Verification
from outcrop.query.verification.coregister import coregistered
from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.geometry import NO_PAIRS, verify
from outcrop.query.verification.verifier import Verifier

AGAIN = 6
"""Candidates that are matched again, at most."""


@dataclass(frozen=True)
class Seen:
    """A picture in the first pass: its features there, its file and the digest of the file's bytes."""

    features: LocalFeatures
    path: Path
    digest: str

    @property
    def whole(self) -> bool:
        """Whether the first pass saw it as large as it is."""
        return self.features.whole


def worth_another_look(verifications: Mapping[str, Verification], min_inliers: int) -> list[str]:
    """The parents that are verified or near it, best first; `AGAIN` at most."""
    near = [
        (verification.order(0.0), verification.match.inliers, parent)
        for parent, verification in verifications.items()
        if verification.match is not None and verification.match.inliers >= NEAR * min_inliers
    ]
    return [parent for *_, parent in sorted(near, key=lambda entry: entry[:2], reverse=True)[:AGAIN]]


def matched_again(
    query: Seen,
    candidates: Mapping[str, Seen],
    before: Mapping[str, Verification],
    verifier: Verifier,
    min_inliers: int,
) -> dict[str, Verification]:
    """The verifications of candidates at full working size, by parent, their homographies made more exact; as they were where the
    second pass verifies nothing.

    Features of pictures that the first pass saw as large as they are are not made again. A picture that cannot be read any more
    counts by what the first pass saw. Features that have one size only (patch tokens) have no second pass.
    """
    if verifier.finer is None:
        return {}
    files = {seen.path: seen.digest for seen in (query, *candidates.values()) if not seen.whole}
    made = verifier.features_of(files, verifier.finer)
    full = {path: features for path, features in made.items() if not isinstance(features, str)}

    def verification(parent: str) -> Verification:
        seen, first = candidates[parent], before[parent]
        one, other = full.get(query.path, query.features), full.get(seen.path, seen.features)
        same = first.match is not None and one is query.features and other is seen.features
        match = first.match if same and first.match is not None else verify(one, other)
        second = Verification.of(replace(match, pairs=NO_PAIRS), seen.path, min_inliers)
        if not second.verified or second.match is None:
            return first
        return replace(second, match=coregistered(one, other, second.match), again=True)

    return dict(zip(candidates, verifier.map(verification, candidates), strict=True))
