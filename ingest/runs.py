"""Runs: what one ingest was asked for, what it did, and its failure ledger, in ``<state>/runs/<run>/``.

``run.json`` holds the record, rewritten whole every half second; ``failures.jsonl`` one JSON object per failed item
(key, path, stage, reason); ``remarks.jsonl`` what was odd about files that were read (key, path, remarks).
`outcrop.ingest.records` reads them back.
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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from outcrop.ingest.requests import AnyRequest
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.schema.settings import Settings
from outcrop.screen.notebook import html_table

State = Literal["running", "done", "failed", "interrupted", "died", "damaged"]
SAVE_EVERY = 0.5
"""Seconds between two writes of a running record."""
FIX = "make room or correct its permissions, or give --state DIR"
COUNTER = "started"
"""The file in the folder of runs that counts how many were started, whatever the clock says."""


class RunSettings(BaseModel):
    """How a run goes about it: those of the settings that a retry takes over from the run that it repeats."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    batch: int = 0
    workers: int = 0
    drawing_processes: int = 0
    thumbnails: bool = True
    patience: float = 60.0
    decode: str = "auto"
    decode_megapixels: int = 1024
    metrics: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings."""
        return cls.model_validate({name: getattr(settings, name) for name in cls.model_fields})


class Record(BaseModel):
    """The record of one run. Counts are items; `stages` holds seconds of processor time per stage.

    `expected` items the source declares; `embedded` computed; `upserted` rows written; `unchanged` skipped since they were
    there already; `failed` in the ledger (those declared but `missing` from the disk among them); `removed` rows of sources
    that no longer make them; `others` counts by kind the files of a folder that are not read; `metadata` says what
    a table of own columns matched. `number` counts the runs of a
    state folder in the order in which they started. Of a sharded ingest, `shard` is ``I/N`` and `group` the name that its shards
    have in common (`outcrop.ingest.sharding`). `decoder` says where JPEGs were decoded, if a device was to do it.
    """

    model_config = ConfigDict(extra="ignore")

    run: str
    command: str
    request: AnyRequest | None = None
    settings: RunSettings = RunSettings()
    retry_of: str = ""
    shard: str = ""
    group: str = ""
    number: int = 0
    started: str
    collection: str = ""
    physical: str = ""
    space: str = ""
    model: str = ""
    device: str = ""
    decoder: str = ""
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
    left_out: int = 0
    others: dict[str, int] = {}
    metadata: dict[str, Any] | None = None
    removed: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = {}
    process: int = 0
    host: str = ""

    def _repr_html_(self) -> str:
        """The counts as a table, in a notebook."""
        columns = ("expected", "embedded", "unchanged", "failed", "removed", "seconds")
        return html_table([{name: getattr(self, name) for name in columns}], columns, f"run {self.run}", self.error)

    @property
    def images_per_second(self) -> float:
        """Items embedded per second of the whole run."""
        return self.embedded / self.seconds if self.seconds else 0.0

    @property
    def dataset(self) -> str:
        """The name of what was ingested."""
        return self.request.name if self.request is not None else ""

    def as_json(self) -> dict[str, Any]:
        """The record as `ingest status --json` prints it: ``arguments`` hold the request and how the run went about it."""
        values = self.model_dump(mode="json", by_alias=True)
        request, settings, retry_of = (values.pop(name) for name in ("request", "settings", "retry_of"))
        arguments = {**settings, **(request or {}), **({"retry_of": retry_of} if retry_of else {})}
        return {"run": values.pop("run"), "command": values.pop("command"), "arguments": arguments, **values}

    @model_validator(mode="before")
    @classmethod
    def _of_arguments(cls, values: Any) -> Any:
        """Records of version 0.1 and before held `arguments`, in which request and settings were one."""
        if not isinstance(values, dict) or "request" in values or not isinstance(values.get("arguments"), dict):
            return values
        given = {name: value for name, value in values["arguments"].items() if value is not None}
        kind = values.get("command")
        if kind == "references" and "from" in given:
            kind = "written_references"
        if kind == "specimens":
            given["drawing_processes"] = given.pop("workers", 0)
        request = {**given, "kind": kind} if "name" in given else None
        return {**values, "request": request, "settings": given, "retry_of": given.get("retry_of", "")}


@dataclass(frozen=True)
class Failure:
    """One item that failed: at which stage (list, read, decode, render, embed, store) and why.

    A file that fails as a whole is one failure of all `items` that it would have made, under the key of their parent.
    A declared frame that is not on disk and whose number is not known has the key of frame 0, and counts from 1 in `unnumbered`.
    """

    key: str
    path: str
    stage: str
    reason: str
    items: int = 1
    unnumbered: int = 0


class Run:
    """A run in progress; threads may share it."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder = folder
        self.record = record
        self._lock = threading.Lock()
        self._saved = 0.0
        self._remarks: dict[str, tuple[int, str, str]] = {}
        self._started = time.perf_counter()

    @classmethod
    def begin(
        cls,
        state: Path,
        command: str,
        request: AnyRequest | None = None,
        settings: RunSettings = RunSettings(),
        *,
        retry_of: str = "",
        shard: str = "",
        group: str = "",
    ) -> Run:
        """Starts a run with an empty ledger below the state folder.

        Raises:
            InputError: the state folder cannot be written.
        """
        now = datetime.now(UTC)
        with _writable(state):
            folder = _new_folder(state / "runs", now)
            number = _next_number(folder.parent)
        record = Record(
            run=folder.name,
            command=command,
            request=request,
            settings=settings,
            retry_of=retry_of,
            shard=shard,
            group=group,
            number=number,
            started=now.isoformat(timespec="microseconds"),
            process=os.getpid(),
            host=socket.gethostname(),
        )
        run = cls(folder, record)
        with _writable(state):
            run.ledger.touch()
        run.save()
        return run

    @property
    def ledger(self) -> Path:
        """The file with one failure per line."""
        return self.folder / "failures.jsonl"

    def fail(self, failure: Failure) -> None:
        """Counts what failed and writes it to the ledger, as one line.

        Raises:
            InputError: the ledger cannot be written.
        """
        line = json.dumps(asdict(failure), ensure_ascii=False)
        with self._lock:
            self.record.failed += failure.items
            self._append(self.ledger.name, line)

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
            self._append("remarks.jsonl", line)

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
        """Writes the record (with `soon`, not more often than every half second). A reader never sees half a file.

        Raises:
            InputError: it cannot be written.
        """
        now = time.monotonic()
        with self._lock:
            if soon and now - self._saved < SAVE_EVERY:
                return
            self._saved = now
            if self.record.state == "running":
                self.record.seconds = round(time.perf_counter() - self._started, 3)
            self._write()

    def end(self, state: State, error: str = "") -> None:
        """Closes the record."""
        self.record.seconds = round(time.perf_counter() - self._started, 3)
        self.record.state, self.record.error = state, error
        self.record.ended = datetime.now(UTC).isoformat(timespec="seconds")
        self.save()

    def abandon(self) -> None:
        """Marks the record as interrupted where that can be done at once: for a signal handler, which must not wait."""
        if self._lock.acquire(timeout=0.2):  # never, where the handler interrupted `save` itself
            self.record.state = "interrupted"
            with contextlib.suppress(InputError):
                self._write()
            self._lock.release()

    def _append(self, name: str, line: str) -> None:
        path = self.folder / name
        with _writable(self.folder.parents[1]), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")

    def _write(self) -> None:
        text = json.dumps(self.record.model_dump(mode="json", by_alias=True), ensure_ascii=False, indent=1)
        with whole_file(self.folder / "run.json", fix=FIX, durable=False) as file:
            file.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def running(run: Run) -> Iterator[Run]:
    """Ends a run as "failed" when the block raises, unless it was ended within."""
    try:
        yield run
    except BaseException as error:
        if run.record.state == "running":
            state: State = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with contextlib.suppress(InputError):  # the error itself is what must be said
                run.end(state, str(error) or type(error).__name__)
        raise


@contextlib.contextmanager
def _writable(state: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"the state folder {state} cannot be written ({error.strerror or error}); {FIX}") from None


def _new_folder(runs: Path, now: datetime) -> Path:
    """Makes the folder of a run that starts now; of those that start within a second, each makes its own."""
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        folder = runs / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


def _next_number(runs: Path) -> int:
    """The number of a run that starts now. Two that start at once may share it; their times decide then."""
    counter = runs / COUNTER
    try:
        number = int(counter.read_text(encoding="ascii")) + 1
    except (OSError, ValueError):  # the first run, or a counter that somebody damaged
        number = 1 + max(map(_number_of, runs.glob("*/run.json")), default=0)
    with whole_file(counter, fix=FIX, durable=False) as file:
        file.write_text(str(number), encoding="ascii")
    return number


def _number_of(record: Path) -> int:
    with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
        return int(json.loads(record.read_bytes())["number"])
    return 0
