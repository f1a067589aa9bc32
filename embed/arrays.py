"""numpy's files, read one header at a time.

numpy parses the header of an array with `ast.literal_eval`, and Python 3.11 keeps the depth of that parser in one place for all
threads: two threads that parse at once can fail with "SystemError: AST constructor recursion depth mismatch"
(https://github.com/python/cpython/issues/106905). So the headers are parsed under a lock; what is mapped is read without it.
"""

from __future__ import annotations

import contextlib
import threading
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.files import at_hand

_PARSING = threading.Lock()


def map_array(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file, mapped into memory, read only; never a pickle.

    Raises:
        OSError, ValueError, EOFError, SyntaxError: the file cannot be read, or holds no array.
    """
    with _PARSING, _damage_as_values(), at_hand(path) as here:  # what is mapped stays so when its file is gone
        array: NDArray[Any] = np.load(here, mmap_mode="r", allow_pickle=False)
    return array


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file by name; never a pickle.

    Raises:
        OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile: the file cannot be read, or is damaged.
    """
    with _PARSING, _damage_as_values(), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@contextlib.contextmanager
def _damage_as_values() -> Iterator[None]:
    """Errors of the parsers below numpy, which a damaged header may raise, as ValueError."""
    try:
        yield
    except (tokenize.TokenError, OverflowError, RecursionError, TypeError, MemoryError) as error:
        raise ValueError(f"it does not hold an array ({str(error) or type(error).__name__})") from error
