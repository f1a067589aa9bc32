"""End-to-end ingest of 12-megapixel JPEGs against the plain loop and against the limit of the machine.

    python benchmarks/ingest.py [--photos 200] [--memory 1000] [--folder DIR]

Two baselines in the same run:

- plain: what a script does: Pillow decodes the whole picture, one at a time, the network takes one at a time, the vector is
  written as .npy. (The network is ours, with folded norms: the gain shown is not the network's.)
- limit: processor seconds of each stage run alone in one thread (read + decode + fit + thumbnail; encode; store), added up
  and divided by the cores. A pipeline that kept every core busy and cost nothing would take so long.

With `--memory N` the peak memory of an ingest of N pictures (the same files under other names) is compared with that of
the first; each is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: what is installed wins

CAPTURE = "250918092555_300"
FIT = "squash"
"""As the plain way scales pictures, so that both do the same."""


def main() -> None:
    """Runs the benchmark and prints a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="also compare peak memory with N pictures")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the photographs here and use them again")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of is not None:
        print(json.dumps(ingest_once(arguments.peak_of)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        photos = make_photos(arguments.folder or Path(temporary) / "photos", arguments.photos)
        registry = register(Path(temporary) / "one", photos, arguments.photos)
        runs = [run_apart(registry) for _ in range(arguments.repeat)]
        ours = statistics.median(run["seconds"] for run in runs)
        plain, limit, stages = plain_loop(photos), *machine_limit(photos)
        result = {
            "pictures": len(photos),
            "cores": len(os.sched_getaffinity(0)),
            "ours_per_second": round(len(photos) / ours, 2),
            "plain_per_second": round(len(photos) / plain, 2),
            "limit_per_second": round(len(photos) / limit, 2),
            "times_plain": round(plain / ours, 2),
            "of_limit": round(limit / ours, 3),
            "stage_cpu_ms_per_picture": {name: round(1000 * s / len(photos), 2) for name, s in stages.items()},
            "runs_seconds": [run["seconds"] for run in runs],
            "cores_busy": [round(run["cpu"] / run["seconds"], 2) for run in runs],
            "peak_mb": [run["peak_mb"] for run in runs],
        }
        if arguments.memory:
            larger = run_apart(register(Path(temporary) / "many", photos, arguments.memory))
            result |= {
                f"peak_mb_{arguments.memory}": larger["peak_mb"],
                "peak_growth": round(larger["peak_mb"] / statistics.median(run["peak_mb"] for run in runs) - 1, 4),
                f"ours_per_second_{arguments.memory}": round(arguments.memory / larger["seconds"], 2),
            }
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")


def make_photos(folder: Path, count: int) -> list[Path]:
    """12-megapixel JPEGs of the sample world."""
    from outcrop.sample.photos import write_photos

    existing = sorted(folder.glob("*.jpg")) if folder.is_dir() else []
    return existing[:count] if len(existing) >= count else write_photos(folder, count, size=(4000, 3000))


def register(root: Path, photos: list[Path], count: int) -> Path:
    """A dataset of `count` pictures: links to the photographs, over and over."""
    folder = root / "images" / CAPTURE
    folder.mkdir(parents=True)
    for frame in range(1, count + 1):
        (folder / f"{CAPTURE}_{frame:04d}.jpg").symlink_to(photos[(frame - 1) % len(photos)].resolve())
    registry = root / "data_key.json"
    registry.write_text(json.dumps({"datasets": {"bench": {"root": "images", "images": {CAPTURE: count}}}}))
    return registry


def run_apart(registry: Path) -> dict[str, float]:
    """An ingest into a new collection, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--peak-of", registry], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ingest_once(registry: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory (MB) of one ingest; opening the model is not counted as time."""
    from benchmarks.memory import peak_mb
    from outcrop.embed.encoder import Encoder
    from outcrop.embed.models import find_model
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.ingest.dataset import list_dataset
    from outcrop.ingest.listing import ingest_listing
    from outcrop.ingest.runs import Run
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    with tempfile.TemporaryDirectory() as state, Store.connect(f"{state}/bench.db") as store:
        encoder = Encoder.open(find_model("efficientnet_lite0", fit=FIT))
        collection = Collection.create(store, "bench", encoder.space)
        encoder.encode(np.zeros((32, *encoder.space.size, 3), np.uint8) + np.arange(3, dtype=np.uint8))
        begun, cpu = time.perf_counter(), time.process_time()
        listing = list_dataset(registry, "bench", registry.parent)
        run = Run.begin(Path(state), "dataset")
        record = ingest_listing(listing, encoder, collection, run, thumbnails=ThumbnailStore.below(Path(state)))
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        assert record.upserted == listing.expected == collection.count()
    return {"seconds": round(seconds, 3), "cpu": round(cpu, 3), "peak_mb": round(peak_mb(), 1)}


def plain_loop(photos: list[Path]) -> float:
    """Seconds of a script's loop: decode whole, resize, one forward pass, one .npy, picture by picture."""
    from PIL import Image

    from outcrop.embed.encoder import Encoder
    from outcrop.embed.models import find_model

    encoder = Encoder.open(find_model("efficientnet_lite0", fit=FIT))
    height, width = encoder.space.size
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        for number, photo in enumerate(photos):
            with Image.open(photo) as image:
                pixels = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
            np.save(f"{out}/{number}.npy", encoder.encode(pixels[None])[0])
        return time.perf_counter() - begun


def machine_limit(photos: list[Path]) -> tuple[float, dict[str, float]]:
    """Processor seconds of the stages, each alone in one thread, added up and divided by the cores; and the stages."""
    import torch

    from outcrop.embed.crops import prepare
    from outcrop.embed.encoder import Encoder
    from outcrop.embed.images import decode, thumbnail
    from outcrop.embed.models import find_model
    from outcrop.schema.item import Item, Kind, image_key
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    torch.set_num_threads(1)
    encoder = Encoder.open(find_model("efficientnet_lite0", fit=FIT), threads=1)
    stages: dict[str, float] = {}
    begun = time.process_time()
    prepared, items = [], []
    for number, photo in enumerate(photos):
        data = photo.read_bytes()
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        decoded = decode(data, name=str(photo), at_least=encoder.space.size)
        prepared.append(prepare(decoded, encoder.space))
        thumbnail(decoded.image)
        key = image_key("bench", CAPTURE, number)
        items.append(Item(key, Kind.IMAGE, "bench", CAPTURE, frame=number, source=photo.name, source_digest=digest))
    stages["decode"] = time.process_time() - begun
    begun = time.process_time()
    vectors = np.concatenate([encoder.encode(np.stack(prepared[i : i + 32])) for i in range(0, len(prepared), 32)])
    stages["encode"] = time.process_time() - begun
    with tempfile.TemporaryDirectory() as state, Store.connect(f"{state}/bench.db") as store:
        collection = Collection.create(store, "bench", encoder.space)
        begun = time.process_time()
        for start in range(0, len(items), 32):
            collection.upsert(items[start : start + 32], vectors[start : start + 32])
        collection.flush()
        stages["store"] = time.process_time() - begun
    return sum(stages.values()) / len(os.sched_getaffinity(0)), stages


if __name__ == "__main__":
    main()
