"""Collections that are moved in tests, with odd items, and what they hold."""

from __future__ import annotations

import random
import unicodedata
from typing import Any

import numpy as np
from commands import Outcome, run
from numpy.typing import NDArray
from vectors import unit_vectors

from outcrop.schema.filters import where
from outcrop.schema.item import Item, Kind, image_key, part
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

DIM = 16
SPACE = Space(model="move", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=DIM)
OTHER = SPACE.model_copy(update={"model": "other"})
FORMATS = ("x.parquet", "x.npy", "x.faiss")
NASTY = [*"a\"'\\%*;\n\r\t잠é🦴\u2028\u0085\x00\U0010ffff /{,", "e\u0301"]


def unit(count: int, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    return unit_vectors(count, dim, seed)


def items(count: int, dataset: str = "town") -> list[Item]:
    return [
        Item(image_key(dataset, "c_100", n), Kind.IMAGE, dataset, "c_100", frame=n, altitude=100.0 * (1 + n % 3))
        for n in range(count)
    ]


def odd_items(count: int, seed: int = 0) -> list[Item]:
    """Items of every kind with odd texts, extreme numbers and nested extras."""
    rng = random.Random(seed)

    def text(longest: int = 12) -> str:
        return unicodedata.normalize("NFC", "".join(rng.choices(NASTY, k=rng.randint(0, longest))))

    made = []
    for n in range(count):
        kind, dataset = rng.choice(list(Kind)), rng.choice(["plain", "잠실 🦴", 'quo"te'])
        extra = rng.choice(
            [{}, {"width": 640, "yaw": -0.125}, {"a b": [1, {"c": text()}, None], text() or "x": text()}]
        )
        made.append(
            Item(
                f"{kind}/{part(dataset)}/{part(text() + 'x')}/{n:04d}",
                kind,
                dataset,
                text(),
                category=text(),
                frame=rng.choice([0, -1, 2**53 + 1]),
                altitude=rng.choice([0.0, 1 / 3, 1e22]),
                rotation=rng.uniform(0, 360),
                crop=n,
                view=rng.choice([-1, 7]),
                latitude=rng.uniform(-90, 90),
                captured_at=text(5),
                source=text(),
                source_size=2**62 + n,
                source_mtime_ns=1758187555123456789,
                source_digest=text(5),
                extra=extra,
            )
        )
    return made


def make(uri: str, name: str, rows: list[Item], space: Space = SPACE, index: str = "FLAT") -> str:
    with Store.connect(uri) as store:
        made = Collection.create(store, name, space, index=index)
        vectors = unit(len(rows), space.dim)
        for start in range(0, len(rows), 2000):
            made.upsert(rows[start : start + 2000], vectors[start : start + 2000])
        return made.physical


def collection(*arguments: object) -> Outcome:
    return run("collection", *arguments, "--json")


def done(*arguments: object) -> Any:
    outcome = collection(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome.json


def content(uri: str, name: str) -> dict[str, tuple[Item, bytes]]:
    """Every row, by id: the item with its extras, and the bytes of its vector."""
    with Store.connect(uri) as store:
        return content_of(Collection.open(store, name))


def content_of(opened: Collection) -> dict[str, tuple[Item, bytes]]:
    pages = opened.scan_rows(where(), ["*"])
    found = [(Item.from_row(row), np.asarray(row["vector"], np.float32).tobytes()) for page in pages for row in page]
    assert len(found) == opened.count()
    return {item.id: (item, vector) for item, vector in found}


def expected(rows: list[Item]) -> dict[str, tuple[Item, bytes]]:
    return {item.id: (item, v.tobytes()) for item, v in zip(rows, unit(len(rows)), strict=True)}


def names(uri: str) -> set[str]:
    with Store.connect(uri) as store:
        return set(store.client.list_collections())
