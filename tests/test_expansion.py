"""`--rerank expanded`: the query averaged with its verified hits, searched again; the arithmetic against numpy's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from numpy.typing import NDArray
from test_features import rough
from test_rerank import items_of, write_world

from outcrop.query.answers import Hit, Query, Result, Results
from outcrop.query.expansion import Again, expanded, mean_vector
from outcrop.query.rerank import Reranking, rerank
from outcrop.query.verification.originals import Originals
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.item import Item

DIM = 16


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


class Gallery:
    """Items with vectors, searched by numpy; counts what is asked."""

    def __init__(self, items: list[Item], vectors: NDArray[np.float32], k: int) -> None:
        self.items, self.vectors, self.k = items, vectors, k
        self.row = {item.id: n for n, item in enumerate(items)}
        self.asked: list[NDArray[np.float32]] = []

    def search(self, vector: NDArray[np.float32]) -> tuple[Hit, ...]:
        self.asked.append(vector)
        scores = self.vectors @ vector
        best = np.argsort(-scores, kind="stable")[: self.k]
        return tuple(Hit(rank, float(scores[n]), self.items[n]) for rank, n in enumerate(best, 1))

    def stored(self, ids: Any) -> NDArray[np.float32]:
        return np.stack([self.vectors[self.row[id]] for id in ids])


def test_the_mean_is_that_of_the_nearest_turn_and_the_weighted_hits() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        query, hits = unit(rng.normal(size=(5, DIM))), unit(rng.normal(size=(3, DIM)))
        weights = rng.uniform(0.1, 1, 3)
        sums = [
            turn.astype(float) + sum(w * hit for w, hit in zip(weights, hits.astype(float), strict=True))
            for turn in query
        ]
        longest = max(
            sums, key=lambda each: float(np.linalg.norm(each))
        )  # the turn nearest to the hits makes the longest sum
        assert np.abs(mean_vector(query, hits, weights) - longest / np.linalg.norm(longest)).max() < 1e-6


def test_both_searches_are_put_together(tmp_path: Path) -> None:
    write_world(tmp_path, 6)
    items, rng = items_of(tmp_path, 6), np.random.default_rng(4)
    gallery, query = Gallery(items, unit(rng.normal(size=(6, DIM))), 3), unit(rng.normal(size=(1, DIM)))
    first = gallery.search(query[0])
    verified = first[2].item
    found = expanded(Again(query, gallery.search, gallery.stored), first, {verified.key: 0.7})
    wanted = unit(query[0] + 0.7 * gallery.vectors[gallery.row[verified.id]])
    assert np.abs(gallery.asked[1] - wanted).max() < 1e-6
    ids = [hit.item.id for hit in found.hits]
    assert ids[:3] == [hit.item.id for hit in first] and len(set(ids)) == len(ids) > 3
    assert set(ids) == {hit.item.id for hit in (*first, *gallery.search(wanted))}
    for hit in found.hits:  # what they say is how much they are like the query, and not like the mean
        vector = gallery.vectors[gallery.row[hit.item.id]]
        assert hit.score == pytest.approx(float(query[0] @ vector), abs=1e-6)
        assert found.nearness[hit.item.id] == pytest.approx(float(wanted @ vector), abs=1e-6)
    new = found.candidates({hit.item.key for hit in first}, 1)
    assert len(new) == 1 and new[0].item.id in set(ids[3:])
    assert found.nearness[new[0].item.id] == max(found.nearness[id] for id in ids[3:])


@pytest.fixture
def strip(tmp_path: Path) -> tuple[Query, Gallery, NDArray[np.float32]]:
    """Four pictures of a strip that overlap, and two of other ground before them. The query shows what frames 3 and 4
    do; its vector is nearer to the other ground, then to frame 3, and that of frame 4 is near frame 3's."""
    write_world(tmp_path, 6)
    ground = rough(9, 1200, 360)
    for frame in range(1, 7):
        left = 140 * (frame - 1)
        ground.crop((left, 0, left + 480, 360)).save(tmp_path / f"photos/a_100/a_100_{frame:04d}.jpg", quality=92)
    for frame in (1, 2):  # elsewhere
        rough(frame, 480, 360).save(tmp_path / f"photos/a_100/a_100_{frame:04d}.jpg", quality=92)
    ground.crop((300, 40, 700, 320)).save(tmp_path / "query.png")
    vectors = np.zeros((6, DIM))
    for n in range(6):
        vectors[n, [n, n + 1]] = 1
    vectors[:2] = np.eye(DIM)[[10, 11]]
    vectors[3, :4] = 0, 0, 0.6, 1
    query = unit(np.eye(DIM)[2:3] + 0.8 * np.eye(DIM)[10:11] + 0.75 * np.eye(DIM)[11:12])
    return Query(str(tmp_path / "query.png")), Gallery(items_of(tmp_path, 6), unit(vectors), 3), query


