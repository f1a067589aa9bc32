"""Peak memory of the process that asks. (That of `getrusage` may be its parent's: it outlives the start of a program.)"""

from __future__ import annotations

import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """The highest resident size since the start, or since `begin_anew`, in MiB."""
    return (_field("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def begin_anew() -> float:
    """Begins the count of the highest size anew (Linux); returns the resident size now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _field("VmRSS") / 1024


def _field(name: str) -> int:
    """A figure of the kernel's, in KiB; 0 where there is none."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
