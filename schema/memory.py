"""Where the address space of a process is limited (``ulimit -v``): using less of it, and refusing in time what cannot fit.

Native libraries do not bear a failed allocation: OpenBLAS and gRPC end the process, pyarrow waits for ever for a thread that
never began. So what they need is compared with what is left before they are imported. Without a limit nothing is done here.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import re
import sys
from pathlib import Path

from outcrop.schema.errors import OutOfMemory
from outcrop.schema.machine import cores

ADVICE = "lower --batch, --workers, --input-size or the threads (OMP_NUM_THREADS), or give the process more memory"
NO_MEMORY = re.compile(
    r"out of memory|cannot allocate memory|can't allocate memory|not enough memory|bad_alloc|failed to map segment|"
    r"unable to allocate|can't start new thread|(malloc|realloc|allocation) (of size \d+ )?failed|cannot create thread",
    re.IGNORECASE,
)
"""How Python, numpy, torch, arrow, the dynamic linker and the kernel say that memory (or room for a thread) is missing."""
THREAD = 50 * 2**20
"""Bytes of address space that one more thread of the pools of OpenBLAS, OpenMP and arrow takes, measured."""
STORE = 500 * 2**20
"""Bytes that pymilvus takes with its libraries (measured: 290 MB)."""
LITE = 950 * 2**20
"""Bytes that Milvus Lite takes beside pymilvus and with it (measured: 750 MB, with the savings of `be_sparing`)."""
MODEL = 700 * 2**20
"""Bytes that torch takes beside its shared libraries, with one batch of a small model (measured: 400 MB)."""
MAPPED_CUDA = 0.6
"""The share of CUDA's libraries that importing torch maps, GPU or not (measured: 0.56)."""
_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 2


def limit() -> int | None:
    """The bytes of address space that this process may use; None where there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def limited() -> bool:
    """Whether there is such a limit."""
    return limit() is not None


def be_sparing() -> None:
    """Where there is a limit, lets malloc and arrow reserve little: they take 1.5 GB that are never used. Call it first."""
    if limit() is None:
        return
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def require_address_space(needed: int, purpose: str) -> None:
    """Refuses what takes `needed` bytes of address space, and threads for each core, where the limit leaves less.

    Raises:
        OutOfMemory: naming the limit, `purpose` and what to lower.
    """
    most, used = limit(), _used()
    if most is None or used is None:
        return
    needed += THREAD * _threads()
    if most - used < needed:
        raise OutOfMemory(
            f"out of memory: {purpose} needs about {(used + needed) / 2**30:.1f} GiB of address space, and `ulimit -v` allows "
            f"{most / 2**30:.1f} GiB; {ADVICE}"
        )


def torch_bytes() -> int:
    """About how much address space torch takes with one batch: its shared libraries and `MODEL`; 0 where it is there already."""
    if "torch" in sys.modules:
        return 0
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return 0
    folder = Path(found.origin).parent
    own = sum(path.stat().st_size for path in folder.glob("lib/*.so*"))
    cuda = sum(path.stat().st_size for path in folder.parent.glob("nvidia/*/lib/*.so*"))
    return MODEL + own + int(MAPPED_CUDA * cuda)


def of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one of those behind it, says that memory is missing."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (MemoryError, OutOfMemory)):
            return True
        if isinstance(error, (RuntimeError, ImportError, OSError)) and NO_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _used() -> int | None:
    """The bytes of address space in use; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(given) if given.isdecimal() else cores())
