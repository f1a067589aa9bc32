"""References of 12-megapixel photographs, made as tensors, against a script that writes and reads pictures.

    python benchmarks/references.py [--photos 24] [--baseline 4] [--rounds 3] [--folder DIR] [--json]

Every photograph makes twelve references (angles 0:360:30, crop 0.6). Each round measures two ways, each in a process of its own;
opening the model is not counted:

- ours: what `ingest references` does: listing, pipeline and thumbnails into a new collection of Milvus Lite, flushed and
  verified.
- plain: what a script does: for each photograph and angle, Pillow decodes the whole picture, turns it, crops it and writes a
  JPEG; then the files are read and embedded one by one and a .npy is written for each. (The network is ours, with folded norms:
  the gain shown is not the network's; in one thread, as on a busy machine several wait for each other at every layer of a single
  picture, which is not what is asked here.) It is slow, so it is measured on fewer photographs (`--baseline`); its time grows
  with their number, nothing of it is shared between them.

`times_plain` is the median over rounds of the ratio of the rates (goal: 10). `times_plain_decoding_once` is the same against a
script that keeps the decoded picture for all its angles: the decoding of the other eleven is taken off its time;
`times_plain_embedding_free` as if its network cost nothing. Bicubic turning, as in `--write-images`, is most of its time; with
`--resample nearest`, Pillow's own default, the script is several times quicker and the ratio so much smaller: a figure has to say
which of the two it is of. `cosine_min` compares the vectors of both ways, which are of the same references. Peak
memory is that of ours, and of ours with twice the photographs (the same files under other names), which shows whether it is
bounded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # last: what is installed wins

from benchmarks.ingest import register  # noqa: E402  the path to it is set above

MODEL = "efficientnet_lite0"
FIT = "squash"
"""As the plain way scales pictures, so that both do the same."""
ANGLES, CROP = "0:360:30", "0.6"
COUNT = 12
"""References of a photograph."""
GOAL = 10.0


def main() -> None:
    """Runs the benchmark and prints a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--baseline", type=int, default=4, help="photographs that the plain way is measured on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--resample", choices=("nearest", "bilinear", "bicubic"), default="bicubic", help="plain's turning"
    )
    parser.add_argument("--folder", type=Path, help="keep the photographs here and use them again")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ours-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours_of is not None:
        print(json.dumps(ours(arguments.ours_of)))
    elif arguments.plain_of is not None:
        print(json.dumps(plain(sorted(arguments.plain_of.glob("*.jpg"))[: arguments.baseline], arguments.resample)))
    else:
        result = measure(arguments)
        if arguments.json:
            print(json.dumps(result, indent=1))
        else:
            for name, value in result.items():
                print(f"{name:28} {value}")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, and ours once more with twice the photographs."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "photos"
        photos = make_photos(folder, arguments.photos)
        baseline = min(arguments.baseline, len(photos))
        one = register(Path(temporary) / "one", photos, len(photos))
        slow_way = ["--plain-of", str(folder), "--baseline", str(baseline), "--resample", arguments.resample]
        fast, slow = [], []
        for _ in range(arguments.rounds):
            fast.append(apart("--ours-of", str(one)))
            slow.append(apart(*slow_way))
        twice = apart("--ours-of", str(register(Path(temporary) / "twice", photos, 2 * len(photos))))
    rates = [COUNT * len(photos) / run["seconds"] for run in fast]
    others = [COUNT * baseline / run["seconds"] for run in slow]
    once = [COUNT * baseline / (run["seconds"] - run["stages"]["decode"] * (COUNT - 1) / COUNT) for run in slow]
    free = [COUNT * baseline / (run["seconds"] - run["stages"]["embed"]) for run in slow]
    peak = statistics.median(run["peak_mb"] for run in fast)
    times = statistics.median(rate / other for rate, other in zip(rates, others, strict=True))
    return {
        "photographs": len(photos),
        "references": COUNT * len(photos),
        "plain_photographs": baseline,
        "plain_resample": arguments.resample,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "ours_per_second": round(statistics.median(rates), 2),
        "plain_per_second": round(statistics.median(others), 2),
        "times_plain": round(times, 2),
        "goal": GOAL,
        "goal_reached": times >= GOAL,
        "times_plain_by_cpu": _ratio(
            [COUNT * len(photos) / run["cpu"] for run in fast], [COUNT * baseline / run["cpu"] for run in slow]
        ),
        "times_plain_decoding_once": _ratio(rates, once),
        "times_plain_embedding_free": _ratio(rates, free),
        "times_plain_each_round": [round(rate / other, 2) for rate, other in zip(rates, others, strict=True)],
        "plain_ms_per_reference": {
            name: round(1000 * statistics.median(run["stages"][name] for run in slow) / COUNT / baseline, 1)
            for name in slow[0]["stages"]
        },
        "cosine_min": min(run["cosine_min"] for run in slow),
        "peak_mb": peak,
        "peak_mb_twice": twice["peak_mb"],
        "peak_growth": round(twice["peak_mb"] / peak - 1, 4),
        "ours_per_second_twice": round(2 * COUNT * len(photos) / twice["seconds"], 2),
    }


