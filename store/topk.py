"""The best k of a stream of rows, for many queries at once: the exact search that indexes are compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class TopK:
    """Keeps the best `k` rows of each of Q queries by score, ties by id; memory does not grow with the rows."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self._scores: NDArray[np.float32] = np.empty((queries, 0), dtype=np.float32)
        self._ids: NDArray[np.str_] = np.empty((queries, 0), dtype="U32")

    def add(self, ids: NDArray[np.str_], scores: NDArray[np.float32]) -> None:
        """Takes rows with these ids [N] and their scores [Q, N]."""
        if not scores.size:
            return
        queries = len(scores)
        both = np.concatenate([self._scores, scores], axis=1)
        names = np.concatenate([self._ids, np.broadcast_to(ids, (queries, len(ids)))], axis=1)
        if both.shape[1] > self.k:
            # Everything that ties with the k-th stays until ids have decided.
            kth = -np.partition(-both, self.k - 1, axis=1)[:, self.k - 1]
            best = [self._ordered(names[q], both[q], np.flatnonzero(both[q] >= kth[q])) for q in range(queries)]
        else:
            best = [self._ordered(names[q], both[q], np.arange(both.shape[1])) for q in range(queries)]
        index = np.stack(best)
        self._scores = np.take_along_axis(both, index, axis=1)
        self._ids = np.take_along_axis(names, index, axis=1)

    def _ordered(self, ids: NDArray[np.str_], scores: NDArray[np.float32], among: NDArray[np.intp]) -> NDArray[np.intp]:
        order: NDArray[np.intp] = among[np.lexsort((ids[among], -scores[among]))][: self.k]
        return order

    def best(self, query: int) -> list[tuple[float, str]]:
        """Score and id of a query's best rows, best first."""
        return [(float(score), str(id)) for score, id in zip(self._scores[query], self._ids[query], strict=True)]
