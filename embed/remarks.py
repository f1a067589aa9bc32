"""What the libraries below say while a picture is read: kept as remarks of that picture, never printed.

Pillow reports oddities through Python's warnings, libtiff writes its errors to file descriptor 2 from C, and one of Pillow's
modules logs. Python's own way of catching warnings (`warnings.catch_warnings`) changes the state of the whole process, which
threads that decode at the same time must not do. So Pillow's modules are given a `warnings` that asks the thread it runs in:
inside of `collected` a warning becomes a remark, outside it goes where it always went. libtiff is given an error handler of
the same kind. Both are set once, when this module is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import Image

MAX_REMARKS = 8
"""Different remarks that are kept of one picture; a damaged file can give thousands."""
MAX_LENGTH = 200
"""Characters of a remark."""


class _Thread(threading.local):
    notes: list[str] | None = None


_thread = _Thread()


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Gathers what is remarked in this thread within the block. An inner block has its own list."""
    outer, _thread.notes = _thread.notes, []
    try:
        yield _thread.notes
    finally:
        _thread.notes = outer


def note(text: str) -> bool:
    """Adds a remark to the picture that this thread reads; False (and nothing is kept) where it reads none."""
    notes = _thread.notes
    if notes is None:
        return False
    text = " ".join(text.split())[:MAX_LENGTH]
    if text and text not in notes and len(notes) < MAX_REMARKS:
        notes.append(text)
    return True


class _Warnings:
    """Stands in for the module `warnings` inside of Pillow's modules."""

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)

    def warn(self, message: Any, category: Any = None, stacklevel: int = 1, **rest: Any) -> None:
        """A remark while a picture is read, else a warning as ever.

        That a picture is big is not remarked: `outcrop.embed.images` applies the limits itself.
        """
        if category is Image.DecompressionBombWarning and _thread.notes is not None:
            return
        if not note(str(message)):
            warnings.warn(message, category, stacklevel + 1, **rest)


class _Log(logging.Filter):
    """Turns what Pillow logs while a picture is read into a remark."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not note(record.getMessage())


def listen() -> None:
    """Gives the modules of Pillow that are imported by now their `warnings`. Calling it again does no harm."""
    for name, module in list(sys.modules.items()):
        if name.startswith("PIL.") and getattr(module, "warnings", None) is warnings:
            module.warnings = _Warnings()  # type: ignore[attr-defined]


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""libtiff's handlers take (module, format, va_list); a va_list is passed as a pointer on every platform of Pillow's wheels."""


def _from_libtiff(module: bytes | None, text: bytes | None, arguments: int | None) -> None:
    # libtiff calls this in the thread that decodes. ctypes takes the interpreter's lock for it.
    said = ctypes.create_string_buffer(MAX_LENGTH)
    _vsnprintf(said, MAX_LENGTH, text, arguments)
    words = said.value.decode("utf-8", "replace")
    if not note(f"libtiff: {words}") and sys.stderr is not None:
        sys.stderr.write(f"{(module or b'libtiff').decode('utf-8', 'replace')}: {words}\n")


_handler = _Handler(_from_libtiff)
"""Kept for as long as the process lives: libtiff holds a bare pointer to it."""


def _quiet_libtiff() -> bool:
    """Sets the handler in the libtiff that Pillow has loaded; False where that library keeps its symbols to itself."""
    global _vsnprintf
    try:
        library = ctypes.CDLL(
            importlib.import_module("PIL._imaging").__file__
        )  # finds symbols of the libraries that it is linked with, too
        _vsnprintf = ctypes.CDLL(None).vsnprintf
        _vsnprintf.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)
        library.TIFFSetErrorHandler.restype = ctypes.c_void_p
        library.TIFFSetErrorHandler(_handler)
    except (OSError, AttributeError, TypeError):
        return False
    return True


_vsnprintf: Any = None
LIBTIFF_IS_QUIET = _quiet_libtiff()
"""Whether libtiff's messages become remarks; where not, they go to stderr as libtiff does by itself."""
logging.getLogger("PIL.TiffImagePlugin").addFilter(_Log())
