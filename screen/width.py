"""How wide a screen is, and sentences folded to it."""

from __future__ import annotations

import os
import shutil
import textwrap
from typing import TextIO

from outcrop.screen.texts import harmless_lines

PIPE_WIDTH = 200
"""Columns of a table that goes into a pipe or a log; longer rows are kept whole there too."""
INDENT = "  "


def screen_width(stream: TextIO) -> int:
    """Columns of the terminal that a stream goes to, as COLUMNS or the terminal says; `PIPE_WIDTH` without one."""
    if stream.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size((PIPE_WIDTH, 24)).columns
    return PIPE_WIDTH


def remark(text: str, stream: TextIO) -> str:
    """A remark for a stream, harmless; on a terminal folded between words, never within one: paths can be copied. Logs and pipes
    get one line."""
    lines = harmless_lines(text).split("\n")
    if not stream.isatty():
        return "\n".join(lines)
    width = max(20, screen_width(stream))
    fold = {"width": width, "subsequent_indent": INDENT, "break_long_words": False, "break_on_hyphens": False}
    return "\n".join("\n".join(textwrap.wrap(line, **fold)) or line for line in lines)  # type: ignore[arg-type]
