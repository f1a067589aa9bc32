"""What starting a command leaves out: the search for garbage among what was just imported, and once more at the end.

Libraries such as torch make a million objects while they are imported, all of which stay. Python looks through them for garbage
again and again meanwhile, and a last time when the process ends: half of the processor time of a query.
"""

from __future__ import annotations

import atexit
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_importing = 0
_enabled = False
_own = False


def own_process() -> None:
    """States that this process runs a command and nothing else: what is imported stays, and is not looked through."""
    global _own
    if not _own:
        _own = True
        atexit.register(gc.freeze)


@contextmanager
def importing() -> Iterator[None]:
    """The context of large imports: no garbage is looked for. Threads may be in it together; the last to leave ends it.

    In a command's own process, what is there at its end is never looked through again.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _importing, _enabled
    with _lock:
        if not _importing:
            _enabled = gc.isenabled()
            gc.disable()
        _importing += 1


def _leave() -> None:
    global _importing
    with _lock:
        _importing -= 1
        if _importing:
            return
        if _own:
            gc.freeze()
        if _enabled:
            gc.enable()
