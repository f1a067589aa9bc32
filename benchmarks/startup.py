"""What it costs to start: processor time of `--help` against `import typer, rich`, and of `query image` against `import torch`.

    python benchmarks/startup.py [--repeat 9] [--json]

Each command is a process of its own. All take turns, so that noise meets them alike; the figures are medians of user and system
time together, which other work on the machine disturbs less than a clock does. The collection holds five small pictures (model
efficientnet_lite0, whose weights come with a package), on Milvus Lite.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

HELP = {
    "import typer, rich": ("-c", "import typer, rich"),
    "ingest --help": ("-m", "outcrop.ingest.cli", "--help"),
    "query --help": ("-m", "outcrop.query.cli", "--help"),
    "collection --help": ("-m", "outcrop.operate.cli", "--help"),
    "query image --help": ("-m", "outcrop.query.cli", "image", "--help"),
    "import typer.rich_utils": ("-c", "import typer, rich, typer.rich_utils"),
}
"""The first is what the others are compared with; the last is what typer imports to draw help itself."""
MODEL = "efficientnet_lite0"
CAPTURE = "250918092555_300"


def main() -> None:
    """Runs the benchmark and prints a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        query = queries(Path(temporary))
        found = in_turns(HELP, arguments.repeat), in_turns(query, arguments.repeat)
    if arguments.json:
        print(json.dumps({name: seconds for part in found for name, seconds in part.items()}, indent=1))
        return
    for part in found:
        bare = next(iter(part.values()))
        for name, seconds in part.items():
            print(f"{name:26} {1000 * seconds:8.1f} ms of processor time  {seconds / bare:5.2f} of the first")


def in_turns(commands: Mapping[str, Sequence[str]], repeat: int) -> dict[str, float]:
    """The median processor seconds of each command, after one round that fills the caches."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeat + 1):
        for name, words in commands.items():
            seconds = processor_seconds(words)
            if turn:
                times[name].append(seconds)
    return {name: round(statistics.median(each), 4) for name, each in times.items()}


def processor_seconds(words: Sequence[str]) -> float:
    """User and system time of a Python process, its children's among it.

    Raises:
        CalledProcessError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def queries(folder: Path) -> dict[str, tuple[str, ...]]:
    """A small collection, and the commands that are compared: importing torch alone, and asking by a picture."""
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = folder / "bench" / CAPTURE
    pictures.mkdir(parents=True)
    for number in range(1, 6):
        noise = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((640, 480)).save(pictures / f"{CAPTURE}_{number:04d}.jpg", quality=85)
    registry = folder / "data_key.json"
    registry.write_text(json.dumps({"datasets": {"bench": {"root": "bench", "images": {CAPTURE: 5}}}}))
    common = ("--uri", f"{folder}/outcrop.db", "--state", f"{folder}/state", "--registry", str(registry))
    ingest = (sys.executable, "-m", "outcrop.ingest.cli", "dataset", "bench", "--model", MODEL, *common)
    subprocess.run(ingest, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asked = str(pictures / f"{CAPTURE}_0003.jpg")
    return {
        "import torch": ("-c", "import torch"),
        "query image": ("-m", "outcrop.query.cli", "image", asked, *common),
    }


if __name__ == "__main__":
    main()
