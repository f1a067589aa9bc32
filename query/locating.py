"""Answers with the places of their queries: the verified hits of each, and the estimate that they give."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from outcrop.query.answers import Result, Results
from outcrop.query.map_locating import MapLocator
from outcrop.query.verification import locate as verified
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.location import Location
from outcrop.schema.item import Item, Kind, parent_of
from outcrop.schema.machine import cores

WEAK = 8
"""Inliers from which an unverified hit may say where a query was taken, where several places are asked for: as likely right as
wrong by itself."""
Verified = tuple[tuple[Item, Verification], ...]


def locate(result: Result, maps: MapLocator | None = None) -> Location | str:
    """The place of a re-ranked query, or what is missing to estimate it; by tiles of `maps` where any is verified."""
    hits = verified_hits(result)
    return _by(hits, result, maps) if hits else _nothing(result)


def places(result: Result, maps: MapLocator | None = None, most: int = 3) -> tuple[Location, ...] | str:
    """The place of a re-ranked query, then others by the hits that contradict it, `most` in all; or what is missing.

    The others are as exact as their hits alone make them. Where no hit is verified, those with at least `WEAK` inliers are asked,
    for whoever can tell from elsewhere whether they are right.
    """
    hits = verified_hits(result) or _weak_hits(result)
    found: list[Location] = []
    while hits and len(found) < most:
        place = _by(hits, result, maps, exactly=not found)
        if isinstance(place, str):
            return tuple(found) or place
        found.append(place)
        used = {match.key for match in place.matches}
        hits = tuple(hit for hit in hits if hit[0].key not in used)
    return tuple(found) or _nothing(result)


def _nothing(result: Result) -> str:
    return f"no hit is verified: {result.no_match or 'the answer was not re-ranked'}"


def _by(hits: Verified, result: Result, maps: MapLocator | None, *, exactly: bool = True) -> Location | str:
    tiles = [hit for hit in hits if hit[0].kind is Kind.TILE]
    if tiles and maps is not None:
        return maps.locate(result.query, tiles, exactly)
    return verified.locate(hits)


def verified_hits(result: Result) -> Verified:
    """The best verified hit of each parent, in the answer's order."""
    return _best_of_parents(result, lambda verification: verification.verified)


def _weak_hits(result: Result) -> Verified:
    """The same of hits that are not verified, and yet have some inliers, most first."""
    weak = _best_of_parents(
        result, lambda v: v.match is not None and v.match.homography is not None and v.match.inliers >= WEAK
    )
    return tuple(sorted(weak, key=lambda hit: -hit[1].match.inliers if hit[1].match is not None else 0))


def _best_of_parents(result: Result, good: Callable[[Verification], bool]) -> Verified:
    hits: dict[str, tuple[Item, Verification]] = {}
    for hit in result.hits:
        verification = result.verification(hit)
        if verification is not None and good(verification):
            hits.setdefault(parent_of(hit.item.key), (hit.item, verification))
    return tuple(hits.values())


def locate_all(results: Results, maps: MapLocator | None = None, most: int = 1) -> Results:
    """The same re-ranked answers, each with its location, or with what is missing. Adds the seconds of "locate".

    With `most` above 1, other places by hits that contradict the location too (`places`)."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(cores(), thread_name_prefix="locate") as pool:
        located = tuple(pool.map(lambda result: _located(result, maps, most), results.results))
    timings = {**results.timings, "locate": time.perf_counter() - begun}
    return replace(results, results=located, timings=timings)


def _located(result: Result, maps: MapLocator | None, most: int) -> Result:
    if result.error:
        return result
    if most > 1:
        several = places(result, maps, most)
        if isinstance(several, str):
            return replace(result, no_location=several)
        return replace(result, location=several[0], elsewhere=several[1:])
    found = locate(result, maps)
    return replace(result, no_location=found) if isinstance(found, str) else replace(result, location=found)
