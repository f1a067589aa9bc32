"""`--rerank geometric`: verified candidates first, no match rather than a guess, and originals that are gone."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image
from test_features import rough

from outcrop.query.answers import Hit, Query, Result, Results, first_hits
from outcrop.query.rerank import Reranking, rerank
from outcrop.query.verification.confidence import MIN_INLIERS
from outcrop.query.verification.originals import Originals
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, image_key
from outcrop.schema.registry import read_registry


def write_world(folder: Path, pictures: int = 4) -> Path:
    """A dataset of pictures that geometry can tell apart; returns its registry."""
    (folder / "photos/a_100").mkdir(parents=True)
    for frame in range(1, pictures + 1):
        rough(frame, 480, 360).save(folder / f"photos/a_100/a_100_{frame:04d}.jpg", quality=92)
    registry = folder / "data_key.json"
    registry.write_text(json.dumps({"datasets": {"d": {"root": "photos", "images": {"a_100": pictures}}}}))
    return registry


def items_of(folder: Path, pictures: int = 4) -> list[Item]:
    """Items as an ingest would have made them."""
    items = []
    for frame in range(1, pictures + 1):
        source = f"a_100/a_100_{frame:04d}.jpg"
        stat = (folder / "photos" / source).stat()
        items.append(
            Item(
                image_key("d", "a_100", frame), Kind.IMAGE, "d", "a_100", frame=frame, source=source,
                source_size=stat.st_size, source_mtime_ns=stat.st_mtime_ns, source_digest=f"{frame:032x}",
            )
        )  # fmt: skip
    return items


def answer(query: Query, items: list[Item], scores: list[float]) -> Results:
    """What a search would have answered."""
    hits = tuple(Hit(rank, score, item) for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1))
    return Results("c", None, (Result(query, hits),), {"search": 0.25})


def reranked(folder: Path, results: Results, how: Reranking = Reranking()) -> Results:
    """Re-ranks as the command does."""
    originals = Originals.of(folder / "data_key.json", folder)
    with Verifier.below(folder / "state", 2**30) as verifier:
        return rerank(results, verifier, originals, how)


@pytest.fixture
def photo(tmp_path: Path) -> Query:
    """A query: the middle of the third picture, upside down. The dataset is written beside it."""
    write_world(tmp_path)
    with Image.open(tmp_path / "photos/a_100/a_100_0003.jpg") as whole:
        whole.crop((100, 80, 380, 290)).rotate(180).save(tmp_path / "query.png")
    return Query(str(tmp_path / "query.png"))


SCORES = [0.9, 0.8, 0.7, 0.6]


def test_the_verified_candidate_comes_first_and_the_rest_keep_their_order(photo: Query, tmp_path: Path) -> None:
    found = reranked(tmp_path, answer(photo, items_of(tmp_path), SCORES))
    (result,) = found.results
    assert [(hit.rank, hit.item.frame, hit.score) for hit in result.hits] == [
        (1, 3, 0.7),
        (2, 1, 0.9),
        (3, 2, 0.8),
        (4, 4, 0.6),
    ]
    assert result.match is True and result.no_match == ""
    best = result.verification(result.hits[0])
    assert best is not None and best.verified and best.match is not None and best.match.inliers >= 50
    assert best.original == tmp_path / "photos/a_100/a_100_0003.jpg"
    assert best.match.rotation == pytest.approx(180, abs=0.5)
    assert np.allclose(best.match.footprint, [(379.5, 289.5), (99.5, 289.5), (99.5, 79.5), (379.5, 79.5)], atol=2)
    combined = [result.verification(hit).combined(hit.score) for hit in result.hits]  # type: ignore[union-attr]
    assert combined == sorted(combined, reverse=True) and combined[0] > 0.9 > 0.05 >= combined[1]
    assert found.timings["search"] == 0.25 and min(found.timings["features"], found.timings["verify"]) > 0
    assert reranked(tmp_path, answer(photo, items_of(tmp_path), SCORES)).results == found.results


def test_depth_bounds_the_work(photo: Query, tmp_path: Path) -> None:
    (result,) = reranked(tmp_path, answer(photo, items_of(tmp_path), SCORES), Reranking(depth=2)).results
    assert [hit.item.frame for hit in result.hits] == [1, 2, 3, 4] and result.match is False
    reasons = [result.verification(hit).reason for hit in result.hits]  # type: ignore[union-attr]
    assert "--rerank-depth" in reasons[2] and "--rerank-depth" not in reasons[1]
    (kept,) = first_hits(reranked(tmp_path, answer(photo, items_of(tmp_path), SCORES), Reranking(depth=3)), 2).results
    assert [hit.item.frame for hit in kept.hits] == [3, 1] and len(kept.verifications) == 2


def test_references_share_the_match_of_their_photograph(photo: Query, tmp_path: Path) -> None:
    """References of turned crops are verified by the whole photograph; depth counts photographs."""
    photos = items_of(tmp_path)
    references = [
        replace(
            photos[frame - 1], kind=Kind.REFERENCE, key=f"reference/d/a_100/{frame:04d}/rot{turn:03d}/crop60",
            rotation=float(turn), crop=60, source_digest=photos[frame - 1].source_digest + 32 * "f",
        )
        for frame, turn in ((1, 0), (1, 30), (2, 0), (3, 150), (1, 60), (3, 180), (4, 0))
    ]  # fmt: skip
    scores = [0.9, 0.85, 0.8, 0.75, 0.74, 0.72, 0.7]
    (result,) = reranked(tmp_path, answer(photo, references, scores), Reranking(depth=3)).results
    assert [(hit.item.frame, hit.item.rotation) for hit in result.hits] == [
        (3, 150),
        (3, 180),
        (1, 0),
        (1, 30),
        (2, 0),
        (1, 60),
        (4, 0),
    ]
    first, second = (result.verification(hit) for hit in result.hits[:2])
    assert first is second and first is not None and first.match is not None
    assert first.match.rotation == pytest.approx(180, abs=0.5)  # against the photograph, not the reference
    assert len(result.verifications) == 4


def test_abstaining_leaves_out_what_is_not_verified(photo: Query, tmp_path: Path) -> None:
    (result,) = reranked(tmp_path, answer(photo, items_of(tmp_path), SCORES), Reranking(abstain=True)).results
    assert [(hit.rank, hit.item.frame) for hit in result.hits] == [(1, 3)] and result.match is True
    strict = Reranking(min_inliers=5000, abstain=True)
    (nothing,) = reranked(tmp_path, answer(photo, items_of(tmp_path), SCORES), strict).results
    assert nothing.hits == () and nothing.match is False and "none of 4 candidates is verified" in nothing.no_match


def test_featureless_queries_match_nothing(photo: Query, tmp_path: Path) -> None:
    for name, picture in (
        ("water", Image.new("RGB", (640, 480), (52, 80, 102))),
        ("snow", Image.fromarray(np.full((300, 400, 3), 250, np.uint8))),
        ("mist", Image.linear_gradient("L").resize((640, 480)).convert("RGB")),
    ):
        picture.save(tmp_path / f"{name}.png")
        (result,) = reranked(tmp_path, answer(Query(str(tmp_path / f"{name}.png")), items_of(tmp_path), SCORES)).results
        assert result.match is False and result.no_match, name
        assert [hit.item.frame for hit in result.hits] == [1, 2, 3, 4]  # as the embedding had them
        assert all(not result.verification(hit).verified for hit in result.hits)  # type: ignore[union-attr]


def test_a_featureless_candidate(photo: Query, tmp_path: Path) -> None:
    Image.new("RGB", (480, 360), (60, 90, 120)).save(tmp_path / "photos/a_100/a_100_0001.jpg")
    (result,) = reranked(tmp_path, answer(photo, items_of(tmp_path), SCORES)).results
    assert [hit.item.frame for hit in result.hits] == [3, 1, 2, 4]
    assert "nothing distinctive" in result.verification(result.hits[1]).reason  # type: ignore[union-attr]


def test_originals_that_are_gone_or_broken_are_named(photo: Query, tmp_path: Path) -> None:
    items = items_of(tmp_path)
    (tmp_path / "photos/a_100/a_100_0001.jpg").unlink()
    (tmp_path / "photos/a_100/a_100_0002.jpg").write_bytes(b"no picture")
    (result,) = reranked(tmp_path, answer(photo, items, SCORES)).results
    assert [hit.item.frame for hit in result.hits] == [3, 1, 2, 4] and result.match is True
    gone, broken = (result.verification(hit) for hit in result.hits[1:3])
    assert gone is not None and gone.unseen and items[0].key in gone.reason and "a_100_0001.jpg" in gone.reason
    assert broken is not None and broken.unseen and "a_100_0002.jpg" in broken.reason
    assert gone.as_json(0.9)["inliers"] is None and gone.as_json(0.9)["geometry"] == {"reason": gone.reason}
    (tmp_path / "photos/a_100/a_100_0003.jpg").unlink()
    (nothing,) = reranked(tmp_path, answer(photo, items, SCORES)).results
    assert nothing.match is False and "3 of them have no picture" in nothing.no_match


def test_a_changed_original_is_looked_at_as_it_is_now(photo: Query, tmp_path: Path) -> None:
    """The collection's digest is that of the file that was ingested: features of another file must not be kept under it."""
    items = items_of(tmp_path)
    first, fourth = (tmp_path / f"photos/a_100/a_100_000{frame}.jpg" for frame in (3, 4))
    (before,) = reranked(tmp_path, answer(photo, items, SCORES)).results
    content = first.read_bytes()
    first.write_bytes(fourth.read_bytes())
    fourth.write_bytes(content)
    (after,) = reranked(tmp_path, answer(photo, items, SCORES)).results
    assert (before.hits[0].item.frame, after.hits[0].item.frame) == (3, 4)


