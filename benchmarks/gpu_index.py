"""GPU_CAGRA and GPU_IVF_PQ with exactly the parameters of our profiles, through the engine that Milvus uses: cuVS.

    python benchmarks/gpu_index.py [--rows 100000 1000000] [--dims 384 1024] [--queries 1000] [--json]
    python benchmarks/gpu_index.py --small [--rows 20000] [--dims 128]

For each size and index: seconds to build, MiB of the card, and recall@10 (with its bucket) and queries per second, without a
filter and with filters that keep 10 % and 1 % of the rows. The vectors are synthetic and clustered, queries are new ones. Needs a
CUDA device and the package ``cuvs-cu13`` (or ``cuvs-cu12``), or one of the faiss-gpu packages with cuVS in it, which know no
filters; where neither is there, every line says why it was not run. `--small` builds IVF-PQ with faiss-cpu instead, on the CPU:
the same lists, codes and probes by another implementation, so that recalls can be compared, not times.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
sys.path[:] = [*sys.path[1:], str(HERE), str(HERE / "benchmarks")]  # last: what is installed wins

K = 10
SHARES = (1.0, 0.1, 0.01)
"""Shares of the rows that the filters keep."""
BATCH = 256
"""Queries in one call, as `outcrop.store.search` sends them."""
SECONDS = 2.0
"""How long queries are counted."""
MIB = 2**20

Search = Callable[[np.ndarray, np.ndarray | None, dict[str, Any]], np.ndarray]
"""Queries [Q, D], which rows are kept [N] (None = all) and search parameters to the places of the best K, [Q, K]."""


class NotRun(Exception):
    """Why something was not run."""


def main() -> None:
    """Builds and searches each index of each size, and prints a line for each filter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--dims", type=int, nargs="+")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--small", action="store_true", help="IVF-PQ by faiss-cpu, to compare recalls")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = arguments.rows or ([20_000] if arguments.small else [100_000, 1_000_000])
    dims = arguments.dims or ([128] if arguments.small else [384, 1024])
    results = []
    for count in rows:
        for dim in dims:
            for result in measure(count, dim, arguments.queries, arguments.small):
                results.append(result)
                if not arguments.json:
                    print("  ".join(f"{name}={value}" for name, value in result.items()), flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))


def measure(rows: int, dim: int, queries: int, small: bool) -> Iterator[dict[str, Any]]:
    """Lines of one size: three for each index, or one that says why it was not run."""
    builders = {"GPU_IVF_PQ": faiss_ivf_pq} if small else gpu_builders()
    data: list[np.ndarray] = []
    for index in ("GPU_CAGRA", "GPU_IVF_PQ"):
        base = {"index": index, "rows": rows, "dim": dim}
        builder = builders.get(index, "faiss-cpu has no such graph")
        if isinstance(builder, str):
            yield {**base, "not run": builder}
            continue
        data = data or list(clustered(rows, dim, queries))
        try:
            yield from searched(base, index, builder, data[0], data[1])
        except NotRun as reason:
            yield {**base, "not run": str(reason)}


def searched(
    base: dict[str, Any], index: str, builder: Callable, vectors: np.ndarray, queries: np.ndarray
) -> Iterator[dict[str, Any]]:
    """One index, built once and searched under each filter."""
    from outcrop.schema.indexes import PROFILES
    from outcrop.store.verify import recall_bucket

    profile = PROFILES[index]
    build = profile.build_params(dim=vectors.shape[1], rows=len(vectors))
    begun = time.perf_counter()
    search, memory, engine = builder(vectors, build)
    base |= {"engine": engine, "build_s": round(time.perf_counter() - begun, 1), "memory_mib": round(memory / MIB)}
    rng = np.random.default_rng(2)
    for share in SHARES:
        kept = None if share == 1 else rng.random(len(vectors)) < share
        params = profile.search_params(K, share, build)
        line = {**base, "kept": share, "search": params}
        try:
            found = np.concatenate(
                [search(queries[n : n + BATCH], kept, params) for n in range(0, len(queries), BATCH)]
            )
        except NotRun as reason:
            yield {**line, "not run": str(reason)}
            continue
        recall = recall_of(found, exact(vectors, queries, kept))
        rate = per_second(lambda kept=kept, params=params: search(queries[:BATCH], kept, params), len(queries[:BATCH]))
        yield {**line, f"recall@{K}": round(recall, 4), "bucket": recall_bucket(recall), "queries_per_s": round(rate)}


