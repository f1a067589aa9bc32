"""Objects of an object store are read ahead: many at once, since each takes its time to come, and no more than fit in memory."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from outcrop.schema.objects import IN_MEMORY, ObjectPath

READERS = 16
"""Objects that are read at the same time."""
OBJECTS, BYTES = 64, 256 * 2**20
"""Objects that are under way or wait to be taken, and their bytes, at most."""


class Ahead:
    """Reads objects before they are asked for. Files on a disk are left alone: the system reads these ahead."""

    def __init__(self) -> None:
        self._readers: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._objects = self._bytes = 0

    def begin(self, path: Path) -> None:
        """Begins to read an object whose state is known, where there is room: whoever then reads it takes what has come."""
        if not isinstance(path, ObjectPath) or path.listed is None or path.listed.size > IN_MEMORY:
            return
        size = path.listed.size
        with self._lock:
            if self._objects >= OBJECTS or self._bytes + size > BYTES:
                return
            self._objects, self._bytes = self._objects + 1, self._bytes + size
            self._readers = self._readers or ThreadPoolExecutor(READERS, "read-ahead")
            coming = self._readers.submit(path.fetch)
        path.coming = lambda: self._taken(coming, size)

    def close(self) -> None:
        """Gives up what has not begun; what has, ends."""
        if self._readers is not None:
            self._readers.shutdown(wait=False, cancel_futures=True)

    def _taken(self, coming: Future[bytes], size: int) -> bytes:
        try:
            return coming.result()
        finally:
            with self._lock:
                self._objects, self._bytes = self._objects - 1, self._bytes - size
