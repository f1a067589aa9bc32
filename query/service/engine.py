"""What the service asks of a collection: the model warm, one question at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.answers import Query, Result, Results
from outcrop.query.held import datasets, explained, require_held
from outcrop.query.keys import full_keys
from outcrop.query.listing import Page
from outcrop.query.rerank_plan import RerankPlan, asks_again, hits_to_search, reranker
from outcrop.query.search import ask, query_images, query_items
from outcrop.query.service.asked import Asked
from outcrop.query.service.browsing import Browsed, page_by_key, parts_page
from outcrop.query.service.facets import Facets, facets_of
from outcrop.query.service.overview import Overviews
from outcrop.query.service.places import FOOTPRINT
from outcrop.query.service.results import ResultFolder
from outcrop.query.service.tiles import Tiles
from outcrop.query.service.uploads import Upload, Uploads
from outcrop.query.verification.originals import Original, Originals
from outcrop.schema.errors import InputError, MeshError, OutcropError, PictureError
from outcrop.schema.item import Item, Kind, item_id
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.maps import MAPS
from outcrop.store.partitions import holds_kind

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder
    from outcrop.render.workers import Workers

QUEUE = 64
"""Questions that wait at most; the next one is told to come back."""
UNLIKE = 0.5
"""The share of the mean of negative examples that is taken off the mean of the positive ones (Rocchio, 1971, has .15 to .75)."""
DRAWING_SECONDS = 60.0
"""After which the drawing of a mesh is given up: nobody else is answered meanwhile."""
PARTS = 36
"""References or views that the page of an item shows."""
USUAL_SECONDS = 0.5
"""What a question takes, until one has been answered."""

T = TypeVar("T")


class Busy(OutcropError):
    """Too many questions wait; `seconds` is about when there will be room."""

    exit_code = 5

    def __init__(self, waiting: int, seconds: float) -> None:
        super().__init__(f"{waiting} questions wait already; try again in {seconds:.0f} seconds")
        self.seconds = seconds


@dataclass(frozen=True)
class Held:
    """What can be chosen from: the collection's kinds and datasets, and its number of rows."""

    kinds: tuple[str, ...]
    datasets: tuple[str, ...]
    rows: int


