"""`collection` subcommands that look: list, describe, stats, verify, audit, doctor, plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from outcrop.operate.commands import app
from outcrop.operate.console import (
    STORE,
    Datasets,
    DryRun,
    Name,
    Root,
    Yes,
    agreed,
    answer,
    answer_rows,
    opened,
    opened_store,
    parameters,
    print_facts,
    remark_on_size,
)
from outcrop.schema.errors import Damaged, PartialFailure, Refused, StoreUnreachable
from outcrop.screen.metrics import write_metrics
from outcrop.screen.options import METRICS, MODEL, REGISTRY, SEED, STATE, Group, Session, command, hidden, option
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.operate.machine import Finding
    from outcrop.operate.survey import Survey
    from outcrop.store.inventory import Description, Entry
    from outcrop.store.plan import Plan
    from outcrop.store.verify import Verification

MANY_ALTITUDES = 20
"""With more altitudes than this, a range is shown instead of a table."""
SHOWN_FINDINGS = 20
LISTED = ("name", "physical", "rows", "model", "dim", "index", "state")
SIZES = ("raw", "host_memory", "gpu_memory", "build_peak", "disk", "thumbnails")
TIMES = ("embed_hours", "build_hours")


@command(app, STORE, name="list")
def list_all(session: Session) -> None:
    """List the collections with their spaces, indexes and rows."""
    from outcrop.store.connection import is_missing, missing_text
    from outcrop.store.inventory import list_collections
    from outcrop.store.tls import Tls

    if is_missing(session.settings.uri):
        Tls.of(session.settings).arguments(
            session.settings.uri
        )  # what does not fit the address is refused all the same
        session.say(missing_text(session.settings.uri))
        answer_rows(session, (), LISTED, session.settings.uri, store=f"Milvus Lite {session.settings.uri}")
        return
    with opened_store(session) as store:
        entries = list_collections(store, counts=True)
        described, lite = store.describe(), store.lite
    rows = [_entry_row(entry, lite) for entry in entries]
    if any(e.estimated for e in entries):
        names = ", ".join(e.physical for e in entries if e.estimated)
        session.say(f"estimated, since counting would load them: the rows of {names}")
    answer_rows(session, rows, LISTED, described, store=described)


def _entry_row(entry: Entry, lite: bool) -> dict[str, Any]:
    """A line of the list."""
    from outcrop.store.inventory import state_of

    return {
        "name": ", ".join(entry.aliases),
        "physical": entry.physical,
        "rows": entry.rows,
        "model": entry.space.model if entry.space else "(not Outcrop's)",
        "dim": entry.space.dim if entry.space else None,
        "index": entry.index,
        "loaded": entry.loaded,
        "estimated": entry.estimated,
        "state": state_of(lite or entry.loaded),
    }


@command(app, STORE)
def describe(session: Session, name: Name = None) -> None:
    """Show a collection's space, fields, index, aliases, and true counts by kind, dataset and altitude."""
    from outcrop.store.inventory import describe as describe_collection

    with opened(session, name) as collection:
        found = describe_collection(collection)
        remark_on_size(session, collection.store, found.rows)
    if session.format == "json":
        print_json(found.as_json())
    else:
        _print_description(found)


def _print_description(found: Description) -> None:
    facts = found.as_json()
    index = found.index
    shown: dict[str, Any] = {name: facts[name] for name in ("name", "physical")}
    shown["aliases"] = ", ".join(found.aliases)
    shown["rows"] = found.rows
    shown["state"] = found.state
    shown |= {name: facts[name] for name in ("previous", "weights") if facts[name]}
    shown["space"] = str(found.space)
    shown |= {"averaged": str(found.averaged)} if found.averaged is not None else {}
    shown["index"] = (
        f"{index.profile} {found.build or ''}: {index.state}, {index.indexed} indexed, {index.pending} pending"
    )
    print_facts(shown, found.name)
    print_table(facts["counts"], ("kind", "dataset", "rows"), "items")
    if len(found.altitudes) > MANY_ALTITUDES:
        low, high, items = min(found.altitudes), max(found.altitudes), sum(found.altitudes.values())
        print(f"altitudes: {len(found.altitudes)} different, {low:g} to {high:g} m, {items} items")
    elif found.altitudes:
        print_table(facts["altitudes"], ("altitude", "rows"), "altitudes (m)")
    print_table(facts["fields"], ("field", "type", "meaning"), "fields")
    if facts["columns"]:
        print_table(facts["columns"], ("column", "type"), "own columns")


@command(app, STORE)
def stats(session: Session, name: Name = None) -> None:
    """Count the rows: true counts, and the server's statistics (superseded rows count there until compaction)."""
    from outcrop.store.inventory import statistics

    with opened(session, name) as collection:
        values = asdict(statistics(collection))
        remark_on_size(session, collection.store, values["rows"])
    answer_rows(session, [values], tuple(values))


