"""Re-ranking by geometry: the best candidates of a search are matched with the query, and verified ones come first.

What is matched are local features: SIFT of the pictures, or a model's patch tokens, which may have been kept at ingest. One match
serves all hits of a parent: a reference is verified by the photograph that it was made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from outcrop.query.answers import Group, Hit, Query, Result, Results
from outcrop.query.deepening import REACH, Candidates, Steps
from outcrop.query.expansion import expanded
from outcrop.query.rerank_full import Seen, matched_again, worth_another_look
from outcrop.query.verification.confidence import MIN_INLIERS, Verification
from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.geometry import NO_PAIRS, verify
from outcrop.query.verification.originals import Original, Originals
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, parent_of
from outcrop.schema.places import place

DEPTH = 50
"""Parents that are matched with each query, before any more are."""
NOT_MATCHED = Verification(reason="beyond --rerank-depth: not matched with the query")

Kept = Callable[[Item], LocalFeatures | str | None]
"""Features of an item that need no original: kept when it was ingested, or of a tile's map (or why it has none); None if there
are none."""


@dataclass(frozen=True)
class Reranking:
    """How to re-rank: `depth` parents are matched with each query, and up to `reach` times as many while some of the last ones
    show its ground (`outcrop.query.deepening`); `min_inliers` verify (patch tokens need more than SIFT, see
    `outcrop.query.verification.confidence`); `abstain` leaves out all others; `expand` searches again with the verified ones, and
    matches up to `depth` new parents (`outcrop.query.expansion`)."""

    depth: int = DEPTH
    reach: int = REACH
    min_inliers: int = MIN_INLIERS
    abstain: bool = False
    expand: bool = False


def rerank(
    results: Results,
    verifier: Verifier,
    originals: Originals,
    how: Reranking = Reranking(),
    *,
    kept: Kept | None = None,
    progress: Callable[[int], None] | None = None,
) -> Results:
    """The same answers in the order of geometry, with the verification of each candidate.

    All are matched at a small size, the best few again at their full working size (`outcrop.query.rerank_full`). Beyond the
    depth, more are matched while some of the last ones show the query's ground; where the hits at hand end before, results that
    can be asked again are. Verified hits come first, most evidence first; then all others as the embedding ranked them. A
    candidate whose original is gone stays, unverified, and its verification says so. Where nothing is verified, `match` is False;
    with `how.abstain` unverified hits are left out. `timings` gains the seconds of "features", "verify" and "refine" (features
    and matches of the second pass); those of searching deeper are added to "search". Features that were `kept` (of the verifier's
    method) need no original. With `how.expand`, results that can be asked again are, where a hit is verified ("expand" has the
    seconds of that search). `progress` gets the number of queries done.
    """
    spent = {"features": 0.0, "verify": 0.0, "refine": 0.0} | ({"expand": 0.0} if how.expand else {})
    observer = _Observer(originals, verifier, kept)
    answered = []
    for number, result in enumerate(results.results, 1):
        answered.append(result if result.error else _reranked(result, verifier, observer, how, spent))
        if progress is not None:
            progress(number)
    timings = dict(results.timings)
    for step, seconds in spent.items():
        timings[step] = timings.get(step, 0.0) + seconds
    return replace(results, results=tuple(answered), timings=timings)


@dataclass(frozen=True)
class _Observation:
    """What is matched: local features, or why they are missing, and the picture they were made of if it still exists, with the
    digest of its bytes where it is known."""

    features: LocalFeatures | str
    path: Path | None = None
    digest: str = ""

    @property
    def seen(self) -> Seen | None:
        """The picture as the second pass wants it, if there are features and a file."""
        if isinstance(self.features, str) or self.path is None:
            return None
        return Seen(self.features, self.path, self.digest)


class _Observer:
    """Observes the photographs of items: by features that were kept, else by the original, each located once."""

    def __init__(self, originals: Originals, verifier: Verifier, kept: Kept | None) -> None:
        self._originals, self._verifier, self._kept = originals, verifier, kept
        self._known: dict[str, Original | str] = {}

    def observe(self, query: Query, candidates: dict[str, Item]) -> tuple[_Observation, dict[str, _Observation]]:
        """The query's features and those of each candidate, by parent; what must be made is made in threads."""
        items: dict[str, Item] = dict(candidates)
        own = "" if query.item is None else parent_of(query.item.key)
        if query.item is not None:
            items.setdefault(own, query.item)
        originals = {parent: self._find(item) for parent, item in items.items()}
        if query.item is None:
            originals[own] = Original(place(query.name), query.digest)
        had = dict(zip(items, self._verifier.map(self._kept or (lambda item: None), items.values()), strict=True))
        wanted = {o.path: o.digest for p, o in originals.items() if isinstance(o, Original) and had.get(p) is None}
        made = self._verifier.features_of(wanted)
        seen = {}
        for parent, original in originals.items():
            features = had.get(parent)
            if isinstance(original, str):
                seen[parent] = _Observation(original if features is None else features)
            else:
                found = made[original.path] if features is None else features
                seen[parent] = _Observation(found, original.path, original.digest)
        return seen[own], {parent: seen[parent] for parent in candidates}

    def _find(self, item: Item) -> Original | str:
        """The original, or the reason why it is missing."""
        parent = parent_of(item.key)
        if parent not in self._known:
            try:
                self._known[parent] = self._originals.find(item)
            except InputError as error:
                self._known[parent] = str(error)
        return self._known[parent]


