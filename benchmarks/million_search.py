"""A million rows on a server: loading, index, recall, searches, memory and disk; ours beside raw pymilvus in the same run.

    python benchmarks/million_search.py [--rows 1000000] [--dim 384] [--sample 100000] [--uri URL] [--folder DIR] [--keep]
        [--steps load sample index recall search commands] [--json]

The rows are those of `million.py`. `load` has all of them read as files by the server, into a collection with an exact index;
`sample` loads the first rows twice more, by requests and by files, ours and raw in turns; `index` builds HNSW as the profile
makes it; `recall` compares with an exact search in numpy; `search` asks one vector at a time, for some seconds in turns, with
1, 8 and 32 clients (threads of one process), without a filter and with filters on the items' fields that keep 10 %, 1 % and
0.01 %. What is raw has the same parameters and consistency. `commands` are those of `million.py`. Beside the clock stand
seconds of processor, the client's and the server's, which other work disturbs less. Without --uri, the Milvus 2.3.5 of the
tests runs meanwhile; on Milvus Lite there are no files and no graph. With --keep the collection stays, so that steps can be
repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from serve import MODEL, NAME  # the page is measured on the same collection; `serve` brings the path of `million`

from million import PATIENCE, clustered, measure, pages  # isort: skip

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

STEPS = ("load", "sample", "index", "recall", "search", "commands")
FILTERS = {
    "": (),
    "10 %": ("latitude=47..47.00995",),
    "1 %": ("latitude=47..47.00095",),
    "0.01 %": ("latitude=47..47.00005", "longitude=11..11.00985"),
}
"""Boxes on the ground; the share of the rows in each."""
SHARES = {"": 1.0, "10 %": 100 / 997, "1 %": 10 / 997, "0.01 %": 99 / 991 / 997}
K = 10
TURNS = 3
GOAL = 1.05


@dataclass
class Meter:
    """Seconds on the clock and of processor, of this process and of the server; and the server's highest resident MiB."""

    pid: int | None
    seconds: float = 0.0
    client: float = 0.0
    server: float = 0.0
    peak_mib: float = 0.0

    @contextlib.contextmanager
    def on(self) -> Iterator[Meter]:
        """Adds what is spent within."""
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done,), daemon=True)
        watch.start()
        begun, used, theirs = time.perf_counter(), time.process_time(), processor_seconds(self.pid)
        try:
            yield self
        finally:
            self.seconds += time.perf_counter() - begun
            self.client += time.process_time() - used
            self.server += processor_seconds(self.pid) - theirs
            done.set()
            watch.join()

    def _watch(self, done: threading.Event) -> None:
        while True:
            self.peak_mib = max(self.peak_mib, resident_mib(self.pid))
            if done.wait(0.5):
                return

    def line(self, step: str, rows: int = 0, **more: object) -> dict[str, object]:
        """The figures as one line of the report."""
        spent = {
            "seconds": round(self.seconds, 1),
            "client_s": round(self.client, 1),
            "server_s": round(self.server, 1),
        }
        speed = {"rows": rows, "rows_per_s": round(rows / self.seconds)} if rows else {}
        return {"step": step, **speed, **spent, "server_peak_mib": round(self.peak_mib), **more}


def main() -> None:
    """Runs the steps and prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--sample", type=int, default=100_000, help="rows that are also loaded by requests, and raw")
    parser.add_argument("--queries", type=int, default=200, help="queries of the recall")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn of searches")
    parser.add_argument(
        "--uri", help="a server on this machine, or a Milvus Lite directory; default: the tests' server"
    )
    parser.add_argument("--folder", type=Path, help="where files are made; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="leave the collection, and use one that is there")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary, server(arguments.uri, Path(temporary)) as uri:
        for line in lines(arguments, uri, Path(temporary)):
            results.append(line)
            if not arguments.json:
                print("  ".join(f"{name} {value}" for name, value in line.items() if value != ""), flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))


@contextlib.contextmanager
def server(uri: str | None, folder: Path) -> Iterator[str]:
    """The address that is measured."""
    if uri:
        yield uri
        return
    from milvus_server import MilvusServer

    started = MilvusServer(folder / "server")
    started.start()
    try:
        yield started.uri
    finally:
        started.kill()


def lines(arguments: argparse.Namespace, uri: str, folder: Path) -> Iterator[dict[str, object]]:
    """Every step's lines."""
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store
    from outcrop.store.maintenance import drop

    pid, place = listener(uri)
    rows, dim = arguments.rows, arguments.dim
    with Store.connect(uri, timeout=PATIENCE) as store:
        if "load" in arguments.steps:
            yield load(store, rows, dim, folder, Meter(pid))
            yield standing("after load", pid, place)
        if "sample" in arguments.steps:
            yield from sample(store, arguments.sample, dim, folder, pid)
        collection = Collection.open(store, NAME)
        if (
            "index" in arguments.steps and not store.lite
        ):  # Milvus Lite stays with the exact index, which is its usual one
            yield index(collection, rows, Meter(pid))
            yield standing("after index", pid, place)
        if "recall" in arguments.steps:
            yield from recall(collection, rows, arguments.queries)
        if "search" in arguments.steps:
            for clients in arguments.clients:
                yield from searches(collection, rows, clients, arguments.seconds, pid)
            yield standing("after searches", pid, place)
    if "commands" in arguments.steps:
        yield from measure(folder, rows, dim, uri, None, NAME)
    if not arguments.keep:
        with Store.connect(uri, timeout=PATIENCE) as store:
            drop(Collection.open(store, NAME))


