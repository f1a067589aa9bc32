"""recall@k, average precision, median rank and their intervals: by hand, and against the definitions spelt out slowly."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.query.evaluation.measures import (
    IGNORED,
    NEGATIVE,
    RELEVANT,
    average_precision,
    mean_intervals,
    median_interval,
    median_rank,
    recall_at,
    relevant_ranks,
)

R, N, I = RELEVANT, NEGATIVE, IGNORED  # noqa: E741


def falling(count: int) -> list[float]:
    return [1 - i / 100 for i in range(count)]


@pytest.mark.parametrize(
    ("grades", "expected"),
    [
        ([N, R, N, R], [2, 4]),
        ([I, N, I, R], [2]),  # ignored answers take no rank
        ([I, I], []),
        ([], []),
        ([N, N], []),
        ([R, R, R], [1, 2, 3]),
    ],
)
def test_ranks_of_the_relevant(grades: list[int], expected: list[int]) -> None:
    assert relevant_ranks(grades, falling(len(grades))).tolist() == expected


@pytest.mark.parametrize(
    ("grades", "scores", "expected"),
    [
        ([R, N], [0.5, 0.5], [2]),  # in a tie the relevant one is counted last, however it was listed
        ([N, R], [0.5, 0.5], [2]),
        ([R, R, N, N], [0.9, 0.5, 0.5, 0.5], [1, 4]),
        ([R, I, N], [0.5, 0.5, 0.5], [2]),  # an ignored answer holds no place in a tie either
        ([R, N], [0.5000004, 0.5], [2]),  # the same in six decimals
        ([R, N], [0.500002, 0.5], [1]),
        ([R, N, R], [0.2, 0.9, 0.2], [1, 3]),  # scores of two sorts: only neighbours tie
        ([N, R, N], [1.0, 1.0 - 7e-7, 1.0 - 1.4e-6], [2]),  # tiny steps add up: the third ties with neither
    ],
)
def test_ties_are_counted_against_us(grades: list[int], scores: list[float], expected: list[int]) -> None:
    assert relevant_ranks(grades, scores).tolist() == expected


def test_recall_is_of_queries() -> None:
    first = np.array([1, 3, 7, math.inf])
    assert recall_at(first, (1, 5, 10)).mean(axis=0).tolist() == [0.25, 0.5, 0.75]


def test_average_precision_by_hand() -> None:
    # relevant at 1, 3 and 6 of three there are: (1/1 + 2/3 + 3/6) / 3
    assert average_precision(np.array([1, 3, 6]), 3, 100) == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    # a fourth that was not found adds nothing
    assert average_precision(np.array([1, 3, 6]), 4, 100) == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    # ten are relevant, but the ranking had only five places, and all were right
    assert average_precision(np.arange(1, 6), 10, 5) == 1
    assert average_precision(np.array([], dtype=np.int64), 2, 100) == 0
    assert average_precision(np.array([], dtype=np.int64), 2, 0) == 0
    with pytest.raises(ValueError, match="without a relevant item"):
        average_precision(np.array([], dtype=np.int64), 0, 10)


def test_median_rank_by_hand() -> None:
    assert median_rank(np.array([5.0, 1, 3])) == 3
    assert median_rank(np.array([1.0, 2, 3, 10])) == 2.5
    assert median_rank(np.array([1.0, math.inf, math.inf])) == math.inf
    assert median_rank(np.array([1.0, 2, math.inf, math.inf])) == math.inf
    assert median_rank(np.array([1.0, 2, 3, math.inf])) == 2.5


# -- against the definitions, spelt out ----------------------------------------------------------------------------------


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    grades = draw(st.lists(st.sampled_from([R, N, I]), max_size=14))
    scores = draw(st.lists(st.sampled_from([0.9, 0.8, 0.5]), min_size=len(grades), max_size=len(grades)))
    return grades, sorted(scores, reverse=True)


def slow_ranks(grades: list[int], scores: list[float]) -> list[int]:
    """Each relevant answer stands behind every judged answer of a better score and every negative of its own score, and behind
    the relevant ones of its own score that were listed before it."""
    found = []
    for i, grade in enumerate(grades):
        if grade == R:
            others = [(scores[j], grades[j], j) for j in range(len(grades)) if j != i and grades[j] != I]
            before = sum(
                score > scores[i] or (score == scores[i] and (other == N or (other == R and j < i)))
                for score, other, j in others
            )
            found.append(before + 1)
    return sorted(found)


@given(rankings())
def test_ranks_are_those_of_the_definition(ranking: tuple[list[int], list[float]]) -> None:
    grades, scores = ranking
    assert relevant_ranks(grades, scores).tolist() == slow_ranks(grades, scores)


@given(rankings(), st.integers(0, 5))
def test_average_precision_is_that_of_the_definition(ranking: tuple[list[int], list[float]], missing: int) -> None:
    grades, scores = ranking
    ranks = relevant_ranks(grades, scores)
    relevant, places = len(ranks) + missing, sum(grade != I for grade in grades)
    if not relevant:
        return
    labels = [rank in set(ranks.tolist()) for rank in range(1, places + 1)]
    precisions = [sum(labels[: i + 1]) / (i + 1) for i, label in enumerate(labels) if label]
    assert average_precision(ranks, relevant, 100) == pytest.approx(sum(precisions) / relevant)
    if places:
        assert average_precision(ranks, relevant, places) == pytest.approx(sum(precisions) / min(relevant, places))
    assert 0 <= average_precision(ranks, relevant, max(places, 1)) <= 1


@given(st.lists(st.one_of(st.integers(1, 30).map(float), st.just(math.inf)), min_size=1, max_size=20))
def test_figures_of_queries_are_those_of_the_definition(first: list[float]) -> None:
    ranks = np.array(first)
    for k, share in zip((1, 5, 20), recall_at(ranks, (1, 5, 20)).mean(axis=0), strict=True):
        assert share == pytest.approx(sum(rank <= k for rank in first) / len(first))
    middle = sorted(first)
    expected = (middle[(len(first) - 1) // 2] + middle[len(first) // 2]) / 2
    assert median_rank(ranks) == expected


# -- intervals -----------------------------------------------------------------------------------------------------------


def test_intervals_are_the_percentiles_of_resampled_queries() -> None:
    """The same draws made one by one with Python's means and medians."""
    rng = np.random.default_rng(5)
    values = rng.random((9, 2))
    first = np.array([1, 1, 2, 3, 5, 8, 13, math.inf, math.inf])
    found = mean_intervals(values, resamples=500, seed=3)
    middle = median_interval(first, resamples=500, seed=3)
    drawn = np.random.default_rng(3).integers(0, 9, (500, 9))
    for column, estimate in enumerate(found):
        means = sorted(values[line, column].mean() for line in drawn)
        assert estimate.value == pytest.approx(values[:, column].mean())
        assert estimate.low == pytest.approx(means[math.floor(0.025 * 499)], abs=1e-6)
        assert estimate.high == pytest.approx(means[math.ceil(0.975 * 499)], abs=1e-6)
    medians = sorted(sorted(first[line])[4] for line in drawn)
    assert (middle.value, middle.low, middle.high) == (5, medians[math.floor(0.025 * 499)], medians[487])


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_medians_of_even_and_odd_resamples(count: int) -> None:
    first = np.random.default_rng(count).integers(1, 50, count).astype(float)
    drawn = np.random.default_rng(0).integers(0, count, (300, count))
    medians = sorted(float(np.median(first[line])) for line in drawn)
    found = median_interval(first, resamples=300, seed=0)
    assert (found.low, found.high) == (medians[math.floor(0.025 * 299)], medians[math.ceil(0.975 * 299)])


