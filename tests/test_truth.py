"""Sources of truth: what is graded relevant, ignored and negative; files that say it wrongly; polygons on the ground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.embed.photo import PhotoMetadata
from outcrop.query.answers import Query
from outcrop.query.evaluation.gallery import Gallery, parent_named
from outcrop.query.evaluation.measures import IGNORED, NEGATIVE, RELEVANT
from outcrop.query.evaluation.splits import split
from outcrop.query.evaluation.truth import CategoryTruth, Facts, GpsTruth, OwnTruth, Ranges
from outcrop.query.evaluation.truth_files import FootprintTruth, PairsTruth, read_truth
from outcrop.query.ground import areas, distances, is_convex, shares
from outcrop.sample.flight import Camera, Pose, footprint
from outcrop.sample.world import overlap
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, image_key, parent_of, specimen_key

METRE = 360 / 40_030_228.88  # degrees of a meridian


def photo(frame: int, **values: Any) -> Item:
    return Item(image_key("d", "c", frame), Kind.IMAGE, "d", "c", frame=frame, **values)


def gallery_of(*items: Item) -> Gallery:
    parents = tuple(parent_of(item.key) for item in items)
    return Gallery(
        parents,
        items,
        (1,) * len(items),
        frozenset(item.id for item in items),
        {key: i for i, key in enumerate(parents)},
        {item.source_digest: i for i, item in enumerate(items) if item.source_digest},
    )


def asked(item: Item) -> Query:
    return Query(item.key, item.source_digest, item=item)


def test_any_item_names_its_parent() -> None:
    for key in ("image/d/c/0004", "image/d/c/4", "reference/d/c/0004/rot030/crop01"):
        assert parent_named(key) == image_key("d", "c", 4)
    assert parent_named("view/f/Trilobita/Phacopida/t1/03") == "specimen/f/Trilobita/Phacopida/t1"
    with pytest.raises(InputError, match="not a valid key"):
        parent_named("image/d")


def test_own_photograph() -> None:
    gallery = gallery_of(photo(1, source_digest="aa"), photo(2, source_digest="bb"))
    turned = Item("reference/d/c/0002/rot030/crop00", Kind.REFERENCE, "d", "c", frame=2, rotation=30)
    judgement = OwnTruth().judge(asked(turned), gallery)
    assert judgement.grades.tolist() == [NEGATIVE, RELEVANT] and judgement.own == 1
    assert judgement.facts == Facts(None, 30, "d")
    assert OwnTruth().judge(Query("x.jpg", "aa"), gallery).grades.tolist() == [RELEVANT, NEGATIVE]
    assert "CSV of pairs" in OwnTruth().judge(Query("x.jpg", "cc"), gallery).reason


def test_gps_distance_has_an_ignored_band_and_ignores_unknown_places() -> None:
    north = [0, 24.9, 25.1, 39.9, 40.1, 1000]
    gallery = gallery_of(
        *(photo(n, latitude=37.5 + d * METRE, longitude=127.0) for n, d in enumerate(north, 1)), photo(9)
    )
    query = asked(photo(1, latitude=37.5, longitude=127.0, altitude=150))
    judgement = GpsTruth(25, 40).judge(query, gallery)
    assert judgement.grades.tolist() == [RELEVANT, RELEVANT, IGNORED, IGNORED, NEGATIVE, NEGATIVE, IGNORED]
    assert judgement.own == 0 and judgement.facts.altitude == 150
    assert np.argsort(-judgement.rightness)[:3].tolist() == [0, 1, 2]
    assert GpsTruth(25).judge(query, gallery).grades.tolist()[2:4] == [NEGATIVE, NEGATIVE]
    assert "unknown" in GpsTruth(25).judge(asked(photo(9)), gallery).reason
    picture = Query("q.jpg", metadata=PhotoMetadata(latitude=37.5, longitude=127.0, relative_altitude=88.0))
    judged = GpsTruth(25).judge(picture, gallery)
    assert judged.grades.tolist()[:2] == [RELEVANT, RELEVANT] and judged.facts == Facts(88.0, None, "d")
    assert "unknown" in GpsTruth(25).judge(Query("q.jpg", metadata=PhotoMetadata()), gallery).reason


@pytest.mark.parametrize(
    ("within", "ignored"), [(0, None), (-1, None), (25, 10), (float("inf"), None), (25, float("nan"))]
)
def test_distances_that_mean_nothing(within: float, ignored: float | None) -> None:
    with pytest.raises(InputError, match="metres above 0"):
        GpsTruth(within, ignored)


@pytest.mark.parametrize(("relevant", "ignore"), [(0, 0), (0.2, 0.3), (1.5, 0.1), (0.5, 0), (float("nan"), 0.1)])
def test_ranges_that_mean_nothing(relevant: float, ignore: float) -> None:
    with pytest.raises(InputError, match="0 < ignore <= relevant <= 1"):
        Ranges(relevant, ignore)


def test_the_bounds_of_the_ranges() -> None:
    overlaps = np.array([0, 0.0499, 0.05, 0.2499, 0.25, 1, np.nan])
    expected = [NEGATIVE, NEGATIVE, IGNORED, IGNORED, RELEVANT, RELEVANT, IGNORED]
    assert Ranges(0.25, 0.05).grade(overlaps).tolist() == expected


def test_category_by_its_levels() -> None:
    def specimen(name: str, category: str) -> Item:
        return Item(specimen_key("f", category, name), Kind.SPECIMEN, "f", name, category=category)

    gallery = gallery_of(
        specimen("a", "Ammonoidea/Dactylioceras"),
        specimen("b", "Ammonoidea/Dactylioceras"),
        specimen("c", "Ammonoidea/Harpoceras"),
        specimen("d", "Trilobita"),
        specimen("e", ""),
    )
    query = asked(gallery.items[0])
    judgement = CategoryTruth().judge(query, gallery)
    assert judgement.grades.tolist() == [RELEVANT, RELEVANT, NEGATIVE, NEGATIVE, IGNORED] and judgement.own == 0
    assert CategoryTruth(1).judge(query, gallery).grades.tolist() == [RELEVANT, RELEVANT, RELEVANT, NEGATIVE, IGNORED]
    assert CategoryTruth().judge(asked(gallery.items[4]), gallery).reason == "its category is unknown"
    assert CategoryTruth().judge(Query("q.jpg"), gallery).reason == "its category is unknown"


# -- pairs ---------------------------------------------------------------------------------------------------------------


def pairs(text: str, **ranges: float) -> PairsTruth:
    Path("pairs.csv").write_text(text, encoding="utf-8")
    return PairsTruth.read(Path("pairs.csv"), Ranges(**ranges))


def test_pairs_with_overlap() -> None:
    gallery = gallery_of(photo(1), photo(2), photo(3), photo(4))
    truth = pairs(
        "\ufeffquery,item,overlap,rotation\n"
        "image/d/c/0001,image/d/c/0002,0.4,-30\n"
        "image/d/c/0001,reference/d/c/0003/rot030/crop00,0.1,-30\n"  # any item of a parent names it
        "image/d/c/0001,image/d/c/0099,0.9,-30\n"  # not in this gallery
    )
    judgement = truth.judge(asked(photo(1, altitude=300)), gallery)
    assert judgement.grades.tolist() == [NEGATIVE, RELEVANT, IGNORED, NEGATIVE]
    assert judgement.facts == Facts(300, 330, "d") and judgement.own == 0
    assert truth.judge(asked(photo(2)), gallery).reason == "not in pairs.csv"


def test_pairs_without_overlap_are_relevant_and_pictures_are_found_by_the_end_of_their_path() -> None:
    gallery = gallery_of(photo(1), photo(2))
    truth = pairs("query,item,altitude\nflight/a.jpg,image/d/c/0002,120\nb.jpg,image/d/c/0001,\n")
    judgement = truth.judge(Query("/data/flight/a.jpg"), gallery)
    assert judgement.grades.tolist() == [NEGATIVE, RELEVANT] and judgement.facts == Facts(120, None, "d")
    assert truth.judge(Query("/data/other/a.jpg"), gallery).reason == "not in pairs.csv"
    assert truth.judge(Query("x/b.jpg"), gallery).grades.tolist() == [RELEVANT, NEGATIVE]
    assert truth.judge(Query("x/b.jpg"), gallery).reason == ""
    with pytest.raises(InputError, match=r"fits two pictures, x/b\.jpg and y/b\.jpg"):
        truth.judge(Query("y/b.jpg"), gallery)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no column 'query'"),
        ("querry,item\na,b\n", "no column 'query'.*did you mean 'querry'"),
        ("query,item\n", "holds no pair"),
        ("query,item\n,image/d/c/0001\n", "line 2: no query"),
        ("query,item\na.jpg,somewhere\n", "line 2: 'somewhere' is not a valid key"),
        ("query,item\na.jpg\n", "line 2: '' is not a valid key"),
        ("query,item,overlap\na.jpg,image/d/c/0001,much\n", "line 2: overlap must be a number, got 'much'"),
        ("query,item,overlap\na.jpg,image/d/c/0001,\n", "line 2: overlap must be a number, got ''"),
        (
            "query,item,overlap\na.jpg,image/d/c/0001,1.5\n",
            "line 2: overlap is 1.5, which does not lie between 0 and 1",
        ),
        ("query,item,overlap\na.jpg,image/d/c/0001,nan\n", "overlap is nan"),
        ("query,item,overlap\na,image/d/c/0001,0.1\na,image/d/c/0001,0.2\n", "line 3: .* two overlaps"),
        ("query,item,rotation\na.jpg,image/d/c/0001,north\n", "line 2: rotation must be a number, got 'north'"),
    ],
)
def test_pairs_that_say_it_wrongly(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        pairs(text)


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_files_that_are_not_text_or_not_there(name: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_truth(Path(name))
    Path(name).write_bytes(b"\xff\xfe\x00query")
    with pytest.raises(InputError, match="not UTF-8"):
        read_truth(Path(name))


# -- footprints ----------------------------------------------------------------------------------------------------------


def box(x: float, y: float, side: float = 10) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def write_footprints(dataset: list[Any], queries: list[Any] = []) -> Path:  # noqa: B006
    path = Path("truth.json")
    path.write_text(json.dumps({"dataset": dataset, "queries": queries}), encoding="utf-8")
    return path


def test_footprints() -> None:
    path = write_footprints(
        [
            {"key": image_key("d", "c", n), "footprint": box(x, 0), "heading": heading}
            for n, x, heading in ((1, 0, 10), (2, 7, 200), (3, 9, 0), (4, 9.8, 0))
        ],
        [{"path": "queries/q.jpg", "footprint": box(1, 0), "heading": 350, "altitude": 120.5}],
    )
    truth = FootprintTruth.read(path, Ranges(0.25, 0.05))
    gallery = gallery_of(*(photo(n, altitude=300) for n in (1, 2, 3, 4, 5)))
    judgement = truth.judge(asked(photo(1, altitude=300)), gallery)
    # 30, 10 and 2 % of the query's ground are in the others; nothing is known of the last
    assert judgement.grades.tolist() == [RELEVANT, RELEVANT, IGNORED, NEGATIVE, IGNORED]
    assert np.allclose(judgement.rightness[:4], [1, 0.3, 0.1, 0.02]) and judgement.own == 0
    assert judgement.facts == Facts(300, 170, "d")  # against the most overlapping one that is not itself
    picture = truth.judge(Query("/somewhere/queries/q.jpg"), gallery)
    assert picture.facts == Facts(120.5, 20, "d") and picture.own is None
    assert picture.grades.tolist() == [RELEVANT, RELEVANT, IGNORED, IGNORED, IGNORED]
    assert (
        truth.judge(asked(photo(5)), gallery).reason
        == truth.judge(Query("r.jpg"), gallery).reason
        == "not in truth.json"
    )


def test_overlap_is_the_share_of_the_querys_ground() -> None:
    path = write_footprints(
        [
            {"key": image_key("d", "c", 1), "footprint": [*box(0, 0, 10), [0, 0]]},
            {"key": image_key("d", "c", 2), "footprint": box(2, 2, 2)},
        ]
    )
    truth, gallery = FootprintTruth.read(path), gallery_of(photo(1), photo(2))
    assert np.allclose(truth.judge(asked(photo(1)), gallery).rightness, [1, 0.04])
    assert np.allclose(truth.judge(asked(photo(2)), gallery).rightness, [1, 1])


def test_a_crop_names_its_photograph() -> None:
    path = write_footprints(
        [{"key": image_key("d", "c", 1), "footprint": box(0, 0)}],
        [{"path": "crop.jpg", "footprint": box(2, 2, 4), "key": image_key("d", "c", 1)}],
    )
    assert FootprintTruth.read(path).judge(Query("crop.jpg"), gallery_of(photo(1))).own == 0


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("x", "has no 'key'"),
        ({"footprint": box(0, 0)}, "has no 'key'"),
        ({"key": "nowhere", "footprint": box(0, 0)}, "'nowhere' is not a valid key"),
        ({"key": "image/d/c/0001"}, "not a convex polygon"),
        ({"key": "image/d/c/0001", "footprint": [[0, 0], [1, 1]]}, "not a convex polygon"),
        ({"key": "image/d/c/0001", "footprint": [[0, 0], [1, 1], [2, 2]]}, "not a convex polygon"),
        ({"key": "image/d/c/0001", "footprint": [[0, 0], [1, 1], [0, 1], [1, 0]]}, "not a convex polygon"),  # a bow
        ({"key": "image/d/c/0001", "footprint": [[0, 0], [4, 0], [1, 1], [0, 4]]}, "not a convex polygon"),
        ({"key": "image/d/c/0001", "footprint": [[0, 0], ["a", 0], [1, 1]]}, "not a convex polygon"),
        ({"key": "image/d/c/0001", "footprint": box(0, 0), "heading": "N"}, "heading must be a number, got 'N'"),
    ],
)
def test_footprints_that_say_it_wrongly(entry: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        FootprintTruth.read(write_footprints([entry]))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"dataset": 3}', '{"dataset": []}', "[" * 100_000])
def test_json_that_is_no_footprints(text: str) -> None:
    Path("t.json").write_text(text)
    with pytest.raises(InputError, match="footprint"):
        read_truth(Path("t.json"))


# -- ground --------------------------------------------------------------------------------------------------------------

poses = st.builds(Pose, st.floats(-60, 60), st.floats(-60, 60), st.floats(20, 90), st.floats(0, 360))


@given(poses, st.lists(poses, max_size=6), st.booleans())
def test_shares_agree_with_clipping_one_by_one(query: Pose, others: list[Pose], clockwise: bool) -> None:
    camera = Camera()
    outlines = [np.array(footprint(pose, camera)) for pose in others]
    mine = np.array(footprint(query, camera))
    found = shares(mine[::-1] if clockwise else mine, np.array(outlines).reshape(len(outlines), 4, 2))
    expected = [overlap(footprint(query, camera), footprint(pose, camera)) for pose in others]
    assert np.allclose(found, expected, atol=1e-9)
    assert is_convex(mine)


def test_shares_of_other_polygons() -> None:
    triangle = np.array([[0, 0], [4, 0], [0, 4]], float)
    square = np.array([box(0, 0, 2), box(10, 10, 1), box(-50, -50, 200)], float)
    assert np.allclose(shares(triangle, square), [4 / 8, 0, 1])
    padded = np.array([[0, 0], [2, 0], [0, 2], [0, 2]], float)  # a corner twice, as padding has it
    assert np.allclose(shares(np.array(box(0, 0, 2), float), padded[None]), [0.5])
    assert is_convex(padded) and areas(padded[None]).tolist() == [2]
    assert shares(triangle, np.zeros((0, 4, 2))).tolist() == []


def test_distances_take_arrays() -> None:
    found = distances(0.0, 0.0, np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert found == pytest.approx([111_195, 111_195], rel=1e-4)


# -- splits --------------------------------------------------------------------------------------------------------------


def test_few_values_are_classes_of_their_own() -> None:
    facts = [Facts(300, 90, "b"), Facts(150, None, "a"), Facts(None, 90, ""), Facts(300, 0, "b")]
    assert split(facts, "altitude") == [("150 m", [1]), ("300 m", [0, 3]), ("unknown", [2])]
    assert split(facts, "rotation") == [("0°", [3]), ("90°", [0, 2]), ("unknown", [1])]
    assert split(facts, "dataset") == [("a", [1]), ("b", [0, 3]), ("unknown", [2])]
    assert split([Facts(9000.0), Facts(8999.996)], "altitude") == [("9000 m", [0, 1])]  # written alike


def test_many_values_are_put_into_bands() -> None:
    turns = [Facts(rotation=turn) for turn in (350, 0, 14.9, 15, 44, 90, 100, 120, 150, 180, 200, 240, 345, 344.9)]
    found = dict(split(turns, "rotation"))
    assert found["0 ± 15°"] == [0, 1, 2, 12] and found["30 ± 15°"] == [3, 4] and found["330 ± 15°"] == [13]
    heights = [Facts(altitude=h) for h in (*np.linspace(135, 165, 10), *np.linspace(270, 330, 10))]
    bands = split(heights, "altitude")
    assert [name for name, _ in bands] == [f"{m} ± 10 m" for m in (140, 160, 280, 300, 320, 340)]


@given(
    st.lists(
        st.builds(
            Facts,
            st.none() | st.floats(0, 9000),
            st.none() | st.floats(0, 360, exclude_max=True),
            st.sampled_from(["", "a", "b"]),
        ),
        max_size=60,
    ),
    st.sampled_from(["altitude", "rotation", "dataset"]),
)
def test_every_query_is_in_one_class(facts: list[Facts], axis: str) -> None:
    classes = split(facts, axis)
    assert sorted(i for _, members in classes for i in members) == list(range(len(facts)))
    assert len({name for name, _ in classes}) == len(classes) <= 13 and all(members for _, members in classes)
