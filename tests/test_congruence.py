"""Congruence: Milvus Lite, a Milvus server and plain Python give the same answers to the same questions.

The oracle is `Filter.matches` for what is kept and a matrix product for how it ranks. Items and filters are random but
seeded; a failure names the filter, and `OUTCROP_TEST_SEED` repeats the data of another run.
"""

from __future__ import annotations

import os
import random
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from outcrop.schema.column_filters import ColumnCondition
from outcrop.schema.columns import PREFIX, Column, Columns
from outcrop.schema.filters import Condition, Filter, literal
from outcrop.schema.item import AERIAL, FIELDS, UNKNOWN_COORDINATE, Item, Kind
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.search import Hit, exact_search, search

SEED = int(os.environ.get("OUTCROP_TEST_SEED", "20250918"))
DIM, ROWS = 12, 360
SPACE = Space(
    model="c", weights_digest="cd", size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), pooling="avg", dim=DIM
)
ALPHABET = [
    *(
        "a",
        "b",
        "B",
        "1",
        "0",
        "_",
        "%",
        "*",
        '"',
        "'",
        "\\",
        "\\n",
        " ",
        "  ",
        "{",
        "}",
        ";",
        ",",
        ".",
        "/",
        "--",
        "and",
        "true",
    ),
    *("잠", "실", "é", "ß", "🦴", "\U0010ffff", "\ud7ff", "\uff5e"),
]
DATASETS = ["plain", 'quo"te', "back\\slash", "per%cent _under", "잠실 🦴"]
FLOATS = [0.0, -0.0, 1.5, 99.99, 100.0, 300.0, 1e-7, 1e22, -12.25, 1 / 3, 5e-324, 1.7976931348623157e308]
WHOLES = [0, 1, 7, -1, 2**31, 2**53 + 1, 1 - 2**63, 2**63 - 1, 1758187555123456789]
BACKENDS = ("lite", "server")
COLUMNS = Columns(
    (
        Column("collector", "text"),
        Column("age_ma", "number"),
        Column("holotype", "boolean"),
        Column("found", "date"),
        Column("채집지", "text"),
    )
)
DATES = ["2019", "2019-05", "2019-05-03", "2019-05-03T10:00", "2019-05-03T10:00:07.500000", "2020-01-01", "0999-12-31"]


def text(rng: random.Random) -> str:
    """A short nasty text in NFC, as every stored text is."""
    return unicodedata.normalize("NFC", "".join(rng.choices(ALPHABET, k=rng.randint(0, 4))))


def value(rng: random.Random, name: str) -> object:
    field = FIELDS[name]
    if name in ("latitude", "longitude"):
        return rng.choice([UNKNOWN_COORDINATE, rng.uniform(-90, 90), 0.0])
    if field.type == "text":
        return text(rng)
    return rng.choice(WHOLES) if field.type == "integer" else rng.choice(FLOATS)


def an_item(rng: random.Random, number: int) -> Item:
    """A random item: fields that say nothing for its kind keep their natural values, others take anything."""
    kind = rng.choice(list(Kind))
    dataset = rng.choice(DATASETS[:3] if kind not in AERIAL else DATASETS)
    fixed = ("key", "kind", "dataset")
    values = {f.name: value(rng, f.name) for f in FIELDS.values() if f.name not in fixed and kind in f.kinds}
    values["capture_id"] = rng.choice([text(rng), f"2509{rng.randint(17, 19)}_{rng.choice([100, 300])}"])
    extra = rng.choice([{}, {"width": 640}, {text(rng) or "x": [1, {"y": text(rng)}]}])
    extra |= {column.key: own_value(rng, column) for column in COLUMNS.values() if rng.random() < 0.6}
    return Item(f"{kind}/{dataset}/{number}", kind, dataset, extra=extra, **values)  # type: ignore[arg-type]


