"""The `collection` command: looks (`cli_look`), changes (`cli_change`) and moves (`cli_move`) collections."""

from __future__ import annotations

from outcrop.operate import cli_change, cli_look, cli_move
from outcrop.operate.console import app
from outcrop.screen.guard import main_guard

__all__ = ["app", "cli_change", "cli_look", "cli_move", "main"]


def main() -> None:
    """The console script."""
    main_guard(app)


if __name__ == "__main__":
    main()
