"""From an error to one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from outcrop.schema.errors import OutcropError
from outcrop.screen.texts import harmless_lines

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""


def run_guarded(command: Callable[[], Any]) -> None:
    """Runs a command; errors of `outcrop.schema.errors` become one line on stderr and the family's exit code.

    Anything else is a bug: its traceback is shown and the exit code is 1.
    """
    try:
        command()
        sys.stdout.flush()  # a reader that went away is found here, not while the interpreter ends
    except OutcropError as error:
        logging.getLogger(__name__).debug("traceback", exc_info=True)
        leave(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        leave("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and nobody is listening.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except MemoryError:
        leave("error: out of memory; use a smaller --batch or fewer --workers", 1)


def leave(message: str, code: int) -> NoReturn:
    """Prints a last line on stderr and ends the process with `code`."""
    print(harmless_lines(message), file=sys.stderr, flush=True)
    raise SystemExit(code)


def main_guard(app: Callable[..., Any]) -> None:
    """Runs a whole typer application, keeping unforeseen errors to a traceback and exit code 1."""
    try:
        app()
    except Exception:  # noqa: BLE001  the last resort of a program
        traceback.print_exc()
        leave("this is a bug in Outcrop: please report it with the command you typed", 1)
