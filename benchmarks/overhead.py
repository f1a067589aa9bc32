"""What one process spends on each photograph, reference and view besides decoding, drawing and the network: the bound of a fast
card.

    python benchmarks/overhead.py [--photos 600] [--referenced 60] [--specimens 120] [--store lite|server|both] [--rounds 1]

A card that encodes 600 photographs a second leaves 1.67 ms of one Python to each, 3,500 references .28 ms. So the pass runs as it
does beside a card, but for two stand-ins that live here only:

- the encoder takes the pixels that it is handed into memory of its own, as a lane to a card does, and answers at once with
  vectors that were drawn before;
- *processes*: photographs are read and made into items by processes of their own (`outcrop.ingest.makers`), whose time is not
  counted; they decode the first one only and answer with its pixels, so that the main process seldom waits. *card*: a decoder
  that answers at once with pictures of 16 x 16 pixels, of which the real calls of torch make inputs of 32 x 32: as many calls as
  on a card, and little arithmetic;
- views come from processes that draw the first specimen only, 12 views of 81,920 triangles, and answer with them ever after;
- thumbnails are written by processes of their own, as they are beside a card, whose time is not counted either.

Figures are milliseconds of processor time an item of the main process, from the listing to verified rows, by thread: those of
the pass by their names, `lite` the threads in which Milvus Lite serves, `native` threads that run no Python (gRPC's and
Arrow's). It is an upper bound of the time for which Python's lock is held: reading, digests and packing let it go meanwhile.
`read_and_digest` says what the first two take when they are done alone. `per_second` is by the clock: a thread that waits looks
ten times a second whether it still has to, which counts where a machine is busy with something else. Photographs have 1024 x 768
pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests")]  # last: what is installed wins

from benchmarks.ingest import register  # noqa: E402  the path to it is set above

SIDES = (1024, 768)
"""Of the photographs, in pixels."""
ANGLES, CROP = "0:360:15", "0.6"
NEEDED = {"photographs": 1000 / 600, "references": 1000 / 3500, "views": 0.3}
"""Milliseconds that are left for an item at the rates of the goal."""
CASES = (
    ("photographs", "processes"),
    ("photographs", "card"),
    ("references", "processes"),
    ("references", "card"),
    ("views", "processes"),
)
VIEWS = 12


@dataclass
class Threads:
    """Processor seconds of Python's threads by name, from `begin` on; those that ended meanwhile among them."""

    ended: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    before: dict[int, float] = field(default_factory=dict)

    def watch(self) -> None:
        """Has every thread say at its end what it took."""
        run, ended = threading.Thread.run, self.ended

        def watched(thread: threading.Thread) -> None:
            try:
                run(thread)
            finally:
                ended[thread.name] += time.thread_time()

        threading.Thread.run = watched  # type: ignore[method-assign]  # of this process only

    def begin(self) -> None:
        """Forgets what was so far."""
        self.ended.clear()
        self.before = dict(_alive())

    def spent(self) -> dict[str, float]:
        """Seconds by the kind of thread."""
        found: dict[str, float] = defaultdict(float)
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        for number, seconds in _alive():
            if number in names:
                found[kind_of(names[number])] += seconds - self.before.get(number, 0.0)
        for name, seconds in self.ended.items():
            found[kind_of(name)] += seconds
        return dict(found)


def _alive() -> Iterator[tuple[int, float]]:
    """The numbers of all threads, and their processor seconds."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            yield int(task.name), int((task / "schedstat").read_text().split()[0]) / 1e9


def kind_of(name: str) -> str:
    """``prepare`` of ``prepare-3``; what is of Milvus Lite's server is ``lite``."""
    if name.startswith(("ThreadPoolExecutor", "milvus_lite", "Thread-")):
        return "lite"
    return "main" if name == "MainThread" else name.partition("-")[0]


class Drawn:
    """Vectors that are there already."""

    done = True

    def __init__(self, vectors: Any) -> None:
        self._vectors = vectors

    def result(self) -> Any:
        """The vectors."""
        return self._vectors


