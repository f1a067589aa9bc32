"""Search through `store` against the same search called raw through pymilvus: same process, same collection.

    python benchmarks/query.py [--rows 20000] [--dim 1280] [--queries 100] [--uri DIR-or-URL]

Both ask one vector at a time for the best 10, with the same fields and consistency, in turns, so that noise meets both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np


def main() -> None:
    """Runs the benchmark and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--uri", help="default: a new Milvus Lite directory")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments.uri or f"{folder}/bench.db", arguments.rows, arguments.dim, arguments.queries)
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")


def measure(uri: str, rows: int, dim: int, queries: int) -> dict[str, object]:
    """Medians in milliseconds per query, raw and through the store, and their ratios."""
    from outcrop.schema.filters import Filter, where
    from outcrop.schema.item import FIELDS, Item, Kind, image_key
    from outcrop.schema.space import Space
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store
    from outcrop.store.search import search

    rng = np.random.default_rng(0)
    space = Space(model="bench", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=dim)
    result: dict[str, object] = {"uri": uri, "rows": rows, "dim": dim, "queries": queries}
    with Store.connect(uri) as store:
        collection = Collection.create(store, "bench_query", space, index="FLAT")
        for start in range(0, rows, 2000):
            numbers = range(start, min(start + 2000, rows))
            vectors = unit(rng, len(numbers), dim)
            items = [
                Item(
                    image_key("bench", "c", n),
                    Kind.IMAGE,
                    "bench",
                    "c",
                    frame=n,
                    altitude=100.0 * (1 + n % 3),
                    source=f"c/{n}.jpg",
                )
                for n in numbers
            ]
            collection.upsert(items, vectors)
        collection.flush()
        collection.wait_for_index()
        asked = unit(rng, queries, dim)
        for name, filter in (("no filter", Filter()), ("altitude=200", where("altitude=200"))):

            def raw(vector: np.ndarray, filter: Filter = filter) -> object:
                return store.client.search(
                    collection.physical, data=[vector], limit=10, filter=filter.expression, output_fields=list(FIELDS),
                    search_params={"metric_type": "IP", "params": {}}, anns_field="vector", consistency_level="Strong",
                )  # fmt: skip

            def ours(vector: np.ndarray, filter: Filter = filter) -> object:
                return search(collection, vector[None], 10, filter)

            (raw_ms, ours_ms), (raw_cpu, ours_cpu) = in_turns(raw, ours, asked)
            result[name] = {
                "raw_ms": round(statistics.median(raw_ms), 2),
                "ours_ms": round(statistics.median(ours_ms), 2),
                "ratio_of_medians": round(statistics.median(ours_ms) / statistics.median(raw_ms), 3),
                "ratio_of_totals": round(sum(ours_ms) / sum(raw_ms), 3),
                "ratio_of_processor_time": round(statistics.median(ours_cpu) / statistics.median(raw_cpu), 3),
            }
        store.client.drop_alias("bench_query")
        store.client.drop_collection(collection.physical)
    return result


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Random vectors of length 1, [count, dim] float32."""
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def in_turns(first: Callable, second: Callable, vectors: np.ndarray) -> tuple[tuple[list[float], list[float]], ...]:
    """Milliseconds of each call by the clock, and of processor time (Milvus Lite's among it: it runs in this process).

    The calls alternate in going first.
    """
    for call in (first, second):
        call(vectors[0])
    times: tuple[list[float], list[float]] = ([], [])
    spent: tuple[list[float], list[float]] = ([], [])
    for number, vector in enumerate(vectors):
        for which in (0, 1) if number % 2 else (1, 0):
            begun, used = time.perf_counter(), time.process_time()
            (first, second)[which](vector)
            times[which].append(1000 * (time.perf_counter() - begun))
            spent[which].append(1000 * (time.process_time() - used))
    return times, spent


if __name__ == "__main__":
    main()
