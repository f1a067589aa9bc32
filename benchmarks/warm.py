"""Commands as real processes that start at once: forked from one that has imported everything and has opened nothing.

A command of its own spends most of its seconds on imports; in a campaign of hundreds of them that would be all that is measured.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

DEADLINE = 180.0
"""Seconds after which a process counts as hanging."""


@dataclass
class Ended:
    """How a process ended: its exit code (negative: the signal that ended it; None: it hung) and what it printed."""

    code: int | None
    out: str
    err: str

    def complaint(self, *allowed: int) -> str:
        """What is wrong about the end ('' for nothing): a code not `allowed`, a traceback, more or less than one error line."""
        if self.code is None:
            return "hangs"
        if "Traceback" in self.err + self.out or "is a bug" in self.err:
            return f"traceback: {' '.join(self.err.splitlines()[-3:])[-300:]}"
        if self.code not in allowed:
            return f"exit code {self.code}: {self.err.strip()[-300:]}"
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        if self.code in (3, 5, 6) and len(errors) != 1:
            return f"{len(errors)} lines of error: {self.err.strip()[-300:]}"
        return ""


@dataclass
class Started:
    """A command that runs; `begun` is when it was forked (`time.monotonic`)."""

    pid: int
    folder: Path
    begun: float = field(default_factory=time.monotonic)

    def signal(self, number: int) -> None:
        """Sends a signal; nothing happens where the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self, deadline: float = DEADLINE) -> Ended:
        """Waits for the end; after `deadline` seconds the process is killed and counts as hanging."""
        end = time.monotonic() + deadline
        while not (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > end:
                self.signal(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return Ended(None, *self._printed())
            time.sleep(0.01)
        return Ended(os.waitstatus_to_exitcode(found[1]), *self._printed())

    def _printed(self) -> Iterator[str]:
        return ((self.folder / name).read_text(errors="replace") for name in (f"{self.pid}.out", f"{self.pid}.err"))


def warm_up() -> None:
    """Imports what the commands import, so that those forked from here have it; opens nothing, runs no thread of ours."""
    import milvus_lite.server_manager
    import open3d
    import PIL.Image
    import pymilvus
    import timm
    import torch

    import outcrop.embed.encoder
    import outcrop.ingest.cli
    import outcrop.ingest.perform
    import outcrop.operate.cli
    import outcrop.query.answers
    import outcrop.query.cli
    import outcrop.store.verify  # noqa: F401  imported to be warm

    del milvus_lite, open3d, PIL, pymilvus, timm, torch


def start(folder: Path, command: str, *arguments: object) -> Started:
    """Starts ``ingest``, ``query`` or ``collection`` in a folder; what it prints is kept below ``folder/printed``."""

    def main() -> None:
        import outcrop.ingest.cli
        import outcrop.operate.cli
        import outcrop.query.cli

        sys.argv = [command, *map(str, arguments)]
        program = {"ingest": outcrop.ingest.cli, "query": outcrop.query.cli, "collection": outcrop.operate.cli}
        program[command].main()

    return _forked(folder, main)


def run(folder: Path, command: str, *arguments: object) -> Ended:
    """The same, and waits for its end."""
    return start(folder, command, *arguments).ended()


def apart(folder: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, called in a process of its own: this one must not open a connection.

    Raises:
        RuntimeError: it raised, with its traceback.
    """
    answer = folder / "answer.pickle"
    answer.unlink(missing_ok=True)
    ended = _forked(folder, lambda: answer.write_bytes(pickle.dumps(function(*arguments)))).ended()
    if not answer.exists():
        raise RuntimeError(f"{function.__name__} failed ({ended.code}):\n{ended.err[-2000:]}")
    return pickle.loads(answer.read_bytes())


def _forked(folder: Path, main: Callable[[], object]) -> Started:
    printed = folder / "printed"
    printed.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    began, begins = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(began)
        _become(folder, printed, main, begins)
    os.close(begins)
    os.read(began, 1)  # on a busy machine a signal would come before the command has begun, as to no real one
    os.close(began)
    return Started(pid, printed)


def _become(folder: Path, printed: Path, main: Callable[[], object], begins: int) -> NoReturn:
    """Runs `main` as a fresh process would, and ends with its exit code; `begins` is closed when it begins."""
    code = 1
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(printed / f"{os.getpid()}.{name}", os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        os.close(begins)
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
