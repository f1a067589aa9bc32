"""The best k of a stream of rows, for many queries at once: the exact search that indexes are compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class TopK:
    """Keeps the best `k` rows for each of the queries [Q, D] by inner product, ties by id; memory does not grow with the rows.

    Products of float32 matrices differ in their last bits by shape and processor, so that they cannot tell a tie from a better
    row. They only rule rows out; the scores of those left are measured in float64, each row by itself.
    """

    def __init__(self, queries: NDArray[np.float32], k: int) -> None:
        self.k = k
        self._queries = np.ascontiguousarray(queries, dtype=np.float32)
        self._exact = self._queries.astype(np.float64)
        self._norms = np.sqrt((self._exact**2).sum(axis=1))
        self._scores: list[NDArray[np.float64]] = [np.empty(0)] * len(queries)
        self._ids: list[NDArray[np.str_]] = [np.empty(0, dtype="U32")] * len(queries)

    def add(self, ids: NDArray[np.str_], vectors: NDArray[np.float32]) -> None:
        """Takes rows with these ids [N] and vectors [N, D]."""
        if not len(ids) or not len(self._queries):
            return
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        # A sum of D products is off by at most D u / (1 - D u) of its magnitudes' sum, u = 2^-24 (Higham 2002, 3.1).
        terms = rows.shape[1] * 2.0**-24
        norm = float(np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1)).max())
        errors = 1.01 * terms / (1 - terms) * norm * self._norms
        for query, (line, error) in enumerate(zip(self._queries @ rows.T, errors, strict=True)):
            floor = self._scores[query][-1] - error if len(self._scores[query]) == self.k else -np.inf
            if len(line) > self.k:
                floor = max(floor, float(-np.partition(-line, self.k - 1)[self.k - 1]) - 2 * error)
            near = np.flatnonzero(line >= floor)
            if len(near):
                self._take(query, ids[near], (rows[near] * self._exact[query]).sum(axis=1))

    def _take(self, query: int, ids: NDArray[np.str_], scores: NDArray[np.float64]) -> None:
        ids, scores = np.concatenate([self._ids[query], ids]), np.concatenate([self._scores[query], scores])
        order = np.lexsort((ids, -scores))[: self.k]
        self._ids[query], self._scores[query] = ids[order], scores[order]

    def best(self, query: int) -> list[tuple[float, str]]:
        """Score and id of a query's best rows, best first."""
        return [(float(score), str(id)) for score, id in zip(self._scores[query], self._ids[query], strict=True)]