class StandIn:
    """An encoder of a space that takes no time: it gathers the pixels and answers with vectors drawn before."""

    device, batch, in_flight = "cpu", 256, 2

    def __init__(self, size: int, dim: int) -> None:
        from outcrop.schema.space import Space

        self.space = Space(
            model="stand-in",
            weights_digest="0" * 32,
            size=(size, size),
            fit="squash",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            pooling="avg",
            dim=dim,
        )
        drawn = np.random.default_rng(0).normal(size=(4096, dim)).astype(np.float32)
        self._vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        self._next, self._held = 0, np.zeros((self.batch, size, size, 3), np.uint8)

    def submit(self, pixels: Any) -> Drawn:
        """As `outcrop.embed.protocol.PictureEncoder.submit`."""
        from outcrop.embed.staging import gathered

        if isinstance(pixels[0], np.ndarray):
            for row, target in zip(pixels, self._held, strict=False):
                np.copyto(target, row)
        else:
            gathered(pixels)
        count = len(pixels)
        self._next = (self._next + count) % (len(self._vectors) - count)
        return Drawn(self._vectors[self._next : self._next + count])

    def encode(self, pixels: Any) -> Any:
        """As `outcrop.embed.protocol.PictureEncoder.encode`."""
        return self.submit(pixels).result()

    def describe(self) -> str:
        """As `outcrop.embed.protocol.PictureEncoder.describe`."""
        return "a stand-in for an encoder"

    def close(self) -> None:
        """Nothing is held."""


def card() -> None:
    """Has JPEGs decoded by a decoder that takes no time. What is replaced (and muted for mypy) is so for this process only."""
    import torch

    import outcrop.embed.devices  # with all that an open encoder has imported
    import outcrop.embed.resizing  # noqa: F401  likewise
    from outcrop.embed.decoding import JpegDecoder
    from outcrop.embed.resident import DeviceReader, Resident, Sheet, Undecoded
    from outcrop.ingest import on_device, references

    class Reader(DeviceReader):
        """Pictures of 16 x 16 pixels."""

        def decode(self, files: Sequence[Undecoded]) -> list[Resident | None]:
            sheet = Sheet(torch.zeros((len(files), 3, 16, 16), dtype=torch.uint8))
            return [
                Resident(sheet, n, file.width, file.height, file.metadata, file.remarks) for n, file in enumerate(files)
            ]

    def has(room: Any, pixels: int) -> bool:
        """Waits until there is room, as no thread is to decode."""
        while pixels + room._pixels > room.most > 0:
            time.sleep(0.02)
        return True

    def together(*given: Any) -> Any:
        """Cuts many windows at once, as on any device but a CPU."""
        sampler = crop_sampler(*given)
        sampler._device = torch.device("cpu:0")
        return sampler

    crop_sampler, references.crop_sampler = references.crop_sampler, together  # type: ignore[assignment]  # of this process only
    on_device._Room.has = has  # type: ignore[method-assign]  # of this process only
    reader = Reader(JpegDecoder("stand-in", "cpu", lambda files: []), 340_000_000)
    on_device.find_reader = lambda device, megapixels: reader  # type: ignore[assignment]  # of this process only
    on_device.trusted = lambda *_: on_device.Said(True, "JPEGs are decoded by a stand-in")  # type: ignore[assignment]  # of this process only


def answering() -> Any:
    """What a process runs that decodes one photograph only."""
    from outcrop.embed.crops import CropSampler
    from outcrop.ingest import makers, photos, references

    def pixels(sampler: CropSampler, windows: Sequence[Any]) -> Any:
        """What was cut first, as often as it takes."""
        if not cut:
            cut.append(sampled(sampler, windows[:1])[0])
        return np.repeat(cut[0][None], len(windows), 0)

    cut: list[Any] = []
    sampled, CropSampler.pixels = CropSampler.pixels, pixels  # type: ignore[method-assign]  # of this process only
    for room in (photos, references):
        for name in ("decode", "thumbnail", "prepare"):
            if hasattr(room, name):
                setattr(room, name, _first(getattr(room, name)))
    return makers.making()


def _first(function: Any) -> Any:
    """A function that works once and gives the same ever after."""
    made: list[Any] = []

    def first(*given: Any, **named: Any) -> Any:
        if not made:
            made.append(function(*given, **named))
        return made[0]

    return first


