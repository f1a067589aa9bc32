"""An ingest in parts, killed: eight shards and a Ray cluster make the rows of one run, and cost no more processor time.

    python benchmarks/parts.py [--part processor|shards|ray|bulk|all] [--pictures 400] [--seed 1] [--uri http://…]

Needs a Milvus server: that of `--uri`, or the one of the package `milvus` (extra `server`), which is started. Each part works in
a temporary folder and in collections of its own, and drops these. The exit code is 1 where rows differ or a run did not end.

- processor: seconds of processor time (user and system, children too) of one run and of eight shards, one after the other.
- shards (8 kills): eight shards, two at a time; each gets SIGKILL once at a random moment of its work, and is begun again.
- ray (12 kills): ingests (three, see --passes) on a cluster of four nodes and a head; in each, all four nodes are killed once at
  random moments, and others take their places. Needs Ray, and 1 GB of memory for each node.
- bulk (8 kills, see --kills): a first ingest of vectors by files that the server reads, in files of a thousand rows; it gets
  SIGKILL at random moments, is begun again each time, and then left alone. The server must read this machine's folders.

Afterwards ids, metadata and vectors must be those of an undisturbed run (vectors to 1e-6).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests")]  # last: what is installed wins

import numpy as np  # noqa: E402  the path to what follows is set above
from milvus_server import MilvusServer  # noqa: E402  likewise
from operations import SPACE, unit  # noqa: E402  likewise
from pictures import write_dataset  # noqa: E402  likewise

from outcrop.ingest.layouts import write_space  # noqa: E402  likewise
from outcrop.ingest.records import list_runs  # noqa: E402  likewise
from outcrop.schema.filters import Filter  # noqa: E402  likewise
from outcrop.store.collection import Collection  # noqa: E402  likewise
from outcrop.store.connection import Store  # noqa: E402  likewise

SHARDS, NODES = 8, 4
OURS = {"ingested_at", "checksum", "vector"}
"""What two ingests of the same files may differ in, and what is compared by itself."""


@dataclass(frozen=True)
class Place:
    """Where a part works."""

    folder: Path
    uri: str
    pictures: int

    def command(self, name: str, *more: str) -> list[str]:
        """An ingest of the pictures into a collection."""
        registry = ("--registry", str(self.folder / "data_key.json"), "--model", "efficientnet_lite0")
        where = ("--uri", self.uri, "--collection", name, "--state", str(self.folder / name))
        code = "from outcrop.ingest.cli import main; main()"
        return [sys.executable, "-c", code, "dataset", "town", *registry, *where, "--quiet", *more]


def main() -> int:
    """Runs the parts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("processor", "shards", "ray", "bulk", "all"), default="all")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--passes", type=int, default=3, help="ingests on Ray")
    parser.add_argument("--kills", type=int, default=8, help="of the first ingest by files")
    parser.add_argument("--rows", type=int, default=6000, help="of the first ingest by files")
    parser.add_argument("--uri", help="a server that is running")
    arguments = parser.parse_args()
    chance, failed = random.Random(arguments.seed), 0
    with _server(arguments.uri) as uri, tempfile.TemporaryDirectory(prefix="outcrop-parts-") as folder:
        place = Place(Path(folder), uri, arguments.pictures)
        half = arguments.pictures // 2
        write_dataset(place.folder, {"a_300": half, "b_300": arguments.pictures - half}, name="town", root="town")
        made: list[str] = []
        try:
            if arguments.part in ("bulk", "all"):
                failed += _killed_load(place, made, chance, arguments.kills, arguments.rows)
            if arguments.part == "bulk":
                return int(failed > 0)
            one = _processor(place, _named("one", made))
            undisturbed = _rows(uri, made[0])
            print(f"one run: {arguments.pictures} pictures, {one:.1f} s of processor time", flush=True)
            if arguments.part in ("processor", "all"):
                eight = sum(_processor(place, _named("eight", made), "--shard", f"{n}/{SHARDS}") for n in range(SHARDS))
                failed += _compare("eight shards", undisturbed, _rows(uri, made[-1]))
                print(f"eight shards: {eight:.1f} s, {eight / one:.2f} of one run", flush=True)
            if arguments.part in ("shards", "all"):
                kills = _killed_shards(place, _named("shards", made), chance)
                failed += _compare(f"eight shards, {kills} kills", undisturbed, _rows(uri, made[-1]))
            for turn in range(arguments.passes if arguments.part in ("ray", "all") else 0):
                kills = _killed_nodes(place, _named(f"ray{turn}", made), chance)
                failed += _compare(f"Ray, {kills} nodes killed", undisturbed, _rows(uri, made[-1]))
        finally:
            _drop(uri, made)
    return int(failed > 0)


@contextmanager
def _server(uri: str | None) -> Iterator[str]:
    if uri is not None:
        yield uri
        return
    folder = Path(tempfile.mkdtemp(prefix="outcrop-milvus-"))
    server = MilvusServer(folder)
    server.start()
    try:
        yield server.uri
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _named(part: str, made: list[str]) -> str:
    name = f"parts_{part}_{os.getpid()}"
    if name not in made:
        made.append(name)
    return name