class Engine:
    """An open collection and its model. `run` takes work from the event loop; the methods below are that work."""

    def __init__(self, settings: Settings, tiles: Path | None = None) -> None:
        """Opens store, collection and model, and the map that is the background of places.

        Raises:
            OutcropError: as `query image` does.
        """
        from outcrop.embed.models import resolve
        from outcrop.embed.opening import open_for_query

        self.settings = settings
        self.uploads = Uploads(settings.state / "uploads")
        self.thumbnails = ThumbnailStore.below(settings.state)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="questions")
        self._drawing: Workers | None = None
        self._waiting = 0
        self._seconds = USUAL_SECONDS
        self.tiles = Tiles(tiles) if tiles is not None else None
        self._store = Store.of(settings)
        try:
            self.collection = Collection.open(self._store, settings.collection)
            model = resolve(settings, self.collection.space, self.collection.weights_hint)
            self.encoder: Encoder = open_for_query(model, settings)
        except BaseException:
            self._store.close()
            raise
        self.tiles = self.tiles or _own_map(self.collection)
        self._overviews = Overviews(self.collection)
        self.results = ResultFolder(settings.serve_results or _made(settings.state / "results"), self.collection.name)
        self._warm_up()

    def _warm_up(self) -> None:
        """Asks once, so that the first question does not wait for what is set up by it: passes of the network, the collection
        loaded, what the client imports with its first search, and the counts beside a page's filters."""
        size = self.encoder.space.size
        vectors = self.encoder.encode(np.zeros((1, *size, 3), np.uint8))
        with contextlib.suppress(OutcropError):  # whoever asks is told
            ask(self.collection, vectors[None], 1)
            self._overviews.now()

    def close(self) -> None:
        """Waits for the question in hand, then closes model and store."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        if self._drawing is not None:
            self._drawing.close()
        if self.tiles is not None:
            self.tiles.close()
        self.encoder.close()
        self._store.close()

    @property
    def waiting(self) -> int:
        """Questions that wait or are being answered."""
        return self._waiting

    async def run(self, work: Callable[[], T]) -> T:
        """Does work in the engine's thread, after the work that was asked for before.

        Raises:
            Busy: too much waits. Whatever the work raises.
        """
        if self._waiting >= QUEUE:
            raise Busy(self._waiting, max(1.0, self._waiting * self._seconds))
        self._waiting += 1
        try:
            begun = time.perf_counter()
            waiting = self._waiting
            made = await asyncio.get_running_loop().run_in_executor(self._worker, work)
            self._seconds += 0.2 * ((time.perf_counter() - begun) / waiting - self._seconds)
            return made
        finally:
            self._waiting -= 1

    def search(self, asked: Asked) -> Results:
        """The answer to a question.

        Raises:
            OutcropError: as the query commands.
        """
        require_held(asked.filter, self.collection)
        if asked.mesh:
            mesh = self.uploads.mesh(asked.mesh)
            with _called_by_name(mesh):
                return self._by_mesh(asked, mesh)
        upload = self._picture(asked) if asked.picture else None
        with _called_by_name(upload):
            return self._by_pictures(asked, upload)

    def _by_pictures(self, asked: Asked, upload: Upload | None) -> Results:
        """The answer to a picture or to items."""
        filter = asked.filter
        if asked.unlike or len(asked.items) + bool(upload) != 1:
            found = self._by_examples(asked, upload)
        else:
            plan = RerankPlan.of(None, None) if asked.rerank else None
            most = hits_to_search(plan, asked.k)
            step = reranker(plan, asked.k, self.collection, self.settings, self.encoder, locate=asked.locate)
            with step as reranked:
                if upload is not None:
                    found = query_images(
                        *([upload.path], self.encoder, self.collection, most, filter),
                        group=asked.group,
                        turns=asked.turns,
                        locate=asked.locate,
                        assumed=self.settings.assumed,
                        expandable=asks_again(plan),
                    )
                else:
                    found = query_items(
                        *(asked.items, self.collection, most, filter),
                        exclude_self=True,
                        group=asked.group,
                        expandable=asks_again(plan),
                    )
                found = reranked(found)
        return _named(_scored(found, asked.min_score), upload)

    def _picture(self, asked: Asked) -> Upload:
        upload = self.uploads.find(asked.picture)
        return upload if asked.box is None else self.uploads.part(upload, asked.box)

    def _by_mesh(self, asked: Asked, upload: Upload) -> Results:
        """Specimens that look like an uploaded mesh, as `query specimen` finds them; one process draws, and stays."""
        from outcrop.query.specimen import query_specimens
        from outcrop.render.workers import Workers

        if self._drawing is None:
            self._drawing = Workers(1, DRAWING_SECONDS)
        found = query_specimens(
            [str(upload.path)],
            self.collection,
            lambda: self.encoder,
            asked.k,
            asked.filter,
            by=asked.by,
            workers=self._drawing,
        )
        return _named(_scored(found, asked.min_score), upload)

    def _by_examples(self, asked: Asked, upload: Upload | None) -> Results:
        """Items near the mean of the examples, less a share of the mean of those they should not be like."""
        from outcrop.query.pictures import read_query

        begun = time.perf_counter()
        likes, known = self._vectors(asked.items)
        unlike, others = self._vectors(asked.unlike)
        query = Query(f"{len(likes) + bool(upload)} examples, {len(unlike)} counterexamples")
        if upload is not None:
            read = read_query(upload.path, self.encoder, assumed=self.settings.assumed)
            if read.pixels is None:
                raise InputError(read.error)
            likes, query = (
                np.concatenate([likes, self.encoder.encode(read.pixels)]),
                replace(read.query, name=query.name),
            )
        if not len(likes):
            raise InputError("nothing says what the answer should be like; give a picture or an item")
        aim = likes.mean(axis=0) - (UNLIKE * unlike.mean(axis=0) if len(unlike) else 0)
        length = float(np.linalg.norm(aim))
        if length < 1e-6:
            raise InputError("the examples and the counterexamples cancel out; leave some out")
        embedded = time.perf_counter()
        own = {item.key for item in (*known, *others)}
        vector = (aim / length).astype(np.float32)
        known_ones = [lambda item: item.key in own]
        found, plan = ask(self.collection, vector[None, None], asked.k, asked.filter, known_ones, group=asked.group)
        timings = {"embed": embedded - begun, "search": time.perf_counter() - embedded}
        answers = Results(self.collection.name, plan, (Result(query, found[0]),), timings)
        return explained(answers, asked.filter, self.collection)

    def _vectors(self, names: Sequence[str]) -> tuple[NDArray[np.float32], list[Item]]:
        """The stored vectors [N, D] of items, and the items."""
        ids = [item_id(key) for key in full_keys(names, self.collection)]
        stored = self.collection.items(ids) if ids else {}
        vectors = [stored[id][1] for id in ids] or np.empty((0, self.collection.space.dim), np.float32)
        return np.asarray(vectors, np.float32), [stored[id][0] for id in ids]

    def held(self) -> Held:
        """What the collection holds."""
        existing = self.collection.partitions(fresh=True)
        kinds = tuple(str(kind) for kind in Kind if holds_kind(kind, existing))
        return Held(kinds, tuple(datasets(self.collection)), self.collection.count())

    def item(self, name: str) -> Item:
        """A stored item, by its key or the end of it.

        Raises:
            InputError: there is none.
        """
        (key,) = full_keys([name], self.collection)
        return self.collection.items([item_id(key)])[item_id(key)][0]

    def facets(self, asked: Asked | Browsed) -> Facets:
        """What can be chosen beside an answer.

        Raises:
            FilterError: a condition is not valid.
        """
        return facets_of(self._overviews.now(), asked.filter, asked.conditions)

    def listed(self, asked: Browsed) -> Page:
        """A page of items by key.

        Raises:
            FilterError: a condition is not valid.
        """
        require_held(asked.filter, self.collection)
        return page_by_key(self.collection, self._overviews.now(), asked)

    def footprints(self, items: Iterable[Item]) -> dict[str, Any]:
        """The outlines on the ground of the tiles of maps among some items, by id."""
        ids = [item.id for item in items if item.kind is Kind.TILE]
        return {id: row.get(FOOTPRINT) for id, row in self.collection.lookup(ids, (FOOTPRINT,)).items()} if ids else {}

    def parts(self, item: Item) -> Page:
        """The references or views of an item."""
        return parts_page(self.collection, item, PARTS)

    def stored(self, id: str) -> Item:
        """A stored item by its id.

        Raises:
            InputError: there is none.
        """
        found = self.collection.items([id])
        if id not in found:
            raise InputError("no such item")
        return found[id][0]

    def original(self, id: str) -> Original:
        """The photograph that a stored item was made of, below its dataset's root.

        Raises:
            InputError: there is no such item, or its photograph is not to be had.
        """
        return Originals.of_collection(self.collection, self.settings).find(self.stored(id))


def _made(folder: Path) -> Path:
    """A folder that is made where it can be: people are told to write into it."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _called_by_name(upload: Upload | None) -> Iterator[None]:
    """Errors name an upload as whoever sent it does, not by the path that it is kept under here."""
    try:
        yield
    except (PictureError, MeshError) as error:
        raise error if upload is None else type(error)(str(error).replace(str(upload.path), upload.name)) from None


def _own_map(collection: Collection) -> Tiles | None:
    """The map that the collection's tiles were cut from, where it is one, and can be opened."""
    maps = list(MAPS.all(collection).values())
    with contextlib.suppress(OutcropError):
        return Tiles(maps[0].path) if len(maps) == 1 else None
    return None


def _scored(results: Results, least: float | None) -> Results:
    """The answers without hits below a score."""
    if least is None:
        return results
    kept = tuple(replace(each, hits=tuple(hit for hit in each.hits if hit.score >= least)) for each in results.results)
    return replace(results, results=kept)


def _named(results: Results, upload: Upload | None) -> Results:
    """The answers with the picture's own name in place of the path that it is kept under."""
    if upload is None:
        return results

    def named(result: Result) -> Result:
        kept = Path(result.query.name) == upload.path
        return replace(result, query=replace(result.query, name=upload.name)) if kept else result

    return replace(results, results=tuple(named(each) for each in results.results))
