"""Re-ranking by geometry: the best candidates of a search are held against the query, and verified ones come first.

One proof serves all hits of a parent: what is verified of a reference is the photograph that it was made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from query.answers import Query, Result, Results
from query.confidence import MIN_INLIERS, Verdict
from query.features import LocalFeatures
from query.geometry import verify
from query.originals import Original, Originals
from query.verifier import Verifier
from schema.errors import InputError
from schema.item import Item, parent_of

DEPTH = 50
"""Parents that are held against each query."""
NOT_HELD = Verdict(reason="beyond --rerank-depth: not held against the query")


@dataclass(frozen=True)
class Reranking:
    """How to re-rank: `depth` parents are held against each query; `min_inliers` verify; `abstain` leaves out all others."""

    depth: int = DEPTH
    min_inliers: int = MIN_INLIERS
    abstain: bool = False


def rerank(
    results: Results,
    verifier: Verifier,
    originals: Originals,
    how: Reranking = Reranking(),
    *,
    progress: Callable[[int], None] | None = None,
) -> Results:
    """The same answers in the order of geometry, with a verdict on each candidate.

    Verified hits come first, most inliers first, hits of the same inliers as the embedding had them; then all others as the
    embedding had them. A candidate whose original is gone stays, unverified, and its verdict says so. Where nothing is verified,
    `match` is False; with `how.abstain` what is not verified is left out. `timings` gains the seconds of "features" and "verify".
    `progress` is told how many queries are done.
    """
    spent = {"features": 0.0, "verify": 0.0}
    files = _Files(originals)
    answered = []
    for number, result in enumerate(results.results, 1):
        answered.append(result if result.error else _reranked(result, verifier, files, how, spent))
        if progress is not None:
            progress(number)
    timings = {**results.timings, **spent}
    return replace(results, results=tuple(answered), timings=timings)


class _Files:
    """Originals of items, each looked for once."""

    def __init__(self, originals: Originals) -> None:
        self._originals = originals
        self._known: dict[str, Original | str] = {}

    def find(self, item: Item) -> Original | str:
        """The original, or why there is none."""
        parent = parent_of(item.key)
        if parent not in self._known:
            try:
                self._known[parent] = self._originals.find(item)
            except InputError as error:
                self._known[parent] = str(error)
        return self._known[parent]


def _reranked(result: Result, verifier: Verifier, files: _Files, how: Reranking, spent: dict[str, float]) -> Result:
    parents: dict[str, Item] = {}
    for hit in result.hits:
        if len(parents) == how.depth:
            break
        parents.setdefault(parent_of(hit.item.key), hit.item)
    begun = time.perf_counter()
    asked = _query_original(result.query, files)
    found = {parent: files.find(item) for parent, item in parents.items()}
    wanted = [original for original in (asked, *found.values()) if isinstance(original, Original)]
    features = verifier.features_of({original.path: original.digest for original in wanted})
    looked = time.perf_counter()
    verdicts = _verdicts(asked, found, features, verifier, how.min_inliers)
    spent["features"] += looked - begun
    spent["verify"] += time.perf_counter() - looked
    ordered = sorted(
        result.hits,
        key=lambda hit: verdicts.get(parent_of(hit.item.key), NOT_HELD).order(hit.score),
        reverse=True,
    )
    match = any(verdict.verified for verdict in verdicts.values())
    if how.abstain:
        ordered = [hit for hit in ordered if verdicts.get(parent_of(hit.item.key), NOT_HELD).verified]
    hits = tuple(replace(hit, rank=rank) for rank, hit in enumerate(ordered, 1))
    kept = {parent_of(hit.item.key) for hit in hits}
    reason = "" if match else _no_match(asked, features, verdicts)
    return replace(
        result,
        hits=hits,
        verdicts={parent: verdicts.get(parent, NOT_HELD) for parent in kept},
        match=match,
        no_match=reason,
    )


def _query_original(query: Query, files: _Files) -> Original | str:
    if query.item is not None:
        return files.find(query.item)
    return Original(Path(query.name), query.digest)


def _verdicts(
    asked: Original | str,
    found: dict[str, Original | str],
    features: dict[Path, LocalFeatures | str],
    verifier: Verifier,
    min_inliers: int,
) -> dict[str, Verdict]:
    """The verdict on each parent."""
    query = asked if isinstance(asked, str) else features[asked.path]
    verdicts: dict[str, Verdict] = {}
    pairs: list[tuple[str, Path, LocalFeatures]] = []
    for parent, original in found.items():
        candidate = original if isinstance(original, str) else features[original.path]
        if isinstance(candidate, str):
            verdicts[parent] = Verdict(reason=candidate, unseen=True)
        elif isinstance(query, str):
            verdicts[parent] = Verdict(reason=f"the query has no picture: {query}")
        elif isinstance(original, Original):
            pairs.append((parent, original.path, candidate))
    if not isinstance(query, str):
        for (parent, path, _), match in zip(pairs, verifier.map(lambda p: verify(query, p[2]), pairs), strict=True):
            verdicts[parent] = Verdict.of(match.proof, path, min_inliers)
    return {parent: verdicts[parent] for parent in found}


def _no_match(asked: Original | str, features: dict[Path, LocalFeatures | str], verdicts: dict[str, Verdict]) -> str:
    """Why nothing is verified, in a line."""
    query = asked if isinstance(asked, str) else features[asked.path]
    if isinstance(query, str):
        return f"the query has no picture: {query}"
    if not len(query):
        return "the query shows nothing distinctive"
    unseen = sum(verdict.unseen for verdict in verdicts.values())
    most = max((verdict.proof.inliers for verdict in verdicts.values() if verdict.proof is not None), default=0)
    missing = f"; {unseen} of them have no picture" if unseen else ""
    return f"none of {len(verdicts)} candidates is verified (the best has {most} inliers){missing}"
