"""Answers on stdout: tables for people, JSON and CSV for machines."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """One JSON document on stdout (UTF-8 as it is, no NaN)."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows as CSV on stdout, with a header."""
    writer = csv.DictWriter(sys.stdout, fieldnames=list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
    """Rows as a table on stdout; numbers to the right; long texts wrap instead of being cut."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title) if title else None, title_justify="left", header_style="bold", pad_edge=False)
    for column in columns:
        numeric = all(_is_number(row.get(column)) for row in rows)
        table.add_column(column, justify="right" if numeric and rows else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        table.add_row(*(escape(shown(row.get(column))) for column in columns))
    # Without a terminal (a pipe, a log) nothing is gained by squeezing: keep every row on its line.
    console = Console(file=sys.stdout, soft_wrap=False, width=None if sys.stdout.isatty() else 200)
    console.print(table)


def _is_number(value: Any) -> bool:
    try:
        float(value or 0)
    except (TypeError, ValueError):
        return False
    return True


def shown(value: Any) -> str:
    """A value as people read it: four decimals for scores, no trailing zeros otherwise, '' for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 and value != int(value) else f"{value:,.6g}"
    return str(value)
