"""Angles as people read them, and digits in tables that mean something."""

from __future__ import annotations

import pytest

from outcrop.query.answer_table import table_columns, table_rows
from outcrop.query.answers import Hit, Result
from outcrop.query.answers import Query as Asked
from outcrop.query.report_facts import hit_facts
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.geometry import GeometricMatch
from outcrop.schema.angles import angle_text
from outcrop.schema.item import Item, Kind, image_key


@pytest.mark.parametrize(
    ("degrees", "digits", "said"),
    [
        (0, 0, "0"),
        (359.4, 0, "359"),
        (359.6, 0, "0"),
        (-0.2, 0, "0"),
        (720, 0, "0"),
        (359.96, 1, "0.0"),
        (-90, 1, "270.0"),
    ],
)
def test_nothing_is_turned_by_360_degrees(degrees: float, digits: int, said: str) -> None:
    assert angle_text(degrees, digits) == said


def result(altitudes: tuple[float, ...], inliers: tuple[int, ...]) -> Result:
    hits, verifications = [], {}
    for number, (altitude, count) in enumerate(zip(altitudes, inliers, strict=True), 1):
        item = Item(image_key("d", "c", number), Kind.IMAGE, "d", "c", frame=number, altitude=altitude)
        hits.append(Hit(number, 0.9, item))
        corners = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 9.0))
        square = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        match = GeometricMatch(
            count, count, "sift", rotation=359.97, scale=1.0, homography=square, footprint=corners,
            query_size=(9, 9), candidate_size=(9, 9),
        )  # fmt: skip
        verifications[item.key] = Verification(match, True)
    return Result(Asked("a.jpg"), tuple(hits), verifications=verifications, match=True)


def test_tables_say_no_more_than_is_known() -> None:
    same = result((0.0, 40.0, 40.1), (400, 500, 600))
    rows = table_rows(same)
    assert [row["altitude"] for row in rows] == [None, "40.0", "40.1"]
    assert {row["scale"] for row in rows} == {"1.000"} and {row["turned"] for row in rows} == {"0.0"}
    assert "combined" not in table_columns(same), "1.0000 for all of them"
    assert table_columns(result((0.0, 40.0, 40.0), (400, 500, 12)))[-1] == "combined"
    assert [row["altitude"] for row in table_rows(result((40.0, 120.0), (400, 500)))] == ["40", "120"]


def test_reports_say_0_degrees_too() -> None:
    one = result((40.0,), (400,))
    facts = hit_facts(one.hits[0], one.verification(one.hits[0]), None)
    assert "query turned 0° counter-clockwise, verified" in facts
