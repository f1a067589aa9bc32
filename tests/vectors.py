"""Vectors for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit_vectors(count: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """Random vectors of length 1, [count, dim] float32; the same for the same seed."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
