"""What re-ranking by geometry costs: candidates matched with one query, with cold and with warm caches.

Photographs of the sample landscape are the candidates; the query is one more photograph of it. Each round re-ranks the same
candidates with nothing cached ("cold") and with features on disk but nothing in memory ("warm"), and then matches the same
features the plain way: OpenCV's brute-force matcher, one candidate after the other ("plain"). Medians over rounds and ratios of
medians; on a shared machine only the ratios and the processor's time mean much (`warm` by `cores` is what two idle cores need).

    python benchmarks/rerank.py [--candidates 50] [--width 2048] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

STEPS = ("cold", "warm", "warm, processor", "warm: features", "warm: verify", "warm: refine", "plain")

# The folder of a script comes first on the path, and would hide the room `query` behind the benchmark of its name.


def main() -> None:
    """Runs the benchmark and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--width", type=int, default=2048, help="pixels across a photograph")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.candidates, arguments.width, arguments.rounds)
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:34} {value}")


def measure(folder: Path, candidates: int, width: int, rounds: int) -> dict[str, object]:
    """Medians in seconds, their ratios, and milliseconds per candidate."""
    from outcrop.query.answers import Hit, Query, Result, Results
    from outcrop.query.rerank import Reranking, rerank
    from outcrop.query.verification.originals import Originals
    from outcrop.query.verification.verifier import Verifier
    from outcrop.schema.item import Item, Kind, image_key
    from outcrop.schema.machine import cores
    from outcrop.schema.registry import Dataset, Registry

    photographs(folder, candidates, width)
    registry = Registry(datasets={"d": Dataset(root="photos", images={"c": {"frames": "all"}})})  # type: ignore[arg-type]  # pydantic reads it
    hits = []
    for number in range(1, candidates + 1):
        source = f"c/c_{number:04d}.jpg"
        stat = (folder / "photos" / source).stat()
        item = Item(
            image_key("d", "c", number), Kind.IMAGE, "d", "c", frame=number, source=source,
            source_size=stat.st_size, source_mtime_ns=stat.st_mtime_ns, source_digest=f"{number:032x}",
        )  # fmt: skip
        hits.append(Hit(number, 0.9 - number / 1000, item))
    results = Results("bench", None, (Result(Query(str(folder / "query.jpg"), "0" * 32), tuple(hits)),))
    times: dict[str, list[float]] = {name: [] for name in STEPS}
    verified = 0
    for turn in range(rounds):
        for name in ("cold", "warm"):
            with Verifier.below(folder / f"state{turn}", 2**32) as verifier:
                before = time.process_time()
                seconds, answered = timed(
                    lambda v=verifier: rerank(results, v, Originals(registry, folder), Reranking(depth=candidates))
                )
                busy = time.process_time() - before
            times[name].append(seconds)
            if name == "warm":
                times["warm, processor"].append(busy)
                for step in ("features", "verify", "refine"):
                    times[f"warm: {step}"].append(answered.timings[step])
                verified = sum(answered.results[0].verification(hit).verified for hit in answered.results[0].hits)
        times["plain"].append(plain(folder, candidates, turn))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "candidates": candidates,
        "pixels across": width,
        "cores": cores(),
        "verified": verified,
        **{f"{name} (s, median)": round(value, 3) for name, value in medians.items()},
        "warm, ms per candidate": round(1000 * medians["warm"] / candidates, 2),
        "cold, ms per candidate": round(1000 * medians["cold"] / candidates, 1),
        "cold / warm": round(medians["cold"] / medians["warm"], 1),
        "plain / warm: verify": round(medians["plain"] / medians["warm: verify"], 1),
    }


def plain(folder: Path, candidates: int, turn: int) -> float:
    """Seconds for matching and verifying the same features as one would without this module."""
    import cv2

    from outcrop.query.verification.feature_cache import FeatureCache
    from outcrop.query.verification.features import Sift

    cache = FeatureCache.below(folder / f"state{turn}", Sift().fingerprint)
    features = [cache.get(f"{number:032x}", lambda: None) for number in range(candidates + 1)]
    rooted = [np.sqrt(f.descriptors.astype(np.float32)) for f in features]
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    begun = time.perf_counter()
    for descriptors, found in zip(rooted[1:], features[1:], strict=True):
        pairs = matcher.knnMatch(rooted[0], descriptors, k=2)
        good = [first for first, second in pairs if first.distance < 0.85 * second.distance]
        if len(good) >= 8:
            here = np.float32([features[0].points[match.queryIdx] for match in good])
            there = np.float32([found.points[match.trainIdx] for match in good])
            cv2.findHomography(here, there, cv2.USAC_MAGSAC, 4.0 * found.unit, None, 2000, 0.999)
    return time.perf_counter() - begun


def photographs(folder: Path, count: int, width: int) -> None:
    """Writes photographs of one landscape, and a query."""
    from outcrop.sample.flight import Camera, Pose, photograph, write_jpeg
    from outcrop.sample.land import make_land

    land, camera = make_land(7, 900.0, 0.25), Camera(width, width * 3 // 4)
    rng = np.random.default_rng(0)
    (folder / "photos/c").mkdir(parents=True)
    for number in range(count + 1):
        east, north = rng.uniform(-200, 200, 2)
        pose = Pose(float(east), float(north), float(rng.choice((150, 250))), float(rng.uniform(0, 360)))
        path = folder / (f"photos/c/c_{number:04d}.jpg" if number else "query.jpg")
        write_jpeg(photograph(land, pose, camera, rng), path, pose, datetime(2025, 9, 18))


def timed(work: Callable) -> tuple[float, object]:
    """Seconds, and the result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


if __name__ == "__main__":
    main()
