"""How large will it be? Memory, disk, nodes and time of a collection before anything runs, and which backend and index fit.

The formulas are those of `outcrop.store.sizes`, each with its source; the load limit of 90 % of a node's memory is kept. Times
scale a measured rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from outcrop.schema.errors import InputError
from outcrop.schema.index_parameters import dotted
from outcrop.schema.indexes import PROFILES, IndexProfile, profile_named
from outcrop.store.sizes import BUILD_RATES, FORMULAS, OVERHEAD, ROW_BYTES, THUMBNAIL_BYTES, build_hours, sizes

LOAD_LIMIT = 0.9
"""Share of a node's memory that Milvus loads at most (`queryNode.overloadedMemoryThresholdPercentage`)."""
LITE_ROWS = 200_000
"""Past this, Milvus Lite answers too slowly: each call walks over all ids."""
ONE_MACHINE_ROWS = 50_000_000
HUGE_ROWS = 500_000_000
"""From here on graphs in memory cost more machines than lists of one bit a number, or graphs on NVMe."""
NODE_GIB, GPU_GIB = 128.0, 80.0
"""Memory of one query node, and of one GPU, where nothing else is said."""
MOST_NODES = 16
"""With more query nodes than this, the next smaller index is taken."""
BUILD_DAY = 24.0
"""Hours in which the data nodes should have built the index."""
GIB = 2**30
AFTER_LOAD = "what was merged stays for three hours; 1 M x 384 took 8.1 GiB (Milvus 2.3.5, HNSW; 7.7 by this formula)"
OPTIONS = ("HNSW", "HNSW_SQ", "IVF_RABITQ", "DISKANN", "AISAQ", "GPU_CAGRA", "GPU_IVF_PQ")


@dataclass(frozen=True)
class Option:
    """What one index would need: bytes, hours of one node, and nodes. `since` is the oldest server that has it."""

    index: str
    host_memory: int
    gpu_memory: int
    disk: int
    build_hours: float | None
    query_nodes: int
    data_nodes: int
    since: str


