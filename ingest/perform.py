"""An ingest from beginning to end: a request is listed, its encoder and collection opened, a run begun, and its record returned.

The commands call `ingest` and `preview`; so can a notebook::

    record = ingest(DatasetRequest.of(settings, "jamshill_image"), settings)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from outcrop.embed.feature_files import FeatureFolder
from outcrop.embed.features import FeatureKind
from outcrop.embed.models import Model, resolve
from outcrop.embed.opening import LazyEncoder, open_encoder
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.sharded import device_names
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.bundles import dim_of
from outcrop.ingest.checked import CheckedFiles
from outcrop.ingest.features import FeatureKeeper
from outcrop.ingest.finishing import ShardEnd
from outcrop.ingest.layouts import space_of_tree
from outcrop.ingest.listing import Outlook, ingest_listing, look_ahead
from outcrop.ingest.manifest import Part, expected_rate, plan
from outcrop.ingest.metadata import OwnColumns, own_columns
from outcrop.ingest.pipeline import Options
from outcrop.ingest.remembered import remember
from outcrop.ingest.requests import AnyRequest, FeaturesRequest, ImagesRequest, ManifestRequest
from outcrop.ingest.runs import FIX, Record, Run, RunSettings, running
from outcrop.ingest.sharding import Marks, group_of, share
from outcrop.ingest.sources import Listing, Wanted, examples
from outcrop.ingest.watcher import Watcher
from outcrop.schema.errors import InputError, WeightsError
from outcrop.schema.files import require_writable
from outcrop.schema.settings import Settings
from outcrop.schema.shards import Shard
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_missing
from outcrop.store.first_load import Way, way_in
from outcrop.store.later_index import later_name, require_some_index

AT_HAND = "efficientnet_lite0"
"""The model of a first ingest where the weights of new collections' model are not on the machine."""
VECTORS_AT_ONCE = 512
"""Vectors made elsewhere that are handed to the writer at once."""