def test_intervals_are_repeatable_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((40, 3))
    once = mean_intervals(values, seed=1)
    assert once == mean_intervals(values, seed=1) and once != mean_intervals(values, seed=2)
    monkeypatch.setattr("outcrop.query.evaluation.measures._MAX_CELLS", 40 * 7)  # 286 pieces instead of one
    for a, b in zip(once, mean_intervals(values, seed=1), strict=True):
        assert a.low == pytest.approx(b.low) and a.high == pytest.approx(b.high)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 400 samples of 60 queries with a true recall of 0.7, about 95 in 100 intervals hold 0.7."""
    rng = np.random.default_rng(11)
    held = Counter()
    for trial in range(400):
        sample = (rng.random((60, 1)) < 0.7).astype(float)
        (estimate,) = mean_intervals(sample, resamples=400, seed=trial)
        held[estimate.low <= 0.7 <= estimate.high] += 1
    assert 0.91 <= held[True] / 400 <= 0.98


def test_nested_levels() -> None:
    values = np.random.default_rng(2).random((30, 1))
    widths = [
        estimate.high - estimate.low
        for level in (0.5, 0.8, 0.95, 0.99)
        for estimate in mean_intervals(values, level=level)
    ]
    assert all(a < b for a, b in pairwise(widths))
