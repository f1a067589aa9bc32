"""How large will it be? Memory, disk and time of a collection before anything runs, and which backend fits.

The figures per vector are those of the index's own data structures; servers add segments, replicas and working memory, for
which a tenth is put on top and the load limit of 90 % of a node's memory is kept. Times scale a measured rate.
"""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.schema.errors import InputError
from outcrop.schema.indexes import PROFILES, IndexProfile, profile_named

ROW_BYTES = 600
"""Bytes of metadata per row, as measured on aerial items (key, source, digests, numbers)."""
OVERHEAD = 1.1
LOAD_LIMIT = 0.9
LITE_ROWS = 200_000
"""Past this, Milvus Lite answers too slowly: each call walks over all ids."""
ONE_MACHINE_ROWS = 50_000_000
GIB = 2**30
BUILD_ROWS_PER_SECOND = {"FLAT": 0.0, "HNSW": 2500.0, "HNSW_SQ": 3000.0, "IVF_FLAT": 20_000.0, "DISKANN": 1500.0}
"""Rows of 768 numbers indexed per second on 16 CPU cores: orders of magnitude, to be replaced by --build-rate."""


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes and times in hours; None where no rate is known. `advice` says which backend and index to take."""

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


def plan(
    rows: int,
    dim: int,
    index: str | None = None,
    *,
    gpu_gib: float | None = None,
    host_gib: float | None = None,
    rate: float | None = None,
    build_rate: float | None = None,
) -> Plan:
    """Sizes a collection of `rows` vectors of `dim` float32.

    `gpu_gib` and `host_gib` are what the machine has; `rate` is items embedded per second (from `ingest status`), `build_rate`
    rows indexed per second. Without `index`, the one that fits best is taken.

    Raises:
        InputError: rows or dim make no sense, or the index is unknown.
    """
    if not 1 <= rows <= 10**12 or not 1 <= dim <= 32_768:
        raise InputError("--rows must be between 1 and 10^12, --dim between 1 and 32768")
    backend = (
        "Milvus Lite"
        if rows <= LITE_ROWS and gpu_gib is None
        else "Milvus standalone"
        if rows <= ONE_MACHINE_ROWS
        else "Milvus Distributed"
    )
    profile = profile_named(index) if index else _best(rows, dim, backend, gpu_gib, host_gib)
    raw = rows * dim * 4
    host, gpu, peak, disk = _sizes(profile, rows, dim)
    fits: bool | None = None
    limits = [(gpu, gpu_gib), (host, host_gib)]
    if any(limit is not None for _, limit in limits):
        fits = all(limit is None or need <= limit * GIB * LOAD_LIMIT for need, limit in limits)
    speed = build_rate or BUILD_ROWS_PER_SECOND.get(profile.name)
    build = 0.0 if profile.exact else rows / (speed * (1.0 if build_rate else 768 / dim)) / 3600 if speed else None
    embed = rows / rate / 3600 if rate else None
    advice = _advice(profile, rows, backend, fits)
    return Plan(rows, dim, profile.name, backend, raw, host, gpu, peak, disk, rows * 4200, embed, build, fits, advice)


def _sizes(profile: IndexProfile, rows: int, dim: int) -> tuple[int, int, int, int]:
    """Host memory, GPU memory, peak while building, and disk, in bytes."""
    raw, metadata = rows * dim * 4, rows * ROW_BYTES
    extra = {  # bytes per vector beyond, or instead of, the raw vectors
        "FLAT": dim * 4,
        "HNSW": dim * 4 + 32 * 2 * 4 + 32,
        "HNSW_SQ": dim + 32 * 2 * 4 + 32,
        "IVF_FLAT": dim * 4 + 8,
        "DISKANN": dim * 4 // 6 + 16,
        "GPU_CAGRA": dim * 4 + 64 * 4,
        "GPU_IVF_FLAT": dim * 4 + 8,
        "GPU_IVF_PQ": dim // 2 + 8,
        "GPU_BRUTE_FORCE": dim * 4 + 8,
    }[profile.name]
    index = int(rows * extra * OVERHEAD)
    gpu = index if profile.gpu else 0
    host = metadata + (0 if profile.gpu else index)
    peak = raw + rows * (4 + 5 * 128) if profile.name == "GPU_CAGRA" else raw + index
    disk = int((raw + metadata) * 1.3) + (0 if profile.exact else int(rows * extra))
    return host, gpu, peak, disk


def _best(rows: int, dim: int, backend: str, gpu_gib: float | None, host_gib: float | None) -> IndexProfile:
    """The first of the indexes that suit the backend whose memory fits (the smallest where none does)."""
    if backend == "Milvus Lite":
        order = ["FLAT"] if rows <= 100_000 else ["HNSW"]
    elif gpu_gib is not None:
        order = ["GPU_CAGRA", "GPU_IVF_PQ"]
    else:
        order = ["HNSW", "HNSW_SQ", "DISKANN"]
    for name in order:
        host, gpu, _, _ = _sizes(PROFILES[name], rows, dim)
        if gpu <= (gpu_gib or 0) * GIB * LOAD_LIMIT and (host_gib is None or host <= host_gib * GIB * LOAD_LIMIT):
            return PROFILES[name]
    return PROFILES[order[-1]]


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
    if profile.name == "GPU_CAGRA":
        text += f"; Milvus 2.6.20 or newer, and run `collection verify` above 100,000 rows (here {rows:,})"
    return text
