"""Answers on stdout: tables for people, JSON and CSV for machines; what comes from files cannot steer the terminal."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from outcrop.screen.columns import Forms, Layout, fitted
from outcrop.screen.texts import harmless
from outcrop.screen.width import screen_width

if TYPE_CHECKING:
    from rich.console import Console


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
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    title: str = "",
    whole: Sequence[str] = (),
    forms: Forms | None = None,
) -> None:
    """Rows as a table on stdout, as wide as the terminal allows (`outcrop.screen.columns`); numbers to the right.

    Columns named in `whole` are neither cut nor folded; where a terminal is too narrow for them, their shorter `forms` are
    shown. Of the others, those that do not fit are left out, from the last, and named below the table.
    """
    cells = {name: [harmless(text) for text in column_texts([row.get(name) for row in rows])] for name in columns}
    numeric = {name for name in columns if rows and all(_is_number(row.get(name)) for row in rows)}
    layout = fitted(cells, whole, forms or {}, screen_width(sys.stdout), tuple(numeric))
    sys.stdout.write(_drawn(layout, numeric, title))


def _drawn(layout: Layout, numeric: Collection[str], title: str) -> str:
    """The table as text, drawn before any of it is written: a closed pipe is found by the write alone."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(harmless(title)) if title else None, title_justify="left", header_style="bold", pad_edge=False
    )
    for name, width, _ in layout.columns:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold", width=width)
    for row in zip(*(cells for _, _, cells in layout.columns), strict=True):
        table.add_row(*map(escape, row))
    console = _console()
    with console.capture() as captured:
        console.print(table)
        if layout.left_out:
            console.print(f"no room here for: {', '.join(layout.left_out)}", markup=False, highlight=False)
    return captured.get()


def _console() -> Console:
    from rich.console import Console

    # Without a terminal (a pipe, a log) nothing is gained by squeezing: keep every row on its line.
    return Console(file=sys.stdout, soft_wrap=False, width=screen_width(sys.stdout))


def _is_number(value: Any) -> bool:
    try:
        float(value or 0)
    except (TypeError, ValueError):
        return False
    return True


def column_texts(values: Sequence[Any]) -> list[str]:
    """The values of a column as people read them: fractions below ten with as many digits as the one that needs most, at most
    four."""
    needed = [len(f"{abs(value) % 1:.4f}".rstrip("0")) - 2 for value in values if _is_fraction(value)]
    digits = max(needed, default=4) or 4
    return [shown(value, digits) for value in values]


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and abs(value) < 10 and value != int(value)


def shown(value: Any, digits: int = 4) -> str:
    """A value as people read it: `digits` decimals for fractions below ten (scores), no trailing zeros otherwise, '' for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}f}" if _is_fraction(value) else f"{value:,.6g}"
    return str(value)
