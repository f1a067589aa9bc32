"""Answers: what was asked, the hits, and both as the plain values of JSON and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from outcrop.embed.photo import PhotoMetadata
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.location import Location
from outcrop.schema.columns import own_of
from outcrop.schema.films import second_of
from outcrop.schema.item import ANSWER_FIELDS, UNKNOWN_COORDINATE, Item, parent_of
from outcrop.screen.notebook import html_table
from outcrop.store.search import Hit as StoredHit
from outcrop.store.search import Plan

if TYPE_CHECKING:
    from outcrop.query.expansion import Again


@dataclass(frozen=True)
class Query:
    """What was asked: a picture's path or an item's key; the thumbnail (JPEG) and place of a picture, the item of a key.

    `remark` says what the answer suffers from, '' where nothing is known to be wrong."""

    name: str
    digest: str = ""
    thumbnail: bytes | None = None
    metadata: PhotoMetadata | None = None
    item: Item | None = None
    remark: str = ""

    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees of the photograph or item, None where unknown."""
        facts = self.metadata
        if facts is not None and facts.latitude is not None and facts.longitude is not None:
            return facts.latitude, facts.longitude
        if self.item is not None and self.item.latitude != UNKNOWN_COORDINATE:
            return self.item.latitude, self.item.longitude
        return None


@dataclass(frozen=True)
class Group:
    """What is behind a hit that was put together from several comparisons with one parent.

    `parent` is the key of the photograph (or specimen); `votes` counts the comparisons that were among the best (its references,
    or the query's turns). `rotations` are (degrees, best score) for each rotation among them, by degrees: the query looks like
    the parent turned counter-clockwise by so much. `rotation` is the rotation estimated from them, None where nothing was
    turned. `margin` is the score less that of the next parent, None for the last one and after re-ranking.
    """

    parent: str
    votes: int
    rotations: tuple[tuple[float, float], ...] = ()
    rotation: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Hit(StoredHit):
    """One answer: rank, score and item; where hits are grouped by parent, the best item of the parent and its group."""

    group: Group | None = None

    @classmethod
    def of(cls, hit: StoredHit) -> Hit:
        """The same hit, of no group."""
        return cls(hit.rank, hit.score, hit.item)


@dataclass(frozen=True)
class Result:
    """The hits of one query, best first; or why it could not be asked.

    Re-ranked (`outcrop.query.rerank`), `verifications` has one for each parent among the hits, `match` says whether any was
    verified, `matched` how many candidates were matched with the query, and `no_match` why none was verified. Located
    (`outcrop.query.locating`), there is a `location`, or `no_location` says what is missing; `elsewhere` are other places, by
    hits that contradict it, where these were asked for. `again` is how to ask once more (`outcrop.query.expansion`), where that
    was asked for, until it was done.
    """

    query: Query
    hits: tuple[Hit, ...] = ()
    error: str = ""
    verifications: Mapping[str, Verification] = field(default_factory=dict)
    match: bool | None = None
    matched: int = 0
    no_match: str = ""
    location: Location | None = None
    no_location: str = ""
    elsewhere: tuple[Location, ...] = ()
    again: Again | None = field(default=None, repr=False, compare=False)

    def verification(self, hit: StoredHit) -> Verification | None:
        """What geometry says of a hit; None where it was not asked."""
        return self.verifications.get(parent_of(hit.item.key))


@dataclass(frozen=True)
class Results:
    """The answers of one call. `plan` is the one that ran (of the last batch, where there were several).

    `timings` are seconds by step: "embed" (read, decode, encode), "search", and those of later steps. `no_hits` says why, where
    no query has a hit.
    """

    collection: str
    plan: Plan | None
    results: tuple[Result, ...] = field(default=())
    timings: Mapping[str, float] = field(default_factory=dict)
    no_hits: str = ""

    def _repr_html_(self) -> str:
        """The hits as a table, in a notebook."""
        rows = [
            {"query": result.query.name, "rank": hit.rank, "score": hit.score, "key": hit.item.key}
            for result in self.results
            for hit in result.hits
        ] + [{"query": result.query.name, "key": result.error} for result in self.results if result.error]
        return html_table(rows, ("query", "rank", "score", "key"), f"{len(self.results)} queries of {self.collection}")

    def as_json(self) -> dict[str, Any]:
        """``{"collection", "plan", "timings", "queries": [{"query", "hits": [{"rank", "key", "score", …}]}]}``."""
        return {
            "collection": self.collection,
            "plan": plan_json(self.plan),
            "timings": timings_json(self.timings),
            "queries": [result_json(r) for r in self.results],
        }


