"""Options: few in every help, former and rare ones still accepted, groups as dataclasses; versions and completion."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import pytest
import typer.main
from typer.testing import CliRunner

from outcrop.cli import ROOMS
from outcrop.schema.settings import Settings
from outcrop.screen.groups import PANELS
from outcrop.screen.options import STORE, Formerly, Session, application, command, hidden, option

PAGE = Path(__file__).parents[1] / "docs/cli.md"
MAX_ROWS, MAX_AVERAGE = 24, 12.0


def rows_of_options() -> dict[str, int]:
    """Commands of docs/cli.md and how many options each shows."""
    sections = PAGE.read_text().split("\n### ")[1:]
    return {part.partition("\n")[0]: len(re.findall(r"^\| `-", part, re.MULTILINE)) for part in sections}


def test_a_command_shows_few_options() -> None:
    rows = rows_of_options()
    assert len(rows) >= 36
    assert {name: count for name, count in rows.items() if count > MAX_ROWS} == {}
    assert sum(rows.values()) / len(rows) <= MAX_AVERAGE


@dataclass(frozen=True)
class Sized:
    """Options of a command."""

    side: Annotated[int, option("--side", help="Pixels.", panel="Search"), Formerly("--size", "-s")] = 5
    marks: Annotated[Optional[list[str]], option("--mark", help="Marks."), Formerly("--marks")] = None


@pytest.fixture
def said() -> list[object]:
    return []


@pytest.fixture
def app(said: list[object]) -> typer.Typer:
    app = application("Measures.")

    @command(app, STORE)
    def measure(
        session: Session,
        name: Annotated[str, typer.Argument(help="Name.")],
        sized: Sized,
        angle: Annotated[float, option("--angle", help="Degrees."), Formerly("--turn")] = 0.0,
    ) -> None:
        """Measure."""
        said.extend([name, sized, angle, session])

    @command(app, hidden(STORE))
    def other(session: Session) -> None:
        """Do otherwise."""

    return app


@pytest.mark.parametrize(
    "words, side, marks, angle",
    [
        ([], 5, None, 0.0),
        (["--side", "7", "--mark", "a", "--mark", "b", "--angle", "3"], 7, ["a", "b"], 3.0),
        (["--size", "7", "--marks", "a", "--mark", "b", "--turn=3"], 7, ["a", "b"], 3.0),
        (["-s", "8"], 8, None, 0.0),
    ],
)
def test_former_names_mean_what_the_new_ones_mean(
    app: typer.Typer, said: list[object], words: list[str], side: int, marks: list[str] | None, angle: float
) -> None:
    done = CliRunner().invoke(app, ["measure", "x", *words])
    assert done.exit_code == 0, done.output
    assert said[:3] == ["x", Sized(side, marks), angle]


def test_former_and_hidden_names_are_not_shown(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["measure", "--help"])
    for name in ("--side", "--mark", "--angle", "--uri", "--json"):
        assert name in done.output
    for name in ("--size", "--marks", "--turn", "--timeout", "--verbose"):
        assert name not in done.output
    assert "--uri" not in CliRunner().invoke(app, ["other", "--help"]).output


def test_a_wrong_value_names_the_new_option(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["measure", "x", "--size", "wide"])
    assert done.exit_code == 2 and "'--side'" in done.output


def test_hidden_options_are_settings(app: typer.Typer, said: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_TIMEOUT", "7")
    assert CliRunner().invoke(app, ["measure", "x"]).exit_code == 0
    assert CliRunner().invoke(app, ["measure", "x", "--timeout", "9"]).exit_code == 0
    first, second = said[3], said[7]
    assert isinstance(first, Session) and isinstance(second, Session)
    assert (first.settings.timeout, second.settings.timeout) == (7, 9)
    assert second.given == {"timeout": 9}


def test_panels_stand_in_their_order_after_the_own_options(app: typer.Typer) -> None:
    lines = CliRunner().invoke(app, ["measure", "--help"]).output.splitlines()
    titles = [found[1] for line in lines if (found := re.match(r"╭─ ([\w -]+?) ─", line))]
    assert titles == ["Arguments", "Options", "Search", "Output", "Store"]
    assert [each for each in PANELS if each in titles] == titles[2:]


def test_every_setting_is_described_in_the_reference() -> None:
    page = (PAGE.parent / "reference.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`OUTCROP_{name.upper()}`" in page
        assert field.description


@pytest.mark.parametrize("module", ["outcrop.cli", *ROOMS.values()])
def test_a_command_says_its_version_and_completes(module: str) -> None:
    app = importlib.import_module(module).app
    assert re.fullmatch(r"outcrop \d+\.\d+\S*\n", CliRunner().invoke(app, ["--version"]).output)
    names = {name for each in typer.main.get_command(app).params for name in each.opts}
    assert {"--install-completion", "--show-completion"} <= names


@pytest.mark.parametrize(
    "program, typed, offered",
    [
        ("outcrop", "outcrop que", "query"),
        ("outcrop", "outcrop query im", "image"),
        ("outcrop", "outcrop query image --exp", "--explain"),
        ("query", "query image --exp", "--explain"),
        ("ingest", "ingest data", "dataset"),
        ("collection", "collection doc", "doctor"),
    ],
)
def test_the_shell_completes(program: str, typed: str, offered: str) -> None:
    module = {"outcrop": "outcrop.cli", **ROOMS}[program]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = {program!r}; from {module} import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            f"_{program.upper()}_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        },
    )
    assert offered in done.stdout.split(), done.stderr


def test_outcrop_holds_the_commands() -> None:
    app = importlib.import_module("outcrop.cli").app
    done = CliRunner().invoke(app, ["--help"])
    assert all(re.search(rf"│ {name} +\w", done.output) for name in ROOMS), done.output
    assert CliRunner().invoke(app, ["query", "image", "--help"]).output.count("query image") == 1
    wrong = CliRunner().invoke(app, ["quary"])
    assert wrong.exit_code == 2 and "No such command" in wrong.output


def test_outcrop_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "outcrop", "collection", "list", "--uri", tmp_path / "x.db", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0 and '"rows": []' in done.stdout, done.stderr
