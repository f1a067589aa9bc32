"""Runs the commands as a person would, inside the test's process or as a process of their own."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from typer.testing import CliRunner

_OPENED: dict[tuple[Any, ...], Any] = {}
"""Encoders that commands opened within this process."""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds, as JSON."""
        return json.loads(self.out)

    def error(self, code: int) -> str:
        """The one line of an error: asserts the exit code, and that there is no traceback."""
        assert self.code == code, f"exit code {self.code}, not {code}:\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err + self.out
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def run(command: str, *arguments: object) -> Outcome:
    """Runs ``ingest``, ``query`` or ``collection`` within this process; a model opened before is not read again."""
    if command == "ingest":
        from outcrop.ingest.cli import app
    elif command == "query":
        from outcrop.query.cli import app
    else:
        from outcrop.operate.cli import app
    with warm_encoders():
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@contextlib.contextmanager
def warm_encoders() -> Iterator[None]:
    """Within the block, `Encoder.open` gives an encoder that it opened before for the same model, weights and options.

    Each caller has a copy, with the network in common: nobody writes to that. A model is another one when its file is (the
    space holds the weights' digest), and what is compiled or tried out is opened anew.
    """
    from outcrop.embed.encoder import Encoder

    cold: Callable[..., Any] = Encoder.open

    def warm(model: Any, **options: Any) -> Any:
        if options.get("compile") or options.get("batch") == 0 or options.get("threads") is not None:
            return cold(model, **options)
        key = (model.weights, model.space.fingerprint, *sorted(options.items()))
        if key not in _OPENED:
            while len(_OPENED) > 3:
                del _OPENED[next(iter(_OPENED))]
            _OPENED[key] = cold(model, **options)
        return copy.copy(_OPENED[key])

    with mock.patch.object(Encoder, "open", staticmethod(warm)):
        yield


def start(command: str, *arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """Starts a command as a process of its own."""
    module = {"ingest": "outcrop.ingest.cli", "query": "outcrop.query.cli", "collection": "outcrop.operate.cli"}[
        command
    ]
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )
