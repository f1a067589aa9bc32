"""Waiting for Milvus: while it cannot be reached, while it takes no more, and so that it is not asked to take too much."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from outcrop.schema.errors import StoreBusy, StoreUnreachable, StoreUnusable

T = TypeVar("T")
BUSY_PATIENCE = 3600.0
"""Seconds for which a writer waits for a server that answers, but takes nothing: long enough for compaction, or for a person."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries at most."""


def patiently(call: Callable[[], T], patience: float, waiting: Callable[[str], None] | None = None) -> T:
    """Calls until it works, at most `patience` seconds, as long as the store cannot be reached (for calls safe to repeat).

    `waiting` is given the reason before each new try.

    Raises:
        StoreUnreachable: the last one, when patience is over. StoreBusy: at once (see `Courtesy`).
    """
    deadline, pause = time.monotonic() + patience, 0.5
    while True:
        try:
            return call()
        except (StoreUnusable, StoreBusy):
            raise
        except StoreUnreachable as error:
            if time.monotonic() + pause > deadline:
                raise
            if waiting is not None:
                waiting(str(error))
            time.sleep(pause)
            pause = min(5.0, pause * 2)


class Courtesy:
    """How one connection writes: `rate` rows a second at most (0: no limit), and with patience where the server is busy.

    Rates are limited for all writers together, so the pauses grow, and are never quite the same for two of them.
    """

    def __init__(
        self,
        rate: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate = rate
        self._clock, self._sleep = clock, sleep
        self._free = 0.0
        self._said = False

    def most(self, rows: int) -> int:
        """How many of `rows` are sent in one request: those of one second, so that the server sees an even stream."""
        return min(rows, max(1, int(self.rate))) if self.rate else rows

    def pace(self, rows: int) -> None:
        """Waits until `rows` more keep to the rate."""
        if not self.rate:
            return
        now = self._clock()
        if self._free > now:
            self._sleep(self._free - now)
        self._free = max(self._free, now) + rows / self.rate

    def write(
        self,
        call: Callable[[], T],
        patience: float,
        waiting: Callable[[str], None] | None = None,
        busy: float = BUSY_PATIENCE,
    ) -> T:
        """As `patiently`, and waits up to `busy` seconds while the server takes nothing; `waiting` is told so once.

        Raises:
            StoreUnreachable: no answer within the patience. StoreBusy: it took nothing for all that time.
        """
        deadline, pause = self._clock() + busy, 0.5
        while True:
            try:
                return patiently(call, patience, waiting)
            except StoreBusy as error:
                if self._clock() + pause > deadline:
                    raise
                if waiting is not None and not self._said:
                    self._said = True
                    waiting(f"{error}; waiting until it does, for {busy / 60:.0f} minutes at most")
                self._sleep(pause * random.uniform(0.75, 1.25))
                pause = min(LONGEST_PAUSE, pause * 2)
