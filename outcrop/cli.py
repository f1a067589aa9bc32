"""The `outcrop` command: `ingest`, `query` and `collection` as its subcommands."""

from __future__ import annotations

import importlib
from typing import Any

import typer.main

from outcrop.screen.guard import main_guard
from outcrop.screen.lazy import Commands, Listed
from outcrop.screen.options import application

COMMANDS = {
    "ingest": Listed("outcrop.ingest.cli", "Embed pictures and keep their vectors and metadata in Milvus."),
    "query": Listed("outcrop.query.cli", "Ask a collection: what looks like this picture, like this item?"),
    "collection": Listed("outcrop.operate.cli", "Run the collection: create, check, repair, move and remove it."),
}
ROOMS = {name: each.module for name, each in COMMANDS.items()}
"""The subcommands and the modules of their applications."""


class Rooms(Commands):
    """A group whose subcommands are applications of their own."""

    def read(self, name: str) -> dict[str, Any]:
        """The group of the application `name`."""
        group = typer.main.get_group(importlib.import_module(self.table[name].module).app)
        group.name = name
        return {name: group}


app = application("Find where a picture was taken and which specimen it shows.", COMMANDS, Rooms)


def main() -> None:
    """The console script."""
    main_guard(app)
