"""The `collection` command; its subcommands are in the modules that `outcrop.operate.commands` names."""

from __future__ import annotations

from outcrop.operate.commands import app
from outcrop.screen.guard import main_guard

__all__ = ["app", "main"]


def main() -> None:
    """The console script."""
    main_guard(app)


if __name__ == "__main__":
    main()