@dataclass(frozen=True)
class Sampling:
    """How recall is measured."""

    min_recall: Annotated[float, option("--min-recall", min=0, max=1, help="Exit 6 below this recall@k. [0.9]")] = 0.9
    k: Annotated[int, option("-k", "--top-k", min=1, max=1000, help="Hits per sample. [10]")] = 10
    samples: Annotated[
        int | None,
        option(
            "--samples",
            min=1,
            max=10_000,
            help="Number of stored vectors to search with. [100, fewer in a large exact index of a server]",
        ),
    ] = None
    param: Annotated[
        list[str] | None, option("--param", help="Search parameter NAME=VALUE instead of the profile's; repeatable.")
    ] = None


@command(app, STORE, METRICS, SEED)
def verify(session: Session, sampling: Sampling, name: Name = None) -> None:
    """Compare the index's hits with exact hits at several filter selectivities: recall@k of the live collection."""
    from outcrop.store.verify import verify as verify_collection

    metrics, given = session.settings.metrics, parameters(sampling.param, "--param")
    with opened(session, name) as collection, Meter("verify", None, "rows", session.quiet) as meter:
        result = verify_collection(
            collection,
            k=sampling.k,
            samples=sampling.samples,
            seed=session.settings.seed,
            search_params=given,
            progress=meter.update,
        )
    _say_fewer(session, sampling, result)
    if metrics is not None:
        passed = float(result.recall >= sampling.min_recall)
        figures = {"recall": result.recall, "rows": result.rows, "passed": passed}
        write_metrics(metrics, "verify", figures, {"collection": result.collection, "index": result.index})
    _print_verification(session, result)
    _require_recall(result, sampling.min_recall)


def _say_fewer(session: Session, sampling: Sampling, result: Verification) -> None:
    from outcrop.store.verify import SAMPLES

    if sampling.samples is None and result.samples < min(SAMPLES, result.rows):
        session.say(
            f"{result.index} compares each sample with all {result.rows} rows: {result.samples} samples were asked for instead of "
            f"{SAMPLES}; --samples asks for more"
        )


def _print_verification(session: Session, result: Verification) -> None:
    from outcrop.store.verify import recall_bucket

    rows = [{**asdict(check), "bucket": check.bucket} for check in result.checks]
    if session.format == "json":
        names = ("collection", "index", "k", "samples", "rows", "recall", "near_random")
        values = {name: getattr(result, name) for name in names}
        values["bucket"] = recall_bucket(result.recall)
        print_json({**values, "checks": rows, "damaged": dict(result.damaged)})
    else:
        facts = f"{result.index}, {result.rows} rows, {result.samples} samples"
        title = f"recall@{result.k} of {result.collection} ({facts})"
        print_table(rows, ("share", "kept", "recall", "bucket", "worst", "short", "milliseconds"), title)


def _require_recall(result: Verification, min_recall: float) -> None:
    """Raises `Damaged` for rows that are not what was written, `Refused` for an index that misses too much."""
    if result.damaged:
        key, fault = next(iter(result.damaged.items()))
        raise Damaged(
            f"{len(result.damaged)} of {result.rows} rows of {result.collection!r} are not what was written "
            f"({key}: {fault}); ingest them again with --force, or import an export"
        )
    if result.near_random:
        raise Refused(
            f"the index {result.index} of {result.collection!r} is near random "
            f"(recall@{result.k} {result.recall:.3f} without any filter): "
            f"build it again (collection index {result.collection} {result.index}) or use another"
        )
    if result.recall < min_recall:
        raise Refused(
            f"recall@{result.k} of {result.collection!r} is {result.recall:.3f}, below {min_recall}: "
            f"build {result.index} with larger parameters, or use another index"
        )