@dataclass(frozen=True)
class Preview:
    """What a run would do (`--dry-run`). `parts` are those of a manifest, `rate` items per second of earlier runs.

    Of a folder as it stands, `examples` are some items as they would be, and `others` counts by kind the files that are not read.
    `metadata` are the tables of own columns and what they match.
    """

    space: Space
    outlook: Outlook
    parts: tuple[tuple[Part, Outlook], ...] = ()
    rate: float | None = None
    examples: tuple[Wanted, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    metadata: OwnColumns = field(default_factory=OwnColumns)


@dataclass(frozen=True)
class Target:
    """A listed request and what it is ingested into; `found` is None where the collection is still to be made.

    Of a sharded ingest `listing` is the shard's part of the `whole`.
    `model` is None where the vectors are there already, so that nothing is embedded; `store` where a preview finds no Milvus
    Lite directory. `metadata` are tables of own columns.
    """

    request: AnyRequest
    listing: Listing
    whole: Listing
    shard: Shard | None
    store: Store | None
    found: Collection | None
    space: Space
    model: Model | None
    metadata: OwnColumns = field(default_factory=OwnColumns)


def ingest(
    request: AnyRequest,
    settings: Settings,
    watcher: Watcher = Watcher(),
    *,
    only: Iterable[str] | None = None,
    retry_of: str = "",
) -> Record:
    """Embeds what a request names, new and changed items only, and returns the run's record; its ledger names what failed.

    `only` keeps the items of these keys, and `retry_of` is the run that they failed in. Where the settings name a shard, its part
    of the sources is ingested, unless `only` says what.

    Raises:
        InputError: a value, a file or a folder is wrong. StoreUnreachable: Milvus went away; what was written stays.
        SpaceMismatch: the model asked for is not the collection's.
    """
    request.check()
    if settings.ray is not None and settings.shard is not None:
        raise InputError("--ray and --shard exclude each other: on Ray the nodes share the work by themselves")
    if settings.ray is not None and only is None:
        from outcrop.ingest.on_ray import require_ray

        require_ray(settings)
    for place, fix in ((settings.state, FIX), *request.places()):
        require_writable(place, fix)
    with _opened(request, settings, watcher, only, create=True) as target:
        _require_some(target.listing, only)
        record, whole = _ingest(target, settings, watcher, retry_of, everything=only is None)
        if whole:
            target.request.finish(Collection.open(_open_store(target), settings.collection), settings, watcher.say)
    return record


def preview(request: AnyRequest, settings: Settings, watcher: Watcher = Watcher()) -> Preview:
    """What `ingest` would do with a request; embeds and writes nothing.

    Raises:
        InputError: as `ingest`.
    """
    request.check()
    with _opened(request, settings, watcher, None, create=False) as target:
        keeper, checked = keeper_of(target, settings), CheckedFiles(settings.state)
        if not isinstance(request, ManifestRequest):
            outlook = look_ahead(
                target.listing,
                target.found,
                force=request.force,
                features=keeper,
                checked=checked,
                stale=target.shard is None,
            )
            shown = examples(target.listing) if isinstance(request, ImagesRequest) else ()
            return Preview(
                target.space, outlook, examples=shown, others=target.listing.others, metadata=target.metadata
            )
        shared = [replace(part, listing=share(part.listing, target.shard)) for part in request.parts()]
        stale = target.shard is None
        parts = plan(shared, target.found, force=request.force, features=keeper, checked=checked, stale=stale)
        rate = expected_rate(settings.state, target.space.model)
        whole = _sum(request.name, [outlook for _, outlook in parts])
        return Preview(target.space, whole, tuple(parts), rate, metadata=target.metadata)


def keeper_of(target: Target, settings: Settings) -> FeatureKeeper | None:
    """What keeps the features that a request asks for, or that lie beside vectors made elsewhere; None where there are none."""
    kinds, folder = target.request.features, target.request.features_folder
    if target.model is None:
        return FeatureKeeper(FeatureFolder.below(folder or settings.features_folder, target.space), ())
    if kinds is None or folder is None:
        return None
    return FeatureKeeper(FeatureFolder.below(folder, target.space), FeatureKind.parse_all(kinds))


@contextmanager
def _opened(
    request: AnyRequest, settings: Settings, watcher: Watcher, only: Iterable[str] | None, *, create: bool
) -> Iterator[Target]:
    # What only a collection can locate waits for it; without one the registry says what is wrong, and nothing is created.
    later = request.takes_space or (request.undeclared and not is_missing(settings.uri))
    listing = None if later else request.list(None, only=only)
    with _store(settings, watcher, create=create) as store:
        found = Collection.find(store, settings.collection) if store is not None else None
        if found is not None:
            found.require_plain()
        if found is not None and found.later_index:
            require_some_index(found)
        located = cast("AnyRequest", request.located(found, settings))
        if located is not request or (listing is None and not request.takes_space):
            request, listing = located, located.list(None, only=only)
        space, model = _space_and_model(request, listing, settings, found, watcher)
        settled = request.settled(space)
        if listing is None or settled is not request:
            request = settled
            listing = request.list(space, only=only, workers=settings.drawing_processes)
        if listing.summary:
            watcher.say(listing.summary)
        for remark in listing.remarks:
            watcher.warn(remark)
        if found is not None and settings.index not in (None, found.profile.name, later_name(found)):
            watcher.warn(
                f"--index {settings.index} has no effect: collection {found.name!r} exists with {found.profile.name}"
            )
        shard = settings.part if only is None else None
        tables = own_columns(request.metadata, listing, found, watcher)
        yield Target(request, share(listing, shard), listing, shard, store, found, space, model, tables)


def _space_and_model(
    request: AnyRequest, listing: Listing | None, settings: Settings, found: Collection | None, watcher: Watcher
) -> tuple[Space, Model | None]:
    """The space that a request's vectors are of, and the model that makes them; None where they are there already."""
    if isinstance(request, FeaturesRequest):
        dim = dim_of(listing.sources) if listing is not None else None
        space, at_hand = space_of_tree(request.folder, settings, found, dim)
        if not at_hand:
            watcher.warn(
                f"the weights of {space.model} are not on this machine: vectors are stored as made elsewhere; "
                "you can query by stored item, but not by picture"
            )
        return space, None
    own = (found.space, found.weights_hint) if found is not None else ()
    try:
        model = resolve(settings, *own, size=settings.input_size, fit=settings.fit)
    except WeightsError as error:
        chosen = settings.model is not None or settings.weights is not None
        if found is not None or chosen or not isinstance(request, ImagesRequest):
            raise
        watcher.warn(
            f"{str(error).partition(';')[0]}: {AT_HAND} is used, whose weights come with the installation. "
            "Larger models find more: see `ingest models`, and give --model and --weights to a new --collection"
        )
        model = resolve(settings.model_copy(update={"model": AT_HAND}), size=settings.input_size, fit=settings.fit)
    return model.space, model


@contextmanager
def _store(settings: Settings, watcher: Watcher, *, create: bool) -> Iterator[Store | None]:
    """The store of the settings, open; without `create`, None for a Milvus Lite directory that is not there.

    An ingest waits for a directory that another process has open, and for a server that is starting; a preview does not.
    """
    if not create and is_missing(settings.uri):
        yield None
        return
    patience = settings.patience if create else 0.0
    with Store.of(settings, create=create, patience=patience, waiting=watcher.warn) as store:
        yield store


def _open_store(target: Target) -> Store:
    assert target.store is not None  # only a preview is without
    return target.store


def _ingest(
    target: Target, settings: Settings, watcher: Watcher, retry_of: str, *, everything: bool
) -> tuple[Record, bool]:
    """The run's record, and whether all that the request names is done: of shards, the last one's."""
    # A new collection is made only when its encoder could be opened; an existing one may need no encoder at all.
    new = target.found is None and target.model is not None and settings.ray is None
    opened = _open(target, settings, watcher) if new else None
    collection = _collection(target, settings, watcher)
    run, end = _begun(target, settings, collection, watcher, retry_of)
    if everything:
        remember(collection, target.request)
    target.metadata.begin(collection, remember=everything)
    run.record.metadata = target.metadata.as_json() or None
    watcher.begins(run, target.listing.dataset, target.listing.expected)
    if settings.ray is not None and everything:
        from outcrop.ingest.on_ray import ingest_on_ray

        return _ended(target, ingest_on_ray(target, collection, run, settings, watcher), collection, run, end, watcher)
    with (
        closing(_encoder(target, settings, watcher, run, opened)) as encoder,
        _way_in(target, settings, collection, run, watcher) as way,
    ):
        record = ingest_listing(
            target.listing,
            encoder,
            collection,
            run,
            options_of(settings, target),
            thumbnails=ThumbnailStore.below(settings.state) if settings.thumbnails else None,
            features=keeper_of(target, settings),
            on_start=watcher.stoppable,
            on_change=encoder.begin if target.model is not None else None,
            waiting=watcher.warn,
            progress=lambda done: watcher.progress(run.record),
            shard_end=end,
            way=way,
        )
    return _ended(target, record, collection, run, end, watcher)


@contextmanager
def _way_in(target: Target, settings: Settings, collection: Collection, run: Run, watcher: Watcher) -> Iterator[Way]:
    """How the rows get into the collection; a run that waits for earlier ones in vain has failed."""
    with ExitStack() as opened:
        with running(run):
            way = opened.enter_context(way_in(collection, settings, _to_come(target), watcher.say))
        yield way


def _ended(
    target: Target, record: Record, collection: Collection, run: Run, end: ShardEnd | None, watcher: Watcher
) -> tuple[Record, bool]:
    """Says what was odd, and completes own columns; see `_ingest` for what it gives."""
    for remark in filter(None, (record.decoder, *run.remarks)):
        watcher.say(remark)
    if record.state == "done":
        target.metadata.complete(collection, target.listing, watcher, alone=target.shard is None)
    return record, record.state == "done" and (end is None or end.finished)


def _begun(
    target: Target, settings: Settings, collection: Collection, watcher: Watcher, retry_of: str
) -> tuple[Run, ShardEnd | None]:
    """A run that has begun, and of a shard what it does at its end."""
    request, shard = target.request, target.shard
    group = group_of(settings, request, collection.physical, shard) if shard is not None else ""
    run = Run.begin(
        settings.state,
        request.command,
        request,
        RunSettings.of(settings),
        retry_of=retry_of,
        shard=str(shard or ""),
        group=group,
    )
    run.record.model = target.space.model
    if shard is None:
        return run, None
    marks = Marks(collection, request, shard.of, group)
    with running(run):
        marks.begin(shard, run.record.run)
    watcher.say(f"shard {shard} of {group}: {target.listing.expected} of {target.whole.expected} items")
    return run, ShardEnd(shard, marks, target.whole, watcher.say)


def _open(target: Target, settings: Settings, watcher: Watcher) -> PictureEncoder:
    assert target.model is not None, "no picture is embedded where the vectors are there already"
    watcher.say(f"opening {target.model.space.model}")
    return open_encoder(target.model, settings, settings.batch, expected=_to_come(target))


def _to_come(target: Target) -> int:
    """About how many pictures an ingest will embed: those listed beyond the rows that there are already; of a shard its part."""
    held = target.found.count() if target.found is not None else 0
    return max(0, target.whole.expected - held) // (target.shard.of if target.shard is not None else 1)


def _encoder(
    target: Target, settings: Settings, watcher: Watcher, run: Run, opened: PictureEncoder | None
) -> LazyEncoder:
    """The encoder that is open already, or one that is opened as soon as an item is known to need it.

    That is while others are still compared and the first file is read (or its views drawn), in a thread of its own. Not before: a
    run that finds nothing to embed, the usual one of a schedule, then costs neither torch nor the weights. A new collection's
    encoder was opened before the collection was made, so that a model which cannot be opened leaves none behind.
    """

    def note(encoder: PictureEncoder) -> None:
        run.record.device = encoder.device
        watcher.say(encoder.describe())

    return LazyEncoder(target.space, lambda: opened or _open(target, settings, watcher), note)


def _collection(target: Target, settings: Settings, watcher: Watcher) -> Collection:
    weights = target.model.hint if target.model is not None else ""
    store = _open_store(target)
    collection = target.found or _created(store, settings, target.space, watcher, weights=weights)
    for note in collection.notes:
        watcher.warn(note)
    watcher.say(f"{store.describe()}, collection {collection.name!r} ({collection.physical})")
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


def options_of(settings: Settings, target: Target) -> Options:
    """How the pipeline runs over a target."""
    request, checked = target.request, CheckedFiles(settings.state)
    if target.model is None:
        return Options(
            VECTORS_AT_ONCE,
            settings.workers,
            request.force,
            settings.patience,
            checked=checked,
            columns=target.metadata.matches,
        )
    # Where views are drawn, a thread waits for each process that draws.
    workers = settings.drawing_processes if request.takes_space else settings.workers
    return Options(
        settings.batch * len(device_names(settings.device)),
        workers,
        request.force,
        settings.patience,
        checked=checked,
        decode=settings.decode,
        decode_megapixels=settings.decode_megapixels,
        columns=target.metadata.matches,
    )


def _require_some(listed: Listing, only: Iterable[str] | None) -> None:
    if only is not None and not listed.expected:
        raise InputError("none of the failed items is declared or on disk any more; nothing to retry")


def _sum(name: str, outlooks: Iterable[Outlook]) -> Outlook:
    counts = ("expected", "missing", "undeclared", "unchanged", "to_embed", "to_remove")
    each = list(outlooks)
    return Outlook(name, **{count: sum(getattr(outlook, count) for outlook in each) for count in counts})
