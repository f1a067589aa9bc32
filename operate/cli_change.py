"""`collection` subcommands that change: create, index, load, release, flush, compact, switch, rollback, prune, drop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.operate.console import (
    Build,
    DryRun,
    Index,
    Name,
    Root,
    Yes,
    agreed,
    answer,
    answer_rows,
    app,
    build_parameters,
    opened,
    opened_store,
)
from outcrop.schema.errors import InputError
from outcrop.schema.item import item_id
from outcrop.screen.options import MODEL, REGISTRY, STATE, STORE, Session, command
from outcrop.screen.progress import Meter

OneDataset = Annotated[
    Optional[str], typer.Option("--dataset", help="Only this dataset's partitions (servers only).", show_default=False)
]
Deadline = Annotated[float, typer.Option("--deadline", min=1, help="Seconds before it is given up.")]


@command(app, STORE, REGISTRY, MODEL)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the collection.")],
    index: Index = None,
    build: Build = None,
    size: Annotated[
        Optional[int],
        typer.Option("--size", help="Side of the network's input in pixels. [the preset's]", show_default=False),
    ] = None,
    fit: Annotated[
        Optional[str], typer.Option("--fit", help="squash, crop or pad. [the preset's]", show_default=False)
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Create a collection for a model; beside the present one where the name is taken (then fill it, and switch)."""
    from outcrop.operate.create import create_for_model

    with opened_store(session) as store:
        made = create_for_model(
            store,
            name,
            session.settings,
            index=index,
            build=build_parameters(build),
            size=size,
            fit=fit,
            dry_run=dry_run,
        )
    for note in made.notes:
        session.warn(note)
    text = f"{'would create' if dry_run else 'created'} {made.physical} for {made.space}, index {made.index}"
    if made.beside:
        text += f"\n{name!r} still leads to {made.beside}. Fill the new one, then switch:"
        text += f"\n  ingest dataset NAME --collection {made.physical}\n  collection verify {made.physical}"
        text += f"\n  collection switch {name} {made.physical}"
    answer(session, {
        "name": name, "physical": made.physical, "index": made.index, "space": made.space.fingerprint, "beside": made.beside, "dry_run": dry_run,
    }, text)  # fmt: skip


@command(app, STORE)
def index(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the collection.")],
    profile: Annotated[str, typer.Argument(help="Index profile: FLAT, HNSW, HNSW_SQ, IVF_FLAT, DISKANN or GPU_….")],
    build: Build = None,
    deadline: Deadline = 600.0,
    dry_run: DryRun = False,
) -> None:
    """Give a collection another index in place; the former one comes back where the server cannot finish the new one."""
    from outcrop.schema.indexes import profile_for
    from outcrop.store.maintenance import change_index

    with opened(session, name) as collection, Meter(f"index {profile}", None, "rows", session.quiet) as meter:
        former = collection.profile.name
        wanted, note = profile_for(profile, collection.store.version)
        params = wanted.build_params(None if note else build_parameters(build))
        if not dry_run:
            note = change_index(
                collection,
                profile,
                build_parameters(build),
                deadline=deadline,
                progress=lambda s: meter.update(s.indexed, f"{s.pending} pending"),
            )
    if note:
        session.warn(note)
    verb = "would become" if dry_run else "became"
    answer(session, {"name": name, "former": former, "index": wanted.name, "build": params, "dry_run": dry_run}, f"index {former} of {name} {verb} {wanted.name} {params or ''}")  # fmt: skip


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
def compact(session: Session, name: Name = None, deadline: Deadline = 300.0) -> None:
    """Merge segments and drop superseded rows."""
    from outcrop.store.maintenance import compact as compact_collection

    with opened(session, name) as collection:
        state = compact_collection(collection, deadline=deadline)
    answer(session, {"compacted": collection.physical, "state": state}, f"compaction of {collection.physical}: {state}")


@command(app, STORE)
def switch(
    session: Session,
    name: Annotated[str, typer.Argument(help="The name that queries use.")],
    physical: Annotated[str, typer.Argument(help="The physical collection that it shall lead to.")],
    dry_run: DryRun = False,
) -> None:
    """Let a name lead to another physical collection, at once for everyone (blue/green)."""
    from outcrop.store.collection import Collection
    from outcrop.store.maintenance import switch as switch_alias

    with opened_store(session) as store:
        target = Collection.open(store, physical)
        rows = target.count()
        former = (
            (now.physical if (now := Collection.find(store, name)) else "")
            if dry_run
            else switch_alias(store, name, physical)
        )
    verb = "would lead" if dry_run else "leads"
    answer(
        session,
        {"name": name, "physical": target.physical, "former": former, "rows": rows, "dry_run": dry_run},
        f"{name} {verb} to {target.physical} ({rows} rows); before: {former or 'nothing'}; back: collection rollback {name}",
    )


