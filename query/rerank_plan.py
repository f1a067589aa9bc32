"""Re-ranking as a command asks for it: a plan, and the step that carries it out (`outcrop.query.rerank`) with its caches open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from outcrop.query.answers import Hit, Result, Results, first_hits
from outcrop.query.rerank import Reranking, rerank
from outcrop.query.verification.confidence import least_inliers
from outcrop.schema.item import Item, Kind
from outcrop.schema.settings import Settings
from outcrop.store.maps import MAPS

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder
    from outcrop.query.expansion import Again
    from outcrop.query.verification.features import LocalFeatures
    from outcrop.query.verification.map_tiles import MapTiles
    from outcrop.query.verification.verifier import Verifier
    from outcrop.store.collection import Collection

Step = Callable[[Results], Results]
WINDOW_FIELDS = ("window", "width", "height")
"""What a tile's row says of the part of the map that it shows."""


@dataclass(frozen=True)
class RerankPlan:
    """How to re-rank, and by which local features ("sift", or "patch": patch tokens of the collection's model)."""

    how: Reranking
    features: str = "sift"

    @classmethod
    def of(
        cls, depth: int | None, min_inliers: int | None, features: str = "sift", *, expand: bool = False
    ) -> RerankPlan:
        """The plan with defaults where None is given; with `min_inliers` given, hits below are left out; `expand` searches again
        with verified hits."""
        return cls(
            Reranking(
                Reranking().depth if depth is None else depth,
                least_inliers(features) if min_inliers is None else min_inliers,
                abstain=min_inliers is not None,
                expand=expand,
            ),
            features,
        )

    @property
    def expands(self) -> bool:
        """Whether verified hits are searched with."""
        return self.how.expand

    @property
    def strategies(self) -> dict[str, RerankPlan]:
        """What an evaluation measures beside the embedding, by name."""
        plain = replace(self, how=replace(self.how, expand=False))
        return {"geometric": plain, "expanded": self} if self.expands else {"geometric": self}


def asks_again(plan: RerankPlan | None) -> bool:
    """Whether a search must be such that it can be asked again: for more hits, or with verified ones."""
    return plan is not None


def hits_to_search(plan: RerankPlan | None, k: int) -> int:
    """How many hits to search for, so that re-ranking has enough candidates."""
    return k if plan is None else max(k, plan.how.depth)


@contextmanager
def reranker(
    plan: RerankPlan | None,
    k: int,
    collection: Collection,
    settings: Settings,
    encoder: Encoder | None = None,
    *,
    locate: bool = False,
    places: int = 1,
) -> Iterator[Step]:
    """The step that re-ranks answers of a collection, locates the queries where `locate` (at up to so many `places`), and keeps
    the first `k` hits.

    Without a `plan` it changes nothing. Without an `encoder`, patch tokens open the collection's own when they need it.

    Raises:
        RegistryError: the registry, which says where the pictures are, cannot be read.
    """
    if plan is None:
        yield lambda results: results
        return
    from outcrop.query.locating import locate_all
    from outcrop.query.map_locating import MapLocator
    from outcrop.query.verification.originals import Originals

    how = replace(plan.how, reach=settings.rerank_reach)
    originals = Originals.of_collection(collection, settings)
    opened, kept = _verifier(plan, collection, settings, encoder)
    with opened as verifier, _map_tiles(verifier, collection) as tiles, closing(MapLocator(tiles)) as maps:

        def at_hand(item: Item) -> LocalFeatures | str | None:
            if item.kind is Kind.TILE:
                return tiles.features(item)
            found: LocalFeatures | None = kept(item) if kept is not None else None
            return found

        def step(results: Results) -> Results:
            results = _with_windows(results, collection)
            ranked = rerank(results, verifier, originals, how, kept=at_hand)
            return first_hits(locate_all(ranked, maps, places) if locate else ranked, k)

        yield step


def _with_windows(results: Results, collection: Collection) -> Results:
    """The same answers, with what the rows of tiles say of their windows: large searches bring the fields alone."""
    described = _windows([hit for result in results.results for hit in result.hits], collection)

    def again(result: Result) -> Again | None:
        if result.again is None or result.again.deeper is None:
            return result.again
        deeper = result.again.deeper

        def described_deeper(count: int) -> tuple[Hit, ...]:
            hits = deeper(count)
            return tuple(map(_windows(hits, collection), hits))

        return replace(result.again, deeper=described_deeper)

    made = (replace(each, hits=tuple(map(described, each.hits)), again=again(each)) for each in results.results)
    return replace(results, results=tuple(made))


def _windows(hits: Sequence[Hit], collection: Collection) -> Callable[[Hit], Hit]:
    """What adds to each of these hits what its row says of the window of a tile."""
    bare = {hit.item.id for hit in hits if hit.item.kind is Kind.TILE and "window" not in hit.item.extra}
    rows = collection.lookup(sorted(bare), fields=WINDOW_FIELDS) if bare else {}

    def described(hit: Hit) -> Hit:
        row = rows.get(hit.item.id)
        if row is None:
            return hit
        said = {name: row[name] for name in WINDOW_FIELDS if name in row}
        return replace(hit, item=replace(hit.item, extra={**hit.item.extra, **said}))

    return described


def _map_tiles(verifier: Verifier, collection: Collection) -> MapTiles:
    """The tiles of a collection's maps, with the cache of the verifier's features."""
    from outcrop.query.verification.map_tiles import MapTiles

    return MapTiles(MAPS.all(collection), verifier.source.extractor, verifier.source.cache)


def _verifier(
    plan: RerankPlan, collection: Collection, settings: Settings, encoder: Encoder | None
) -> tuple[Verifier, Any]:
    """The verifier of a plan, and where it finds kept features (None: nowhere)."""
    from outcrop.query.verification.verifier import Verifier

    extractor, kept = None, None
    if plan.features == "patch":
        from outcrop.embed.feature_files import FeatureFolder
        from outcrop.embed.models import resolve
        from outcrop.embed.opening import open_for_query
        from outcrop.query.verification.patch_tokens import PatchTokens, StoredTokens

        def opened() -> Encoder:
            if encoder is not None:
                return encoder
            return open_for_query(resolve(settings, collection.space, collection.weights_hint), settings)

        extractor = PatchTokens(collection.space, opened)
        kept = StoredTokens(FeatureFolder.below(settings.features_folder, collection.space)).of
    return Verifier.below(settings.state, settings.feature_cache_bytes, extractor), kept
