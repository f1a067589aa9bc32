"""Values as literals of Milvus's expression language, and the ends of prefixes."""

from __future__ import annotations


def literal(value: str | int | float | None) -> str:
    """A value as a literal of Milvus's expression language: texts in double quotes with quote and backslash escaped."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def successor(prefix: str) -> str:
    """The smallest text greater than every text with this prefix ('' where there is none), by code points."""
    for end in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[end]) + 1
        code = 0xE000 if 0xD800 <= code < 0xE000 else code
        if code <= 0x10FFFF:
            return prefix[:end] + chr(code)
    return ""
