"""Hits by parent: votes, estimated rotation, margin; and the query turned instead of the dataset."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import pytest
from commands import run
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture, write_dataset
from PIL import Image

import outcrop.query.search
from outcrop.embed.encoder import Encoder
from outcrop.embed.models import find_model
from outcrop.query.grouping import Comparison, estimated_rotation, grouped
from outcrop.query.search import query_images
from outcrop.schema.crops import apart
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, image_key, reference_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

# -- putting together --------------------------------------------------------------------------------------------------


def reference(frame: int, rotation: float, crop: int = 60) -> Item:
    key = reference_key("d", "c_300", frame, rotation, crop)
    return Item(key, Kind.REFERENCE, "d", "c_300", frame=frame, rotation=rotation, crop=crop)


def image(frame: int) -> Item:
    return Item(image_key("d", "c_300", frame), Kind.IMAGE, "d", "c_300", frame=frame)


def test_best_reference_votes_and_margin() -> None:
    made = [
        Comparison(reference(1, 60), 0.80),
        Comparison(reference(2, 60), 0.85),
        Comparison(reference(1, 90), 0.90),
        Comparison(reference(1, 120), 0.80),
        Comparison(image(1), 0.20),
        Comparison(image(3), 0.10),
    ]
    first, second, third = grouped(made, 5)
    assert (first.item, first.score, first.rank) == (reference(1, 90), 0.90, 1)
    assert first.group is not None and first.group.parent == image_key("d", "c_300", 1)
    assert first.group.votes == 4 and first.group.margin == pytest.approx(0.05)
    assert first.group.rotations == ((60, 0.80), (90, 0.90), (120, 0.80)) and first.group.rotation == 90
    assert second.group is not None and second.group.rotation == 60 and second.item.frame == 2
    assert third.group is not None and (third.group.rotation, third.group.margin) == (None, None)
    assert [hit.item.frame for hit in grouped(made, 1)] == [1]
    assert grouped([], 5) == ()


def test_a_turned_query_turns_the_other_way() -> None:
    (hit,) = grouped([Comparison(image(1), 0.9, turn=30.0), Comparison(image(1), 0.5, turn=300.0)], 3, turned=True)
    assert hit.group is not None and hit.group.rotation == 330 and hit.group.rotations == ((60, 0.5), (330, 0.9))
    (both,) = grouped([Comparison(reference(1, 90), 0.9, turn=30.0)], 3, turned=True)
    assert both.group is not None and both.group.rotation == 60


@given(st.floats(0, 359.99), st.sampled_from([10.0, 30.0, 45.0]), st.floats(0.2, 3))
def test_a_tent_gives_back_its_peak(peak: float, step: float, slope: float) -> None:
    rotations = [step * n for n in range(round(360 / step))]
    scores = [(rotation, 1 - slope * apart(rotation, peak) / 360) for rotation in rotations]
    found = estimated_rotation(scores)
    assert found is not None and apart(found, peak) < 1e-6


def test_without_both_neighbours_the_best_rotation_stands() -> None:
    assert estimated_rotation([(90, 0.9), (120, 0.8)]) == 90
    assert estimated_rotation([(0, 0.9), (90, 0.8), (120, 0.7), (300, 0.8)]) == 0
    assert estimated_rotation([(0, 0.9), (180, 0.8)]) == 0
    assert estimated_rotation([(0, 0.9)]) == 0 and estimated_rotation([]) is None


# -- the commands ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs, their references every 45 degrees, and a second dataset without references."""
    folder = tmp_path_factory.mktemp("grouping")
    write_dataset(folder, {"a_300": 4, "a_150": 2}, name="first", root="one")
    write_dataset(folder, {"b_300": 2}, name="second", root="two", seed=1)
    place = ("--registry", folder / "data_key.json", "--uri", folder / "outcrop.db", "--state", folder / ".outcrop")
    model = ("--model", "efficientnet_lite0", "--json")
    for name in ("first", "second"):
        assert run("ingest", "dataset", name, *model, *place).code == 0
    assert run("ingest", "references", "first", "--angles", "0:360:45", *model, *place).json["embedded"] == 48
    return folder


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest) -> None:
    if "world" in request.fixturenames:
        shutil.copytree(request.getfixturevalue("world"), Path.cwd(), dirs_exist_ok=True)


def turned(frame: int, degrees: float, name: str = "q.png", part: float = 0.6) -> Path:
    """The middle of a photograph, turned counter-clockwise, as a person would make it."""
    with Image.open(f"one/a_300/a_300_{frame:04d}.jpg") as photo:
        width, height = photo.size
        askew = photo.rotate(degrees, Image.Resampling.BICUBIC, expand=part == 1)
        x, y = (askew.width - width * part) / 2, (askew.height - height * part) / 2
        askew.crop((round(x), round(y), askew.width - round(x), askew.height - round(y))).save(name)
    return Path(name)


