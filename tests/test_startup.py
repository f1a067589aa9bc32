"""Start-up: what a command imports before it is needed, and the lists of commands that are not imported to be listed."""

from __future__ import annotations

import builtins
import gc
import importlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from commands import run
from pictures import write_dataset
from typer.testing import CliRunner

import outcrop.cli
from outcrop.schema.postponed import import_without
from outcrop.schema.starting import importing
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
    modules, _ = imported("ingest", "dataset", "jamshill_image")
    assert "pymilvus" in modules and "torch" not in modules, "nothing has changed: no model is opened"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library `libra` whose import takes a part of `weighty`, a package of two modules; none is imported yet."""
    (tmp_path / "weighty").mkdir()
    (tmp_path / "weighty/__init__.py").write_text("class Table: pass\nreal = True\n")
    (tmp_path / "weighty/inner.py").write_text("from weighty import Table\n")
    (tmp_path / "libra.py").write_text(
        "import builtins\nfrom weighty import Table\nbuiltins.meanwhile()\nfrom weighty import Table as again\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("weighty", "weighty.inner", "libra"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "statement", ["import weighty.inner as got", "import weighty as got", "from weighty import inner as got"]
)
def test_another_thread_gets_the_real_module_meanwhile(
    library: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    found: dict[str, Any] = {}

    def other() -> None:
        exec(f"{statement}\nmade = got.Table()\nhome = type(made).__module__", found)

    def meanwhile() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    monkeypatch.setattr(builtins, "meanwhile", meanwhile, raising=False)
    libra = import_without("libra", {"weighty": ("Table",)})
    assert found["home"] == "weighty"
    assert isinstance(found["made"], libra.again) and isinstance(found["made"], libra.Table)


def test_without_another_thread_the_module_is_not_imported(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "meanwhile", lambda: None, raising=False)
    libra = import_without("libra", {"weighty": ("Table",)})
    asked: list[bool] = []
    thread = threading.Thread(target=lambda: asked.append(isinstance(1, libra.Table)))
    thread.start()
    thread.join()
    assert asked == [False] and "weighty" not in sys.modules


def test_threads_that_import_together_leave_the_collector_as_it_was() -> None:
    first, second = importing(), importing()
    assert gc.isenabled()
    with first:
        second.__enter__()
        assert not gc.isenabled()
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled(), "whoever switched it off wants it off"
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm:tf_efficientnet_lite0"])
def test_whatever_needs_torch_first_has_its_threads_sleep(name: str) -> None:
    code = (
        "import sys\nfrom outcrop.embed.models import find_preset, find_model\nfrom outcrop.embed.encoder import Encoder\n"
        f"if find_preset({name!r}).family != 'timm': Encoder.open(find_model({name!r}))\n"
        "assert 'torch' in sys.modules"
    )
    environment = {key: each for key, each in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    shown = {**environment, "OMP_DISPLAY_ENV": "true"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=shown).stderr
    assert set(re.findall(r"OMP_WAIT_POLICY = '(\w+)'", said)) == {"PASSIVE"}


def test_threads_of_torch_sleep_and_programs_find_their_environment() -> None:
    code = (
        "import os\nbefore = dict(os.environ)\nfrom outcrop.embed.lean_torch import import_torch\nimport_torch()\n"
        "assert os.environ == before, 'the environment was changed'\n"
    )
    environment = {key: each for key, each in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    shown = {**environment, "OMP_DISPLAY_ENV": "true"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=shown).stderr
    policies = re.findall(r"OMP_WAIT_POLICY = '(\w+)'", said)
    assert policies and set(policies) == {"PASSIVE"}
    own = {**shown, "OMP_WAIT_POLICY": "ACTIVE"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own).stderr
    assert set(re.findall(r"OMP_WAIT_POLICY = '(\w+)'", said)) == {"ACTIVE"}
