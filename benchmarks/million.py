"""The commands that read a whole collection, at 20,000, 200,000 and (on request) a million rows on Milvus Lite or a server.

    python benchmarks/million.py [--rows 20000 200000] [--dim 384] [--uri URL] [--folder DIR] [--keep] [--json]

The vectors are synthetic and clustered (as embeddings are), the metadata those of aerial surveys. Each command runs as a process
of its own: seconds on the clock, seconds of processor, and the highest resident memory as the kernel counts them. `goal` is what
is reached for at 200,000 rows on Milvus Lite with two cores and 2 GiB for each command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from watching import watched

HERE = Path(__file__).resolve().parents[1]
sys.path[:] = [*sys.path[1:], str(HERE)]  # last: what is installed wins

GOALS = {"collection describe": 10.0, "collection verify": 45.0, "collection export": 45.0}
"""Seconds at 200,000 rows on Milvus Lite with two cores."""
GOAL_MIB = 2048
PAGE = 5000
SAMPLE = 60_000
"""Frames of which the images are clustered and compared: a third of them."""
PATIENCE = 600.0
"""Seconds for one answer: Milvus Lite writes its files within a request, on a busy machine for more than half a minute."""
DATASETS = ("harbour", "moor", "quarry", "town")


def main() -> None:
    """Builds a collection of each size and runs the commands on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--uri", help="a server; default: Milvus Lite directories in --folder")
    parser.add_argument("--folder", type=Path, help="where files are made; default: a temporary folder")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only commands that contain one of these words")
    parser.add_argument(
        "--collection", default="", help="one that is there (see million_search.py), instead of making one"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--build", help=argparse.SUPPRESS
    )  # the collection of this name is made, and nothing is measured
    arguments = parser.parse_args()
    if arguments.build:
        build(arguments.uri, arguments.build, arguments.rows[0], arguments.dim)
        return
    results = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for rows in arguments.rows:
            for result in measure(
                Path(folder), rows, arguments.dim, arguments.uri, arguments.only, arguments.collection
            ):
                results.append(result)
                if not arguments.json:
                    print("  ".join(f"{value!s:>{WIDTHS[name]}}" for name, value in result.items()), flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))


WIDTHS = {"rows": 8, "command": 40, "seconds": 8, "processor_s": 8, "peak_mib": 7, "rows_per_s": 8, "goal": 6, "met": 5}


def measure(
    folder: Path, rows: int, dim: int, uri: str | None, only: list[str] | None, name: str = ""
) -> Iterator[dict[str, object]]:
    """One line for each command, on a collection of this `name` or on one that is made first; its export is imported into another
    store, on a server by files that it reads, without a graph."""
    store, other = uri or str(folder / f"m{rows}.db"), uri or str(folder / f"i{rows}.db")
    file, served = folder / f"m{rows}.parquet", "://" in store
    if not name:
        name = f"million{rows}"
        making = ("--build", name, "--rows", str(rows), "--dim", str(dim), "--uri", store)
        yield line(rows, "(upsert, flush, index)", *run([__file__, *making], store))
    key, again, clusters = item_at(0).key, f"{name}_again", str(folder / "clusters")
    some = f"frame=0..{min(rows, SAMPLE) - 1}"
    commands = [
        ("collection", "describe", name),
        ("collection", "stats", name),
        ("collection", "verify", name),
        ("collection", "export", name, str(file)),
        ("collection", "import", str(file), "--to", again, *(("--index", "FLAT") if served else ())),
        ("collection", "drop", again, "--yes"),
        ("query", "item", key, "--collection", name),
        ("query", "item", key, "--collection", name, "--where", "dataset=moor"),
        ("query", "cluster", "--output", clusters, "--kind", "image", "--where", some, "--collection", name),
        ("query", "duplicates", "--where", some, "--collection", name),
        ("query", "duplicates", "--collection", name),
    ]
    registry = folder / "data_key.json"
    registry.write_text(json.dumps({"datasets": {name: {"root": name, "images": {}} for name in DATASETS}}))
    given = {"OUTCROP_REGISTRY": str(registry)}
    given |= {"OUTCROP_BULK": str(folder / "import"), "OUTCROP_BULK_FROM": "1000"} if served else {}
    for command in commands:
        shown = " ".join(word for word in command if word not in (name, key, str(file), again, clusters))
        if only and not any(word in shown for word in only):
            continue
        asked = ["-m", "outcrop", *command, "--json", "--quiet"]
        yield line(rows, shown, *run(asked, other if again in command else store, given))


