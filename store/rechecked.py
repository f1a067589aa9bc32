"""Answers that cost much and hold for a while: asked for anew by one thread, while the others go on with the last one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Rechecked(Generic[T]):
    """The answer to one question, good for `seconds`, and as long again while a thread asks anew; safe for threads.

    Without that, all threads that ask at the moment when it runs out would put the question to the server at once.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asking = threading.Lock()
        self._answer: tuple[T, float] | None = None  # and when it was asked for
        self._changes = 0

    def forget(self) -> None:
        """Something was changed that the answer depends on: it is asked for anew, by whoever needs it next."""
        self._changes += 1
        self._answer = None

    def get(self, ask: Callable[[], T]) -> T:
        """The answer, from `ask` where it is not known or too old. Raises what `ask` raises; the next one asks again."""
        if (known := self._fresh(self._seconds)) is not None:
            return known[0]
        known = self._fresh(2 * self._seconds)
        if not self._asking.acquire(blocking=known is None):
            assert known is not None
            return known[0]
        try:
            if (known := self._fresh(self._seconds)) is not None:  # another thread has asked while this one waited
                return known[0]
            begun, changes = time.monotonic(), self._changes
            answer = ask()
            self._answer = answer, begun
            if changes != self._changes:  # it may be of the time before the change
                self._answer = None
            return answer
        finally:
            self._asking.release()

    def _fresh(self, seconds: float) -> tuple[T, float] | None:
        known = self._answer
        return known if known is not None and time.monotonic() - known[1] <= seconds else None
