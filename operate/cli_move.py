"""`collection` subcommands that move data: export, import, copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outcrop.operate.commands import app
from outcrop.operate.console import INDEX, STORE, DryRun, Given, answer, opened, opened_store, remark_on_size
from outcrop.schema.errors import FilterError, InputError
from outcrop.schema.filters import Filter
from outcrop.schema.filters import asked as conditions
from outcrop.schema.places import is_remote, require_disk
from outcrop.screen.options import KEPT_FEATURES, STATE, Session, command, hidden, option
from outcrop.screen.progress import Meter

if TYPE_CHECKING:
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

Writer = Callable[..., tuple[int, int]]
"""Writes a collection's items under a filter to a file; returns how many, and how many it left out."""
WITHOUT_VECTORS = (".csv", ".geojson", ".kml")
Where = Annotated[list[str] | None, option("--where", help="Only items that fit: FIELD=VALUE and so on; repeatable.")]
To = Annotated[str | None, option("--to", help="Name of the collection to write. [the one it came from]")]
Target = Annotated[
    Path,
    typer.Argument(
        help="….parquet; ….npy or ….faiss (with ids, items and space beside); without vectors ….csv, ….geojson or ….kml; "
        "a folder with --layout."
    ),
]
SpaceOf = Annotated[
    str | None, option("--space-of", help="Collection whose space the vectors are of (arrays from elsewhere).")
]
ToUri = Annotated[
    str | None, option("--to-uri", help="Milvus to copy to; its token is OUTCROP_TO_TOKEN. [the same one]")
]
Source = Annotated[
    Path, typer.Argument(help="A file that `collection export` wrote, or vectors with ids from elsewhere.")
]


