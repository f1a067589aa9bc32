"""`ingest manifest`: runs what a manifest describes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outcrop.ingest.console import keeper_of, kept_features, run_ingest
from outcrop.ingest.options import DryRun, Force, Index, Metrics, Patience, app
from outcrop.schema.errors import PartialFailure
from outcrop.screen.options import MODEL, REGISTRY, STATE, STORE, Session, command
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.ingest.manifest import Part
    from outcrop.schema.manifest import Manifest


@command(app, STORE, REGISTRY, MODEL, STATE)
def manifest(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The manifest, JSON or YAML.", show_default=False)],
    force: Force = False,
    dry_run: DryRun = False,
    index: Index = None,
    patience: Patience = 60.0,
    metrics_file: Metrics = None,
) -> None:
    """Embed the datasets and written references that a manifest names; options win over what it says."""
    from outcrop.ingest.manifest import list_manifest, whole
    from outcrop.schema.manifest import read_manifest

    described = read_manifest(file)
    session = _settled(session, described, file.parent)
    settings = session.settings
    references = settings.references or settings.datasets_folder
    parts = list_manifest(described, settings.registry, settings.datasets_folder, references)
    if dry_run:
        _print_plan(session, described, parts, force or described.run.force)
        return
    arguments = {
        "name": file.name,
        "manifest": str(file.absolute()),
        "registry": str(settings.registry.absolute()),
        "datasets": str(settings.datasets_folder.absolute()),
        "references": str(references.absolute()),
        "force": force or described.run.force,
        "batch": described.run.batch,
        "workers": described.run.workers,
        "thumbnails": described.run.thumbnails,
        "patience": patience,
        "metrics": str(metrics_file) if metrics_file is not None else None,
    }
    arguments |= kept_features(session, ",".join(described.kinds) or None, None)
    listing = whole(file.name, parts)
    try:
        run_ingest(session, "manifest", listing, arguments, fit=described.fit, size=described.size, index=index)
    except PartialFailure:  # what did not fail is there, and its files are wanted
        _write_files(session, described, file.parent)
        raise
    _write_files(session, described, file.parent)


def _write_files(session: Session, described: Manifest, base: Path) -> None:
    """Writes the files of a manifest's items to its output roots; what is there and up to date stays."""
    from outcrop.ingest.imgmatching import ImgMatching
    from outcrop.schema.filters import equals
    from outcrop.schema.manifest import output_roots
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    images, references = output_roots(described, base)
    wanted = [
        (images, "image", list(described.datasets)),
        (references, "reference", list(dict.fromkeys(group.dataset for group in described.image_groups))),
    ]
    if not any(root is not None and names for root, _, names in wanted):
        return
    layout = ImgMatching(session.settings.exports / "features")
    with Store.of(session.settings) as store:
        collection = Collection.open(store, session.settings.collection)
        for root, kind, names in wanted:
            filter = equals("kind", kind) & equals("dataset", *names) if names else None
            if root is not None and filter is not None and collection.count(filter):
                count = layout.write(collection, root, filter)
                session.say(f"files of {count} {kind}s: {root.absolute()}")


def _settled(session: Session, described: Manifest, base: Path) -> Session:
    """The settings with what the manifest says; what options say stays."""
    from outcrop.schema.manifest import weights_of
    from outcrop.schema.registry import read_registry

    said: dict[str, object] = {
        "model": described.model,
        "collection": described.collection,
        "registry": base / described.registry if described.registry is not None else None,
    }
    update = {name: value for name, value in said.items() if value is not None and name not in session.given}
    settings = session.settings.model_copy(update=update)
    if described.weights is not None and "weights" not in session.given:
        registry = settings.registry
        weights = weights_of(described, base, read_registry(registry).weights, registry.parent)
        settings = settings.model_copy(update={"weights": weights})
    return replace(session, settings=settings)


def _print_plan(session: Session, described: Manifest, parts: tuple[Part, ...], force: bool) -> None:
    from outcrop.embed.models import resolve
    from outcrop.ingest.manifest import expected_rate, plan, whole
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    with Store.of(session.settings) as store:
        found = Collection.find(store, session.settings.collection)
        asked = (found.space, found.weights_hint) if found is not None else ()
        space = resolve(session.settings, *asked, size=described.size, fit=described.fit).space
        features = keeper_of(kept_features(session, ",".join(described.kinds) or None, None), space)
        outlooks = plan(parts, found, force=force, features=features)
    for remark in whole("", parts).remarks:
        session.warn(remark)
    counts = ("expected", "missing", "unchanged", "to_embed")
    rows = [
        {"kind": str(part.kind), "dataset": part.dataset, **{name: getattr(outlook, name) for name in counts}}
        for part, outlook in outlooks
    ]
    totals = {name: sum(int(str(row[name])) for row in rows) for name in counts}
    rate = expected_rate(session.settings.state, space.model)
    seconds = round(totals["to_embed"] / rate, 1) if rate else None
    if session.format == "json":
        print_json({"dry_run": True, "space": str(space), **totals, "seconds": seconds, "parts": rows})
        return
    print_table([*rows, {"kind": "in all", "dataset": "", **totals}], ("kind", "dataset", *counts), str(space))
    if seconds is not None:
        print(f"about {seconds:g} s at {rate:.1f} items/s, as in earlier runs of {space.model}")
    elif totals["to_embed"]:
        print(f"no run of {space.model} so far tells how long that takes")
