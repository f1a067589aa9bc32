"""Runs: what one ingest did, where it stands, and its failure ledger, in ``<state>/runs/<run>/``.

``run.json`` holds the record, rewritten whole at every batch; ``failures.jsonl`` one JSON object per failed item
(key, path, stage, reason); ``remarks.jsonl`` what was odd about files that were read (key, path, remarks). A run
whose process is gone without having ended is shown as "died".
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from outcrop.schema.errors import InputError, nearest
from outcrop.schema.files import whole_file

State = Literal["running", "done", "failed", "interrupted", "died"]
SAVE_EVERY = 0.5
"""Seconds between two writes of a running record."""


@dataclass
class Record:
    """The record of one run. Counts are items; `stages` holds seconds of processor time per stage.

    `expected` items the source declares; `embedded` computed; `upserted` rows written; `unchanged` skipped since they were
    there already; `failed` in the ledger (those declared but `missing` from the disk among them); `removed` rows of sources
    that no longer make them.
    """

    run: str
    command: str
    arguments: dict[str, Any]
    started: str
    collection: str = ""
    physical: str = ""
    space: str = ""
    model: str = ""
    device: str = ""
    state: State = "running"
    ended: str = ""
    error: str = ""
    expected: int = 0
    embedded: int = 0
    upserted: int = 0
    unchanged: int = 0
    failed: int = 0
    missing: int = 0
    undeclared: int = 0
    removed: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    process: int = 0
    host: str = ""

    @property
    def images_per_second(self) -> float:
        """Items embedded per second of the whole run."""
        return self.embedded / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Failure:
    """One item that failed: at which stage (list, read, decode, render, embed, store) and why.

    A file that fails as a whole stands for all `items` that would have been made of it, under the key of their parent.
    """

    key: str
    path: str
    stage: str
    reason: str
    items: int = 1


class Run:
    """One run while it goes on; threads may share it."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder = folder
        self.record = record
        self._lock = threading.Lock()
        self._saved = 0.0
        self._remarks: dict[str, tuple[int, str, str]] = {}
        self._started = time.perf_counter()

    @classmethod
    def begin(cls, state: Path, command: str, arguments: dict[str, Any]) -> Run:
        """Starts a run with an empty ledger below the state folder.

        Raises:
            InputError: the state folder cannot be written.
        """
        now = datetime.now(UTC)
        name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        folder = state / "runs" / name
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise InputError(
                f"the state folder {state} cannot be written ({error.strerror}); give --state DIR"
            ) from None
        started = now.isoformat(timespec="microseconds")
        record = Record(name, command, arguments, started, process=os.getpid(), host=socket.gethostname())
        run = cls(folder, record)
        run.ledger.touch()
        run.save()
        return run

    @property
    def ledger(self) -> Path:
        """The file with one failure per line."""
        return self.folder / "failures.jsonl"

    def fail(self, failure: Failure) -> None:
        """Counts what failed and writes it to the ledger, as one line."""
        line = json.dumps(asdict(failure), ensure_ascii=False)
        with self._lock:
            self.record.failed += failure.items
            with self.ledger.open("a", encoding="utf-8", errors="backslashreplace") as ledger:
                ledger.write(line + "\n")

    def remark(self, key: str, path: Path, texts: Sequence[str]) -> None:
        """Keeps what was odd about a source that was read all the same: a line in ``remarks.jsonl``, and its kind for the end."""
        if not texts:
            return
        line = json.dumps({"key": key, "path": str(path), "remarks": list(texts)}, ensure_ascii=False)
        with self._lock:
            for text in texts:
                kind = re.sub(r"\d+", "#", text)
                count, first, example = self._remarks.get(kind, (0, path.name, text))
                self._remarks[kind] = (count + 1, first, example)
            with (self.folder / "remarks.jsonl").open("a", encoding="utf-8", errors="backslashreplace") as remarks:
                remarks.write(line + "\n")

    @property
    def remarks(self) -> list[str]:
        """Every kind of remark once, with the number of files that it holds for and the name of the first."""
        with self._lock:
            found = list(self._remarks.values())
        return [f"{first}{f' and {count - 1} more' if count > 1 else ''}: {text}" for count, first, text in found]

    def count(self, **more: int) -> None:
        """Adds to the record's counts."""
        with self._lock:
            for name, number in more.items():
                setattr(self.record, name, getattr(self.record, name) + number)

    def spent(self, stage: str, seconds: float) -> None:
        """Adds processor seconds to a stage."""
        with self._lock:
            self.record.stages[stage] = round(self.record.stages.get(stage, 0.0) + seconds, 6)

    def save(self, soon: bool = False) -> None:
        """Writes the record (with `soon`, not more often than every half second). A reader never sees half a file."""
        now = time.monotonic()
        with self._lock:
            if soon and now - self._saved < SAVE_EVERY:
                return
            self._saved = now
            if self.record.state == "running":
                self.record.seconds = round(time.perf_counter() - self._started, 3)
            with whole_file(self.folder / "run.json", fix="make room, or give --state DIR", durable=False) as file:
                file.write_text(json.dumps(asdict(self.record), ensure_ascii=False, indent=1), encoding="utf-8")

    def end(self, state: State, error: str = "") -> None:
        """Closes the record."""
        self.record.seconds = round(time.perf_counter() - self._started, 3)
        self.record.state, self.record.error = state, error
        self.record.ended = datetime.now(UTC).isoformat(timespec="seconds")
        self.save()


@contextlib.contextmanager
def running(run: Run) -> Iterator[Run]:
    """Ends a run as "failed" when the block raises, unless it was ended within."""
    try:
        yield run
    except BaseException as error:
        if run.record.state == "running":
            run.end(
                "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", str(error) or type(error).__name__
            )
        raise


def list_runs(state: Path) -> list[Record]:
    """All runs below a state folder, the newest first; unreadable ones are left out."""
    records = []
    for file in (state / "runs").glob("*/run.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            records.append(_read(file))
    # By the time, not by the name: several may begin within one second.
    return sorted(records, key=lambda record: (record.started, record.run), reverse=True)


def find_run(state: Path, name: str) -> tuple[Record, list[Failure]]:
    """A run's record and its failures; ``last`` names the newest run.

    Raises:
        InputError: no such run (the nearest is named).
    """
    runs = list_runs(state)
    if name == "last" and runs:
        name = runs[0].run
    known = {record.run: record for record in runs}
    if name not in known:
        raise InputError(
            f"no run {name!r} below {state / 'runs'}{nearest(name, known)}; `ingest status` lists the runs"
        )
    failures = []
    with (state / "runs" / name / "failures.jsonl").open(encoding="utf-8") as ledger:
        for line in ledger:
            with contextlib.suppress(ValueError, TypeError):  # a line half written when the process was killed
                failures.append(Failure(**json.loads(line)))
    return known[name], failures


def _read(file: Path) -> Record:
    values = json.loads(file.read_text(encoding="utf-8"))
    record = Record(**{name: values[name] for name in values if name in Record.__dataclass_fields__})
    if record.state == "running" and record.host == socket.gethostname() and not _alive(record.process):
        record.state = "died"
    return record


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
