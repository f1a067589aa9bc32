"""The `ingest` command; its subcommands are in the modules that `outcrop.ingest.commands` names."""

from __future__ import annotations

from outcrop.ingest.commands import app
from outcrop.screen.guard import main_guard

__all__ = ["app", "main"]


def main() -> None:
    """The console script."""
    main_guard(app)


if __name__ == "__main__":
    main()
