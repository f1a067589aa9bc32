"""A small part of the fault campaign (`benchmarks/faults.py`). Bit flips are left to the campaign: where they hit depends on the
files that Milvus Lite happens to write, so no seed repeats them; tests/test_integrity.py spoils rows one way at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/faults.py"


@pytest.mark.slow
@pytest.mark.parametrize(("part", "count"), [("kills", 1), ("signals", 1), ("ledgers", 2), ("together", 1)])
def test_nothing_is_lost(part: str, count: int) -> None:
    command = [sys.executable, str(SCRIPT), "--part", part, "--count", str(count), "--seed", "3", "--backend", "lite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{part} on lite: {count} cases, 0 failed" in done.stdout
