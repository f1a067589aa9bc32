"""Ctrl-C and SIGTERM during an ingest: once to stop in order, twice to end at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from outcrop.screen.guard import INTERRUPTED

if TYPE_CHECKING:
    from outcrop.ingest.runs import Run
    from outcrop.ingest.watcher import Stoppable


class Stopping:
    """A context in which the first signal stops the `pipeline` after the pictures in flight; without one, it ends the command.

    The second ends the process, whatever it waits for: threads, a server that does not answer, native code that never returns to
    Python's own way out. What was written by then stays, as after a kill, and the next run continues from there. `number` is that
    of the signal; None where none came.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.run: Run | None = None
        self.pipeline: Stoppable | None = None
        self.number: int | None = None
        self._warn = warn
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            self._end_now()
        self._asked, self.number = True, number
        if self.pipeline is None or self.pipeline.stopped:
            raise KeyboardInterrupt
        self._warn("stopping after the pictures in flight; once more to stop at once")
        self.pipeline.stop()

    def _end_now(self) -> NoReturn:
        if self.run is not None:
            self.run.abandon()
        # A progress bar hides the cursor; nobody else is left to show it again.
        os.write(2, b"\x1b[?25h\ninterrupted\n" if sys.stderr.isatty() else b"interrupted\n")
        os._exit(INTERRUPTED)