@command(app, STORE)
def rollback(session: Session, name: Name = None, dry_run: DryRun = False) -> None:
    """Switch a name back to the collection that it led to before."""
    from outcrop.store.collection import Collection
    from outcrop.store.maintenance import PROPERTY_PREVIOUS
    from outcrop.store.maintenance import rollback as roll_back

    name = name or session.settings.collection
    with opened_store(session) as store:
        now = (
            Collection.open(store, name).properties().get(PROPERTY_PREVIOUS, "") if dry_run else roll_back(store, name)
        )
    answer(
        session,
        {"name": name, "physical": now, "dry_run": dry_run},
        f"{name} {'would lead' if dry_run else 'leads'} to {now or 'nothing else'}",
    )


@command(app, STORE, REGISTRY, STATE)
def prune(
    session: Session,
    name: Name = None,
    dataset: Annotated[
        Optional[list[str]],
        typer.Option(
            "--dataset",
            help="Only this dataset; repeatable. [all of the registry, and all specimens of the collection]",
            show_default=False,
        ),
    ] = None,
    root: Root = None,
    features_folder: Annotated[
        Optional[Path],
        typer.Option(
            "--features-folder",
            help="Also remove the features below this folder (patch, grid …) whose items the collection does not hold.",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove items whose source file is gone. Run it with --dry-run first."""
    from outcrop.embed.feature_files import FeatureFolder
    from outcrop.operate.audit import orphans
    from outcrop.operate.audit import prune as remove
    from outcrop.operate.features import remove_features, stranded

    settings = session.settings
    if features_folder is not None and not features_folder.is_dir():
        raise InputError(f"--features-folder {features_folder} is no folder; give the one that ingest wrote")
    with opened(session, name) as collection:
        gone = orphans(collection, settings, dataset, root=root)
        kept: dict[str, int] = {}
        features: list[str] = []
        if features_folder is not None:
            folder = FeatureFolder.below(features_folder, collection.space)
            features = stranded(collection, folder, {item_id(finding.key) for finding in gone})
            kept = {"features": len(features)}
        removed = 0
        if gone and not dry_run:
            agreed(f"Remove {len(gone)} items whose source is gone from {collection.name!r}?", yes)
            removed = remove(collection, gone)
        if features and not dry_run:
            agreed(f"Remove the features of {len(features)} items that {collection.name!r} does not hold?", yes)
            remove_features(folder, features)
    rows = [{"key": finding.key, "source": finding.source} for finding in gone]
    title = (
        f"{len(gone)} items whose source is gone; {'nothing removed (--dry-run)' if dry_run else f'{removed} removed'}"
    )
    if kept:
        title += f"; features of {len(features)} items {'would go too' if dry_run else 'removed'}"
    answer_rows(session, rows, ("key", "source"), title, removed=removed, dry_run=dry_run, **kept)


@command(app, STORE)
def drop(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name or physical name of the collection.")],
    dataset: Annotated[
        Optional[str], typer.Option("--dataset", help="Only this dataset's items, of every kind.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove a collection, or one dataset of it. There is no way back: export first."""
    from outcrop.schema.filters import Filter, equals
    from outcrop.store.maintenance import drop as drop_collection
    from outcrop.store.maintenance import drop_dataset

    with opened(session, name) as collection:
        filter = equals("dataset", dataset) if dataset is not None else Filter()
        rows = collection.count(filter)
        what = (
            f"the {rows} items of dataset {dataset!r} in {collection.physical}"
            if dataset is not None
            else f"{collection.physical} with {rows} items"
        )
        if not dry_run:
            agreed(f"Remove {what}, for ever?", yes)
            if dataset is not None:
                drop_dataset(collection, dataset)
            else:
                drop_collection(collection)
    verb = "would remove" if dry_run else "removed"
    answer(
        session,
        {"physical": collection.physical, "dataset": dataset, "rows": rows, "dry_run": dry_run},
        f"{verb} {what}",
    )