def line(rows: int, command: str, seconds: float, processor: float, peak_mib: float) -> dict[str, object]:
    """What one command took."""
    goal = GOALS.get(command) if rows == 200_000 else None
    return {
        "rows": rows,
        "command": command.replace(" --collection", "").replace(" --to", "").replace(" --output", ""),
        "seconds": round(seconds, 1),
        "processor_s": round(processor, 1),
        "peak_mib": round(peak_mib),
        "rows_per_s": round(rows / seconds),
        "goal": goal if goal is not None else "",
        "met": seconds <= goal and peak_mib <= GOAL_MIB if goal is not None else "",
    }


def run(arguments: list[str], uri: str, given: Mapping[str, str] = MappingProxyType({})) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak MiB of one run of Python; it must end well."""
    begun, environment = time.perf_counter(), {**os.environ, "OUTCROP_URI": uri, **given}
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL)
    seconds, processor, peak = watched(process, begun)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return seconds, processor, peak


def build(uri: str, name: str, rows: int, dim: int) -> None:
    """A collection of synthetic items, upserted page by page."""
    from outcrop.schema.space import Space
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    space = Space(model="million", weights_digest="0", size=(8, 8), mean=zero, std=one, pooling="avg", dim=dim)
    with Store.connect(uri, timeout=PATIENCE) as store:
        made = Collection.create(store, name, space)
        for items, vectors in pages(rows, dim):
            made.upsert(items, vectors)
        made.flush()
        made.wait_for_index(3600)


def pages(rows: int, dim: int) -> Iterator[tuple[list, np.ndarray]]:
    """The items and their vectors [N, D] float32, page by page: the same each time."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(16, rows // 500), dim)).astype(np.float32)
    for start in range(0, rows, PAGE):
        count = min(PAGE, rows - start)
        yield [item_at(number) for number in range(start, start + count)], clustered(rng, centres, count)


def clustered(rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    """Vectors of length 1 around random centres, [count, D] float32."""
    vectors = centres[rng.integers(len(centres), size=count)]
    vectors = vectors + 0.6 * rng.normal(size=vectors.shape).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def item_at(number: int):  # an Item: imported late, so that --help needs nothing
    """Photographs and references of surveys at several altitudes."""
    from outcrop.schema.item import Item, Kind, image_key

    dataset, altitude = DATASETS[number % 4], 60.0 + 40 * (number // 4 % 6)
    capture, frame = f"c{number // 2000:04d}_{altitude:.0f}", number
    facts = {
        "frame": frame,
        "altitude": altitude,
        "latitude": 47 + frame % 997 / 1e4,
        "longitude": 11 + frame % 991 / 1e4,
        "captured_at": f"2026-05-{1 + frame % 28:02d}T10:{frame % 60:02d}:00",
        "source": f"{capture}/{frame:07d}.jpg",
        "source_size": 3_000_000 + frame,
        "source_mtime_ns": 1_770_000_000_000_000_000 + frame,
        "source_digest": f"{frame:032x}",
        "ingested_at": "2026-11-01T00:00:00+00:00",
        "extra": {"width": 4000, "height": 3000, "camera": "FC3582"},
    }
    key = image_key(dataset, capture, frame)
    if number % 3:
        reference = {**facts, "rotation": 15.0 * (number % 24), "crop": number % 3}
        key = f"{key.replace('image', 'reference', 1)}/rot{15 * (number % 24):03d}/crop{number % 3:02d}"
        return Item(key, Kind.REFERENCE, dataset, capture, **reference)
    return Item(key, Kind.IMAGE, dataset, capture, **facts)


if __name__ == "__main__":
    main()
