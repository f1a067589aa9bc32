"""An evaluation in words: the rows of its table, and the sentence under it."""

from __future__ import annotations

import math

from outcrop.query.evaluation.figures import Evaluation, Figures, StrategyFigures
from outcrop.query.evaluation.measures import Estimate


def columns(found: Evaluation) -> list[str]:
    """The table's columns."""
    return ["strategy", "queries", "of", *(f"recall@{k}" for k in found.cutoffs), "mAP", "median rank"]


def rows(found: Evaluation) -> list[dict[str, str]]:
    """One row for each strategy and class of queries, and what a strategy has over the first one, each with its interval."""
    table = []
    for strategy in found.strategies:
        table.append({"strategy": strategy.name, "of": "all", **_row(found, strategy.overall)})
        for axis, classes in strategy.splits.items():
            if len(classes) > 1:
                table += [
                    {"strategy": strategy.name, "of": f"{axis} {label}", **_row(found, figures)}
                    for label, figures in classes
                ]
        if strategy.gain is not None:
            gains = {name: shares(estimate, sign="+") for name, estimate in strategy.gain.items()}
            name = f"{strategy.name} minus {found.strategies[0].name}"
            table.append({"strategy": name, "of": "all", "queries": str(strategy.overall.queries), **gains})
    for one in found.against:
        other = f"{one.other}: {one.other_strategy}"
        table.append({"strategy": other, "of": "all", **_row(found, one.there)})
        gains = {name: shares(estimate, sign="+") for name, estimate in one.difference.items()}
        queries = str(one.here.queries)
        table.append({"strategy": f"{one.strategy} minus {other}", "of": "all", "queries": queries, **gains})
    return table


def card(found: Evaluation, figures: Figures) -> list[tuple[str, str]]:
    """The figures that a strategy is summed up in, by name."""
    recall = [(f"recall@{k}", shares(figures.recall(k))) for k in found.cutoffs[:2]]
    middle = rank(figures.median_rank.value, found.depth)
    return [*recall, ("mAP", shares(figures.mean_average_precision)), ("median rank", middle)]


def remark(found: Evaluation) -> str:
    """What was counted and how, in a line."""
    counted, left = found.strategies[0].overall.queries, len(found.left_out)
    drawn = found.bootstrap
    spent = ", ".join(map(_spent, found.strategies))
    return (
        f"{counted} queries counted, {left} left out; gallery of {found.gallery_parents} parents ({found.gallery_items} items); "
        f"the query's own photograph {'counted' if found.own_counted else 'left out'}; {found.depth} parents ranked; in brackets "
        f"{drawn.level:.0%} intervals ({drawn.resamples} bootstrap resamples of the queries, seed {drawn.seed}); asked in {spent}"
    )


def _spent(strategy: StrategyFigures) -> str:
    """How long a strategy took, and how many candidates it matched with a query, on average."""
    matched = "" if strategy.matched is None else f" ({strategy.matched:.3g} candidates matched with each)"
    return f"{strategy.name} {strategy.seconds:.1f} s{matched}"


def shares(estimate: Estimate, sign: str = "-") -> str:
    """A share with its interval, in percent: ``93.2 (89.0 to 96.6)``; `sign` as in format specifications."""
    return f"{100 * estimate.value:{sign}.1f} ({100 * estimate.low:{sign}.1f} to {100 * estimate.high:{sign}.1f})"


def rank(value: float, depth: int) -> str:
    """A rank, or that it lies beyond the depth."""
    return f"{value:g}" if math.isfinite(value) else f">{depth}"


def _row(found: Evaluation, figures: Figures) -> dict[str, str]:
    middle = figures.median_rank
    low, high = rank(middle.low, found.depth), rank(middle.high, found.depth)
    return {
        "queries": str(figures.queries),
        **{f"recall@{k}": shares(figures.recall(k)) for k in found.cutoffs},
        "mAP": shares(figures.mean_average_precision),
        "median rank": f"{rank(middle.value, found.depth)} ({low} to {high})",
    }
