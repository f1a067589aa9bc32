"""Collections on Milvus Lite and on a server: opening, writing, searching, and what is refused."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from milvus_server import MilvusServer, why_not
from numpy.typing import NDArray
from vectors import unit_vectors

import outcrop.store.partitions
import outcrop.store.search
import outcrop.store.table
from outcrop.schema.errors import InputError, OutcropError, Refused, SpaceMismatch, StoreUnreachable
from outcrop.schema.filters import Filter, where
from outcrop.schema.indexes import PROFILES, IndexProfile
from outcrop.schema.item import FIELDS, Item, Kind
from outcrop.schema.space import Space
from outcrop.store.collection import PROPERTY_SPACE, Collection, check_name, collection_names
from outcrop.store.connection import Store
from outcrop.store.rows import pack
from outcrop.store.search import Answer, exact_search, search

DIM = 8
SPACE = Space(
    model="m", weights_digest="ab", size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), pooling="token", dim=DIM
)
OTHER = SPACE.model_copy(update={"model": "n", "size": (448, 448)})


def unit(count: int, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    return unit_vectors(count, dim, seed)


def image(number: int, dataset: str = "d", **values: object) -> Item:
    return Item(f"image/{dataset}/c/{number:04d}", Kind.IMAGE, dataset, "c", frame=number, **values)  # type: ignore[arg-type]


def keys(answer: Answer, query: int = 0) -> list[str]:
    return [hit.item.key for hit in answer.hits[query]]


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_collection_is_made_and_found_again(store: Store, name: str) -> None:
    assert Collection.find(store, name) is None
    made = Collection.create(store, name, SPACE, index="FLAT", weights="/w/m.pth")
    physical = f"{name}__{SPACE.fingerprint[:8]}"
    assert (made.name, made.physical, made.notes) == (name, physical, [])
    for asked in (name, physical):
        found = Collection.open(store, asked)
        assert (found.name, found.physical, found.space) == (asked, physical, SPACE)
        assert (found.profile.name, found.weights_hint) == ("FLAT", "/w/m.pth")
    assert name in collection_names(store)
    assert physical not in collection_names(store), "it has a better name"
    # an empty collection answers
    assert made.count() == 0
    assert list(made.scan()) == []
    assert search(made, unit(2), 3).hits == ((), ())
    assert exact_search(made, unit(2), 3) == ((), ())
    # ensure: the same space opens it, another is refused
    assert Collection.ensure(store, name, SPACE).physical == physical
    with pytest.raises(SpaceMismatch) as caught:
        Collection.ensure(store, name, OTHER)
    for word in (repr(name), "model m != n", "size [224, 224] != [448, 448]", "another --collection"):
        assert word in str(caught.value)
    # neither name can be taken twice
    with pytest.raises(Refused, match="is in use"):
        Collection.create(store, name, OTHER)
    with pytest.raises(Refused, match="already exists"):
        Collection.create(store, name, SPACE)
    beside = Collection.create(store, name, OTHER, alias=False)
    assert beside.name == beside.physical == f"{name}__{OTHER.fingerprint[:8]}"
    assert Collection.open(store, name).space == SPACE


def test_an_unknown_name_is_told_with_the_nearest(store: Store, name: str) -> None:
    Collection.create(store, name, SPACE)
    with pytest.raises(InputError, match=f"did you mean '{name}'"):
        Collection.open(store, name + "x")


def test_without_collections_one_is_told_to_ingest(lite_uri: str) -> None:
    with Store.connect(lite_uri) as opened, pytest.raises(InputError, match="ingest something first"):
        Collection.open(opened, "outcrop")


def test_strangers_are_left_alone(store: Store, name: str) -> None:
    store.client.create_collection(name, dimension=4)
    for attempt in (Collection.find, Collection.open):
        with pytest.raises(Refused, match="was not made by Outcrop"):
            attempt(store, name)
    with pytest.raises(Refused):
        Collection.ensure(store, name, SPACE)
    assert store.client.has_collection(name)


@pytest.mark.parametrize("text", ["{}", "not json", '{"model": 3}', SPACE.model_dump_json()[:-1] + ',"later": 1}'])
def test_a_space_from_the_future_is_refused(lite_uri: str, text: str) -> None:
    with Store.connect(lite_uri) as opened:
        opened.client.create_collection("strange", dimension=4, properties={PROPERTY_SPACE: text})
        with pytest.raises(Refused, match="this version cannot read"):
            Collection.open(opened, "strange")


@pytest.mark.parametrize("bad", ["", "1a", "a-b", "a b", "잠실", "a" * 201, "a;drop", "a\n"])
def test_names_that_milvus_would_not_take(bad: str) -> None:
    with pytest.raises(InputError, match="is not a valid collection name"):
        check_name(bad)


def test_a_physical_name_is_no_name_for_a_new_collection(lite_uri: str) -> None:
    with Store.connect(lite_uri) as opened, pytest.raises(InputError, match="looks like a physical name"):
        Collection.create(opened, "outcrop__0123abcd", SPACE)


# -- indexes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", sorted(PROFILES))
def test_lite_loads_every_index_again(lite_uri: str, index: str) -> None:
    """Given GPU_CAGRA itself, Milvus Lite would say yes and never load the collection again."""
    vectors = unit(60)
    with Store.connect(lite_uri) as opened:
        made = Collection.create(opened, "c", SPACE, index=index, build={"nlist": 4} if index == "IVF_FLAT" else None)
        assert bool(made.notes) == (not PROFILES[index].lite)
        if made.notes:
            assert index in made.notes[0] and made.profile.name in made.notes[0]
        made.upsert([image(n) for n in range(60)], vectors)
        made.flush()
        assert made.wait_for_index(400).finished
    with Store.connect(lite_uri) as opened:
        found = Collection.open(opened, "c")
        assert found.profile == made.profile
        assert found.index_state().profile == made.profile.name
        assert found.count() == 60
        assert [keys(search(found, vectors[n : n + 1], 1))[0] for n in (0, 59)] == [image(0).key, image(59).key]


def test_a_server_that_is_too_old_for_an_index_is_told_before_anything_is_made(server_uri: str, name: str) -> None:
    with Store.connect(server_uri) as opened:
        with pytest.raises(InputError, match=r"GPU_CAGRA needs Milvus 2\.6\.20 or newer, this server is 2\.3\.5"):
            Collection.create(opened, name, SPACE, index="GPU_CAGRA")
        assert Collection.find(opened, name) is None


def test_a_wrong_build_parameter_makes_nothing(lite_uri: str) -> None:
    with Store.connect(lite_uri) as opened:
        with pytest.raises(InputError, match="between 2 and 2048"):
            Collection.create(opened, "c", SPACE, index="HNSW", build={"M": 1})
        assert opened.client.list_collections() == []


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "length"),
    [
        (np.zeros(DIM), "length 0"),
        (np.full(DIM, np.nan), "length nan"),
        (np.full(DIM, np.inf), "length inf"),
        (2 * unit(1)[0], "length 2"),
        (unit(1)[0] * 1.01, "length 1.01"),
        (np.full(DIM, 1e38), "not 1"),
    ],
)
def test_vectors_that_are_not_of_length_1_are_refused(vector: NDArray[np.float64], length: str) -> None:
    vectors = np.vstack([unit(1), vector[None].astype(np.float32)])
    with pytest.raises(InputError, match=f"vector of image/d/c/0001 has .*{length}"):
        pack([image(0), image(1)], vectors, DIM)


@pytest.mark.parametrize("shape", [(1, DIM), (2, DIM + 1), (2 * DIM,), (2, DIM, 1)])
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"need vectors of shape \[2, 8\]"):
        pack([image(0), image(1)], np.ones(shape, np.float32), DIM)


@pytest.mark.parametrize("field", [f for f in FIELDS.values() if f.type == "text" and f.name != "kind"])
def test_texts_are_measured_in_bytes(field: object) -> None:
    name, most = field.name, field.max_length  # type: ignore[attr-defined]
    fits = "잠" * (most // 3) + "x" * (most % 3)
    pack([replace(image(0), **{name: fits})], unit(1), DIM)
    with pytest.raises(InputError, match=f"{name} is longer than {most} bytes"):
        pack([replace(image(0), **{name: fits + "x"})], unit(1), DIM)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"altitude": float("nan")}, "altitude is nan"),
        ({"latitude": float("inf")}, "latitude is inf"),
        ({"source_size": 2**63}, "source_size .* 64 bits"),
        ({"source": "caf\udce9.jpg"}, "source .* not valid Unicode"),
    ],
)
def test_values_that_no_filter_could_find_are_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        pack([image(0, **values)], unit(1), DIM)


def test_the_longest_texts_are_stored_whole(store: Store, name: str) -> None:
    made = Collection.create(store, name, SPACE, index="FLAT")
    texts = {
        f.name: "잠" * (f.max_length // 3) + "x" * (f.max_length % 3)
        for f in FIELDS.values()
        if f.type == "text" and f.name != "kind"
    }
    item = replace(image(0), **texts)  # type: ignore[arg-type]
    made.upsert([item], unit(1))
    ((found, _),) = made.items([item.id]).values()
    assert found == item


def test_one_bad_vector_keeps_the_whole_batch_out(store: Store, name: str) -> None:
    made = Collection.create(store, name, SPACE, index="FLAT")
    vectors = unit(3)
    vectors[2] = 0
    with pytest.raises(InputError):
        made.upsert([image(n) for n in range(3)], vectors)
    assert made.count() == 0


def test_writing_is_chunked_and_so_are_lookups_and_searches(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module("table"), "MESSAGE_BYTES", 7 * (DIM * 4 + 1024))
    monkeypatch.setattr(store_module("table"), "LOOKUP", 9)
    monkeypatch.setattr(store_module("search"), "MAX_QUERIES", 8)
    made = Collection.create(store, name, SPACE, index="FLAT")
    items, vectors = [image(n, "ab"[n % 2]) for n in range(30)], unit(30)
    assert made.upsert(items, vectors) == 30
    found = made.items([item.id for item in items] + ["absent"])
    assert set(found) == {item.id for item in items}
    answer = search(made, vectors, 1)
    assert [hits[0].item.key for hits in answer.hits] == [item.key for item in items]
    few, asked, ask = 12, [], made.store.client.search
    monkeypatch.setattr(store_module("search"), "HITS_AT_ONCE", 3 * few + 1)
    monkeypatch.setattr(
        made.store.client, "search", lambda *a, **more: asked.append(len(more["data"])) or ask(*a, **more)
    )
    many = search(made, vectors, few)
    assert asked == [3] * 10 and all(len(hits) == few for hits in many.hits)
    assert [hits[0].item.key for hits in many.hits] == [item.key for item in items]
    assert made.delete([item.id for item in items[:20]]) == 20
    assert made.count() == 10


def store_module(name: str) -> object:
    return {"table": outcrop.store.table, "search": outcrop.store.search, "partitions": outcrop.store.partitions}[name]


# -- partitions --------------------------------------------------------------------------------------------------------


def test_another_writers_new_dataset_is_seen(store: Store, name: str) -> None:
    """A reader that stays open (a notebook, a service) must not go on without the partitions made meanwhile."""
    writer = Collection.create(store, name, SPACE, index="FLAT")
    vectors = unit(4)
    writer.upsert([image(0, "old")], vectors[:1])
    reader = Collection.open(store, name)
    assert reader.count(where("kind=image")) == 1
    writer.upsert([image(1, "new")], vectors[1:2])
    writer.upsert([Item("view/new/s/00", Kind.VIEW, "new", "s")], vectors[2:3])
    for condition, expected in (("dataset=new", 2), ("dataset=old,new", 3), ("kind=image", 2), ("kind=view", 1)):
        filter = where(condition)
        assert reader.count(filter) == expected, condition
        assert sum(len(items) for items, _ in reader.scan(filter)) == expected, condition
        assert len(search(reader, vectors[:1], 10, filter).hits[0]) == expected, condition


def test_past_the_limit_of_partitions_answers_stay_right(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module("partitions"), "MOST", 3)
    made = Collection.create(store, name, SPACE, index="FLAT")
    datasets = ["a", "b", "잠실 3", "d", "e"]
    items = [image(n, dataset) for dataset in datasets for n in range(3)]
    items += [Item(f"view/{d}/s/00", Kind.VIEW, d, "s", view=0) for d in datasets]
    vectors = unit(len(items))
    made.upsert(items, vectors)
    assert made.partitions(fresh=True) == {"_default", "image__a", "image__b", "image", "view"}
    again = Collection.open(store, name)
    again.upsert(items, vectors)  # a row that changed its partition would be there twice
    assert again.count() == len(items)
    for conditions in (("dataset=b",), ("dataset=e", "kind=image"), ("kind=view",), ("dataset=a,d", "kind=image")):
        filter = where(*conditions)
        expected = {item.key for item in items if filter.matches(item.row())}
        assert again.count(filter) == len(expected)
        assert {hit.item.key for hit in search(again, vectors[:1], 50, filter).hits[0]} == expected, conditions


def test_the_plan_names_the_partitions_and_the_rest_of_the_filter(store: Store, name: str) -> None:
    made = Collection.create(store, name, SPACE, index="FLAT")
    made.upsert([image(n, "ab"[n % 2]) for n in range(6)], unit(6))
    plan = search(made, unit(1), 3, where("kind=image", "dataset=a")).plan
    assert (plan.method, plan.index, plan.partitions, plan.filter) == ("flat", "FLAT", ("image__a",), "")
    plan = search(made, unit(1), 3, where("dataset=a,b", "frame=2..")).plan
    assert plan.partitions == ("image__a", "image__b")
    assert "frame >= 2" in plan.filter and "dataset" not in plan.filter
    answer = search(made, unit(2), 3, where("kind=specimen"))
    assert answer.hits == ((), ())
    assert "no partition holds such items" in str(answer.plan)
    assert search(made, unit(1), 3, exact=True).plan.reason == "asked for"


# -- searching ---------------------------------------------------------------------------------------------------------

ROWS = 1200
"""More than the 1,024 rows from which on a server builds an index."""


@pytest.fixture(scope="module", params=["lite", "server"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """An HNSW collection whose index is built: `ROWS` images, frame n of dataset a, with the vectors of `unit`."""
    uri = str(tmp_path_factory.mktemp("graph") / "g.db")
    if request.param == "server":
        uri = request.getfixturevalue("server_uri")
    with Store.connect(uri) as opened:
        made = Collection.create(opened, "graph", SPACE, index="HNSW")
        made.upsert([image(n, "a") for n in range(ROWS)], unit(ROWS))
        made.flush()
        state = made.wait_for_index(400)
        assert (state.profile, state.indexed, state.pending) == ("HNSW", ROWS, 0)
        yield made
        opened.client.drop_alias("graph")
        opened.client.drop_collection(made.physical)


def expected_keys(query: NDArray[np.float32], k: int, rows: Sequence[int]) -> list[str]:
    scores = unit(ROWS)[list(rows)] @ query
    return [image(rows[i], "a").key for i in np.argsort(-scores)[:k]]


def test_without_a_filter_the_index_answers(graph: Collection) -> None:
    query = unit(1, seed=5)
    answer = search(graph, query, 10)
    assert (answer.plan.method, answer.plan.index, answer.plan.fallback) == ("index", "HNSW", False)
    assert answer.plan.params == {"ef": 256}
    assert keys(answer) == expected_keys(query[0], 10, range(ROWS))
    assert [hit.rank for hit in answer.hits[0]] == list(range(1, 11))


def test_a_filter_that_keeps_few_rows_is_searched_row_by_row(graph: Collection) -> None:
    query = unit(1, seed=6)
    assert graph.wait_until_served(60)
    answer = search(graph, query, 10, where("frame=100..119"))
    if graph.store.lite:
        assert (answer.plan.method, answer.plan.kept, answer.plan.total) == ("exact", 20, ROWS)
    else:
        assert (answer.plan.method, answer.plan.kept) == ("index", None), "a server does so itself"
        assert "compares row by row itself" in str(answer.plan)
    assert not answer.plan.fallback
    assert keys(answer) == expected_keys(query[0], 10, range(100, 120))


def test_a_filter_that_keeps_many_rows_leaves_it_to_the_index(
    graph: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module("search"), "EXACT_ROWS", 100)
    monkeypatch.setattr(graph, "sifts", lambda: False)  # as where rows are growing, and on Milvus Lite
    query = unit(1, seed=7)
    answer = search(graph, query, 10, where("frame=600.."))
    assert (answer.plan.method, answer.plan.kept) == ("index", 600)
    assert answer.plan.params == {"ef": 512}, "half of the candidates fall to the filter"
    assert keys(answer) == expected_keys(query[0], 10, range(600, ROWS))
    assert search(graph, query, 10, where("frame=0..110")).plan.method == "index"
    assert search(graph, query, 10, where("frame=0..19")).plan.method == "exact", "less than 2 %"


def test_what_no_index_has_yet_is_compared_one_by_one(server_uri: str, name: str) -> None:
    """A server finds fresh rows through an interim index, which misses half of them under a tight filter."""
    query, filter = unit(1, seed=6), where("frame=100..119")
    with Store.connect(server_uri) as opened:
        made = Collection.create(opened, name, SPACE, index="HNSW")
        made.upsert([image(n, "a") for n in range(ROWS)], unit(ROWS))
        answer = search(made, query, 10, filter)
        assert (answer.plan.method, answer.plan.kept) == ("exact", 20)
        assert keys(answer) == expected_keys(query[0], 10, range(100, 120))
        made.flush()
        made.wait_for_index(400)
        assert made.wait_until_served(60)
        made = Collection.open(opened, name)
        assert made.sifts() and search(made, query, 10, filter).plan.method == "index"
        made.upsert([image(n, "a") for n in range(50, 200)], unit(150, seed=9))
        assert not made.sifts() and search(made, query, 10, filter).plan.method == "exact", (
            "what was replaced is growing"
        )


def test_more_hits_than_rows_are_no_failure_of_the_index(graph: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module("search"), "EXACT_ROWS", 100)
    answer = search(graph, unit(1), 300, where("frame=0..149"))
    assert len(answer.hits[0]) == 150
    assert not answer.plan.fallback or answer.plan.method == "exact"


def test_an_index_that_gives_too_few_hits_is_not_believed(graph: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Milvus Lite's graph drops what a filter takes from its candidates; with few candidates few hits are left."""
    monkeypatch.setattr(store_module("search"), "EXACT_ROWS", 0)
    monkeypatch.setattr(store_module("search"), "EXACT_SHARE", 0.0)
    monkeypatch.setattr(IndexProfile, "search_params", lambda *_: {"ef": 10})
    query, rows = unit(1, seed=8), list(range(20, ROWS, 24))
    condition = "frame=" + ",".join(map(str, rows))
    answer = search(graph, query, 10, where(condition))
    if graph.store.lite:
        # Milvus Lite compares with every row for some moments after it has called the index finished.
        deadline = time.monotonic() + 60
        while not answer.plan.fallback and time.monotonic() < deadline:
            time.sleep(0.2)
            answer = search(graph, query, 10, where(condition))
        assert answer.plan.fallback, "the data no longer make the index fail: choose other rows"
    if answer.plan.fallback:
        assert (answer.plan.method, answer.plan.kept) == ("exact", 50)
        assert "the index gave" in answer.plan.reason and "of 10 hits" in answer.plan.reason
    assert keys(answer) == expected_keys(query[0], 10, rows)