def test_an_item_as_query_uses_its_own_picture(tmp_path: Path) -> None:
    write_world(tmp_path)
    with Image.open(tmp_path / "photos/a_100/a_100_0002.jpg") as picture:
        picture.rotate(90, expand=True).save(tmp_path / "photos/a_100/a_100_0004.jpg", quality=92)
    items = items_of(tmp_path)
    query = Query(items[1].key, items[1].source_digest, item=items[1])
    (result,) = reranked(tmp_path, answer(query, [items[0], items[2], items[3]], [0.9, 0.8, 0.7])).results
    assert result.hits[0].item.frame == 4
    assert result.verification(result.hits[0]).match.rotation == pytest.approx(270, abs=0.5)  # type: ignore[union-attr]
    (tmp_path / "photos/a_100/a_100_0002.jpg").unlink()
    (lost,) = reranked(tmp_path, answer(query, [items[0], items[2]], [0.9, 0.8])).results
    assert lost.match is False and "a_100_0002.jpg" in lost.no_match and len(lost.hits) == 2


def test_an_error_stays_an_error(tmp_path: Path) -> None:
    write_world(tmp_path)
    results = Results("c", None, (Result(Query("x.jpg"), error="x.jpg is broken"),))
    assert reranked(tmp_path, results).results == results.results


