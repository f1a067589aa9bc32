"""Re-ranking by geometry: the best candidates of a search are held against the query, and verified ones come first.

What is held are local features: SIFT of the pictures, or a model's patch tokens, which may have been kept at ingest. One proof
serves all hits of a parent: what is verified of a reference is the photograph that it was made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from outcrop.query.answers import Group, Query, Result, Results
from outcrop.query.verification.confidence import MIN_INLIERS, Verdict
from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.geometry import verify
from outcrop.query.verification.originals import Original, Originals
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, parent_of

DEPTH = 50
"""Parents that are held against each query."""
NOT_HELD = Verdict(reason="beyond --rerank-depth: not held against the query")

Kept = Callable[[Item], LocalFeatures | None]
"""Features of an item's photograph that were kept when it was ingested, if they were."""


@dataclass(frozen=True)
class Reranking:
    """How to re-rank: `depth` parents are held against each query; `min_inliers` verify (patch tokens want more than SIFT, see
    `outcrop.query.verification.confidence`); `abstain` leaves out all others."""

    depth: int = DEPTH
    min_inliers: int = MIN_INLIERS
    abstain: bool = False


def rerank(
    results: Results,
    verifier: Verifier,
    originals: Originals,
    how: Reranking = Reranking(),
    *,
    kept: Kept | None = None,
    progress: Callable[[int], None] | None = None,
) -> Results:
    """The same answers in the order of geometry, with a verdict on each candidate.

    Verified hits come first, most inliers first, hits of the same inliers as the embedding had them; then all others as the
    embedding had them. A candidate whose original is gone stays, unverified, and its verdict says so. Where nothing is verified,
    `match` is False; with `how.abstain` what is not verified is left out. `timings` gains the seconds of "features" and "verify".
    Features that were `kept` (of the verifier's method) need no original. `progress` is told how many queries are done.
    """
    spent = {"features": 0.0, "verify": 0.0}
    sight = _Sight(originals, verifier, kept)
    answered = []
    for number, result in enumerate(results.results, 1):
        answered.append(result if result.error else _reranked(result, verifier, sight, how, spent))
        if progress is not None:
            progress(number)
    timings = {**results.timings, **spent}
    return replace(results, results=tuple(answered), timings=timings)


@dataclass(frozen=True)
class _Seen:
    """What is held: local features, or why there are none, and the picture they are of where it is there."""

    features: LocalFeatures | str
    path: Path | None = None


class _Sight:
    """Looks at the photographs of items: at features that were kept, else at the original, each looked for once."""

    def __init__(self, originals: Originals, verifier: Verifier, kept: Kept | None) -> None:
        self._originals, self._verifier, self._kept = originals, verifier, kept
        self._known: dict[str, Original | str] = {}

    def see(self, query: Query, candidates: dict[str, Item]) -> tuple[_Seen, dict[str, _Seen]]:
        """The query's features and those of each candidate, by parent; what must be made is made in threads."""
        items: dict[str, Item] = dict(candidates)
        asked = "" if query.item is None else parent_of(query.item.key)
        if query.item is not None:
            items.setdefault(asked, query.item)
        there = {parent: self._find(item) for parent, item in items.items()}
        if query.item is None:
            there[asked] = Original(Path(query.name), query.digest)
        had = {parent: self._kept(item) if self._kept is not None else None for parent, item in items.items()}
        wanted = {o.path: o.digest for p, o in there.items() if isinstance(o, Original) and had.get(p) is None}
        made = self._verifier.features_of(wanted)
        seen = {}
        for parent, original in there.items():
            features = had.get(parent)
            if isinstance(original, str):
                seen[parent] = _Seen(original if features is None else features)
            else:
                seen[parent] = _Seen(made[original.path] if features is None else features, original.path)
        return seen[asked], {parent: seen[parent] for parent in candidates}

    def _find(self, item: Item) -> Original | str:
        """The original, or why there is none."""
        parent = parent_of(item.key)
        if parent not in self._known:
            try:
                self._known[parent] = self._originals.find(item)
            except InputError as error:
                self._known[parent] = str(error)
        return self._known[parent]


def _reranked(result: Result, verifier: Verifier, sight: _Sight, how: Reranking, spent: dict[str, float]) -> Result:
    parents: dict[str, Item] = {}
    for hit in result.hits:
        if len(parents) == how.depth:
            break
        parents.setdefault(parent_of(hit.item.key), hit.item)
    begun = time.perf_counter()
    asked, found = sight.see(result.query, parents)
    looked = time.perf_counter()
    verdicts = _verdicts(asked.features, found, verifier, how.min_inliers)
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
    hits = tuple(replace(hit, rank=rank, group=_unmeasured(hit.group)) for rank, hit in enumerate(ordered, 1))
    kept = {parent_of(hit.item.key) for hit in hits}
    reason = "" if match else _no_match(asked.features, verdicts)
    return replace(
        result,
        hits=hits,
        verdicts={parent: verdicts.get(parent, NOT_HELD) for parent in kept},
        match=match,
        no_match=reason,
    )


def _unmeasured(group: Group | None) -> Group | None:
    """Without the margin, which was the embedding's to a neighbour that may stand elsewhere now."""
    return None if group is None else replace(group, margin=None)


def _verdicts(
    query: LocalFeatures | str, found: dict[str, _Seen], verifier: Verifier, min_inliers: int
) -> dict[str, Verdict]:
    """The verdict on each parent."""
    verdicts: dict[str, Verdict] = {}
    pairs: list[tuple[str, Path | None, LocalFeatures]] = []
    for parent, seen in found.items():
        if isinstance(seen.features, str):
            verdicts[parent] = Verdict(reason=seen.features, unseen=True)
        elif isinstance(query, str):
            verdicts[parent] = Verdict(reason=f"the query has no picture: {query}")
        else:
            pairs.append((parent, seen.path, seen.features))
    if not isinstance(query, str):
        for (parent, path, _), match in zip(pairs, verifier.map(lambda p: verify(query, p[2]), pairs), strict=True):
            verdicts[parent] = Verdict.of(match.proof, path, min_inliers)
    return {parent: verdicts[parent] for parent in found}


def _no_match(query: LocalFeatures | str, verdicts: dict[str, Verdict]) -> str:
    """Why nothing is verified, in a line."""
    if isinstance(query, str):
        return f"the query has no picture: {query}"
    if not len(query):
        return "the query shows nothing distinctive"
    unseen = sum(verdict.unseen for verdict in verdicts.values())
    most = max((verdict.proof.inliers for verdict in verdicts.values() if verdict.proof is not None), default=0)
    missing = f"; {unseen} of them have no picture" if unseen else ""
    return f"none of {len(verdicts)} candidates is verified (the best has {most} inliers){missing}"
