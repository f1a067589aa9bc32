"""Tables for notebooks: what `_repr_html_` of answers, runs and figures returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from outcrop.screen.tables import shown

MAX_SHOWN = 50
"""Rows of a table; the rest is counted below it."""


def html_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "", note: str = "") -> str:
    """Rows as an HTML table of at most `MAX_SHOWN`; names and values are escaped."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(shown(row.get(column)))}</td>" for column in columns) + "</tr>"
        for row in rows[:MAX_SHOWN]
    )
    more = f"{len(rows) - MAX_SHOWN} more rows" if len(rows) > MAX_SHOWN else ""
    below = "; ".join(text for text in (more, note) if text)
    return (
        (f"<p><b>{escape(title)}</b></p>" if title else "")
        + f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<p>{escape(below)}</p>" if below else "")
    )
