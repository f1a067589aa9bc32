"""Asking a collection: queries, tracks, clusters, and how often answers are right, each as one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter, asked
from outcrop.schema.places import place

if TYPE_CHECKING:
    from outcrop.library import OpenCollection
    from outcrop.query.answers import Results
    from outcrop.query.clusters.run import Found
    from outcrop.query.evaluation.figures import Evaluation
    from outcrop.query.search import Grouping
    from outcrop.query.tracks.track import Track
    from outcrop.query.verification.match import PairMatch

Where = str | Sequence[str] | Filter
"""Conditions as in `--where` ("altitude=200..400", or several), or a filter made of values."""
Paths = str | Path | Sequence[str | Path]
Reranked = bool | Literal["geometric", "expanded"]
"""Whether and how hits are verified: True is "geometric"."""


def query_images(
    collection: OpenCollection,
    pictures: Paths,
    k: int = 10,
    where: Where = (),
    *,
    exclude_self: bool = False,
    group: Grouping = "auto",
    rotations: int = 0,
    rerank: Reranked = False,
    locate: bool = False,
) -> Results:
    """The best `k` items for each picture; folders stand for the pictures in them.

        outcrop.query_images(collection, "query.jpg", k=5, where="altitude=200..400")

    `exclude_self` leaves out items made of the very same file, `group` puts hits together by photograph ("parent", "none",
    "auto"), `rotations` asks with each picture turned to that many angles, `rerank` puts the hits first that geometry
    verifies (the registry says where their photographs are; "expanded" then searches again with these), and `locate` also
    estimates where each was taken. A picture that cannot be read has an `error`.

    Raises:
        InputError: no such file, or a condition is wrong. PictureError: the only picture cannot be read.
    """
    from outcrop.query.rerank_plan import RerankPlan, asks_again, hits_to_search, reranker
    from outcrop.query.search import query_images as ask

    plan = RerankPlan.of(None, None, expand=rerank == "expanded") if rerank or locate else None
    found = ask(
        _paths(pictures),
        collection.encoder,
        collection.stored,
        hits_to_search(plan, k),
        _filter(where),
        exclude_self=exclude_self,
        group=group,
        turns=rotations,
        locate=locate,
        assumed=collection.settings.assumed,
        expandable=asks_again(plan),
    )
    with reranker(plan, k, collection.stored, collection.settings, collection.encoder, locate=locate) as step:
        return step(found)


def query_items(
    collection: OpenCollection, keys: str | Sequence[str], k: int = 10, where: Where = (), *, exclude_self: bool = True
) -> Results:
    """The best `k` items for each stored item, named by its key; opens no model.

        outcrop.query_items(collection, "image/jamshill_image/250918092555_300/0012")

    `exclude_self` leaves out whatever was made of the same photograph or specimen.

    Raises:
        InputError: a key is not in the collection.
    """
    from outcrop.query.search import query_items as ask

    names = [keys] if isinstance(keys, str) else list(keys)
    return ask(names, collection.stored, k, _filter(where), exclude_self=exclude_self)


def query_dataset(
    collection: OpenCollection,
    name: str,
    k: int = 10,
    where: Where = (),
    *,
    kind: str = "image",
    exclude_self: bool = True,
) -> Iterable[Results]:
    """The best `k` items for every stored item of a dataset, in batches, so that memory does not grow with it.

        for batch in outcrop.query_dataset(collection, "jamshill_image", k=3):
            print(batch.results[0].hits[0].item.key)

    Raises:
        InputError: the collection holds nothing of this dataset and kind.
    """
    from outcrop.query.search import query_dataset as ask
    from outcrop.schema.item import Kind

    return ask(name, collection.stored, k, _filter(where), kind=Kind(kind), exclude_self=exclude_self)


def find_track(
    collection: OpenCollection,
    place: str | Path,
    where: Where = (),
    *,
    order: Literal["auto", "time", "name"] = "auto",
    every: float = 1.0,
    max_speed: float | None = None,
) -> Track:
    """The path of a flight whose pictures do not say where they were taken: a folder of them, or a film.

        for frame in outcrop.find_track(collection, "flight").frames:
            print(frame.frame.name, frame.status, frame.place, frame.spread)

    Every picture is located by its verified hits, photographs with GPS or tiles of a map, and all are joined by how an aircraft
    moves (`max_speed` in metres a second). `every` are the seconds between two frames of a film, or between photographs that
    state no time; `order` as in `query track`. A picture that cannot be read is bridged, and its `reason` says why.

    Raises:
        InputError: there is no such folder, or fewer than two pictures; a condition is wrong. PictureError: the film cannot be
            read.
    """
    from outcrop.query.tracks.frames import list_frames
    from outcrop.query.tracks.motion import Limits
    from outcrop.query.tracks.track import Asking
    from outcrop.query.tracks.track import find_track as find

    frames = list_frames(Path(place), order, every)
    limits = Limits() if max_speed is None else Limits(speed=max_speed)
    asking = Asking(_filter(where))
    return find(frames, collection.encoder, collection.stored, collection.settings, asking, limits)


def query_specimens(
    collection: OpenCollection,
    names: Paths,
    k: int = 10,
    where: Where = (),
    *,
    by: str = "pooled",
    exclude_self: bool = False,
) -> Results:
    """The best `k` specimens for each mesh file, folder of meshes, key of a stored specimen, or photograph of one.

        outcrop.query_specimens(collection, "new.ply", k=3)

    `by` compares "pooled" vectors, or the best pairs of "views".

    Raises:
        InputError: a name is neither a file nor a key, or there are no specimens. MeshError: the only mesh cannot be read.
    """
    from outcrop.query.specimen import query_specimens as ask

    return ask(
        [str(path) for path in _paths(names)],
        collection.stored,
        lambda: collection.encoder,
        k,
        _filter(where),
        by=by,
        exclude_self=exclude_self,
    )


def match(query: str | Path, candidate: str | Path, *, min_inliers: int | None = None) -> PairMatch:
    """Whether two pictures show the same ground: matching SIFT features, and the homography between them.

        outcrop.match("a.jpg", "b.jpg").match

    Raises:
        PictureError: one of them cannot be read.
    """
    from outcrop.query.verification.confidence import MIN_INLIERS
    from outcrop.query.verification.match import match_pair
    from outcrop.query.verification.verifier import Verifier

    with Verifier() as verifier:
        return match_pair(place(query), place(candidate), verifier, min_inliers=min_inliers or MIN_INLIERS)


def cluster(collection: OpenCollection, where: Where = "kind=specimen", **recipe: Any) -> Found:
    """Groups of items that are alike, with exemplars, outliers and figures; `recipe` as in `query cluster`.

        outcrop.cluster(collection, method="hdbscan", min_cluster_size=5)

    Raises:
        InputError: too few items, or a part of the recipe is not valid.
    """
    from outcrop.query.clusters.cluster import Recipe
    from outcrop.query.clusters.run import cluster_collection

    return cluster_collection(collection.stored, _filter(where), Recipe(**recipe))


def evaluate(
    collection: OpenCollection,
    truth: str | Path = "own",
    *,
    dataset: str | None = None,
    pictures: Paths | None = None,
    where: Where = (),
    kind: str = "image",
    rerank: Reranked = False,
) -> Evaluation:
    """How often answers are right: recall@k, mAP and median rank with confidence intervals.

        outcrop.evaluate(collection, "category", dataset="fossils", kind="specimen")

    The queries are the stored items of `dataset` (of a `kind`) or `pictures`; `truth` is "own", "gps", "category", or a file of
    pairs (CSV) or footprints (JSON). `where` chooses what is searched; `rerank` measures re-ranking by geometry beside it
    ("expanded": also searching again with what it verified).

    Raises:
        InputError: not one of the two kinds of queries is given, or no query can be judged by this truth.
    """
    from outcrop.query.evaluating import Queries, evaluate_queries
    from outcrop.query.evaluation.truth_files import truth_named
    from outcrop.query.rerank_plan import RerankPlan
    from outcrop.schema.item import Kind

    if (dataset is None) == (pictures is None):
        raise InputError("give either dataset or pictures: one of them holds the queries")
    queries = Queries(dataset, _paths(pictures or ()), Kind(kind), filter=_filter(where))
    return evaluate_queries(
        queries,
        truth_named(str(truth)),
        collection.stored,
        collection.settings,
        RerankPlan.of(None, None, expand=rerank == "expanded") if rerank else None,
        encoder=collection.encoder if pictures is not None else None,
    )


def where(*texts: str, raw: str = "") -> Filter:
    """A filter from conditions as on the command line, on fields and on the collection's own columns; all of them must hold.

        outcrop.where("altitude=200..400", "age_ma=100..200")

    Raises:
        FilterError: a text is not a condition, or a value of another type than its field; own columns are known to a
            collection, which says so when it is asked.
    """
    return asked(*texts, raw=raw)


def _paths(paths: Paths) -> list[Path]:
    return [place(paths)] if isinstance(paths, str | Path) else [place(path) for path in paths]


def _filter(where: Where) -> Filter:
    if isinstance(where, Filter):
        return where
    return asked(where) if isinstance(where, str) else asked(*where)
