"""The pages of clusterings: a list of them, and of each the map with a lasso, its clusters, and what is chosen, to take along."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from outcrop.query.clusters.page import colour
from outcrop.query.service.asked import MAX_EXAMPLES, Asked
from outcrop.query.service.chosen import Chosen
from outcrop.query.service.drawn import drawn, wants_json
from outcrop.query.service.languages import told
from outcrop.query.service.results import UNASSIGNED, Clustering
from outcrop.schema.errors import InputError
from outcrop.schema.item import UNKNOWN_COORDINATE, item_id
from outcrop.screen.tables import cell

if TYPE_CHECKING:
    from outcrop.query.service.engine import Engine

WIDTH, HEIGHT, MARGIN = 1000, 700, 20
"""Of the map, in its own units."""
SHOWN = 60
"""Chosen items that are shown; all can be taken along."""
MOST_EXPORTED = 100_000
COLUMNS = ("key", "cluster_id", "prob", "kind", "dataset", "category")
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""Of a report that is one file with its styles in it: no script runs, and nothing is loaded."""
MEDIA = {"csv": "text/csv; charset=utf-8", "geojson": "application/geo+json", "keys": "text/plain; charset=utf-8"}
ENDINGS = {"csv": "csv", "geojson": "geojson", "keys": "txt"}


@dataclass(frozen=True)
class Mark:
    """A row on the map: where, its cluster's id and colour, how firmly it belongs, what it is."""

    x: float
    y: float
    colour: str
    strength: float
    id: str
    text: str
    chosen: bool


@dataclass(frozen=True)
class Small:
    """An item as a small picture."""

    key: str
    name: str
    thumbnail: str
    address: str


@dataclass(frozen=True)
class Section:
    """A cluster with its most and least typical items."""

    id: int
    size: int
    colour: str
    remark: str
    probability: str
    address: str
    exemplars: tuple[Small, ...]
    outliers: tuple[Small, ...]


