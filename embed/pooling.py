"""One vector of many: the views of a specimen as the specimen itself."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import InputError, PictureError, nearest

Pool = Literal["mean", "max", "gem"]
POOLS: tuple[str, ...] = get_args(Pool)
GEM_POWER = 3.0


def require_pool(name: str) -> Pool:
    """The pooling of that name.

    Raises:
        InputError: there is none.
    """
    if name not in POOLS:
        raise InputError(f"--pool is {', '.join(POOLS)}, not {name!r}{nearest(name, POOLS)}")
    return name  # type: ignore[return-value]  # just checked


def pooled(vectors: NDArray[np.float32], how: Pool) -> NDArray[np.float32]:
    """One vector [D] of length 1 for vectors [N, D]; the order of the vectors does not matter.

    ``mean``; ``max`` of each component; ``gem``, the generalised mean with power 3 (F. Radenović, G. Tolias and O. Chum, 2018),
    with signs kept, since not every network's components are positive.

    Raises:
        PictureError: the vectors cancel each other out.
    """
    ordered = vectors[np.lexsort(vectors.T[::-1])].astype(
        np.float64
    )  # sums of floats depend on the order of their terms
    if how == "mean":
        one = ordered.mean(axis=0)
    elif how == "max":
        one = ordered.max(axis=0)
    else:
        powered = (np.sign(ordered) * np.abs(ordered) ** GEM_POWER).mean(axis=0)
        one = np.sign(powered) * np.abs(powered) ** (1 / GEM_POWER)
    length = float(np.linalg.norm(one))
    if not length > 1e-9:
        raise PictureError("the vectors of the views cancel each other out; take another pooling")
    unit: NDArray[np.float32] = (one / length).astype(np.float32)
    return unit
