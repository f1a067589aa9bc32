"""How deep re-ranking looks: on while the last candidates show the query's ground, and never beyond its reach."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from commands import run
from test_features import rough
from test_rerank import items_of, write_world

import outcrop
from outcrop.query.answers import Hit, Query, Result, Results
from outcrop.query.deepening import SHOWN, Steps
from outcrop.query.expansion import Again
from outcrop.query.rerank import Reranking, rerank
from outcrop.query.rerank_plan import RerankPlan
from outcrop.query.service.asked import Asked
from outcrop.query.service.engine import Engine
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.originals import Originals
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.item import Item, Kind
from outcrop.schema.settings import Settings

SAME, ALL = 6, 9
"""Frames 1 to 6 show the query's ground, 7 to 9 other ground."""


@pytest.fixture
def site(tmp_path: Path) -> list[Item]:
    write_world(tmp_path, ALL)
    ground = rough(20, 640, 360)
    for frame in range(1, SAME + 1):
        left = 20 * frame
        ground.crop((left, 0, left + 480, 360)).save(tmp_path / f"photos/a_100/a_100_{frame:04d}.jpg", quality=92)
    ground.crop((140, 40, 460, 320)).save(tmp_path / "query.png")
    rough(99, 320, 280).save(tmp_path / "elsewhere.png")
    return items_of(tmp_path, ALL)


def asked(
    folder: Path,
    items: list[Item],
    how: Reranking,
    *,
    order: tuple[int, ...],
    at_hand: int,
    picture: str = "query.png",
    workers: int = 0,
) -> tuple[Result, list[int]]:
    """The re-ranked answer where a search gives frames in this order, the first few at once; and what was searched for beyond."""
    hits = tuple(Hit(n, 1 - n / 100, items[frame - 1]) for n, frame in enumerate(order, 1))
    searched: list[int] = []

    def deeper(count: int) -> tuple[Hit, ...]:
        searched.append(count)
        return hits[:count]

    again = Again(None, lambda vector: (), lambda ids: None, deeper)  # type: ignore[arg-type,return-value]  # nothing asks for vectors
    results = Results("c", None, (Result(Query(str(folder / picture)), hits[:at_hand], again=again),))
    with Verifier(workers=workers) as verifier:
        (result,) = rerank(results, verifier, Originals.of(folder / "data_key.json", folder), how).results
    return result, searched


def verified(result: Result) -> set[int | None]:
    return {hit.item.frame for hit in result.hits if result.verifications[hit.item.key].verified}


@pytest.mark.parametrize("workers", [1, 3])
def test_matching_goes_on_while_the_last_ones_show_the_ground(tmp_path: Path, site: list[Item], workers: int) -> None:
    """Two at a time, to those whose second one shows other ground: the seventh and the eighth."""
    order = tuple(range(1, ALL + 1))
    result, searched = asked(tmp_path, site, Reranking(2), order=order, at_hand=2, workers=workers)
    assert result.matched == 8 and verified(result) == {1, 2, 3, 4, 5, 6}
    assert searched == [4, 8] and [hit.rank for hit in result.hits] == list(range(1, 9))
    whole, unsearched = asked(tmp_path, site, Reranking(2), order=order, at_hand=ALL, workers=workers)
    assert (whole.matched, verified(whole), unsearched) == (8, verified(result), [])
    assert whole.hits[:8] == result.hits and "--rerank-depth" in whole.verifications[site[8].key].reason


def test_its_reach_bounds_the_work(tmp_path: Path, site: list[Item]) -> None:
    order = tuple(range(1, ALL + 1))
    for reach, matched in ((1, 2), (2, 4), (3, 6)):
        result, _ = asked(tmp_path, site, Reranking(2, reach), order=order, at_hand=ALL)
        assert result.matched == len(verified(result)) == matched, reach
    everything, searched = asked(tmp_path, site, Reranking(2, 64), order=order[:SAME], at_hand=2)
    assert everything.matched == SAME and searched == [4, 8, 12]  # the last brings nothing new


