"""A self-contained HTML report of query results: thumbnails as kept at ingest, metadata, scores, and a small map.

Nothing is fetched when it is opened: pictures are inlined, there is no script. Sources are never reopened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.answers import Hit, Result, Results
from outcrop.query.ground import EARTH_RADIUS, distances
from outcrop.query.pages import inline, render, write_whole
from outcrop.query.verification.confidence import Verification
from outcrop.schema.item import UNKNOWN_COORDINATE, item_id, parent_of

MAP_SIDE = 190
"""Pixels of the little map."""
ESTIMATED = "?"
"""Stands for the label of the estimated place, which has none."""


@dataclass(frozen=True)
class MapPoint:
    """A place on the little map: pixels from the upper left; `label` is the hit's rank, '' for the query; `estimated` is the
    query's place according to its hits."""

    x: float
    y: float
    label: str
    estimated: bool = False


@dataclass(frozen=True)
class LittleMap:
    """Places of the query and of its hits; `bar` is the scale bar's length in pixels and `metres` what it stands for."""

    points: tuple[MapPoint, ...]
    bar: float
    metres: int


def write_report(
    results: Sequence[Results],
    path: Path,
    thumbnails: ThumbnailStore,
    *,
    title: str = "Outcrop query",
    remark: str = "",
) -> Path:
    """Writes the report of one or several calls to `path`, replacing it whole; returns `path`.

    Raises:
        InputError: the file cannot be written.
    """
    page = render(
        "report.html.j2",
        title=title,
        remark=remark,
        calls=[_call(answer, thumbnails) for answer in results],
        side=MAP_SIDE,
    )
    return write_whole(path, page)


def _call(answer: Results, thumbnails: ThumbnailStore) -> dict[str, Any]:
    return {
        "collection": answer.collection,
        "plan": str(answer.plan) if answer.plan else "",
        "queries": [_query(r, thumbnails) for r in answer.results],
    }


def _query(result: Result, thumbnails: ThumbnailStore) -> dict[str, Any]:
    query = result.query
    place = query.place
    image = (
        query.thumbnail
        if query.thumbnail is not None
        else (thumbnails.read(query.item.id) if query.item is not None else None)
    )
    facts = []
    if place is not None:
        facts.append(f"{place[0]:.6f}°, {place[1]:.6f}°")
    if query.metadata is not None and query.metadata.captured_at:
        facts.append(query.metadata.captured_at.replace("T", " "))
    if query.item is not None:
        facts += [f"{query.item.altitude:g} m"] if query.item.altitude else []
    located = result.location
    if located is not None:
        facts.append(
            f"by {len(located.matches)} hits at {located.latitude:.6f}°, {located.longitude:.6f}°, give or take "
            f"{located.sigma_m:.1f} m; heading {located.heading:.0f}°"
        )
        if place is not None:
            off = float(distances(*place, located.latitude, located.longitude))
            facts.append(f"{off:,.1f} m from its own GPS")
        facts += located.remarks
    elif result.no_location:
        facts.append(f"not located: {result.no_location}")
    return {
        "name": query.name,
        "image": inline(image),
        "facts": facts,
        "error": result.error,
        "map": little_map(place, result.hits, (located.latitude, located.longitude) if located is not None else None),
        "no_match": result.no_match,
        "hits": [_hit(hit, result.verification(hit), place, thumbnails) for hit in result.hits],
    }


def _outline(verification: Verification | None) -> dict[str, Any] | None:
    """The query's outline on a verified hit: the size of its picture, and the corners, in the picture's pixels."""
    match = verification.match if verification is not None and verification.verified else None
    if match is None or match.footprint is None:
        return None
    width, height = match.candidate_size
    points = " ".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for x, y in match.footprint)
    return {"width": width, "height": height, "points": points, "line": round(max(width, height) / 60, 2)}


