"""`query evaluate --against`: the same queries asked of two collections, or in two ways, compared query by query."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from test_evaluate import PHOTOS, SPACE, on_circle, photo

from outcrop.query.evaluation.against import Measured, _definition, _require_same
from outcrop.query.evaluation.measures import mean_intervals
from outcrop.query.evaluation.truth_files import read_truth
from outcrop.schema.errors import Refused
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

ASKED = ("d", "--truth", "gps", "--within", 25, "--at", "1,2", "--quiet")
OTHER = {1: 0, 2: 12, 3: 10, 4: 80, 5: 90}
"""The angles that another model would give: now 1, 2 and 3 are near each other, and 4 and 5."""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two collections of the same five photographs, and a smaller one that lacks the second."""
    with Store.connect(str(tmp_path / "outcrop.db")) as store:
        first = {frame: angle for frame, (angle, _) in PHOTOS.items()}
        fewer = {frame: angle for frame, angle in OTHER.items() if frame != 2}
        for name, model, angles in (("outcrop", "one", first), ("better", "two", OTHER), ("fewer", "three", fewer)):
            made = Collection.ensure(store, name, SPACE.model_copy(update={"model": model}))
            made.upsert([photo(frame) for frame in angles], on_circle(angles.values()))
            made.flush()
    return tmp_path


def evaluated(*more: object) -> Any:
    outcome = run("query", "evaluate", *ASKED, *more, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def per_query(kept: Any, what: str) -> list[float]:
    ordered = sorted(kept["strategies"][0]["per_query"], key=lambda one: str(one["query"]))
    return [float(one[what]) for one in ordered]


def test_two_collections_side_by_side(world: Path) -> None:
    found, alone = evaluated("--against", "better"), evaluated("--collection", "better")
    (one,) = found["against"]
    assert (one["other"], one["strategy"], one["other_strategy"]) == ("better", "embedding", "embedding")
    assert (one["queries"], one["only_here"], one["only_there"], one["other_gallery_parents"]) == (5, 0, 0, 5)
    assert one["there"] == alone["strategies"][0]["overall"] and one["here"] == found["strategies"][0]["overall"]
    # Worked out by hand: one photograph of five is right first in the one (test_evaluate), all five in the other.
    assert (one["here"]["recall@1"]["value"], one["there"]["recall@1"]["value"]) == (0.2, 1.0)
    assert one["difference"]["recall@1"]["value"] == pytest.approx(-0.8)


def test_the_differences_are_drawn_query_by_query(world: Path) -> None:
    (one,) = evaluated("--against", "better", "--seed", 4, "--resamples", 300)["against"]
    here, there = evaluated(), evaluated("--collection", "better")
    columns = np.subtract(per_query(here, "average_precision"), per_query(there, "average_precision"))
    (expected,) = mean_intervals(columns[:, None], resamples=300, seed=4)
    said = one["difference"]["mAP"]
    assert (said["value"], said["low"], said["high"]) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-5
    )


def test_an_evaluation_that_was_kept(world: Path) -> None:
    """Which is how two sets of options are compared, and two stores."""
    Path("before.json").write_text(json.dumps(evaluated("--collection", "better")), encoding="utf-8")
    kept, direct = evaluated("--against", "before.json"), evaluated("--against", "better")
    (one,), (other,) = kept["against"], direct["against"]
    assert one["other"] == "before.json" and one["difference"] == other["difference"] and one["there"] == other["there"]
    Path("same.json").write_text(json.dumps(evaluated("--exact")), encoding="utf-8")
    both = evaluated("--against", "before.json", "--against", "same.json", "--against", "better")["against"]
    assert [each["other"] for each in both] == ["better", "before.json", "same.json"]
    assert all(set(each.values()) == {0.0} for each in both[2]["difference"].values())


def test_only_what_both_counted_is_compared(world: Path) -> None:
    said = run("query", "evaluate", *ASKED, "--against", "fewer", "--json")
    (one,) = said.json["against"]
    assert (one["queries"], one["only_here"], one["only_there"]) == (4, 1, 0)
    assert one["here"]["queries"] == 4 != said.json["strategies"][0]["overall"]["queries"]
    assert "4 queries are counted by both; 1 only here" in said.err
    assert "its gallery has 4 parents, this one 5" in said.err


def test_tables_and_pages_show_it(world: Path) -> None:
    shown = run("query", "evaluate", *ASKED, "--against", "better", "--report", "page.html")
    assert shown.code == 0, shown.err
    page = Path("page.html").read_text(encoding="utf-8")
    for text in ("better: embedding", "embedding minus better: embedding", "-80.0"):
        assert text in page
    assert "minus" in shown.out and "-80.0" in shown.out


@pytest.mark.parametrize(
    ("against", "more", "code", "message"),
    [
        ("outcrop", (), 3, "--against outcrop is the collection that is evaluated"),
        ("bettor", (), 3, "did you mean 'better'"),
        ("absent.json", (), 3, "--against absent.json cannot be read"),
        ("list.json", (), 3, "is not what `query evaluate --json` prints"),
        ("text.json", (), 3, "is not what `query evaluate --json` prints"),
        ("wide.json", (), 6, "not measured alike .*within is 25.0 here and 300.0 there"),
        ("deep.json", (), 6, r"not measured alike \(depth is 100 here and 50 there\)"),
        ("one.json", ("--limit", 1), 3, "no query is counted both here and in one.json"),
    ],
)
def test_what_cannot_be_compared(against: str, more: tuple[object, ...], code: int, message: str, world: Path) -> None:
    Path("list.json").write_text("[1]")
    Path("text.json").write_text("no JSON")
    Path("wide.json").write_text(json.dumps(evaluated("--within", 300)))
    Path("deep.json").write_text(json.dumps(evaluated("--depth", 50)))
    other = evaluated()
    for each in other["strategies"][0]["per_query"]:
        each["query"] += "x"
    Path("one.json").write_text(json.dumps(other))
    said = run("query", "evaluate", *ASKED, *more, "--against", against).error(code)
    assert re.search(message, said), said


def test_a_truth_file_that_was_edited_is_another_truth(tmp_path: Path) -> None:
    """What is in the file counts: neither its name nor its line ends, and what was kept before files were compared passes."""
    pairs, footprints = tmp_path / "pairs.csv", tmp_path / "ground.json"
    corners = [[0, 0], [4, 0], [4, 4], [0, 4]]

    def defined(path: Path) -> Measured:
        described = {"truth": read_truth(path).describe(), "own": "left out", "depth": 100}
        return Measured(path.name, _definition(described), 5, 100, {})

    def written(overlap: float, side: float, end: str = "\n") -> tuple[Measured, Measured]:
        pairs.write_text(f"query,item,overlap{end}a.jpg,image/d/c/0001,{overlap}{end}", newline="")
        entry = {"key": "image/d/c/0001", "footprint": [[x * side, y] for x, y in corners]}
        footprints.write_text(json.dumps({"dataset": [entry], "queries": []}))
        return defined(pairs), defined(footprints)

    first, same, other = written(0.5, 1), written(0.5, 1, "\r\n"), written(0.75, 2)
    for one, again, edited in zip(first, same, other, strict=True):
        _require_same(one, replace(again, name="elsewhere"))
        with pytest.raises(Refused, match="hold other pairs or footprints"):
            _require_same(one, edited)
        older = {name: value for name, value in edited.definition.items() if name != "digest"}
        _require_same(one, replace(edited, definition=older))