@pytest.mark.parametrize("expand", [False, True])
def test_neighbours_of_a_verified_hit_are_found_and_verified(
    strip: tuple[Query, Gallery, NDArray[np.float32]], tmp_path: Path, expand: bool
) -> None:
    query, gallery, vector = strip
    first = gallery.search(vector[0])
    assert [hit.item.frame for hit in first] == [1, 2, 3]
    again = Again(vector, gallery.search, gallery.stored)
    asked = Results("c", None, (Result(query, first, again=again),))
    with Verifier.below(tmp_path / "state", 2**30) as verifier:
        found = rerank(asked, verifier, Originals.of(tmp_path / "data_key.json", tmp_path), Reranking(3, expand=expand))
    (result,) = found.results
    verified = {hit.item.frame for hit in result.hits if result.verifications[hit.item.key].verified}
    assert result.again is None and ("expand" in found.timings) is expand
    assert verified == ({3, 4} if expand else {3}) and len(gallery.asked) == 1 + expand
    assert {hit.item.frame for hit in result.hits[: len(verified)]} == verified
    assert [hit.rank for hit in result.hits] == list(range(1, len(result.hits) + 1))
    if expand:
        others = [hit.item.frame for hit in result.hits if hit.item.frame not in verified]
        assert others == [1, 2] and result.hits[-1].score == pytest.approx(first[1].score)


def test_nothing_is_asked_again_where_nothing_is_verified(
    strip: tuple[Query, Gallery, NDArray[np.float32]], tmp_path: Path
) -> None:
    query, gallery, vector = strip
    first = gallery.search(vector[0])[:2]
    asked = Results("c", None, (Result(query, first, again=Again(vector, gallery.search, gallery.stored)),))
    with Verifier.below(tmp_path / "state", 2**30) as verifier:
        found = rerank(asked, verifier, Originals.of(tmp_path / "data_key.json", tmp_path), Reranking(3, expand=True))
    assert found.results[0].match is False and len(gallery.asked) == 1 and len(found.results[0].hits) == 2


def test_commands_search_again(tmp_path: Path) -> None:
    """By a picture, by a stored item and in an evaluation, which measures it beside plain re-ranking."""
    write_world(tmp_path, 4)
    assert (
        run("ingest", "dataset", "d", "--model", "efficientnet_lite0", "--input-size", 64, "--json").json["embedded"]
        == 4
    )
    rough(3, 480, 360).crop((60, 60, 420, 320)).save("query.png")
    for asked in (("image", "query.png"), ("item", "image/d/a_100/0003"), ("dataset", "d", "--limit", 1)):
        answer = run("query", *asked, "-k", 2, "--rerank", "expanded", "--rerank-depth", 2, "--json").json
        assert "expand" in answer["timings"] and len(answer["queries"][0]["hits"]) == 2, asked
    Path("pairs.csv").write_text(
        "query,item\nimage/d/a_100/0001,image/d/a_100/0002\na_100/a_100_0001.jpg,image/d/a_100/0002\n"
    )
    measured = ("--truth", "pairs.csv", "--rerank", "expanded", "--rerank-depth", 2, "--json")
    for queries in (("d",), ("--pictures", Path("photos/a_100/a_100_0001.jpg"))):
        outcome = run("query", "evaluate", *queries, *measured)
        assert outcome.code == 0, outcome.err
        strategies = outcome.json["strategies"]
        assert [each["name"] for each in strategies] == ["embedding", "geometric", "expanded"]
    assert "--rerank expanded cannot be used with --server" in run(
        "query", "image", "query.png", "--rerank", "expanded", "--server", "127.0.0.1:9"
    ).error(2)
