"""The documentation is true: generated pages are fresh, every command is described, and the tour in Python runs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from pictures import picture, write_dataset

from outcrop.cli import ROOMS

ROOT = Path(__file__).parents[1]


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_described_and_helps() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    for name, module in ROOMS.items():
        group = typer.main.get_command(importlib.import_module(module).app)
        for sub in group.commands:
            command = group.get_command(None, sub)
            assert f"### {name} {sub}\n" in page
            assert command.help and command.help.strip().endswith((".", "…")), f"{name} {sub} has no help"
            for parameter in command.params:
                assert parameter.name == "help" or getattr(parameter, "help", ""), (
                    f"{name} {sub}: {parameter.name} has no help"
                )


def test_the_tour_in_python_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path, {"250918092555_300": 3, "250918101210_150": 2})
    (tmp_path / "queries").mkdir()
    picture(2).save(tmp_path / "queries/one.jpg", quality=70)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    statements = [line for line in blocks[0].splitlines() if line.strip() and not line.startswith(("from ", "import "))]
    assert len(statements) <= 12
    exec(compile(blocks[0], "docs/python.md", "exec"), {})
    said = capsys.readouterr().out
    assert "5 expected 5 embedded 0 unchanged 0 failed" in said
    assert "image/jamshill_image/250918092555_300/0002" in said and "250918101210_150" not in said.splitlines()[1]


def commands_in(page: str) -> list[list[str]]:
    """The lines of a page's shell blocks that call one of our commands."""
    lines = [
        line
        for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", page, re.DOTALL)
        for line in block.splitlines()
    ]
    return [words for line in lines if (words := line.split("#")[0].split()) and words[0] in ROOMS]


def test_commands_of_the_readme_exist() -> None:
    shown = commands_in((ROOT / "README.md").read_text())
    assert len(shown) >= 5
    for words in shown:
        group = typer.main.get_command(importlib.import_module(ROOMS[words[0]]).app)
        assert words[1] in group.commands, words
        known = {option for parameter in group.get_command(None, words[1]).params for option in parameter.opts}
        used = {word.split("=")[0] for word in words[2:] if word.startswith("-") and word != "-"}
        assert used <= known, (words, used - known)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