@command(app, STORE, REGISTRY, hidden(MODEL), STATE, METRICS)
def audit(
    session: Session,
    name: Name = None,
    dataset: Datasets = None,
    root: Root = None,
    digests: Annotated[bool, option("--digests", help="Read every file instead of trusting size and time.")] = False,
    fix: Annotated[
        bool, option("--fix", help="Run the repairs: ingest what is missing or changed, remove orphans.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Compare the registry with the disk and the collection: missing, changed and orphaned items, another space."""
    from outcrop.operate.survey import Survey

    metrics = session.settings.metrics
    with opened(session, name) as collection:
        survey = Survey.of(collection, session.settings, dataset, root=root, digests=digests)
        if fix and not dry_run and not survey.in_order:
            if lost := survey.total("orphan"):
                agreed(f"Remove {lost} orphaned items from {collection.name!r}?", yes)
            survey = survey.repaired(session.say)
    if metrics is not None:
        write_metrics(metrics, "audit", survey.figures(), {"collection": collection.name})
    _print_survey(session, survey)
    if not survey.in_order:
        raise PartialFailure(survey.complaint())


def _print_survey(session: Session, survey: Survey) -> None:
    from outcrop.operate.audit import TROUBLES

    if session.format == "json":
        print_json(survey.as_json())
        return
    title = f"audit of {survey.collection.name}{' (after the repairs)' if survey.fixed else ''}"
    print_table(survey.rows(), ("dataset", "good", *TROUBLES, "stale"), title)
    for each in survey.audits:
        if each.findings:
            rows = [asdict(finding) for finding in each.findings[:SHOWN_FINDINGS]]
            print_table(rows, ("trouble", "key", "source", "reason"), f"{each.dataset}: {len(each.findings)} findings")
        for line in each.repairs:
            print(f"repair: {line}")


@command(app, STORE, STATE, {"model": MODEL["model"]}, hidden({"weights": MODEL["weights"]}))
def doctor(
    session: Session,
    probe_index: Annotated[
        str | None,
        option("--probe-index", help="Also build this index on a small collection, and remove it again."),
    ] = None,
    deadline: Annotated[
        float, option("--deadline", min=1, help="Seconds after which to give up the probe. [60]")
    ] = 60.0,
    trial: Annotated[
        bool,
        option("--trial", help="Also measure decoding and encoding, two seconds each, and remember it for `plan`."),
    ] = False,
) -> None:
    """Check reach, version, index support, health, disk, clock and GPU: what is wrong, and what to do."""
    from outcrop.operate.doctor import examine

    findings = list(examine(session.settings, probe_index=probe_index, deadline=deadline, trial=trial))
    wrong = [each for each in findings if each.verdict == "wrong"]
    if session.format == "json":
        print_json({"findings": [asdict(each) for each in findings], "ok": not wrong})
    elif not session.quiet:
        print_table([asdict(each) for each in findings], ("check", "verdict", "seen", "advice"))
    if wrong:
        family = StoreUnreachable if any(each.check == "store" for each in wrong) else PartialFailure
        raise family("; ".join(map(_in_a_line, wrong)))


def _in_a_line(finding: Finding) -> str:
    return f"{finding.check}: {finding.seen}" + (f" ({finding.advice})" if finding.advice else "")


@dataclass(frozen=True)
class Machine:
    """What the collection is to run on, and how fast."""

    gpu_memory: Annotated[float | None, option("--gpu-memory", help="GiB of the GPU.")] = None
    memory: Annotated[float | None, option("--memory", help="GiB of the machine.")] = None
    rate: Annotated[float | None, option("--rate", help="Items embedded per second. [of the last run]")] = None
    build_rate: Annotated[float | None, option("--build-rate", help="Rows indexed per second, if measured.")] = None


INDEX: Group = {
    "index": Annotated[str | None, option("--index", help="Index profile. [OUTCROP_INDEX, the one that fits best]")],
}


@command(app, STATE, {"model": MODEL["model"]}, hidden({"weights": MODEL["weights"]}), INDEX)
def plan(
    session: Session,
    rows: Annotated[int, option("--rows", min=1, help="Vectors: images, references (images x angles x crops), views.")],
    machine: Machine,
    dim: Annotated[int | None, option("--dim", min=1, help="Numbers in a vector. [the model's]")] = None,
) -> None:
    """Size a collection before anything runs: memory, disk, time, and which backend and index to take."""
    from outcrop.embed.models import find_preset
    from outcrop.embed.presets import NEW_MODEL
    from outcrop.operate.rates import best_known
    from outcrop.store.plan import plan as size

    settings = session.settings
    if dim is None:
        dim = find_preset(settings.model or NEW_MODEL).dim
    rate = machine.rate if machine.rate is not None else best_known(settings)
    place = {"gpu_gib": machine.gpu_memory, "host_gib": machine.memory, "build_rate": machine.build_rate}
    found = size(rows, dim, settings.index, rate=rate, **place)
    if session.format != "json":
        _print_plan(found)
    answer(session, asdict(found), found.advice)


def _print_plan(found: Plan) -> None:
    print_facts(_plan_facts(found))
    options = [
        {
            "index": each.index,
            **{name: f"{getattr(each, name) / 2**30:,.1f}" for name in ("host_memory", "gpu_memory", "disk")},
            "build_hours": "unknown" if each.build_hours is None else f"{each.build_hours:.1f}",
            "query_nodes": each.query_nodes,
            "data_nodes": each.data_nodes,
            "since": each.since,
        }
        for each in found.options
    ]
    print_table(options, tuple(options[0]), "the same rows with other indexes (GiB, hours of one node)")
    for knob in found.knobs:
        print(f"cheaper: {knob}")
    print_table([asdict(each) for each in found.formulas], ("figure", "formula", "source"), "formulas")


def _plan_facts(found: Plan) -> dict[str, Any]:
    values = asdict(found)
    times = {name: "unknown: give a rate" if values[name] is None else f"{values[name]:.2f} h" for name in TIMES}
    sizes = {name: f"{values[name] / 2**30:.2f} GiB" for name in SIZES}
    named = {"rows": f"{found.rows:,}", "dim": found.dim, "index": found.index, "backend": found.backend}
    nodes = {"query_nodes": found.query_nodes, "data_nodes": found.data_nodes}
    rate = f"{found.rate:,.1f} items a second ({found.rate_source})" if found.rate is not None else "unknown"
    gpu = {"gpu_hours": f"{found.gpu_hours:,.1f} h"} if found.gpu_hours is not None else {}
    return {**named, **sizes, **times, **gpu, "rate": rate, **nodes}