def _reranked(
    result: Result, verifier: Verifier, observer: _Observer, how: Reranking, spent: dict[str, float]
) -> Result:
    matching = _Matching(result.query, verifier, observer, how.min_inliers, spent)
    hits = _in_steps(result, matching, Steps(how.depth, how.reach), spent)
    verifications, nearness = matching.verifications, {hit.item.id: hit.score for hit in hits}
    if how.expand and result.again is not None and any(each.verified for each in verifications.values()):
        begun = time.perf_counter()
        more = expanded(result.again, hits, _evidence(verifications))
        spent["expand"] += time.perf_counter() - begun
        hits, nearness = more.hits, more.nearness
        matching.match({parent_of(hit.item.key): hit.item for hit in more.candidates(verifications, how.depth)})
        matching.match_again()
    hits = _ordered(hits, verifications, nearness, verified_only=how.abstain)
    kept = {parent_of(hit.item.key) for hit in hits}
    match = any(verification.verified for verification in verifications.values())
    return replace(
        result,
        hits=hits,
        verifications={parent: verifications.get(parent, NOT_MATCHED) for parent in kept},
        match=match,
        matched=sum(verification.match is not None for verification in verifications.values()),
        no_match="" if match else _no_match(matching.own.features, verifications),
        again=None,
    )


def _ordered(
    hits: Sequence[Hit],
    verifications: Mapping[str, Verification],
    nearness: Mapping[str, float],
    *,
    verified_only: bool,
) -> tuple[Hit, ...]:
    """The hits ranked anew: verified ones by their evidence, then all others by their nearness."""

    def verification(hit: Hit) -> Verification:
        return verifications.get(parent_of(hit.item.key), NOT_MATCHED)

    ordered = sorted(hits, key=lambda hit: verification(hit).order(nearness[hit.item.id]), reverse=True)
    kept = (hit for hit in ordered if verification(hit).verified or not verified_only)
    return tuple(replace(hit, rank=rank, group=_unmeasured(hit.group)) for rank, hit in enumerate(kept, 1))


