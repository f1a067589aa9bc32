"""Groups of commands whose modules are imported once a command of theirs is used: `--help` lists them from a table."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer.core
import typer.main

from outcrop.screen.help import Helped


@dataclass(frozen=True)
class Listed:
    """A command that need not be imported yet: the module that registers it with its `app`, and its help in the list."""

    module: str
    help: str


class Unread(typer.core.TyperCommand):
    """Stands for a command in the list of its group until it is used."""


class Commands(Helped, typer.core.TyperGroup):
    """A group of the commands in `table`, in its order; others may be registered beside them."""

    table: ClassVar[Mapping[str, Listed]] = {}

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        unread = {name: Unread(name=name, help=each.help, callback=None) for name, each in self.table.items()}
        self.commands = {**unread, **self.commands}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does it, but a flag that is not given is False: for None typer imports pydantic."""
        for each in self.get_params(ctx):
            if getattr(each, "is_flag", False) and each.default is None:
                each.default = False
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name, imported now if it has not been; None where there is no such one."""
        if isinstance(self.commands.get(cmd_name), Unread):
            read = self.read(cmd_name)
            self.commands.update({name: each for name, each in read.items() if not isinstance(each, Unread)})
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As click does it; a command may have a name of two words."""
        both = " ".join(args[:2])
        return super().resolve_command(ctx, [both, *args[2:]] if both in self.commands else args)

    def read(self, name: str) -> dict[str, Any]:
        """The command `name`, from the module that the table names, and the others that have been imported."""
        app = importlib.import_module(self.table[name].module).app
        return dict(typer.main.get_group(app).commands)
