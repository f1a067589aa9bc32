"""Figures of a ranking: recall@k, average precision, the median rank of the first relevant answer, and how sure they are.

Pure numpy; every figure is of one query first, and then of queries (each counts the same). docs/evaluation.md has the definitions
in prose; here they are as code:

- A ranking is what one query was answered, best first, each answer graded `RELEVANT`, `NEGATIVE` or `IGNORED`.
- Ignored answers are taken out before anything is counted: they take no rank and are neither hit nor miss.
- Answers of equal score have no order: among them, the relevant ones are counted last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RELEVANT, NEGATIVE, IGNORED = 1, 0, -1
"""Grades of an answer."""
NOT_FOUND = math.inf
"""The rank of the first relevant answer if no answer is relevant."""
TIED = 1e-6
"""Scores that differ by less are equal: answers are printed with six decimals."""
_MAX_CELLS = 5_000_000
"""Numbers of resampled queries in memory at a time."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the bounds of its confidence interval; `value` and bounds of a rank may be infinite (not found)."""

    value: float
    low: float
    high: float


def relevant_ranks(grades: Sequence[int], scores: Sequence[float]) -> NDArray[np.int64]:
    """The ranks, from 1 and ascending, of the relevant answers of one ranking.

    `grades` and `scores` are those of its answers, best first; scores that do not fall (a re-ranked list may keep scores of
    two sorts) tie only with neighbours.
    """
    grade = np.asarray(grades, dtype=np.int8)
    score = np.asarray(scores, dtype=np.float64)
    judged = grade != IGNORED
    grade, score = grade[judged], score[judged]
    if not len(grade):
        return np.zeros(0, dtype=np.int64)
    # Runs of equal scores are compared with their first member, so that a long slope of tiny steps is not one tie.
    run = np.zeros(len(score), dtype=np.int64)
    start = 0
    for i in range(1, len(score)):
        if abs(score[i] - score[start]) >= TIED:
            start = i
        run[i] = start
    order = np.lexsort((grade == RELEVANT, run))  # by run, negatives first
    return np.flatnonzero(grade[order] == RELEVANT).astype(np.int64) + 1


def recall_at(first: NDArray[np.float64], cutoffs: Sequence[int]) -> NDArray[np.float64]:
    """[Q, C]: 1 where the first relevant answer of a query (ranks [Q]) is within a cutoff, otherwise 0.

    This is the recall@k of place recognition: the share of queries that were answered rightly within k. The mean over queries
    is the figure; it is not the share of the relevant items that were found.
    """
    return (np.asarray(first)[:, None] <= np.asarray(cutoffs)[None, :]).astype(np.float64)


def average_precision(ranks: NDArray[np.int64], relevant: int, places: int) -> float:
    """Average precision of one query: the mean, over its relevant items, of the precision at the rank of each.

    `relevant` counts the relevant items of the whole gallery, `places` the ranks that there were to fill: items that are not in
    the ranking add nothing, and the sum is divided by the smaller of the two, so that a perfect ranking has 1 however short it
    was cut (with room for all, this is the definition of TREC).

    Raises:
        ValueError: without a relevant item, average precision means nothing.
    """
    if relevant < 1:
        raise ValueError("average precision of a query without a relevant item")
    most = min(relevant, places)
    if most < 1:
        return 0.0
    found = ranks[:most]
    return float(np.sum(np.arange(1, len(found) + 1) / found) / most)


def median_rank(first: NDArray[np.float64]) -> float:
    """The median of the ranks [Q] of the first relevant answers, those not found counting as infinite."""
    return float(_middle(np.sort(np.asarray(first, dtype=np.float64))))


def mean_intervals(
    values: NDArray[np.float64], *, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> list[Estimate]:
    """The mean of each column of `values` [Q, M] over its queries, with percentile bootstrap intervals.

    Queries are drawn with replacement, Q at a time, `resamples` times; the interval holds the middle `level` of the resampled
    means (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13). All columns share their draws, and the same
    seed gives the same intervals.
    """
    values = np.asarray(values, dtype=np.float64)
    means = np.concatenate([weights @ values / len(values) for weights in _draws(len(values), resamples, seed)])
    low, high = _percentiles(means, level)
    centre = values.mean(axis=0)
    return [Estimate(float(m), float(lo), float(hi)) for m, lo, hi in zip(centre, low, high, strict=True)]


def median_interval(
    first: NDArray[np.float64], *, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """`median_rank` with its percentile bootstrap interval; the draws are those of `mean_intervals`."""
    ordered = np.sort(np.asarray(first, dtype=np.float64))
    by_rank = np.argsort(np.asarray(first, dtype=np.float64), kind="stable")
    count = len(ordered)
    medians = []
    for weights in _draws(count, resamples, seed):
        drawn = np.cumsum(weights[:, by_rank], axis=1)
        # The places of the two middle members of each resample (the same one where their number is odd).
        lower = ordered[(drawn < (count + 1) // 2 - 0.5).sum(axis=1)]
        upper = ordered[(drawn < count // 2 + 1 - 0.5).sum(axis=1)]
        medians.append(_between(lower, upper))
    low, high = _percentiles(np.concatenate(medians)[:, None], level)
    return Estimate(float(_middle(ordered)), float(low[0]), float(high[0]))


def _draws(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each of `count` queries is drawn in each resample: [B, Q] in pieces, so that memory is bounded."""
    rng = np.random.default_rng(seed)
    step = max(1, min(resamples, _MAX_CELLS // max(1, count)))
    for begin in range(0, resamples, step):
        size = min(step, resamples - begin)
        drawn = rng.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float32)


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The bounds of the middle `level` of each column, as values that occur (infinity cannot be interpolated)."""
    tail = (1 - level) / 2
    ordered = np.sort(values, axis=0)
    last = len(values) - 1
    return ordered[math.floor(tail * last)], ordered[math.ceil((1 - tail) * last)]


def _middle(ordered: NDArray[np.float64]) -> float:
    lower, upper = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(_between(np.asarray([lower]), np.asarray([upper]))[0])


def _between(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of two arrays [B] of ranks, infinite where the upper one is."""
    return np.where(np.isinf(upper), upper, (lower + upper) / 2)
