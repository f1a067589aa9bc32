"""Cases in which a place that files are written to is full or read-only: one line then, and all in order once it is mended."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.trial import COLLECTION, MODEL, Trial
from benchmarks.warm import Ended, run

Case = tuple[str, str]
Options = tuple[object, ...]

INGESTS: tuple[tuple[str, str, str, Options], ...] = (
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
KEY = "image/town/250918092555_300/0003"
READS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("report", ("query", "item", KEY, *MODEL, "--report", "place/report.html")),
    ("output", ("query", "item", KEY, *MODEL, "--output", "place/answer")),
    ("export", ("collection", "export", COLLECTION, "place/all.parquet")),
    ("export as arrays", ("collection", "export", COLLECTION, "place/all.npy")),
    ("clusters", ("query", "cluster", "--kind", "image", "--output", "place/clusters")),
)
"""Name, and a command that writes below ``place``."""
HELD: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("table of own columns", ("collection", "annotate", "table.csv")),
    ("every dataset", ("ingest", "all", "--force", *MODEL)),
)
"""Name, and a command that writes into a collection that is there already, on a disk that is full or read-only now."""


def places(trial: Trial, count: int) -> Iterator[Case]:
    """A first ingest, or a command that writes files, with one place on a full or a read-only disk; then with it mended."""
    every = [_ingest(trial, full, *place) for place in INGESTS for full in (True, False)]
    every += [_read(trial, full, *place) for place in READS for full in (True, False)]
    every += [_held(trial, full, *place) for place in HELD for full in (True, False)]
    trial.random.shuffle(every)
    for number in range(count):
        yield every[number % len(every)]()


def _ingest(trial: Trial, full: bool, name: str, kind: str, place: str, more: Options) -> Callable[[], Case]:
    def case() -> Case:
        trial.expected(kind)
        folder = trial.place()
        with _disk(folder / place, full) as mend:
            ended = trial.ingest(kind, folder, *more)
            mend()
            again = trial.ingest(kind, folder, *more)
            complaint = _complaint(ended, again, place)
            if not complaint and "--uri" not in more:
                complaint = trial.difference(kind, folder)
        trial.remove(folder)
        return f"{name} {'full' if full else 'read-only'} ({ended.code})", complaint

    return case


def _read(trial: Trial, full: bool, name: str, command: tuple[object, ...]) -> Callable[[], Case]:
    def case() -> Case:
        folder = trial.place()
        assert trial.ingest("dataset", folder).code == 0
        program, *arguments = command
        with _disk(folder / "place", full) as mend:
            ended = run(folder, str(program), *arguments, "--uri", "outcrop.db")
            left = sorted(path.name for path in (folder / "place").iterdir())
            mend()
            complaint = _complaint(ended, run(folder, str(program), *arguments, "--uri", "outcrop.db"), "place")
        trial.remove(folder)
        return f"{name} {'full' if full else 'read-only'} ({ended.code})", complaint or (
            f"leaves {left}" if left else ""
        )

    return case


def _held(trial: Trial, full: bool, name: str, command: tuple[object, ...]) -> Callable[[], Case]:
    def case() -> Case:
        folder = trial.place()
        (folder / "table.csv").write_text("capture_id,note\n250918092555_300,beside the river\n")
        program, *arguments = command
        there = ("--uri", "store/outcrop.db")
        with _disk(folder / "store", full) as mend:
            mend()
            complaint = trial.ingest("dataset", folder, *there).complaint(0)
            with _spoilt(folder / "store", full):
                ended = run(folder, str(program), *arguments, *there)
            again = run(folder, str(program), *arguments, *there)
            complaint = complaint or ended.complaint(3, 5) if program != "ingest" else complaint or _of_every(ended)
            if not complaint and "store" not in ended.out + ended.err:
                complaint = f"the place is not named: {ended.err.strip()[-200:]}"
            verified = run(folder, "collection", "verify", "--samples", 5, "-k", 3, *there)
            complaint = complaint or again.complaint(0) or verified.complaint(0)
        trial.remove(folder)
        return f"{name} {'full' if full else 'read-only'} ({ended.code})", complaint

    return case


def _of_every(ended: Ended) -> str:
    """What is wrong about the end of `ingest all`, which names each dataset's failure in its table."""
    if "Traceback" in ended.err + ended.out or ended.code not in (3, 5):
        return f"exit code {ended.code}: {ended.err.strip()[-300:]}"
    return ""


@contextlib.contextmanager
def _spoilt(place: Path, full: bool) -> Iterator[None]:
    """A mended small file system at a place, full or read-only again within the block."""
    filling = place / "filling"
    if full:
        with contextlib.suppress(OSError), filling.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    try:
        yield
    finally:
        if not full:
            subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        filling.unlink(missing_ok=True)


def _complaint(ended: Ended, again: Ended, place: str) -> str:
    complaint = ended.complaint(3, 5)
    if not complaint and Path(place).name not in ended.err:
        complaint = f"the place is not named: {ended.err.strip()[-200:]}"
    return complaint or again.complaint(0)


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