def own_value(rng: random.Random, column: Column) -> str | float | bool:
    """A value of an own column, as a table would give it."""
    if column.type == "text":
        return text(rng).strip() or "x"
    if column.type == "number":
        return rng.choice(FLOATS) + 0.0
    return rng.random() < 0.5 if column.type == "boolean" else rng.choice(DATES)


def an_own_condition(rng: random.Random, items: list[Item]) -> ColumnCondition:
    """A random condition on an own column, mostly about values that some item has."""
    column = rng.choice(list(COLUMNS.values()))
    held = [item.extra[column.key] for item in items if column.key in item.extra]

    def some() -> str | float | bool:
        return rng.choice(held) if rng.random() < 0.8 else own_value(rng, column)

    negated = rng.random() < 0.4
    operator = rng.choice({"boolean": ["in"], "number": ["in", "range"]}.get(column.type, ["in", "range", "prefix"]))
    if operator == "in":
        return ColumnCondition(column, "in", tuple(some() for _ in range(rng.choice([1, 1, 2, 5]))), negated)
    if operator == "prefix":
        whole = unicodedata.normalize("NFC", str(some())[: rng.randint(0, 4)])
        return ColumnCondition(column, "prefix", (whole,), negated)
    low, high = sorted((some(), some()))
    low, high = rng.choice([(low, high), (low, None), (None, high), (low, low), (high, low)])
    return ColumnCondition(column, "range", (low, high), negated)


def a_condition(rng: random.Random, items: list[Item]) -> Condition:
    """A random condition, mostly about values that some item has."""
    name = rng.choice(list(FIELDS))
    spec = FIELDS[name]

    def some() -> object:
        held = getattr(rng.choice(items), name)
        if name == "kind" or rng.random() < 0.8:
            return str(held) if name == "kind" else held
        return value(rng, name)

    negated = rng.random() < 0.3
    operator = rng.choice(["in", "in", "range"] + (["prefix"] if spec.type == "text" and name != "kind" else []))
    if operator == "in" or name == "kind":
        return Condition(name, "in", tuple(some() for _ in range(rng.choice([1, 1, 2, 5]))), negated)
    if operator == "prefix":
        whole = str(some())
        return Condition(name, "prefix", (unicodedata.normalize("NFC", whole[: rng.randint(0, 3)]),), negated)
    low, high = sorted((some(), some()))
    low, high = rng.choice([(low, high), (low, None), (None, high), (low, low), (high, low)])
    return Condition(name, "range", (low, high), negated)


def a_filter(rng: random.Random, items: list[Item]) -> Filter:
    conditions: list[Condition | ColumnCondition]
    conditions = [a_condition(rng, items) for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]
    if rng.random() < 0.4:
        conditions = [an_own_condition(rng, items), *conditions[:1]]
    if rng.random() < 0.35:
        conditions.append(Condition("kind", "in", tuple(str(k) for k in rng.sample(list(Kind), rng.randint(1, 2)))))
    if rng.random() < 0.35:
        conditions.append(Condition("dataset", "in", tuple(rng.sample([*DATASETS, "absent"], rng.randint(1, 3)))))
    return Filter(tuple(conditions))


