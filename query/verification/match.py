"""`query match`: two pictures matched with each other, or every picture of a folder with every other, without a collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from outcrop.query.verification.confidence import MIN_INLIERS, confidence, is_verified
from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.geometry import GeometricMatch, verify
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.errors import InputError


@dataclass(frozen=True)
class PairMatch:
    """Two pictures and what geometry says of them; `verified` says whether there are enough inliers."""

    query: Path
    candidate: Path
    match: GeometricMatch
    verified: bool

    @property
    def score(self) -> float:
        """How likely the match is right, 0 to 1 (`outcrop.query.verification.confidence`)."""
        return confidence(self.match.inliers, self.match.method)

    def as_json(self) -> dict[str, Any]:
        """``{"query", "candidate", "match", "score", "inliers", "rotation", "scale", "homography", "footprint", …}``."""
        return {
            "query": str(self.query),
            "candidate": str(self.candidate),
            "match": self.verified,
            "score": round(self.score, 6),
            **self.match.as_json(),
        }


@dataclass(frozen=True)
class AllMatches:
    """All against all: the verified matches (most inliers first), how many pairs were tried, and what could not be read."""

    pictures: int
    pairs: int
    matches: tuple[PairMatch, ...]
    failed: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """``{"pictures", "pairs", "matches": […], "failed": […]}``."""
        return {
            "pictures": self.pictures,
            "pairs": self.pairs,
            "matches": [match.as_json() for match in self.matches],
            "failed": list(self.failed),
        }


def match_pair(query: Path, candidate: Path, verifier: Verifier, *, min_inliers: int = MIN_INLIERS) -> PairMatch:
    """Matches one picture file with another; works without the verifier's threads.

    Raises:
        PictureError: one of them cannot be read.
    """
    match = verify(verifier.features(query), verifier.features(candidate))
    return PairMatch(query, candidate, match, is_verified(match, min_inliers))


def match_all(
    files: Sequence[Path],
    verifier: Verifier,
    *,
    min_inliers: int = MIN_INLIERS,
    progress: Callable[[int, int], None] | None = None,
) -> AllMatches:
    """Matches every picture with every other; the one that comes first by name is the query.

    The features of all pictures are held in memory (about 0.2 MB each); the work grows with the square of their number.
    `progress` gets the number of pairs done and of all pairs. Pictures that cannot be read are named and left out.

    Raises:
        InputError: fewer than two pictures can be read.
    """
    features: dict[Path, LocalFeatures] = {}
    failed = []
    for path, found in verifier.features_of(dict.fromkeys(files, "")).items():
        if isinstance(found, str):
            failed.append(found)
        else:
            features[path] = found
    if len(features) < 2:
        raise InputError("; ".join([*failed, "at least two pictures are needed"]))
    total = len(features) * (len(features) - 1) // 2
    matches = []
    matched = verifier.map(
        lambda pair: (*pair, verify(features[pair[0]], features[pair[1]])), combinations(features, 2)
    )
    for done, (query, candidate, match) in enumerate(matched, 1):
        if is_verified(match, min_inliers):
            matches.append(PairMatch(query, candidate, match, True))
        if progress is not None:
            progress(done, total)
    matches.sort(key=lambda found: -found.match.inliers)
    return AllMatches(len(features), total, tuple(matches), tuple(failed))
