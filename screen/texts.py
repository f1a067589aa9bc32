"""Texts from outside (names of files, answers of servers) made harmless for a terminal and for files of cells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from outcrop.schema.errors import InputError

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (escape sequences begin with one), line separators, marks that reverse text, lone surrogates."""


def harmless(text: str) -> str:
    """The text with control characters spelt out (``\\x1b``): it cannot steer a terminal, and stays on its line."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def harmless_lines(text: str) -> str:
    """The same for a message of several lines: its line breaks stay."""
    return "\n".join(harmless(line) for line in text.split("\n"))


def require_utf8(values: Mapping[str, Any]) -> None:
    """Refuses texts from a command line that are not UTF-8 (Python has lone surrogates for their bytes); paths may be any bytes.

    Raises:
        InputError: naming the option or argument.
    """
    for name, value in values.items():
        for text in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(text, str) and re.search("[\ud800-\udfff]", text):
                raise InputError(f"{name}: {text!r} is not valid UTF-8; write it in the encoding of a UTF-8 terminal")
