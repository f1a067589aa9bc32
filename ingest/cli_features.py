"""`ingest features`: vectors made elsewhere, from a tree of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.ingest.console import print_outlook, print_record
from outcrop.ingest.options import DryRun, FeaturesFolder, Force, Index, Patience, app
from outcrop.schema.errors import InputError
from outcrop.screen.options import MODEL, REGISTRY, STATE, STORE, Session, command
from outcrop.screen.progress import Meter


@command(app, STORE, REGISTRY, MODEL, STATE)
def features(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the tree.", show_default=False)],
    layout: Annotated[str, typer.Option("--layout", help="How the files are laid out: fossilvit or imgmatching.")],
    name: Annotated[
        Optional[str], typer.Option("--name", help="Name of the dataset. [the folder's name]", show_default=False)
    ] = None,
    features_folder: FeaturesFolder = None,
    force: Force = False,
    dry_run: DryRun = False,
    index: Index = None,
    patience: Patience = 60.0,
) -> None:
    """Read vectors that were made elsewhere into the collection; no model runs. New and changed files only."""
    from outcrop.embed.feature_files import FeatureFolder
    from outcrop.ingest.features_elsewhere import ingest_tree, list_tree, look_ahead_tree
    from outcrop.ingest.layout_names import layout_named
    from outcrop.ingest.layouts import space_of_tree
    from outcrop.ingest.runs import Run
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    settings = session.settings
    dataset = name if name is not None else folder.absolute().name
    if not dataset:
        raise InputError("the dataset needs a name; give --name")
    tree = list_tree(layout_named(layout), folder, dataset)
    with Store.of(settings) as store:
        found = Collection.find(store, settings.collection)
        space, at_hand = space_of_tree(folder, settings, found, tree.dim())
        if not at_hand:
            session.warn(
                f"the weights of {space.model} are not here: vectors are kept as made elsewhere; stored items can be asked with, "
                "pictures cannot"
            )
        if dry_run:
            print_outlook(session, look_ahead_tree(tree, found, force=force), str(space))
            return
        collection = found or Collection.ensure(store, settings.collection, space, index=index)
        session.say(f"{store.describe()}, collection {collection.name!r} ({collection.physical})")
        arguments = {"name": dataset, "folder": str(folder.absolute()), "layout": layout, "force": force}
        run = Run.begin(settings.state, "features", arguments)
        run.record.model = space.model
        with Meter(dataset, tree.expected, "vectors", session.quiet) as meter:
            record = ingest_tree(
                tree,
                collection,
                run,
                features=FeatureFolder.below(features_folder or settings.exports / "features", space),
                force=force,
                patience=patience,
                progress=lambda done: meter.update(done, f"{run.record.failed} failed"),
                waiting=session.warn,
            )
    print_record(session, record, run)
