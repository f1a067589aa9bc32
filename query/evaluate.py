"""How often answers are right: one or several ways to ask, held against a truth.

A way to ask (a strategy) is whatever gives `Results`: stored vectors, pictures, re-ranked or turned. Its hits are put together by
parent (the photograph or specimen), the query's own is left out where another one is wanted, and every query counts the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from query.figures import Bootstrap, Evaluation, Outcome, strategy_figures
from query.gallery import Gallery
from query.measures import IGNORED, NEGATIVE, RELEVANT, relevant_ranks
from query.search import Result, Results
from query.truth import Truth
from schema.errors import InputError
from schema.item import parent_of
from store.search import MOST_HITS, Hit

CUTOFFS = (1, 5, 10, 20)
DEPTH = 100
NOTHING_RELEVANT = "the gallery holds nothing relevant for it"


def hits_for(depth: int, gallery: Gallery) -> int:
    """How many hits a search must give so that `depth` parents and the query's own are among them, at worst."""
    return min(MOST_HITS, (depth + 1) * max(gallery.rows))


def evaluate(
    strategies: Mapping[str, Iterable[Results]],
    truth: Truth,
    gallery: Gallery,
    *,
    depth: int = DEPTH,
    cutoffs: Sequence[int] = CUTOFFS,
    count_own: bool | None = None,
    bootstrap: Bootstrap = Bootstrap(),
    progress: Callable[[str, int], None] | None = None,
) -> Evaluation:
    """Figures of each strategy, by name, over the queries that the truth can judge and every strategy could ask.

    The strategies answer the same queries, with enough hits for `depth` parents beside the query's own (`hits_for`). `count_own`:
    whether the query's own photograph is an answer like any other; by default only where it is what the truth asks for.
    `progress` is told the strategy and how many queries it has answered.

    Raises:
        InputError: a cutoff is beyond the depth, or not one query can be counted.
    """
    cutoffs = tuple(sorted(set(cutoffs)))
    if not cutoffs or cutoffs[0] < 1 or cutoffs[-1] > depth:
        raise InputError(f"recall is cut at ranks from 1 to --depth ({depth}), not at {', '.join(map(str, cutoffs))}")
    told = truth.describe()
    asks_own = told["kind"] == "own"
    if asks_own and count_own is False:
        raise InputError("--truth own looks for the query's own photograph, which cannot be left out")
    own_counted = asks_own if count_own is None else count_own
    collection = ""
    left_out: dict[str, str] = {}
    unreadable: set[str] = set()
    measured: list[tuple[str, dict[str, Outcome], float]] = []
    for name, answers in strategies.items():
        begun, outcomes, asked = time.perf_counter(), {}, 0
        for results in answers:
            collection = results.collection
            for result in results.results:
                asked += 1
                if result.error:
                    unreadable.add(result.query.name)
                    left_out[result.query.name] = result.error
                    continue
                outcome = judged(result, truth, gallery, depth, cutoffs[-1], own_counted)
                if isinstance(outcome, Outcome):
                    outcomes[result.query.name] = outcome
                else:
                    left_out[result.query.name] = outcome
            if progress is not None:
                progress(name, asked)
        measured.append((name, outcomes, time.perf_counter() - begun))
    # A query that one strategy could not ask is counted for none: otherwise they would be measured on different questions.
    common = sorted(set.intersection(*(set(outcomes) for _, outcomes, _ in measured)) - set(left_out))
    if not common:
        reasons = list(dict.fromkeys(left_out.values()))[:3]
        raise InputError(f"no query can be counted: {'; '.join(reasons) or 'none was asked'}")
    baseline = [measured[0][1][query] for query in common]
    figures = [
        strategy_figures(
            name,
            [outcomes[query] for query in common],
            cutoffs,
            bootstrap,
            seconds,
            baseline if number else None,
        )
        for number, (name, outcomes, seconds) in enumerate(measured)
    ]
    return Evaluation(
        collection,
        told,
        sum(gallery.rows),
        len(gallery.parents),
        own_counted,
        depth,
        cutoffs,
        bootstrap,
        tuple(figures),
        left_out,
        tuple(sorted(unreadable)),
    )


def judged(result: Result, truth: Truth, gallery: Gallery, depth: int, most: int, own_counted: bool) -> Outcome | str:
    """What became of one query, or why it cannot be counted.

    The item that the query is itself is no answer; hits of one parent are one answer, the best of them; the query's own parent is
    taken out unless it counts; the ranking is cut at `depth` parents; then what is ignored is taken out.
    """
    query = result.query
    judgement = truth.judge(query, gallery)
    if judgement.reason:
        return judgement.reason
    grades, own = judgement.grades.copy(), judgement.own
    if own is not None and not (own_counted and gallery.others(own, query.item)):
        grades[own] = IGNORED  # it is no answer, or could not be one
    relevant = int((grades == RELEVANT).sum())
    if not relevant:
        return NOTHING_RELEVANT
    unwanted = gallery.parents[own] if own is not None and not own_counted else None
    ranking: dict[str, Hit] = {}
    for hit in result.hits:
        parent = parent_of(hit.item.key)
        if parent != unwanted and (query.item is None or hit.item.key != query.item.key):
            ranking.setdefault(parent, hit)
        if len(ranking) == depth:
            break
    # What came into the collection since the gallery was read is not judged.
    graded = [
        (int(grades[gallery.index[parent]]) if parent in gallery.index else IGNORED, hit)
        for parent, hit in ranking.items()
    ]
    ranks = relevant_ranks([grade for grade, _ in graded], [hit.score for _, hit in graded])
    places = depth - sum(grade == IGNORED for grade, _ in graded)
    right = next((hit for grade, hit in graded if grade == RELEVANT), None)
    wrong = next((hit for grade, hit in graded if grade == NEGATIVE), None)
    first = int(ranks[0]) if len(ranks) else 0
    rightness = np.where(grades == RELEVANT, judgement.rightness, -np.inf)
    return Outcome(
        query,
        tuple(int(rank) for rank in ranks),
        relevant,
        places,
        places < most and len(graded) == depth,
        bool(result.hits),
        judgement.facts,
        replace(right, rank=first) if right is not None else None,
        replace(wrong, rank=1) if wrong is not None and first != 1 else None,
        gallery.items[int(np.argmax(rightness))],
    )