def load(store, rows: int, dim: int, folder: Path, meter: Meter) -> dict[str, object]:
    """All rows, as files that the server reads (Milvus Lite: by requests); the index is exact, so no graph is built meanwhile."""
    from outcrop.store.collection import Collection

    collection = Collection.create(store, NAME, space_of(dim), index="FLAT")
    said: list[str] = []
    make = Meter(None)
    with meter.on():
        written = loaded(collection, rows, dim, folder, make, said.append)
    assert written == collection.count() == rows
    made = {"of_it_making_rows_s": round(make.seconds, 1)}
    return meter.line("load by files" if said else "load by requests", rows, **made, said="; ".join(said))


def loaded(collection, rows: int, dim: int, folder: Path, make: Meter, say: Callable[[str], None]) -> int:
    """Writes rows through `outcrop.store.bulk`, flushes, and waits for the index."""
    from outcrop.store.bulk import Bulk, load_into

    writer = load_into(collection, Bulk(folder, 1), rows, say)
    made = pages(rows, dim)
    while True:
        with make.on():
            page = next(made, None)
        if page is None:
            break
        writer.add(*page)
    writer.close()
    collection.flush()
    collection.wait_for_index(PATIENCE * 6)
    return writer.rows


def space_of(dim: int):  # a Space
    """That of the model that `serve.py` asks with, cut."""
    from outcrop.embed.models import resolve
    from outcrop.schema.settings import Settings

    return resolve(Settings(model=MODEL)).space.model_copy(update={"dim": dim})


def index(collection, rows: int, meter: Meter) -> dict[str, object]:
    """The graph of the server's profile."""
    from outcrop.store.maintenance import change_index

    with meter.on():
        change_index(collection, "HNSW", deadline=4 * 3600)
        collection.wait_for_index(3600)
        collection.load()
        collection.wait_until_served(600)
    return meter.line("index HNSW", rows, build=dict(collection.build))


def sample(store, rows: int, dim: int, folder: Path, pid: int | None) -> Iterator[dict[str, object]]:
    """The first rows into collections of their own, ours and by hand: page by page in turns by requests, then as files."""
    from outcrop.store.collection import Collection
    from outcrop.store.maintenance import drop

    def made(name: str) -> Collection:
        return Collection.create(store, name, space_of(dim), index="FLAT")

    pair = made("bench_ours"), made("bench_raw")
    meters = Meter(pid), Meter(pid)
    writes = (pair[0].upsert, lambda items, vectors: upsert_raw(pair[1], items, vectors))
    for number, page in enumerate(pages(rows, dim)):
        for which in (0, 1) if number % 2 else (1, 0):
            with meters[which].on():
                writes[which](*page)
    for meter, collection in zip(meters, pair, strict=True):
        with meter.on():
            collection.flush()
    yield compared("requests and flush", *meters, rows)
    for collection in pair:
        drop(collection)
    if store.lite:
        return
    files = made("bench_ours"), made("bench_raw")
    meters, make = (Meter(pid), Meter(pid)), Meter(None)
    with meters[0].on():
        loaded(files[0], rows, dim, folder, make, lambda text: None)
    with meters[1].on():
        loaded_raw(files[1], rows, dim, folder, make)
    assert files[0].count() == files[1].count() == rows
    yield compared("files and flush", *meters, rows)
    for collection in files:
        drop(collection)


def rows_by_hand(items: list, vectors: np.ndarray) -> dict[str, list[dict[str, object]]]:
    """Rows as somebody would write them, by partition."""
    from outcrop.schema.item import FIELDS
    from outcrop.store.partitions import partition_name

    found: dict[str, list[dict[str, object]]] = {}
    for item, vector in zip(items, vectors, strict=True):
        row = {name: getattr(item, name) for name in FIELDS}
        row = {**row, **item.extra, "id": item.id, "kind": item.kind.value, "vector": vector}
        found.setdefault(partition_name(item.kind, item.dataset), []).append(row)
    return found


