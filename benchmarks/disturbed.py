"""Cases in which an ingest is disturbed: killed, stopped, or with another beside it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.trial import KINDS, Trial

Case = tuple[str, str]
"""What was done, and what is wrong afterwards ('' for nothing)."""


def kills(trial: Trial, count: int) -> Iterator[Case]:
    """SIGKILL at a random moment of a first ingest."""
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        folder, pause = trial.place(), trial.random.random() * trial.expected(kind)[1]
        started = trial.start(kind, folder)
        time.sleep(pause)
        started.signal(signal.SIGKILL)
        ended = started.ended()
        how = "over before" if ended.code == 0 else f"with {_stored(folder)}" if not trial.address else "killed"
        yield f"{kind} after {pause:.2f} s ({how})", ended.complaint(0, -signal.SIGKILL) or trial.healed(kind, folder)
        trial.remove(folder)


def _stored(folder: Path) -> str:
    """How far a killed ingest had come, by what is in its Milvus Lite directory."""
    database = folder / "outcrop.db"
    if not database.exists():
        return "no directory"
    return f"{sum(path.is_file() for path in database.rglob('*'))} files"


def signals(trial: Trial, count: int) -> Iterator[Case]:
    """SIGINT or SIGTERM at a random moment, once or twice."""
    for number in range(count):
        kind, wanted = KINDS[number % len(KINDS)], (signal.SIGINT, signal.SIGTERM)[number % 2]
        twice, folder = number // 2 % 2, trial.place()
        pause = 0.05 + trial.random.random() * trial.expected(kind)[1]
        started = trial.start(kind, folder)
        time.sleep(pause)
        for _ in range(1 + twice):
            started.signal(wanted)
            time.sleep(0.3)
        begun = time.monotonic()
        ended = started.ended()
        complaint = ended.complaint(0, 130)
        if twice and time.monotonic() - begun > 3:
            complaint = f"ended only {time.monotonic() - begun:.1f} s after the second signal"
        name = f"{kind}: {wanted.name} {'twice' if twice else 'once'} after {pause:.2f} s ({ended.code})"
        yield name, complaint or trial.healed(kind, folder)
        trial.remove(folder)


def together(trial: Trial, count: int) -> Iterator[Case]:
    """Two first ingests of the same at once."""
    for number in range(count):
        kind, folder = KINDS[number % len(KINDS)], trial.place()
        trial.expected(kind)
        gap = trial.random.random() * (number % 2)
        first = trial.start(kind, folder, "--state", "state1")
        time.sleep(gap)
        second = trial.start(kind, folder, "--state", "state2")
        complaint = first.ended().complaint(0) or second.ended().complaint(0) or trial.difference(kind, folder)
        yield f"{kind}, {gap:.2f} s apart", complaint
        trial.remove(folder)
