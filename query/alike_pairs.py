"""All pairs of vectors that are as alike as a threshold, out of so many that neither they nor their products fit into memory.

Most pairs are ruled out by short vectors. With P the projection onto the first directions of a basis, the inner product of x
and y is (Px, Py) + (x - Px, y - Py), and the second part is at most |x - Px| |y - Py| (Cauchy and Schwarz). So the product of
the projections, each with the length of what it lacks as one more number, is never less than that of the vectors: whatever stays
below the threshold there is no pair, and nothing is lost. What is left is compared whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096
"""Vectors that are read from a file at once."""
ROWS, COLUMNS = 512, 1024
"""Vectors that are multiplied with each other in one go: 2 MB of products, which stay in a processor's cache."""
ROUNDING = 1e-4
"""Products of float32 this near the threshold are made again in float64, so that no order of summing decides."""
PART = 4096
"""Of many pairs, copies of the vectors are made of so many at once."""
SAMPLE = 4096
"""Vectors by which the directions and their number are chosen: these decide how long it takes, never what is found. Fewer are
multiplied as they are."""
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
LOOKING, TAKING = 8.0, 30_000.0
"""What looking at a product takes, and a pair that is compared by itself, in multiplications of a product of matrices."""
MANY = 64
"""Where more than one pair in so many is left, all of them are multiplied rather than each by itself."""

Pairs = tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Rows up to which all is compared; and the pairs found since: rows, other rows, similarities."""


class VectorFile:
    """Vectors [N, D] float32 in a temporary file, written in order and read in blocks."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `__exit__` closes it
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> VectorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Appends vectors [n, D]."""
        self._file.write(np.ascontiguousarray(vectors, dtype=np.float32).tobytes())
        self._count += len(vectors)

    def block(self, start: int, count: int) -> NDArray[np.float32]:
        """The vectors from `start` on, at most `count` of them."""
        count = max(0, min(count, self._count - start))
        self._file.flush()
        self._file.seek(start * self.dim * 4)
        read = np.frombuffer(self._file.read(count * self.dim * 4), dtype=np.float32).reshape(count, self.dim)
        self._file.seek(0, 2)
        return read


@dataclass(frozen=True)
class Sieve:
    """Short vectors whose products are never less than those of the vectors. `basis` [D, m] float64 is orthonormal."""

    basis: NDArray[np.float64]

    def short(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of vectors [n, D] the projections and the length of what they lack, [n, m + 1]."""
        exact = vectors.astype(np.float64)
        projected = exact @ self.basis
        lacking = np.einsum("nd,nd->n", exact, exact) - np.einsum("nm,nm->n", projected, projected)
        return np.column_stack((projected, np.sqrt(np.maximum(lacking, 0.0)))).astype(np.float32)

    @classmethod
    def fitting(cls, sample: NDArray[np.float32], threshold: float) -> Sieve | None:
        """The one that saves most, by a sample [n, D] of the vectors; None where products of whole vectors are cheaper."""
        half = len(sample) // 2
        exact = sample[:half].astype(np.float64)
        # The directions in which most of their length is come first. Others judge them: they are made to fit these.
        basis, judges = np.linalg.eigh(exact.T @ exact)[1][:, ::-1], sample[half:]
        dim = len(basis)
        best: tuple[float, Sieve | None] = (dim + LOOKING, None)
        for width in (width for width in WIDTHS if width < dim):
            sieve = cls(np.ascontiguousarray(basis[:, :width]))
            short = sieve.short(judges)
            products = short @ short.T
            left = float(np.mean(products[np.triu_indices(len(short), 1)] >= threshold - ROUNDING))
            takes = width + 1 + LOOKING + min(left * TAKING, dim)
            if takes < best[0]:
                best = takes, sieve
        return best[1]


def alike_pairs(vectors: VectorFile, threshold: float) -> Iterator[Pairs]:
    """All pairs of vectors (of length 1) whose product is at least `threshold`, each once; memory does not grow with them."""
    sieve = Sieve.fitting(vectors.block(0, SAMPLE), threshold) if len(vectors) > SAMPLE else None
    width = vectors.dim if sieve is None else sieve.basis.shape[1] + 1
    with VectorFile(width) as made:
        short = vectors if sieve is None else made
        if sieve is not None:
            for start in range(0, len(vectors), BLOCK):
                made.add(sieve.short(vectors.block(start, BLOCK)))
        for start in range(0, len(vectors), BLOCK):
            for other in range(start, len(vectors), BLOCK):
                yield from _between(vectors, short, start, other, threshold)
    yield len(vectors), *(np.zeros(0, dtype=np.int64),) * 2, np.zeros(0)


def _between(vectors: VectorFile, short: VectorFile, start: int, other: int, threshold: float) -> Iterator[Pairs]:
    """The pairs of two blocks that begin at rows `start` and `other`, after the rows before `start` were compared with all."""
    one, two = short.block(start, BLOCK), short.block(other, BLOCK)
    whole = None
    yield start, *(np.zeros(0, dtype=np.int64),) * 2, np.zeros(0)
    for row in range(0, len(one), ROWS):
        for column in range(row // COLUMNS * COLUMNS if start == other else 0, len(two), COLUMNS):
            left, right = one[row : row + ROWS], two[column : column + COLUMNS]
            near = np.flatnonzero(left @ right.T >= threshold - ROUNDING)
            if not len(near):
                continue
            whole = whole or (vectors.block(start, BLOCK), vectors.block(other, BLOCK))
            a, b = whole[0][row : row + ROWS], whole[1][column : column + COLUMNS]
            if short is not vectors and len(near) > len(a) * len(b) // MANY:
                near = np.flatnonzero(a @ b.T >= threshold - ROUNDING)
            i, j = np.divmod(near, len(b))
            once = j + column + other > i + row + start
            i, j, scores = _compared(a, b, i[once], j[once], threshold)
            if len(i):
                yield start, i + row + start, j + column + other, scores


def _compared(
    a: NDArray[np.float32], b: NDArray[np.float32], i: NDArray[np.int64], j: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Of the pairs `a[i]`, `b[j]` those of the threshold, with their products in float64."""
    kept, found = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for part in range(0, len(i), PART):
        here = np.arange(part, min(part + PART, len(i)))
        products = np.einsum("nd,nd->n", a[i[here]], b[j[here]])
        here = here[products >= threshold - ROUNDING]
        scores = np.einsum("nd,nd->n", a[i[here]], b[j[here]], dtype=np.float64)
        kept.append(here[scores >= threshold])
        found.append(scores[scores >= threshold])
    places = np.concatenate(kept)
    return i[places], j[places], np.concatenate(found)