def unit(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class World:
    """The same rows in two collections and in plain Python: `rows` is what `Filter.matches` reads."""

    items: list[Item]
    vectors: NDArray[np.float32]
    rows: list[dict[str, object]]
    collections: dict[str, Collection]

    def kept(self, filter: Filter) -> list[int]:
        return [n for n, row in enumerate(self.rows) if filter.matches(row)]

    def best(self, query: NDArray[np.float32], k: int, filter: Filter) -> list[tuple[str, float]]:
        """Keys and scores of the best k rows that the filter keeps."""
        kept = self.kept(filter)
        scores = self.vectors[kept].astype(np.float64) @ query.astype(np.float64)
        order = sorted(range(len(kept)), key=lambda n: (-scores[n], self.items[kept[n]].id))[:k]
        return [(self.items[kept[n]].key, float(scores[n])) for n in order]


@pytest.fixture(scope="module")
def world(server_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Written in three steps, so that rows lie in files and in memory, and some were replaced or removed on the way."""
    rng, numbers = random.Random(SEED), np.random.default_rng(SEED)
    items = [an_item(rng, n) for n in range(ROWS)]
    vectors = unit(numbers, ROWS)
    stale = [replace(item, source="stale", source_size=1, extra={}) for item in items[:80]]
    doomed = [replace(an_item(rng, n), source="doomed") for n in range(ROWS, ROWS + 40)]
    collections = {}
    with (
        Store.connect(str(tmp_path_factory.mktemp("congruence") / "c.db")) as lite,
        Store.connect(server_uri) as server,
    ):
        for backend, opened in zip(BACKENDS, (lite, server), strict=True):
            made = Collection.create(opened, "congruence", SPACE, index="FLAT")
            made.add_columns(COLUMNS)
            made.upsert(stale + doomed, unit(np.random.default_rng(1), len(stale) + len(doomed)))
            made.upsert(items[:200], vectors[:200])
            made.flush()
            # The same id twice in one batch: the later row counts.
            made.upsert(stale[:20] + items[:20] + items[200:], np.vstack([vectors[20:40], vectors[:20], vectors[200:]]))
            made.delete([item.id for item in doomed])
            collections[backend] = made
        yield World(items, vectors, [item.row() for item in items], collections)
        server.client.drop_alias("congruence")
        server.client.drop_collection(collections["server"].physical)


@pytest.fixture(scope="module")
def filters(world: World) -> list[Filter]:
    rng = random.Random(SEED + 1)
    made = [Filter(), *(a_filter(rng, world.items) for _ in range(220))]
    kept = [len(world.kept(filter)) for filter in made]
    assert sum(0 < n < ROWS for n in kept) > 100, "the filters no longer sift: choose others"
    return made


def asked(filters: list[Filter], ask: object) -> list[object]:
    """The answers for all filters; several at a time, for a server waits before each."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, filters))  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_count(world: World, filters: list[Filter], backend: str) -> None:
    collection = world.collections[backend]
    collection.load()
    answers = asked(filters, collection.count)
    wrong = [
        f"{answer} instead of {len(world.kept(filter))}: {filter.expression}"
        for filter, answer in zip(filters, answers, strict=True)
        if answer != len(world.kept(filter))
    ]
    assert not wrong, f"seed {SEED}, {len(wrong)} filters:\n" + "\n".join(wrong[:10])


def compare(found: list[Hit], expected: list[tuple[str, float]], tolerance: float = 1e-5) -> str:
    """What is wrong with the hits ('' = nothing): scores in order, and the same items where scores are not tied."""
    if len(found) != len(expected):
        return f"{len(found)} hits instead of {len(expected)}"
    for hit, (key, score) in zip(found, expected, strict=True):
        if abs(hit.score - score) > tolerance:
            return f"rank {hit.rank} has score {hit.score}, not {score}"
        tied = [other for other, s in expected if abs(s - score) <= tolerance]
        at_the_end = abs(score - expected[-1][1]) <= tolerance  # there any of the tied rows may have been left out
        if hit.item.key not in tied and not at_the_end:
            return f"rank {hit.rank} is {hit.item.key}, not {key}"
    return ""


@pytest.mark.parametrize("backend", BACKENDS)
def test_search(world: World, filters: list[Filter], backend: str) -> None:
    collection, queries = world.collections[backend], unit(np.random.default_rng(SEED + 2), 4)
    rows = {item.key: item for item in world.items}

    def ask(filter: Filter) -> str:
        answer = search(collection, queries, 10, filter)
        for query, hits in zip(queries, answer.hits, strict=True):
            if complaint := compare(list(hits), world.best(query, 10, filter)):
                return f"{complaint} ({answer.plan}): {filter.expression}"
            for hit in hits:
                item = rows[hit.item.key]
                if replace(item, extra={k: v for k, v in item.extra.items() if k.startswith(PREFIX)}) != hit.item:
                    return f"{hit.item} is not {rows[hit.item.key]}"
        return ""

    wrong = [complaint for complaint in asked(filters[:120], ask) if complaint]
    assert not wrong, f"seed {SEED}, {len(wrong)} filters:\n" + "\n".join(map(str, wrong[:5]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_exact_search(world: World, filters: list[Filter], backend: str) -> None:
    collection, queries = world.collections[backend], unit(np.random.default_rng(SEED + 3), 3)

    def ask(filter: Filter) -> str:
        for query, hits in zip(queries, exact_search(collection, queries, 7, filter), strict=True):
            if complaint := compare(list(hits), world.best(query, 7, filter)):
                return f"{complaint}: {filter.expression}"
        return ""

    wrong = [complaint for complaint in asked(filters[120:140], ask) if complaint]
    assert not wrong, f"seed {SEED}, {len(wrong)} filters:\n" + "\n".join(map(str, wrong[:5]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_scan(world: World, filters: list[Filter], backend: str) -> None:
    """Small pages: rows are neither lost nor doubled at their edges, and vectors come back bit by bit."""
    collection = world.collections[backend]
    vectors = {item.id: vector.tobytes() for item, vector in zip(world.items, world.vectors, strict=True)}

    def ask(filter: Filter) -> str:
        found: dict[str, bytes] = {}
        rows = 0
        for items, page in collection.scan(filter, vectors=True, batch=50):
            rows += len(items)
            found |= {item.id: vector.tobytes() for item, vector in zip(items, page, strict=True)}
        expected = {world.items[n].id: vectors[world.items[n].id] for n in world.kept(filter)}
        return (
            ""
            if found == expected and rows == len(expected)
            else f"{rows} rows, not {len(expected)}: {filter.expression}"
        )

    wrong = [complaint for complaint in asked([Filter(), *filters[140:160]], ask) if complaint]
    assert not wrong, f"seed {SEED}, {len(wrong)} filters:\n" + "\n".join(map(str, wrong[:5]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_items_come_back_whole(world: World, backend: str) -> None:
    """Every field, every extra value, and every bit of the vectors; replaced rows are the new ones, deleted are gone."""
    ids = [item.id for item in world.items]
    found = world.collections[backend].items([*ids, "f" * 32])
    assert set(found) == set(ids)
    for item, vector in zip(world.items, world.vectors, strict=True):
        assert found[item.id][0] == item
        assert found[item.id][1].tobytes() == vector.tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_lookup(world: World, backend: str) -> None:
    rng = random.Random(SEED + 4)
    some = rng.sample(world.items, 50)
    found = world.collections[backend].lookup([item.id for item in some] + ["0" * 32], ("source", "source_mtime_ns"))
    assert found == {
        item.id: {"id": item.id, "source": item.source, "source_mtime_ns": item.source_mtime_ns} for item in some
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_raw_expressions_with_our_literals(world: World, backend: str) -> None:
    """Who writes an expression by hand may quote with `literal`."""
    item = next(item for item in world.items if '"' in item.source or "\\" in item.source)
    expected = sum(other.source == item.source for other in world.items)
    assert world.collections[backend].count(Filter(raw=f"source == {literal(item.source)}")) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_replacing_and_deleting_again(world: World, backend: str) -> None:
    """Last in this file, for it changes rows and puts them back."""
    collection = world.collections[backend]
    some, place = world.items[50:90], slice(50, 90)
    changed = [replace(item, source_digest="new") for item in some]
    new = Filter((Condition("source_digest", "in", ("new",)),))
    before = collection.count(new)
    collection.upsert(changed, world.vectors[place])
    collection.upsert(changed, world.vectors[place])
    assert (collection.count(), collection.count(new) - before) == (ROWS, 40)
    collection.delete([item.id for item in some[:10]] * 2)
    assert (collection.count(), collection.count(new) - before) == (ROWS - 10, 30)
    collection.upsert(some, world.vectors[place])
    assert (collection.count(), collection.count(new)) == (ROWS, before)