@dataclass(frozen=True)
class Formula:
    """How a figure was reckoned, and where that comes from."""

    figure: str
    formula: str
    source: str


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes and times in hours; None where no rate is known. `advice` says which backend and index to take.

    `query_nodes` hold the collection (one replica), `data_nodes` build its index within a day. `gpu_hours` are those of
    embedding, where the rate was measured on a GPU. `options` compares the indexes, `knobs` say what makes it cheaper.
    """

    rows: int
    dim: int
    index: str
    backend: str
    raw: int
    host_memory: int
    gpu_memory: int
    build_peak: int
    disk: int
    thumbnails: int
    embed_hours: float | None
    build_hours: float | None
    fits: bool | None
    advice: str
    query_nodes: int
    data_nodes: int
    gpu_hours: float | None
    rate: float | None
    rate_source: str
    options: tuple[Option, ...]
    knobs: tuple[str, ...]
    formulas: tuple[Formula, ...]


@dataclass(frozen=True)
class Rate:
    """Items embedded per second, where that was measured, and whether it was on a GPU."""

    items_per_second: float
    source: str
    gpu: bool = False


def plan(
    rows: int,
    dim: int,
    index: str | None = None,
    *,
    gpu_gib: float | None = None,
    host_gib: float | None = None,
    rate: float | Rate | None = None,
    build_rate: float | None = None,
) -> Plan:
    """Sizes a collection of `rows` vectors of `dim` float32.

    `gpu_gib` and `host_gib` are what the machine (or each node) has; `rate` is items embedded per second (from `ingest status` or
    `collection doctor`), `build_rate` rows indexed per second. Without `index`, the one that fits best is taken.

    Raises:
        InputError: rows or dim make no sense, or the index is unknown.
    """
    if not 1 <= rows <= 10**12 or not 1 <= dim <= 32_768:
        raise InputError("--rows must be between 1 and 10^12, --dim between 1 and 32768")
    backend = _backend(rows, gpu_gib)
    profile = profile_named(index) if index else _best(rows, dim, backend, gpu_gib, host_gib)
    need = sizes(profile, profile.build_params(dim=dim, rows=rows), rows, dim)
    fits: bool | None = None
    limits = [(need.gpu, gpu_gib), (need.host, host_gib)]
    if any(limit is not None for _, limit in limits):
        fits = all(limit is None or bytes <= limit * GIB * LOAD_LIMIT for bytes, limit in limits)
    measured = Rate(rate, "given") if isinstance(rate, int | float) else rate
    embed = rows / measured.items_per_second / 3600 if measured else None
    mine = _option(profile, rows, dim, gpu_gib, host_gib, build_rate)
    return Plan(
        rows=rows,
        dim=dim,
        index=profile.name,
        backend=backend,
        raw=rows * dim * 4,
        host_memory=need.host,
        gpu_memory=need.gpu,
        build_peak=need.peak,
        disk=need.disk,
        thumbnails=rows * THUMBNAIL_BYTES,
        embed_hours=embed,
        build_hours=mine.build_hours,
        fits=fits,
        advice=_advice(profile, rows, backend, fits),
        query_nodes=mine.query_nodes,
        data_nodes=mine.data_nodes,
        gpu_hours=embed if measured and measured.gpu else None,
        rate=measured.items_per_second if measured else None,
        rate_source=measured.source if measured else "",
        options=tuple(_option(PROFILES[name], rows, dim, gpu_gib, host_gib, None) for name in OPTIONS),
        knobs=_knobs(profile, rows, dim, need.host),
        formulas=_formulas(profile, measured),
    )


def _backend(rows: int, gpu_gib: float | None) -> str:
    if rows <= LITE_ROWS and gpu_gib is None:
        return "Milvus Lite"
    return "Milvus standalone" if rows <= ONE_MACHINE_ROWS else "Milvus Distributed"


def _option(
    profile: IndexProfile,
    rows: int,
    dim: int,
    gpu_gib: float | None,
    host_gib: float | None,
    build_rate: float | None,
) -> Option:
    """What an index would need on nodes of these sizes (the usual ones where they are not given)."""
    need = sizes(profile, profile.build_params(dim=dim, rows=rows), rows, dim)
    hours = build_hours(profile, rows, dim, build_rate)
    by_host = math.ceil(need.host / ((host_gib or NODE_GIB) * GIB * LOAD_LIMIT))
    by_gpu = math.ceil(need.gpu / ((gpu_gib or GPU_GIB) * GIB * LOAD_LIMIT))
    builders = math.ceil((hours or 0.0) / BUILD_DAY)
    return Option(
        profile.name,
        need.host,
        need.gpu,
        need.disk,
        hours,
        max(1, by_host, by_gpu),
        max(1, builders),
        dotted(profile.since),
    )


def _best(rows: int, dim: int, backend: str, gpu_gib: float | None, host_gib: float | None) -> IndexProfile:
    """The first of the indexes that suit the backend whose memory fits (the smallest where none does)."""
    if backend == "Milvus Lite":
        order = ["FLAT"] if rows <= 100_000 else ["HNSW"]
    elif gpu_gib is not None:
        order = ["GPU_CAGRA", "GPU_IVF_PQ"]
    elif backend == "Milvus standalone":
        order = ["HNSW", "HNSW_SQ", "DISKANN"]
    else:
        order = ["HNSW_SQ", "IVF_RABITQ", "DISKANN", "AISAQ"][rows >= HUGE_ROWS :]
        few = [n for n in order if _option(PROFILES[n], rows, dim, None, host_gib, None).query_nodes <= MOST_NODES]
        return PROFILES[(few or order[-1:])[0]]
    for name in order:
        need = sizes(PROFILES[name], PROFILES[name].build_params(dim=dim, rows=rows), rows, dim)
        if need.gpu <= (gpu_gib or 0) * GIB * LOAD_LIMIT and (
            host_gib is None or need.host <= host_gib * GIB * LOAD_LIMIT
        ):
            return PROFILES[name]
    return PROFILES[order[-1]]


def _knobs(profile: IndexProfile, rows: int, dim: int, host: int) -> tuple[str, ...]:
    """What makes it cheaper, and by how much."""
    said = []
    if rows > ONE_MACHINE_ROWS:
        saved = rows * ROW_BYTES / GIB
        said.append(
            f"mmap of the scalar fields (queryNode.mmap.scalarField): {saved:,.0f} GiB of memory less, kept on NVMe instead"
        )
    for name, build in (("HNSW_SQ", {"sq_type": "SQ4U", "refine": False}), ("IVF_RABITQ", {}), ("AISAQ", {})):
        other = PROFILES[name]
        need = sizes(other, other.build_params(build, dim=dim, rows=rows), rows, dim)
        if name != profile.name and need.host < host and rows > LITE_ROWS:
            given = " with sq_type=SQ4U, not refined" if name == "HNSW_SQ" else ""
            said.append(
                f"{name}{given}: {(host - need.host) / GIB:,.1f} GiB of memory less; Milvus {dotted(other.since)}"
            )
    said.append(f"a model of half the dimension: {rows * dim * 2 / GIB:,.1f} GiB of raw vectors less")
    said.append(
        f"no thumbnails (`thumbnails: false` in outcrop.yaml): {rows * THUMBNAIL_BYTES / GIB:,.1f} GiB of disk less"
    )
    if rows > LITE_ROWS:
        said.append("one replica instead of two: each is a whole copy in memory, and only serves more queries a second")
    return tuple(said)


def _formulas(profile: IndexProfile, rate: Rate | None) -> tuple[Formula, ...]:
    formula, source = FORMULAS[profile.name]
    speed, by = BUILD_RATES.get(profile.name, (0.0, ""))
    memory = f"N x ({formula}) x {OVERHEAD:g}"
    return (
        Formula(f"{profile.name} memory", memory, source),
        Formula("metadata", f"N x {ROW_BYTES} B", "measured on aerial items; on the host with every index"),
        Formula("disk", "1.3 x (raw + metadata) + index", "binlogs of vectors and fields, and a third more for compaction"),
        Formula("disk after a load", "3 x (raw + metadata) + index", AFTER_LOAD),
        Formula("query nodes", "memory / (.9 x a node's)", f"Milvus's load limit; {NODE_GIB:g} GiB nodes, {GPU_GIB:g} GiB GPUs"),
        Formula("data nodes", "hours of one node / 24", "so that the index is built within a day"),
        Formula("build hours", f"N / ({speed:,.0f} x 768 / D)" if speed else "none known", by or "give --build-rate"),
        Formula("embed hours", "N / items a second", rate.source if rate else "none: --rate, or `collection doctor --trial`"),
    )  # fmt: skip


def _advice(profile: IndexProfile, rows: int, backend: str, fits: bool | None) -> str:
    text = {
        "Milvus Lite": "a Milvus Lite directory on this machine is enough",
        "Milvus standalone": "one server (deploy/milvus-compose.yml)",
        "Milvus Distributed": "more than one machine (deploy/kubernetes)",
    }[backend]
    text = f"{text}, index {profile.name}: {profile.note}"
    if backend == "Milvus Lite" and not profile.lite:
        text += "; Milvus Lite has no such index, so this needs a server"
    if fits is False:
        text += "; it does NOT fit into the memory given: more machines, GPU_IVF_PQ or DISKANN, or a smaller model"
    if profile.since > (2, 3, 0):
        text += f"; Milvus {dotted(profile.since)} or newer"
    if profile.name == "GPU_CAGRA":
        text += f", and run `collection verify` above 100,000 rows (here {rows:,})"
    return text
