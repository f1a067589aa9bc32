"""Answers on stdout: tables for people, JSON and CSV for machines; what comes from files cannot steer the terminal."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from outcrop.screen.texts import harmless

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 200
"""Columns of a table that goes into a pipe or a log; longer rows are kept whole there too."""
GAP = 2
"""Columns between two columns of a table."""


def print_json(value: Any) -> None:
    """One JSON document on stdout (UTF-8 as it is, no NaN); control characters and lone surrogates are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    sys.stdout.write(re.sub(r"[\x7f-\x9f\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows as CSV on stdout, with a header; texts are made harmless (`cell`)."""
    writer = csv.DictWriter(sys.stdout, fieldnames=list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)


def cell(value: Any) -> Any:
    """A value for a CSV file: a text that a spreadsheet would take for a formula (``=``, ``+``, ``-``, ``@``) gets an apostrophe
    in front, and control characters are spelt out. Numbers stay as they are."""
    if not isinstance(value, str):
        return value
    text = harmless(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not _is_number(text) else text


def print_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "", whole: Sequence[str] = ()
) -> None:
    """Rows as a table on stdout; numbers to the right.

    Columns named in `whole` are never wrapped: where a terminal is too narrow, other columns are left out, from the last. Other
    long texts wrap instead of being cut.
    """
    texts = [[harmless(shown(row.get(column))) for column in columns] for row in rows]
    kept = _fitting(texts, columns, whole, _width())
    text = _drawn(rows, texts, columns, kept, title)
    sys.stdout.write(text)


def _width() -> int:
    """Columns of the terminal, as COLUMNS or the terminal says; `PIPE_WIDTH` without one."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        import shutil

        return shutil.get_terminal_size((PIPE_WIDTH, 24)).columns
    return PIPE_WIDTH


def _fitting(texts: Sequence[Sequence[str]], columns: Sequence[str], whole: Sequence[str], width: int) -> list[int]:
    """The numbers of the columns to show: those in `whole`, and as many of the others as fit beside them, the first ones first.

    Without `whole` all are shown.
    """
    from rich.cells import cell_len

    if not whole:
        return list(range(len(columns)))
    widths = [max(map(cell_len, (name, *(row[n] for row in texts)))) + GAP for n, name in enumerate(columns)]
    left = width + GAP - sum(w for name, w in zip(columns, widths, strict=True) if name in whole)
    kept = []
    for number, name in enumerate(columns):
        if name not in whole:
            left -= widths[number]
            if left < 0:
                continue
        kept.append(number)
    return kept


def _drawn(
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[Sequence[str]],
    columns: Sequence[str],
    kept: Sequence[int],
    title: str,
) -> str:
    """The table as text, drawn before any of it is written: a closed pipe is found by the write alone."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(harmless(title)) if title else None, title_justify="left", header_style="bold", pad_edge=False
    )
    for number in kept:
        numeric = all(_is_number(row.get(columns[number])) for row in rows)
        table.add_column(
            columns[number], justify="right" if numeric and rows else "left", overflow="fold", no_wrap=numeric
        )
    for row in texts:
        table.add_row(*(escape(row[number]) for number in kept))
    console = _console()
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _console() -> Console:
    from rich.console import Console

    # Without a terminal (a pipe, a log) nothing is gained by squeezing: keep every row on its line.
    return Console(file=sys.stdout, soft_wrap=False, width=_width())


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