# -- originals -----------------------------------------------------------------------------------------------------


def test_a_source_never_leaves_its_root(tmp_path: Path) -> None:
    registry = read_registry(write_world(tmp_path))
    rough(9, 64, 64).save(tmp_path / "secret.jpg")
    (tmp_path / "elsewhere").mkdir()
    rough(9, 64, 64).save(tmp_path / "elsewhere/x.jpg")
    (tmp_path / "photos/link").symlink_to(tmp_path / "elsewhere")
    originals, item = Originals(registry, tmp_path), items_of(tmp_path)[0]
    assert originals.find(item).path == tmp_path / "photos/a_100/a_100_0001.jpg"
    for source in (
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "a_100/../../secret.jpg",
        "link/x.jpg",
        "",
        "a\0b.jpg",
        "a_100",
    ):
        with pytest.raises(InputError) as caught:
            originals.find(replace(item, source=source))
        assert item.key in str(caught.value), source


def test_what_has_no_photograph(tmp_path: Path) -> None:
    originals, item = Originals(read_registry(write_world(tmp_path)), tmp_path), items_of(tmp_path)[0]
    with pytest.raises(InputError, match="rendered"):
        originals.find(replace(item, kind=Kind.VIEW))
    with pytest.raises(InputError, match="unknown dataset"):
        originals.find(replace(item, dataset="e"))