def upsert_raw(collection, items: list, vectors: np.ndarray) -> None:
    """Requests of pymilvus alone; partitions are made where they are missing."""
    client = collection.store.client
    for partition, rows in rows_by_hand(items, vectors).items():
        if partition not in collection.partitions():
            client.create_partition(collection.physical, partition)
            collection.partitions().add(partition)
        client.upsert(collection.physical, rows, partition_name=partition, timeout=PATIENCE)


def loaded_raw(collection, rows: int, dim: int, folder: Path, make: Meter) -> None:
    """Files of pymilvus's writer, and a job of the server for each."""
    from pymilvus.bulk_writer import BulkFileType, LocalBulkWriter

    from outcrop.store.rows import milvus_schema

    client, writers = collection.store.client, {}
    made = pages(rows, dim)
    while True:
        with make.on():
            page = next(made, None)
        if page is None:
            break
        for partition, some in rows_by_hand(*page).items():
            if partition not in writers:
                client.create_partition(collection.physical, partition)
                place = str(folder / partition)
                schema = milvus_schema(client, dim)
                writers[partition] = LocalBulkWriter(
                    schema, place, chunk_size=128 * 2**20, file_type=BulkFileType.PARQUET
                )
            for row in some:
                writers[partition].append_row(row)
    server = client._get_connection()
    jobs = []
    for partition, writer in writers.items():
        writer.commit()
        jobs += [server.do_bulk_insert(collection.physical, partition, files) for files in writer.batch_files]
    while any(server.get_bulk_insert_state(job).state_name not in ("Completed", "Failed") for job in jobs):
        time.sleep(0.5)
    collection.flush()
    while collection.count() < rows:
        time.sleep(0.5)


def compared(step: str, ours: Meter, raw: Meter, rows: int) -> dict[str, object]:
    """Ours beside raw: rows a second, and the ratios of seconds and of processor."""
    return {
        "step": f"sample by {step}",
        "rows": rows,
        "ours_rows_per_s": round(rows / ours.seconds),
        "raw_rows_per_s": round(rows / raw.seconds),
        "ratio": round(ours.seconds / raw.seconds, 3),
        "ours_client_s": round(ours.client, 1),
        "raw_client_s": round(raw.client, 1),
        "ours_server_s": round(ours.server, 1),
        "raw_server_s": round(raw.server, 1),
        "ratio_of_processor": round((ours.client + ours.server) / (raw.client + raw.server), 3),
    }