def _hit(
    hit: Hit, verification: Verification | None, place: tuple[float, float] | None, thumbnails: ThumbnailStore
) -> dict[str, Any]:
    item, group = hit.item, hit.group
    facts = [item.category] if item.category else []
    # An outline is in pixels of the whole photograph: a reference's own thumbnail would show a turned part of it.
    whole = thumbnails.read(item_id(parent_of(item.key)))
    outline = _outline(verification) if whole is not None else None
    shown = hit.score if verification is None else verification.combined(hit.score)
    if verification is not None:
        facts.append(f"embedding {hit.score:.4f}")
    if verification is not None and verification.verified and verification.match is not None:
        facts.append(
            f"{verification.match.inliers} inliers, turned {verification.match.rotation or 0.0:.1f}°, verified"
        )
    elif verification is not None:
        facts.append(f"not verified: {verification.reason}")
    if group is not None:
        if group.rotation is not None:
            facts.append(f"query turned {group.rotation:.0f}° counter-clockwise")
        if group.margin is not None:
            facts.append(f"{group.margin:.4f} before the next")
        facts.append(f"{group.votes} of the best comparisons")
    if item.altitude:
        facts.append(f"{item.altitude:g} m above ground")
    if item.rotation or item.crop:
        facts.append(f"turned {item.rotation:g}°, crop {item.crop}")
    if item.view >= 0:
        facts.append(f"view {item.view}")
    if item.captured_at:
        facts.append(item.captured_at.replace("T", " "))
    if item.latitude != UNKNOWN_COORDINATE:
        facts.append(f"{item.latitude:.6f}°, {item.longitude:.6f}°")
        if place is not None:
            facts.append(f"{float(distances(*place, item.latitude, item.longitude)):,.0f} m from the query's GPS")
    return {
        "rank": hit.rank,
        "score": f"{shown:.4f}",
        "bar": max(0.0, min(1.0, shown)) * 100,
        "key": group.parent if group is not None else item.key,
        "kind": str(item.kind),
        "facts": facts,
        "source": item.source,
        "image": inline(whole if outline is not None else thumbnails.read(item.id)),
        "outline": outline,
        "parent": inline(whole if outline is None and group is not None and group.parent != item.key else None),
    }


def little_map(
    place: tuple[float, float] | None, hits: Sequence[Hit], located: tuple[float, float] | None = None
) -> LittleMap | None:
    """The places of a query (its own, and as it was `located`) and of its hits, north up, to one scale; None where fewer than
    two places are known."""
    places = [
        (hit.item.latitude, hit.item.longitude, str(hit.rank))
        for hit in reversed(hits)
        if hit.item.latitude != UNKNOWN_COORDINATE
    ]
    if located is not None:
        places.append((*located, ESTIMATED))
    if place is not None:
        places.append((*place, ""))
    if len(places) < 2:
        return None
    latitude, longitude = places[-1][0], places[-1][1]
    shrink = math.cos(math.radians(latitude))
    metres = [
        (math.radians(lon - longitude) * shrink * EARTH_RADIUS, -math.radians(lat - latitude) * EARTH_RADIUS, label)
        for lat, lon, label in places
    ]
    left, right = min(x for x, _, _ in metres), max(x for x, _, _ in metres)
    top, bottom = min(y for _, y, _ in metres), max(y for _, y, _ in metres)
    span = max(right - left, bottom - top, 10.0)
    margin = 18.0
    scale = (MAP_SIDE - 2 * margin) / span
    x0, y0 = MAP_SIDE / 2 - (left + right) / 2 * scale, (MAP_SIDE - 10) / 2 - (top + bottom) / 2 * scale
    points = tuple(
        MapPoint(round(x * scale + x0, 1), round(y * scale + y0, 1), label.strip(ESTIMATED), label == ESTIMATED)
        for x, y, label in metres
    )
    length = 10 ** math.floor(math.log10(span / 2))
    length *= next(step for step in (5, 2, 1) if length * step <= span / 2 or step == 1)
    return LittleMap(points, round(length * scale, 1), int(length))
