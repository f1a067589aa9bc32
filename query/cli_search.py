"""`query image`, `query item` and `query dataset`: top-k search, and its answers as tables, JSON, CSV and reports."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from outcrop.query.cli_rerank import (
    Depth,
    Features,
    FeaturesFolder,
    GeoJson,
    Locate,
    MinInliers,
    Rerank,
    check_geojson,
    reranker,
    reranking,
    say_locations,
    say_verdicts,
    wider,
)
from outcrop.query.console import (
    Exact,
    ExcludeSelf,
    Explain,
    GroupBy,
    K,
    Output,
    Raw,
    RedisTtl,
    RedisUri,
    Report,
    Turns,
    Where,
    against,
    app,
    condition_of,
    grouping_of,
    kind_of,
    open_encoder,
    opened,
)
from outcrop.query.delivery import Delivery, delivery
from outcrop.schema.errors import PartialFailure
from outcrop.screen.options import CSV, MODEL, REGISTRY, STATE, STORE, Session, command
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_csv, print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.answers import Hit, Result, Results

COLUMNS = ("rank", "score", "key", "altitude", "rotation", "crop", "view", "source")
GROUP_COLUMNS = ("rank", "score", "margin", "parent", "estimated_rotation", "votes", "key")
"""Of hits that are grouped by parent."""
CSV_COLUMNS = (
    "query",
    "rank",
    "key",
    "score",
    "kind",
    "dataset",
    "category",
    "capture_id",
    "frame",
    "altitude",
    "rotation",
    "crop",
    "view",
    "source",
)

CSV_GROUP_COLUMNS = ("parent", "votes", "estimated_rotation", "margin")
"""Also in CSV, where hits are grouped by parent."""
GEOMETRY = ("combined", "verified", "inliers", "turned", "scale")
"""The columns that re-ranking adds."""


@command(app, STORE, REGISTRY, MODEL, STATE, CSV)
def image(
    session: Session,
    paths: Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.", show_default=False)],
    k: K = 10,
    where: Where = None,
    filter: Raw = "",
    turns: Turns = 0,
    group: GroupBy = "auto",
    exclude_self: ExcludeSelf = False,
    exact: Exact = False,
    explain: Explain = False,
    rerank: Rerank = None,
    rerank_depth: Depth = None,
    min_inliers: MinInliers = None,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    locate: Locate = False,
    geojson: GeoJson = None,
    report: Report = None,
    output: Output = None,
    redis: RedisUri = None,
    redis_ttl: RedisTtl = None,
) -> None:
    """Find the items that look like a picture."""
    from outcrop.query.search import query_images

    condition, by = condition_of(where, filter), grouping_of(group)
    locate = locate or geojson is not None
    how = reranking(rerank, rerank_depth, min_inliers, features, features_folder, locate=locate)
    check_geojson(geojson)
    with delivery(session, report, output, redis, redis_ttl) as places:
        with opened(session) as collection:
            encoder = open_encoder(session, collection)
            with reranker(session, how, k, collection, encoder, locate=locate) as reranked:
                found = query_images(
                    paths,
                    encoder,
                    collection,
                    wider(how, k),
                    condition,
                    exclude_self=exclude_self,
                    exact=exact,
                    group=by,
                    turns=turns,
                )
                results = reranked(found)
        print_answers(session, [results], explain, places, geojson)


@command(app, STORE, REGISTRY, MODEL, STATE, CSV)
def item(
    session: Session,
    keys: Annotated[list[str], typer.Argument(help="Keys of stored items.", show_default=False)],
    k: K = 10,
    where: Where = None,
    filter: Raw = "",
    group: GroupBy = "auto",
    exclude_self: ExcludeSelf = False,
    exact: Exact = False,
    explain: Explain = False,
    rerank: Rerank = None,
    rerank_depth: Depth = None,
    min_inliers: MinInliers = None,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    report: Report = None,
    output: Output = None,
    redis: RedisUri = None,
    redis_ttl: RedisTtl = None,
) -> None:
    """Find the items that look like a stored item."""
    from outcrop.query.search import query_items

    condition, by = condition_of(where, filter), grouping_of(group)
    how = reranking(rerank, rerank_depth, min_inliers, features, features_folder)
    with delivery(session, report, output, redis, redis_ttl) as places:
        with opened(session) as collection, reranker(session, how, k, collection) as reranked:
            found = query_items(
                keys, collection, wider(how, k), condition, exclude_self=exclude_self, exact=exact, group=by
            )
            results = reranked(found)
        print_answers(session, [results], explain, places)


@command(app, STORE, REGISTRY, MODEL, STATE, CSV)
def dataset(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of an ingested dataset.")],
    k: K = 10,
    where: Where = None,
    filter: Raw = "",
    kind: Annotated[
        str,
        typer.Option("--kind", help="Which items of the dataset are the queries: image, reference, view or specimen."),
    ] = "image",
    against_: Annotated[
        Optional[list[str]],
        typer.Option(
            "--against",
            help="What is searched: a kind (reference, …) or a dataset's name; repeat it for several. [everything]",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        Optional[int], typer.Option("--limit", min=1, help="Only the first N items as queries.", show_default=False)
    ] = None,
    group: GroupBy = "auto",
    exclude_self: ExcludeSelf = False,
    exact: Exact = False,
    explain: Explain = False,
    rerank: Rerank = None,
    rerank_depth: Depth = None,
    min_inliers: MinInliers = None,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    report: Report = None,
    output: Output = None,
    redis: RedisUri = None,
    redis_ttl: RedisTtl = None,
) -> None:
    """Ask with every stored item of a dataset, by its stored vector."""
    from outcrop.query.answers import total_timings
    from outcrop.query.search import query_dataset

    condition = condition_of(where, filter) & against(against_)
    queries, by = kind_of(kind), grouping_of(group)
    how = reranking(rerank, rerank_depth, min_inliers, features, features_folder)
    batches: list[Results] = []
    with delivery(session, report, output, redis, redis_ttl) as places:
        with (
            opened(session) as collection,
            reranker(session, how, k, collection) as reranked,
            Meter(name, limit, "queries", session.quiet) as meter,
        ):
            most = wider(how, k)
            for results in query_dataset(
                name,
                collection,
                most,
                condition,
                kind=queries,
                limit=limit,
                exclude_self=exclude_self,
                exact=exact,
                group=by,
            ):
                batches.append(reranked(results))
                meter.update(sum(len(batch.results) for batch in batches))
        ordered = sorted((r for batch in batches for r in batch.results), key=lambda r: r.query.name)
        whole = replace(batches[-1], results=tuple(ordered), timings=total_timings(batches))
        print_answers(session, [whole], explain, places)


def print_answers(
    session: Session, batches: list[Results], explain: bool, places: Delivery, geojson: Path | None = None
) -> None:
    """Prints answers as the session wants them and sends them where else they are to go.

    Raises:
        PartialFailure: some queries could not be read.
    """
    from outcrop.query.answers import plan_json, result_json, timings_json, total_timings

    plan = next((batch.plan for batch in reversed(batches) if batch.plan is not None), None)
    results = [result for batch in batches for result in batch.results]
    if session.format == "json":
        print_json(
            {
                "collection": batches[0].collection,
                "plan": plan_json(plan),
                "timings": timings_json(total_timings(batches)),
                "queries": [result_json(r) for r in results],
            }
        )
    elif session.format == "csv":
        columns: tuple[str, ...] = CSV_COLUMNS
        if any(hit.group is not None for r in results for hit in r.hits):
            columns = (*columns, *CSV_GROUP_COLUMNS)
        if any(r.match is not None for r in results):
            columns = (*columns, *GEOMETRY)
        print_csv([{"query": r.query.name, **_row(r, hit)} for r in results for hit in r.hits], columns)
    else:
        for result in results:
            if not result.error:
                print_table(
                    [{**_row(result, hit), "score": f"{hit.score:.4f}"} for hit in result.hits],
                    _columns(result),
                    result.query.name,
                )
    if explain and plan is not None and session.format != "json":
        print(f"plan: {plan}", file=sys.stderr if session.format == "csv" else sys.stdout)
    if explain and session.format != "json":
        steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in total_timings(batches).items())
        print(f"time: {steps}", file=sys.stderr if session.format == "csv" else sys.stdout)
    say_verdicts(session, batches)
    say_locations(session, results, geojson)
    if plan is not None and plan.fallback:
        session.warn(f"searched exactly: {plan.reason}")
    places.write(session, batches)
    broken = [result for result in results if result.error]
    for result in broken:
        session.warn(result.error)
    if broken:
        raise PartialFailure(f"{len(broken)} of {len(results)} queries could not be read; they are named above")


def _row(result: Result, hit: Hit) -> dict[str, Any]:
    """A hit as a row of a table."""
    from outcrop.query.answers import hit_json

    verdict = result.verdict(hit)
    row = hit_json(hit)
    if verdict is None:
        return row
    found = verdict.as_json(hit.score)
    turned = found["geometry"].get("rotation")
    return {
        **row,
        "combined": f"{found['combined']:.4f}",
        "verified": found["verified"],
        "inliers": found["inliers"],
        "turned": "" if turned is None else f"{turned:.1f}",
        "scale": found["geometry"].get("scale"),
    }


def _columns(result: Result) -> list[str]:
    """The columns in which something stands: rotation of plain images is always 0 and says nothing."""
    if any(hit.group is not None for hit in result.hits):
        turned = any(hit.group is not None and hit.group.rotation is not None for hit in result.hits)
        grouped = [name for name in GROUP_COLUMNS if name != "estimated_rotation" or turned]
        if result.match is None:
            return grouped
        return ["rank", *GEOMETRY, *(name for name in grouped[1:] if name != "margin")]
    quiet = {"rotation": 0.0, "crop": 0, "view": -1, "altitude": 0.0, "source": ""}
    columns = [
        name
        for name in COLUMNS
        if name not in quiet or any(getattr(hit.item, name) != quiet[name] for hit in result.hits)
    ]
    return columns if result.match is None else ["rank", *GEOMETRY, *columns[1:]]
