"""The help of commands in panels, drawn without rich: importing what typer draws it with takes longer than all the rest.

A panel is a frame of rows, an option or a subcommand each: its name to the left, what it does to the right.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WIDTH = 80
"""Columns where there is no terminal that says how wide it is."""
NARROWEST = 40
"""Columns that a page of help has at least."""
NAMES_SHARE = 0.4
"""The part of a panel's width that names take at most; what explains a longer one begins below it."""
FRAME = ("╭", "─", "╮", "│", "╰", "╯")
ASCII_FRAME = ("+", "-", "+", "|", "+", "+")
"""The frame where the output cannot write the other."""
BOLD, DIM, RED = "1", "2", "31"
NAME, KIND = "1;36", "33"
"""What is typed, and the kind of value that follows, as SGR parameters."""
MARKS = re.compile(
    r"(?P<name>(?<![\w-])--?[a-zA-Z][\w-]*)|(?P<kind><[^<>\s][^<>]*>(?:\.\.\.)?)|(?P<required>\[required\])"
)


@dataclass(frozen=True)
class Row:
    """One line of a panel: what is typed, what it does, and whether the command needs it."""

    name: str
    help: str
    required: bool = False


@dataclass(frozen=True)
class Panel:
    """Rows in a frame with a title; the names of `commands` are coloured whole, and never stand above their help."""

    title: str
    rows: tuple[Row, ...]
    commands: bool = False


@dataclass(frozen=True)
class Page:
    """How a page is drawn: its width in columns, whether in colours, and the characters of its frames."""

    width: int
    colours: bool
    frame: tuple[str, ...] = FRAME

    def styled(self, text: str, style: str) -> str:
        """The text in a style (SGR parameters), where there are colours."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.colours and text.strip() else text

    def marked(self, text: str) -> str:
        """The text with the names of options and kinds of values in their colours."""
        styles = {"name": NAME, "kind": KIND, "required": RED}
        return MARKS.sub(lambda found: self.styled(found[0], styles[found.lastgroup or "name"]), text)


class Helped:
    """Mixed into typer's classes of commands: prints the help in panels."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the page at once, as typer's own does; what is returned to the caller stays empty."""
        page = _page()
        text = "\n".join(line.rstrip() for line in help_lines(self, ctx, page)) + "\n"
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def help_lines(command: Any, ctx: Any, page: Page) -> Iterator[str]:
    """The lines of a command's help: usage, what it does, its panels, and the epilog."""
    yield from ("", " " + page.styled("Usage:", f"{BOLD};{KIND}") + page.styled(command.get_usage(ctx)[6:], BOLD), "")
    for paragraph in filter(None, inspect.cleandoc(command.help or "").split("\n\n")):
        yield from (*_wrapped(paragraph, page), "")
    for panel in panels(command, ctx):
        yield from _drawn(panel, page)
    if command.epilog:
        yield from ("", *_wrapped(command.epilog, page))


def panels(command: Any, ctx: Any) -> list[Panel]:
    """Arguments, options without a panel, the panels of the others in their order, and the subcommands of a group."""
    found: dict[str, list[Row]] = {"Arguments": [], "Options": []}
    for each in command.get_params(ctx):
        if (record := each.get_help_record(ctx)) is not None:
            own = "Arguments" if each.param_type_name == "argument" else "Options"
            title = getattr(each, "rich_help_panel", None) or own
            found.setdefault(title, []).append(Row(record[0], record[1].replace("\\[", "["), each.required))
    shown = [Panel(title, tuple(rows)) for title, rows in found.items()] + [_subcommands(command)]
    return [panel for panel in shown if panel.rows]


def _subcommands(command: Any) -> Panel:
    listed = getattr(command, "commands", {}).items()
    return Panel(
        "Commands", tuple(Row(name, each.help or "") for name, each in listed if not each.hidden), commands=True
    )


def _drawn(panel: Panel, page: Page) -> Iterator[str]:
    left, line, right, side, bottom, corner = page.frame
    title = f" {panel.title} "
    yield page.styled(left + line + title + line * (page.width - 3 - len(title)) + right, DIM)
    edge = page.styled(side, DIM)
    for star, name, text in _cells(panel, page.width - 4):
        shown = page.styled(name, NAME) if panel.commands else page.marked(name)
        room = page.width - 4 - len(star + name + text)
        yield f"{edge} {page.styled(star, RED)}{shown}{page.marked(text)}{' ' * room} {edge}"
    yield page.styled(bottom + line * (page.width - 2) + corner, DIM)


def _cells(panel: Panel, width: int) -> Iterator[tuple[str, str, str]]:
    """The lines of a panel in three columns: asterisks of what is required, names, and help after two blanks."""
    stars = "  " if any(row.required for row in panel.rows) else ""
    longest = max(len(row.name) for row in panel.rows)
    names = longest if panel.commands else min(longest, int(width * NAMES_SHARE))
    for row in panel.rows:
        star = "* " if row.required else stars
        for name, text in _lines(row, names, width - len(stars) - names - 2):
            yield star, name, f"{' ' * (names - len(name) + 2)}{text}" if text else ""
            star = stars


def _lines(row: Row, names: int, room: int) -> Iterator[tuple[str, str]]:
    """The lines of a row: a name of at most `names` columns beside its help in `room` columns; a longer one is above it."""
    name, texts = row.name, textwrap.wrap(row.help, room, break_on_hyphens=False) or [""]
    if len(name) > names:
        yield from ((each, "") for each in textwrap.wrap(name, names + 2 + room, break_on_hyphens=False))
        name = ""
    yield name, texts[0]
    yield from (("", text) for text in texts[1:])


def _wrapped(text: str, page: Page) -> list[str]:
    """A paragraph within the page's margins."""
    lines = textwrap.wrap(" ".join(text.replace("\\[", "[").split()), page.width - 2, break_on_hyphens=False)
    return [f" {page.marked(line)}" for line in lines]


def _page() -> Page:
    """The page that stdout takes."""
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    try:
        "".join(FRAME).encode(sys.stdout.encoding or "utf-8")
        frame = FRAME
    except UnicodeEncodeError:
        frame = ASCII_FRAME
    return Page(max(NARROWEST, width), _colours(), frame)


def _colours() -> bool:
    """Whether stdout shows colours: on a terminal, unless NO_COLOR is set; FORCE_COLOR asks for them anywhere."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
