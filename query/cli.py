"""The `query` command: each subcommand parses, opens the collection, calls one library function, and prints."""

from __future__ import annotations

from outcrop.query import cli_cluster, cli_evaluate, cli_match, cli_search, cli_specimen
from outcrop.query.console import app
from outcrop.screen.guard import main_guard

__all__ = ["app", "cli_cluster", "cli_evaluate", "cli_match", "cli_search", "cli_specimen", "main"]


def main() -> None:
    """The console script."""
    main_guard(app)


if __name__ == "__main__":
    main()
