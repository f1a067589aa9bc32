"""`collection` subcommands that look: list, describe, stats, verify, audit, doctor, plan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from outcrop.operate.console import (
    DryRun,
    Metrics,
    Name,
    Root,
    Yes,
    agreed,
    answer,
    answer_rows,
    app,
    opened,
    opened_store,
)
from outcrop.schema.errors import Damaged, PartialFailure, Refused
from outcrop.screen.metrics import write_metrics
from outcrop.screen.options import MODEL, REGISTRY, STATE, STORE, Session, command
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table


@command(app, STORE, name="list")
def list_all(session: Session) -> None:
    """List the collections with their spaces, indexes and rows."""
    from outcrop.store.inventory import list_collections

    with opened_store(session) as store:
        entries = list_collections(store)
        described = store.describe()
    rows = [
        {
            "name": ", ".join(e.aliases),
            "physical": e.physical,
            "rows": e.rows,
            "model": e.space.model if e.space else "(not Outcrop's)",
            "dim": e.space.dim if e.space else None,
            "index": e.index,
            "loaded": e.loaded,
        }
        for e in entries
    ]
    answer_rows(
        session, rows, ("name", "physical", "rows", "model", "dim", "index", "loaded"), described, store=described
    )


@command(app, STORE)
def describe(session: Session, name: Name = None) -> None:
    """Show a collection's space, fields, index, aliases, and true counts by kind, dataset and altitude."""
    from outcrop.store.inventory import describe as describe_collection
    from outcrop.store.inventory import field_rows

    with opened(session, name) as collection:
        d = describe_collection(collection)
    counts = [{"kind": kind, "dataset": dataset, "rows": rows} for (kind, dataset), rows in d.counts.items()]
    altitudes = [{"altitude": altitude, "rows": rows} for altitude, rows in d.altitudes.items()]
    index = asdict(d.index) | {"build": d.build}
    facts = {
        "name": d.name, "physical": d.physical, "aliases": list(d.aliases), "rows": d.rows, "loaded": d.loaded, "previous": d.previous,
        "weights": d.weights, "space": d.space.model_dump(mode="json") | {"fingerprint": d.space.fingerprint}, "index": index,
    }  # fmt: skip
    if session.format == "json":
        print_json(
            {
                **facts,
                "partitions": list(d.partitions),
                "counts": counts,
                "altitudes": altitudes,
                "fields": field_rows(),
            }
        )
        return
    shown = {**facts, "aliases": ", ".join(d.aliases), "space": str(d.space)}
    shown["index"] = (
        f"{d.index.profile} {d.build or ''}: {d.index.state}, {d.index.indexed} indexed, {d.index.pending} pending"
    )
    print_table([{"": key, "value": str(value)} for key, value in shown.items()], ("", "value"), d.name)
    print_table(counts, ("kind", "dataset", "rows"), "items")
    if len(altitudes) > 20:
        low, high = min(d.altitudes), max(d.altitudes)
        print(f"altitudes: {len(altitudes)} different, {low:g} to {high:g} m, {sum(d.altitudes.values())} items")
    elif altitudes:
        print_table(altitudes, ("altitude", "rows"), "altitudes (m)")
    print_table(field_rows(), ("field", "type", "meaning"), "fields")


@command(app, STORE)
def stats(session: Session, name: Name = None) -> None:
    """Count the rows: truly, and as the server's statistics have them (superseded rows count there until compaction)."""
    with opened(session, name) as collection:
        store = collection.store
        true = collection.count()
        with store.calling("read statistics"):
            estimate = int(
                store.client.get_collection_stats(collection.physical, timeout=store.timeout).get("row_count", 0)
            )
        state = collection.index_state()
        values = {
            "name": collection.name, "rows": true, "server_rows": estimate, "superseded": max(0, estimate - true), "indexed": state.indexed,
            "pending": state.pending, "partitions": len(collection.partitions()), "raw_mib": round(true * collection.space.dim * 4 / 2**20, 1),
        }  # fmt: skip
    answer_rows(session, [values], tuple(values))


