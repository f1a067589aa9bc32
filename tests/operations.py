"""What the tests of the `collection` command share: items, collections to work on, and what must not change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from commands import Outcome, run
from numpy.typing import NDArray
from vectors import unit_vectors

from outcrop.schema.item import Item, Kind, image_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.maintenance import change_index
from outcrop.store.search import search

MODEL = ("--model", "efficientnet_lite0")
DIM, ROWS = 64, 3000
SPACE = Space(model="ops", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=DIM)
GREEN = SPACE.model_copy(update={"model": "ops2", "dim": 32})


def unit(count: int, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    return unit_vectors(count, dim, seed)


def items(count: int, dataset: str = "town", mixed: bool = True) -> list[Item]:
    """Images of altitudes 100, 200 and 300; `mixed`: every fourth is a reference."""
    made = []
    for n in range(count):
        image = Item(
            image_key(dataset, "c_100", n), Kind.IMAGE, dataset, "c_100", frame=n, altitude=100.0 * (1 + n % 3)
        )
        if mixed and n % 4 == 3:
            image = replace(image, key=f"{image.key.replace('image', 'reference')}/rot030/crop00", kind=Kind.REFERENCE)
        made.append(image)
    return made


def collection(*arguments: object) -> Outcome:
    return run("collection", *arguments, "--json")


def done(*arguments: object) -> Any:
    """What the command says, after it ended well."""
    outcome = collection(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome.json


def make(uri: str, name: str, rows: int, space: Space = SPACE, alias: bool = True) -> str:
    """A collection with `rows` items and the vectors of `unit`; its physical name."""
    with Store.connect(uri) as store:
        made = Collection.create(store, name, space, index="FLAT", alias=alias)
        made.upsert(items(rows), unit(rows, space.dim))
        return made.physical


def make_indexed(uri: str, name: str, rows: int) -> str:
    """A collection of images alone, sealed and under a new HNSW index: what is asked next is asked of the index."""
    with Store.connect(uri) as store:
        made = Collection.create(store, name, SPACE, index="FLAT")
        made.upsert(items(rows, mixed=False), unit(rows))
        made.flush()
        change_index(made, "HNSW", deadline=400)
        return made.physical


def state_of(uri: str, name: str) -> tuple[object, ...]:
    """Everything that a dry run must leave as it was: all of the collections whose names begin so, and which others are."""
    with Store.connect(uri) as store:
        everything = sorted(store.client.list_collections())
        state: list[object] = [everything]
        for physical in everything:
            if physical.startswith(name):
                found = Collection.open(store, physical)
                aliases = sorted(store.client.list_aliases(physical).get("aliases", []))
                facts = (found.count(), found.profile.name, sorted(found.properties().items()))
                state.append((physical, aliases, facts))
        return tuple(state)


def entry(physical: str) -> dict[str, Any]:
    return next(row for row in done("list")["rows"] if row["physical"] == physical)


def answers_rightly(uri: str, name: str, rows: int) -> bool:
    """Whether the collection finds stored vectors themselves."""
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        hits = search(opened, unit(rows)[:5], 1).hits
        return opened.count() == rows and [h[0].item.frame for h in hits] == list(range(5))