def joined(batches: Iterable[Results]) -> Results:
    """The answers of several calls to one collection as one, queries in order of their names; at least one batch.

    Its plan is the last one that ran.
    """
    all_of_them = list(batches)
    plans = [batch.plan for batch in all_of_them if batch.plan is not None]
    ordered = sorted((each for batch in all_of_them for each in batch.results), key=lambda each: each.query.name)
    reason = "" if any(result.hits for result in ordered) else all_of_them[-1].no_hits
    plan = plans[-1] if plans else None
    return Results(all_of_them[-1].collection, plan, tuple(ordered), total_timings(all_of_them), reason)


def first_hits(results: Results, k: int) -> Results:
    """The same answers with the first `k` hits of each, and the verifications on these."""

    def cut(result: Result) -> Result:
        hits = result.hits[:k]
        kept = {parent_of(hit.item.key) for hit in hits}
        verifications = {
            parent: verification for parent, verification in result.verifications.items() if parent in kept
        }
        return replace(result, hits=hits, verifications=verifications)

    return replace(results, results=tuple(cut(result) for result in results.results))


def hit_json(hit: StoredHit, verification: Verification | None = None) -> dict[str, Any]:
    """A hit as the answers' plain values; that of a group has `parent`, `votes`, `rotations`, `estimated_rotation`, `margin`;
    with what geometry says of it, where that was asked. The own columns of the item, if it has any, are `columns`."""
    row: dict[str, Any] = {"rank": hit.rank, "key": hit.item.key, "score": round(hit.score, 6)}
    row.update({name: getattr(hit.item, name) for name in ANSWER_FIELDS if name != "key"})
    row["kind"] = str(hit.item.kind)
    if own := own_of(hit.item.extra):
        row["columns"] = own
    if (second := second_of(hit.item)) is not None:
        row["second"] = second
    if isinstance(hit, Hit) and hit.group is not None:
        row |= group_json(hit.group)
    return row if verification is None else {**row, **verification.as_json(hit.score)}


def group_json(group: Group) -> dict[str, Any]:
    """A group as plain values."""
    return {
        "parent": group.parent,
        "votes": group.votes,
        "rotations": [[rotation, round(score, 6)] for rotation, score in group.rotations],
        "estimated_rotation": round(group.rotation, 1) % 360 if group.rotation is not None else None,
        "margin": round(group.margin, 6) if group.margin is not None else None,
    }


def result_json(result: Result) -> dict[str, Any]:
    """A result as plain values."""
    row: dict[str, Any] = {"query": result.query.name}
    if result.query.remark:
        row["remark"] = result.query.remark
    if result.match is not None:
        row |= {"match": result.match, "matched": result.matched}
        if result.no_match:
            row["reason"] = result.no_match
    if result.location is not None or result.no_location:
        row["location"] = result.location.as_json() if result.location is not None else None
        if result.no_location:
            row["location_missing"] = result.no_location
    row["hits"] = [hit_json(hit, result.verification(hit)) for hit in result.hits]
    return {**row, "error": result.error} if result.error else row


def total_timings(batches: Sequence[Results]) -> dict[str, float]:
    """Seconds by step over several answers."""
    total: dict[str, float] = {}
    for batch in batches:
        for step, seconds in batch.timings.items():
            total[step] = total.get(step, 0.0) + seconds
    return total


def timings_json(timings: Mapping[str, float]) -> dict[str, float]:
    """Seconds by step as plain values."""
    return {step: round(seconds, 4) for step, seconds in timings.items()}


def plan_json(plan: Plan | None) -> dict[str, Any] | None:
    """A plan as plain values."""
    if plan is None:
        return None
    return {
        "method": plan.method,
        "index": plan.index,
        "reason": plan.reason,
        "partitions": list(plan.partitions) if plan.partitions is not None else None,
        "filter": plan.filter,
        "kept": plan.kept,
        "total": plan.total,
        "params": plan.params,
        "fallback": plan.fallback,
        "seconds": round(plan.seconds, 4),
    }
