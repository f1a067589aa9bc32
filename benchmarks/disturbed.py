"""Cases in which an ingest is disturbed: killed, stopped, without room or permission, or with another beside it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
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


PLACES: tuple[tuple[str, str, str, tuple[object, ...]], ...] = (
    ("state", "dataset", ".outcrop", ()),
    ("thumbnails", "references", ".outcrop/thumbnails", ()),
    ("Lite directory", "dataset", "store", ("--uri", "store/outcrop.db")),
    ("Lite directory itself", "references", "outcrop.db", ()),
    ("features", "dataset", "features", ("--features", "dense,patch", "--features-folder", "features")),
    ("references as JPEGs", "references", "crops", ("--write-images", "crops/all")),
    ("renders", "specimens", "renders", ("--save-renders", "renders/all")),
    ("features of specimens", "specimens", "exported", ("--export-features", "exported/all")),
)
"""Name, kind of ingest, the folder that is full or read-only, and further options."""


def places(trial: Trial, count: int) -> Iterator[Case]:
    """A first ingest with one place on a full or a read-only disk, then with the disk mended."""
    every = [(full, *place) for place in PLACES for full in (True, False)]
    trial.random.shuffle(every)
    for number in range(count):
        full, name, kind, place, more = every[number % len(every)]
        expected, folder = trial.expected(kind), trial.place()
        with _disk(folder / place, full) as mend:
            ended = trial.ingest(kind, folder, *more)
            # Where only the files of single items could not be written, those items have failed, and the ledger says why.
            complaint = ended.complaint(3, 4, 5)
            told = ended.err + "".join(path.read_text() for path in folder.glob(".outcrop/runs/*/failures.jsonl"))
            if not complaint and Path(place).name not in told:
                complaint = f"the place is not named: {ended.err.strip()[-200:]}"
            shown = f"{name} {'full' if full else 'read-only'} ({ended.code})"
            mend()
            again = trial.ingest(kind, folder, *more)
            if not complaint:
                complaint = again.complaint(0)
            if not complaint and "--uri" not in more:
                complaint = trial.difference(kind, folder)
            assert expected
            yield shown, complaint
        trial.remove(folder)


@contextlib.contextmanager
def _disk(place: Path, full: bool) -> Iterator[Callable[[], object]]:
    """A small file system at a place, full but for a few pages or read-only; yields what mends it."""
    place.mkdir(parents=True)
    options = "size=16k,nr_inodes=6" if full else "ro"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    mended = "remount,rw,size=64m,nr_inodes=4k"
    try:
        yield lambda: subprocess.run(["mount", "-o", mended, str(place)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


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
