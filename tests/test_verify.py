"""Recall, counted by hand and against numpy; the best k of a stream against a full sort."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import kernels, run_under
from numpy.typing import NDArray
from vectors import unit_vectors

from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, image_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.maintenance import change_index
from outcrop.store.topk import TopK
from outcrop.store.verify import SHARES, _bound, _recall, recall_bucket, verify

DIM, ROWS = 64, 2500
SPACE = Space(model="verify", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=DIM)


def unit(count: int, seed: int = 0) -> NDArray[np.float32]:
    return unit_vectors(count, DIM, seed)


def items(count: int) -> list[Item]:
    return [Item(image_key("v", "c", n), Kind.IMAGE, "v", "c", frame=n) for n in range(count)]


# -- the best k --------------------------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> tuple[NDArray[np.float32], list[str], list[int], int]:
    """Scores [Q, N] with many ties, the rows' ids, the sizes of the pages, and k."""
    pages = draw(st.lists(st.integers(0, 12), max_size=6))
    count, queries = sum(pages), draw(st.integers(1, 4))
    values = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.25 + 2**-20, 1.0])
    scores = draw(st.lists(values, min_size=queries * count, max_size=queries * count))
    numbers = draw(st.lists(st.integers(0, 10**6), min_size=count, max_size=count, unique=True))
    return (
        np.array(scores, np.float32).reshape(queries, count),
        [f"{n:032x}" for n in numbers],
        pages,
        draw(st.integers(1, 20)),
    )


@given(streams())
def test_best_of_a_stream_is_the_head_of_a_full_sort(
    stream: tuple[NDArray[np.float32], list[str], list[int], int],
) -> None:
    scores, ids, pages, k = stream
    best = TopK(np.eye(len(scores), dtype=np.float32), k)
    start = 0
    for size in pages:
        best.add(np.array(ids[start : start + size], dtype="U32"), scores[:, start : start + size].T)
        start += size
    for query, line in enumerate(scores):
        order = sorted(range(len(ids)), key=lambda n: (-line[n], ids[n]))[:k]
        assert best.best(query) == [(float(line[n]), ids[n]) for n in order]


def test_best_of_random_vectors_is_a_sort_of_exact_scores() -> None:
    """Equal vectors, on whatever page and place, have equal scores and stand in the order of their ids."""
    queries, vectors = unit_vectors(7, 384, 1), unit_vectors(5000, 384)
    vectors[::3] = vectors[np.arange(0, 5000, 3) % 40]
    ids = np.array([f"{n:032x}" for n in np.random.default_rng(0).permutation(5000)])
    best = TopK(queries, 90)
    for start, stop in itertools.pairwise((0, 900, 901, 1800, 4997, 5000)):
        best.add(ids[start:stop], vectors[start:stop])
    for query, vector in enumerate(queries):
        exact = (vectors.astype(np.float64) * vector).sum(axis=1)
        order = np.lexsort((ids, -exact))[:90]
        assert best.best(query) == [(exact[n], ids[n]) for n in order]


UNDER_A_KERNEL = """
import numpy as np
from vectors import unit_vectors
from outcrop.store.topk import TopK
vectors = unit_vectors(3000, 384)
vectors[::7] = vectors[0]
best = TopK(vectors[:5], 500)
for start in range(0, 3000, 799):
    best.add(np.array([f"{n:032x}" for n in range(start, min(3000, start + 799))]), vectors[start : start + 799])
for query in range(5):
    for score, id in best.best(query):
        print(score.hex(), int(id, 16))
"""


def test_exact_scores_are_the_same_under_every_kernel() -> None:
    answers = [run_under(kernel, UNDER_A_KERNEL).splitlines() for kernel in kernels()]
    assert len(answers[0]) == 2500 and all(answer == answers[0] for answer in answers)
    copies = [int(line.split()[1]) for line in answers[0][:429]]
    assert copies == list(range(0, 3000, 7)), "equal vectors in the order of their ids"


# -- recall ------------------------------------------------------------------------------------------------------------

TRUTH = [(0.9, "a"), (0.8, "b"), (0.7, "c"), (0.7, "d"), (0.7 - 1e-4, "e"), (0.1, "f")]


@pytest.mark.parametrize(
    ("found", "wanted", "recall"),
    [
        (["a", "b", "c"], 3, 1.0),
        (["a", "b", "d"], 3, 1.0),  # ties with the third
        (["a", "b", "e"], 3, 2 / 3),  # near, but no tie
        (["c", "d", "a"], 3, 1.0),  # the order does not count
        (["c", "d", "x"], 3, 2 / 3),
        (["x", "y", "z"], 3, 0.0),
        (["a"], 3, 1 / 3),  # too few hits
        ([], 3, 0.0),
        (["b"], 1, 0.0),
        (["a", "b", "c", "d", "e", "f"], 6, 1.0),
    ],
)
def test_recall_by_hand(found: list[str], wanted: int, recall: float) -> None:
    assert _recall(TRUTH, found, wanted) == pytest.approx(recall)


@pytest.mark.parametrize("share", SHARES)
def test_bound_keeps_its_share_of_all_ids(share: float) -> None:
    ids = [item.id for item in items(20_000)]
    assert sum(id < _bound(share) for id in ids) / len(ids) == pytest.approx(share, abs=0.012)


