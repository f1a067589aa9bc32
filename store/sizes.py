"""Bytes and build rates of the indexes: one formula each, and where it comes from.

D = numbers in a vector, N = rows, M, degree, m, nbits = build parameters. What `PER_VECTOR` gives is the index's own data
structure; nodes add segments and working memory, for which `OVERHEAD` is put on top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outcrop.schema.indexes import IndexProfile

ROW_BYTES = 600
"""Bytes of metadata per row, as measured on aerial items (key, source, digests, numbers)."""
OVERHEAD = 1.1
THUMBNAIL_BYTES = 4200
PQ_RATIO, CACHE_RATIO = 0.125, 0.10
"""Shares of the raw vectors that DISKANN keeps in memory: compressed vectors and cached nodes (milvus.yaml, knowhere.DISKANN)."""
MAX_DEGREE = 56
"""Neighbours in the graphs of DISKANN and AISAQ (milvus.yaml)."""
SECTOR = 4096
_BYTES_OF = {"SQ4U": 0.5, "SQ6": 0.75, "SQ8": 1.0, "BF16": 2.0, "FP16": 2.0, "FP32": 4.0}

FORMULAS: dict[str, tuple[str, str]] = {
    "FLAT": ("4 D", "vectors as they are"),
    "HNSW": ("4 D + 8 M + 32", "2 M links of 4 bytes in the lowest layer (hnswlib, faiss IndexHNSW)"),
    "HNSW_SQ": ("b D + 8 M + 32 (+ b' D refined)", "b = .5 SQ4U, .75 SQ6, 1 SQ8, 2 BF16 and FP16 (milvus.io/docs/hnsw-sq.md)"),
    "IVF_FLAT": ("4 D + 8", "an id for each vector (milvus.io/docs/ivf-flat.md)"),
    "IVF_RABITQ": ("D / 8 + 16 (+ b' D refined)", "1 bit a number and two factors (milvus.io/docs/ivf-rabitq.md, RaBitQ 2024)"),
    "DISKANN": (".225 x 4 D + 16; on NVMe 4 D + 4 (R + 1) in sectors of 4 KiB", "milvus.io/docs/diskann.md; R = 56"),
    "AISAQ": ("8; on NVMe DISKANN's and the codes, 4 D / 8", "nothing but ids stays in memory (milvus.io/docs/aisaq.md)"),
    "GPU_CAGRA": ("4 D + 4 degree (+ 4 D cached)", "dataset and graph (cuVS, cagra.rst); build: + 4 + 5 x intermediate degree"),
    "GPU_IVF_FLAT": ("4 D + 8", "an id for each vector (cuVS, ivf_flat.rst)"),
    "GPU_IVF_PQ": ("m nbits / 8 + 8", "codes and ids (cuVS, ivf_pq.rst)"),
    "GPU_BRUTE_FORCE": ("4 D + 8", "vectors as they are"),
}  # fmt: skip
"""Of each index: bytes of memory a vector, and the source."""

BUILD_RATES: dict[str, tuple[float, str]] = {
    "HNSW": (2500.0, "order of magnitude, 16 cores; measured: 360 for each core (1 M x 384, Milvus 2.3.5)"),
    "HNSW_SQ": (3000.0, "order of magnitude, 16 cores"),
    "IVF_FLAT": (20_000.0, "order of magnitude, 16 cores"),
    "IVF_RABITQ": (20_000.0, "as IVF_FLAT: clustering dominates"),
    "DISKANN": (1500.0, "order of magnitude, 16 cores"),
    "AISAQ": (1500.0, "as DISKANN: the same graph"),
    "GPU_CAGRA": (27_000.0, "a vendor's claim: 50 million rows in half an hour on one H100; not measured here"),
}
"""Rows of 768 numbers indexed per second by one node, and the source; ``--build-rate`` replaces them."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of a whole collection: memory of the host (index and metadata) and of GPUs, peak while building, and disk."""

    host: int
    gpu: int
    peak: int
    disk: int


def sizes(profile: IndexProfile, build: Mapping[str, Any], rows: int, dim: int) -> Sizes:
    """What `rows` vectors of `dim` float32 need with an index that is built with these parameters."""
    raw, metadata = rows * dim * 4, rows * ROW_BYTES
    index = int(rows * _per_vector(profile.name, build, dim) * OVERHEAD)
    on_gpu = profile.gpu and not build.get("adapt_for_cpu")
    peak = raw + index
    if profile.name == "GPU_CAGRA":
        peak = raw + rows * (4 + 5 * int(build["intermediate_graph_degree"]))
    disk = int((raw + metadata) * 1.3) + int(rows * _on_disk(profile.name, build, dim))
    return Sizes(metadata + (0 if on_gpu else index), index if on_gpu else 0, peak, disk)


def build_hours(profile: IndexProfile, rows: int, dim: int, rate: float | None) -> float | None:
    """Hours that one node needs to build the index: at `rate` rows a second, or at the rate of `BUILD_RATES` scaled by dimension;
    None where none is known."""
    if profile.exact:
        return 0.0
    if rate is not None:
        return rows / rate / 3600
    known = BUILD_RATES.get(profile.name)
    return rows / (known[0] * 768 / dim) / 3600 if known else None


def _per_vector(name: str, build: Mapping[str, Any], dim: int) -> float:
    """Bytes of memory for one vector; the formulas are those of `FORMULAS`."""
    links = 8 * int(build.get("M", 0)) + 32
    refined = _BYTES_OF[build["refine_type"]] * dim if build.get("refine") else 0.0
    match name:
        case "HNSW":
            return 4 * dim + links
        case "HNSW_SQ":
            return _BYTES_OF[build["sq_type"]] * dim + links + refined
        case "IVF_RABITQ":
            return dim / 8 + 16 + refined
        case "DISKANN":
            return (PQ_RATIO + CACHE_RATIO) * 4 * dim + 16
        case "AISAQ":
            return 8
        case "GPU_CAGRA":
            return 4 * dim * (2 if build.get("cache_dataset_on_device") else 1) + 4 * int(build["graph_degree"])
        case "GPU_IVF_PQ":
            return int(build["m"]) * int(build["nbits"]) / 8 + 8
        case "FLAT":
            return 4 * dim
    return 4 * dim + 8


def _on_disk(name: str, build: Mapping[str, Any], dim: int) -> float:
    """Bytes of the stored index for one vector."""
    if name not in ("DISKANN", "AISAQ"):
        return _per_vector(name, build, dim)
    codes = PQ_RATIO * 4 * dim
    node = 4 * dim + 4 * (MAX_DEGREE + 1) + codes * int(build.get("inline_pq", 0))
    sectors = SECTOR / (SECTOR // node) if node <= SECTOR else SECTOR * math.ceil(node / SECTOR)
    return sectors + (codes if name == "AISAQ" else 0)
