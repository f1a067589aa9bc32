"""An evaluation from beginning to end: queries from a dataset or from picture files, answered, re-ranked and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.query.answers import Results
from outcrop.query.evaluation.against import compared, measured, read_measured
from outcrop.query.evaluation.evaluate import CUTOFFS, counts_own, evaluate, hits_for, too_few
from outcrop.query.evaluation.figures import Bootstrap, Evaluation
from outcrop.query.evaluation.gallery import read_gallery
from outcrop.query.evaluation.strategies import in_steps, picture_answers
from outcrop.query.evaluation.truth import Truth
from outcrop.query.held import require_held
from outcrop.query.pictures import NOTHING_ASSUMED, expand
from outcrop.query.rerank_plan import RerankPlan, asks_again, hits_to_search, reranker
from outcrop.query.search import query_dataset
from outcrop.query.view_sets import specimens_by_views
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter
from outcrop.schema.ground import Footing
from outcrop.schema.item import Kind
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder


@dataclass(frozen=True)
class Queries:
    """What is searched with: the stored items of `dataset` of a `kind`, or `pictures` (files and folders); one of the two.

    `filter` is the gallery's. With `turns`, pictures are also rotated to that many angles, and with `by_views` specimens are also
    compared view by view, each as a strategy of its own.
    """

    dataset: str | None = None
    pictures: Sequence[Path] = ()
    kind: Kind = Kind.IMAGE
    limit: int | None = None
    filter: Filter | None = None
    turns: int = 0
    exact: bool = False
    by_views: bool = False

    def answers(
        self,
        collection: Collection,
        encoder: Encoder | None,
        k: int,
        assumed: Footing = NOTHING_ASSUMED,
        *,
        expandable: bool = False,
    ) -> dict[str, Iterable[Results]]:
        """The best `k` items for each query, in batches, by strategy; pictures need the `encoder`, and are as `assumed` where
        they do not say their scale. Results that are `expandable` can be asked again."""
        if encoder is None:
            return self._stored_answers(collection, k, expandable=expandable)
        asked = (expand(self.pictures), encoder, collection, k, self.filter)
        how: dict[str, Any] = {"exact": self.exact, "assumed": assumed, "expandable": expandable}
        made: dict[str, Iterable[Results]] = {"embedding": picture_answers(*asked, **how)}
        if self.turns:
            turned = picture_answers(*asked, turns=self.turns, **how)
            made[f"{self.turns} turns"] = turned
        return made

    def _stored_answers(self, collection: Collection, k: int, *, expandable: bool) -> dict[str, Iterable[Results]]:
        name = self.dataset or ""
        how: dict[str, Any] = {"kind": self.kind, "limit": self.limit, "exact": self.exact, "expandable": expandable}
        stored = query_dataset(name, collection, k, self.filter, group="none", **how)
        made: dict[str, Iterable[Results]] = {"embedding": stored}
        if self.by_views:
            made["views"] = specimens_by_views(name, collection, k, self.filter, limit=self.limit)
        return made


def side_by_side(
    queries: Queries,
    truth: Truth,
    collection: Collection,
    settings: Settings,
    plan: RerankPlan | None = None,
    *,
    against: Sequence[str] = (),
    encoder_of: Callable[[Collection], Encoder] | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
    count_own: bool | None = None,
    progress: Callable[[int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Evaluation:
    """As `evaluate_queries`, compared with what `against` names: other collections of the same store, and evaluations that were
    kept as JSON (….json). `encoder_of` opens a collection's encoder, where pictures are asked.

    Raises:
        InputError: a collection or file is missing, or is not what it should be. Refused: they are not measured alike.
    """

    def measure(one: Collection) -> Evaluation:
        return evaluate_queries(
            *(queries, truth, one, settings, plan),
            encoder=encoder_of(one) if encoder_of is not None else None,
            cutoffs=cutoffs,
            count_own=count_own,
            progress=progress,
            warn=warn,
        )

    kept = [read_measured(Path(each)) for each in against if each.endswith(".json")]
    others = [_beside(collection, each) for each in against if not each.endswith(".json")]
    found = measure(collection)
    return compared(found, [*(measured(measure(other)) for other in others), *kept])


def _beside(collection: Collection, name: str) -> Collection:
    other = Collection.open(collection.store, name)
    if other.physical == collection.physical:
        raise InputError(f"--against {name} is the collection that is evaluated; name another, or a ….json of --json")
    return other


def evaluate_queries(
    queries: Queries,
    truth: Truth,
    collection: Collection,
    settings: Settings,
    plan: RerankPlan | None = None,
    *,
    encoder: Encoder | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
    count_own: bool | None = None,
    progress: Callable[[int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Evaluation:
    """Asks the queries, re-ranks by `plan`, and judges the answers; depth and bootstrap are the settings'.

    `warn` is given what limits the figures. Raises as `outcrop.query.evaluation.evaluate.evaluate` does.
    """
    require_held(queries.filter, collection)
    gallery = read_gallery(collection, queries.filter)
    own_counted = counts_own(truth, count_own)
    depth = hits_to_search(plan, settings.evaluate_depth)
    k = hits_for(depth, gallery)
    if warn is not None and (short := too_few(depth, gallery)):
        warn(short)
    answers = queries.answers(collection, encoder, k, settings.assumed, expandable=asks_again(plan))
    with ExitStack() as stack:
        named = {} if plan is None else plan.strategies
        steps = {
            name: stack.enter_context(reranker(each, k, collection, settings, encoder)) for name, each in named.items()
        }
        return evaluate(
            in_steps(answers, gallery, own_counted, steps),
            truth,
            gallery,
            depth=settings.evaluate_depth,
            cutoffs=cutoffs,
            count_own=own_counted,
            bootstrap=Bootstrap(settings.evaluate_resamples, settings.seed),
            progress=progress,
        )
