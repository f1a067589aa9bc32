"""Commands are thin: each parses, opens, calls one function of the library, and prints; logic lives in the library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES, MAX_COMPLEXITY = 30, 10

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Iterator[Path]:
    """The modules of commands, and what they share."""
    for room in ("ingest", "query", "operate"):
        yield from sorted((ROOT / room).glob("cli*.py"))
        yield ROOT / room / "console.py"
    yield from sorted((ROOT / "screen").glob("*.py"))
    yield ROOT / "outcrop/cli.py"


def functions(path: Path) -> Iterator[Function]:
    """The functions and methods of a module, those within others left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in [*tree.body, *(inner for each in tree.body if isinstance(each, ast.ClassDef) for inner in each.body)]:
        if isinstance(node, Function):
            yield node


def is_command(function: Function) -> bool:
    calls = [each for each in function.decorator_list if isinstance(each, ast.Call)]
    return any(isinstance(call.func, ast.Name) and call.func.id == "command" for call in calls)


def lines(function: Function) -> int:
    """From ``def`` to the end, decorators left out."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def complexity(function: ast.AST) -> int:
    """McCabe's number as radon counts it: one, and one for each branch, loop, handler, further condition and comprehension."""
    count = 1
    for node in ast.walk(function):
        if isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
        elif isinstance(node, (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.match_case)):
            count += 1
    return count


def thick() -> dict[str, str]:
    """The functions over the limits: ``path:name`` to what is over."""
    found = {}
    for path in modules():
        for each in functions(path):
            long, complex = lines(each), complexity(each)
            if long > MAX_LINES or complex > MAX_COMPLEXITY:
                found[f"{path.relative_to(ROOT)}:{each.name}"] = f"{long} lines, complexity {complex}"
    return found


def test_functions_of_commands_are_short_and_simple() -> None:
    found = thick()
    assert not found, f"over {MAX_LINES} lines or complexity {MAX_COMPLEXITY}: {found}"


def test_every_command_is_seen() -> None:
    assert sum(is_command(each) for path in modules() for each in functions(path)) >= 36


@pytest.mark.parametrize(
    "body, number",
    [("return 1", 1), ("return 1 if x and y else 2", 3), ("return [a for a in x if a]", 3), ("while x:\n  pass", 2)],
)
def test_complexity_is_counted_as_radon_counts(body: str, number: int) -> None:
    assert complexity(ast.parse(f"def f(x, y):\n {body}").body[0]) == number