@pytest.mark.parametrize(
    ("vectors", "k", "complaint"),
    [
        (unit(1), 0, "-k must be between"),
        (unit(1), 16_385, "-k must be between"),
        (unit(1, DIM + 1), 3, r"shape \[Q, 8\]"),
        (unit(1)[0], 3, r"shape \[Q, 8\]"),
        (np.full((1, DIM), np.nan, np.float32), 3, "not finite"),
    ],
)
def test_wrong_questions_are_named(graph: Collection, vectors: NDArray[np.float32], k: int, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        search(graph, vectors, k)


BAD = [
    "frame >",
    'source == "unavailable" and',
    'dataset like "%unavailable',
    'frame == "a"',
    "captured_at > 3",
    "frame > 1 or nonsense(3)",
    '"',
    "frame",
    "frame == 1; drop",
    "frame == 99999999999999999999",
    "not kind",
]


@pytest.mark.parametrize("raw", BAD)
def test_an_expression_that_milvus_does_not_understand_is_bad_input(graph: Collection, raw: str) -> None:
    for ask in (
        lambda filter: graph.count(filter),
        lambda filter: search(graph, unit(1), 3, filter),
        lambda filter: list(graph.scan(filter)),
    ):
        with pytest.raises(InputError, match=r"does not understand the filter|is not closed"):
            ask(where(raw=raw))


def test_a_raw_expression_joins_the_conditions(graph: Collection) -> None:
    assert graph.count(where("frame=0..9", raw="frame == 3 or frame == 500")) == 1


def test_no_vectors_no_answers(graph: Collection) -> None:
    empty = np.zeros((0, DIM), np.float32)
    assert search(graph, empty, 3).hits == ()
    assert search(graph, empty, 3, exact=True).hits == ()


def test_ties_in_an_exact_search_are_broken_by_id(store: Store, name: str) -> None:
    made = Collection.create(store, name, SPACE, index="FLAT")
    items = [image(n, "abc"[n % 3]) for n in range(30)]
    made.upsert(items, np.repeat(unit(1), 30, axis=0))
    hits = search(made, unit(1), 10, exact=True).hits[0]
    assert [hit.item.id for hit in hits] == sorted(item.id for item in items)[:10]


# -- lasting -----------------------------------------------------------------------------------------------------------


def test_a_closed_lite_directory_opens_again_with_its_rows(lite_uri: str) -> None:
    items, vectors = [image(n, extra={"width": n}) for n in range(20)], unit(20)
    with Store.connect(lite_uri) as opened:
        Collection.create(opened, "c", SPACE).upsert(items, vectors)  # not flushed: the log alone holds it
    for attempt in range(2):
        with Store.connect(lite_uri) as opened:
            found = Collection.open(opened, "c")
            assert found.count() == 20
            assert keys(search(found, vectors[7:8], 1)) == [items[7].key]
            (item, vector) = found.items([items[3].id])[items[3].id]
            assert item == items[3]
            assert vector.tobytes() == vectors[3].tobytes()
            if attempt == 0:
                found.upsert(items[:5], vectors[:5])
                found.flush()


@pytest.mark.slow
def test_a_killed_server_comes_back_with_its_rows(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a server acknowledged outlives `kill -9`; patience outlasts its absence."""
    if reason := why_not():
        pytest.skip(f"no Milvus server: {reason}")
    server = MilvusServer(tmp_path_factory.mktemp("killed"))
    server.start()
    try:
        with Store.connect(server.uri) as opened:
            Collection.create(opened, "killed", SPACE, index="FLAT").upsert([image(n) for n in range(10)], unit(10))
        with Store.connect(server.uri) as opened:
            made = Collection.open(opened, "killed")
            server.kill()
            opened.timeout = 5  # for its silence, not for its work
            with pytest.raises(StoreUnreachable, match=f"no answer from {server.uri}"):
                made.upsert([image(10)], unit(1))
            told: list[str] = []

            def restart(reason: str) -> None:
                if not told:
                    server.start()
                told.append(reason)

            made.upsert([image(10)], unit(1), patience=120, waiting=restart)
            assert told
        with Store.connect(
            server.uri
        ) as opened:  # with the usual timeout: a server that has just started is slow to answer
            assert Collection.open(opened, "killed").count() == 11
    finally:
        server.kill()


def test_patience_of_an_upsert_ends(server_uri: str, name: str) -> None:
    """With nobody there, the first complaint is the last: nothing is tried for ever."""
    with Store.connect(server_uri) as opened:
        ghost = Collection(opened, name, f"{name}__00000000", SPACE, PROFILES["FLAT"], {}, "")
        with pytest.raises(OutcropError, match="cannot list the partitions"):
            ghost.upsert([image(0)], unit(1), patience=60)


def test_ids_and_filters_of_the_wrong_kind_find_nothing(graph: Collection) -> None:
    assert graph.lookup([]) == {}
    assert graph.lookup(['" or id != "', "\\", "x" * 100]) == {}
    assert graph.count(Filter()) == ROWS
    first = itertools.islice(graph.scan(batch=100), 1)
    ((items, vectors),) = first
    assert 0 < len(items) <= 100
    assert vectors.shape == (len(items), 0)
    assert [item.id for item in items] == sorted(item.id for item in items)
