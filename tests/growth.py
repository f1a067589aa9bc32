"""How much memory something takes at most, whatever the process had used before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Growth:
    """By how many KiB the resident size was higher than before at its highest."""

    kib: int = 0


@contextmanager
def growth() -> Iterator[Growth]:
    """Watches what happens inside the `with`; the figure is there after it. Skips where the kernel does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # begins the count of the highest size anew
    except OSError as error:
        pytest.skip(f"peak memory cannot be watched here: {error}")
    before, found = _field("VmRSS"), Growth()
    yield found
    found.kib = _field("VmHWM") - before


def _field(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