@command(app, STORE, KEPT_FEATURES, hidden(STATE), name="export")
def export_collection(
    session: Session,
    name: Given,
    file: Target,
    where: Where = None,
    layout: Annotated[
        str | None,
        option("--layout", help="Write a tree of files as another program keeps them: fossilvit or imgmatching."),
    ] = None,
    force: Annotated[bool, option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a collection to a file: keys, metadata, own columns, vectors and the space."""
    filter = conditions(*(where or ()))
    if layout is not None:
        _export_tree(session, name, file, filter, layout, force)
        return
    write = _writer(file, force)
    with (
        opened(session, name) as collection,
        Meter("export", _counted(session, collection, filter), "items", session.quiet) as meter,
    ):
        rows, unlocated = write(collection, file, filter, meter.update)
        if file.suffix not in WITHOUT_VECTORS:
            _warn_of_averages(session, collection, file)
            _leave_vocabulary(session, collection, file.absolute().parent)
    values = {"rows": rows, "file": str(file), "collection": collection.physical}
    if unlocated:
        values["unlocated"] = unlocated
        session.warn(f"{unlocated} items have no position and are not in {file}; ….csv has all")
    answer(session, values, f"{rows} items of {collection.physical} in {file}")


def _writer(file: Path, force: bool) -> Writer:
    """Before any work: whether the file can be written, and what writes its format.

    Raises:
        InputError: it exists, its folder does not, or its ending names no format.
    """
    from outcrop.store import arrays, map_files, transfer

    def parquet(*given: Any) -> tuple[int, int]:
        return transfer.export_parquet(*given[:-1], progress=given[-1]).rows, 0

    def vectors(*given: Any) -> tuple[int, int]:
        return arrays.export_arrays(*given[:-1], progress=given[-1]).rows, 0

    def items(*given: Any) -> tuple[int, int]:
        done = map_files.export_items(*given[:-1], progress=given[-1])
        return done.rows, done.unlocated

    writers: dict[str, Writer] = {".parquet": parquet, **dict.fromkeys(arrays.SUFFIXES, vectors)}
    writers |= dict.fromkeys(map_files.SUFFIXES, items)
    if file.exists() and not force:
        raise InputError(f"{file} exists; give another name, or --force")
    if file.suffix not in writers:
        raise InputError(f"{file} must end in one of {', '.join(writers)}: the ending chooses the format")
    if not is_remote(file) and not file.absolute().parent.is_dir():
        raise InputError(f"the folder {file.absolute().parent} does not exist; create it")
    return writers[file.suffix]


def _counted(session: Session, collection: Collection, filter: Filter) -> int:
    """How many items a filter keeps; where there is none, says why. A part that is empty is a file all the same."""
    from outcrop.query.held import why_empty

    count = collection.count(filter)
    if not count and filter.conditions:
        try:
            why = why_empty(filter, collection)
        except FilterError as error:  # a misspelt name
            why = str(error)
        session.warn(f"nothing is exported: {why}")
    return count


def _warn_of_averages(session: Session, collection: Collection, where: Path) -> None:
    """Of vectors without their collection nobody could say that they are averaged; Parquet files do."""
    if collection.averaged is not None and where.suffix != ".parquet":
        session.warn(f"the vectors are averaged ({collection.averaged}), which {where} does not say; ….parquet does")


def _leave_vocabulary(session: Session, collection: Collection, folder: Path) -> None:
    from outcrop.operate.vocabularies import leave_beside

    if warning := leave_beside(collection.space, session.settings, folder):
        session.warn(warning)


def _export_tree(session: Session, name: str, folder: Path, filter: Filter, layout: str, force: bool) -> None:
    from outcrop.ingest.layout_names import layout_named
    from outcrop.ingest.layouts import SPACE_FILE, export_tree

    require_disk(folder, "the folder")
    chosen = layout_named(layout, session.settings.features_folder)
    if chosen.folders and (folder / SPACE_FILE).exists() and not force:
        raise InputError(f"{folder} holds an earlier export; give another folder, or --force to replace it")
    with opened(session, name) as collection, Meter("export", None, "vectors", session.quiet) as meter:
        rows = export_tree(chosen, collection, folder, filter, meter.update)
        _warn_of_averages(session, collection, folder)
        _leave_vocabulary(session, collection, folder)
    values = {"rows": rows, "folder": str(folder), "layout": layout, "collection": collection.physical}
    answer(session, values, f"{rows} vectors of {collection.physical} in {folder} ({layout})")


@command(app, STORE, INDEX, hidden(STATE), name="import")
def import_collection(
    session: Session,
    file: Source,
    to: To = None,
    space_of: SpaceOf = None,
    dry_run: DryRun = False,
) -> None:
    """Read a file into a collection: new, or of the same space. The whole file is checked before a row is written."""
    from outcrop.store.arrays import SUFFIXES, import_arrays
    from outcrop.store.bulk import Bulk
    from outcrop.store.collection import Collection
    from outcrop.store.transfer import import_parquet

    settings, to = session.settings, to or session.given.get("collection")
    if dry_run:
        _print_import(session, file, to)
        return
    _take_vocabulary(session, file)
    with opened_store(session, create=True) as store, Meter("import", None, "items", session.quiet) as meter:
        if file.suffix in SUFFIXES:
            space = Collection.open(store, space_of).space if space_of else None
            target = (store, file, to or settings.collection)
            done = import_arrays(*target, space=space, index=settings.index, progress=meter.update)
        else:
            done = import_parquet(
                store, file, to, index=settings.index, progress=meter.update, bulk=Bulk.of(settings), say=session.say
            )
        remark_on_size(session, store, done.rows)
    values = {"rows": done.rows, "physical": done.target, "checked": done.checked}
    answer(session, values, f"{done.rows} items of {file} are in {done.target} ({done.checked} compared bit for bit)")


def _take_vocabulary(session: Session, file: Path) -> None:
    """Sees to the vocabulary of the space that a file, or the one beside its vectors, says it is of."""
    from outcrop.operate.vocabularies import take_from_beside
    from outcrop.store.arrays import SUFFIXES, space_beside
    from outcrop.store.transfer import read_parquet_facts

    stated = space_beside(file) if file.suffix in SUFFIXES else read_parquet_facts(file)[0]
    if stated is not None:
        take_from_beside(stated, session.settings, file)


def _print_import(session: Session, file: Path, to: str | None) -> None:
    """What an import would do, as far as the file says it."""
    from outcrop.store.arrays import SUFFIXES
    from outcrop.store.transfer import read_parquet_facts

    if file.suffix in SUFFIXES:
        raise InputError("--dry-run is for .parquet files: only they say how many rows they have")
    found, facts = read_parquet_facts(file)
    name, rows = to or facts.get("name"), facts.get("rows")
    values = {"rows": rows, "to": name, "space": found.fingerprint, "dry_run": True}
    answer(session, values, f"would import {rows} items of {found} into {name}")


@command(app, STORE, STATE, INDEX)
def copy(
    session: Session,
    name: Given,
    to_uri: ToUri = None,
    to: To = None,
    dry_run: DryRun = False,
) -> None:
    """Copy a collection to another Milvus (Lite to server and back), verified by counts, ids and sampled vectors."""
    from outcrop.operate.vocabularies import missing
    from outcrop.store.bulk import Bulk
    from outcrop.store.transfer import copy as copy_collection

    with opened(session, name) as source:
        rows = source.count()
        if warning := missing(source.space, session.settings):
            session.warn(warning)
        plain = name if source.physical != name else name.removesuffix(f"__{source.space.fingerprint[:8]}")
        with _target(session, source.store, to_uri, dry_run) as target:
            if dry_run or target is None:
                _print_copy(session, rows, to or plain, target, to_uri or "")
                return
            with Meter("copy", rows, "items", session.quiet) as meter:
                index = session.settings.index
                bulk = Bulk.of(session.settings)
                done = copy_collection(
                    source, target, to or plain, index=index, progress=meter.update, bulk=bulk, say=session.say
                )
            described = target.describe()
    text = f"{done.rows} items copied to {done.target} in {described} ({done.checked} compared bit for bit)"
    answer(session, {"rows": done.rows, "to": done.target, "checked": done.checked}, text)


@contextmanager
def _target(session: Session, source: Store, uri: str | None, dry_run: bool) -> Iterator[Store | None]:
    """The store to copy to, open: the source's own, or another with OUTCROP_TO_TOKEN as its token; None where a dry run would
    make it."""
    import os

    from outcrop.store.connection import Store, is_missing
    from outcrop.store.tls import Tls

    settings = session.settings
    if uri is None or uri == settings.uri:
        yield source
        return
    if dry_run and is_missing(uri):
        yield None
        return
    tls = Tls.of(settings) if uri.startswith("https://") else None
    with Store.connect(uri, os.environ.get("OUTCROP_TO_TOKEN"), settings.timeout, tls) as target:
        yield target


def _print_copy(session: Session, rows: int, name: str, target: Store | None, uri: str) -> None:
    """What a copy would do."""
    from outcrop.store.collection import Collection

    present = Collection.find(target, name) if target is not None else None
    found = f"{present.count()} items there" if present is not None else "a new collection"
    described = target.describe() if target is not None else f"Milvus Lite {uri}"
    values = {"rows": rows, "to": name, "dry_run": True}
    answer(session, values, f"would copy {rows} items to {name} in {described} ({found})")
