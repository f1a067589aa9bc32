"""`collection` subcommands that move data: export, import, copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.operate.console import DryRun, Index, answer, app, opened, opened_store
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter
from outcrop.schema.filters import where as conditions
from outcrop.screen.options import STATE, STORE, Session, command
from outcrop.screen.progress import Meter

Where = Annotated[
    Optional[list[str]],
    typer.Option("--where", help="Only items that fit: FIELD=VALUE and so on; repeatable.", show_default=False),
]
To = Annotated[
    Optional[str],
    typer.Option("--to", help="Name of the collection to write. [the one it came from]", show_default=False),
]


@command(app, STORE, name="export")
def export_collection(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the collection.")],
    file: Annotated[
        Path,
        typer.Argument(help="….parquet; ….npy or ….faiss (with ids, items and space beside); a folder with --layout."),
    ],
    where: Where = None,
    layout: Annotated[
        Optional[str],
        typer.Option(
            "--layout",
            help="Write a tree of files as another program keeps them: fossilvit or imgmatching.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file where it is there.")] = False,
) -> None:
    """Write a collection to a file: keys, metadata, vectors and the space."""
    from outcrop.store.arrays import SUFFIXES, export_arrays
    from outcrop.store.transfer import export_parquet

    if layout is not None:
        _export_tree(session, name, file, conditions(*(where or ())), layout)
        return
    if file.exists() and not force:
        raise InputError(f"{file} is there already; give another name, or --force")
    if file.suffix not in (".parquet", *SUFFIXES):
        raise InputError(f"{file}: the ending says the format; it is one of .parquet, {', '.join(SUFFIXES)}")
    if not file.absolute().parent.is_dir():
        raise InputError(f"the folder {file.absolute().parent} does not exist; create it")
    filter = conditions(*(where or ()))
    with (
        opened(session, name) as collection,
        Meter("export", collection.count(filter), "items", session.quiet) as meter,
    ):
        run = export_parquet if file.suffix == ".parquet" else export_arrays
        done = run(collection, file, filter, progress=meter.update)
    answer(
        session,
        {"rows": done.rows, "file": str(file), "collection": collection.physical},
        f"{done.rows} items of {collection.physical} in {file}",
    )


def _export_tree(session: Session, name: str, folder: Path, filter: Filter, layout: str) -> None:
    from outcrop.ingest.layout_names import layout_named
    from outcrop.ingest.layouts import open_folder

    chosen = layout_named(layout, session.settings.features_folder)
    with opened(session, name) as collection, Meter("export", None, "vectors", session.quiet) as meter:
        open_folder(folder, chosen)
        rows = chosen.write(collection, folder, filter, meter.update)
    answer(
        session,
        {"rows": rows, "folder": str(folder), "layout": layout, "collection": collection.physical},
        f"{rows} vectors of {collection.physical} in {folder} ({layout})",
    )


@command(app, STORE, name="import")
def import_collection(
    session: Session,
    file: Annotated[
        Path, typer.Argument(help="A file that `collection export` wrote, or vectors with ids from elsewhere.")
    ],
    to: To = None,
    index: Index = None,
    space_of: Annotated[
        Optional[str],
        typer.Option(
            "--space-of", help="Collection whose space the vectors are of (arrays from elsewhere).", show_default=False
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Read a file into a collection: new, or of the same space. The whole file is checked before a row is written."""
    from outcrop.store.arrays import SUFFIXES, import_arrays
    from outcrop.store.collection import Collection
    from outcrop.store.transfer import import_parquet, read_parquet_facts

    with opened_store(session) as store, Meter("import", None, "items", session.quiet) as meter:
        if file.suffix in SUFFIXES:
            space = Collection.open(store, space_of).space if space_of else None
            target = to or session.settings.collection
            if dry_run:
                raise InputError("--dry-run is for .parquet files: only they say how many rows they have")
            done = import_arrays(store, file, target, space=space, index=index, progress=meter.update)
        else:
            found, facts = read_parquet_facts(file)
            if dry_run:
                name = to or facts.get("name")
                answer(session, {"rows": facts.get("rows"), "to": name, "space": found.fingerprint, "dry_run": True}, f"would import {facts.get('rows')} items of {found} into {name}")  # fmt: skip
                return
            done = import_parquet(store, file, to, index=index, progress=meter.update)
    answer(session, {"rows": done.rows, "physical": done.target, "checked": done.checked}, f"{done.rows} items of {file} are in {done.target} ({done.checked} compared bit for bit)")  # fmt: skip


@command(app, STORE, STATE)
def copy(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of the collection.")],
    to_uri: Annotated[
        Optional[str],
        typer.Option(
            "--to-uri", help="Milvus to copy to; its token is OUTCROP_TO_TOKEN. [the same one]", show_default=False
        ),
    ] = None,
    to: To = None,
    index: Index = None,
    dry_run: DryRun = False,
) -> None:
    """Copy a collection to another Milvus (Lite to server and back), verified by counts, ids and sampled vectors."""
    import os

    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store
    from outcrop.store.tls import Tls
    from outcrop.store.transfer import copy as copy_collection

    settings = session.settings
    with opened(session, name) as source:
        rows = source.count()
        plain = name if source.physical != name else name.removesuffix(f"__{source.space.fingerprint[:8]}")
        target_name = to or plain
        if to_uri is None or to_uri == settings.uri:
            target = source.store
        else:
            tls = Tls.of(settings) if to_uri.startswith("https://") else None
            target = Store.connect(to_uri, os.environ.get("OUTCROP_TO_TOKEN"), settings.timeout, tls)
        try:
            if dry_run:
                there = Collection.find(target, target_name)
                found = f"{there.count()} items there" if there is not None else "a new collection"
                answer(session, {"rows": rows, "to": target_name, "dry_run": True}, f"would copy {rows} items to {target_name} in {target.describe()} ({found})")  # fmt: skip
                return
            with Meter("copy", rows, "items", session.quiet) as meter:
                done = copy_collection(source, target, target_name, index=index, progress=meter.update)
            described = target.describe()
        finally:
            if target is not source.store:
                target.close()
    answer(session, {"rows": done.rows, "to": done.target, "checked": done.checked}, f"{done.rows} items copied to {done.target} in {described} ({done.checked} compared bit for bit)")  # fmt: skip