def hits(*arguments: object) -> list[dict]:
    outcome = run("query", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json["queries"][0]["hits"]


@pytest.mark.parametrize("degrees", [0, 90, 225, 315])
def test_the_parent_and_the_rotation(world: Path, degrees: float) -> None:
    found = hits("image", turned(3, degrees), "-k", 8)
    # Every photograph once, also those that have no references.
    assert len({hit["parent"] for hit in found}) == len(found) == 8
    first = found[0]
    assert first["parent"] == image_key("first", "a_300", 3) and first["kind"] == "reference"
    # Every other angle is for photographs (test_references_retrieval): askew, a patchwork is another picture to the network.
    assert first["rotation"] == degrees and apart(first["estimated_rotation"], degrees) <= 12
    assert first["margin"] == pytest.approx(first["score"] - found[1]["score"], abs=2e-6)
    assert first["votes"] >= 2 and [r for r, _ in first["rotations"]] == sorted(r for r, _ in first["rotations"])
    assert found[-1]["margin"] is None


def test_after_re_ranking_there_is_no_margin(world: Path) -> None:
    found = hits("image", turned(3, 90), "-k", 4, "--rerank", "geometric")
    assert all(hit["margin"] is None and hit["parent"] for hit in found)


def test_raw_hits_have_the_plain_shape(world: Path) -> None:
    raw = hits("image", turned(3, 90), "-k", 5, "--group", "none")
    assert [hit["rank"] for hit in raw] == [1, 2, 3, 4, 5] and raw[0]["rotation"] == 90
    assert "parent" not in raw[0] and len({(hit["capture_id"], hit["frame"]) for hit in raw}) < 5
    images = hits("image", turned(3, 90), "-k", 3, "--where", "kind=image")
    assert "parent" not in images[0]
    forced = hits("image", turned(3, 90), "-k", 3, "--where", "kind=image", "--group", "parent")
    assert [h["key"] for h in forced] == [h["key"] for h in images] and forced[0]["estimated_rotation"] is None
    assert "--group" in run("query", "image", "q.png", "--group", "parents").error(3)


def test_as_many_parents_as_asked_for_however_many_references_there_are(world: Path) -> None:
    """One photograph with 300 references would fill a first search alone."""
    place = ("--model", "efficientnet_lite0", "--json", "--limit", 1)
    assert run("ingest", "references", "first", "--angles", "0:360:1.2", *place).json["expected"] == 300
    found = hits("image", turned(1, 10), "-k", 6)
    assert len({hit["parent"] for hit in found}) == 6
    assert found[0]["parent"] == image_key("first", "a_300", 1) and apart(found[0]["estimated_rotation"], 10) < 3


def test_exclude_self_leaves_out_the_photograph_with_its_references(world: Path) -> None:
    key = image_key("first", "a_300", 2)
    shutil.copy("one/a_300/a_300_0002.jpg", "copy.jpg")
    for question in (("image", "copy.jpg"), ("item", key), ("item", f"{reference_key('first', 'a_300', 2, 45, 60)}")):
        for group in ("parent", "none"):
            found = hits(*question, "-k", 7, "--exclude-self", "--group", group)
            assert len(found) == 7
            assert not any((h["capture_id"], h["frame"]) == ("a_300", 2) for h in found), (question, group)
    assert len(hits("item", key, "-k", 20, "--exclude-self")) == 7


def test_datasets_and_items_are_grouped_too(world: Path) -> None:
    answer = run("query", "dataset", "first", "-k", 2, "--json").json["queries"]
    assert [q["hits"][0]["parent"] for q in answer] == [q["query"] for q in answer]
    assert len(answer) == 6


def test_table_and_csv_of_groups(world: Path) -> None:
    photo = turned(3, 90)
    table = run("query", "image", photo, "-k", 2).out
    assert "estimated_rotation" in table and image_key("first", "a_300", 3) in table
    rows = list(csv.DictReader(io.StringIO(run("query", "image", photo, "-k", 2, "--csv").out)))
    assert rows[0]["parent"] == image_key("first", "a_300", 3) and float(rows[0]["margin"]) > 0


def test_the_report_shows_parent_and_rotation(world: Path) -> None:
    outcome = run("query", "image", turned(3, 90), "-k", 2, "--report", "r.html", "--json")
    page = Path("r.html").read_text()
    first = outcome.json["queries"][0]["hits"][0]
    assert first["parent"] in page and f"query turned {first['estimated_rotation']:.0f}°" in page
    assert page.count("data:image/jpeg;base64,") == 1 + 2 + 2 and page.count('class="inset"') == 2
    assert not re.search(r"(src|href)=\"(?!data:)", page)


# -- turns -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 180])
def test_turns_find_the_photograph_without_references(world: Path, degrees: float) -> None:
    found = hits("image", turned(3, degrees, part=1), "-k", 4, "--turns", 8)
    assert found[0]["parent"] == found[0]["key"] == image_key("first", "a_300", 3)
    assert {hit["kind"] for hit in found} == {"image"} and len(found) == 4
    assert apart(found[0]["estimated_rotation"], degrees) <= 20


def test_turns_of_several_pictures_are_those_of_each(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcrop.query.search, "TURNED_BATCH", 8)  # two pictures in one go
    Path("many").mkdir()
    names = [turned(frame, 40 * frame, f"many/{frame}.png") for frame in (1, 2, 3, 4)]
    Path("many/0.png").write_bytes(b"nothing")
    encoder = Encoder.open(find_model("efficientnet_lite0"))
    with Store.connect("outcrop.db") as store:
        collection = Collection.open(store, "outcrop")
        together = query_images([Path("many")], encoder, collection, 3, turns=4)
        assert together.results[0].error and [r.query.name for r in together.results[1:]] == list(map(str, names))
        for name, result in zip(names, together.results[1:], strict=True):
            (alone,) = query_images([name], encoder, collection, 3, turns=4).results
            assert [(h.item.key, h.group.rotation) for h in alone.hits if h.group] == [
                (h.item.key, h.group.rotation) for h in result.hits if h.group
            ]
        with pytest.raises(InputError, match="--group none"):
            query_images(names, encoder, collection, turns=4, group="none")


def test_turns_out_of_range_and_pictures_too_small_to_be_turned(world: Path) -> None:
    assert "360" in run("query", "image", turned(1, 0), "--turns", 361).error(3)
    assert run("query", "image", "q.png", "--turns", -1).code == 2
    picture(1, 10, 40).save("small.png")
    line = run("query", "image", "small.png", "--turns", 8).error(3)
    assert "small.png" in line and "10x40 pixels" in line
