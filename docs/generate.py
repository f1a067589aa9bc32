"""Writes the generated pages of docs/ from the code: `python docs/generate.py`; `--check` says whether they are up to date."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from outcrop.cli import ROOMS
from outcrop.embed.presets import PRESETS
from outcrop.schema.errors import EXIT_CODES
from outcrop.schema.index_parameters import dotted
from outcrop.schema.indexes import PROFILES
from outcrop.schema.item import FIELDS, Kind
from outcrop.schema.manifest import Manifest
from outcrop.schema.registry import Registry
from outcrop.schema.settings import Settings

HERE = Path(__file__).parent
NOTE = "<!-- written by docs/generate.py: change the code, then run `make docs` -->\n"


def pages() -> dict[str, str]:
    """The generated pages: file name to text."""
    return {
        "cli.md": cli_page(),
        "reference.md": reference_page(),
        "manifest.schema.json": schema_of(Manifest),
        "registry.schema.json": schema_of(Registry),
    }


def schema_of(model: type[BaseModel]) -> str:
    """The JSON Schema of a file that people write, for editors."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def cli_page() -> str:
    """Every command with its arguments and options."""
    lines = [NOTE, "# Commands", "", "Exit codes, of every command:", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()] + [
        "| 130 | interrupted (Ctrl-C) |",
        "",
    ]
    lines += ["What is set rarely has a line in [reference.md](reference.md#settings) instead of an option here.", ""]
    lines += [
        "`outcrop ingest …`, `outcrop query …` and `outcrop collection …` are the same commands under one name. Each of",
        "the four prints its version with `--version` and sets up shell completion with `--install-completion`.",
        "",
    ]
    for name, module in ROOMS.items():
        group = typer.main.get_command(importlib.import_module(module).app)
        lines += [f"## {name}", "", str(group.help or ""), ""]
        for sub in sorted(group.commands):  # type: ignore[attr-defined]  # a group of commands
            lines += list(_command(f"{name} {sub}", group.get_command(None, sub)))  # type: ignore[attr-defined]  # likewise
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    shown = [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    usage = " ".join([name, *(_usage(a) for a in arguments), "[OPTIONS]"])
    yield from (f"### {name}", "", str(command.help or "").strip(), "", "```", usage, "```", "", "| | |", "|---|---|")
    for argument in arguments:
        yield f"| `{_usage(argument)}` | {_cell(argument.help or '')} |"
    panel = None
    for option in shown:
        if option.param_type_name == "argument":
            continue
        if option.rich_help_panel != panel:
            panel = option.rich_help_panel
            yield f"| **{panel}** | |"
        names = ", ".join(f"`{each}`" for each in option.opts)
        yield f"| {names} | {_cell(option.help or '')}{_default(option)} |"
    yield ""


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or value is False or value == "" or parameter.multiple or callable(value) or parameter.is_flag:
        return ""
    return f" Default: {value}."


def _cell(text: str) -> str:
    return " ".join(text.replace("\\[", "[").split()).replace("|", "\\|")


def reference_page() -> str:
    """Settings, the fields of items, index profiles and model presets."""
    lines = [NOTE, "# Reference", "", "## Settings", ""]
    lines += ["`outcrop.yaml` < environment (and `.env`) < options. Secrets come from the environment only.", ""]
    lines += ["| environment | in outcrop.yaml | default | meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        in_file = "never" if name == "token" else f"`{name}`"
        lines.append(f"| `OUTCROP_{name.upper()}` | {in_file} | {default} | {_cell(field.description or '')} |")
    lines += [
        "",
        "## Fields of an item",
        "",
        "These are what `--where` and `--filter` can name, beside the [own columns](metadata.md) of a collection.",
        "",
    ]
    lines += ["| field | type | kinds | meaning |", "|---|---|---|---|"]
    for spec in FIELDS.values():
        kinds = "all" if set(spec.kinds) == set(Kind) else ", ".join(spec.kinds)
        lines.append(f"| `{spec.name}` | {spec.type} | {kinds} | {_cell(spec.meaning)} |")
    lines += [
        "",
        "## Index profiles",
        "",
        "| profile | exact | GPU | Milvus Lite | server from | note |",
        "|---|---|---|---|---|---|",
    ]
    for profile in PROFILES.values():
        marks = ["yes" if flag else "" for flag in (profile.exact, profile.gpu, profile.lite)]
        lines.append(
            f"| `{profile.name}` | {' | '.join(marks)} | {'.'.join(map(str, profile.since))} | {_cell(profile.note)} |"
        )
    lines += [
        "",
        "Parameters of `--build` and `--param` that a profile knows. What a server or Milvus Lite does not know is refused.",
        "",
        "| profile | | parameter | default | values | server from | Milvus Lite |",
        "|---|---|---|---|---|---|---|",
    ]
    for profile in PROFILES.values():
        for stage, parameters in (("build", profile.build), ("search", profile.search)):
            for name, parameter in parameters.items():
                since = dotted(max(parameter.since or profile.since, profile.since))
                lite = (", ".join(parameter.lite_choices) or "yes") if profile.lite and parameter.lite else ""
                default = "" if parameter.default is None else f"`{parameter.default}`"
                cells = (
                    f"| `{profile.name}` | {stage} | `{name}` | {default} | {parameter.limits()} | {since} | {lite} |"
                )
                lines.append(cells)
    lines += [
        "",
        "## Model presets",
        "",
        "What they need, and where weights come from: [models.md](models.md).",
        "",
        "| preset | input | patch | dimension | parameters | pooling | licence of the weights |",
        "|---|---|---|---|---|---|---|",
    ]
    for preset in PRESETS.values():
        size = "x".join(map(str, preset.size))
        count = f"{preset.parameters / 1e6:,.1f} M"
        kind = f"{size} {preset.fit} | {preset.patch or ''} | {preset.dim} | {count} | {preset.pooling}"
        lines.append(f"| `{preset.name}` | {kind} | {_cell(preset.licence)} |")
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Writes the pages, or checks them; returns the exit code."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, text in pages().items():
        path = HERE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"out of date: {', '.join('docs/' + name for name in stale)}; run `make docs`", file=sys.stderr)
        return 1
    print("docs: " + (f"wrote {', '.join(stale)}" if stale else "up to date"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
