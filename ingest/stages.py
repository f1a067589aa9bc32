"""Threads that hand values on through bounded queues: they begin together, and one that breaks ends them all."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

POLL = 0.1
"""Seconds after which a thread that waits looks whether another broke."""


class Bundles(queue.Queue[Any]):
    """A queue of sequences, none of them empty, that is full when their members are as many as its depth; None counts as one."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._members = 0

    def _qsize(self) -> int:
        return self._members

    def _put(self, item: Any) -> None:
        super()._put(item)
        self._members += 1 if item is None else len(item)

    def _get(self) -> Any:
        item = super()._get()
        self._members -= 1 if item is None else len(item)
        return item


class Stages:
    """The stages of one pass. `stop` ends it in order; an error in a stage ends it at once, and is raised by `run`."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._broken: list[BaseException] = []
        self._queues: list[queue.Queue[Any]] = []

    def new_queue(self, depth: int) -> queue.Queue[Any]:
        """A queue between two stages with room for `depth` values; None in it means that nothing follows."""
        made: queue.Queue[Any] = queue.Queue(depth)
        self._queues.append(made)
        return made

    def new_bundles(self, depth: int) -> Bundles:
        """A queue of sequences with room for `depth` values in all of them, but for the rest of the last one; likewise None."""
        made = Bundles(depth)
        self._queues.append(made)
        return made

    def stop(self) -> None:
        """Lets the stages begin nothing more."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether the pass was stopped, or broke."""
        return self._stop.is_set()

    @property
    def broken(self) -> bool:
        """Whether a stage broke."""
        return bool(self._broken)

    def run(self, stages: Sequence[tuple[str, Callable[[], None]]], waiting: Callable[[], None]) -> None:
        """Runs each stage in a thread of its name until all have ended; `waiting` is called every `POLL` seconds meanwhile.

        Raises:
            BaseException: what the first stage that broke raised.
        """
        threads = [
            threading.Thread(target=self._guard, args=(stage,), name=name, daemon=True) for name, stage in stages
        ]
        for thread in threads:
            thread.start()
        for thread in reversed(threads):
            while thread.is_alive():
                thread.join(POLL)
                waiting()
        if self._broken:
            raise self._broken[0]

    def put(self, target: queue.Queue[Any], value: Any, always: bool = False) -> None:
        """Puts a value, giving up when the pass is broken (or, unless `always`, stopped)."""
        while not self._broken and (always or not self.stopped):
            try:
                target.put(value, timeout=POLL)
                return
            except queue.Full:
                continue

    def take(self, source: queue.Queue[Any]) -> Any:
        """Takes a value; None at the end or when the pass is broken."""
        while not self._broken:
            try:
                return source.get(timeout=POLL)
            except queue.Empty:
                continue
        return None

    def gathered(self, source: queue.Queue[Any], enough: Callable[[list[Any]], bool]) -> Iterator[list[Any]]:
        """Values until the end: each time one that was waited for, with those that are there already until they are `enough`."""
        ended = False
        while not ended and (first := self.take(source)) is not None:
            found = [first]
            while not ended and not enough(found):
                try:
                    more = source.get_nowait()
                except queue.Empty:
                    break
                ended = more is None
                found += [] if ended else [more]
            yield found

    def _guard(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as error:  # noqa: BLE001  kept, and raised again by the thread that waits
            self._broken.append(error)
            self._stop.set()
        finally:
            # A stage that broke may leave a full queue before it: drain, so that nobody waits for ever.
            if self._broken:
                for waiting in self._queues:
                    with contextlib.suppress(queue.Empty):
                        while True:
                            waiting.get_nowait()
