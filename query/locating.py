"""Answers with the places of their queries: the verified hits of each, and the estimate that they give."""

from __future__ import annotations

import time
from dataclasses import replace

from outcrop.query.answers import Result, Results
from outcrop.query.map_locating import MapLocator
from outcrop.query.verification import locate as verified
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.location import Location
from outcrop.schema.item import Item, Kind, parent_of


def locate(result: Result, maps: MapLocator | None = None) -> Location | str:
    """The place of a re-ranked query, or what is missing to estimate it; by tiles of `maps` where any is verified."""
    hits = verified_hits(result)
    if not hits:
        return f"no hit is verified: {result.no_match or 'the answer was not re-ranked'}"
    tiles = [hit for hit in hits if hit[0].kind is Kind.TILE]
    if tiles and maps is not None:
        return maps.locate(result.query, tiles)
    return verified.locate(hits)


def verified_hits(result: Result) -> tuple[tuple[Item, Verification], ...]:
    """The best verified hit of each parent, in the answer's order."""
    hits: dict[str, tuple[Item, Verification]] = {}
    for hit in result.hits:
        verification = result.verification(hit)
        if verification is not None and verification.verified:
            hits.setdefault(parent_of(hit.item.key), (hit.item, verification))
    return tuple(hits.values())


def locate_all(results: Results, maps: MapLocator | None = None) -> Results:
    """The same re-ranked answers, each with its location, or with what is missing. Adds the seconds of "locate"."""
    begun = time.perf_counter()
    located = []
    for result in results.results:
        found = "" if result.error else locate(result, maps)
        if isinstance(found, str):
            located.append(replace(result, no_location=found))
        else:
            located.append(replace(result, location=found))
    timings = {**results.timings, "locate": time.perf_counter() - begun}
    return replace(results, results=tuple(located), timings=timings)
