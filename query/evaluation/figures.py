"""From what became of each query to figures with intervals: over all queries, by class, and against another strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from outcrop.query.answers import Query
from outcrop.query.evaluation.measures import Estimate, average_precision, mean_intervals, median_interval, recall_at
from outcrop.query.evaluation.splits import AXES, split
from outcrop.query.evaluation.truth import Facts
from outcrop.schema.item import Item
from outcrop.screen.notebook import html_table

if TYPE_CHECKING:
    from outcrop.query.evaluation.against import Comparison


@dataclass(frozen=True)
class Bootstrap:
    """How the intervals are drawn: how often the queries are drawn anew, the seed, and what share of it an interval holds."""

    resamples: int = 2000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True)
class Answer:
    """An answer: `rank` as it is counted, the embedding's score, and the inliers that geometry found (None: not re-ranked)."""

    item: Item
    rank: int
    score: float
    inliers: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How one query fared: `ranks` of the right answers, how many parents of the gallery are `relevant`, and how many `places`
    the ranking had (its depth without what was ignored); `short` where these are fewer than the largest cutoff.

    `answered` is False where it got no answer at all. `right` is the first right answer, `wrong` the best wrong one before it
    (if any), and `wanted` the parent that is most right. `matched` is how many candidates were matched with it (None: it was not
    re-ranked).
    """

    query: Query
    ranks: tuple[int, ...]
    relevant: int
    places: int
    short: bool
    answered: bool
    facts: Facts
    right: Answer | None
    wrong: Answer | None
    wanted: Item
    matched: int | None = None

    @property
    def first(self) -> float:
        """The rank of the first right answer, infinite if it is not within the depth."""
        return float(self.ranks[0]) if self.ranks else math.inf

    @property
    def precision(self) -> float:
        """Its average precision."""
        return average_precision(np.asarray(self.ranks, dtype=np.int64), self.relevant, self.places)


class Fares(Protocol):
    """How a query fared, as far as figures are made of it."""

    @property
    def first(self) -> float:
        """The rank of its first right answer, infinite where there is none."""
        ...

    @property
    def precision(self) -> float:
        """Its average precision."""
        ...


@dataclass(frozen=True)
class Figures:
    """The figures of some queries. `curve` is recall@k for k from 1 to the largest cutoff."""

    queries: int
    curve: tuple[Estimate, ...]
    mean_average_precision: Estimate
    median_rank: Estimate

    @classmethod
    def of(cls, outcomes: Sequence[Fares], most: int, bootstrap: Bootstrap) -> Figures:
        """Those of some queries, with recall up to `most`."""
        *curve, precision = mean_intervals(
            _columns(outcomes, most), resamples=bootstrap.resamples, seed=bootstrap.seed, level=bootstrap.level
        )
        first = np.array([outcome.first for outcome in outcomes])
        median = median_interval(first, resamples=bootstrap.resamples, seed=bootstrap.seed, level=bootstrap.level)
        return cls(len(outcomes), tuple(curve), precision, median)

    def recall(self, k: int) -> Estimate:
        """recall@k."""
        return self.curve[k - 1]


@dataclass(frozen=True)
class StrategyFigures:
    """One way to search: its figures over all queries and by axis and class, what became of each query, and how long it took.

    `gain` is what it has over the first strategy, query by query (None for the first one): recall@cutoff and mAP by name.
    """

    name: str
    overall: Figures
    splits: Mapping[str, tuple[tuple[str, Figures], ...]]
    outcomes: tuple[Outcome, ...] = field(repr=False)
    seconds: float
    gain: Mapping[str, Estimate] | None = None

    @property
    def matched(self) -> float | None:
        """The candidates matched with a query, on average; None where it was not re-ranked."""
        counts = [outcome.matched for outcome in self.outcomes if outcome.matched is not None]
        return sum(counts) / len(counts) if counts else None

    @property
    def unanswered(self) -> int:
        """Queries that got no answer: they are misses."""
        return sum(not outcome.answered for outcome in self.outcomes)

    def worst(self, count: int) -> list[Outcome]:
        """The queries that fared worst, worst first, among those whose first answer was wrong."""
        failed = [outcome for outcome in self.outcomes if outcome.first > 1]
        return sorted(failed, key=lambda outcome: (-outcome.first, outcome.precision, outcome.query.name))[:count]


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and against what: `truth` says what is relevant, `left_out` names the queries that could not be
    counted, each with its reason; `unreadable` are those of them whose picture could not be read. `against` compares it with
    other evaluations.
    """

    collection: str
    truth: Mapping[str, Any]
    gallery_items: int
    gallery_parents: int
    own_counted: bool
    depth: int
    cutoffs: tuple[int, ...]
    bootstrap: Bootstrap
    strategies: tuple[StrategyFigures, ...]
    left_out: Mapping[str, str]
    unreadable: tuple[str, ...]
    against: tuple[Comparison, ...] = ()

    @property
    def short(self) -> int:
        """Queries whose ranking had fewer judged places than the largest cutoff, because ignored answers took them."""
        return sum(outcome.short for outcome in self.strategies[0].outcomes)

    def _repr_html_(self) -> str:
        """Recall and mAP of each strategy as a table, in a notebook."""
        rows = [
            {
                "strategy": strategy.name,
                "queries": strategy.overall.queries,
                **{f"recall@{k}": strategy.overall.recall(k).value for k in self.cutoffs},
                "mAP": strategy.overall.mean_average_precision.value,
            }
            for strategy in self.strategies
        ]
        return html_table(rows, tuple(rows[0]), str(self.truth.get("text", "")), f"{len(self.left_out)} left out")

    def as_json(self) -> dict[str, Any]:
        """Plain values; a rank that is not known (none found within the depth) is None."""
        return {
            "collection": self.collection,
            "truth": dict(self.truth),
            "gallery": {"items": self.gallery_items, "parents": self.gallery_parents},
            "own": "counted" if self.own_counted else "left out",
            "depth": self.depth,
            "cutoffs": list(self.cutoffs),
            "bootstrap": {
                "resamples": self.bootstrap.resamples,
                "seed": self.bootstrap.seed,
                "level": self.bootstrap.level,
            },
            "queries": {
                "counted": self.strategies[0].overall.queries,
                "left_out": [{"query": name, "reason": reason} for name, reason in sorted(self.left_out.items())],
                "short": self.short,
            },
            "strategies": [self._strategy(strategy) for strategy in self.strategies],
            "against": [comparison.as_json(self.cutoffs) for comparison in self.against],
        }

    def _strategy(self, strategy: StrategyFigures) -> dict[str, Any]:
        return {
            "name": strategy.name,
            "seconds": round(strategy.seconds, 3),
            **({} if strategy.matched is None else {"matched": round(strategy.matched, 3)}),
            "unanswered": strategy.unanswered,
            "overall": plain_figures(strategy.overall, self.cutoffs),
            "gain": None if strategy.gain is None else {name: _plain(e) for name, e in strategy.gain.items()},
            "splits": {
                axis: [{"class": name, **plain_figures(figures, self.cutoffs)} for name, figures in classes]
                for axis, classes in strategy.splits.items()
            },
            "per_query": [
                {
                    "query": outcome.query.name,
                    "first": _finite(outcome.first),
                    "average_precision": round(outcome.precision, 6),
                    "relevant": outcome.relevant,
                    "answer": outcome.right.item.key if outcome.right is not None else None,
                    **({} if outcome.matched is None else {"matched": outcome.matched}),
                }
                for outcome in strategy.outcomes
            ],
        }