def processes_that_answer() -> None:
    """Has makers start such processes."""
    from outcrop.ingest import makers
    from outcrop.schema.processes import Worker

    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    makers._start = lambda: Worker("benchmarks.overhead:answering", environment=environment)


def drawing_once() -> Any:
    """What a process runs that draws one specimen only, and answers with its views again."""
    from outcrop.render.workers import drawing

    said: list[Any] = []
    draw = drawing()

    def answer(asked: Any, data: memoryview) -> Iterator[Any]:
        if not said:
            said.extend(draw(asked, data))
        return iter(said)

    return answer


def specimens(folder: Path) -> Any:
    """The meshes of a folder as a listing; the processes that would draw them answer with one specimen."""
    from outcrop.ingest.specimens import list_specimens
    from outcrop.render import workers
    from outcrop.render.views import ViewSpec
    from outcrop.schema.processes import Worker

    workers._start = lambda patience: Worker("benchmarks.overhead:drawing_once", environment={"OMP_NUM_THREADS": "1"})
    return list_specimens(folder, "bench", ViewSpec(views=VIEWS, size=256), workers=workers.Workers(2))


def meshes(folder: Path, count: int, subdivisions: int = 6) -> Path:
    """A folder of files of the same mesh; 81,920 triangles for six subdivisions."""
    from benchmarks.render import specimen

    folder.mkdir(parents=True)
    vertices, faces = specimen(subdivisions=subdivisions)
    corners = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    corners["count"], corners["corners"] = 3, faces
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    (folder / "0000.ply").write_bytes(head.encode() + vertices.astype("<f4").tobytes() + corners.tobytes())
    for number in range(1, count):
        (folder / f"{number:04d}.ply").symlink_to(folder / "0000.ply")
    return folder


def measure(kind: str, way: str, registry: Path, uri: str, dim: int, processes: int) -> dict[str, Any]:
    """One ingest in this process: milliseconds an item by thread, and items a second by the clock."""
    threads = Threads()
    threads.watch()
    import torch

    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.ingest.dataset import list_dataset
    from outcrop.ingest.listing import ingest_listing
    from outcrop.ingest.pipeline import Options
    from outcrop.ingest.references import list_references
    from outcrop.ingest.runs import Run
    from outcrop.schema.crops import crop_specs, parse_angles, parse_crops
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    torch.set_num_threads(1)
    if way == "card":
        card()
    else:
        processes_that_answer()
    encoder = StandIn(32 if way == "card" else 256, dim)
    options = Options(batch=0, workers=16, processes=processes if way == "processes" else 0)
    options = Options(**{**vars(options), "decode": "device" if way == "card" else "cpu", "thumbnail_processes": 2})
    with tempfile.TemporaryDirectory() as state, Store.connect(uri or f"{state}/bench.db") as store:
        collection = Collection.create(store, f"bench_{os.getpid()}", encoder.space, alias=False)
        run = Run.begin(Path(state), "dataset")
        thumbnails = ThumbnailStore.below(Path(state))
        threads.begin()
        begun, cpu = time.perf_counter(), time.process_time()
        if kind == "photographs":
            listing = list_dataset(registry, "bench", registry.parent)
        elif kind == "views":
            listing = specimens(registry)
        else:
            specs = crop_specs(parse_angles(ANGLES), parse_crops(CROP))
            listing = list_references(registry, "bench", registry.parent, specs)
        record = ingest_listing(listing, encoder, collection, run, options, thumbnails=thumbnails)  # type: ignore[arg-type]  # a stand-in for Encoder
        seconds, cpu, spent = time.perf_counter() - begun, time.process_time() - cpu, threads.spent()
        if not record.upserted == listing.expected == collection.count():
            raise SystemExit(
                f"{record.upserted} of {listing.expected} items were written: {run.ledger.read_text()[:500]}"
            )
    spent["native"] = max(0.0, cpu - sum(spent.values()))
    each = {name: 1000 * value / record.upserted for name, value in sorted(spent.items(), key=lambda pair: -pair[1])}
    return {
        "items": record.upserted,
        "ms": round(1000 * cpu / record.upserted, 3),
        "by_thread": {name: round(value, 3) for name, value in each.items() if value >= 0.0005},
        "per_second": round(record.upserted / seconds, 1),
    }


