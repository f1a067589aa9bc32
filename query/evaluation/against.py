"""Two evaluations side by side: the same queries, asked of another collection or with other options, compared query by query.

The other evaluation is one of this run, or one that was kept (what `query evaluate --json` printed). Only queries that both
counted are compared, and the differences are drawn query by query (paired bootstrap), as those of strategies are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from outcrop.query.evaluation.figures import Bootstrap, Evaluation, Figures, StrategyFigures, differences, plain_figures
from outcrop.query.evaluation.measures import Estimate
from outcrop.schema.errors import InputError, Refused

_MADE_ELSEWHERE = "is not what `query evaluate --json` prints"


@dataclass(frozen=True)
class Fared:
    """How one query fared: the rank of its first right answer (infinite: none within the depth), and its average precision."""

    first: float
    precision: float


@dataclass(frozen=True)
class Measured:
    """An evaluation as far as others can be compared with it: how each query fared, by strategy and query.

    `name` says of what it is (a collection, or a file); `definition` is what decides whether figures mean the same.
    """

    name: str
    definition: Mapping[str, Any]
    parents: int
    depth: int
    fared: Mapping[str, Mapping[str, Fared]] = field(repr=False)


@dataclass(frozen=True)
class Comparison:
    """One strategy against one of another evaluation, over the `queries` that both counted.

    `here` and `there` are the figures over these; `difference` is here less there: recall@cutoff and mAP by name.
    `only_here` and `only_there` count the queries that only one of them counted.
    """

    strategy: str
    other: str
    other_strategy: str
    here: Figures
    there: Figures
    difference: Mapping[str, Estimate]
    only_here: int
    only_there: int
    parents: int

    def as_json(self, cutoffs: Sequence[int]) -> dict[str, Any]:
        """Plain values."""
        return {
            "strategy": self.strategy,
            "other": self.other,
            "other_strategy": self.other_strategy,
            "queries": self.here.queries,
            "only_here": self.only_here,
            "only_there": self.only_there,
            "other_gallery_parents": self.parents,
            "here": plain_figures(self.here, cutoffs),
            "there": plain_figures(self.there, cutoffs),
            "difference": {
                name: {"value": round(one.value, 6), "low": round(one.low, 6), "high": round(one.high, 6)}
                for name, one in self.difference.items()
            },
        }


def measured(found: Evaluation) -> Measured:
    """An evaluation of this run."""
    fared = {one.name: {o.query.name: Fared(o.first, o.precision) for o in one.outcomes} for one in found.strategies}
    return Measured(found.collection, _definition(found.as_json()), found.gallery_parents, found.depth, fared)


def read_measured(path: Path) -> Measured:
    """An evaluation that was kept as JSON.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        fared = {
            str(one["name"]): {
                str(query["query"]): Fared(
                    math.inf if query["first"] is None else float(query["first"]), float(query["average_precision"])
                )
                for query in one["per_query"]
            }
            for one in kept["strategies"]
        }
        return Measured(path.name, _definition(kept), int(kept["gallery"]["parents"]), int(kept["depth"]), fared)
    except OSError as error:
        raise InputError(f"--against {path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f"--against {path} {_MADE_ELSEWHERE}; keep one with `query evaluate … --json > {path}`"
        ) from None


def _definition(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What decides whether two figures mean the same: the truth (wherever its file lies), and how answers are counted."""
    truth = {name: value for name, value in kept["truth"].items() if name != "file"}
    return {**truth, "the query's own photograph": kept["own"], "depth": kept["depth"]}


def compared(found: Evaluation, others: Sequence[Measured]) -> Evaluation:
    """The evaluation with its comparisons: each strategy of the others with the strategy of that name, or else the first.

    Raises:
        Refused: the figures do not mean the same. InputError: no query is counted by both.
    """
    made: list[Comparison] = []
    for other in others:
        _require_same(measured(found), other)
        for name, fared in other.fared.items():
            own = next((one for one in found.strategies if one.name == name), found.strategies[0])
            made.append(_comparison(own, other, name, fared, found.cutoffs, found.bootstrap))
    return replace(found, against=(*found.against, *made))


def _require_same(mine: Measured, other: Measured) -> None:
    names = dict.fromkeys([*mine.definition, *other.definition])
    if None in (mine.definition.get("digest"), other.definition.get("digest")):
        names.pop("digest", None)  # kept by a version that did not say what was in the file
    unlike = [name for name in names if mine.definition.get(name) != other.definition.get(name) and name != "text"]
    if unlike:
        said = ", ".join(
            "the truth files hold other pairs or footprints"
            if name == "digest"
            else f"{name} is {mine.definition.get(name)} here and {other.definition.get(name)} there"
            for name in unlike
        )
        raise Refused(
            f"{mine.name} and {other.name} are not measured alike ({said}); evaluate both with the same options"
        )


def _comparison(
    own: StrategyFigures,
    other: Measured,
    name: str,
    fared: Mapping[str, Fared],
    cutoffs: Sequence[int],
    bootstrap: Bootstrap,
) -> Comparison:
    here = {outcome.query.name: Fared(outcome.first, outcome.precision) for outcome in own.outcomes}
    common = sorted(set(here) & set(fared))
    if not common:
        raise InputError(
            f"no query is counted both here and in {other.name}; ask both with the same NAME or --pictures"
        )
    mine, theirs = [here[query] for query in common], [fared[query] for query in common]
    most = max(cutoffs)
    return Comparison(
        own.name,
        other.name,
        name,
        Figures.of(mine, most, bootstrap),
        Figures.of(theirs, most, bootstrap),
        differences(mine, theirs, cutoffs, bootstrap),
        len(here) - len(common),
        len(fared) - len(common),
        other.parents,
    )


def remarks(found: Evaluation) -> list[str]:
    """What limits the comparisons, a sentence for each."""
    said = []
    for one in found.against:
        if one.only_here or one.only_there:
            said.append(
                f"{one.other}: {one.here.queries} queries are counted by both; {one.only_here} only here, "
                f"{one.only_there} only there"
            )
        if one.parents != found.gallery_parents:
            said.append(
                f"{one.other}: its gallery has {one.parents} parents, this one {found.gallery_parents}: "
                "the smaller gallery has it easier"
            )
    return list(dict.fromkeys(said))
