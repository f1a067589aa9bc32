"""Which specimens look like this one: asked with a mesh, with a stored specimen, or with a photograph of one.

Two ways to compare: ``pooled``, one vector against one; and ``views``, the best pairs of views averaged (see `view_sets`).
Answers are specimens.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.crops import prepare
from outcrop.embed.images import Decoded, decode, thumbnail
from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.pooling import Pool, pooled
from outcrop.embed.protocol import PictureEncoder
from outcrop.query.answers import Hit, Query, Result, Results
from outcrop.query.held import explained, require_held
from outcrop.query.keys import full_keys
from outcrop.query.pictures import SUFFIXES as PICTURES
from outcrop.query.view_sets import asked_views, by_views, likeness, specimen_views
from outcrop.render.preflight import SUFFIXES as MESHES
from outcrop.render.preflight import is_mesh
from outcrop.render.views import ViewSpec
from outcrop.render.workers import Workers
from outcrop.schema.digests import SourceDigest, digest_of
from outcrop.schema.errors import InputError, MeshError, PictureError
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import Item, Kind, item_id, parent_of
from outcrop.schema.places import place
from outcrop.store.collection import Collection
from outcrop.store.search import MAX_HITS, Plan, search
from outcrop.store.search import Hit as StoredHit

DEPTH = 8
"""How many times as many specimens as are wanted are compared view by view."""
MIN_VIEWS = 100
"""Stored views that each view of the query is given at least, to find specimens worth comparing."""
TOGETHER = 16
"""Queries that are asked in one search."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class _Asked:
    """One query: its views' vectors [P, V, D] in each pose that it may be in, those pooled [P, D], and the specimen (key) that
    is the query itself."""

    query: Query
    views: Vectors
    whole: Vectors
    itself: str = ""


_Answer = Callable[..., tuple[list[tuple[Hit, ...]], Plan]]
"""`_by_whole` or `_by_views`."""


def query_specimens(
    names: Sequence[str],
    collection: Collection,
    open_encoder: Callable[[], PictureEncoder],
    k: int = 10,
    filter: Filter | None = None,
    *,
    by: str = "pooled",
    exclude_self: bool = False,
    exact: bool = False,
    workers: int | Workers = 1,
) -> Results:
    """The best `k` specimens for each name: a mesh file, a folder of them, a photograph, or the key of a stored specimen or its
    end (`keys.py`).

    Meshes are drawn as the specimens under the filter were. `filter` is about specimens, or with ``by="views"`` about the views
    that are compared (`view=0..5`). `exclude_self` leaves out the specimen itself, or those made of the very same file. What
    cannot be read or drawn gets an `error` instead of hits, and the others are still asked. `open_encoder` is called if a mesh
    or a photograph is among the names; `workers` is how many processes draw, or those that do and stay.

    Raises:
        InputError: a name is neither file nor key, or the collection holds no specimens under the filter.
        MeshError, PictureError: the only query cannot be read.
    """
    answer = _by_views if by_views(by) else _by_whole
    filter = collection.bound(filter or Filter())
    if filter.chosen("kind") is not None:
        raise InputError("--by chooses between specimens and views; leave kind= out of --where")
    paths, ends = _sorted_out(names)
    require_held(filter, collection)
    keys = full_keys(ends, collection, (Kind.SPECIMEN,))
    begun = time.perf_counter()
    asked: dict[str, _Asked | str] = {}
    if paths:
        encoder = open_encoder()
        collection.require(encoder.space)
        with _drawing(workers, len(paths)) as pool:
            look, how = stored_look(collection, filter.without("view"))
            for path in paths:
                asked[str(path)] = _read(path, look, how, encoder, pool)
    asked |= _stored(keys, collection)
    errors = [entry for entry in asked.values() if isinstance(entry, str)]
    if errors and len(asked) == 1:
        raise (PictureError if next(iter(asked)).lower().endswith(tuple(PICTURES)) else MeshError)(errors[0])
    embedded = time.perf_counter()
    good = {name: entry for name, entry in asked.items() if not isinstance(entry, str)}
    hits, plan = _answered(good, answer, collection, k, filter, exclude_self, exact)
    results = tuple(
        Result(Query(name), error=entry) if isinstance(entry, str) else Result(entry.query, hits[name])
        for name, entry in asked.items()
    )
    timings = {"embed": embedded - begun, "search": time.perf_counter() - embedded}
    answers = Results(collection.name, plan, results, timings)
    kind = Kind.VIEW if by == "views" else Kind.SPECIMEN
    return explained(answers, filter & equals("kind", str(kind)), collection)