def plain_figures(figures: Figures, cutoffs: Sequence[int]) -> dict[str, Any]:
    """Figures as plain values."""
    return {
        "queries": figures.queries,
        **{f"recall@{k}": _plain(figures.recall(k)) for k in cutoffs},
        "mAP": _plain(figures.mean_average_precision),
        "median_rank": _plain(figures.median_rank),
    }


def strategy_figures(
    name: str,
    outcomes: Sequence[Outcome],
    cutoffs: Sequence[int],
    bootstrap: Bootstrap,
    seconds: float,
    baseline: Sequence[Outcome] | None = None,
) -> StrategyFigures:
    """The figures of a strategy; `baseline` are the same queries' outcomes under the strategy that it is compared with."""
    most = max(cutoffs)
    splits = {}
    for axis in AXES:
        classes = split([outcome.facts for outcome in outcomes], axis)
        splits[axis] = tuple(
            (label, Figures.of([outcomes[i] for i in members], most, bootstrap)) for label, members in classes
        )
    gain = differences(outcomes, baseline, cutoffs, bootstrap) if baseline is not None else None
    return StrategyFigures(name, Figures.of(outcomes, most, bootstrap), splits, tuple(outcomes), seconds, gain)


def differences(
    one: Sequence[Fares], other: Sequence[Fares], cutoffs: Sequence[int], bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """What the first has over the other, query by query: recall@cutoff and mAP by name, with paired intervals."""
    most = max(cutoffs)
    *recall, precision = mean_intervals(
        _columns(one, most) - _columns(other, most),
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
        level=bootstrap.level,
    )
    return {**{f"recall@{k}": recall[k - 1] for k in cutoffs}, "mAP": precision}


def _columns(outcomes: Sequence[Fares], most: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """For each query [Q, most + 1]: whether it was answered rightly within 1, 2, … `most`; and its average precision."""
    hits = recall_at(np.array([outcome.first for outcome in outcomes]), range(1, most + 1))
    return np.column_stack((hits, [outcome.precision for outcome in outcomes]))


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _finite(estimate.value), "low": _finite(estimate.low), "high": _finite(estimate.high)}


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
