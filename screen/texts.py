"""Texts from outside (names of files, answers of servers) made harmless for a terminal and for files of cells."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (escape sequences begin with one), line separators, marks that reverse text, lone surrogates."""


def harmless(text: str) -> str:
    """The text with control characters spelt out (``\\x1b``): it cannot steer a terminal, and stays on its line."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def harmless_lines(text: str) -> str:
    """The same for a message of several lines: its line breaks stay."""
    return "\n".join(harmless(line) for line in text.split("\n"))
