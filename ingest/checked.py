"""Files whose size and time do not suffice, and what their bytes were found to be.

A file may be replaced by one of the same size, with its time put back. Its ctime, which no program sets, is then later than the
`ingested_at` of its row, and so it is after a copy of the whole dataset: the bytes decide, once. So they do for a PNG, whose row
may have been made before its checksums were compared. What they were, and that they are sound, is kept in the state folder
(``checked.sqlite``) until the file's ctime or inode changes again; where it cannot be kept, files are read again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from outcrop.ingest.sources import FileState

FILE = "checked.sqlite"
_TABLE = "CREATE TABLE IF NOT EXISTS sound (path TEXT PRIMARY KEY, ctime INTEGER, inode INTEGER, digest TEXT)"
_BEFORE = "DROP TABLE IF EXISTS checked"
"""The table of a version that did not compare checksums."""


class CheckedFiles:
    """What is known of files in a state folder. Threads may share it; only `note` writes, and only then is the file made."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None

    def knows(self, path: Path, state: FileState, digest: str) -> bool:
        """Whether the file was read as it is now, was sound, and its bytes had this digest."""
        with self._lock, contextlib.suppress(sqlite3.Error, OSError):
            if self._open is None and not self._path.exists():
                return False
            asked = "SELECT 1 FROM sound WHERE path = ? AND ctime = ? AND inode = ? AND digest = ?"
            values = (_text(path), state.ctime_ns, state.inode, digest)
            return self._connected().execute(asked, values).fetchone() is not None
        return False

    def note(self, path: Path, state: FileState, digest: str) -> None:
        """Keeps the digest of a sound file's bytes as they were read."""
        with self._lock, contextlib.suppress(sqlite3.Error, OSError):  # a full disk keeps nothing: it is read again
            values = (_text(path), state.ctime_ns, state.inode, digest)
            self._connected().execute("INSERT OR REPLACE INTO sound VALUES (?, ?, ?, ?)", values)

    def close(self) -> None:
        """Closes the file, where it was opened."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def _connected(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5)
            try:
                self._open.execute("PRAGMA synchronous = OFF")  # a hint: lost in a power cut, it is found again
                self._open.execute(_TABLE)
                self._open.execute(_BEFORE)
            except sqlite3.DatabaseError:  # damaged: begun anew
                self._open.close()
                self._path.unlink()
                self._open = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5)
                self._open.execute(_TABLE)
        return self._open


def written_since(state: FileState, row: Mapping[str, Any]) -> bool:
    """Whether a file was written, renamed or copied to its place after the row was made of it, whatever its time says."""
    try:
        made = datetime.fromisoformat(row.get("ingested_at") or "").timestamp()
    except ValueError:
        return False
    return state.ctime_ns > (made + 0.002) * 1e9  # `ingested_at` is kept in milliseconds


def _text(path: Path) -> str:
    return str(path.absolute()).encode("utf-8", "backslashreplace").decode()