def _answered(
    asked: Mapping[str, _Asked], answer: _Answer, collection: Collection, *how: Any
) -> tuple[dict[str, tuple[Hit, ...]], Plan | None]:
    """The answers to all queries by name, several asked in one search, and the last plan that ran."""
    hits: dict[str, tuple[Hit, ...]] = {}
    plan: Plan | None = None
    names = list(asked)
    for start in range(0, len(names), TOGETHER):
        some = names[start : start + TOGETHER]
        found, plan = answer([asked[name] for name in some], collection, *how)
        hits |= dict(zip(some, found, strict=True))
    return hits, plan


def _drawing(workers: int | Workers, files: int) -> AbstractContextManager[Workers]:
    """Who draws: new processes that end with the question, or given ones that stay."""
    return Workers(min(workers, files)) if isinstance(workers, int) else nullcontext(workers)


def stored_look(collection: Collection, filter: Filter | None = None) -> tuple[ViewSpec, Pool]:
    """How most specimens under a filter were looked at, and how their views were pooled.

    Raises:
        InputError: there are none.
    """
    names = [f"look_{field.name}" for field in fields(ViewSpec)]
    seen: Counter[tuple[Any, ...]] = Counter()
    for rows in collection.scan_rows((filter or Filter()) & equals("kind", str(Kind.SPECIMEN)), ["id", "pool", *names]):
        seen.update(tuple(row.get(name) for name in ("pool", *names)) for row in rows)
    for (how, *values), _ in seen.most_common():
        look = ViewSpec.of_extra(dict(zip(names, values, strict=True)))
        if look is not None and how is not None:
            return look, how
    raise InputError(
        f"collection {collection.name!r} holds no specimens that fit; `ingest specimens DIR` first, or widen --where"
    )


