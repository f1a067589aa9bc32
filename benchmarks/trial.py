"""The small world that faults are tried on, the commands that ingest it, and the comparison with an undisturbed collection."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import meshes
import numpy as np
import pictures

from benchmarks.warm import Ended, Started, apart, run, start

KINDS = ("dataset", "references", "specimens")
MODEL = ("--model", "efficientnet_lite0")
CAPTURE = "250918092555_300"
COLLECTION = "outcrop"
VOLATILE = ("ingested_at", "root", "checksum")
"""Fields that differ between two equal runs: the time, the folder of the case, and the digest that covers both."""
TOLERANCE = 2e-5
"""How far a value of a vector may differ between two batches of other sizes."""
Rows = dict[str, tuple[dict[str, Any], Any]]


@dataclass
class Trial:
    """`root` is a folder of its own; `address` a server's, or '' for Milvus Lite."""

    root: Path
    address: str
    random: random.Random
    made: int = 0
    undisturbed: dict[str, tuple[Rows, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pictures.write_dataset(self.root / "world", {CAPTURE: 12}, name="town")
        for number in range(3):
            shape = meshes.ball(2, (1, 0.5 + number / 5, 0.7))
            meshes.write(self.root / f"world/bones/{number}.ply", *shape)

    def place(self) -> Path:
        """A new folder with the world in it."""
        self.made += 1
        folder = self.root / f"case{self.made}"
        shutil.copytree(self.root / "world", folder)
        return folder

    def store(self, folder: Path) -> tuple[object, ...]:
        """The options of a case's collection, which no other case has."""
        return ("--uri", self.address or "outcrop.db", "--collection", self.name(folder))

    def name(self, folder: Path) -> str:
        """The name of a case's collection."""
        return f"{COLLECTION}_{folder.name}" if self.address else COLLECTION

    def arguments(self, kind: str, folder: Path) -> tuple[object, ...]:
        """A first ingest of a kind, in small batches."""
        source = {
            "dataset": ("dataset", "town"),
            "references": ("references", "town", "--angles", "0:360:180"),
            "specimens": ("specimens", "bones", "--views", 4),
        }[kind]
        return (*source, *MODEL, "--batch", 4, "--workers", 2, "--timeout", 30, "--json", *self.store(folder))

    def start(self, kind: str, folder: Path, *more: object) -> Started:
        """Starts an ingest."""
        return start(folder, "ingest", *self.arguments(kind, folder), *more)

    def ingest(self, kind: str, folder: Path, *more: object) -> Ended:
        """Runs an ingest to its end."""
        return run(folder, "ingest", *self.arguments(kind, folder), *more)

    def expected(self, kind: str) -> tuple[Rows, float]:
        """The rows of an undisturbed run, and the seconds that it took."""
        if kind not in self.undisturbed:
            folder = self.place()
            started = self.start(kind, folder)
            ended = started.ended()
            seconds = time.monotonic() - started.begun
            assert ended.code == 0, f"the undisturbed run failed: {ended.err}"
            self.undisturbed[kind] = (self.rows(folder), seconds)
            self.remove(folder)
        return self.undisturbed[kind]

    def rows(self, folder: Path) -> Rows:
        """All rows by key; a key that is there twice stands under a second name."""
        found: Rows = apart(folder, read_rows, self.address or str(folder / "outcrop.db"), self.name(folder))
        return found

    def healed(self, kind: str, folder: Path) -> str:
        """Runs the same ingest again; what is wrong with the collection then ('' for nothing)."""
        again = self.ingest(kind, folder)
        return again.complaint(0) or self.difference(kind, folder)

    def difference(self, kind: str, folder: Path) -> str:
        """How a collection differs from the undisturbed one ('' for not at all)."""
        expected, rows = self.expected(kind)[0], self.rows(folder)
        if lost := expected.keys() - rows.keys():
            return f"lost {len(lost)} of {len(expected)}: {sorted(lost)[:3]}"
        if more := rows.keys() - expected.keys():
            return f"{len(more)} too many: {sorted(more)[:3]}"
        for key, (fields, vector) in expected.items():
            if rows[key][0] != fields:
                names = [name for name in fields if fields[name] != rows[key][0].get(name)]
                return f"{key}: other {names}"
            if not np.allclose(rows[key][1], vector, atol=TOLERANCE):
                return f"{key}: another vector (off by {np.abs(rows[key][1] - vector).max():.1e})"
        return ""

    def remove(self, folder: Path) -> None:
        """Drops a case's collection and its folder."""
        if self.address:
            run(folder, "collection", "drop", self.name(folder), "--yes", "--uri", self.address)
        shutil.rmtree(folder, ignore_errors=True)


def read_rows(address: str, name: str) -> Rows:
    """The rows of a collection, without what differs between equal runs, and its number of physical collections checked."""
    from outcrop.schema.filters import Filter
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    rows: Rows = {}
    with Store.connect(address) as store:
        physical = [found for found in store.client.list_collections() if found.startswith(f"{name}__")]
        assert len(physical) == 1, f"physical collections: {physical}"
        collection = Collection.open(store, name)
        for page in collection.scan_rows(Filter(), ["*"]):
            for row in page:
                vector = np.array(row.pop("vector"), dtype=np.float32)
                key = row["key"] + (" (again)" if row["key"] in rows else "")
                rows[key] = ({field: value for field, value in row.items() if field not in VOLATILE}, vector)
        assert collection.count() == len(rows), f"{collection.count()} rows are counted, {len(rows)} are read"
    return rows