def test_a_written_reference_leads_to_its_photograph(tmp_path: Path) -> None:
    """References that were ingested as files have the file's own source and digest; the photograph is where the registry says."""
    originals, item = Originals(read_registry(write_world(tmp_path)), tmp_path), items_of(tmp_path)[1]
    written = replace(
        item, kind=Kind.REFERENCE, key="reference/d/a_100/0002/rot030/crop60", rotation=30.0, crop=60,
        source="references_d/Ra_100/a_100_0002_rot030_crop60.jpg", source_digest=32 * "a",
    )  # fmt: skip
    assert originals.find(written) == replace(originals.find(item), digest="")
    with pytest.raises(InputError, match="b_200"):
        originals.find(replace(written, capture_id="b_200"))


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ingested world; tests copy it."""
    folder = tmp_path_factory.mktemp("collection")
    write_world(folder)
    place = ("--registry", folder / "data_key.json", "--uri", folder / "outcrop.db", "--state", folder / ".outcrop")
    assert run("ingest", "dataset", "d", "--model", "efficientnet_lite0", *place, "--json").code == 0
    return folder


@pytest.fixture
def here(collection: Path, tmp_path: Path) -> Path:
    """The world, in the current folder, and a query."""
    shutil.copytree(collection, tmp_path, dirs_exist_ok=True)
    with Image.open(tmp_path / "photos/a_100/a_100_0003.jpg") as whole:
        whole.crop((100, 80, 380, 290)).rotate(180).save(tmp_path / "query.png")
    return tmp_path


def test_the_command_says_both_scores_and_how_long_it_took(here: Path) -> None:
    told = run("query", "image", "query.png", "-k", 2, "--rerank", "geometric", "--json").json
    assert set(told["timings"]) == {"embed", "search", "features", "verify", "refine"}
    (query,) = told["queries"]
    assert query["match"] is True and "reason" not in query and len(query["hits"]) == 2
    best, other = query["hits"]
    assert best["key"] == image_key("d", "a_100", 3) and best["verified"] is True and best["inliers"] >= MIN_INLIERS
    assert best["combined"] > 0.9 > other["combined"] and -1 <= best["score"] <= 1
    assert best["geometry"]["rotation"] == pytest.approx(180, abs=0.5) and len(best["geometry"]["footprint"]) == 4
    assert other["verified"] is False and other["geometry"]["reason"]
    plain = run("query", "image", "query.png", "-k", 4, "--json").json
    assert set(plain["timings"]) == {"embed", "search"} and "match" not in plain["queries"][0]
    assert {hit["key"]: hit["score"] for hit in plain["queries"][0]["hits"]}[best["key"]] == best["score"]
    table = run("query", "image", "query.png", "-k", 2, "--rerank", "geometric", "--explain").out
    assert "combined" in table and "inliers" in table and "verify" in table
    rows = list(csv.DictReader(io.StringIO(run("query", "image", "query.png", "--rerank", "geometric", "--csv").out)))
    assert [row["verified"] for row in rows] == ["True", "False", "False", "False"] and int(rows[0]["inliers"]) == best[
        "inliers"
    ]


def test_the_report_draws_the_outline_on_verified_hits(here: Path) -> None:
    run("query", "image", "query.png", "--rerank", "geometric", "--report", "r.html", "--json")
    page = Path("r.html").read_text()
    # Inliers stand first where there is a match, else the similarity; of the rotations only the verified one is named.
    assert page.count(" inliers</span>") == 1 and page.count("embedding 0.") == 1 and page.count("<span>0.") == 3
    assert page.count("<polygon") == 1 and page.count("query turned 180°") == 1 and page.count("not verified:") == 3
    assert page.index("<footer>") > page.rindex("</section>") and "collection outcrop · " in page.split("<footer>")[1]
    corners = page.split('<polygon points="')[1].split('"')[0].split()
    first = [float(value) for value in corners[0].split(",")]
    assert np.allclose(first, (380, 290), atol=2) and 'viewBox="0 0 480 360"' in page
    Image.new("RGB", (640, 480), (52, 80, 102)).save("water.png")
    run("query", "image", "water.png", "--rerank", "geometric", "--report", "w.html", "--json")
    assert "No match: the query shows nothing distinctive" in Path("w.html").read_text()


def test_no_match_is_said_and_is_no_failure(here: Path) -> None:
    Image.new("RGB", (640, 480), (52, 80, 102)).save("water.png")
    plain = run("query", "image", "water.png", "--rerank", "geometric", "--json")
    assert plain.code == 0 and "no match" in plain.err
    assert plain.json["queries"][0]["match"] is False and len(plain.json["queries"][0]["hits"]) == 4
    abstained = run("query", "image", "water.png", "--rerank", "geometric", "--min-inliers", 12, "--json")
    assert abstained.code == 0 and abstained.json["queries"][0]["hits"] == []
    assert "nothing distinctive" in abstained.json["queries"][0]["reason"]
    assert "no match" in run("query", "image", "water.png", "--rerank", "geometric", "--min-inliers", 12).err


def test_items_and_datasets_are_reranked_too(here: Path) -> None:
    key = image_key("d", "a_100", 2)
    one = run("query", "item", key, "--rerank", "geometric", "-k", 3, "--json").json
    assert one["queries"][0]["hits"][0]["key"] == key and one["queries"][0]["hits"][0]["inliers"] > 100
    every = run("query", "dataset", "d", "--rerank", "geometric", "--rerank-depth", 2, "-k", 3, "--json").json
    assert set(every["timings"]) == {"search", "features", "verify", "refine"}
    for query in every["queries"]:
        assert query["hits"][0]["key"] == query["query"] and query["match"] is True
    alone = run("query", "dataset", "d", "--rerank", "geometric", "--exclude-self", "--min-inliers", 12, "--json").json
    assert all(query["hits"] == [] and query["match"] is False for query in alone["queries"])


def test_originals_are_named_by_the_command(here: Path) -> None:
    Path("photos/a_100/a_100_0001.jpg").unlink()
    outcome = run("query", "image", "query.png", "--rerank", "geometric", "--json")
    assert outcome.code == 0 and "a_100_0001.jpg" in outcome.err and outcome.json["queries"][0]["match"] is True
    shutil.rmtree("photos")
    outcome = run("query", "image", "query.png", "--rerank", "geometric", "--json")
    assert outcome.code == 0 and "--datasets" in outcome.err and outcome.json["queries"][0]["match"] is False


def test_wrong_use(here: Path) -> None:
    ask = ("query", "image", "query.png")
    run(*ask, "--min-inliers", 12).error(2)
    run(*ask, "--rerank-depth", 5).error(2)
    assert "geometric" in run(*ask, "--rerank", "geometry").error(3)
    assert "registry" in run(*ask, "--rerank", "geometric", "--registry", "no.json").error(3)
    assert run(*ask, "--rerank", "geometric", "--min-inliers", 1).code == 2