class ClusterPages:
    """The answers about clusterings and evaluations."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def listed(self, request: Request) -> Response:
        """Which clusterings and evaluations there are."""
        results = self.engine.results
        clusterings = await run_in_threadpool(results.clusterings)
        evaluations = await run_in_threadpool(results.evaluations)
        if wants_json(request):
            return JSONResponse(
                {
                    "collection": results.collection,
                    "clusterings": [vars(one) for one in clusterings],
                    "evaluations": evaluations,
                }
            )
        return drawn(
            "clusters.html.j2",
            clusterings=[(one, quote(one.name, safe="")) for one in clusterings],
            evaluations=[(name, quote(name, safe="")) for name in evaluations],
            folder=results.folder.name,
            collection=results.collection,
        )

    async def one(self, request: Request) -> Response:
        """A clustering, and what is chosen of it."""
        found, chosen = await self._found(request)
        rows = np.flatnonzero(found.chosen(chosen.clusters, chosen.lasso)) if not chosen.empty else np.array([], int)
        if wants_json(request):
            return JSONResponse({**found.summary, "name": found.name, "chosen": len(rows)})
        return await run_in_threadpool(_page, found, chosen, rows, self.engine.results.collection)

    async def items(self, request: Request) -> Response:
        """The items that are chosen, as JSON, CSV, GeoJSON or keys."""
        found, chosen = await self._found(request)
        rows = np.flatnonzero(found.chosen(chosen.clusters, chosen.lasso))
        if len(rows) > MOST_EXPORTED:
            raise InputError(
                f"{len(rows):,} items are chosen, and at most {MOST_EXPORTED:,} are given at once; choose fewer, or take "
                "clusters.csv of the clustering"
            )
        values = [_row(found, row) for row in rows.tolist()]
        if not chosen.format:
            return JSONResponse({"count": len(values), "items": values})
        places = await self.engine.run(lambda: self._places(values)) if chosen.format == "geojson" else {}
        text = _exported(values, chosen.format, places)
        name = f'attachment; filename="clusters.{ENDINGS[chosen.format]}"'
        return Response(text, media_type=MEDIA[chosen.format], headers={"content-disposition": name})

    async def evaluation(self, request: Request) -> Response:
        """A page that `query evaluate --report` wrote, without any right to run or load something."""
        try:
            data = await run_in_threadpool(self.engine.results.evaluation, request.path_params["name"])
        except (InputError, OSError) as error:
            raise HTTPException(404, str(error)) from None
        return Response(data, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})

    async def _found(self, request: Request) -> tuple[Clustering, Chosen]:
        chosen = Chosen.of(request.query_params)
        name = request.path_params["name"]
        try:
            return await run_in_threadpool(self.engine.results.clustering, name), chosen
        except InputError as error:
            raise HTTPException(404, str(error)) from None

    def _places(self, values: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
        """Longitude and latitude of the items that have a place, by key."""
        keys = {item_id(value["key"]): value["key"] for value in values}
        rows = self.engine.collection.lookup(list(keys), fields=("latitude", "longitude"))
        return {
            keys[id]: (row["longitude"], row["latitude"])
            for id, row in rows.items()
            if row["latitude"] != UNKNOWN_COORDINATE
        }


def _row(found: Clustering, row: int) -> dict[str, Any]:
    """An item of a clustering as plain values."""
    return {
        "key": found.keys[row],
        "cluster_id": int(found.ids[row]),
        "prob": round(float(found.probability[row]), 6),
        **{name: found.facts[name][row] for name in ("kind", "dataset", "category")},
    }


def _exported(values: Sequence[Mapping[str, Any]], format: str, places: Mapping[str, tuple[float, float]]) -> str:
    if format == "keys":
        return "".join(f"{value['key']}\n" for value in values)
    if format == "geojson":
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": list(places[value["key"]])}
                if value["key"] in places
                else None,
                "properties": dict(value),
            }
            for value in values
        ]
        return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value[name]) for name in COLUMNS} for value in values)
    return text.getvalue()


def _page(found: Clustering, chosen: Chosen, rows: np.ndarray, collection: str) -> Response:
    summary, here = found.summary, quote(found.name, safe="")
    nearest = summary.get("nearest_of_unassigned", [])
    examples = [found.keys[row] for row in rows[:MAX_EXAMPLES].tolist()]
    return drawn(
        "cluster.html.j2",
        name=found.name,
        summary=summary,
        figures=_figures(summary),
        marks=_marks(found, set(rows.tolist())),
        shown=len(found.shown),
        size=(WIDTH, HEIGHT),
        lasso=" ".join(f"{_across(x):.1f},{_down(y):.1f}" for x, y in chosen.lasso),
        chosen=chosen,
        count=len(rows),
        cards=[_small(found, row) for row in rows[:SHOWN].tolist()],
        exports=[(format, f"/clusters/{here}/items?{chosen.address(format=format)}") for format in MEDIA],
        like=f"/?{Asked(items=tuple(examples)).address()}" if 0 < len(rows) <= MAX_EXAMPLES else "",
        sections=[_section(found, one) for one in summary["clusters"]],
        alone=[
            (_small(found, found.number_of[one["key"]]), one["cluster_id"])
            for one in nearest[:12]
            if one["key"] in found.number_of
        ],
        unassigned=UNASSIGNED,
        here=here,
        collection=collection,
    )


def _figures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    quality = summary.get("quality", {})
    names = {"silhouette": told("silhouette"), "dbcv": "DBCV", "ari": "ARI", "nmi": "NMI"}
    return [(said, f"{quality[name]:.3f}") for name, said in names.items() if isinstance(quality.get(name), float)]


def _marks(found: Clustering, chosen: set[int]) -> list[Mark]:
    marks = []
    for row in found.shown.tolist():
        x, y = found.places[row].tolist()
        id = int(found.ids[row])
        strength = 0.8 if id == UNASSIGNED else round(0.45 + 0.55 * float(found.probability[row]), 2)
        truth = found.facts["category"][row]
        text = " · ".join(part for part in (_name(found, row), truth, f"{id}" if id != UNASSIGNED else "") if part)
        tint = colour(id) if id != UNASSIGNED else ""
        marks.append(
            Mark(round(_across(x), 1), round(_down(y), 1), tint, strength, found.item_id(row), text, row in chosen)
        )
    return sorted(marks, key=lambda mark: mark.colour != "")  # those in no cluster lie below the others


def _across(share: float) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * share


def _down(share: float) -> float:
    return MARGIN + (HEIGHT - 2 * MARGIN) * share


def _section(found: Clustering, one: Mapping[str, Any]) -> Section:
    id = int(one["cluster_id"])

    def small(name: str, most: int) -> tuple[Small, ...]:
        rows = [found.number_of[key] for key in one[name] if key in found.number_of]
        return tuple(_small(found, row) for row in rows[:most])

    remark = f"{one['category_share']:.0%} {one['category']}" if one["category"] else ""
    address = f"?{Chosen((id,)).address()}#chosen"
    return Section(
        id, one["size"], colour(id), remark, f"{one['prob']:.2f}", address, small("exemplars", 6), small("outliers", 3)
    )


def _small(found: Clustering, row: int) -> Small:
    key = found.keys[row]
    return Small(key, _name(found, row), f"/thumbnails/{found.item_id(row)}.jpg", f"/items/{quote(key)}")


def _name(found: Clustering, row: int) -> str:
    return found.keys[row].partition("/")[2]
