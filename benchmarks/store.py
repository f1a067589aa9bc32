"""Upsert and query through `store` against raw pymilvus: same process, same schema, Milvus Lite and a real server.

    python benchmarks/store.py [--rows 10000] [--dim 768] [--batch 500] [--queries 60] [--uri DIR-or-URL …]

Both write the same items batch by batch into a collection of their own, then ask one vector at a time for the best 10 with
the same fields and consistency; in turns, so that noise meets both. What is raw is what somebody would write by hand: rows
as dicts with the item's fields, and `client.upsert` and `client.search`. Without --uri, a new Milvus Lite directory and the
Milvus 2.3.5 of the tests are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
sys.path[:] = [*sys.path[1:], str(HERE), str(HERE / "tests")]  # last: what is installed wins

GOAL = 1.10


def main() -> None:
    """Runs the benchmark and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--uri", action="append", help="repeatable; default: Milvus Lite and the tests' server")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder, backends(arguments.uri, Path(folder)) as uris:
        for uri in uris:
            result = measure(uri, arguments.rows, arguments.dim, arguments.batch, arguments.queries)
            results.append(result)
            if not arguments.json:
                for name, value in result.items():
                    print(f"{name:24} {value}")
                print(flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))


@contextlib.contextmanager
def backends(given: list[str] | None, folder: Path) -> Iterator[list[str]]:
    """The addresses to measure; the server of the tests runs meanwhile, where this machine can run it."""
    if given:
        yield given
        return
    from milvus_server import MilvusServer, why_not

    if reason := why_not():
        print(f"no server: {reason}", file=sys.stderr)
        yield [str(folder / "bench.db")]
        return
    server = MilvusServer(folder / "server")
    server.start()
    try:
        yield [str(folder / "bench.db"), server.uri]
    finally:
        server.kill()


def measure(uri: str, rows: int, dim: int, batch: int, queries: int) -> dict[str, object]:
    """Medians in milliseconds per batch and per query, raw and through the store, and their ratios."""
    from outcrop.schema.item import FIELDS, Item, Kind, image_key
    from outcrop.schema.space import Space
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store
    from outcrop.store.search import search

    rng = np.random.default_rng(0)

    def space(model: str) -> Space:
        zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return Space(model=model, weights_digest="0", size=(8, 8), mean=zero, std=one, pooling="avg", dim=dim)

    def items(start: int, count: int) -> list[Item]:
        fields = {"altitude": 100.0, "extra": {"width": 4000}}
        return [
            Item(image_key("bench", "c", n), Kind.IMAGE, "bench", "c", frame=n, source=f"c/{n}.jpg", **fields)
            for n in range(start, start + count)
        ]

    with Store.connect(uri) as store:
        client = store.client
        result: dict[str, object] = {"backend": store.describe(), "rows": rows, "dim": dim, "batch": batch}
        theirs = Collection.create(store, "bench_raw", space("raw"), index="FLAT")
        ours = Collection.create(store, "bench_ours", space("ours"), index="FLAT")
        client.create_partition(theirs.physical, "image__bench")

        def write_raw(items: list[Item], vectors: np.ndarray) -> None:
            made = []
            for item, vector in zip(items, vectors, strict=True):
                row = {name: getattr(item, name) for name in FIELDS}
                made.append({**row, **item.extra, "id": item.id, "kind": item.kind.value, "vector": vector})
            client.upsert(theirs.physical, made, partition_name="image__bench")

        pages = [(items(start, batch), unit(rng, batch, dim)) for start in range(0, rows, batch)]
        raw_ms, ours_ms = in_turns(lambda page: write_raw(*page), lambda page: ours.upsert(*page), pages)
        result["upsert, ms per batch"] = figures(raw_ms, ours_ms)
        again = pages[: max(3, len(pages) // 4)]
        raw_ms, ours_ms = in_turns(lambda page: write_raw(*page), lambda page: ours.upsert(*page), again)
        result["upsert again"] = figures(raw_ms, ours_ms)

        for collection in (theirs, ours):
            collection.flush()
            collection.wait_for_index()

        def ask_raw(vector: np.ndarray) -> object:
            return client.search(
                theirs.physical, data=[vector], limit=10, output_fields=list(FIELDS), anns_field="vector",
                search_params={"metric_type": "IP", "params": {}}, consistency_level="Strong",
            )  # fmt: skip

        def ask(vector: np.ndarray) -> object:
            return search(ours, vector[None], 10)

        raw_ms, ours_ms = in_turns(ask_raw, ask, list(unit(rng, queries, dim)))
        result["query, ms"] = figures(raw_ms, ours_ms)
        for name, collection in (("bench_raw", theirs), ("bench_ours", ours)):
            client.drop_alias(name)
            client.drop_collection(collection.physical)
    return result


def figures(raw: list[float], ours: list[float]) -> dict[str, float | bool]:
    """Medians, their ratio, and the median of the ratios of neighbours, which noise moves least and the goal is about."""
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, raw, strict=True))
    return {
        "raw": round(statistics.median(raw), 2),
        "ours": round(statistics.median(ours), 2),
        "ratio": round(ratio, 3),
        "ratio_of_medians": round(statistics.median(ours) / statistics.median(raw), 3),
        "goal_met": ratio <= GOAL,
    }


def unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Random vectors of length 1, [count, dim] float32."""
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def in_turns(first: Callable, second: Callable, values: list) -> tuple[list[float], list[float]]:
    """Milliseconds of each call, alternating which one goes first."""
    times: tuple[list[float], list[float]] = ([], [])
    for number, value in enumerate(values):
        for which in (0, 1) if number % 2 else (1, 0):
            begun = time.perf_counter()
            (first, second)[which](value)
            times[which].append(1000 * (time.perf_counter() - begun))
    return times


if __name__ == "__main__":
    main()
