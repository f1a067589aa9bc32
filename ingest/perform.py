"""An ingest from beginning to end: a request is listed, its encoder and collection opened, a run begun, and its record returned.

The commands call `ingest` and `preview`; so can a notebook::

    record = ingest(DatasetRequest.of(settings, "jamshill_image"), settings)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from outcrop.embed.feature_files import FeatureFolder
from outcrop.embed.features import FeatureKind
from outcrop.embed.models import Model, resolve
from outcrop.embed.opening import LazyEncoder, open_encoder
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.sharded import device_names
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.features import FeatureKeeper
from outcrop.ingest.features_elsewhere import Tree, ingest_tree, look_ahead_tree
from outcrop.ingest.layouts import space_of_tree
from outcrop.ingest.listing import Outlook, ingest_listing, look_ahead
from outcrop.ingest.manifest import Part, expected_rate, plan
from outcrop.ingest.pipeline import Options
from outcrop.ingest.remembered import remember
from outcrop.ingest.requests import AnyRequest, FeaturesRequest, ManifestRequest, Request
from outcrop.ingest.runs import Record, Run, RunSettings
from outcrop.ingest.sources import Listing
from outcrop.ingest.watcher import Watcher
from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store


@dataclass(frozen=True)
class Preview:
    """What a run would do (`--dry-run`). `parts` are those of a manifest, `rate` items per second of earlier runs."""

    space: Space
    outlook: Outlook
    parts: tuple[tuple[Part, Outlook], ...] = ()
    rate: float | None = None


@dataclass(frozen=True)
class _Target:
    """A listed request and what it is ingested into; `found` is None where the collection is still to be made."""

    request: AnyRequest
    listing: Listing
    store: Store
    found: Collection | None
    model: Model


def ingest(
    request: AnyRequest,
    settings: Settings,
    watcher: Watcher = Watcher(),
    *,
    only: Iterable[str] | None = None,
    retry_of: str = "",
) -> Record:
    """Embeds what a request names, new and changed items only, and returns the run's record; its ledger names what failed.

    `only` keeps the items of these keys, and `retry_of` is the run that they failed in.

    Raises:
        InputError: a value, a file or a folder is wrong. StoreUnreachable: Milvus went away; what was written stays.
        SpaceMismatch: the model asked for is not the collection's.
    """
    request.check()
    if isinstance(request, FeaturesRequest):
        return _ingest_tree(request, settings, watcher, only, retry_of)
    with _opened(request, settings, watcher, only) as target:
        _require_some(target.listing, only)
        record = _ingest(target, settings, watcher, retry_of, whole=only is None)
        if record.state == "done":
            target.request.finish(Collection.open(target.store, settings.collection), settings, watcher.say)
    return record


def preview(request: AnyRequest, settings: Settings, watcher: Watcher = Watcher()) -> Preview:
    """What `ingest` would do with a request; embeds and writes nothing.

    Raises:
        InputError: as `ingest`.
    """
    request.check()
    if isinstance(request, FeaturesRequest):
        return _preview_tree(request, settings, watcher)
    with _opened(request, settings, watcher, None) as target:
        keeper = keeper_of(request, target.model.space)
        if not isinstance(request, ManifestRequest):
            return Preview(
                target.model.space, look_ahead(target.listing, target.found, force=request.force, features=keeper)
            )
        parts = plan(request.parts(), target.found, force=request.force, features=keeper)
        rate = expected_rate(settings.state, target.model.space.model)
        return Preview(target.model.space, _sum(request.name, [outlook for _, outlook in parts]), tuple(parts), rate)


def keeper_of(request: Request, space: Space) -> FeatureKeeper | None:
    """What keeps the features that a request asks for, if it asks for any."""
    if request.features is None or request.features_folder is None:
        return None
    return FeatureKeeper(FeatureFolder.below(request.features_folder, space), FeatureKind.parse_all(request.features))


@contextmanager
def _opened(request: AnyRequest, settings: Settings, watcher: Watcher, only: Iterable[str] | None) -> Iterator[_Target]:
    listing = None if request.takes_space else request.list(None, only=only)
    with Store.of(settings) as store:
        found = Collection.find(store, settings.collection)
        own = (found.space, found.weights_hint) if found is not None else ()
        model = resolve(settings, *own, size=settings.input_size, fit=settings.fit)
        if listing is None:
            request = request.settled(model.space)
            listing = request.list(model.space, only=only, workers=settings.drawing_processes)
        for remark in listing.remarks:
            watcher.warn(remark)
        if found is not None and settings.index not in (None, found.profile.name):
            watcher.warn(
                f"--index {settings.index} has no effect: collection {found.name!r} exists with {found.profile.name}"
            )
        yield _Target(request, listing, store, found, model)


def _ingest(target: _Target, settings: Settings, watcher: Watcher, retry_of: str, *, whole: bool) -> Record:
    # A new collection is made only when its encoder could be opened; an existing one may need no encoder at all.
    opened = _open(target, settings, watcher) if target.found is None else None
    collection = _collection(target, settings, watcher)
    request, space = target.request, target.model.space
    run = Run.begin(settings.state, request.command, request, RunSettings.of(settings), retry_of=retry_of)
    run.record.model = space.model
    if whole:
        remember(collection, request)
    watcher.begins(run, target.listing.dataset, target.listing.expected)
    with closing(_encoder(target, settings, watcher, run, opened)) as encoder:
        record = ingest_listing(
            target.listing,
            encoder,
            collection,
            run,
            _options(settings, request),
            thumbnails=ThumbnailStore.below(settings.state) if settings.thumbnails else None,
            features=keeper_of(request, space),
            on_start=watcher.stoppable,
            waiting=watcher.warn,
            progress=lambda done: watcher.progress(run.record),
        )
    for remark in run.remarks:
        watcher.say(remark)
    return record


def _open(target: _Target, settings: Settings, watcher: Watcher) -> PictureEncoder:
    watcher.say(f"opening {target.model.space.model}")
    return open_encoder(target.model, settings, settings.batch)


def _encoder(
    target: _Target, settings: Settings, watcher: Watcher, run: Run, opened: PictureEncoder | None
) -> LazyEncoder:
    """The encoder that is open already, or one that the first picture opens."""

    def note(encoder: PictureEncoder) -> None:
        run.record.device = encoder.device
        watcher.say(encoder.describe())

    return LazyEncoder(target.model.space, lambda: opened or _open(target, settings, watcher), note)


def _collection(target: _Target, settings: Settings, watcher: Watcher) -> Collection:
    collection = target.found or _created(
        target.store, settings, target.model.space, watcher, weights=target.model.hint
    )
    for note in collection.notes:
        watcher.warn(note)
    watcher.say(f"{target.store.describe()}, collection {collection.name!r} ({collection.physical})")
    return collection


def _created(store: Store, settings: Settings, space: Space, watcher: Watcher, *, weights: str = "") -> Collection:
    return Collection.ensure(
        store,
        settings.collection,
        space,
        index=settings.index,
        weights=weights,
        patience=settings.patience,
        waiting=watcher.warn,
    )


def _options(settings: Settings, request: Request) -> Options:
    # Where views are drawn, a thread waits for each process that draws.
    workers = settings.drawing_processes if request.takes_space else settings.workers
    return Options(settings.batch * len(device_names(settings.device)), workers, request.force, settings.patience)


def _require_some(listed: Listing | Tree, only: Iterable[str] | None) -> None:
    if only is not None and not listed.expected:
        raise InputError("none of the failed items is declared or on disk any more; nothing to retry")


def _ingest_tree(
    request: FeaturesRequest, settings: Settings, watcher: Watcher, only: Iterable[str] | None, retry_of: str
) -> Record:
    tree = request.tree(only)
    _require_some(tree, only)
    with Store.of(settings) as store:
        found = Collection.find(store, settings.collection)
        space = _space_of_tree(request, settings, found, tree.dim(), watcher)
        collection = found or _created(store, settings, space, watcher)
        watcher.say(f"{store.describe()}, collection {collection.name!r} ({collection.physical})")
        run = Run.begin(settings.state, request.command, request, RunSettings.of(settings), retry_of=retry_of)
        run.record.model = space.model
        watcher.begins(run, request.name, tree.expected)
        return ingest_tree(
            tree,
            collection,
            run,
            features=FeatureFolder.below(request.features_folder or settings.features_folder, space),
            force=request.force,
            patience=settings.patience,
            progress=lambda done: watcher.progress(run.record),
            waiting=watcher.warn,
        )


def _preview_tree(request: FeaturesRequest, settings: Settings, watcher: Watcher) -> Preview:
    tree = request.tree()
    with Store.of(settings) as store:
        found = Collection.find(store, settings.collection)
        space = _space_of_tree(request, settings, found, tree.dim(), watcher)
        return Preview(space, look_ahead_tree(tree, found, force=request.force))


def _space_of_tree(
    request: FeaturesRequest, settings: Settings, found: Collection | None, dim: int | None, watcher: Watcher
) -> Space:
    space, at_hand = space_of_tree(request.folder, settings, found, dim)
    if not at_hand:
        watcher.warn(
            f"the weights of {space.model} are not on this machine: vectors are stored as made elsewhere; "
            "you can query by stored item, but not by picture"
        )
    return space


def _sum(name: str, outlooks: Iterable[Outlook]) -> Outlook:
    counts = ("expected", "missing", "undeclared", "unchanged", "to_embed", "to_remove")
    each = list(outlooks)
    return Outlook(name, **{count: sum(getattr(outlook, count) for outlook in each) for count in counts})
