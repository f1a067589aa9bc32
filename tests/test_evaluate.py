"""`query evaluate`: figures of a small world worked out by hand, what counts as a query and as an answer, and every output."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from numpy.typing import NDArray
from pictures import write_dataset
from PIL import Image

from outcrop.query.answers import Result, Results
from outcrop.query.evaluation.evaluate import evaluate, hits_for
from outcrop.query.evaluation.figures import Evaluation
from outcrop.query.evaluation.gallery import read_gallery
from outcrop.query.evaluation.strategies import in_steps
from outcrop.query.evaluation.truth import Facts, GpsTruth, OwnTruth, Truth
from outcrop.query.evaluation.truth_files import PairsTruth
from outcrop.query.search import query_dataset, query_items
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.evidence import evidence
from outcrop.query.verification.geometry import GeometricMatch
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, image_key, reference_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SPACE = Space(model="circle", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=2)
METRE = 360 / 40_030_228.88  # degrees of a meridian
PHOTOS = {1: (0, 0), 2: (40, 10), 3: (10, 20), 4: (5, 200), 5: (90, 210)}
"""Frame: the angle of its vector in degrees, and how many metres north it was taken."""


def on_circle(angles: Iterable[float]) -> NDArray[np.float32]:
    turns = np.radians(list(angles))
    return np.stack((np.cos(turns), np.sin(turns)), axis=1).astype(np.float32)


def photo(frame: int, **values: Any) -> Item:
    facts = {"latitude": 37.5 + PHOTOS[frame][1] * METRE, "longitude": 127.0, "altitude": 150.0 if frame < 4 else 300.0}
    return Item(image_key("d", "c", frame), Kind.IMAGE, "d", "c", frame=frame, **facts | values)


def reference(frame: int, rotation: float) -> Item:
    key = reference_key("d", "c", frame, rotation, 0)
    return Item(key, Kind.REFERENCE, "d", "c", frame=frame, rotation=rotation)


@pytest.fixture
def photos(lite_uri: str) -> Iterable[Collection]:
    """Five photographs in a row, with vectors on a circle."""
    with Store.connect(lite_uri) as store:
        collection = Collection.ensure(store, "outcrop", SPACE)
        collection.upsert([photo(n) for n in PHOTOS], on_circle(angle for angle, _ in PHOTOS.values()))
        yield collection


def measure(
    collection: Collection, truth: Truth, *, kind: Kind = Kind.IMAGE, depth: int = 100, **more: Any
) -> Evaluation:
    gallery = read_gallery(collection)
    answers = query_dataset("d", collection, hits_for(depth, gallery), kind=kind, group="none")
    return evaluate(({"embedding": a} for a in answers), truth, gallery, depth=depth, **more)


def firsts(found: Evaluation) -> dict[str, float]:
    return {outcome.query.name: outcome.first for outcome in found.strategies[0].outcomes}


def test_a_world_worked_out_by_hand(photos: Collection) -> None:
    found = measure(photos, GpsTruth(25), cutoffs=(1, 2, 5))
    outcomes = {o.query.item.frame: o for o in found.strategies[0].outcomes if o.query.item is not None}
    # The order of the others by angle, the relevant ones (within 25 m) in capitals:
    assert outcomes[1].ranks == (2, 3)  # 4 THREE TWO 5
    assert outcomes[2].ranks == (1, 3)  # THREE 4 ONE 5
    assert outcomes[3].ranks == (2, 3)  # 4 ONE TWO 5
    assert outcomes[4].ranks == (4,)  # 1 3 2 FIVE
    assert outcomes[5].ranks == (3,)  # 2 3 FOUR 1
    figures = found.strategies[0].overall
    assert [figures.recall(k).value for k in (1, 2, 3, 5)] == pytest.approx([1 / 5, 3 / 5, 4 / 5, 1])
    assert figures.mean_average_precision.value == pytest.approx(
        ((1 / 2 + 2 / 3) / 2 + (1 + 2 / 3) / 2 + (1 / 2 + 2 / 3) / 2 + 1 / 4 + 1 / 3) / 5
    )
    assert figures.median_rank.value == 2
    for estimate in (*figures.curve, figures.mean_average_precision, figures.median_rank):
        assert estimate.low <= estimate.value <= estimate.high
    assert found.gallery_parents == 5 and not found.left_out and found.own_counted is False
    wrong, right = outcomes[1].wrong, outcomes[1].right
    assert (
        wrong is not None and wrong.item.frame == 4 and right is not None and (right.item.frame, right.rank) == (3, 2)
    )
    assert outcomes[2].wrong is None
    assert [o.query.item.frame for o in found.strategies[0].worst(3) if o.query.item] == [4, 5, 1]


def test_splits_hold_the_figures_of_their_own_queries(photos: Collection) -> None:
    found = measure(photos, GpsTruth(25), cutoffs=(1, 2, 5))
    (low, lower), (high, higher) = found.strategies[0].splits["altitude"]
    assert (low, high) == ("150 m", "300 m") and (lower.queries, higher.queries) == (3, 2)
    assert lower.recall(2).value == 1 and higher.recall(2).value == 0 and higher.median_rank.value == 3.5
    assert [name for name, _ in found.strategies[0].splits["dataset"]] == ["d"]


def test_ignored_answers_take_no_rank(photos: Collection) -> None:
    # Within 25 m relevant, within 205 m ignored: for the first photograph 4 (at 200 m) no longer stands before 3.
    found = measure(photos, GpsTruth(25, 205), cutoffs=(1,))
    assert firsts(found)[image_key("d", "c", 1)] == 1
    assert firsts(found)[image_key("d", "c", 4)] == 1  # only 5 is left


def test_own_photograph_is_left_out_or_counted(photos: Collection) -> None:
    photos.upsert([reference(1, 0), reference(1, 90)], on_circle([1, 91]))
    # Left out, with all that was made of it; counted, the reference at 1 degree answers for it (never the item itself).
    assert firsts(measure(photos, GpsTruth(25)))[image_key("d", "c", 1)] == 2
    counted = measure(photos, GpsTruth(25), count_own=True)
    assert firsts(counted)[image_key("d", "c", 1)] == 1
    # Photographs of which nothing else is stored cannot be answers to themselves, and are not missing either.
    outcomes = {o.query.name: o for o in counted.strategies[0].outcomes}
    assert outcomes[image_key("d", "c", 1)].relevant == 3 and outcomes[image_key("d", "c", 2)].relevant == 2


def test_references_of_one_photograph_are_one_answer(photos: Collection) -> None:
    photos.upsert([reference(4, turn) for turn in (0, 90, 180, 270)], on_circle([2, 3, 4, 6]))
    # Four of them stand before the relevant photograph 3, and count as one.
    assert firsts(measure(photos, GpsTruth(25)))[image_key("d", "c", 1)] == 2
    # Even where the ranking is short, enough hits are asked for.
    assert firsts(measure(photos, GpsTruth(25), depth=2, cutoffs=(1, 2)))[image_key("d", "c", 1)] == 2


def test_the_same_photograph_by_its_references(photos: Collection) -> None:
    photos.upsert([reference(2, 0), reference(2, 90), reference(5, 30)], on_circle([41, 170, 20]))
    found = measure(photos, OwnTruth(), kind=Kind.REFERENCE, cutoffs=(1, 5))
    assert found.own_counted
    assert firsts(found) == {
        reference_key("d", "c", 2, 0, 0): 1,  # its photograph, one degree away
        reference_key("d", "c", 2, 90, 0): 2,  # behind 5 (80 degrees away): its other reference, at 129
        reference_key("d", "c", 5, 30, 0): 5,  # its photograph is 70 degrees away, all others at most 20
    }
    assert [name for name, _ in found.strategies[0].splits["rotation"]] == ["0°", "30°", "90°"]


def test_nothing_is_dropped_in_silence(photos: Collection) -> None:
    photos.upsert([photo(4, latitude=999.0, longitude=999.0)], on_circle([5]), replacing=True)
    found = measure(photos, GpsTruth(25))
    assert found.left_out == {
        image_key("d", "c", 4): "its place is unknown (no GPS)",
        image_key("d", "c", 5): "the gallery holds nothing relevant for it",
    }
    assert found.strategies[0].overall.queries == 3
    assert firsts(found)[image_key("d", "c", 1)] == 1  # what cannot be judged takes no rank
    told = found.as_json()["queries"]
    assert told["counted"] == 3 and [line["query"] for line in told["left_out"]] == sorted(found.left_out)


def test_a_query_without_an_answer_is_a_miss(photos: Collection) -> None:
    gallery = read_gallery(photos)
    asked = query_items([image_key("d", "c", 2), image_key("d", "c", 1)], photos, 6)
    silent = Results("outcrop", None, tuple(Result(result.query) for result in asked.results))
    found = evaluate([{"all": asked, "none": silent}], GpsTruth(25), gallery, cutoffs=(1, 2))
    none = found.strategies[1]
    assert none.unanswered == 2 and none.overall.recall(2).value == 0
    assert none.overall.median_rank.value == math.inf and none.overall.mean_average_precision.value == 0
    assert none.gain is not None and none.gain["recall@2"].value == -1
    assert none.outcomes[0].right is None and none.outcomes[0].wanted.frame == 2
    assert found.as_json()["strategies"][1]["overall"]["median_rank"] == {"value": None, "low": None, "high": None}


def test_strategies_are_compared_query_by_query(photos: Collection) -> None:
    gallery = read_gallery(photos)
    keys = [image_key("d", "c", n) for n in PHOTOS]
    plain = query_items(keys, photos, 6)
    # Another way to ask, which turns every ranking round.
    turned = Results("outcrop", None, tuple(Result(r.query, r.hits[::-1]) for r in plain.results[::-1]))
    found = evaluate([{"plain": plain, "turned": turned}], GpsTruth(25), gallery, cutoffs=(1, 2))
    first, second = found.strategies
    gain = second.gain
    assert first.gain is None and gain is not None
    assert gain["recall@2"].value == pytest.approx(second.overall.recall(2).value - first.overall.recall(2).value)
    assert [a.query.name for a in first.outcomes] == [b.query.name for b in second.outcomes]
    same = evaluate([{"a": plain, "b": plain}], GpsTruth(25), gallery, cutoffs=(1,)).strategies[1].gain
    assert same is not None and all((e.value, e.low, e.high) == (0, 0, 0) for e in same.values())


def test_what_one_strategy_could_not_ask_counts_for_none(photos: Collection) -> None:
    gallery = read_gallery(photos)
    plain = query_items([image_key("d", "c", n) for n in PHOTOS], photos, 6)
    broken = Results(
        "outcrop", None, (Result(plain.results[0].query, error="c_0001.jpg is damaged"), *plain.results[1:])
    )
    found = evaluate([{"a": plain, "b": broken}], GpsTruth(25), gallery)
    assert [s.overall.queries for s in found.strategies] == [4, 4]
    assert found.left_out == {image_key("d", "c", 1): "c_0001.jpg is damaged"} and len(found.unreadable) == 1


def proved(inliers: int) -> Verification:
    return Verification.of(
        # As where the whole query is shown, and every inlier is exact.
        GeometricMatch(
            50, inliers, "sift", homography=((1, 0, 0), (0, 1, 0), (0, 0, 1)), evidence=evidence(inliers, 1.0)
        ),
        Path("p.jpg"),
    )


def test_re_ranked_answers_stand_by_their_evidence(photos: Collection) -> None:
    """Their embedding scores may be out of order or equal; only what geometry too cannot tell apart is a tie."""
    gallery = read_gallery(photos)
    asked = query_items([image_key("d", "c", 1)], photos, 6)
    hits = {hit.item.frame: hit for hit in asked.results[0].hits}

    def first(inliers: dict[int, int], scores: dict[int, float] = {}) -> float:  # noqa: B006
        ranked = tuple(replace(hits[n], score=scores.get(n, hits[n].score)) for n in inliers)
        verifications = {image_key("d", "c", n): proved(count) for n, count in inliers.items()}
        result = Result(asked.results[0].query, ranked, verifications=verifications, match=True)
        found = evaluate([{"a": Results("outcrop", None, (result,))}], GpsTruth(15), gallery)  # right is only 2
        right = found.strategies[0].outcomes[0].right
        assert right is not None and right.inliers == inliers[2]
        return found.strategies[0].outcomes[0].first

    same = {2: 0.5, 3: 0.5, 4: 0.5}
    assert first({2: 400, 3: 399, 4: 0}, same) == 1  # confidence hardly tells 400 inliers from 399, the order does
    assert first({2: 400, 3: 400, 4: 0}, same) == 2  # a tie
    assert first({2: 400, 3: 400, 4: 0}, {2: 0.6, 3: 0.5}) == 1
    assert first({3: 30, 2: 20, 4: 0}) == 2
    assert first({4: 5, 2: 11, 3: 0}, same) == 3  # below 12 inliers nothing is verified: all three tie


def test_what_is_no_answer_is_not_re_ranked(photos: Collection) -> None:
    photos.upsert([reference(1, 0), reference(2, 90)], on_circle([1, 40]))
    gallery = read_gallery(photos)
    asked = query_items([image_key("d", "c", 1), reference_key("d", "c", 2, 90, 0)], photos, 10, group="none")
    looked: list[list[str]] = []

    def step(results: Results) -> Results:
        looked.extend([hit.item.key for hit in result.hits] for result in results.results)
        return results

    batches = list(
        in_steps({"embedding": [replace(asked, timings={"search": 1.0})]}, gallery, False, {"geometric": step})
    )
    assert len(batches) == 1 and list(batches[0]) == ["embedding", "geometric"]
    assert not any("/c/0001" in key for key in looked[0]) and len(looked[0]) == 5
    assert not any("/c/0002" in key for key in looked[1]) and len(looked[1]) == 5
    own = next(in_steps({"embedding": [asked]}, gallery, True, {}))["embedding"]
    assert [len(result.hits) for result in own.results] == [6, 6]  # only the item itself is gone
    many = replace(asked, results=asked.results * 20, timings={"search": 1.0})
    parts = list(in_steps({"embedding": [many]}, gallery, False, {}))
    assert sum(len(part["embedding"].results) for part in parts) == 40 and len(parts) > 1
    assert sum(sum(part["embedding"].timings.values()) for part in parts) == 1.0


def test_perfect_and_absent(photos: Collection) -> None:
    gallery = read_gallery(photos)
    one, four = image_key("d", "c", 1), image_key("d", "c", 4)
    truth = PairsTruth(Path("p.csv"), {one: {four: 1.0}}, {one: Facts()})
    found = evaluate([{"a": query_items([image_key("d", "c", 1)], photos, 6)}], truth, gallery)
    figures = found.strategies[0].overall
    assert (figures.recall(1).value, figures.mean_average_precision.value, figures.median_rank.value) == (1, 1, 1)
    assert found.strategies[0].worst(5) == []
    with pytest.raises(InputError, match=r"no query can be counted: not in p\.csv"):
        evaluate([{"a": query_items([image_key("d", "c", 2)], photos, 6)}], truth, gallery)


def test_rankings_that_ignored_answers_filled_are_named(photos: Collection) -> None:
    gallery = read_gallery(photos)
    asked = query_items([image_key("d", "c", 1)], photos, 6)
    found = evaluate([{"a": asked}], GpsTruth(15, 205), gallery, depth=3, cutoffs=(1, 3))
    assert found.short == 1 and found.strategies[0].outcomes[0].places == 1  # two of the three ranked are ignored
    assert evaluate([{"a": asked}], GpsTruth(15), gallery, depth=3, cutoffs=(1, 3)).short == 0


@pytest.mark.parametrize("cutoffs", [(), (0, 5), (1, 101)])
def test_cutoffs_beyond_the_ranking(photos: Collection, cutoffs: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="from 1 to --depth"):
        measure(photos, GpsTruth(25), cutoffs=cutoffs)


def test_own_cannot_be_left_out_where_it_is_sought(photos: Collection) -> None:
    with pytest.raises(InputError, match="cannot be left out"):
        measure(photos, OwnTruth(), count_own=False)


# -- the command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(lite_uri: str, photos: Collection) -> None:
    """The five photographs, in a collection that is closed: the command opens it itself."""
    photos.store.close()


def test_json_says_what_was_measured_and_how(stored: None) -> None:
    answer = run(
        "query", "evaluate", "d", "--truth", "gps", "--within", 25, "--at", "1,2,5", "--seed", 4, "--json"
    ).json
    assert answer["truth"] == {
        "kind": "gps", "text": "relevant: taken within 25 m of the query by GPS", "within": 25.0, "ignore_within": 25.0,
    }  # fmt: skip
    assert answer["gallery"] == {"items": 5, "parents": 5} and answer["own"] == "left out" and answer["depth"] == 100
    assert answer["bootstrap"] == {"resamples": 2000, "seed": 4, "level": 0.95} and answer["cutoffs"] == [1, 2, 5]
    (strategy,) = answer["strategies"]
    assert strategy["name"] == "embedding" and strategy["gain"] is None and strategy["unanswered"] == 0
    assert strategy["overall"]["queries"] == 5 and strategy["overall"]["recall@2"]["value"] == 0.6
    assert strategy["overall"]["mAP"]["value"] == 0.516667 and strategy["overall"]["median_rank"]["value"] == 2
    assert [line["class"] for line in strategy["splits"]["altitude"]] == ["150 m", "300 m"]
    assert {line["query"]: line["first"] for line in strategy["per_query"]} == {
        image_key("d", "c", n): first for n, first in zip(PHOTOS, (2, 1, 2, 4, 3), strict=True)
    }
    assert strategy["per_query"][0]["answer"] == image_key("d", "c", 3)
    again = run("query", "evaluate", "d", "--truth", "gps", "--at", "1,2,5", "--seed", 4, "--json").json["strategies"][
        0
    ]
    assert again["overall"] == strategy["overall"] and again["splits"] == strategy["splits"]


def test_table(stored: None) -> None:
    outcome = run("query", "evaluate", "d", "--truth", "gps", "--at", "1,2,5")
    assert outcome.code == 0 and "60.0 (" in outcome.out and "altitude 300 m" in outcome.out
    assert "5 queries counted, 0 left out" in outcome.out and "relevant: taken within 25 m" in outcome.out
    lonely = run("query", "evaluate", "d", "--truth", "gps", "--within", 15)
    assert f"left out: {image_key('d', 'c', 1)}" not in lonely.err
    assert run("query", "evaluate", "d", "--truth", "gps", "--limit", 2, "--json").json["queries"]["counted"] == 2


def test_a_search_that_cannot_give_enough_hits_is_named(stored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ("query", "evaluate", "d", "--truth", "gps", "--at", "1,2")
    assert "may end before" not in run(*ask).err
    monkeypatch.setattr("outcrop.query.evaluation.evaluate.MAX_HITS", 50)  # a photograph has one row: 101 are wanted
    assert "50 hits at most: a ranking may end before 100 parents" in run(*ask).err
    assert "--depth 49" in run(*ask).err and "may end before" not in run(*ask, "--depth", 49).err


def test_pairs_and_a_narrower_gallery(stored: None) -> None:
    lines = ["query,item,overlap", *(f"{image_key('d', 'c', n)},{image_key('d', 'c', 5)},0.3" for n in (1, 2, 3))]
    Path("pairs.csv").write_text("\n".join(lines))
    everything = run("query", "evaluate", "d", "--truth", "pairs.csv", "--json")
    assert everything.json["strategies"][0]["overall"]["recall@5"]["value"] == 1
    assert everything.json["strategies"][0]["overall"]["recall@1"]["value"] == 0
    assert "left out: image/d/c/0004: not in pairs.csv" in everything.err
    assert len(everything.json["queries"]["left_out"]) == 2
    high = run("query", "evaluate", "d", "--truth", "pairs.csv", "--where", "altitude=300", "--json").json
    assert high["gallery"]["parents"] == 2 and high["strategies"][0]["overall"]["median_rank"]["value"] == 2
    strict = run("query", "evaluate", "d", "--truth", "pairs.csv", "--relevant", 0.5, "--ignore", 0.4)
    assert "nothing relevant" in strict.error(3)


def test_page_is_self_contained_and_shows_the_failures(stored: None) -> None:
    outcome = run("query", "evaluate", "d", "--truth", "gps", "--report", "page.html", "--worst", 2, "--json")
    assert outcome.code == 0 and "page.html" in outcome.err
    page = Path("page.html").read_text()
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("<svg") == 3  # all queries, and two altitudes
    assert page.count("best wrong answer</b>") == 2 and "the 2 worst of them are shown" in page
    assert "first right answer</b>" in page and image_key("d", "c", 4) in page and "right answer at rank 4" in page
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"None:", "", page))
    for path in re.findall(r' d="([^"]+)"', page):
        assert re.fullmatch(r"[MLHVhvalzZ0-9 .-]+", path), path


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("d", "--truth", "nowhere.csv"), "--truth must be own, gps, category, a .csv or a .json"),
        (("d", "--truth", "gps", "--at", "1,x"), "must be a list of ranks"),
        (("d", "--truth", "gps", "--at", "1,200"), "from 1 to --depth"),
        (("d", "--truth", "gps", "--within", "-3"), "metres above 0"),
        (("d", "--truth", "gps", "--relevant", "0.1", "--ignore", "0.2"), "0 < ignore <= relevant"),
        (("d", "--truth", "category", "--levels", "0"), "--levels must be 1 or more"),
        (("d", "--truth", "category"), "its category is unknown"),
        (("d", "--truth", "gps", "--query-kind", "photo"), "--query-kind must be one of"),
        (("e", "--truth", "gps"), "no image of dataset 'e'"),
        (("d", "--truth", "gps", "--where", "dataset=e"), "holds no dataset 'e'"),
        (("d", "--truth", "own"), "no query can be counted"),
        (("d", "--truth", "gps", "--report", "nowhere/r.html"), "does not exist"),
    ],
)
def test_bad_input(stored: None, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in run("query", "evaluate", *arguments).error(3)


def test_one_of_dataset_and_pictures(stored: None) -> None:
    assert "one of them" in run("query", "evaluate", "--truth", "gps").error(2)
    assert "--turns rotates pictures" in run("query", "evaluate", "d", "--truth", "gps", "--turns", 4).error(2)
    assert "one of them" in run("query", "evaluate", "d", "--pictures", ".", "--truth", "gps").error(2)


# -- pictures ------------------------------------------------------------------------------------------------------------


def test_pictures_against_pairs(tmp_path: Path) -> None:
    """Crops of photographs as queries; one that is no picture, one that the truth does not know, one that is the very file."""
    write_dataset(tmp_path, {"a_300": 4, "a_150": 3}, name="d", root="images")
    assert run("ingest", "dataset", "d", "--model", "efficientnet_lite0", "--json").code == 0
    lines = ["query,item"]
    for capture, frames in (("a_300", 4), ("a_150", 3)):
        for frame in range(1, frames + 1):
            file = Path("asked") / f"{capture}_{frame}.jpg"
            file.parent.mkdir(exist_ok=True)
            with Image.open(f"images/{capture}/{capture}_{frame:04d}.jpg") as picture:
                picture.crop((40, 30, 280, 210)).save(file, quality=90)
            lines.append(f"{file},{image_key('d', capture, frame)}")
    Path("asked/stranger.jpg").write_bytes(Path("asked/a_300_1.jpg").read_bytes())
    Path("asked/broken.jpg").write_bytes(b"no picture")
    very = Path("images/a_300/a_300_0001.jpg")
    lines.append(f"{very},{image_key('d', 'a_300', 1)}")
    Path("truth.csv").write_text("\n".join(lines))
    asked = [
        "--pictures",
        "asked",
        "--pictures",
        very,
        *["--truth", "truth.csv", "--at", "1,7", "--rerank", "geometric", "--turns", 4, "--report", "p.html", "--json"],
    ]
    outcome = run("query", "evaluate", *asked)
    assert "1 of 10 query pictures could not be read" in outcome.error(4)
    answer = outcome.json
    reasons = {Path(line["query"]).name: line["reason"] for line in answer["queries"]["left_out"]}
    assert set(reasons) == {"broken.jpg", "stranger.jpg", "a_300_0001.jpg"}
    assert reasons["a_300_0001.jpg"] == "the gallery holds nothing relevant for it"  # the photograph itself is left out
    assert answer["queries"]["counted"] == 7 and answer["strategies"][0]["overall"]["recall@7"]["value"] == 1
    assert {line["class"]: line["queries"] for line in answer["strategies"][0]["splits"]["dataset"]} == {"d": 7}
    plain, geometric, turned, both = answer["strategies"]
    assert (turned["name"], both["name"]) == ("4 turns", "4 turns, geometric")
    assert turned["overall"]["queries"] == 7 and both["overall"]["recall@1"]["value"] == 1
    assert geometric["overall"]["recall@1"]["value"] == 1 and geometric["name"] == "geometric"
    assert geometric["gain"]["recall@1"]["value"] == pytest.approx(1 - plain["overall"]["recall@1"]["value"], abs=1e-6)
    assert geometric["seconds"] > plain["seconds"] > 0
    failed = sum(line["first"] > 1 for line in both["per_query"])
    page = Path("p.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 * failed and "broken.jpg" in page
    counted = run("query", "evaluate", *asked[2:], "--count-own").json
    assert counted["queries"]["counted"] == 1 and counted["strategies"][0]["overall"]["recall@1"]["value"] == 1
