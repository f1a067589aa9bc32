"""Index profiles: build and search parameters, and what each backend accepts.

A backend that is given an index it does not know may say nothing: Milvus Lite takes any name and then cannot load the
collection again; a CPU server takes a GPU index and never finishes it. So names are decided here, before Milvus sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outcrop.schema.errors import InputError, nearest
from outcrop.schema.index_parameters import NEWEST, Parameter, Version, dotted

METRIC = "IP"
"""Inner product of L2-normalised vectors: ranks as cosine does, and every index of every version knows it."""

GPU_TOP_K = 1024
"""Largest k that GPU indexes answer."""
LARGE_ROWS = 10_000_000
"""From this many rows on a graph on a GPU has half the neighbours: about what 24 GB take at 384 numbers and degree 64."""
PRECISIONS = ("SQ4U", "SQ6", "SQ8", "BF16", "FP16", "FP32")
"""How a vector is kept, from the coarsest to the finest."""


@dataclass(frozen=True)
class IndexProfile:
    """One kind of index. `exact` indexes compare with every vector; `gpu` ones need a GPU server.

    `since` is the oldest Milvus server (major, minor, patch) that we trust with it; None = Milvus Lite only.
    `build` and `search` list the parameters. `sifts`: a server compares row by row itself where a filter leaves few rows of a
    segment (Knowhere's graphs: fewer than 7 %), and what the filter drops takes no place among its candidates.
    """

    name: str
    exact: bool = False
    gpu: bool = False
    lite: bool = False
    since: Version = (2, 3, 0)
    build: Mapping[str, Parameter] = field(default_factory=dict)
    search: Mapping[str, Parameter] = field(default_factory=dict)
    note: str = ""
    sifts: bool = False

    def build_params(
        self,
        given: Mapping[str, Any] | None = None,
        *,
        server: Version | None = NEWEST,
        dim: int = 768,
        rows: int = 0,
    ) -> dict[str, Any]:
        """Build parameters: the defaults for vectors of `dim` numbers and `rows` rows, and what is given, checked.

        `server` is the version that is to take them; None = Milvus Lite.

        Raises:
            InputError: an unknown parameter (the nearest is named), a value out of range, or one that this server does not know.
        """
        values = {name: p.default for name, p in self.build.items() if p.default is not None}
        values |= self._fitting(dim, rows)
        for name, value in (given or {}).items():
            if name not in self.build:
                raise InputError(f"{self.name} has no build parameter {name!r}{nearest(name, self.build)}")
            values[name] = self.build[name].check(self.name, name, value)
            self.build[name].check_server(self.name, name, values[name], server)
        return self._consistent(values, given or {})

    def _fitting(self, dim: int, rows: int) -> dict[str, Any]:
        """Defaults that depend on the vectors.

        A byte for each number gives GPU_IVF_PQ a recall@10 of .95 (half a byte: .82, a quarter: .51; clustered vectors of 384
        numbers, `benchmarks/gpu_index.py --small`). cuVS wants a multiple of 8.
        """
        if self.name == "GPU_CAGRA" and rows >= LARGE_ROWS:
            return {"intermediate_graph_degree": 64, "graph_degree": 32}
        if self.name == "GPU_IVF_PQ":
            return {"m": dim // 8 * 8 or dim}
        return {}

    def _consistent(self, values: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, where they fit each other; what one of them asks of another is added."""
        if "refine" in self.build:
            values = self._refined(values, given)
        if values.get("graph_degree", 0) > values.get("intermediate_graph_degree", 0):
            raise InputError(f"{self.name}: graph_degree must be at most intermediate_graph_degree")
        return values

    def _refined(self, values: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with what `refine` needs; what is coarse (four bits or one) is refined unless it is forbidden."""
        kept = values.get("sq_type")
        values.setdefault("refine", kept == "SQ4U" or "refine_type" in given)
        if not values["refine"]:
            if "refine_type" in given:
                raise InputError(f"{self.name}: refine_type is for refine = true")
            return {name: value for name, value in values.items() if name != "refine" or name in given}
        values.setdefault("refine_type", "FP16" if kept else "SQ8")
        if kept and PRECISIONS.index(values["refine_type"]) <= PRECISIONS.index(kept):
            raise InputError(f"{self.name}: refine_type {values['refine_type']} must be finer than sq_type {kept}")
        return values

    def search_params(self, k: int, kept: float = 1.0, build: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Search parameters for the best `k` when a filter keeps the share `kept` (0 to 1) of the rows.

        Graphs and lists look at more candidates as k grows and as filters take candidates away. `build` are the parameters that
        the index was built with: what was refined is asked for more candidates, and a graph for the CPU as graphs there are.
        """
        build = build or {}
        if self.gpu and k > GPU_TOP_K:
            raise InputError(
                f"{self.name} returns at most {GPU_TOP_K} hits, got {k}; ask for fewer, or use a CPU index"
            )
        widen = min(16.0, 1.0 / max(kept, 1 / 16))
        refined = {"refine_k": 4 if build.get("sq_type", "SQ4U") == "SQ4U" else 2} if build.get("refine") else {}
        match self.name:
            case "HNSW" | "HNSW_SQ":
                return {"ef": int(min(32768, max(256, 4 * k) * widen)), **refined}
            case "IVF_FLAT" | "GPU_IVF_FLAT":
                return {"nprobe": int(min(1024, max(32, k // 4) * widen))}
            case "GPU_IVF_PQ" | "IVF_RABITQ":
                return {"nprobe": int(min(1024, max(64, k // 4) * widen)), **refined}
            case "DISKANN" | "AISAQ":
                return {"search_list": int(min(65535, max(100, 2 * k) * widen))}
            case "GPU_CAGRA" if build.get("adapt_for_cpu"):
                return {"ef": int(min(32768, max(256, 4 * k) * widen)), "num_random_samplings": 8}
            case "GPU_CAGRA":
                pool = int(min(4096, max(256, 2 * k) * min(widen, 4.0)))
                return {"itopk_size": -(-pool // 32) * 32, "num_random_samplings": 8}
        return {}


_HNSW = {"M": Parameter(32, 2, 2048), "efConstruction": Parameter(256, 1, 32768)}
_EF = Parameter(None, 1, 32768)
_NLIST, _NPROBE = Parameter(1024, 1, 65536), Parameter(None, 1, 65536)
_REFINE = Parameter(None, flag=True, lite=False)
_REFINE_K = Parameter(None, 1, whole=False)
PROFILES: dict[str, IndexProfile] = {
    p.name: p
    for p in (
        IndexProfile(
            "FLAT", exact=True, lite=True, note="compares with every vector: exact; up to about 200 k vectors"
        ),
        IndexProfile(
            "HNSW",
            lite=True,
            build=_HNSW,
            search={"ef": _EF},
            note="graph in memory; the default of CPU servers",
            sifts=True,
        ),
        # milvus.io/docs/hnsw-sq.md; SQ4U "Compatible with Milvus 2.6.8+"
        IndexProfile(
            "HNSW_SQ",
            lite=True,
            since=(2, 5, 0),
            build={
                **_HNSW,
                "sq_type": Parameter(
                    "SQ8", choices=PRECISIONS[:5], choices_since={"SQ4U": (2, 6, 8)}, lite_choices=("SQ8",)
                ),
                "refine": _REFINE,
                "refine_type": Parameter(None, choices=PRECISIONS[1:], lite=False),
            },
            search={"ef": _EF, "refine_k": _REFINE_K},
            note="graph over 8-bit vectors: a quarter of the memory; sq_type=SQ4U (an eighth) is refined with FP16",
        ),
        IndexProfile(
            "IVF_FLAT",
            lite=True,
            build={"nlist": _NLIST},
            search={"nprobe": _NPROBE},
            note="inverted lists; quick to build",
        ),
        # milvus.io/docs/ivf-rabitq.md: one bit for a number; "set [refine] to true if a 0.9+ recall rate is needed"
        IndexProfile(
            "IVF_RABITQ",
            since=(2, 6, 0),
            build={
                "nlist": _NLIST,
                "refine": Parameter(True, flag=True),
                "refine_type": Parameter(None, choices=PRECISIONS[1:]),
            },
            search={"nprobe": _NPROBE, "refine_k": _REFINE_K, "rbq_query_bits": Parameter(None, 0, 8)},
            note="lists of one bit a number, refined with SQ8: about a quarter of the memory, for many rows on CPUs",
        ),
        IndexProfile(
            "DISKANN",
            search={"search_list": Parameter(None, 1, 65535)},
            note="graph on NVMe; past the memory of one machine",
        ),
        # milvus.io/docs/aisaq.md, "Compatible with Milvus 2.6.4+"; ranges of milvus.io/api-reference/go (NewAISAQIndex)
        IndexProfile(
            "AISAQ",
            since=(2, 6, 4),
            build={
                "inline_pq": Parameter(None, 0, 2048),
                "rearrange": Parameter(None, flag=True),
                "num_entry_points": Parameter(None, 0, 1000),
            },
            search={"search_list": Parameter(None, 1, 65535), "vectors_beamwidth": Parameter(None, 1, 4)},
            note="graph on NVMe with its compressed vectors there too: next to no memory, slower; for a billion rows",
        ),
        # milvus.io/docs/gpu-cagra.md; num_random_samplings from 2.6.20 on (milvus#49864, cuvs#2102)
        IndexProfile(
            "GPU_CAGRA",
            gpu=True,
            since=(2, 6, 20),
            build={
                "intermediate_graph_degree": Parameter(128, 1, 1024),
                "graph_degree": Parameter(64, 1, 1024),
                "cache_dataset_on_device": Parameter(None, flag=True),
                "adapt_for_cpu": Parameter(None, flag=True),
            },
            search={
                "itopk_size": Parameter(None, 32, 4096),
                "num_random_samplings": Parameter(8, 1, 64),
                "ef": _EF,
            },
            note="graph on a GPU; num_random_samplings=8 is always sent: without it (below 2.6.20) recall falls to about 60 %; "
            "adapt_for_cpu=true builds on the GPU and searches on CPUs; from 10 million rows on half the neighbours",
        ),
        IndexProfile(
            "GPU_IVF_FLAT",
            gpu=True,
            build={"nlist": _NLIST},
            search={"nprobe": _NPROBE},
            note="inverted lists on a GPU",
        ),
        IndexProfile(
            "GPU_IVF_PQ",
            gpu=True,
            build={"nlist": _NLIST, "m": Parameter(0, 0, 65536), "nbits": Parameter(8, 4, 8)},
            search={"nprobe": _NPROBE},
            note="compressed lists on a GPU, a byte for each number (m); the smallest there",
        ),
        IndexProfile(
            "GPU_BRUTE_FORCE", exact=True, gpu=True, since=(2, 4, 0), note="compares with every vector on a GPU: exact"
        ),
    )
}
_ON_LITE = {
    "DISKANN": "HNSW",
    "AISAQ": "HNSW",
    "IVF_RABITQ": "IVF_FLAT",
    "GPU_CAGRA": "HNSW",
    "GPU_IVF_FLAT": "IVF_FLAT",
    "GPU_IVF_PQ": "IVF_FLAT",
    "GPU_BRUTE_FORCE": "FLAT",
}


def profile_named(name: str) -> IndexProfile:
    """The profile of this name (in any letter case); an InputError with the nearest name otherwise."""
    upper = name.upper()
    if upper not in PROFILES:
        raise InputError(f"unknown index {name!r}{nearest(upper, PROFILES) or '; known: ' + ', '.join(PROFILES)}")
    return PROFILES[upper]


def profile_for(name: str, server: Version | None) -> tuple[IndexProfile, str]:
    """The profile that a backend will really get for the one asked for, and a sentence where it is another one.

    `server` is the server's version, or None for Milvus Lite, which has no GPU and would accept any name without a word
    and then be unable to load the collection.

    Raises:
        InputError: unknown name, or the server is too old for it.
    """
    asked = profile_named(name)
    if server is None:
        if asked.lite:
            return asked, ""
        instead = PROFILES[_ON_LITE[asked.name]]
        return instead, f"Milvus Lite has no {asked.name}; {instead.name} is used instead"
    if server < asked.since:
        raise InputError(
            f"{asked.name} needs Milvus {dotted(asked.since)} or newer, this server is {dotted(server)}; use another index "
            f"({', '.join(n for n, p in PROFILES.items() if p.since <= server)})"
        )
    return asked, ""