def _sorted_out(names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Files, and what must be keys of specimens or ends of them, in their order.

    Raises:
        InputError: there is no such file, or no mesh in a folder.
    """
    paths: list[Path] = []
    keys: list[str] = []
    for name in names:
        path = place(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if is_mesh(p) and p.is_file())
            if not inside:
                raise InputError(f"the folder {path} holds no mesh ({', '.join(sorted(MESHES))})")
            paths += inside
        elif is_mesh(path) or path.suffix.lower() in PICTURES:
            if not path.is_file():
                raise InputError(f"no file at {path}; check the path")
            paths.append(path)
        else:
            keys.append(parent_of(name))
    return paths, keys


def _read(path: Path, look: ViewSpec, how: Pool, encoder: PictureEncoder, workers: Workers) -> _Asked | str:
    """A file as a query, or what is wrong with it."""
    try:
        data = path.read_bytes()
        if path.suffix.lower() in PICTURES:
            decoded = decode(data, name=str(path), at_least=encoder.space.size)
            first, metadata = decoded.image, decoded.metadata
            pixels = [prepare(decoded, encoder.space)]
        else:
            pictures = [Image.fromarray(view) for view in workers.views(path, look, every=True)]
            first, metadata = pictures[0], None
            pixels = [prepare(Decoded(one, one.width, one.height, PhotoMetadata()), encoder.space) for one in pictures]
        vectors = encoder.encode(np.stack(pixels))
        vectors = vectors.reshape(-1, min(len(vectors), look.views), vectors.shape[1])
        digest = digest_of(data)
        whole = np.stack([pooled(of_pose, how) for of_pose in vectors])
        return _Asked(Query(str(path), digest, thumbnail(first), metadata), vectors, whole)
    except (MeshError, PictureError) as error:
        return str(error)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"


def _stored(keys: Sequence[str], collection: Collection) -> dict[str, _Asked | str]:
    """Stored specimens as queries."""
    found = collection.items([item_id(key) for key in keys])
    items = [found[item_id(key)][0] for key in keys]
    vectors = np.asarray([found[item_id(key)][1] for key in keys])
    asked: dict[str, _Asked | str] = {}
    for key, item, vector, views in zip(keys, items, vectors, asked_views(collection, items, vectors), strict=True):
        query = Query(key, SourceDigest.parse(item.source_digest).file, item=item)
        asked[key] = _Asked(query, views[None], vector[None], key)
    return asked


def _by_whole(
    asked: Sequence[_Asked], collection: Collection, k: int, filter: Filter, exclude_self: bool, exact: bool
) -> tuple[list[tuple[Hit, ...]], Plan]:
    wider = min(MAX_HITS, k + 8) if exclude_self else k
    of_specimens = filter & equals("kind", str(Kind.SPECIMEN))
    answer = search(collection, np.concatenate([one.whole for one in asked]), wider, of_specimens, exact=exact)
    found = []
    for one, hits in zip(asked, _of_each(answer.hits, [len(one.whole) for one in asked]), strict=True):
        best: dict[str, tuple[float, Item]] = {}
        for hit in hits:
            if not (exclude_self and _is_itself(hit.item, one)):
                known = best.get(hit.item.key, (-2.0, hit.item))
                best[hit.item.key] = max((hit.score, hit.item), known, key=lambda it: it[0])
        found.append(_ranked(list(best.values()), k))
    return found, answer.plan


def _by_views(
    asked: Sequence[_Asked], collection: Collection, k: int, filter: Filter, exclude_self: bool, exact: bool
) -> tuple[list[tuple[Hit, ...]], Plan]:
    """Specimens with a view near one of the query's, then compared view by view, all their views with all of the query's."""
    of_views = filter & equals("kind", str(Kind.VIEW))
    depth = min(MAX_HITS, max(MIN_VIEWS, DEPTH * k))
    vectors = [np.concatenate(one.views) for one in asked]
    answer = search(collection, np.concatenate(vectors), depth, of_views, exact=exact)
    chosen = [_nearest(hits, k) for hits in _of_each(answer.hits, [len(some) for some in vectors])]
    stored = collection.items(list(dict.fromkeys(item_id(key) for keys in chosen for key in keys)))
    # Views without their specimen are those of an ingest that was interrupted.
    specimens = {item.key: item for item, _ in stored.values()}
    typed = Filter(filter.conditions)  # a raw expression has had its say in choosing the candidates
    compared = {
        item.key: vectors[[typed.matches(view.row()) for view in views]] if views else vectors
        for item, (views, vectors) in zip(
            specimens.values(), specimen_views(collection, list(specimens.values())), strict=True
        )
    }
    found = []
    for one, keys in zip(asked, chosen, strict=True):
        there = [specimens[key] for key in keys if key in specimens and len(compared[key])]
        others = [item for item in there if not (exclude_self and _is_itself(item, one))]
        alike = [max(likeness(of_pose, compared[item.key]) for of_pose in one.views) for item in others]
        found.append(_ranked(list(zip(alike, others, strict=True)), k))
    return found, answer.plan


def _nearest(hits: Sequence[StoredHit], k: int) -> list[str]:
    """The specimens that are worth comparing whole: provisionally, one is as good as its best pair of views."""
    best: dict[str, float] = {}
    for hit in hits:
        key = parent_of(hit.item.key)
        best[key] = max(best.get(key, -1.0), hit.score)
    return sorted(best, key=lambda key: (-best[key], key))[: max(DEPTH * k, 32)]


def _of_each(hits: Sequence[Sequence[StoredHit]], counts: Sequence[int]) -> Iterator[list[StoredHit]]:
    """The hits of each query's vectors together; `counts` says how many vectors each has."""
    some = iter(hits)
    for count in counts:
        yield [hit for of_one in itertools.islice(some, count) for hit in of_one]


def _is_itself(item: Item, asked: _Asked) -> bool:
    digest = asked.query.digest  # '' for a specimen whose file is not known
    return item.key == asked.itself or (bool(digest) and SourceDigest.parse(item.source_digest).file == digest)


def _ranked(scored: Sequence[tuple[float, Item]], k: int) -> tuple[Hit, ...]:
    best = sorted(scored, key=lambda entry: (-entry[0], entry[1].key))[:k]
    return tuple(Hit(rank, score, item) for rank, (score, item) in enumerate(best, start=1))
