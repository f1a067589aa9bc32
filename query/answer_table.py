"""Answers as rows of tables and CSV: which columns, and what is in them."""

from __future__ import annotations

from typing import Any

from outcrop.query.answers import Hit, Result, Results, hit_json
from outcrop.query.keys import shorter_keys
from outcrop.schema.angles import angle_text
from outcrop.schema.column_files import harmless
from outcrop.schema.columns import key_of, own_of
from outcrop.schema.films import second_of

WHOLE = ("rank", "score", "parent", "key")
"""Columns that are never cut or folded on a narrow screen; keys are shortened."""
COLUMNS = ("rank", "score", "key", "altitude", "rotation", "crop", "view", "source")
QUIET = {"rotation": 0.0, "crop": 0, "view": -1, "altitude": 0.0, "source": ""}
"""Values that say nothing: a column that holds only these is left out."""
GROUP_COLUMNS = ("rank", "score", "margin", "parent", "estimated_rotation", "votes", "key")
"""Of hits that are grouped by parent."""
GEOMETRY = ("combined", "verified", "inliers", "turned", "scale")
"""The columns that re-ranking adds."""
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


def table_rows(result: Result) -> list[dict[str, Any]]:
    """The hits of one query as rows of a table, with as many digits as mean something; no altitude where none is known."""
    rows = [{**_row(result, hit), "score": f"{hit.score:.4f}"} for hit in result.hits]
    tenths = any(row["altitude"] % 1 for row in rows)
    for row in rows:
        row["altitude"] = f"{row['altitude']:.{1 if tenths else 0}f}" if row["altitude"] else None
        if row.get("scale") is not None:
            row["scale"] = f"{row['scale']:.3f}"
    return rows


def table_columns(result: Result) -> list[str]:
    """The columns of `table_rows` that say something."""
    grouped = any(hit.group is not None for hit in result.hits)
    columns = _group_columns(result) if grouped else _item_columns(result)
    if result.match is None:
        return columns
    others = [name for name in columns if name not in ("rank", "score", "margin")]
    if result.match:  # geometry has measured the rotation that was estimated
        others = [name for name in others if name != "estimated_rotation"]
    combined = {row["combined"] for row in (_row(result, hit) for hit in result.hits) if "combined" in row}
    named = ["rank", "score", "inliers", "verified", "turned", "scale", *others]
    return named if len(combined) < 2 else [*named, "combined"]  # one number for all of them says nothing


def table_forms(result: Result) -> dict[str, list[list[str]]]:
    """Shorter forms of the keys in `table_rows`."""
    rows = table_rows(result)
    return {name: shorter_keys([row[name] for row in rows]) for name in ("key", "parent") if rows and name in rows[0]}


def csv_rows(results: Results) -> list[dict[str, Any]]:
    """The hits of all queries as rows of CSV; own columns stand among the others (see `own_heading`)."""
    return [
        {"query": each.query.name, **row, **{own_heading(n): harmless(v) for n, v in row.get("columns", {}).items()}}
        for each in results.results
        for row in (_row(each, hit) for hit in each.hits)
    ]


def own_heading(name: str) -> str:
    """The heading of an own column in CSV: its name, or the one that rows keep it under where an answer has a column so named."""
    return key_of(name) if name in (*CSV_COLUMNS, *CSV_GROUP_COLUMNS, *GEOMETRY) else name


def csv_columns(results: Results) -> tuple[str, ...]:
    """The columns of `csv_rows`."""
    columns: tuple[str, ...] = CSV_COLUMNS
    if any(_of_film(each) for each in results.results):
        columns = (*columns, "second")
    if any(hit.group is not None for each in results.results for hit in each.hits):
        columns = (*columns, *CSV_GROUP_COLUMNS)
    if any(each.match is not None for each in results.results):
        columns = (*columns, *GEOMETRY)
    own = dict.fromkeys(name for each in results.results for hit in each.hits for name in own_of(hit.item.extra))
    return (*columns, *map(own_heading, own))


def _group_columns(result: Result) -> list[str]:
    rotated = any(hit.group is not None and hit.group.rotation is not None for hit in result.hits)
    return [name for name in GROUP_COLUMNS if name != "estimated_rotation" or rotated] + _of_film(result)


def _of_film(result: Result) -> list[str]:
    """The column of seconds, where some hits are frames of films."""
    return ["second"] if any(second_of(hit.item) is not None for hit in result.hits) else []


def _item_columns(result: Result) -> list[str]:
    def speaks(name: str) -> bool:
        return name not in QUIET or any(getattr(hit.item, name) != QUIET[name] for hit in result.hits)

    return [name for name in COLUMNS if speaks(name)] + _of_film(result)


def _row(result: Result, hit: Hit) -> dict[str, Any]:
    verification = result.verification(hit)
    row = hit_json(hit)
    if verification is None:
        return row
    found = verification.as_json(hit.score)
    turned = found["geometry"].get("rotation")
    return {
        **row,
        "combined": f"{found['combined']:.4f}",
        "verified": found["verified"],
        "inliers": found["inliers"],
        "turned": "" if turned is None else angle_text(turned, 1),
        "scale": found["geometry"].get("scale"),
    }
