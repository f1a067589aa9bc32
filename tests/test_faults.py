"""A small part of the fault campaign (`benchmarks/faults.py`), the same at every run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/faults.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "count"), [("kills", 1), ("signals", 1), ("ledgers", 2), ("flips", 6), ("together", 1)]
)
def test_nothing_is_lost(part: str, count: int) -> None:
    command = [sys.executable, str(SCRIPT), "--part", part, "--count", str(count), "--seed", "3", "--backend", "lite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{part} on lite: {count} cases, 0 failed" in done.stdout
