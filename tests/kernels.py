"""The BLAS kernels that this processor can run, and a script run under each: what is exact must come out the same.

OpenBLAS picks its kernel for the processor; ``OPENBLAS_CORETYPE`` names another. They add in different orders, so that the same
product of float32 differs in its last bits.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_NEEDED = {"Prescott": "pni", "Nehalem": "sse4_2", "Haswell": "avx2", "SkylakeX": "avx512f"}


def kernels() -> list[str]:
    """Those of four generations of processors that run here; on others than x86 one name, which changes nothing."""
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text().split() if cpu.is_file() else []
    return [name for name, flag in _NEEDED.items() if flag in flags] or ["Prescott"]


def run_under(kernel: str, script: str, *arguments: object) -> str:
    """What a Python script prints under a kernel, with a worker process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "OPENBLAS_CORETYPE": kernel, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
