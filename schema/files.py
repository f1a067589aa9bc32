"""Files that are written whole: a reader sees the old file or the new one, never a part of either."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from outcrop.schema.errors import InputError


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

    Raises:
        InputError: the file cannot be written; the message names the cause (a full disk, a missing folder).
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
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
        raise InputError(f"{what or path} cannot be written ({reason}); {fix}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