def recall_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Of the true best K [Q, K], the share that was found."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


def exact(vectors: np.ndarray, queries: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    """Places of the true best K rows among those that are kept, [Q, K] (all of them where they are fewer)."""
    places = np.arange(len(vectors)) if kept is None else np.flatnonzero(kept)
    rows = vectors if kept is None else vectors[places]
    k, best = min(K, len(places)), []
    for start in range(0, len(queries), BATCH):
        scores = queries[start : start + BATCH] @ rows.T
        best.append(places[np.argpartition(-scores, k - 1, axis=1)[:, :k]])
    return np.concatenate(best)


def per_second(call: Callable[[], object], count: int) -> float:
    """Queries a second, after a call that warms up."""
    call()
    made, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < SECONDS or not made:
        call()
        made += count
    return made / passed


def clustered(rows: int, dim: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 around random centres, as embeddings lie, and queries from the same clusters; float32."""
    import million

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(16, rows // 500), dim)).astype(np.float32)
    parts = [million.clustered(rng, centres, min(100_000, rows - start)) for start in range(0, rows, 100_000)]
    return np.concatenate(parts), million.clustered(rng, centres, queries)


def gpu_builders() -> dict[str, Any]:
    """How each index is built on this machine: a function, or the reason why not."""
    names = ("GPU_CAGRA", "GPU_IVF_PQ")
    try:
        import torch
    except ImportError:
        return dict.fromkeys(names, "torch is not installed")
    if not torch.cuda.is_available():
        return dict.fromkeys(names, "no CUDA device")
    try:
        importlib.import_module("cuvs.neighbors")
        return {"GPU_CAGRA": cuvs_cagra, "GPU_IVF_PQ": cuvs_ivf_pq}
    except (ImportError, OSError) as error:
        missing = f"cuVS cannot be imported ({error})"
    try:
        faiss = importlib.import_module("faiss")
    except ImportError as error:
        return dict.fromkeys(names, f"{missing}, nor can faiss ({error})")
    if not hasattr(faiss, "GpuIndexCagra"):
        return dict.fromkeys(names, f"{missing}, and this faiss was built without it: pip install cuvs-cu13")
    return {"GPU_CAGRA": faiss_gpu_cagra, "GPU_IVF_PQ": faiss_gpu_ivf_pq}


# -- cuVS --------------------------------------------------------------------------------------------------------------


def cuvs_cagra(vectors: np.ndarray, build: dict[str, Any]) -> tuple[Search, float, str]:
    """A graph by cuVS. Milvus builds by NN-descent where nothing else is said (knowhere)."""
    from cuvs.neighbors import cagra

    degrees = {name: build[name] for name in ("intermediate_graph_degree", "graph_degree")}
    params = cagra.IndexParams(metric="inner_product", build_algo="nn_descent", **degrees)
    return _cuvs(cagra, params, lambda given: cagra.SearchParams(**given), vectors)


def cuvs_ivf_pq(vectors: np.ndarray, build: dict[str, Any]) -> tuple[Search, float, str]:
    """Compressed lists by cuVS."""
    from cuvs.neighbors import ivf_pq

    params = ivf_pq.IndexParams(
        metric="inner_product", n_lists=build["nlist"], pq_dim=build["m"], pq_bits=build["nbits"]
    )
    return _cuvs(ivf_pq, params, lambda given: ivf_pq.SearchParams(n_probes=given["nprobe"]), vectors)


def _cuvs(
    module: Any, params: Any, search_params: Callable[[dict[str, Any]], Any], vectors: np.ndarray
) -> tuple[Search, float, str]:
    """An index of one of cuVS's modules; the dataset is copied to the card first, as Milvus does."""
    import cuvs
    import torch
    from cuvs.neighbors import filters

    before = torch.cuda.mem_get_info()[0]
    dataset = torch.from_numpy(vectors).cuda()
    try:
        index = module.build(params, dataset)
    except (RuntimeError, MemoryError) as error:
        raise NotRun(str(error).splitlines()[0][:200]) from None
    torch.cuda.synchronize()
    if module.__name__.endswith("ivf_pq"):  # the codes are all that stays
        del dataset
        torch.cuda.empty_cache()
    memory = float(before - torch.cuda.mem_get_info()[0])

    def search(queries: np.ndarray, kept: np.ndarray | None, given: dict[str, Any]) -> np.ndarray:
        asked = torch.from_numpy(np.ascontiguousarray(queries)).cuda()
        more = {} if kept is None else {"filter": filters.from_bitset(bits_of(kept))}
        try:
            _, places = module.search(search_params(given), index, asked, K, **more)
        except TypeError as error:
            raise NotRun(f"this cuVS has no such parameter: {error}") from None
        return np.asarray(places.copy_to_host(), dtype=np.int64)

    return search, memory, f"cuvs {cuvs.__version__}"


def bits_of(kept: np.ndarray) -> Any:
    """A bit for each row, 32 in a word from the lowest up, on the card (uint32, as cuVS wants it)."""
    from pylibraft.common import device_ndarray

    return device_ndarray(words_of(kept))


def words_of(kept: np.ndarray) -> np.ndarray:
    """The words of `bits_of`, [ceil(N / 32)] uint32."""
    padded = np.zeros(-(-len(kept) // 32) * 32, dtype=bool)
    padded[: len(kept)] = kept
    return np.packbits(padded, bitorder="little").view("<u4")


# -- faiss -------------------------------------------------------------------------------------------------------------


def faiss_gpu_cagra(vectors: np.ndarray, build: dict[str, Any]) -> tuple[Search, float, str]:
    """A graph by cuVS inside faiss."""
    import faiss

    config = faiss.GpuIndexCagraConfig()
    config.intermediate_graph_degree, config.graph_degree = build["intermediate_graph_degree"], build["graph_degree"]
    config.build_algo = faiss.graph_build_algo_NN_DESCENT
    made = faiss.GpuIndexCagra(faiss.StandardGpuResources(), vectors.shape[1], faiss.METRIC_INNER_PRODUCT, config)

    def parameters(given: dict[str, Any]) -> Any:
        wanted = faiss.SearchParametersCagra()
        wanted.itopk_size, wanted.num_random_samplings = given["itopk_size"], given["num_random_samplings"]
        return wanted

    return _faiss_gpu(made, vectors, parameters)


def faiss_gpu_ivf_pq(vectors: np.ndarray, build: dict[str, Any]) -> tuple[Search, float, str]:
    """Compressed lists by cuVS inside faiss."""
    import faiss

    config = faiss.GpuIndexIVFPQConfig()
    config.use_cuvs = True
    sizes = (vectors.shape[1], build["nlist"], build["m"], build["nbits"])
    made = faiss.GpuIndexIVFPQ(faiss.StandardGpuResources(), *sizes, faiss.METRIC_INNER_PRODUCT, config)
    return _faiss_gpu(made, vectors, lambda given: faiss.SearchParametersIVF(nprobe=given["nprobe"]))


def _faiss_gpu(
    index: Any, vectors: np.ndarray, parameters: Callable[[dict[str, Any]], Any]
) -> tuple[Search, float, str]:
    import faiss
    import torch

    before = torch.cuda.mem_get_info()[0]
    index.train(vectors)
    if index.ntotal == 0:
        index.add(vectors)
    memory = float(before - torch.cuda.mem_get_info()[0])

    def search(queries: np.ndarray, kept: np.ndarray | None, given: dict[str, Any]) -> np.ndarray:
        if kept is not None:
            raise NotRun("faiss has no filters on a GPU: pip install cuvs-cu13")
        return index.search(queries, K, params=parameters(given))[1]

    return search, memory, f"faiss {faiss.__version__} (GPU)"


def faiss_ivf_pq(vectors: np.ndarray, build: dict[str, Any]) -> tuple[Search, float, str]:
    """Compressed lists by faiss on the CPU: a stand-in with the same parameters. Memory is that of the written index."""
    import faiss

    dim, nlist = vectors.shape[1], min(build["nlist"], max(1, len(vectors) // 39))  # faiss trains with 39 rows a list
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, nlist, build["m"], build["nbits"], faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # it warns of small samples otherwise
    index.train(vectors)
    index.add(vectors)
    memory = float(len(faiss.serialize_index(index)))

    def search(queries: np.ndarray, kept: np.ndarray | None, given: dict[str, Any]) -> np.ndarray:
        params = faiss.SearchParametersIVF(nprobe=min(nlist, given["nprobe"]))
        if kept is not None:
            params.sel = faiss.IDSelectorBatch(np.flatnonzero(kept))
        return index.search(queries, K, params=params)[1]

    return search, memory, f"faiss {faiss.__version__} (CPU, {nlist} lists)"


if __name__ == "__main__":
    main()
