"""Start-up: what a command imports before it is needed, and the lists of commands that are not imported to be listed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from commands import run
from pictures import write_dataset
from typer.testing import CliRunner

import outcrop.cli
from outcrop.screen.help import FRAME, Page, Panel, Row, help_lines
from outcrop.screen.help import _drawn as drawn

HEAVY = {"torch", "numpy", "PIL", "pymilvus", "pydantic", "rich.markdown", "rich.console", "yaml", "cv2", "scipy"}
"""None of these is needed to show what a command can do."""
ROOMS = ("ingest", "query", "collection")


def imported(program: str, *words: str) -> tuple[set[str], str]:
    """The modules that a process of its own has imported once a command ended, and what it printed."""
    code = (
        "import contextlib, sys\n"
        f"sys.argv = {[program, *words]!r}\n"
        f"from {outcrop.cli.COMMANDS[program].module if program in ROOMS else 'outcrop.cli'} import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split()), done.stdout


@pytest.mark.parametrize(
    "words", ["ingest --help", "query --help", "collection --help", "outcrop --help", "query image --help"]
)
def test_help_imports_nothing_heavy(words: str) -> None:
    modules, said = imported(*words.split())
    assert "Usage: " in said and "╭─ Options ─" in said
    assert not HEAVY & modules
    assert words == "query image --help" or not {name for name in modules if ".cli_" in name}


def groups() -> Iterator[tuple[str, typer.core.TyperGroup]]:
    for name in ROOMS:
        yield name, typer.main.get_group(importlib.import_module(outcrop.cli.COMMANDS[name].module).app)


@pytest.mark.parametrize("name, group", [pytest.param(*each, id=each[0]) for each in groups()])
def test_lists_say_what_the_commands_say(name: str, group: typer.core.TyperGroup) -> None:
    table = type(group).table  # type: ignore[attr-defined]  # a group that reads its commands late
    assert group.help == outcrop.cli.COMMANDS[name].help
    assert list(group.commands) == list(table), "a command is not in the list: it would be missing until it is imported"
    for command, listed in table.items():
        found = group.get_command(None, command)  # type: ignore[arg-type]
        assert found is not None and found.callback is not None and found.name == command
        assert found.help == listed.help, command
        assert found.callback.__module__ == listed.module, command


def test_every_module_of_commands_is_listed() -> None:
    root = Path(__file__).parents[1]
    there = {f"outcrop.{path.parent.name}.{path.stem}" for path in root.glob("*/cli_*.py")}
    listed = {each.module for _, group in groups() for each in type(group).table.values()}  # type: ignore[attr-defined]
    assert there == listed


def test_a_misspelt_command_is_corrected_and_a_bare_one_helps() -> None:
    app = importlib.import_module("outcrop.query.cli").app
    wrong = CliRunner().invoke(app, ["imge"])
    assert wrong.exit_code == 2 and "Did you mean 'image'?" in wrong.output
    bare = CliRunner().invoke(app, [])
    assert bare.exit_code == 2 and "╭─ Commands ─" in bare.output
    assert bare.output.strip() == CliRunner().invoke(app, ["--help"]).output.strip()


@pytest.mark.parametrize("width", [40, 61, 80, 200])
@pytest.mark.parametrize("name, group", [pytest.param(*each, id=each[0]) for each in groups()])
def test_panels_are_as_wide_as_the_page_and_lose_nothing(name: str, group: typer.core.TyperGroup, width: int) -> None:
    page = Page(width, colours=False)
    for command in (group, *(group.get_command(None, each) for each in group.commands)):  # type: ignore[arg-type]
        assert command is not None
        with typer.Context(command, info_name=name) as ctx:  # type: ignore[arg-type]
            lines = list(help_lines(command, ctx, page))
            wanted = [each.get_help_record(ctx) for each in command.get_params(ctx)]
        framed = [line for line in lines if line[:1] in FRAME]
        assert framed and {len(line) for line in framed} == {width}
        said = "".join("".join(line.strip("│ ").split()) for line in lines)
        for record in filter(None, wanted):
            assert "".join("".join(record).replace("\\[", "[").split()) in said


def test_colours_do_not_move_the_frame() -> None:
    import re

    rows = (
        Row("-k, --top-k <int>", "Hits. See --exact."),
        Row("--a-rather-long-option-name <path>", "A file. [x]", True),
    )
    plain = list(drawn(Panel("Search", rows), Page(60, colours=False)))
    coloured = list(drawn(Panel("Search", rows), Page(60, colours=True)))
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in coloured] == plain
    assert "\x1b[1;36m--exact\x1b[0m" in "".join(coloured) and "\x1b[33m<path>\x1b[0m" in "".join(coloured)
    assert plain[2:-1] == ["│ * --a-rather-long-option-name <path>".ljust(59) + "│", plain[3]]
    assert "A file. [x]" in plain[3]


def test_help_is_drawn_in_any_encoding() -> None:
    import os

    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "60"}
    code = "import sys; sys.argv = ['query', 'image', '--help']; from outcrop.query.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment)
    assert done.returncode == 0 and b"+- Options -" in done.stdout


UNUSED = {
    *("torch._dynamo", "torch._inductor", "sympy", "triton", "torch.distributed.fsdp"),
    *("sklearn", "open3d", "trimesh", "hdbscan", "jinja2", "cv2", "plyfile", "scipy.stats", "scipy.spatial"),
}
"""What a query by a picture has no use for."""


def test_a_query_by_a_picture_imports_what_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path, {"250918092555_300": 3})
    assert run("ingest", "dataset", "jamshill_image", "--model", "efficientnet_lite0").code == 0
    picture = tmp_path / "images/250918092555_300/250918092555_300_0002.jpg"
    modules, said = imported("query", "image", str(picture), "--json")
    assert "250918092555_300/0002" in said
    assert {"torch", "timm", "pymilvus"} <= modules
    assert not UNUSED & modules
