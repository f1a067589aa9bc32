"""Which rows of an array are equal: decided by their values, before any product rounds two equal rows differently."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def distinct_rows(rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row of each set of equal rows of [N, D], in order, and for every row which of those it equals [N]."""
    rows = np.ascontiguousarray(rows)
    rows = rows + rows.dtype.type(0)  # -0.0 equals 0.0
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).reshape(-1)
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return first[order].astype(np.int64), number[same].astype(np.int64)
