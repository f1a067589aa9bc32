"""Progress on stderr: a bar with rate and time left on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from outcrop.screen.width import screen_width

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

EVERY = 10.0
"""Seconds between two lines without a terminal."""
NARROW, WIDE, WIDEST = 72, 100, 120
"""Columns of a terminal from which a bar is shown, then the rate, then the time passed."""


def _bar(width: int) -> Progress:
    """A bar of one line on a terminal of `width` columns; what there is no room for is left out."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    def text(field: str) -> ProgressColumn:
        most = Column(no_wrap=True, overflow="ellipsis", max_width=max(12, width // 5))
        return TextColumn(f"{{task.{field}}}", table_column=most)

    columns = (
        (0, text("description")),
        (NARROW, BarColumn(bar_width=min(40, width // 8))),
        (0, MofNCompleteColumn()),
        (WIDE, text("fields[rate]")),
        (WIDEST, TimeElapsedColumn()),
        (0, TimeRemainingColumn(compact=True)),
        (0, text("fields[note]")),
    )
    shown = [column for least, column in columns if width >= least]
    return Progress(*shown, console=Console(file=sys.stderr, width=width))


class Meter:
    """Counts work done out of `total`; a context manager. `quiet` shows nothing."""

    def __init__(self, title: str, total: int | None, unit: str = "items", quiet: bool = False) -> None:
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet
        self.done = 0
        self._bar: Progress | None = None
        self._note = ""
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Meter:
        self._started = self._said = time.monotonic()
        if not self.quiet and sys.stderr.isatty():
            self._bar = _bar(screen_width(sys.stderr))
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, rate="", note="")
        return self

    def update(self, done: int, note: str = "") -> None:
        """`done` of the total are done; `note` is shown behind."""
        self.done, self._note = done, note
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=self.rate(), note=note)
        elif not self.quiet and now - self._said >= EVERY:
            self._said = now
            self._line()

    def progress(self, done: int, total: int) -> None:
        """`done` of a `total` that becomes known on the way."""
        self.total = total
        self.update(done)

    def counting(self, parts: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
        """The same parts, one by one; `size` of each is counted as done when it comes by."""
        for part in parts:
            self.update(self.done + size(part))
            yield part

    def rate(self) -> str:
        """``12.3 items/s`` since the beginning."""
        seconds = time.monotonic() - self._started
        if not seconds or not self.done:
            return ""
        rate = self.done / seconds
        return f"{rate:.1f} {self.unit}/s" if rate < 1000 else f"{rate:,.0f} {self.unit}/s"

    def _line(self) -> None:
        seconds = time.monotonic() - self._started
        said = [f"{self.title}: {self.done}{f' of {self.total}' if self.total is not None else ''} {self.unit}"]
        if self.done:
            said.append(self.rate())
        if self.total and 0 < self.done < self.total:
            said.append(f"ETA {(self.total - self.done) * seconds / self.done:.0f} s")
        print(", ".join(said) + (f"; {self._note}" if self._note else ""), file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
