"""The service's pages, drawn by templates from plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.responses import HTMLResponse

from outcrop.query.answers import Hit, Result, Results
from outcrop.query.listing import Page
from outcrop.query.pages import inline
from outcrop.query.report import LittleMap, little_map
from outcrop.query.service.asked import Asked
from outcrop.query.service.browsing import Browsed, parts_of
from outcrop.query.service.drawn import drawn
from outcrop.query.service.facets import Facets
from outcrop.query.service.languages import told
from outcrop.query.service.places import area_json, background_json, outline_of, place_of, query_json
from outcrop.schema.angles import angle_text
from outcrop.schema.item import AERIAL, UNKNOWN_COORDINATE, Item, item_id, parent_of

if TYPE_CHECKING:
    from outcrop.query.service.engine import Engine, Held

Footprints = Mapping[str, Any]
"""What rows say of the outlines of their items on the ground, by id."""
MAP_SIDE = 190
TURNS = (0, 4, 8, 12, 24)
"""How often a page offers to turn the picture that is asked with."""
ALONE: Mapping[str, object] = {"rerank": "", "locate": "", "turns": ""}
"""What is asked of one example only."""


@dataclass(frozen=True)
class Card:
    """A hit or an item as a card: what is shown and where its links lead; its `place` on the ground, and its outline there."""

    key: str
    name: str
    thumbnail: str
    picture: str
    more: str
    item: str
    rank: int = 0
    score: str = ""
    facts: tuple[str, ...] = ()
    outline: str = ""
    plus: str = ""
    minus: str = ""
    place: str = ""
    ground: str = ""


def search_page(
    engine: Engine, asked: Asked, found: Results | None, held: Held, facets: Facets, footprints: Footprints
) -> HTMLResponse:
    """The page of a question and its answer."""
    result = found.results[0] if found is not None else None
    return drawn(
        "search.html.j2",
        asked=asked,
        held=held,
        filters=facets if not asked.mesh else facets.without("kind"),
        turns=sorted({*TURNS, asked.turns}),
        query=_query(asked, result),
        cards=[_hit(asked, hit, result, footprints) for hit in result.hits] if result is not None else [],
        remarks=_remarks(found),
        map=_map(engine, asked, facets, result),
        little=_little_map(result),
        side=MAP_SIDE,
        seconds=sum(found.timings.values()) if found is not None else 0.0,
        plan=str(found.plan) if found is not None and found.plan is not None else "",
        collection=engine.collection.name,
    )


def items_page(engine: Engine, asked: Browsed, page: Page, facets: Facets, footprints: Footprints) -> HTMLResponse:
    """A page of items under conditions."""
    return drawn(
        "items.html.j2",
        asked=asked,
        cards=[_card(Asked(), item, item.key, ground=outline_of(item, footprints)) for item in page.items],
        map=_map(engine, asked, facets, None),
        total=page.total,
        why_empty=page.why_empty,
        first=f"/items?{asked.address(after='')}" if asked.after else "",
        next=f"/items?{asked.address(after=page.after)}" if page.after else "",
        filters=facets,
        collection=engine.collection.name,
    )


def item_page(engine: Engine, item: Item, parts: Page) -> HTMLResponse:
    """The page of one item, with its references or views, or what it is a part of."""
    facts = [(name, _said(value)) for name, value in item_json(item).items() if value not in ("", None)]
    parent = parent_of(item.key)
    return drawn(
        "item.html.j2",
        card=_card(Asked(), item, item.key),
        facts=facts,
        parent=parent if parent != item.key else "",
        parts=[_card(Asked(), part, part.key) for part in parts.items],
        total=parts.total,
        all_parts=f"/items?{Browsed(parts_of(item)).address()}" if parts.after else "",
        collection=engine.collection.name,
    )


def view_page(engine: Engine, item: Item, outline: str) -> HTMLResponse:
    """The page of an item's photograph in full size."""
    card = _card(Asked(), item, item.key)
    return drawn(
        "view.html.j2",
        card=card,
        picture=f"/pictures/{item.id}",
        outline=outline,
        leaflet=True,
        collection=engine.collection.name,
    )


def error_page(reason: str, status: int, headers: Mapping[str, str]) -> HTMLResponse:
    """The page that says why there is no answer."""
    return drawn("error.html.j2", status=status, headers=headers, reason=reason, collection="")


