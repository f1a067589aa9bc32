"""What runs left behind, read back: their records, the newest first, and their failures.

A run whose process is gone without having ended is shown as "died", one whose record cannot be read as "damaged".
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from outcrop.ingest.runs import Failure, Record
from outcrop.schema.documents import first_complaint
from outcrop.schema.errors import InputError, nearest

_UNNUMBERED = re.compile(r"(?P<key>(?:image|reference)/.+)\?(?P<number>\d+)\Z")
"""The key of a frame without a known number in ledgers of version 0.1 and before: see `Failure.unnumbered`."""


def ledger_of(state: Path, run: str) -> Path:
    """The failure ledger of a run, one JSON object per line."""
    return state / "runs" / run / "failures.jsonl"


def list_runs(state: Path) -> list[Record]:
    """All runs below a state folder, those that started last first; damaged ones, which say only why, at the end."""
    records = [_read(file) for file in (state / "runs").glob("*/run.json")]
    # By the number, not by the clock, which may have been wrong; by the time for records that have no number.
    return sorted(
        records, key=lambda record: (record.state != "damaged", record.number, record.started, record.run), reverse=True
    )


def find_run(state: Path, name: str) -> tuple[Record, list[Failure]]:
    """A run's record and its failures; ``last`` names the newest run that can be read.

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
    return known[name], failures_of(state, name)


def failures_of(state: Path, run: str) -> list[Failure]:
    """The failures in a run's ledger."""
    ledger = ledger_of(state, run)
    failures: list[Failure] = []
    reader = TypeAdapter(Failure)
    with contextlib.suppress(OSError), ledger.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError):  # a line half written when the process was killed
                failures.append(_of_today(reader.validate_json(line)))
    return failures


def _of_today(failure: Failure) -> Failure:
    """A failure with what earlier versions wrote behind its key in a field of its own."""
    match = _UNNUMBERED.match(failure.key)
    return replace(failure, key=match["key"], unnumbered=int(match["number"])) if match else failure


def _read(file: Path) -> Record:
    try:
        record = Record.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        return _damaged(file, error)
    record.run = file.parent.name
    if record.state == "running" and record.host == socket.gethostname() and not _alive(record.process):
        record.state = "died"
    return record


def _damaged(file: Path, error: Exception) -> Record:
    reason = (
        first_complaint(error)
        if isinstance(error, ValidationError)
        else (error.strerror or str(error))
        if isinstance(error, OSError)
        else str(error).splitlines()[0]
    )
    return Record(
        run=file.parent.name,
        command="",
        started="",
        state="damaged",
        error=f"{file} cannot be read ({reason}); remove its folder, or run the command again",
    )


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