@command(app, STORE)
def verify(
    session: Session,
    name: Name = None,
    min_recall: Annotated[float, typer.Option("--min-recall", min=0, max=1, help="Exit 6 below this recall@k.")] = 0.9,
    k: Annotated[int, typer.Option("-k", "--top-k", min=1, max=1000, help="Hits per sample.")] = 10,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=10_000, help="Stored vectors that are asked again.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    param: Annotated[
        Optional[list[str]],
        typer.Option("--param", help="Search parameter NAME=VALUE instead of the profile's.", show_default=False),
    ] = None,
    metrics_file: Metrics = None,
) -> None:
    """Compare the index's hits with exact hits at several filter selectivities: recall@k of the live collection."""
    from outcrop.operate.console import build_parameters
    from outcrop.store.verify import verify as verify_collection

    with opened(session, name) as collection, Meter("verify", None, "rows", session.quiet) as meter:
        result = verify_collection(
            collection,
            k=k,
            samples=samples,
            seed=seed,
            search_params=build_parameters(param, "--param"),
            progress=meter.update,
        )
    rows = [asdict(check) for check in result.checks]
    values = {
        "collection": result.collection, "index": result.index, "k": k, "samples": result.samples, "rows": result.rows, "recall": result.recall,
        "near_random": result.near_random, "checks": rows, "damaged": dict(result.damaged),
    }  # fmt: skip
    if session.format == "json":
        print_json(values)
    else:
        title = f"recall@{k} of {result.collection} ({result.index}, {result.rows} rows, {result.samples} samples)"
        print_table(rows, ("share", "kept", "recall", "worst", "short", "milliseconds"), title)
    if metrics_file is not None:
        figures = {"recall": result.recall, "rows": result.rows, "passed": float(result.recall >= min_recall)}
        write_metrics(Path(metrics_file), "verify", figures, {"collection": result.collection, "index": result.index})
    if result.damaged:
        key, fault = next(iter(result.damaged.items()))
        raise Damaged(
            f"{len(result.damaged)} of {result.rows} rows of {result.collection!r} are not what was written ({key}: {fault}); "
            "ingest them again with --force, or import an export"
        )
    if result.near_random:
        raise Refused(
            f"the index {result.index} of {result.collection!r} is near random (recall@{k} {result.recall:.3f} without any filter): "
            f"build it again (collection index {result.collection} {result.index}) or use another"
        )
    if result.recall < min_recall:
        raise Refused(
            f"recall@{k} of {result.collection!r} is {result.recall:.3f}, below {min_recall}: "
            f"build {result.index} with larger parameters, or use another index"
        )