# -- live collections --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["lite", "server"])
def lists(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """`ROWS` random vectors in 1,024 inverted lists: with nprobe=1 about one row in a thousand is looked at."""
    uri = str(tmp_path_factory.mktemp("verify") / "v.db")
    if request.param == "server":
        uri = request.getfixturevalue("server_uri")
    with Store.connect(uri) as store:
        made = Collection.create(store, "verify_lists", SPACE, index="FLAT")
        made.upsert(items(ROWS), unit(ROWS))
        made.flush()
        change_index(made, "IVF_FLAT", {"nlist": 1024}, deadline=400)
        yield made
        store.client.drop_alias("verify_lists")
        store.client.drop_collection(made.physical)


def test_an_index_that_looks_nowhere_is_near_random(lists: Collection) -> None:
    seen: list[int] = []
    result = verify(lists, samples=40, search_params={"nprobe": 1}, progress=seen.append)
    assert result.near_random and result.recall < 0.3
    assert (result.k, result.samples, result.rows, result.index) == (10, 40, ROWS, "IVF_FLAT")
    assert seen[-1] == ROWS
    assert 0 < result.checks[0].worst <= result.checks[0].recall < 0.3


def test_an_index_that_looks_everywhere_is_exact(lists: Collection) -> None:
    result = verify(lists, k=25, samples=20, search_params={"nprobe": 1024}, shares=(0.1,))
    assert [check.share for check in result.checks] == [1.0, 0.1]
    assert [check.recall for check in result.checks] == [1.0, 1.0]
    assert not result.near_random and not any(check.short for check in result.checks)
    kept = sum(item.id < _bound(0.1) for item in items(ROWS))
    assert [check.kept for check in result.checks] == [ROWS, kept]


def test_more_hits_than_a_filter_keeps(lists: Collection) -> None:
    """Recall is of what there is to be found."""
    result = verify(lists, k=50, samples=5, search_params={"nprobe": 1024}, shares=(0.01,))
    last = result.checks[-1]
    assert last.kept < 50 and last.short == 0 and last.recall == 1.0


def test_the_sample_is_the_seeds(lists: Collection) -> None:
    def recalls(seed: int) -> list[float]:
        result = verify(lists, samples=15, seed=seed, search_params={"nprobe": 40}, shares=())
        return [check.recall for check in result.checks]

    assert recalls(1) == recalls(1)
    assert len({recalls(seed)[0] for seed in range(4)}) > 1


def test_what_makes_no_sense_is_refused(lists: Collection) -> None:
    for wrong in ({"k": 0}, {"k": 1001}, {"samples": 0}, {"samples": 10_001}):
        with pytest.raises(InputError, match="must be between"):
            verify(lists, **wrong)
    with pytest.raises(InputError, match="did you mean 'nprobe'"):
        verify(lists, search_params={"nprob": 3})


def test_more_samples_than_rows(lite_uri: str) -> None:
    with Store.connect(lite_uri) as store:
        made = Collection.create(store, "few", SPACE)
        with pytest.raises(InputError, match="is empty"):
            verify(made)
        made.upsert(items(4), unit(4))
        result = verify(made, samples=100)
        assert (result.samples, result.rows, result.recall) == (4, 4, 1.0)
        assert [check.share for check in result.checks] == [
            share for share in SHARES if any(item.id < _bound(share) for item in items(4))
        ]


def test_equal_vectors_are_all_right(lite_uri: str) -> None:
    """Whichever of many equal rows an index gives, none is wrong."""
    with Store.connect(lite_uri) as store:
        made = Collection.create(store, "equal", SPACE)
        made.upsert(items(60), np.repeat(unit(1), 60, axis=0))
        assert verify(made, samples=5, shares=()).recall == 1.0


def test_a_fresh_index_is_waited_for_until_it_answers(server_uri: str, name: str) -> None:
    """Milvus 2.3.5 says "Finished" while queries still go to an interim index, of recall 0.6."""
    rows = 6000
    with Store.connect(server_uri) as store:
        made = Collection.create(store, name, SPACE, index="HNSW")
        made.load()  # only a loaded collection has an interim index
        vectors = unit(rows, seed=3)
        for start in range(0, rows, 2000):
            made.upsert(items(rows)[start : start + 2000], vectors[start : start + 2000])
        made.flush()
        made.wait_for_index(400)
        assert made.wait_until_served(60)
        segments = store.client.list_loaded_segments(made.physical)
        assert sum(segment.num_rows for segment in segments) == rows
        assert all(segment.index_name == "vector" for segment in segments)
        assert verify(made, samples=30, shares=()).recall >= 0.99
        store.client.drop_alias(name)
        store.client.drop_collection(made.physical)


def test_nothing_is_waited_for_where_no_segment_gets_an_index(server_uri: str, name: str) -> None:
    """A few rows are compared one by one, before and after the server hands their segment on."""
    with Store.connect(server_uri) as store:
        made = Collection.create(store, name, SPACE, index="HNSW")
        made.load()
        made.upsert(items(200), unit(200))
        made.flush()
        made.wait_for_index(400)
        assert made.wait_until_served(0.0)
        assert verify(made, samples=30, shares=()).recall == 1.0
        store.client.drop_alias(name)
        store.client.drop_collection(made.physical)


@pytest.mark.parametrize(
    ("recall", "bucket"),
    [
        (1.0, "99+"), (0.99, "99+"), (0.9899, "95-98"), (0.95, "95-98"), (0.9499, "90-94"), (0.9, "90-94"),
        (0.8999, "80-89"), (0.8, "80-89"), (0.7999, "below 80"), (0.0, "below 80"),
    ],
)  # fmt: skip
def test_recalls_are_put_into_buckets(recall: float, bucket: str) -> None:
    assert recall_bucket(recall) == bucket
