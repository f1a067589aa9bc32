"""What one GPU could do and what we make of it, in one run of less than four minutes; ratios are of rows of this run only.

    python benchmarks/gpu.py [--photos FOLDER] [--json]
    python benchmarks/gpu.py --device cpu --small        # tries the script itself

Where the package is not installed it is built first, and found by PYTHONPATH (also by every process that is started):

    python -c "from setuptools import setup; setup()" --quiet build_py --build-lib build/shipped
    PYTHONPATH=build/shipped python benchmarks/gpu.py

- decoding: nvJPEG alone (batches of full-size photographs, nothing else), and the CPU's threads alone (decode, fit, thumbnail)
- ingest: files to verified rows in Milvus Lite, against the sum of the two; references: 24 of each photograph, likewise to rows
- encoder: ours from arrays on the host to vectors there, against timm's bare network in half precision on planes that are on the
  device already, eager and compiled (one compilation of a whole network takes minutes: it is the last row, if there is time)
- one process: what the process that feeds the card could do if decoding and the network took no time (benchmarks/overhead.py,
  which needs no card): items a second that its processor time allows, an upper bound of the time for which it holds Python's lock
- views: of a mesh of 81,920 triangles at 518 pixels, by OpenGL on the card against rays cast on every core: one process, with the
  card's milliseconds a view by step, and as many at once as draw in an ingest; and specimens from their files to rows
- cosines: of our vectors on the device to those in fp32 on the CPU, and of photographs decoded on the device to those of the CPU
- busy: the GPU's mean utilisation meanwhile (NVML, or nvidia-smi)

Weights are random where there are none here: that changes no time. A row that cannot be run says "not run" and why. Photographs
are those of --photos, of the sample beside the checkout, or drawn.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: what is installed wins

from benchmarks.encoder import photographs, random_weights
from benchmarks.ingest import CAPTURE, make_photos

SAMPLE = Path(__file__).resolve().parents[2] / "shared/sample/full_size"
LIMIT = 240.0
"""Seconds of the whole run."""
COMPILING = 110.0
"""Seconds that must be left for the last row."""
OVERHEAD = 60.0
"""Seconds that must be left for what one process allows."""
DRAWING = 3.0
"""Seconds for which several processes draw at the same time."""
FAMILIES = ("dinov3_vits16", "dinov2_vits14", "dinov3_convnext_tiny", "efficientnet_lite0")


@dataclass(frozen=True)
class Size:
    """How much is measured: `ingested` and `referenced` photographs, `decoded` files, `encoded` pictures of each `batch`,
    references of which it is seen what one process does with them (`held`), and `meshes` of which views are drawn."""

    ingested: int
    referenced: int
    decoded: int
    encoded: int
    batch: int
    angles: str
    large: str
    small: str
    convolutional: str
    held: int
    meshes: int

    @property
    def models(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys((self.large, self.small, self.convolutional)))


FULL = Size(4000, 200, 384, 1024, 256, "0:360:15", "dinov3_vitl16", "dinov3_vits16", "dinov3_convnext_tiny", 2400, 96)
SMALL = Size(6, 2, 4, 8, 4, "0:360:90", "efficientnet_lite0", "efficientnet_lite0", "efficientnet_lite0", 24, 2)


@dataclass
class Row:
    """One figure: `value` a second (or a cosine), `of` what it is measured against and the `ratio`, and what is to be reached."""

    figure: str
    value: float | None = None
    of: str = ""
    ratio: float | None = None
    reach: str = ""
    busy: float | None = None
    note: str = ""


@dataclass
class Bench:
    """A run: its rows so far, and what they are made with."""

    device: str
    size: Size
    photos: list[Path]
    folder: Path
    rows: list[Row] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)
    _weights: dict[str, Path] = field(default_factory=dict)

    def weights(self, model: str) -> Path:
        """The weights of a model: those of this machine, or random ones."""
        from outcrop.embed.models import find_preset
        from outcrop.embed.weights import locate

        if model not in self._weights:
            try:
                self._weights[model] = locate(find_preset(model))
            except Exception:  # noqa: BLE001  not on this machine: the times are the same with random ones
                place = self.folder / model
                place.mkdir()
                self._weights[model] = random_weights(model, place)
        return self._weights[model]

    def encoder(self, model: str, **options: Any) -> Any:
        """An encoder of ours on the device."""
        from outcrop.embed.encoder import Encoder
        from outcrop.embed.models import find_model

        found = find_model(model, weights=self.weights(model))
        memory = self.folder / "batches.json"  # one trial for each model
        return Encoder.open(found, **{"device": self.device, "batch": 0, "memory": memory, **options})

    def value(self, figure: str) -> float:
        """The value of a row of this run. Raises `LookupError` if it was not run."""
        for row in self.rows:
            if row.figure == figure and row.value is not None:
                return row.value
        raise LookupError(f"{figure} was not run")

    def left(self) -> float:
        """Seconds that are left."""
        return LIMIT - (time.perf_counter() - self.begun)


class Busy:
    """The GPU's mean utilisation (percent) within the block; None where nothing says it."""

    def __init__(self, device: str) -> None:
        self.mean: float | None = None
        self._number = int(device.partition(":")[2] or 0)
        self._on = device.startswith("cuda")

    def __enter__(self) -> Busy:
        self._seen: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if self._on:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._on:
            self._thread.join(5)
        self.mean = round(statistics.mean(self._seen), 1) if self._seen else None

    def _watch(self) -> None:
        ask = self._nvml() or self._nvidia_smi
        with contextlib.suppress(Exception):
            while not self._end.wait(0.1):
                self._seen.append(ask())

    def _nvml(self) -> Callable[[], float] | None:
        try:
            import pynvml

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(self._number)
            return lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        except Exception:  # noqa: BLE001  the library or the driver is not there: nvidia-smi may be
            return None

    def _nvidia_smi(self) -> float:
        query = ["nvidia-smi", f"--id={self._number}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        return float(subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout)


def main() -> None:
    """Runs the benchmark and prints the table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--photos", type=Path, help="folder of full-size JPEGs")
    parser.add_argument("--small", action="store_true", help="a few of everything, with EfficientNet-Lite0")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench = Bench(arguments.device, SMALL if arguments.small else FULL, photos_of(arguments, folder), folder)
        for section in (decoding, ingesting, referencing, encoding, drawing, excavating, agreeing, holding, compiling):
            run(section, bench)
    if arguments.json:
        print(json.dumps({"machine": machine(arguments.device), "rows": [asdict(row) for row in bench.rows]}, indent=1))
        return
    for name, said in machine(arguments.device).items():
        print(f"{name}: {said}")
    print(table(bench.rows))
    print(f"{time.perf_counter() - bench.begun:.0f} s")


def photos_of(arguments: argparse.Namespace, folder: Path) -> list[Path]:
    """The photographs: of the folder asked for, of the sample, or drawn."""
    place = arguments.photos or SAMPLE
    found = sorted(path for path in place.glob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if arguments.photos and not found:
        raise SystemExit(f"{place} holds no JPEG")
    return found or make_photos(folder / "photos", 6)


def run(section: Callable[[Bench], Iterator[Row]], bench: Bench) -> None:
    """Adds the rows of a section; what cannot be run becomes a row that says why."""
    try:
        for row in section(bench):
            bench.rows.append(row)
            print(row.figure, row.value, row.note, file=sys.stderr, flush=True)
    except Exception as error:  # noqa: BLE001  whatever is missing on a machine: the other rows are worth having
        said = (str(error) or type(error).__name__).strip().splitlines()[0]
        bench.rows.append(Row(section.__name__, note=f"not run: {said}"))
        print(section.__name__, bench.rows[-1].note, file=sys.stderr, flush=True)


# -- sections -----------------------------------------------------------------------------------------------------------


def decoding(bench: Bench) -> Iterator[Row]:
    """The device's decoder alone, and the threads of the CPU alone."""
    from outcrop.embed.crops import prepare
    from outcrop.embed.decoding import find_decoder
    from outcrop.embed.images import decode, thumbnail
    from outcrop.schema.machine import cores

    files = [path.read_bytes() for path in bench.photos]
    files = [files[n % len(files)] for n in range(bench.size.decoded)]
    space = bench.encoder(bench.size.small, batch=8).space

    def one(data: bytes) -> None:
        decoded = decode(data, name="photograph", at_least=space.size)
        prepare(decoded, space)
        thumbnail(decoded.image)

    with ThreadPoolExecutor(cores()) as pool:
        every = rate(lambda: list(pool.map(one, files)), len(files), bench.device, 2)
    yield Row("CPU threads alone", every, note=f"{cores()} threads")
    decoder = find_decoder(bench.device)
    if isinstance(decoder, str):
        raise LookupError(f"no decoder for {bench.device} ({decoder})")
    if any(one is None for one in decoder.decode(files[: len(bench.photos)])):
        raise LookupError(f"{decoder.describe()}: {decoder.refusal(files[0])}")
    step = min(64, len(files))
    staged = [decoder.staged(data) for data in files[:step]]
    with Busy(bench.device) as busy:
        alone = rate(
            lambda: [decoder.decode(staged[: len(files) - n]) for n in range(0, len(files), step)],
            len(files),
            bench.device,
            2,
        )
    yield Row("device's decoder alone", alone, busy=busy.mean, note=decoder.describe())


def ingesting(bench: Bench) -> Iterator[Row]:
    """Files to verified rows, with the large model."""
    from outcrop.ingest.dataset import list_dataset

    size = bench.size
    registry = register(bench, "ingest", size.ingested)
    per_second, busy, note = ingest(bench, size.large, list_dataset(registry, "bench", registry.parent))
    limit = bench.value("CPU threads alone") + bench.value("device's decoder alone")
    yield Row(
        f"photographs to rows, {size.large}",
        per_second,
        "decoder + threads",
        per_second / limit,
        "0.8",
        busy,
        note,
    )


def referencing(bench: Bench) -> Iterator[Row]:
    """References to rows, with the small and the large model."""
    from outcrop.ingest.references import list_references
    from outcrop.schema.crops import crop_specs, parse_angles, parse_crops

    registry = register(bench, "references", bench.size.referenced)
    wanted = crop_specs(parse_angles(bench.size.angles), parse_crops("0.6"))
    for model, reach in dict({bench.size.large: "1900 /s", bench.size.small: "3500 /s"}).items():
        listing = list_references(registry, "bench", registry.parent, wanted)
        per_second, busy, note = ingest(bench, model, listing)
        yield Row(f"references to rows, {model}", per_second, reach=f"{reach}, busy 80 %", busy=busy, note=note)


def encoding(bench: Bench) -> Iterator[Row]:
    """Our encoder against timm's network in half precision, eager."""
    for model in bench.size.models:
        pixels = pictures(bench, model)
        encoder = bench.encoder(model)
        with Busy(bench.device) as busy:
            ours = rate(lambda encoder=encoder, pixels=pixels: encoder.encode(pixels), len(pixels), bench.device)
        network, planes = bare(bench, model, pixels)
        theirs = rate(lambda network=network, planes=planes: network(planes), len(planes), bench.device)
        yield Row(f"bare network, {model}", theirs)
        reach = "0.95" if model == bench.size.large else "0.9"
        yield Row(f"encoder, {model}", ours, "bare network", ours / theirs, reach, busy.mean, encoder.describe())


def drawing(bench: Bench) -> Iterator[Row]:
    """Views on the card, and rays on every core."""
    import torch

    from benchmarks.render import apart, together
    from outcrop.schema.machine import cores

    if bench.device.startswith("cuda") and not torch.cuda.is_available():
        raise LookupError("there is no GPU; benchmarks/render.py draws without one")
    small = bench.size is SMALL
    size, subdivisions, seconds, processes = (64, 2, 0.1, 1) if small else (518, 6, DRAWING, cores())
    card = apart("egl", size, subdivisions)
    rays = {"cpu": 1.0} if small else apart("raycast", size, subdivisions)  # Open3D takes seconds to import
    for one in (card, rays):
        if "failed" in one:
            raise LookupError(one["failed"])
    steps = ", ".join(f"{name} {value:g}" for name, value in card["steps"].items())
    yield Row("views, OpenGL, one process", 1 / card["seconds"], note=f"{card['draws']}; ms a view: {steps}")
    with Busy(bench.device) as busy:
        on_card = together(size, processes, seconds, subdivisions)
    on_cores = cores() / rays["cpu"]
    if not small:
        yield Row("views, rays on every core", on_cores, note=f"{cores()} cores, as many times one")
    ratio = None if small else on_card / on_cores
    note = f"drawing processes: {processes}"
    yield Row("views, OpenGL, every process", on_card, "rays on every core", ratio, "10", busy.mean, note)


def excavating(bench: Bench) -> Iterator[Row]:
    """Mesh files to rows, with the small model, drawn on the card."""
    from benchmarks.overhead import meshes
    from outcrop.ingest.specimens import list_specimens
    from outcrop.render.views import ViewSpec
    from outcrop.render.workers import Workers
    from outcrop.schema.machine import cores

    small, model = bench.size is SMALL, bench.size.small
    folder = meshes(bench.folder / "meshes", bench.size.meshes, 2 if small else 6)
    input_size = bench.encoder(model).space.size
    look = ViewSpec(views=2 if small else 12, renderer="egl").sized_for(input_size)
    with Workers(1 if small else cores()) as workers:
        warm = [workers.views(folder / "0000.ply", look) for _ in range(workers.count)]
        for views in warm:  # all processes have started once each has drawn
            next(views)
        for views in warm:
            list(views)
        per_second, busy, _ = ingest(bench, model, list_specimens(folder, "bench", look, workers=workers))
    count = f"drawing processes: {workers.count}, meshes: {bench.size.meshes}"
    yield Row(f"specimens to rows, {model}", per_second, reach="bound by reading", busy=busy, note=count)


def agreeing(bench: Bench) -> Iterator[Row]:
    """The least cosines: of the device's vectors, and of photographs that it decodes."""
    from outcrop.embed.images import decode
    from outcrop.embed.resident import Undecoded, compare, undecoded
    from outcrop.ingest.on_device import find_reader

    for model in FAMILIES if bench.size is not SMALL else bench.size.models:
        pixels = pictures(bench, model)[: min(24, bench.size.encoded)]
        ours = bench.encoder(model).encode(pixels).astype(np.float64)
        exact = bench.encoder(model, device="cpu", precision="fp32", batch=8).encode(pixels)
        yield Row(f"least cosine to fp32 on the CPU, {model}", float((ours * exact).sum(1).min()), reach="0.9999")
    reader = find_reader(bench.device, 256)
    if isinstance(reader, str):
        raise LookupError(reader)
    for model in dict.fromkeys((bench.size.small, "efficientnet_lite0")):
        encoder = bench.encoder(model, precision="fp32", batch=8)
        found = []
        for path in bench.photos:
            data = path.read_bytes()
            file = undecoded(data, name=str(path), at_least=encoder.space.size)
            if isinstance(file, Undecoded):
                decoded = decode(data, name=str(path), at_least=encoder.space.size)
                found.append(compare(reader, file, decoded, encoder.space, encoder.encode))
        least, most = min(one.cosine for one in found), max(one.difference for one in found)
        note = f"{len(found)} photographs, at most {most:.2f} grey levels apart"
        yield Row(f"least cosine decoded on the device, {model}", least, note=note)


def holding(bench: Bench) -> Iterator[Row]:
    """What one process allows where decoding and the network take no time."""
    import torch

    from benchmarks.overhead import NEEDED, overhead

    if bench.device.startswith("cuda") and not torch.cuda.is_available():
        raise LookupError("there is no GPU; benchmarks/overhead.py says this without one")
    if bench.left() < OVERHEAD:
        raise LookupError(f"only {bench.left():.0f} of {LIMIT:.0f} s are left")
    size = bench.size
    small = size is SMALL
    counts = {
        "photographs": 0 if small else size.held // 3,
        "references": size.held // 24,
        "views": 0 if small else size.meshes,
    }
    ways = ("card",) if small else ("processes", "card")
    for row in overhead(bench.photos, bench.folder / "overhead", counts, ways=ways)["rows"]:
        threads = ", ".join(f"{name} {value:g}" for name, value in row["by_thread"].items())
        note = f"{row['ms']:.3f} ms each: {threads}; {row['per_second']:.0f} /s by the clock"
        reach = f"{1000 / NEEDED[row['kind']]:.0f} /s"
        yield Row(f"one process, {row['kind']} by {row['way']}", 1000 / row["ms"], reach=reach, note=note)


def compiling(bench: Bench) -> Iterator[Row]:
    """Our compiled encoder against the compiled network; last, since compiling takes long."""
    import torch

    if bench.size is SMALL:
        raise LookupError("a small run compiles nothing")
    if bench.left() < COMPILING:
        raise LookupError(f"only {bench.left():.0f} of {LIMIT:.0f} s are left")
    model = bench.size.large
    pixels = pictures(bench, model)
    begun = time.perf_counter()
    encoder = bench.encoder(model, batch=bench.size.batch, compile=True)
    encoder.encode(pixels[: bench.size.batch])
    took = time.perf_counter() - begun
    ours = rate(lambda: encoder.encode(pixels), len(pixels), bench.device)
    network, planes = bare(bench, model, pixels)
    begun = time.perf_counter()
    compiled = torch.compile(network)
    with torch.inference_mode():
        theirs = rate(lambda: compiled(planes), len(planes), bench.device)
    yield Row(f"bare network, compiled, {model}", theirs, note=f"first pass {time.perf_counter() - begun:.0f} s")
    note = f"first pass {took:.0f} s"
    yield Row(f"encoder, compiled, {model}", ours, "bare network, compiled", ours / theirs, "0.95", note=note)


# -- what the sections share --------------------------------------------------------------------------------------------


def register(bench: Bench, name: str, count: int) -> Path:
    """A dataset of `count` pictures: links to the photographs, over and over."""
    root = bench.folder / name
    place = root / "images" / CAPTURE
    place.mkdir(parents=True)
    for frame in range(1, count + 1):
        photo = bench.photos[(frame - 1) % len(bench.photos)].resolve()
        (place / f"{CAPTURE}_{frame:04d}.jpg").symlink_to(photo)
    registry = root / "data_key.json"
    registry.write_text(json.dumps({"datasets": {"bench": {"root": "images", "images": {CAPTURE: count}}}}))
    return registry


def ingest(bench: Bench, model: str, listing: Any) -> tuple[float, float | None, str]:
    """Items a second from files to verified rows, how busy the GPU was, and where JPEGs were decoded.

    The encoder is open and warm, and so is the device's decoder, as in a long run.
    """
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.ingest.listing import ingest_listing
    from outcrop.ingest.pipeline import Options
    from outcrop.ingest.runs import Run
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    encoder = bench.encoder(model)
    encoder.encode(pictures(bench, model)[: encoder.batch])
    decode = "device" if bench.device == "cpu" else "auto"
    with tempfile.TemporaryDirectory() as state, Store.connect(f"{state}/bench.db") as store:
        collection = Collection.create(store, "bench", encoder.space)
        record_of = Run.begin(Path(state), "dataset")
        with Busy(bench.device) as busy:
            begun = time.perf_counter()
            record = ingest_listing(
                listing,
                encoder,
                collection,
                record_of,
                Options(batch=0, decode=decode),
                thumbnails=ThumbnailStore.below(Path(state)),
            )
            seconds = time.perf_counter() - begun
        if record.upserted != listing.expected or record.upserted != collection.count():
            raise LookupError(f"{record.upserted} of {listing.expected} items were written")
    return record.upserted / seconds, busy.mean, record.decoder or "JPEGs are decoded on the CPU"


def pictures(bench: Bench, model: str) -> Any:
    """Pixels of the photographs and of their quarters, uint8 [encoded, H, W, 3]."""
    from outcrop.embed.models import find_preset

    size = find_preset(model).size
    some = photographs(bench.photos[:6], size)
    every = np.concatenate([some, some[:, ::-1], some[:, :, ::-1], some[:, ::-1, ::-1]])
    return every[np.arange(bench.size.encoded) % len(every)]


def bare(bench: Bench, model: str, pixels: Any) -> tuple[Callable[[Any], Any], Any]:
    """timm's network in bf16 (fp32 on a CPU) and a batch of normalised planes, both on the device."""
    import torch

    from outcrop.embed.backbones import build
    from outcrop.embed.models import find_preset
    from outcrop.embed.weights import load_state

    preset, path = find_preset(model), bench.weights(model)
    kind = torch.float32 if bench.device == "cpu" else torch.bfloat16
    network = build(preset, load_state(path), preset.size, path).network.to(bench.device, kind)
    if preset.patch is None:
        network = network.to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values, device=bench.device).view(1, 3, 1, 1) for values in (preset.mean, preset.std))
    planes = torch.from_numpy(pixels[: bench.size.batch]).to(bench.device).permute(0, 3, 1, 2).float()
    planes = ((planes / 255 - mean) / std).to(kind)

    def forward(batch: Any) -> Any:
        with torch.inference_mode():
            return network(batch)

    return forward, planes


def rate(work: Callable[[], Any], count: int, device: str, repeat: int = 3) -> float:
    """Things a second: the median of several turns, after one that warms up."""
    import torch

    def turn() -> float:
        begun = time.perf_counter()
        made = work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        del made
        return time.perf_counter() - begun

    turn()
    return count / statistics.median(turn() for _ in range(repeat))


def machine(device: str) -> dict[str, str]:
    """What this was measured on."""
    import torch
    import torchvision

    card = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else "none"
    return {
        "device": device,
        "card": card,
        "cores": str(len(os.sched_getaffinity(0))),
        "torch": f"{torch.__version__}, torchvision {torchvision.__version__}",
    }


def table(rows: Sequence[Row]) -> str:
    """The rows in columns."""
    head = ("figure", "value", "ratio", "of", "reach", "busy %", "")
    lines = [head] + [
        (
            row.figure,
            "" if row.value is None else f"{row.value:.5f}" if "cosine" in row.figure else f"{row.value:,.1f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.of,
            row.reach,
            "" if row.busy is None else f"{row.busy:.0f}",
            row.note,
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )


if __name__ == "__main__":
    main()
