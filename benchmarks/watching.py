"""What a process takes that a benchmark began: time, processor time and memory."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path


def high_water(pid: int) -> float:
    """The highest resident size of a process so far, in MiB; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def watched(process: subprocess.Popen[bytes], begun: float) -> tuple[float, float, float]:
    """Seconds since `begun`, processor seconds, and peak MiB of a process, once it has ended."""
    peak = 0.0
    while True:
        # The peak that `wait4` counts begins with that of the parent; the kernel's figure of the running process does not.
        peak = max(peak, high_water(process.pid))
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, peak
