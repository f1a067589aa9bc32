"""`collection` subcommands that change: create, index, load, release, flush, compact, switch, rollback, prune, drop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outcrop.operate.commands import app
from outcrop.operate.console import (
    INDEX,
    STORE,
    Build,
    Datasets,
    DryRun,
    Given,
    Name,
    Root,
    Yes,
    agreed,
    answer,
    answer_rows,
    opened,
    opened_store,
    parameters,
)
from outcrop.schema.errors import InputError
from outcrop.screen.options import MODEL, REGISTRY, STATE, Formerly, Group, Session, command, hidden, option
from outcrop.screen.progress import Meter

if TYPE_CHECKING:
    from outcrop.store.connection import Store

OneDataset = Annotated[str | None, option("--dataset", help="Only this dataset's partitions (servers only).")]
Profile = Annotated[
    str, typer.Argument(help="Index profile: FLAT, HNSW, HNSW_SQ, IVF_FLAT, IVF_RABITQ, DISKANN, AISAQ, GPU_….")
]
Deadline = Annotated[
    float,
    option(
        "--deadline",
        min=1,
        help="Seconds after which to give up. [600, more for many rows; compact 300]",
    ),
]
FeaturesFolder = Annotated[
    Path | None,
    option("--features-folder", help="Folder of kept features: also remove those without an item."),
]
SPACE: Group = {
    "input_size": Annotated[
        int | None,
        option("--input-size", panel="Model", help="Side of the network's input in pixels. [the preset's]"),
        Formerly("--size"),
    ],
    "fit": Annotated[str | None, option("--fit", panel="Model", help="squash, crop or pad. [the preset's]")],
    "gsd": Annotated[
        float | None,
        option("--gsd", panel="Model", help="Metres of ground in a pixel of the input. [photographs as they are]"),
    ],
    "pooling": Annotated[
        str | None,
        option(
            "--pooling",
            panel="Model",
            help="token, avg, gem or vlad, with a vocabulary as in vlad:1a2b3c4d. [the preset's]",
        ),
    ],
}


@command(app, STORE, hidden(REGISTRY), MODEL, SPACE, INDEX)
def create(session: Session, name: Given, build: Build = None, dry_run: DryRun = False) -> None:
    """Create a collection for a model; beside the present one where the name is taken (then fill it, and switch)."""
    from outcrop.operate.create import create_for_model

    settings = session.settings
    with _store_to_make(session, dry_run) as store:
        made = create_for_model(
            store,
            name,
            settings,
            index=settings.index,
            build=parameters(build),
            size=settings.input_size,
            fit=settings.fit,
            dry_run=dry_run,
        )
    for note in made.notes:
        session.warn(note)
    answer(session, made.as_json(name, dry_run), made.text(name, dry_run))


@contextmanager
def _store_to_make(session: Session, dry_run: bool) -> Iterator[Store | None]:
    """The store, open; None where it would only be made."""
    from outcrop.store.connection import is_missing

    if dry_run and is_missing(session.settings.uri):
        yield None
        return
    with opened_store(session, create=True) as store:
        yield store


@command(app, STORE)
def index(
    session: Session,
    name: Given,
    profile: Profile,
    build: Build = None,
    deadline: Deadline = 600.0,
    dry_run: DryRun = False,
) -> None:
    """Give a collection another index in place; the former one is restored if the server cannot finish the new one."""
    from outcrop.schema.indexes import profile_for
    from outcrop.store.maintenance import change_index, wanted_params

    given = parameters(build)
    with opened(session, name) as collection, Meter(f"index {profile}", None, "rows", session.quiet) as meter:
        former = collection.profile.name
        wanted, note = profile_for(profile, collection.store.version)
        params = wanted_params(collection, wanted, None if note else given)
        if not dry_run:
            note = change_index(
                collection,
                profile,
                given,
                deadline=deadline,
                progress=lambda state: meter.update(state.indexed, f"{state.pending} pending"),
            )
    if note:
        session.warn(note)
    values = {"name": name, "former": former, "index": wanted.name, "build": params, "dry_run": dry_run}
    verb = "would become" if dry_run else "became"
    answer(session, values, f"index {former} of {name} {verb} {wanted.name} {params or ''}")


@command(app, STORE)
def load(session: Session, name: Name = None, dataset: OneDataset = None) -> None:
    """Load a collection into memory, or one dataset of it."""
    from outcrop.store.maintenance import load as load_collection

    with opened(session, name) as collection:
        what = load_collection(collection, dataset)
    answer(session, {"loaded": what}, f"loaded {', '.join(what)}")


@command(app, STORE)
def release(session: Session, name: Name = None, dataset: OneDataset = None) -> None:
    """Take a collection out of memory, or one dataset of it; the next query loads it again."""
    from outcrop.store.maintenance import release as release_collection

    with opened(session, name) as collection:
        what = release_collection(collection, dataset)
    answer(session, {"released": what}, f"released {', '.join(what)}")


@command(app, STORE)
def flush(session: Session, name: Name = None) -> None:
    """Seal what was written and make it durable."""
    with opened(session, name) as collection:
        collection.flush()
    answer(session, {"flushed": collection.physical}, f"flushed {collection.physical}")


@command(app, STORE)
def compact(
    session: Session,
    name: Name = None,
    deadline: Deadline = 300.0,
    merge_to: Annotated[
        int | None,
        option("--merge-to", min=1, help="Force a merge to segments of this many MiB (Milvus 3.0 or newer)."),
    ] = None,
) -> None:
    """Merge segments and drop superseded rows."""
    from outcrop.store.maintenance import compact as compact_collection

    with opened(session, name) as collection:
        state = compact_collection(collection, deadline=deadline, merge_to=merge_to)
    answer(session, {"compacted": collection.physical, "state": state}, f"compaction of {collection.physical}: {state}")


@command(app, STORE)
def switch(
    session: Session,
    name: Annotated[str, typer.Argument(help="The name that queries use.")],
    physical: Annotated[str, typer.Argument(help="Physical collection to point the name at.")],
    dry_run: DryRun = False,
) -> None:
    """Point a name at another physical collection, at once for everyone (blue/green)."""
    from outcrop.store.collection import Collection
    from outcrop.store.maintenance import switch as switch_alias

    with opened_store(session) as store:
        target = Collection.open(store, physical)
        rows = target.count()
        if dry_run:
            now = Collection.find(store, name)
            former = now.physical if now is not None else ""
        else:
            former = switch_alias(store, name, physical)
    values = {"name": name, "physical": target.physical, "former": former, "rows": rows, "dry_run": dry_run}
    text = f"{name} {'would point' if dry_run else 'points'} at {target.physical} ({rows} rows)"
    answer(session, values, f"{text}; before: {former or 'nothing'}; undo: collection rollback {name}")


@command(app, STORE)
def rollback(session: Session, name: Name = None, dry_run: DryRun = False) -> None:
    """Point a name back at the collection it pointed at before."""
    from outcrop.store.collection import Collection
    from outcrop.store.maintenance import PROPERTY_PREVIOUS
    from outcrop.store.maintenance import rollback as roll_back

    name = name or session.settings.collection
    with opened_store(session) as store:
        before = Collection.open(store, name).properties().get(PROPERTY_PREVIOUS, "")
        now = before if dry_run else roll_back(store, name)
    text = f"{name} {'would point' if dry_run else 'points'} at {now or 'nothing else'}"
    answer(session, {"name": name, "physical": now, "dry_run": dry_run}, text)


@command(app, STORE, REGISTRY, STATE)
def prune(
    session: Session,
    name: Name = None,
    dataset: Datasets = None,
    root: Root = None,
    features_folder: FeaturesFolder = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove items whose source file is gone. Run it with --dry-run first."""
    from outcrop.operate.pruning import find_removable

    if features_folder is not None and not features_folder.is_dir():
        raise InputError(f"--features-folder {features_folder} is not a folder; give the one that ingest wrote")
    with opened(session, name) as collection:
        found = find_removable(collection, session.settings, dataset, root=root, features_folder=features_folder)
        removed = 0
        if found.items and not dry_run:
            agreed(f"Remove {len(found.items)} items whose source is gone from {collection.name!r}?", yes)
            removed = found.remove_items(collection)
        if found.features and not dry_run:
            agreed(f"Remove the features of {len(found.features)} items that {collection.name!r} does not hold?", yes)
            found.remove_features()
    rows = [{"key": finding.key, "source": finding.source} for finding in found.items]
    kept = {} if features_folder is None else {"features": len(found.features)}
    answer_rows(
        session, rows, ("key", "source"), found.title(removed, dry_run), removed=removed, dry_run=dry_run, **kept
    )


@command(app, STORE)
def drop(
    session: Session,
    name: Given,
    dataset: Annotated[str | None, option("--dataset", help="Only this dataset's items, of every kind.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove a collection, or one dataset of it. This cannot be undone: export first."""
    from outcrop.schema.filters import Filter, equals
    from outcrop.store.maintenance import drop as drop_collection
    from outcrop.store.maintenance import drop_dataset

    with opened(session, name) as collection:
        rows = collection.count(equals("dataset", dataset) if dataset is not None else Filter())
        what = f"{collection.physical} with {rows} items"
        if dataset is not None:
            what = f"the {rows} items of dataset {dataset!r} in {collection.physical}"
        if not dry_run:
            agreed(f"Remove {what}, for ever?", yes)
            if dataset is not None:
                drop_dataset(collection, dataset)
            else:
                drop_collection(collection)
    values = {"physical": collection.physical, "dataset": dataset, "rows": rows, "dry_run": dry_run}
    answer(session, values, f"{'would remove' if dry_run else 'removed'} {what}")
