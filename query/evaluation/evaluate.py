"""How often answers are right: one or several ways to search, compared with a truth.

A way to search (a strategy) is whatever gives `Results`: stored vectors, pictures, re-ranked or turned. Hits are put together by
parent (the photograph or specimen), the query's own is left out where another one is wanted, and every query counts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from outcrop.query.answers import Hit, Result, Results
from outcrop.query.evaluation.figures import Answer, Bootstrap, Evaluation, Outcome, strategy_figures
from outcrop.query.evaluation.gallery import Gallery
from outcrop.query.evaluation.measures import IGNORED, NEGATIVE, RELEVANT, relevant_ranks
from outcrop.query.evaluation.truth import Truth
from outcrop.schema.errors import InputError
from outcrop.schema.item import parent_of
from outcrop.store.search import MAX_HITS

if TYPE_CHECKING:
    from outcrop.query.expansion import Again

CUTOFFS = (1, 5, 10, 20)
DEPTH = 100
NOTHING_RELEVANT = "the gallery holds nothing relevant for it"


def hits_for(depth: int, gallery: Gallery) -> int:
    """How many hits a search must give so that `depth` parents and the query's own are among them, at worst."""
    return min(MAX_HITS, (depth + 1) * max(gallery.rows))


def too_few(depth: int, gallery: Gallery) -> str:
    """The remark where `hits_for` exceeds what a search returns; '' where it does not."""
    wanted = (depth + 1) * max(gallery.rows)
    if wanted <= MAX_HITS:
        return ""
    return (
        f"a parent has up to {max(gallery.rows):,} rows here, and a search gives {MAX_HITS:,} hits at most: a ranking may end "
        f"before {depth} parents; narrow the gallery (--where), or give --depth {max(1, MAX_HITS // max(gallery.rows) - 1)}"
    )


def evaluate(
    batches: Iterable[Mapping[str, Results]],
    truth: Truth,
    gallery: Gallery,
    *,
    depth: int = DEPTH,
    cutoffs: Sequence[int] = CUTOFFS,
    count_own: bool | None = None,
    bootstrap: Bootstrap = Bootstrap(),
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Figures of each strategy over the queries that the truth can judge and every strategy could answer.

    A batch has each strategy's answers to the same queries, by the strategy's name, with enough hits for `depth` parents beside
    the query's own (`hits_for`). `count_own`: whether the query's own photograph is an answer like any other (`counts_own`).
    `progress` gets the number of queries done.

    Raises:
        InputError: a cutoff is beyond the depth, or not one query can be counted.
    """
    cutoffs = tuple(sorted(set(cutoffs)))
    if not cutoffs or cutoffs[0] < 1 or cutoffs[-1] > depth:
        raise InputError(f"recall is cut at ranks from 1 to --depth ({depth}), not at {', '.join(map(str, cutoffs))}")
    own_counted = counts_own(truth, count_own)
    collection, done = "", 0
    outcomes: dict[str, dict[str, Outcome]] = {}
    seconds: dict[str, float] = {}
    left_out: dict[str, str] = {}
    unreadable: set[str] = set()
    for batch in batches:
        for name, answers in batch.items():
            collection = answers.collection
            seconds[name] = seconds.get(name, 0.0) + sum(answers.timings.values())
            of_strategy = outcomes.setdefault(name, {})
            for result in answers.results:
                query = result.query.name
                outcome = judged(result, truth, gallery, depth, cutoffs[-1], own_counted)
                if isinstance(outcome, Outcome):
                    of_strategy[query] = outcome
                else:
                    left_out[query] = outcome
                    unreadable |= {query} if result.error else set()
        done += max((len(answers.results) for answers in batch.values()), default=0)
        if progress is not None:
            progress(done)
    # A query that one strategy could not run counts for none: otherwise they would be measured on different queries.
    asked = [set(of_strategy) for of_strategy in outcomes.values()]
    common = sorted(set.intersection(*asked) - set(left_out)) if asked else []
    if not common:
        reasons = list(dict.fromkeys(left_out.values()))[:3]
        raise InputError(f"no query can be counted: {'; '.join(reasons) or 'there were no queries'}")
    baseline: list[Outcome] | None = None
    figures = []
    for name, of_strategy in outcomes.items():
        counted = [of_strategy[query] for query in common]
        figures.append(strategy_figures(name, counted, cutoffs, bootstrap, seconds[name], baseline))
        baseline = counted if baseline is None else baseline
    return Evaluation(
        collection,
        truth.describe(),
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


def counts_own(truth: Truth, count_own: bool | None = None) -> bool:
    """Whether the query's own photograph is an answer like any other: by default only where it is what the truth asks for.

    Raises:
        InputError: it is to be left out although it is what the truth asks for.
    """
    sought = truth.describe()["kind"] == "own"
    if sought and count_own is False:
        raise InputError("--truth own looks for the query's own photograph, which cannot be left out")
    return sought if count_own is None else count_own


def without_own(answers: Results, gallery: Gallery, own_counted: bool) -> Results:
    """The answers without what `judged` takes out of them in any case: a re-ranking need not look at it.

    That is the item which is the query, and all of its own parent unless that counts.
    """

    def kept(result: Result) -> tuple[Hit, ...]:
        query = result.query
        own = gallery.own(query.item, query.digest)
        unwanted = gallery.parents[own] if own is not None and not own_counted else None
        return tuple(
            hit
            for hit in result.hits
            if parent_of(hit.item.key) != unwanted and (query.item is None or hit.item.key != query.item.key)
        )

    def again(result: Result) -> Again | None:
        once = result.again
        if once is None:
            return None
        search, deeper = once.search, once.deeper
        return replace(
            once,
            search=lambda vector: kept(replace(result, hits=search(vector))),
            deeper=None if deeper is None else lambda count: kept(replace(result, hits=deeper(count))),
        )

    made = (replace(result, hits=kept(result), again=again(result)) for result in answers.results)
    return replace(answers, results=tuple(made))


def judged(result: Result, truth: Truth, gallery: Gallery, depth: int, most: int, own_counted: bool) -> Outcome | str:
    """What became of one query, or why it cannot be counted.

    The item that is the query itself does not count as an answer; hits of one parent are one answer, the best of them; the
    query's own parent is taken out unless it counts; the ranking is cut at `depth` parents; then what is ignored is taken out.
    """
    if result.error:
        return result.error
    query = result.query
    judgement = truth.judge(query, gallery)
    if judgement.reason:
        return judgement.reason
    grades, own = judgement.grades.copy(), judgement.own
    if own is not None and not (own_counted and gallery.others(own, query.item)):
        grades[own] = IGNORED  # it does not count, or cannot be found
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
    ranks = relevant_ranks([grade for grade, _ in graded], [_standing(result, hit) for _, hit in graded])
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
        _answer(result, right, first) if right is not None else None,
        _answer(result, wrong, 1) if wrong is not None and first != 1 else None,
        gallery.items[int(np.argmax(rightness))],
        None if result.match is None else result.matched,
    )


def _standing(result: Result, hit: Hit) -> float:
    """What a hit is ranked by, as one number: its score, or first what it is verified by where it was re-ranked."""
    verification = result.verification(hit)
    if verification is None:
        return hit.score
    verified, evidence, score = verification.order(hit.score)
    return 1e7 * verified + 1e6 * evidence + score  # evidence lies between 0 and 1, scores between -1 and 1


def _answer(result: Result, hit: Hit, rank: int) -> Answer:
    verification = result.verification(hit)
    inliers = verification.match.inliers if verification is not None and verification.match is not None else None
    return Answer(hit.item, rank, hit.score, inliers)
