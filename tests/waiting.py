"""Waiting for what another process or thread does: until it is so, not for a while."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LONG = 120.0
"""Seconds after which a test gives up: far more than a busy machine needs."""
SLOWLY = {"OUTCROP_WRITE_RATE": "60"}
"""The environment of an ingest that is to be caught in the middle: however quick the machine, 60 rows take it a second."""


def until(
    true: Callable[[], object], what: str, process: subprocess.Popen[Any] | None = None, seconds: float = LONG
) -> None:
    """Waits until something is true; with a process, no longer than that lives.

    Raises:
        AssertionError: it did not come true; `what` is what was waited for.
    """
    end = time.monotonic() + seconds
    while True:
        ended = process is not None and process.poll() is not None
        if true():
            return
        assert not ended, f"{what}: the process ended before"
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} seconds"
        time.sleep(0.02)


def records(state: Path) -> Iterator[dict[str, Any]]:
    """The records of the runs of a state folder, as they are now."""
    for file in state.glob("runs/*/run.json"):
        yield json.loads(file.read_text())
