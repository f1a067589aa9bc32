"""The `ingest` command; its subcommands are in the modules that `outcrop.ingest.commands` names."""

from __future__ import annotations

import signal

from outcrop.ingest.commands import app
from outcrop.screen.guard import main_guard

__all__ = ["app", "main"]


def main() -> None:
    """The console script."""
    # Until a run can be stopped in order (`outcrop.ingest.stopping`), SIGTERM ends the command as Ctrl-C does: with 130.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main_guard(app)


if __name__ == "__main__":
    main()