class _Matching:
    """What is matched with one query: each parent at a small size, the best few of them again."""

    def __init__(
        self, query: Query, verifier: Verifier, observer: _Observer, min_inliers: int, spent: dict[str, float]
    ) -> None:
        self.verifications: dict[str, Verification] = {}
        self.own = _Observation("")
        self._query, self._verifier, self._observer = query, verifier, observer
        self._min_inliers, self._spent = min_inliers, spent
        self._fresh: dict[str, _Observation] = {}

    def match(self, parents: dict[str, Item]) -> None:
        """The first pass over some parents; their verifications follow those of the former ones."""
        begun = time.perf_counter()
        self.own, found = self._observer.observe(self._query, parents)
        looked = time.perf_counter()
        self.verifications |= _verifications(self.own.features, found, self._verifier, self._min_inliers)
        self._fresh |= found
        self._spent["features"] += looked - begun
        self._spent["verify"] += time.perf_counter() - looked

    def match_again(self) -> None:
        """The second pass over the best few of the parents that were matched since the last one."""
        begun = time.perf_counter()
        before = {parent: self.verifications[parent] for parent in self._fresh}
        self.verifications |= _again(self.own, self._fresh, before, self._verifier, self._min_inliers)
        self._fresh = {}
        self._spent["refine"] += time.perf_counter() - begun


def _in_steps(result: Result, matching: _Matching, steps: Steps, spent: dict[str, float]) -> tuple[Hit, ...]:
    """Matches the candidates of a query as deep as is worth it; the hits, with those of the searches that took."""
    candidates = Candidates(result)
    for number in range(steps.reach):
        begun = time.perf_counter()
        parents = candidates.take(steps.depth, deeper=bool(number))
        if number:
            spent["search"] = spent.get("search", 0.0) + time.perf_counter() - begun
            if not parents:
                break
        matching.match(parents)
        if len(parents) < steps.depth or not steps.go_on(parents, matching.verifications):
            break
    matching.match_again()
    return candidates.hits


def _evidence(verifications: dict[str, Verification]) -> dict[str, float]:
    """The evidence of the verified parents."""
    return {
        parent: verification.match.evidence
        for parent, verification in verifications.items()
        if verification.verified and verification.match is not None
    }


def _unmeasured(group: Group | None) -> Group | None:
    """Without the margin, which the embedding gave against a neighbour that may now rank elsewhere."""
    return None if group is None else replace(group, margin=None)


def _verifications(
    query: LocalFeatures | str, found: dict[str, _Observation], verifier: Verifier, min_inliers: int
) -> dict[str, Verification]:
    """The verification of each parent."""
    verifications: dict[str, Verification] = {}
    pairs: list[tuple[str, Path | None, LocalFeatures]] = []
    for parent, seen in found.items():
        if isinstance(seen.features, str):
            verifications[parent] = Verification(reason=seen.features, unseen=True)
        elif isinstance(query, str):
            verifications[parent] = Verification(reason=f"the query has no picture: {query}")
        else:
            pairs.append((parent, seen.path, seen.features))
    if not isinstance(query, str):
        for (parent, path, _), match in zip(pairs, verifier.map(lambda p: verify(query, p[2]), pairs), strict=True):
            # Many answers are in memory at once: the pairs of points, which only drawings need, are left out.
            verifications[parent] = Verification.of(replace(match, pairs=NO_PAIRS), path, min_inliers)
    return {parent: verifications[parent] for parent in found}


def _again(
    query: _Observation,
    found: dict[str, _Observation],
    verifications: dict[str, Verification],
    verifier: Verifier,
    min_inliers: int,
) -> dict[str, Verification]:
    """The verifications of the best few at full working size; features without a file have no other size."""
    own = query.seen
    few = {parent: found[parent].seen for parent in worth_another_look(verifications, min_inliers)}
    seen = {parent: picture for parent, picture in few.items() if picture is not None}
    return {} if own is None else matched_again(own, seen, verifications, verifier, min_inliers)


def _no_match(query: LocalFeatures | str, verifications: dict[str, Verification]) -> str:
    """Why nothing is verified, in a line."""
    if isinstance(query, str):
        return f"the query has no picture: {query}"
    if not len(query):
        return "the query shows nothing distinctive"
    unseen = sum(verification.unseen for verification in verifications.values())
    most = max(
        (verification.match.inliers for verification in verifications.values() if verification.match is not None),
        default=0,
    )
    missing = f"; {unseen} of them have no picture" if unseen else ""
    return f"none of {len(verifications)} candidates is verified (the best has {most} inliers){missing}"
