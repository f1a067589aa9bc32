"""Fits a vocabulary to pictures: the axes and words of VLAD, and the projection that whitens its vectors or plain ones.

The tokens of the first pictures make axes (PCA) and words (k-means); the vectors of all make the projection. Pictures come as
batches of pixels, in an order that does not matter to what is sampled, so the caller shuffles them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from outcrop.embed.aggregation import Residuals
from outcrop.embed.features import Features
from outcrop.embed.vocabulary import Vocabulary, Words
from outcrop.schema.errors import InputError
from outcrop.schema.space import AskedPooling, Space

WORDS = 32
"""As AnyLoc has it (N. Keetha and others, 2023)."""
TOKEN_AXES = 128
"""Numbers of a reduced token: 32 words then make 4,096."""
TOKENS = 40_000
"""Tokens that axes and words are made of, at most."""
DIM = 512
WHITENING, OF_VIEWS = 0.25, 0.5
"""Each axis is divided by its standard deviation to this power: 1 whitens, 0 only turns. With few pictures the small deviations
are noise, which 1 makes as loud as what separates pictures (measured in docs/models.md). The second is for views of meshes: they
look much the same, grey on white, so what separates them lies along axes of smaller deviation (measured in docs/specimens.md)."""
LEAST = 16
"""Pictures, below which nothing can be said of how pictures differ."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Size:
    """How large a vocabulary is: how many `words`, and the `dim` of the vectors."""

    words: int = WORDS
    dim: int = DIM

    def check(self) -> None:
        """Raises `InputError` for numbers that make no vocabulary."""
        if not 2 <= self.words <= 1024:
            raise InputError(f"--words must be between 2 and 1024, got {self.words}")
        if not 2 <= self.dim <= 4096:
            raise InputError(f"--dim must be between 2 and 4096, got {self.dim}")


def fit(
    made: Iterable[Features],
    pooling: AskedPooling,
    plain: Space,
    size: Size,
    seed: int = 0,
    whitening: float = WHITENING,
) -> Vocabulary:
    """The vocabulary for a pooling, of pictures whose features `made` are, of the `plain` space; `whitening` is a power.

    For ``vlad`` only their tokens count; otherwise the space must be pooled as is asked.

    Raises:
        InputError: there are fewer pictures than `LEAST`.
    """
    size.check()
    batches = iter(made)
    words, vectors = None, []
    if pooling.name == "vlad":
        first = _first(batches)
        words = fit_words(np.concatenate([_flat(one) for one in first]) if first else _NOTHING, size.words, seed)
        residuals = Residuals(words)
        for one in itertools.chain(first, batches):
            vectors.append(residuals(torch.from_numpy(one.patches)).numpy())
    else:
        vectors = [one.vectors for one in batches]
    found = np.concatenate(vectors) if vectors else _NOTHING
    mean, projection = fit_projection(found, size.dim, whitening)
    base = plain.model_copy(update={"pooling": pooling.name, "dim": len(projection), "vocabulary": None})
    return Vocabulary(base, mean, projection, words, len(found))


_NOTHING: Array = np.empty((0, 1), np.float32)


def _first(batches: Iterable[Features]) -> list[Features]:
    """As many batches as have the tokens that words are made of."""
    first: list[Features] = []
    count = 0
    for one in batches:
        first.append(one)
        count += one.patches[..., 0].size
        if count >= TOKENS:
            break
    return first


def _flat(made: Features) -> Array:
    return made.patches.reshape(-1, made.patches.shape[-1])


def fit_words(tokens: Array, words: int, seed: int) -> Words:
    """Axes and words of tokens [n, D].

    Raises:
        InputError: they are fewer than the words.
    """
    if len(tokens) < 4 * words:
        raise InputError(
            f"{len(tokens)} patch tokens are too few for {words} words; give more pictures, or fewer --words"
        )
    chosen = np.random.default_rng(seed).permutation(len(tokens))[:TOKENS]
    unit = tokens[chosen] / np.maximum(np.linalg.norm(tokens[chosen], axis=1, keepdims=True), 1e-12)
    mean, axes, _ = principal(unit, min(TOKEN_AXES, unit.shape[1]))
    reduced = (unit - mean) @ axes.T
    found = KMeans(words, n_init=1, max_iter=50, random_state=seed).fit(reduced)
    return Words(mean, axes, found.cluster_centers_.astype(np.float32))


def fit_projection(vectors: Array, dim: int, whitening: float = WHITENING) -> tuple[Array, Array]:
    """Mean [M] and projection [d, M] of vectors [n, M] of length 1; d is `dim`, or less where they vary along fewer axes.
    `whitening` is the power of the deviations that axes are divided by.

    Raises:
        InputError: they are too few, or all the same.
    """
    if len(vectors) < LEAST:
        raise InputError(f"{len(vectors)} pictures are too few to fit anything to; give at least {LEAST}")
    mean, axes, variances = principal(vectors, dim)
    kept = variances > 1e-6 * variances[0]
    if not variances[0] > 1e-12:
        raise InputError("the pictures all have the same vector; give pictures that differ")
    scale = np.sqrt(variances[kept] / variances[0]) ** -whitening
    return mean, (axes[kept] * scale[:, None]).astype(np.float32)


def principal(rows: Array, count: int) -> tuple[Array, Array, NDArray[np.float64]]:
    """Mean [M], the `count` principal axes [d, M] of rows [n, M] and their variances [d], largest first; d is at most n - 1."""
    mean = rows.mean(0, dtype=np.float64)
    centred = rows - mean
    n, m = centred.shape
    count = max(1, min(count, n - 1, m))
    if n <= m:  # the smaller of the two matrices with the same eigenvalues
        values, vectors = np.linalg.eigh(centred @ centred.T / n)
        best = np.argsort(-values)[:count]
        axes = vectors[:, best].T @ centred
        axes /= np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-12)
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred / n)
        best = np.argsort(-values)[:count]
        axes = vectors[:, best].T
    # An axis may point either way: its largest number is made positive, so that the same pictures give the same digest.
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(1)]
    axes = axes * np.where(largest < 0, -1, 1)[:, None]
    return mean.astype(np.float32), axes.astype(np.float32), np.maximum(values[best], 0.0)
