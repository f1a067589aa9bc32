"""The `outcrop` command: `ingest`, `query` and `collection` as its subcommands."""

from __future__ import annotations

import importlib
from typing import Any

import typer.core
import typer.main

from outcrop.screen.guard import main_guard
from outcrop.screen.options import application

ROOMS = {"ingest": "outcrop.ingest.cli", "query": "outcrop.query.cli", "collection": "outcrop.operate.cli"}
"""The subcommands and the modules of their applications, imported once they are asked for."""


class Rooms(typer.core.TyperGroup):
    """A group whose subcommands are applications of their own."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the subcommands."""
        return list(ROOMS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A subcommand by its name; None where there is no such one."""
        if cmd_name not in ROOMS:
            return None
        group = typer.main.get_group(importlib.import_module(ROOMS[cmd_name]).app)
        group.name = cmd_name
        return group


app = application("Find where a picture was taken and which specimen it shows.", Rooms)


def main() -> None:
    """The console script."""
    main_guard(app)
