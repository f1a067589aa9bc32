"""How an ingest is watched: by a person at a screen, or by a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from outcrop.ingest.runs import Record, Run


class Stoppable(Protocol):
    """What can be asked to end in order."""

    @property
    def stopped(self) -> bool:
        """Whether it was asked."""
        ...

    def stop(self) -> None:
        """Asks it; may be called by a signal handler."""
        ...


class Watcher:
    """Follows an ingest in progress. Each method may be overridden; as they are, nothing is shown."""

    def say(self, text: str) -> None:
        """A remark: what was opened, and how."""

    def warn(self, text: str) -> None:
        """A warning: what is not as it was declared, or a server that went away."""

    def begins(self, run: Run, title: str, expected: int) -> None:
        """The run begins; `expected` items are declared."""

    def stoppable(self, pipeline: Stoppable) -> None:
        """The pipeline that runs (or many, on Ray): its `stop` ends it after the batches in flight."""

    def progress(self, record: Record) -> None:
        """More items are finished: written, unchanged or failed."""