def make_photos(folder: Path, count: int) -> list[Path]:
    """12-megapixel JPEGs of the sample world; written by another process, whose memory is not measured."""
    existing = sorted(folder.glob("*.jpg")) if folder.is_dir() else []
    if len(existing) < count:
        command = [sys.executable, "-m", "outcrop.sample", str(folder), "--photos", str(count), "--size", "4000x3000"]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        existing = sorted(folder.glob("*.jpg"))
    return existing[:count]


def apart(*options: str) -> dict[str, Any]:
    """One way once, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ours(registry: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory (MB) of one ingest of references."""
    from benchmarks.memory import peak_mb
    from outcrop.embed.encoder import Encoder
    from outcrop.embed.models import find_model
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.ingest.listing import ingest_listing
    from outcrop.ingest.references import list_references
    from outcrop.ingest.runs import Run
    from outcrop.schema.crops import crop_specs, parse_angles, parse_crops
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    with tempfile.TemporaryDirectory() as state, Store.connect(f"{state}/bench.db") as store:
        encoder = Encoder.open(find_model(MODEL, fit=FIT))
        collection = Collection.create(store, "bench", encoder.space)
        encoder.encode(np.zeros((32, *encoder.space.size, 3), np.uint8) + np.arange(3, dtype=np.uint8))
        begun, cpu = time.perf_counter(), time.process_time()
        wanted = crop_specs(parse_angles(ANGLES), parse_crops(CROP))
        listing = list_references(registry, "bench", registry.parent, wanted)
        run = Run.begin(Path(state), "references")
        record = ingest_listing(listing, encoder, collection, run, thumbnails=ThumbnailStore.below(Path(state)))
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        assert len(wanted) == COUNT, "the number of references of a photograph is another"
        assert record.upserted == listing.expected == collection.count(), "not every reference was stored"
    return {"seconds": round(seconds, 3), "cpu": round(cpu, 3), "peak_mb": round(peak_mb(), 1)}


def plain(photos: list[Path], resample: str) -> dict[str, Any]:
    """Seconds of a script's two loops, and of their parts; and the lowest cosine to vectors made as ours are."""
    from PIL import Image

    from outcrop.embed.encoder import Encoder
    from outcrop.embed.models import find_model
    from outcrop.schema.crops import parse_angles

    encoder = Encoder.open(find_model(MODEL, fit=FIT), threads=1)
    height, width = encoder.space.size
    encoder.encode(np.zeros((1, height, width, 3), np.uint8) + np.arange(3, dtype=np.uint8))
    angles, fraction = parse_angles(ANGLES), float(CROP)
    stages = dict.fromkeys(("decode", "turn", "write", "read", "embed"), 0.0)
    clock = begun = time.perf_counter()
    cpu = time.process_time()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        stages[stage] += now - clock
        clock = now

    with tempfile.TemporaryDirectory() as out:
        files, vectors = [], []
        for photo in photos:
            for angle in angles:
                with Image.open(photo) as opened:
                    image = opened.convert("RGB")
                lap("decode")
                turned = image.rotate(angle, Image.Resampling[resample.upper()])
                across, down = int(image.width * fraction), int(image.height * fraction)
                left, top = (image.width - across) // 2, (image.height - down) // 2
                cut = turned.crop((left, top, left + across, top + down))
                lap("turn")
                files.append(Path(out) / f"{photo.stem}_{angle:03.0f}.jpg")
                cut.save(files[-1], quality=95)
                lap("write")
        for file in files:
            with Image.open(file) as opened:
                pixels = np.asarray(opened.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
            lap("read")
            vectors.append(encoder.encode(pixels[None])[0])
            np.save(file.with_suffix(".npy"), vectors[-1])
            lap("embed")
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    cosine = min(float(v) for v in np.sum(np.stack(vectors[: len(angles)]) * as_ours(photos[0], encoder), axis=1))
    return {"seconds": seconds, "cpu": cpu, "stages": stages, "cosine_min": round(cosine, 4)}


def as_ours(photo: Path, encoder: Any) -> Any:
    """Vectors (12, dim) of one photograph's references, made as tensors from the whole picture."""
    from outcrop.embed.crops import crop_sampler
    from outcrop.embed.images import decode
    from outcrop.schema.crops import crop_specs, parse_angles, parse_crops

    decoded = decode(photo.read_bytes(), name=str(photo))
    windows = [spec.window(*decoded.image.size) for spec in crop_specs(parse_angles(ANGLES), parse_crops(CROP))]
    return encoder.encode(crop_sampler(decoded, encoder.space).pixels(windows))


def _ratio(rates: list[float], others: list[float]) -> float:
    return round(statistics.median(rate / other for rate, other in zip(rates, others, strict=True)), 2)


if __name__ == "__main__":
    main()