def test_where_nothing_is_left_the_query_is_not_looked_at_again(
    tmp_path: Path, site: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    features_of = Verifier.features_of

    def counted(self: Verifier, files: Mapping[Path, str]) -> dict[Path, LocalFeatures | str]:
        read.append(len(files))
        return features_of(self, files)

    monkeypatch.setattr(Verifier, "features_of", counted)
    result, _ = asked(tmp_path, site, Reranking(2), order=(1, 2), at_hand=2)
    assert (result.matched, verified(result), read) == (2, {1, 2}, [3])


def test_nothing_more_is_looked_at_where_the_last_ones_show_nothing(tmp_path: Path, site: list[Item]) -> None:
    order = (1, 2, 8, 9, 3, 4, 5, 6, 7)
    last, searched = asked(tmp_path, site, Reranking(4), order=order, at_hand=4)
    assert (last.matched, verified(last), searched) == (4, {1, 2}, [])
    none, searched = asked(tmp_path, site, Reranking(4), order=tuple(range(1, 10)), at_hand=4, picture="elsewhere.png")
    assert (none.matched, none.match, searched) == (4, False, [])
    assert "none of 4 candidates is verified" in none.no_match


def test_the_last_candidates_of_a_step_decide(tmp_path: Path, site: list[Item]) -> None:
    found, _ = asked(tmp_path, site, Reranking(1, 1), order=(1,), at_hand=1)
    sure = found.verifications[site[0].key]
    assert sure.match is not None and sure.match.evidence > SHOWN
    edge = replace(sure, match=replace(sure.match, evidence=SHOWN - 0.01))
    steps, one, none = Steps(2), site[0], Verification()
    tile = replace(one, kind=Kind.TILE)
    for items, leads in (
        ([(one, none), (one, sure)], True),
        ([(one, sure), (one, none)], False),  # it is not among the last half
        ([(one, sure), (one, edge)], False),  # it shares an edge with the query
        ([(one, sure), (tile, sure)], False),
    ):
        parents = {str(n): item for n, (item, _) in enumerate(items)}
        assert steps.go_on(parents, {str(n): each for n, (_, each) in enumerate(items)}) is leads


def test_commands_library_and_evaluation_look_as_deep(site: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """All the frames of one ground are found from a depth of two; the setting keeps to it."""
    registry = json.loads(Path("data_key.json").read_text())
    registry["datasets"]["d"]["images"]["a_100"] = {"frames": list(range(1, SAME + 1))}
    Path("data_key.json").write_text(json.dumps(registry))
    made = run("ingest", "dataset", "d", "--model", "efficientnet_lite0", "--input-size", 64, "--json")
    assert made.json["embedded"] == SAME, made.err
    geometric = ("--rerank", "geometric", "--rerank-depth", 2)
    for ask in (("image", "query.png"), ("item", "image/d/a_100/0003"), ("dataset", "d", "--limit", 1)):
        (query,) = run("query", *ask, *geometric, "-k", 4, "--json").json["queries"]
        assert query["matched"] == SAME and [hit["verified"] for hit in query["hits"]] == [True] * 4, ask
    assert "matched: 6 candidates with each query" in run("query", "image", "query.png", *geometric, "--explain").out
    Path("pairs.csv").write_text("query,item\nimage/d/a_100/0001,image/d/a_100/0006\n")
    evaluate = ("query", "evaluate", "d", "--truth", "pairs.csv", *geometric)
    outcome = run(*evaluate, "--json")
    assert outcome.code == 0, outcome.err
    strategies = {each["name"]: each for each in outcome.json["strategies"]}
    assert strategies["geometric"]["matched"] == 5 and "matched" not in strategies["embedding"]
    assert strategies["geometric"]["per_query"][0]["matched"] == 5
    assert (
        "geometric" in (told := run(*evaluate)).out + told.err
        and "(5 candidates matched with each)" in told.out + told.err
    )
    with monkeypatch.context() as patch:  # neither has a depth of its own
        patch.setattr(RerankPlan, "of", lambda *rest, **more: RerankPlan(Reranking(2)))
        with outcrop.open_collection() as collection:
            (result,) = outcrop.query_images(collection, "query.png", 4, rerank=True).results
            assert (result.matched, len(result.hits)) == (SAME, 4)
        engine = Engine(Settings())
        (result,) = engine.search(Asked(items=("image/d/a_100/0003",), rerank=True, k=4)).results
        engine.close()
        assert (result.matched, len(result.hits)) == (SAME - 1, 4)  # it leaves out the item itself
    monkeypatch.setenv("OUTCROP_RERANK_REACH", "1")
    (query,) = run("query", "image", "query.png", *geometric, "--json").json["queries"]
    assert query["matched"] == 2
