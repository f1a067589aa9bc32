"""Files that are written whole: a reader sees the old file or the new one, never a part of either."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from outcrop.schema.errors import InputError, ObjectsUnavailable, OutcropError, PlaceUnusable
from outcrop.schema.objects import ObjectPath

OF_THE_DISK = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
        errno.EMFILE,
        errno.EFBIG,
    )
)
"""The system's error numbers after which another file in the same place would fail too."""


_HERE = secrets.token_hex(4)
"""Sets this process apart from those of other machines and containers, where process ids repeat (in a container, 1)."""


def unfinished(name: str) -> str:
    """The hidden name of a file of which `name` is made, which no other thread, process or machine uses meanwhile."""
    return f".{name}.{_HERE}-{os.getpid()}-{threading.get_ident()}.part"


@contextlib.contextmanager
def whole_file(
    path: Path,
    *,
    what: str = "",
    fix: str = "nothing is left of it",
    durable: bool = True,
    parents: bool = False,
) -> Iterator[Path]:
    """A temporary path beside `path` that replaces `path` when the block ends well, and is removed otherwise.

    Threads and processes may write the same file at once: the last one wins. `what` names the file in messages (its path
    otherwise) and `fix` says what to do. `durable` waits until the bytes are on the disk; leave it out for files that can be
    made again. `parents` creates missing folders.

    An object of an object store is written to a local file first (in the system's folder for temporary files), then sent.

    Raises:
        InputError: the file cannot be written; the message names the cause (a missing folder, a name too long).
        PlaceUnusable: nor could others there (a full or read-only disk).
    """
    if isinstance(path, ObjectPath):
        yield from _whole_object(path, what or str(path), fix)
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    temporary = path.with_name(unfinished(path.name))
    try:
        if parents and not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.__class__.__module__.startswith("pymilvus"):  # the store failed within the block, not the file
            raise
        reason = error.strerror or (str(error).splitlines() or [type(error).__name__])[0]
        kind = PlaceUnusable if error.errno in OF_THE_DISK else InputError
        raise kind(f"{what or path} cannot be written ({reason}); {fix}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _whole_object(path: ObjectPath, what: str, fix: str) -> Iterator[Path]:
    """A temporary path whose file becomes an object when the block ends well; see `whole_file`."""
    with tempfile.TemporaryDirectory(prefix="outcrop-") as folder:
        temporary = Path(folder, path.name)
        try:
            yield temporary
        except OSError as error:
            if error.errno not in OF_THE_DISK:
                raise
            reason = f"{tempfile.gettempdir()}, where it is made first: {error.strerror}"
            raise PlaceUnusable(f"{what} cannot be written ({reason}); make room there, or set TMPDIR") from None
        try:
            path.put(temporary)
        except ObjectsUnavailable as error:
            raise PlaceUnusable(f"{what} cannot be written ({error.strerror}); {fix}") from None


@contextlib.contextmanager
def at_hand(path: Path) -> Iterator[Path]:
    """The file on a disk, for what reads no objects: itself, or of an object a copy, which is gone after the block.

    Errors of ours that name the copy are raised again, naming the object.

    Raises:
        FileNotFoundError, ObjectsUnavailable: it cannot be copied.
    """
    if not isinstance(path, ObjectPath):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="outcrop-") as folder:
        copy = Path(folder, path.name)
        with path.open("rb") as data, copy.open("wb") as file:
            shutil.copyfileobj(data, file, 2**20)
        try:
            yield copy
        except OutcropError as error:
            raise type(error)(str(error).replace(str(copy), str(path))) from None


def require_writable(place: Path, fix: str) -> None:
    """Refuses a folder in which nothing could be written, or that could not be made; creates nothing. `fix` says what to do.

    Raises:
        PlaceUnusable: it is on a read-only disk, closed by its permissions, or has a file where a folder should be.
    """
    if isinstance(place, ObjectPath):
        return  # its store says so with the first object
    there = next(parent for parent in (place.absolute(), *place.absolute().parents) if os.path.lexists(parent))
    if not there.is_dir():
        raise PlaceUnusable(f"{place} cannot be written ({there} is a file where a folder should be); {fix}")
    if not os.access(there, os.W_OK | os.X_OK):
        read_only = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
        reason = os.strerror(errno.EROFS if read_only else errno.EACCES)
        raise PlaceUnusable(f"{place} cannot be written ({reason}); {fix}")
