"""What the package imports is what it declares: nothing is there only because something else brought it along."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOMS = ("outcrop", "schema", "screen", "embed", "render", "store", "ingest", "query", "operate", "sample")
BROUGHT_ALONG = {"grpc": "pymilvus", "click": "typer", "pydantic_core": "pydantic"}
"""Modules that belong to a dependency's interface: its errors and types are those of the other package."""


def named(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", requirement)[0]).lower()


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_is_declared(room: str) -> None:
    extras = PROJECT["optional-dependencies"]
    for_users = [one for name, some in extras.items() if name not in ("dev", "bench", "server") for one in some]
    declared = {named(one) for one in [*PROJECT["dependencies"], *for_users]}
    distributions = packages_distributions()
    missing = {}
    for path in (ROOT / room).rglob("*.py"):
        for module in imported(path) - set(sys.stdlib_module_names) - {"outcrop"}:
            names = [*distributions.get(module, [module]), BROUGHT_ALONG.get(module, "")]
            if not {named(name) for name in names} & declared:
                missing[module] = str(path.relative_to(ROOT))
    assert not missing, f"imported, but not among the dependencies of pyproject.toml: {missing}"


def test_every_dependency_has_a_tested_version() -> None:
    """Those that all installations have; constraints.txt is what was tested together."""
    tested = {
        named(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    }
    assert {named(one) for one in PROJECT["dependencies"]} <= tested


def test_a_name_leads_to_one_module() -> None:
    """Tests and benchmarks import their neighbours by bare names, and `conftest` has both folders on the path: two files of one
    name, or one named like a package, would be found by the order of the path, which differs from run to run."""
    folders = [ROOT / "tests", ROOT / "benchmarks"]
    installed = packages_distributions()
    wrong = {}
    for path in (path for folder in folders for path in folder.glob("*.py")):
        for name in imported(path):
            homes = [str(folder / name) for folder in folders if (folder / f"{name}.py").is_file()]
            elsewhere = name in ROOMS or name in sys.stdlib_module_names or name in installed
            if len(homes) + (elsewhere and bool(homes)) > 1:
                wrong[name] = homes
    assert not wrong, f"imported, and found in more than one place: {wrong}"
