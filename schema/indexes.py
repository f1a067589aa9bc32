"""Index profiles: build and search parameters, and what each backend accepts.

A backend that is given an index it does not know may say nothing: Milvus Lite takes any name and then cannot load the
collection again; a CPU server takes a GPU index and never finishes it. So names are decided here, before Milvus sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outcrop.schema.errors import InputError, nearest

METRIC = "IP"
"""Inner product of L2-normalised vectors: ranks as cosine does, and every index of every version knows it."""

GPU_TOP_K = 1024
"""Largest k that GPU indexes answer."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an index: its default and the values it may take (both ends included)."""

    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, index: str, name: str, value: Any) -> Any:
        """The value, or an InputError that names the range."""
        if self.choices:
            if value not in self.choices:
                raise InputError(f"{index}: {name} must be one of {', '.join(self.choices)}, got {value!r}")
        elif not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InputError(f"{index}: {name} must be a number, got {value!r}")
        elif (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise InputError(f"{index}: {name} must be between {self.low} and {self.high}, got {value}")
        return value


@dataclass(frozen=True)
class IndexProfile:
    """One kind of index. `exact` indexes compare with every vector; `gpu` ones need a GPU server.

    `since` is the oldest Milvus server (major, minor, patch) that we trust with it; None = Milvus Lite only.
    `build` and `search` list the parameters.
    """

    name: str
    exact: bool = False
    gpu: bool = False
    lite: bool = False
    since: tuple[int, int, int] = (2, 3, 0)
    build: Mapping[str, Parameter] = field(default_factory=dict)
    search: Mapping[str, Parameter] = field(default_factory=dict)
    note: str = ""

    def build_params(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Build parameters: the defaults, and what is given, checked.

        Raises:
            InputError: an unknown parameter (the nearest is named) or a value out of range.
        """
        values = {name: p.default for name, p in self.build.items() if p.default is not None}
        for name, value in (given or {}).items():
            if name not in self.build:
                raise InputError(f"{self.name} has no build parameter {name!r}{nearest(name, self.build)}")
            values[name] = self.build[name].check(self.name, name, value)
        return values

    def search_params(self, k: int, kept: float = 1.0) -> dict[str, Any]:
        """Search parameters for the best `k` when a filter keeps the share `kept` (0 to 1) of the rows.

        Graphs and lists look at more candidates as k grows and as filters take candidates away.
        """
        if self.gpu and k > GPU_TOP_K:
            raise InputError(
                f"{self.name} returns at most {GPU_TOP_K} hits, got {k}; ask for fewer, or use a CPU index"
            )
        widen = min(16.0, 1.0 / max(kept, 1 / 16))
        match self.name:
            case "HNSW" | "HNSW_SQ":
                return {"ef": int(min(32768, max(256, 4 * k) * widen))}
            case "IVF_FLAT" | "GPU_IVF_FLAT" | "GPU_IVF_PQ":
                return {"nprobe": int(min(1024, max(32, k // 4) * widen))}
            case "DISKANN":
                return {"search_list": int(min(65535, max(100, 2 * k) * widen))}
            case "GPU_CAGRA":
                pool = int(min(4096, max(256, 2 * k) * min(widen, 4.0)))
                return {"itopk_size": -(-pool // 32) * 32, "num_random_samplings": 8}
        return {}


PROFILES: dict[str, IndexProfile] = {
    p.name: p
    for p in (
        IndexProfile(
            "FLAT", exact=True, lite=True, note="compares with every vector: exact; up to about 200 k vectors"
        ),
        IndexProfile(
            "HNSW",
            lite=True,
            build={"M": Parameter(32, 2, 2048), "efConstruction": Parameter(256, 1, 32768)},
            search={"ef": Parameter(None, 1, 32768)},
            note="graph in memory; the default of CPU servers",
        ),
        IndexProfile(
            "HNSW_SQ",
            lite=True,
            since=(2, 5, 0),
            build={
                "M": Parameter(32, 2, 2048),
                "efConstruction": Parameter(256, 1, 32768),
                "sq_type": Parameter("SQ8", choices=("SQ6", "SQ8", "BF16", "FP16")),
            },
            search={"ef": Parameter(None, 1, 32768)},
            note="graph over 8-bit vectors: a quarter of the memory",
        ),
        IndexProfile(
            "IVF_FLAT",
            lite=True,
            build={"nlist": Parameter(1024, 1, 65536)},
            search={"nprobe": Parameter(None, 1, 65536)},
            note="inverted lists; quick to build",
        ),
        IndexProfile(
            "DISKANN",
            search={"search_list": Parameter(None, 1, 65535)},
            note="graph on NVMe; past the memory of one machine",
        ),
        IndexProfile(
            "GPU_CAGRA",
            gpu=True,
            since=(2, 6, 20),
            build={"intermediate_graph_degree": Parameter(128, 1, 1024), "graph_degree": Parameter(64, 1, 1024)},
            search={"itopk_size": Parameter(None, 32, 4096), "num_random_samplings": Parameter(8, 1, 64)},
            note="graph on a GPU; num_random_samplings=8 is always sent: without it (below 2.6.20) recall falls to about 60 %",
        ),
        IndexProfile(
            "GPU_IVF_FLAT",
            gpu=True,
            build={"nlist": Parameter(1024, 1, 65536)},
            search={"nprobe": Parameter(None, 1, 65536)},
            note="inverted lists on a GPU",
        ),
        IndexProfile(
            "GPU_IVF_PQ",
            gpu=True,
            build={"nlist": Parameter(1024, 1, 65536), "m": Parameter(0, 0, 65536), "nbits": Parameter(8, 4, 8)},
            search={"nprobe": Parameter(None, 1, 65536)},
            note="compressed lists on a GPU; the smallest in memory",
        ),
        IndexProfile(
            "GPU_BRUTE_FORCE", exact=True, gpu=True, since=(2, 4, 0), note="compares with every vector on a GPU: exact"
        ),
    )
}
_ON_LITE = {
    "DISKANN": "HNSW",
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


def profile_for(name: str, server: tuple[int, int, int] | None) -> tuple[IndexProfile, str]:
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
        needs, has = (".".join(map(str, version)) for version in (asked.since, server))
        raise InputError(
            f"{asked.name} needs Milvus {needs} or newer, this server is {has}; use another index "
            f"({', '.join(n for n, p in PROFILES.items() if p.since <= server)})"
        )
    return asked, ""