def _processor(place: Place, name: str, *more: str) -> float:
    """Seconds of processor time of an ingest, which must end well."""
    started = subprocess.Popen(place.command(name, *more), cwd=place.folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise SystemExit(f"an ingest ended with {started.returncode}: {' '.join(more)}")
    return used.ru_utime + used.ru_stime


def _killed_shards(place: Place, name: str, chance: random.Random) -> int:
    """Eight shards, two at a time, each killed once; returns how many were killed."""
    kills = 0
    waiting = [(number, True) for number in range(SHARDS)]
    chance.shuffle(waiting)
    running: list[tuple[subprocess.Popen[bytes], int, float | None]] = []
    while waiting or running:
        while waiting and len(running) < 2:
            number, killed = waiting.pop(0)
            shard = ("--shard", f"{number}/{SHARDS}", "--group", name)
            process = subprocess.Popen(place.command(name, *shard), cwd=place.folder, stdout=subprocess.DEVNULL)
            running.append((process, number, chance.random() if killed else None))
        time.sleep(0.05)
        for entry in list(running):
            process, number, moment = entry
            if process.poll() is not None:
                if process.returncode:
                    raise SystemExit(f"shard {number} ended with {process.returncode}")
                running.remove(entry)
            elif moment is not None and _done(place, name, process.pid) >= moment * place.pictures / SHARDS:
                process.kill()
                process.wait()
                running.remove(entry)
                waiting.append((number, False))
                kills += 1
    return kills


def _done(place: Place, name: str, process: int) -> float:
    """Items that the run of a process has finished; -1 before there is one."""
    records = [record for record in list_runs(place.folder / name) if record.process == process]
    return records[0].upserted + records[0].unchanged if records else -1


def _killed_nodes(place: Place, name: str, chance: random.Random) -> int:
    """An ingest on four nodes, each of which is killed once and replaced; returns how many were."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    moments = sorted(chance.random() * 0.8 * place.pictures for _ in nodes)
    kills = 0
    try:
        command = place.command(name, "--ray", cluster.address)
        process = subprocess.Popen(command, cwd=place.folder, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if moments and _newest(place, name) >= moments[0]:
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                cluster.add_node(num_cpus=1)
                moments.pop(0)
                kills += 1
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"the ingest on Ray ended with {process.returncode}")
    finally:
        cluster.shutdown()
    return kills


def _killed_load(place: Place, made: list[str], chance: random.Random, kills: int, rows: int) -> int:
    """A first ingest by files, killed at random moments; returns 1 where its rows are not those of requests."""
    tree = place.folder / "tree"
    (tree / "town/Global/c_100").mkdir(parents=True)
    for number, vector in enumerate(unit(rows)):
        np.save(tree / f"town/Global/c_100/c_100_{number:05d}.npy", vector)
    write_space(tree, SPACE)
    sent, loaded = _named("sent", made), _named("bulk", made)
    begun = time.monotonic()
    subprocess.run(_load(place, sent, {}), cwd=place.folder, check=True, stdout=subprocess.DEVNULL)
    usual, done = time.monotonic() - begun, 0
    bulk = {"OUTCROP_BULK": str(place.folder / "shared"), "OUTCROP_BULK_FROM": "1000"}
    for _ in range(kills):
        process = subprocess.Popen(_load(place, loaded, bulk), cwd=place.folder, stdout=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(0.3, 1.5) * usual)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
    subprocess.run(_load(place, loaded, bulk), cwd=place.folder, check=True, stdout=subprocess.DEVNULL)
    left = [*(place.folder / loaded).rglob("*.rows"), *(place.folder / "shared").rglob("*.parquet")]
    with Store.connect(place.uri) as store:
        found = Collection.open(store, loaded)
        print(
            f"first ingest by files: index {found.profile.name}, {found.count()} rows, {len(left)} files left",
            flush=True,
        )
        doubled = found.count() != rows
    other = _compare(f"first ingest by files, {done} kills", _rows(place.uri, sent), _rows(place.uri, loaded))
    return int(bool(other or left or doubled))


def _load(place: Place, name: str, settings: dict[str, str]) -> list[str]:
    """An ingest of the tree of vectors; files have a thousand rows."""
    code = "from outcrop.store import bulk; bulk.FILE_BYTES = 1; from outcrop.ingest.cli import main; main()"
    where = ("--uri", place.uri, "--collection", name, "--state", str(place.folder / name), "--quiet")
    what = ("features", str(place.folder / "tree"), "--layout", "imgmatching", "--name", "town")
    return ["env", *(f"{key}={value}" for key, value in settings.items()), sys.executable, "-c", code, *what, *where]


def _newest(place: Place, name: str) -> float:
    records = list_runs(place.folder / name)
    return records[0].upserted + records[0].unchanged if records else -1


def _rows(uri: str, name: str) -> dict[str, tuple[dict[str, Any], Any]]:
    with Store.connect(uri) as store:
        pages = Collection.open(store, name).scan_rows(Filter(), ["*"])
        rows = [row for page in pages for row in page]
    return {row["id"]: ({k: v for k, v in row.items() if k not in OURS}, np.asarray(row["vector"])) for row in rows}


def _compare(what: str, ours: dict[str, Any], theirs: dict[str, Any]) -> int:
    """Prints whether rows are the same; returns 1 where they are not."""
    missing, more = len(ours.keys() - theirs.keys()), len(theirs.keys() - ours.keys())
    both = ours.keys() & theirs.keys()
    other = sum(ours[id][0] != theirs[id][0] for id in both)
    off = max((float(np.abs(ours[id][1] - theirs[id][1]).max()) for id in both), default=0.0)
    fine = not (missing or more or other) and off <= 1e-6
    verdict = "the same rows" if fine else "NOT THE SAME"
    print(
        f"{what}: {verdict} ({len(theirs)}; {missing} missing, {more} more, {other} other, vectors off by {off:.1e})",
        flush=True,
    )
    return int(not fine)


def _drop(uri: str, names: list[str]) -> None:
    with Store.connect(uri) as store:
        for name in names:
            found = Collection.find(store, name)
            if found is not None:
                store.client.drop_alias(name)
                store.client.drop_collection(found.physical)


if __name__ == "__main__":
    sys.exit(main())
