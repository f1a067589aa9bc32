"""Fits a vocabulary to the photographs, or to the meshes, that a collection is to hold; nothing is written into a collection.

Photographs are seen whole and in turned crops, as references and queries are; meshes in the views that an ingest draws. Which
crops, and which pictures where there are more than enough, is drawn by the seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from outcrop.embed import vocabulary as vocabularies
from outcrop.embed.models import Model, find_preset, make_space, resolve, resolve_space
from outcrop.embed.opening import open_encoder
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.vocabulary import Vocabulary
from outcrop.ingest.guidance import holds_meshes
from outcrop.ingest.requests import ReferencesRequest, SpecimensRequest
from outcrop.ingest.sources import Listing, Prepared, Source, Todo
from outcrop.ingest.watcher import Watcher
from outcrop.schema.crops import WHOLE
from outcrop.schema.errors import InputError, MeshError, PictureError
from outcrop.schema.files import require_writable
from outcrop.schema.machine import cores
from outcrop.schema.settings import Settings
from outcrop.schema.space import AskedPooling
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_missing

if TYPE_CHECKING:
    from outcrop.embed.features import Features
    from outcrop.embed.fitting import Size

SOURCES = 1000
"""Photographs or meshes that are looked at, at most."""
SAMPLES = 2048
"""Views of them all that are aimed at: four for each number of a vector."""
ANGLES, CROPS = "0:360:15", "1,0.6,2x2:0.5"
"""Of which the turned crops are drawn."""
NAMED = 3
"""Unreadable files that are named."""


@dataclass(frozen=True)
class Fitted:
    """A vocabulary and its file; `sources` were looked at, `failed` could not be read."""

    vocabulary: Vocabulary
    path: Path
    sources: int
    failed: int


def fit_vocabulary(
    source: str,
    settings: Settings,
    pooling: AskedPooling,
    size: Size,
    watcher: Watcher = Watcher(),
    progress: Callable[[int], None] | None = None,
) -> Fitted:
    """Fits what a pooling needs to a folder of photographs or meshes, or to a dataset of the registry or the collection.

    The model is the one asked for, else that of the collection where there is one. `progress` gets the number of files done.

    Raises:
        InputError: no such folder or dataset, too few pictures, or none could be read. WeightsError: no weights.
    """
    from outcrop.embed.fitting import OF_VIEWS, WHITENING, fit

    size.check()
    require_writable(settings.vocabularies_folder, "give another --state")
    model, listing = _settled(source, settings, pooling)
    rng = np.random.default_rng(settings.seed)
    chosen = [listing.sources[n] for n in rng.permutation(len(listing.sources))[:SOURCES]]
    if not chosen:
        raise InputError(f"{source} holds nothing that a vocabulary could be fitted to")
    with closing(open_encoder(model, settings, settings.batch, expected=SAMPLES)) as encoder:
        watcher.say(encoder.describe())
        samples = Samples(chosen, encoder, rng, settings.workers or cores(), progress)
        power = OF_VIEWS if chosen[0].atomic else WHITENING
        vocabulary = fit(samples.features(), pooling, model.space, size, settings.seed, power)
    for failure in samples.failed[:NAMED]:
        watcher.warn(f"left out: {failure}")
    if vocabulary.base.dim < size.dim:
        watcher.warn(
            f"the pictures differ along {vocabulary.base.dim} axes only: vectors have as many numbers, not {size.dim}"
        )
    path = vocabularies.save(vocabulary, settings.vocabularies_folder)
    return Fitted(vocabulary, path, len(chosen), len(samples.failed))


def _settled(source: str, settings: Settings, pooling: AskedPooling) -> tuple[Model, Listing]:
    """The model that gives what is fitted, and what it is fitted to; a collection may know both."""
    if is_missing(settings.uri):
        return _modelled(source, settings, pooling, None)
    with Store.of(settings) as store:
        return _modelled(source, settings, pooling, Collection.find(store, settings.collection))


def _modelled(
    source: str, settings: Settings, pooling: AskedPooling, found: Collection | None
) -> tuple[Model, Listing]:
    plain = None if pooling.name == "vlad" else pooling.name
    own = found.space if found is not None else None
    if found is None or own is None or settings.model is not None or settings.weights is not None:
        asked = settings.model_copy(update={"pooling": plain})
        alike = own is not None and settings.model is not None and find_preset(settings.model).name == own.model
        fit = settings.fit or (own.fit if own is not None and alike else None)
        model = resolve(asked, size=settings.input_size, fit=fit)
    else:
        size, fit = settings.input_size or own.size, settings.fit or own.fit
        space = make_space(find_preset(own.model), own.weights_digest, size, fit, plain)
        model = resolve_space(space, settings, found.weights_hint)
    return model, _listed(source, settings, found, model)


def _listed(source: str, settings: Settings, found: Collection | None, model: Model) -> Listing:
    folder = Path(source)
    if not folder.is_dir():
        asked = ReferencesRequest.of(settings, source, angles=ANGLES, crops=CROPS)
        return asked.located(found, settings).list(None)
    name = folder.absolute().name or "pictures"
    if holds_meshes(folder):
        drawn = SpecimensRequest(name=name, folder=folder, align="axes")
        return drawn.settled(model.space).list(model.space, workers=settings.drawing_processes)
    turned = ReferencesRequest(name=name, registry=folder, datasets=folder, angles=ANGLES, crops=CROPS)
    return turned.list(None)


class Samples:
    """What is seen of sources; `failed` says which could not be read once `features` has ended."""

    def __init__(
        self,
        sources: Sequence[Source],
        encoder: PictureEncoder,
        rng: np.random.Generator,
        threads: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._sources, self._encoder, self._threads = sources, encoder, threads
        self._progress = progress or (lambda done: None)
        self._rng = rng
        self.failed: list[str] = []

    def features(self) -> Iterator[Features]:
        """The features of all samples, in batches."""
        for pixels in self._pixels():
            for start in range(0, len(pixels), self._encoder.batch):
                yield self._encoder.features(pixels[start : start + self._encoder.batch])

    def _pixels(self) -> Iterator[NDArray[np.uint8]]:
        """The samples of each source, [n, H, W, 3]; others are read meanwhile."""
        remaining = iter([(source, self._drawn(source)) for source in self._sources])
        with ThreadPoolExecutor(self._threads, "samples") as pool:

            def begun(pair: tuple[Source, list[Todo]]) -> Future[NDArray[np.uint8] | str]:
                return pool.submit(_made, *pair, self._encoder)

            waiting = [begun(pair) for pair in itertools.islice(remaining, self._threads)]
            for done in itertools.count(1):
                if not waiting:
                    return
                made = waiting.pop(0).result()
                waiting += [begun(pair) for pair in itertools.islice(remaining, 1)]
                if isinstance(made, str):
                    self.failed.append(made)
                elif len(made):
                    yield made
                self._progress(done)

    def _drawn(self, source: Source) -> list[Todo]:
        """Which items of a source are samples: every view of a mesh; of a photograph the whole, and crops drawn by the seed."""
        wanted = source.wanted
        if source.atomic:
            return [Todo(each) for each in wanted]
        whole = [each for each in wanted if each.item.rotation == 0 and each.item.crop == WHOLE.number]
        others = [each for each in wanted if each not in whole]
        count = min(len(others), max(1, SAMPLES // len(self._sources) - 1))
        return [Todo(each) for each in (*whole, *(others[n] for n in self._rng.permutation(len(others))[:count]))]


def _made(source: Source, todo: Sequence[Todo], encoder: PictureEncoder) -> NDArray[np.uint8] | str:
    """The pixels of samples, or why there are none."""
    try:
        contents = source.read(source.path)
        made = source.make(todo, contents, encoder, False)
        pixels = [np.asarray(one.pixels) for one in made if isinstance(one, Prepared)]
    except (PictureError, MeshError, OSError) as error:
        return str(error)
    return np.stack(pixels) if pixels else f"{source.path}: too small for its crops"
