"""`query image|item|dataset`: hits, filters, exclusion, output formats, reports."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import run
from pictures import picture, write_dataset

from outcrop.query.ground import distances
from outcrop.schema.filters import Filter, where
from outcrop.schema.item import image_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.search import exact_search


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ingested datasets of 10 and 6 pictures; tests copy it and work on the copy."""
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder, {"a_300": 6, "a_150": 4}, name="first", root="one")
    write_dataset(folder, {"b_300": 6}, name="second", root="two", seed=1)
    place = ("--registry", folder / "data_key.json", "--uri", folder / "outcrop.db", "--state", folder / ".outcrop")
    for name in ("first", "second"):
        assert run("ingest", "dataset", name, "--model", "efficientnet_lite0", *place, "--json").code == 0
    return folder


@pytest.fixture(autouse=True)
def here(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)


def test_a_recompressed_picture_finds_its_own() -> None:
    small = Path("q.jpg")
    picture(4).resize((256, 192)).save(small, quality=60)
    answer = run("query", "image", small, "-k", 3, "--json").json
    hits = answer["queries"][0]["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["key"] == image_key("first", "a_300", 4) and hits[0]["score"] > hits[1]["score"]
    assert set(hits[0]) == {
        "rank", "key", "score", "kind", "dataset", "category", "capture_id", "frame",
        "altitude", "rotation", "crop", "view", "source",
    }  # fmt: skip
    assert answer["collection"] == "outcrop" and answer["plan"]["method"] == "flat"


def test_filters_keep_what_they_say() -> None:
    key = image_key("first", "a_300", 1)
    for condition, expected in (
        ("dataset=second", {"b_300"}),
        ("altitude=100..200", {"a_150"}),
        ("capture_id=a*", {"a_150", "a_300"}),
        ("capture_id!=a_150", {"a_300", "b_300"}),
        ("frame=1,2", {"a_150", "a_300", "b_300"}),
    ):
        hits = run("query", "item", key, "-k", 100, "--where", condition, "--json").json["queries"][0]["hits"]
        assert {hit["capture_id"] for hit in hits} == expected, condition
    both = run("query", "item", key, "-k", 100, "--where", "altitude=300", "--where", "frame=..3", "--json").json
    assert {(h["capture_id"], h["frame"]) for h in both["queries"][0]["hits"]} == {
        (c, f) for c in ("a_300", "b_300") for f in (1, 2, 3)
    }
    raw = run("query", "item", key, "-k", 100, "--filter", "frame == 5 or frame == 6", "--json").json
    assert {h["frame"] for h in raw["queries"][0]["hits"]} == {5, 6}


def test_no_item_fits() -> None:
    outcome = run("query", "item", image_key("first", "a_300", 1), "--where", "altitude=5000", "--json")
    assert outcome.code == 0 and outcome.json["queries"][0]["hits"] == []
    assert "no hits: the filter keeps 0 of 16 rows; none has" in outcome.err and "altitude == 5000.0" in outcome.err


def test_exclude_self() -> None:
    key = image_key("first", "a_300", 2)
    assert run("query", "item", key, "-k", 2, "--json").json["queries"][0]["hits"][0]["key"] == key
    without = run("query", "item", key, "-k", 2, "--exclude-self", "--json").json["queries"][0]["hits"]
    assert len(without) == 2 and key not in {hit["key"] for hit in without} and [h["rank"] for h in without] == [1, 2]
    copy = Path("elsewhere.jpg")
    shutil.copy("one/a_300/a_300_0002.jpg", copy)
    again = run("query", "image", copy, "-k", 2, "--exclude-self", "--json").json["queries"][0]["hits"]
    assert [hit["key"] for hit in again] == [hit["key"] for hit in without]


def test_dataset_queries_agree_with_item_queries_and_with_numpy() -> None:
    answer = run("query", "dataset", "first", "-k", 4, "--exclude-self", "--where", "altitude=300", "--json").json
    assert [q["query"] for q in answer["queries"]] == sorted(
        image_key("first", c, f) for c, n in (("a_300", 6), ("a_150", 4)) for f in range(1, n + 1)
    )
    one = run(
        "query", "item", answer["queries"][3]["query"], "-k", 4, "--exclude-self", "--where", "altitude=300", "--json"
    ).json
    # Many queries at once are summed in another order than one, and scores are rounded to the sixth digit.
    for alone, among in zip(one["queries"][0]["hits"], answer["queries"][3]["hits"], strict=True):
        assert alone == {**among, "score": pytest.approx(among["score"], abs=1.5e-6)}
    with Store.connect("outcrop.db") as store:
        collection = Collection.open(store, "outcrop")
        items, vectors = next(collection.scan(vectors=True))
        kept = [i for i, item in enumerate(items) if item.altitude == 300]
        for query in answer["queries"]:
            me = next(i for i, item in enumerate(items) if item.key == query["query"])
            order = sorted((i for i in kept if i != me), key=lambda i: -float(vectors[me] @ vectors[i]))[:4]
            assert [hit["key"] for hit in query["hits"]] == [items[i].key for i in order]
            assert np.allclose(
                [hit["score"] for hit in query["hits"]], [vectors[me] @ vectors[i] for i in order], atol=1e-5
            )
        exact = exact_search(collection, vectors[:2], 3, where("altitude=300"))
        assert [len(hits) for hits in exact] == [3, 3]
        assert exact_search(collection, vectors[:1], 50, Filter())[0][15].rank == 16
    assert len(run("query", "dataset", "first", "--limit", 3, "--json").json["queries"]) == 3


def test_csv_and_table_tell_the_same() -> None:
    key = image_key("first", "a_300", 2)
    rows = list(csv.DictReader(io.StringIO(run("query", "item", key, "-k", 3, "--csv").out)))
    table = run("query", "item", key, "-k", 3, "--explain").out
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and all(row["query"] == key for row in rows)
    assert all(row["key"] in table and f"{float(row['score']):.4f}" in table for row in rows)
    assert "plan: flat (FLAT)" in table


def test_explain_names_partitions() -> None:
    plan = run(
        "query", "item", image_key("first", "a_300", 2), "--where", "dataset=second", "--where", "kind=image", "--json"
    ).json["plan"]
    assert plan["partitions"] == ["image__second"] and plan["filter"] == ""


def test_several_pictures_and_a_folder() -> None:
    answer = run("query", "image", "one/a_150", "two/b_300/b_300_0001.jpg", "-k", 1, "--json").json
    assert [q["hits"][0]["key"] for q in answer["queries"]] == [
        image_key("first", "a_150", f) for f in (1, 2, 3, 4)
    ] + [image_key("second", "b_300", 1)]


def test_an_unreadable_picture_among_good_ones() -> None:
    Path("broken.jpg").write_bytes(b"no picture")
    outcome = run("query", "image", "broken.jpg", "one/a_150/a_150_0001.jpg", "-k", 1, "--json")
    assert "1 of 2" in outcome.error(4)
    first, second = outcome.json["queries"]
    assert first["hits"] == [] and "broken.jpg" in first["error"]
    assert second["hits"][0]["key"] == image_key("first", "a_150", 1)


def test_report_is_self_contained_and_shows_what_was_kept(tmp_path: Path) -> None:
    shutil.rmtree("one")  # the sources are gone: a report needs none
    outcome = run("query", "item", image_key("first", "a_300", 2), "-k", 3, "--report", "<b>.html", "--json")
    assert outcome.code == 0 and str(tmp_path / "<b>.html") in outcome.err
    page = Path("<b>.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4  # the query and three hits
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    for hit in outcome.json["queries"][0]["hits"]:
        assert hit["key"] in page and f"{hit['score']:.4f}" in page
    assert "does not exist" in run("query", "item", "x", "--report", "nowhere/r.html").error(3)


def test_distance_is_that_of_the_sphere() -> None:
    assert distances(0, 0, 0, 1) == pytest.approx(111_195, rel=1e-4)  # one degree of the equator
    assert distances(37.5, 127.0, 37.5, 127.0) == 0
    assert distances(90, 0, -90, 0) == pytest.approx(20_015_115, rel=1e-4)
