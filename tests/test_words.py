"""Plain English in what people read: messages, help, docstrings and guides are free of a dialect's marks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("schema", "screen", "embed", "render", "store", "ingest", "query", "operate", "sample", "outcrop")
MARKS = re.compile(
    r"(?<![Tt]here )\bis no (?!longer|more\b)|(?<![Tt]here )\bis none\b|\bstands there\b|\bheld against\b|\btells\b"
)
"""``x is no valid y`` for "x is not a valid y", ``is none`` for "is not one", ``tells`` for "says" and so on."""


def rooms_of_code() -> Iterator[tuple[str, Path]]:
    """Every module with its room, or its inner room (``query/clusters``)."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.parent.relative_to(ROOT).as_posix(), path
        for path in sorted((ROOT / room).rglob("*.j2")):
            yield path.parent.relative_to(ROOT).as_posix(), path


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a module, docstrings among them, or the lines of a template; placeholders read as ``x``."""
    if path.suffix == ".py":
        yield from literals(ast.parse(path.read_text(encoding="utf-8")))
    else:
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)


def literals(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
        yield node.lineno, "".join(map(str, parts))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from literals(part.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from literals(child)


def found_in(path: Path) -> set[str]:
    """The places of a module that hold a mark, as ``path:line: …text…``."""
    return {
        f"{path.relative_to(ROOT)}:{line}: {text[max(0, hit.start() - 30) : hit.end() + 30]!r}"
        for line, text in strings(path)
        for hit in MARKS.finditer(" ".join(text.split()))
    }


def test_strings_are_plain_english() -> None:
    found: dict[str, set[str]] = {}
    for room, path in rooms_of_code():
        found.setdefault(room, set()).update(found_in(path))
    for room, places in found.items():
        assert not places, f"{room}:\n" + "\n".join(sorted(places))


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_pages_are_plain_english(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    places = [text[max(0, hit.start() - 40) : hit.end() + 40] for hit in MARKS.finditer(text)]
    assert not places, f"{page.name}:\n" + "\n".join(places)


@pytest.mark.parametrize(
    "text", ["a is no b", "and x is none", "it tells you", "was held against it", "stands there twice"]
)
def test_marks_are_found(text: str, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(f"def f(x):\n    return f'{{x}}: {text}'\n")
    assert [MARKS.search(said) is not None for _, said in strings(module)].count(True) >= 1


@pytest.mark.parametrize(
    "text", ["it is no longer there", "there is nothing", "told apart is nonetheless", "There is none yet"]
)
def test_plain_english_is_not_a_mark(text: str) -> None:
    assert MARKS.search(text) is None