def queries(rows: int, dim: int, count: int) -> np.ndarray:
    """Vectors near the same centres as the rows', and none of them, [count, D] float32."""
    centres = np.random.default_rng(0).normal(size=(max(16, rows // 500), dim)).astype(np.float32)
    return clustered(np.random.default_rng(1), centres, count)


def recall(collection, rows: int, count: int) -> Iterator[dict[str, object]]:
    """Recall@10 of both against products of float32 matrices; an equal score is as right."""
    asked = queries(rows, collection.dim, count)
    truth = oracle(rows, asked)
    for name, texts in FILTERS.items():
        ours, raw = askers(collection, name)
        found = {"ours": [ours(vector) for vector in asked], "raw": [raw(vector) for vector in asked]}
        line: dict[str, object] = {
            "step": "recall@10",
            "filter": name or "none",
            "kept": truth[name][1],
            "queries": count,
        }
        for who, answers in found.items():
            right = [hits(scores, best) for scores, best in zip(answers, truth[name][0], strict=True)]
            line |= {who: round(float(np.mean(right)), 4), f"{who}_worst": min(right)}
        yield {**line, "where": " ".join(texts)}


def hits(scores: list[float], best: np.ndarray) -> float:
    """The share of the best scores that an answer has."""
    return min(1.0, float((np.asarray(scores) >= best[-1] - 1e-5).sum()) / len(best))


def oracle(rows: int, asked: np.ndarray) -> dict[str, tuple[np.ndarray, int]]:
    """For each filter the best scores of each query [Q, 10] and the rows that it keeps, by going over all vectors."""
    best = {name: np.full((len(asked), K), -np.inf, np.float32) for name in FILTERS}
    kept, start = dict.fromkeys(FILTERS, 0), 0
    for items, vectors in pages(rows, asked.shape[1]):
        frames = np.arange(start, start + len(items))
        start += len(items)
        products = asked @ vectors.T
        for name, inside in masks(frames).items():
            kept[name] += int(inside.sum())
            both = np.concatenate([best[name], products[:, inside]], axis=1)
            best[name] = -np.sort(np.partition(-both, K - 1, axis=1)[:, :K], axis=1)
    return {name: (best[name][:, : min(K, kept[name])], kept[name]) for name in FILTERS}


def masks(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Which rows each filter keeps, by the places that `million.item_at` gives them."""
    north, east = frames % 997, frames % 991
    return {"": north >= 0, "10 %": north < 100, "1 %": north < 10, "0.01 %": (north < 1) & (east < 99)}


Ask = Callable[[np.ndarray], list[float]]


def askers(collection, name: str) -> tuple[Ask, Ask]:
    """Ours and raw: from a vector to the scores of its best 10, with what is shown of each."""
    from outcrop.schema.filters import Filter, where
    from outcrop.schema.item import FIELDS
    from outcrop.store.search import search

    kept = where(*FILTERS[name]) if name else Filter()
    first = search(collection, queries(1000, collection.dim, 1), K, kept)
    params = first.plan.params or collection.search_params(K, SHARES[name])
    client = collection.store.client

    def ours(vector: np.ndarray) -> list[float]:
        return [hit.score for hit in search(collection, vector[None], K, kept).hits[0]]

    def raw(vector: np.ndarray) -> list[float]:
        found = client.search(
            collection.physical, data=[vector], limit=K, filter=kept.expression, output_fields=list(FIELDS),
            search_params={"metric_type": "IP", "params": params}, anns_field="vector", consistency_level="Strong",
            timeout=PATIENCE,
        )  # fmt: skip
        shown = [(hit["distance"], dict(hit["entity"])) for hit in found[0]]  # what was asked for is read
        return [score for score, _ in shown]

    return ours, raw


@dataclass
class Side:
    """What one side took: milliseconds of each answer, and seconds and processor of all turns."""

    meter: Meter
    times: list[float] = field(default_factory=list)

    def figures(self, name: str) -> dict[str, object]:
        """Median, p95, answers a second, and milliseconds of processor an answer (client and server)."""
        count = len(self.times)
        return {
            f"{name}_p50_ms": round(statistics.median(self.times), 1),
            f"{name}_p95_ms": round(float(np.quantile(self.times, 0.95)), 1),
            f"{name}_per_s": round(count / self.meter.seconds, 1),
            f"{name}_client_ms": round(1000 * self.meter.client / count, 2),
            f"{name}_server_ms": round(1000 * self.meter.server / count, 2),
        }


def searches(collection, rows: int, clients: int, seconds: float, pid: int | None) -> Iterator[dict[str, object]]:
    """A line for each filter: so many clients ask one vector at a time, ours and raw in turns of some seconds."""
    vectors = queries(rows, collection.dim, 4096)
    for name in FILTERS:
        calls = askers(collection, name)
        sides = Side(Meter(pid)), Side(Meter(pid))
        for call in calls:
            call(vectors[0])
        for turn in range(2 * TURNS):
            which = (turn + turn // 2) % 2  # ours, raw, raw, ours, …
            with sides[which].meter.on():
                sides[which].times += crowd(calls[which], vectors, clients, seconds)
        ours, raw = (side.figures(who) for side, who in zip(sides, ("ours", "raw"), strict=True))
        spent = [(side.meter.client + side.meter.server) / len(side.times) for side in sides]
        ratio = statistics.median(sides[0].times) / statistics.median(sides[1].times)
        yield {
            "step": "search",
            "filter": name or "none",
            "clients": clients,
            **ours,
            **raw,
            "ratio_of_medians": round(ratio, 3),
            "ratio_of_processor": round(spent[0] / spent[1], 3),
            "goal": GOAL,
        }


def crowd(call: Ask, vectors: np.ndarray, clients: int, seconds: float) -> list[float]:
    """Milliseconds of every answer to clients that ask without a pause."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        turn = number
        while (begun := time.perf_counter()) < end:
            call(vectors[turn % len(vectors)])
            times.append(1000 * (time.perf_counter() - begun))
            turn += clients

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def standing(step: str, pid: int | None, place: Path | None) -> dict[str, object]:
    """Memory and disk of the server now."""
    disk = sum(f.stat().st_blocks for f in place.rglob("*") if f.is_file()) * 512 / 2**20 if place else 0
    return {"step": step, "resident_mib": round(resident_mib(pid)), "disk_mib": round(disk)}


def listener(uri: str) -> tuple[int | None, Path | None]:
    """The process that listens at an address of this machine, and its folder; a directory of Milvus Lite is in this process."""
    if "://" not in uri:
        return None, Path(uri)
    import psutil

    port = int(uri.rpartition(":")[2])
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections()):
                return process.pid, Path(process.cwd())
    return None, None


def processor_seconds(pid: int | None) -> float:
    """User and system time of a process so far."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int | None) -> float:
    """Resident size of a process (None: of this one) now; of a server also the files that it maps."""
    text = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in text if line.startswith("VmRSS:")), 0.0)


if __name__ == "__main__":
    main()
