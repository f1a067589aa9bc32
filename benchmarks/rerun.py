"""An ingest of many files again: a tree in which nothing has changed, and how soon a first ingest of it embeds.

    python benchmarks/rerun.py [--items 100000] [--uri http://…] [--kind dataset|images] [--folder DIR] [--first] [--json]

A million files are hard links to a few small pictures. What a first ingest of them leaves (rows with the keys, sizes, times,
digests and checksums that it writes) is made with the product's own listing and rows, and random vectors of 384 numbers; only
the network is left out. Without `--uri` the collection is a Milvus Lite directory. `--folder` keeps the tree and goes on with one
that is there. `--first` ingests the same tree into a new collection besides, until the first vectors are written, and stops it.

Each ingest is a process of its own: seconds on the clock, seconds of processor, and the highest resident memory as the kernel
counts it. The exit code is 1 where a re-run embeds anything. What is reached for at a million: 10 minutes, 1 GiB (1,024 MiB),
and the first vectors after 10 s.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests")]  # last: what is installed wins

import numpy as np  # noqa: E402  the path to what follows is set above
from million import clustered  # noqa: E402  likewise
from watching import high_water, watched  # noqa: E402  likewise

MODEL, DIM = "dinov3_vits16", 384
NAME = "many"
CAPTURE = 1000
"""Pictures in a folder."""
LINKS = 50_000
"""Names of one file: ext4 allows 65,000."""
GOAL_SECONDS, GOAL_MIB, GOAL_FIRST = 600.0, 1024.0, 10.0
DEADLINE = 3600.0


@dataclass(frozen=True)
class Place:
    """Where it is measured: a folder with a tree of `items` files, and a store."""

    folder: Path
    uri: str
    items: int
    kind: str

    def command(self, collection: str, *more: str) -> list[str]:
        """An ingest of the tree into a collection."""
        tree, registry = self.folder / NAME, self.folder / "data_key.json"
        what = ["dataset", NAME] if self.kind == "dataset" else ["images", str(tree)]
        where = ["--uri", self.uri, "--collection", collection, "--state", str(self.folder / "state")]
        model = ["--model", MODEL, "--weights", str(self.folder / f"{MODEL}_pretrain.pth"), "--registry", str(registry)]
        code = "from outcrop.ingest.cli import main; main()"
        return [sys.executable, "-c", code, *what, *where, *model, "--no-thumbnails", "--json", *more]

    @property
    def collection(self) -> str:
        """The name of the collection that has all items."""
        return f"rerun_{self.kind}_{self.items}"


@dataclass(frozen=True)
class Measured:
    """What one ingest took."""

    items: int
    what: str
    seconds: float
    processor_s: float
    peak_mib: float
    met: bool


def main() -> int:
    """Makes the tree and the rows, and measures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--uri", help="a server; default: a Milvus Lite directory in the folder")
    parser.add_argument("--kind", choices=("dataset", "images"), default="dataset")
    parser.add_argument("--folder", type=Path, help="where files are made and kept; default: a temporary folder")
    parser.add_argument("--first", action="store_true", help="measure a first ingest, too, until it embeds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outcrop-rerun-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        place = Place(folder, arguments.uri or str(folder / "outcrop.db"), arguments.items, arguments.kind)
        if arguments.fill:
            fill(place)
            return 0
        found = []
        for measured in measure(place, first=arguments.first):
            found.append(measured)
            if not arguments.json:
                print("  ".join(f"{name} {value}" for name, value in asdict(measured).items()), flush=True)
        if arguments.json:
            print(json.dumps([asdict(each) for each in found], indent=1))
    return 0


def measure(place: Place, *, first: bool) -> Iterator[Measured]:
    """The re-run, and the beginning of a first ingest."""
    grow(place)
    done = place.folder / f"{place.collection}.filled"
    if not done.exists():
        again = ["--items", str(place.items), "--uri", place.uri, "--kind", place.kind, "--folder", str(place.folder)]
        begun = time.perf_counter()
        subprocess.run([sys.executable, __file__, *again, "--fill"], check=True)
        print(f"rows made in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        done.touch()
    yield again_over(place)
    if first:
        yield first_vectors(place)


def grow(place: Place) -> None:
    """The tree, its registry, and weights: random tensors in the shapes of the model's."""
    root = place.folder / NAME
    if (root / "grown").exists() and (root / "grown").read_text() == str(place.items):
        return
    import torch
    from meta_checkpoints import Shape, vit
    from pictures import picture

    root.mkdir(exist_ok=True)
    (place.folder / ".pictures").mkdir(exist_ok=True)
    captures = {}
    for number in range(place.items):
        capture = f"{260_000_000_000 + number // CAPTURE}_{60 + 40 * (number // CAPTURE % 6)}"
        if number % CAPTURE == 0:
            (root / capture).mkdir(exist_ok=True)
            captures[capture] = min(CAPTURE, place.items - number)
        original = place.folder / ".pictures" / f"{number // LINKS}.jpg"
        if number % LINKS == 0 and not original.exists():
            picture(number, 160, 120).save(original, quality=85)
        link = root / capture / f"{capture}_{number % CAPTURE + 1:04d}.jpg"
        if not link.exists():
            os.link(original, link)
    datasets = {NAME: {"root": NAME, "images": captures}}
    (place.folder / "data_key.json").write_text(json.dumps({"datasets": datasets}))
    torch.save(vit(Shape(DIM, 12, 6, 4 * DIM, 16, registers=True)), place.folder / f"{MODEL}_pretrain.pth")
    (root / "grown").write_text(str(place.items))


def fill(place: Place) -> None:
    """The rows of a first ingest of the tree, with random vectors."""
    from outcrop.embed.images import decode
    from outcrop.embed.models import resolve
    from outcrop.ingest.photos import complete
    from outcrop.ingest.requests import DatasetRequest, ImagesRequest
    from outcrop.ingest.sources import Contents, groups
    from outcrop.schema.settings import Settings
    from outcrop.store.bulk import Bulk, load_into
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    settings = Settings(
        uri=place.uri,
        registry=place.folder / "data_key.json",
        state=place.folder / "state",
        model=MODEL,
        weights=place.folder / f"{MODEL}_pretrain.pth",
    )
    if place.kind == "dataset":
        request: DatasetRequest | ImagesRequest = DatasetRequest.of(settings, NAME)
    else:
        request = ImagesRequest.of(place.folder / NAME, NAME, settings)
    model = resolve(settings)
    rng, read = np.random.default_rng(0), {}
    centres = rng.normal(size=(max(16, place.items // 500), DIM)).astype(np.float32)
    with Store.connect(place.uri, timeout=600.0) as store:
        # Nothing is searched: no index is built.
        made = Collection.ensure(store, place.collection, model.space, weights=model.hint, index="FLAT")
        load = load_into(
            made, Bulk(place.folder / "bulk", 10**5), place.items, lambda text: print(text, file=sys.stderr)
        )
        for group in groups(request.list(model.space).sources, 5000):
            items = []
            for source in group:
                (wanted,) = source.wanted
                inode = source.path.stat().st_ino
                if inode not in read:
                    contents = Contents.read(source.path)
                    read[inode] = contents, decode(contents.data, name=str(source.path))
                contents, decoded = read[inode]
                items.append(complete(wanted, decoded, contents))
            items = [_stamped(item) for item in items]
            load.add(items, clustered(rng, centres, len(items)))
        load.close()
        made.flush()
        made.wait_for_index(3600)


def _stamped(item):  # an Item: imported late, so that --help needs nothing
    from dataclasses import replace
    from datetime import UTC, datetime

    return replace(item, ingested_at=datetime.now(UTC).isoformat(timespec="milliseconds"))


def again_over(place: Place) -> Measured:
    """An ingest of what is there already."""
    before = newest(place)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*place.command(place.collection), "--quiet"], cwd=place.folder, stdout=subprocess.DEVNULL
    )
    seconds, processor, peak = watched(process, begun)
    record = newest(place)
    if process.returncode or record == before:
        raise SystemExit(f"the ingest ended with {process.returncode}")
    if record["unchanged"] != place.items or record["embedded"]:
        raise SystemExit(f"{record['unchanged']} of {place.items} unchanged, {record['embedded']} embedded")
    met = place.items < 10**6 or (seconds <= GOAL_SECONDS and peak <= GOAL_MIB)
    return Measured(place.items, "again", round(seconds, 1), round(processor, 1), round(peak), met)


def first_vectors(place: Place) -> Measured:
    """A first ingest, until vectors are there."""
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    name = f"{place.collection}_first"
    before, begun = newest(place), time.perf_counter()
    process = subprocess.Popen([*place.command(name), "--quiet"], cwd=place.folder, stdout=subprocess.DEVNULL)
    peak = 0.0
    while (record := newest(place)) == before or not record["embedded"]:
        peak = max(peak, high_water(process.pid))
        if process.poll() is not None or time.perf_counter() - begun > DEADLINE:
            raise SystemExit(f"the first ingest embeds nothing (exit code {process.returncode})")
        time.sleep(0.02)
    seconds, processor = time.perf_counter() - begun, processor_seconds(process.pid)
    process.send_signal(signal.SIGINT)
    watched(process, begun)
    with Store.connect(place.uri, timeout=600.0) as store:
        found = Collection.open(store, name)
        store.client.drop_alias(name)
        store.client.drop_collection(found.physical)
    return Measured(
        place.items, "first vectors", round(seconds, 1), round(processor, 1), round(peak), seconds <= GOAL_FIRST
    )


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far (Linux)."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def newest(place: Place) -> dict[str, int]:
    """The record of the newest run, as it is on disk; {} before there is one."""
    records = [json.loads(file.read_text()) for file in (place.folder / "state/runs").glob("*/run.json")]
    return max(records, key=lambda record: record["number"], default={})


if __name__ == "__main__":
    sys.exit(main())
