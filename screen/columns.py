"""Which columns of a table a terminal has room for, and how wide each is.

What names a row is shown first and whole: as it is, then in a shorter form where there is one. Long texts may be folded. What
does not fit beside them is left out, from the last column, and named below the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

EDGES, BETWEEN = 2, 3
"""Characters that a table needs for its two edges, and between two columns."""
FOLDED = 16
"""Characters to which a long text may be folded."""
LEAST_WHOLE = 3
"""Columns in `whole` of which none is left out; further ones give way where the terminal is very narrow."""

Forms = Mapping[str, Sequence[Sequence[str]]]
"""Shorter forms of a column's cells, by its name: each a text for every row, the longest form first."""


@dataclass(frozen=True)
class Layout:
    """What is shown: for each column its name, width and cells; and the names of those left out."""

    columns: tuple[tuple[str, int, Sequence[str]], ...]
    left_out: tuple[str, ...] = ()


def fitted(
    cells: Mapping[str, Sequence[str]], whole: Sequence[str], forms: Forms, width: int, kept: Sequence[str] = ()
) -> Layout:
    """The columns that fit into `width` characters, of `cells` by column.

    Those in `whole` are always shown, and neither cut nor folded as long as the terminal is wide enough for their shortest
    form. Without `whole`, the first column stands for it, and every long text may be folded, except in the columns `kept`.
    """
    needed = [name for name in cells if name in whole] or list(cells)[:1]
    long = _long(cells, whole, (*needed, *kept))
    levels = range(1 + max((len(forms.get(name, ())) for name in needed), default=0))
    shown = [_in_form(cells, needed, forms, level) for level in levels]
    for count in range(len(needed), min(len(needed), LEAST_WHOLE) - 1, -1):
        for form in shown:
            layout = _beside(form, needed[:count], long, width)
            if layout is not None:
                return layout
    return _squeezed(shown[-1], needed[:LEAST_WHOLE], width)


def _in_form(
    cells: Mapping[str, Sequence[str]], needed: Sequence[str], forms: Forms, level: int
) -> dict[str, Sequence[str]]:
    """The cells, those of the needed columns in their form of a level (0: as they are)."""
    shorter = {name: forms[name][min(level, len(forms[name])) - 1] for name in needed if level and forms.get(name)}
    return {**cells, **shorter}


def _long(cells: Mapping[str, Sequence[str]], whole: Sequence[str], spared: Sequence[str]) -> dict[str, int]:
    """The columns that may be folded, with the least width of each; beside columns in `whole`, only running text may."""
    found = {}
    for name, texts in cells.items():
        longest = _width(texts)
        prose = any(" " in text.strip() for text in texts)
        if name not in spared and longest > FOLDED and (prose or not whole):
            found[name] = max(FOLDED, _width([name]))
    return found


def _beside(
    cells: Mapping[str, Sequence[str]], needed: Sequence[str], long: Mapping[str, int], width: int
) -> Layout | None:
    """The needed columns at their full width and as many others as fit, the first ones first; None where the needed do not."""
    full = {name: _width([name, *texts]) for name, texts in cells.items()}
    left = width - EDGES + BETWEEN - sum(full[name] + BETWEEN for name in needed)
    if left < 0:
        return None
    least = {name: min(size, long.get(name, size)) for name, size in full.items()}
    widths = _taken(full, least, needed, left)
    return Layout(
        tuple((name, widths[name], texts) for name, texts in cells.items() if name in widths),
        tuple(name for name in cells if name not in widths),
    )


def _taken(full: Mapping[str, int], least: Mapping[str, int], needed: Sequence[str], left: int) -> dict[str, int]:
    """The widths of the needed columns, and of the others for which `left` characters are enough, in their order."""
    widths = {name: full[name] for name in needed}
    for name in full:
        if name not in needed and least[name] + BETWEEN <= left:
            widths[name] = least[name]
            left -= widths[name] + BETWEEN
    _widen(widths, full, left)
    return widths


def _widen(widths: dict[str, int], full: Mapping[str, int], left: int) -> None:
    """Gives what room is left to the folded columns, evenly, none more than it needs."""
    narrow = sorted((name for name in widths if widths[name] < full[name]), key=lambda name: full[name] - widths[name])
    for number, name in enumerate(narrow):
        more = min(full[name] - widths[name], left // (len(narrow) - number))
        widths[name] += more
        left -= more


def _squeezed(cells: Mapping[str, Sequence[str]], needed: Sequence[str], width: int) -> Layout:
    """The needed columns on a terminal too narrow for them: the widest is folded, so that nothing of it is lost."""
    widths = {name: _width([name, *cells[name]]) for name in needed}
    widest = max(needed, key=lambda name: widths[name])
    others = sum(size for name, size in widths.items() if name != widest)
    widths[widest] = max(1, width - EDGES - BETWEEN * (len(needed) - 1) - others)
    return Layout(
        tuple((name, widths[name], cells[name]) for name in needed),
        tuple(name for name in cells if name not in needed),
    )


def _width(texts: Sequence[str]) -> int:
    """Characters of the terminal that the longest text takes; those of East Asian scripts take two."""
    from rich.cells import cell_len

    return max(map(cell_len, texts), default=0)
