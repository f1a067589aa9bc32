"""From an error to one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from outcrop.schema.errors import InputError, OutcropError, OutOfMemory
from outcrop.schema.memory import ADVICE, be_sparing, limited, of_memory
from outcrop.schema.starting import own_process
from outcrop.screen.texts import harmless_lines
from outcrop.screen.width import remark

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""
RESENT_AFTER = 0.05
"""Seconds after which a lost Ctrl-C is sent again."""


OF_THE_PLACE = {
    errno.ENOSPC: "make room, or choose another place",
    errno.EDQUOT: "make room, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "correct the permissions, or choose another place",
    errno.EPERM: "correct the permissions, or choose another place",
    errno.EFBIG: "the file grew larger than allowed: raise `ulimit -f`, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file is where a folder should be: remove it, or choose another place",
    errno.EISDIR: "a folder is where a file should be: remove it, or choose another place",
    errno.EIO: "the disk or its connection fails: look at the system's log",
    errno.ESTALE: "the disk or its connection fails: look at the system's log",
    errno.EMFILE: "too many files are open: raise `ulimit -n`, or lower OUTCROP_WORKERS",
}
"""What helps, by the system's error number: faults of a disk or of its permissions, none of Outcrop's."""
OUT_OF_MEMORY = f"out of memory: {ADVICE}"


def run_guarded(command: Callable[[], Any]) -> None:
    """Runs a command; errors of `outcrop.schema.errors` become one line on stderr and the family's exit code.

    So do faults of the machine that nobody caught before (`fault_of_machine`). Anything else is a bug: its traceback is shown
    and the exit code is 1.
    """
    try:
        command()
        sys.stdout.flush()  # a reader that went away is found here, not while the interpreter ends
    except OutcropError as error:
        logging.getLogger(__name__).debug("traceback", exc_info=True)
        _leave_with(error)
    except KeyboardInterrupt:
        leave("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and nobody is listening.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        fault = fault_of_machine(error)
        if fault is None:
            raise
        logging.getLogger(__name__).debug("traceback", exc_info=True)
        _give_up_output()
        if limited() and isinstance(fault, OutOfMemory):
            _leave_at_once(fault)
        leave(f"error: {fault}", fault.exit_code)


def _leave_with(error: OutcropError) -> NoReturn:
    """Ends the process with an error's line and code; at once where memory is limited and none is left."""
    if limited() and of_memory(error):
        _leave_at_once(error if isinstance(error, OutOfMemory) else OutOfMemory(OUT_OF_MEMORY))
    leave(f"error: {error}", error.exit_code)


def _leave_at_once(error: OutOfMemory) -> NoReturn:
    """Ends the process with an error's line and code: the interpreter's own end would wait for threads that never began."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    print(f"error: {harmless_lines(str(error))}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)


def _watch(broken: threading.ExceptHookArgs) -> None:
    """A library's thread that dies for lack of memory leaves others waiting for it for ever: the process ends instead."""
    if of_memory(broken.exc_value):
        _leave_at_once(OutOfMemory(OUT_OF_MEMORY))
    threading.__excepthook__(broken)


def _again(ignored: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that came within a finaliser or a library's callback is lost there, with a traceback: it is sent again instead."""
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    sender = threading.Timer(RESENT_AFTER, signal.raise_signal, (signal.SIGINT,))
    sender.daemon = True
    sender.start()


def _give_up_output() -> None:
    """Where stdout cannot take what is left (a full disk), lets it go: the interpreter would complain of it at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fault_of_machine(error: BaseException) -> InputError | None:
    """An error that names a full, read-only or failing disk, missing memory, or a name that is not UTF-8; None for all others."""
    if of_memory(error):
        return OutOfMemory(OUT_OF_MEMORY)
    if isinstance(error, OSError) and error.errno in OF_THE_PLACE:
        place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "the output"
        return InputError(f"{place} cannot be used ({error.strerror}); {OF_THE_PLACE[error.errno]}")
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        name = error.object if len(error.object) <= 200 else error.object[max(0, error.start - 80) : error.end + 80]
        return InputError(f"{name!r} is not valid UTF-8; rename the file, or correct the text that names it")
    return None


def leave(message: str, code: int) -> NoReturn:
    """Prints a last line on stderr and ends the process with `code`."""
    print(remark(message, sys.stderr), file=sys.stderr, flush=True)
    raise SystemExit(code)


def main_guard(app: Callable[..., Any]) -> None:
    """Runs a whole typer application, keeping unforeseen errors to a traceback and exit code 1."""
    be_sparing()
    own_process()
    threading.excepthook, sys.unraisablehook = _watch, _again
    try:
        app()
    except Exception as error:  # noqa: BLE001  the last resort of a program
        if (fault := fault_of_machine(error)) is not None:
            leave(f"error: {fault}", fault.exit_code)
        traceback.print_exc()
        leave("this is a bug in Outcrop: please report it with the command you typed", 1)
