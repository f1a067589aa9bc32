"""A self-contained HTML report of query results: thumbnails as kept at ingest, metadata, scores, and a small map.

Nothing is fetched when it is opened: pictures are inlined, there is no script. Sources are never reopened; where asked,
a click on a picture opens them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.answers import Hit, Result, Results
from outcrop.query.ground import EARTH_RADIUS
from outcrop.query.pages import inline, render, write_whole
from outcrop.query.report_facts import headline, hit_facts, own_columns, query_facts
from outcrop.query.verification.confidence import Verification
from outcrop.schema.item import UNKNOWN_COORDINATE, Item, item_id, parent_of
from outcrop.schema.places import URI, place

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


class Links(Protocol):
    """Where a click leads: to the file that an item was made of, or to a query's; '' where there is none."""

    def of_item(self, item: Item) -> str:
        """Of a stored item."""
        ...

    def of_file(self, path: Path) -> str:
        """Of a query's own picture."""
        ...


def write_report(
    results: Sequence[Results],
    path: Path,
    thumbnails: ThumbnailStore,
    *,
    title: str = "Outcrop query",
    remark: str = "",
    links: Links | None = None,
) -> Path:
    """Writes the report of one or several calls to `path`, replacing it whole; returns `path`. With `links`, pictures lead to the
    files that they were made of.

    Raises:
        InputError: the file cannot be written.
    """
    cards = _Cards(thumbnails, links)
    page = render(
        "report.html.j2",
        title=title,
        remark=remark,
        calls=[cards.call(answer) for answer in results],
        side=MAP_SIDE,
    )
    return write_whole(path, page)


@dataclass(frozen=True)
class _Cards:
    """What the template shows of queries and hits."""

    thumbnails: ThumbnailStore
    links: Links | None

    def call(self, answer: Results) -> dict[str, Any]:
        return {
            "collection": answer.collection,
            "plan": str(answer.plan) if answer.plan else "",
            "queries": [self.query(each) for each in answer.results],
        }

    def query(self, result: Result) -> dict[str, Any]:
        query, located = result.query, result.location
        image = query.thumbnail
        if image is None and query.item is not None:
            image = self.thumbnails.read(query.item.id)
        return {
            "name": query.name,
            "image": inline(image),
            "link": self._link_of_query(result),
            "facts": query_facts(result),
            "columns": own_columns(query.item) if query.item is not None else [],
            "error": result.error,
            "map": little_map(
                query.place, result.hits, (located.latitude, located.longitude) if located is not None else None
            ),
            "no_match": result.no_match,
            "hits": [self.hit(hit, result.verification(hit), query.place) for hit in result.hits],
        }

    def hit(self, hit: Hit, verification: Verification | None, place: tuple[float, float] | None) -> dict[str, Any]:
        item, group = hit.item, hit.group
        # An outline is in pixels of the whole photograph: a reference's own thumbnail would show a turned part of it.
        whole = self.thumbnails.read(item_id(parent_of(item.key)))
        outline = _outline(verification) if whole is not None else None
        combined = hit.score if verification is None else verification.combined(hit.score)
        return {
            "rank": hit.rank,
            "score": headline(hit, verification),
            "bar": max(0.0, min(1.0, combined)) * 100,
            "key": group.parent if group is not None else item.key,
            "kind": str(item.kind),
            "facts": hit_facts(hit, verification, place),
            "columns": own_columns(item),
            "source": item.extra.get(URI, item.source),
            "image": inline(whole if outline is not None else self.thumbnails.read(item.id)),
            "link": self.links.of_item(item) if self.links is not None else "",
            "outline": outline,
            "parent": inline(whole if outline is None and group is not None and group.parent != item.key else None),
        }

    def _link_of_query(self, result: Result) -> str:
        if self.links is None:
            return ""
        item = result.query.item
        return self.links.of_item(item) if item is not None else self.links.of_file(place(result.query.name))


def _outline(verification: Verification | None) -> dict[str, Any] | None:
    """The query's outline on a verified hit: the size of its picture, and the corners, in the picture's pixels."""
    match = verification.match if verification is not None and verification.verified else None
    if match is None or match.footprint is None:
        return None
    width, height = match.candidate_size
    points = " ".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for x, y in match.footprint)
    return {"width": width, "height": height, "points": points, "line": round(max(width, height) / 60, 2)}


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