def _said(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def item_json(item: Item, parts: Page | None = None) -> dict[str, Any]:
    """An item as plain values; a place that is not known is left out. The keys of its first references or views are `parts`."""
    row = item.row()
    if item.latitude == UNKNOWN_COORDINATE:
        row = {name: value for name, value in row.items() if name not in ("latitude", "longitude")}
    return {**row, "parts": [part.key for part in parts.items]} if parts is not None and parts.items else row


def held_json(held: Held) -> dict[str, Any]:
    """What can be asked for, as plain values."""
    return {"rows": held.rows, "kinds": list(held.kinds), "datasets": list(held.datasets)}


def _card(asked: Asked, item: Item, key: str, outline: str = "", **more: Any) -> Card:
    seen = item.kind in AERIAL
    alone = {
        "picture": "",
        "mesh": "",
        "by": Asked.by,
        "box": None,
        "unlike": (),
        "rerank": False,
        "locate": False,
        "turns": 0,
    }
    more_like = replace(asked, items=(item.key,), **alone)  # type: ignore[arg-type]
    return Card(
        key=key,
        name="/".join(key.split("/")[1:]),
        thumbnail=f"/thumbnails/{item_id(key) if key != item.key else item.id}.jpg",
        picture=f"/view/{item.id}" + (f"?{urlencode({'outline': outline})}" if outline else "") if seen else "",
        outline=outline,
        more=f"/?{more_like.address()}",
        item=f"/items/{quote(key)}",
        place=place_of(item),
        **more,
    )


def _hit(asked: Asked, hit: Hit, result: Result, footprints: Footprints) -> Card:
    item, group, verification = hit.item, hit.group, result.verification(hit)
    facts = [fact for fact in (item.category, f"{item.altitude:g} m" if item.altitude else "") if fact]
    verified = verification is not None and verification.verified and verification.match is not None
    if group is not None and group.rotation is not None and not verified:
        facts.append(told("turned {1}°", angle_text(group.rotation)))
    outline = ""
    if verification is not None and verification.verified and verification.match is not None:
        match = verification.match
        facts.append(told("{1} matching points, turned {2}°", match.inliers, angle_text(match.rotation or 0)))
        if match.footprint is not None:
            width, height = match.candidate_size
            outline = " ".join(f"{100 * x / width:.2f},{100 * y / height:.2f}" for x, y in match.footprint)
    elif verification is not None:
        facts.append(told("not verified"))
    facts += [item.captured_at.replace("T", " ")] if item.captured_at else []
    key = parent_of(item.key) if group is not None or outline else item.key
    return _card(
        asked,
        item,
        key,
        rank=hit.rank,
        score=f"{hit.score:.3f}",
        facts=tuple(facts),
        outline=outline,
        ground=outline_of(item, footprints),
        plus="" if asked.mesh else f"/?{asked.address(item=(*asked.items, item.key), **ALONE)}",
        minus="" if asked.mesh else f"/?{asked.address(**{'not': (*asked.unlike, item.key)}, **ALONE)}",
    )


def _query(asked: Asked, result: Result | None) -> dict[str, Any] | None:
    """What was asked, beside the answer."""
    if result is None:
        return None
    place = result.location
    located = (
        told(
            "taken at {1}, {2} ± {3} m, heading {4}°",
            *(f"{place.latitude:.6f}", f"{place.longitude:.6f}", f"{place.sigma_m:.1f}", angle_text(place.heading)),
        )
        if place is not None
        else ""
    )
    shown = result.query.item
    thumbnail = f"/thumbnails/{shown.id}.jpg" if shown is not None else inline(result.query.thumbnail)
    return {
        "name": result.query.name,
        "picture": f"/uploads/{asked.picture}" if asked.picture else thumbnail,
        "located": located,
    }


def _remarks(found: Results | None) -> list[str]:
    """Why there is no hit, or no match."""
    if found is None:
        return []
    result = found.results[0]
    remarks = [told("No hit: {1}.", found.no_hits) if found.no_hits else ""]
    remarks += [told("No match: {1}.", result.no_match) if result.no_match else ""]
    return [remark for remark in remarks if remark]


def _map(engine: Engine, asked: Asked | Browsed, facets: Facets, result: Result | None) -> dict[str, Any] | None:
    """What the map shows; None where the collection knows of no place."""
    if facets.extent is None and engine.tiles is None:
        return None
    return {
        "background": background_json(engine.tiles),
        "query": query_json(result),
        "extent": facets.extent,
        "ground": area_json(asked.near, asked.area),
    }


def _little_map(result: Result | None) -> LittleMap | None:
    """The map of a browser without scripts."""
    if result is None:
        return None
    place = result.location
    return little_map(result.query.place, result.hits, (place.latitude, place.longitude) if place is not None else None)