def read_and_digest(registry: Path) -> float:
    """Milliseconds of processor time in which one file is read and digested, and nothing else."""
    from outcrop.ingest.sources import Contents

    files = sorted((registry.parent / "images").rglob("*.jpg"))[:60]
    begun = time.process_time()
    for file in files:
        Contents.read(file)
    return 1000 * (time.process_time() - begun) / len(files)


def table(result: dict[str, Any]) -> str:
    """One line a case."""
    lines = [f"{'store':7} {'items':12} {'made by':10} {'ms':>7} {'may be':>7} {'items/s':>8}  by thread"]
    for row in result["rows"]:
        threads = ", ".join(f"{name} {value:g}" for name, value in row["by_thread"].items())
        figures = f"{row['ms']:7.3f} {NEEDED[row['kind']]:7.3f} {row['per_second']:8.1f}"
        lines.append(f"{row['store']:7} {row['kind']:12} {row['way']:10} {figures}  {threads}")
    return "\n".join([*lines, f"of each photograph, reading and digesting: {result['read_and_digest']:.3f} ms"])


def apart(**given: Any) -> dict[str, Any]:
    """A measurement in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def stores(which: str) -> Iterator[dict[str, str]]:
    """Addresses by name ('' for a new Milvus Lite directory each time); the server runs meanwhile."""
    found = {"lite": ""} if which != "server" else {}
    if which == "lite":
        yield found
        return
    from milvus_server import MilvusServer, why_not

    if reason := why_not():
        print(f"skipped on server: {reason}", file=sys.stderr)
        yield found
        return
    with tempfile.TemporaryDirectory() as folder:
        server = MilvusServer(Path(folder) / "milvus")
        server.start()
        try:
            yield {**found, "server": server.uri}
        finally:
            server.stop()


def overhead(
    photos: Sequence[Path],
    folder: Path,
    counts: dict[str, int],
    which: str = "lite",
    rounds: int = 1,
    dim: int = 384,
    ways: Sequence[str] = ("processes", "card"),
) -> dict[str, Any]:
    """All cases, each in a process of its own; of several rounds that with the median time. `counts` are of photographs, and of
    meshes."""
    registries = {
        kind: register(folder / kind, photos, count) for kind, count in counts.items() if count and kind != "views"
    }
    some = next(iter(registries.values()))
    if counts.get("views"):
        registries["views"] = meshes(folder / "views", counts["views"])
    rows = []
    with stores(which) as addresses:
        for store, uri in addresses.items():
            for kind, way in ((kind, way) for kind, way in CASES if kind in registries and way in ways):
                registry = str(registries[kind])
                asked = dict(kind=kind, way=way, registry=registry, uri=uri, dim=dim, processes=2)
                runs = sorted((apart(**asked) for _ in range(rounds)), key=lambda run: run["ms"])
                chosen = dict(runs[len(runs) // 2], ms=statistics.median(run["ms"] for run in runs))
                rows.append({"store": store, "kind": kind, "way": way, **chosen})
    return {"rows": rows, "read_and_digest": round(read_and_digest(some), 3)}


def main() -> None:
    """Runs the benchmark and prints a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--referenced", type=int, default=60, help="photographs of which 24 references each are made")
    parser.add_argument("--specimens", type=int, default=120, help=f"meshes of which {VIEWS} views each are made")
    parser.add_argument("--store", choices=("lite", "server", "both"), default="lite")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        given = json.loads(arguments.one)
        print(json.dumps(measure(**{**given, "registry": Path(given["registry"])})))
        return
    from outcrop.sample.photos import write_photos

    with tempfile.TemporaryDirectory() as temporary:
        photos = write_photos(Path(temporary) / "photos", 6, size=SIDES)
        counts = {"photographs": arguments.photos, "references": arguments.referenced, "views": arguments.specimens}
        result = overhead(photos, Path(temporary), counts, arguments.store, arguments.rounds, arguments.dim)
    print(json.dumps(result, indent=1) if arguments.json else table(result))


if __name__ == "__main__":
    main()