@command(app, STORE, REGISTRY, MODEL, STATE)
def audit(
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
    digests: Annotated[
        bool, typer.Option("--digests", help="Read every file instead of trusting size and time.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Run the repairs: ingest what is missing or changed, remove orphans.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    metrics_file: Metrics = None,
) -> None:
    """Hold the registry against the disk and the collection: missing, changed and orphaned items, another space."""
    from outcrop.operate.audit import TROUBLES as troubles
    from outcrop.operate.audit import audit as look
    from outcrop.operate.audit import repair

    settings = session.settings
    with opened(session, name) as collection:
        audits = look(collection, settings, dataset, root=root, digests=digests)
        fixed = fix and not dry_run and not all(a.in_order for a in audits)
        if fixed:
            lost = sum(a.count("orphan") for a in audits)
            if lost:
                agreed(f"Remove {lost} orphaned items from {collection.name!r}?", yes)
            for each in audits:
                repair(collection, each, settings, digests=digests, say=session.say)
            audits = look(collection, settings, dataset, root=root, digests=digests)
    rows: list[dict[str, Any]] = [
        {"dataset": a.dataset, "good": a.good, **{t: a.count(t) for t in troubles}, "stale": a.stale} for a in audits
    ]
    if session.format == "json":
        findings = [{"dataset": a.dataset, **asdict(f)} for a in audits for f in a.findings]
        print_json(
            {
                "collection": audits[0].collection,
                "fixed": fixed,
                "rows": rows,
                "findings": findings,
                "repairs": [r for a in audits for r in a.repairs],
            }
        )
    else:
        print_table(
            rows,
            ("dataset", "good", *troubles, "stale"),
            f"audit of {audits[0].collection}{' (after the repairs)' if fixed else ''}",
        )
        for a in audits:
            if a.findings:
                print_table(
                    [asdict(f) for f in a.findings[:20]],
                    ("trouble", "key", "source", "reason"),
                    f"{a.dataset}: {len(a.findings)} findings",
                )
            for line in a.repairs:
                print(f"repair: {line}")
    total: dict[str, float] = {t: float(sum(row[t] for row in rows)) for t in troubles}
    if metrics_file is not None:
        write_metrics(
            Path(metrics_file),
            "audit",
            {**total, "good": float(sum(a.good for a in audits))},
            {"collection": audits[0].collection},
        )
    if not all(a.in_order for a in audits):
        raise PartialFailure(
            "the audit found "
            + ", ".join(f"{int(v)} {t}" for t, v in total.items())
            + (", and another space" if any(a.stale for a in audits) else "")
        )


@command(app, STORE, STATE)
def doctor(
    session: Session,
    probe_index: Annotated[
        Optional[str],
        typer.Option(
            "--probe-index", help="Build such an index on a small collection and remove it again.", show_default=False
        ),
    ] = None,
    deadline: Annotated[float, typer.Option("--deadline", min=1, help="Seconds for the probe.")] = 60.0,
) -> None:
    """Check reach, version, index support, health, disk, clock and GPU: what is wrong, and what to do."""
    from outcrop.operate.doctor import examine

    findings = list(examine(session.settings, probe_index=probe_index, deadline=deadline))
    if session.format == "json":
        print_json({"findings": [asdict(f) for f in findings], "ok": all(f.verdict != "wrong" for f in findings)})
    elif not session.quiet:
        print_table([asdict(f) for f in findings], ("check", "verdict", "seen", "advice"))
    wrong = [f for f in findings if f.verdict == "wrong"]
    if wrong:
        from outcrop.schema.errors import StoreUnreachable

        family = StoreUnreachable if any(f.check == "store" for f in wrong) else PartialFailure
        raise family("; ".join(f"{f.check}: {f.seen}" + (f" ({f.advice})" if f.advice else "") for f in wrong))


@command(app, STATE, MODEL)
def plan(
    session: Session,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Vectors: images, references (images x angles x crops), views.")
    ],
    dim: Annotated[
        Optional[int], typer.Option("--dim", min=1, help="Numbers in a vector. [the model's]", show_default=False)
    ] = None,
    index: Annotated[
        Optional[str], typer.Option("--index", help="Index profile. [the one that fits best]", show_default=False)
    ] = None,
    gpu_memory: Annotated[
        Optional[float], typer.Option("--gpu-memory", help="GiB of the GPU.", show_default=False)
    ] = None,
    memory: Annotated[Optional[float], typer.Option("--memory", help="GiB of the machine.", show_default=False)] = None,
    rate: Annotated[
        Optional[float], typer.Option("--rate", help="Items embedded per second. [of the last run]", show_default=False)
    ] = None,
    build_rate: Annotated[
        Optional[float],
        typer.Option("--build-rate", help="Rows indexed per second, where measured.", show_default=False),
    ] = None,
) -> None:
    """Size a collection before anything runs: memory, disk, time, and which backend and index to take."""
    from outcrop.embed.models import find_preset
    from outcrop.ingest.records import list_runs
    from outcrop.store.plan import plan as size

    if dim is None:
        dim = find_preset(session.settings.model or "dinov3_vits16").dim
    if rate is None:
        rate = next((r.images_per_second for r in list_runs(session.settings.state) if r.embedded >= 50), None)
    result = size(rows, dim, index, gpu_gib=gpu_memory, host_gib=memory, rate=rate, build_rate=build_rate)
    values = asdict(result)
    if session.format == "json":
        print_json(values)
        return
    gib = {
        name: f"{values[name] / 2**30:.2f} GiB"
        for name in ("raw", "host_memory", "gpu_memory", "build_peak", "disk", "thumbnails")
    }
    hours = {
        name: "unknown: give a rate" if values[name] is None else f"{values[name]:.2f} h"
        for name in ("embed_hours", "build_hours")
    }
    shown = {"rows": f"{rows:,}", "dim": dim, "index": result.index, "backend": result.backend, **gib, **hours}
    print_table([{"": key, "value": str(value)} for key, value in shown.items()], ("", "value"))
    answer(session, values, result.advice)
