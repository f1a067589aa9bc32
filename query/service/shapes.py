"""Answers in the shapes that programs ask for: JSON, or rows as `query image` prints them."""

from __future__ import annotations

from typing import Any

from outcrop.query.answer_table import WHOLE, csv_columns, csv_rows, table_columns, table_forms, table_rows
from outcrop.query.answers import Results
from outcrop.schema.angles import angle_text


def shaped(results: Results, shape: str) -> dict[str, Any]:
    """An answer in a shape of `asked.SHAPES`."""
    if shape == "csv":
        return {"columns": csv_columns(results), "rows": csv_rows(results), "queries": []}
    if shape == "table":
        tables = [
            {
                "query": each.query.name,
                "rows": table_rows(each),
                "columns": table_columns(each),
                "forms": table_forms(each),
                "whole": WHOLE,
            }
            for each in results.results
        ]
        return {"queries": tables, "remarks": _remarks(results)}
    return results.as_json()


def _remarks(results: Results) -> list[str]:
    remarks = [f"no hits: {results.no_hits}"] if results.no_hits else []
    for each in results.results:
        place = each.location
        if each.match is False:
            remarks.append(f"no match: {each.no_match}")
        if place is not None:
            remarks.append(
                f"taken at {place.latitude:.6f}, {place.longitude:.6f} ± {place.sigma_m:.1f} m; heading "
                f"{angle_text(place.heading)}°; from {len(place.matches)} hits ({place.method})"
            )
        elif each.no_location:
            remarks.append(f"not located: {each.no_location}")
    return remarks
