"""Conditions: what is typed is what is meant, and what is meant survives quoting and escaping."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.schema.errors import FilterError
from outcrop.schema.filters import Condition, Filter, Value, equals, ids_expression, literal, parse, where
from outcrop.schema.item import FIELDS, POOLED_VIEW, UNKNOWN_COORDINATE, Item, Kind

TEXTS = [f.name for f in FIELDS.values() if f.type == "text" and f.name != "kind"]
INTEGERS = [f.name for f in FIELDS.values() if f.type == "integer"]
NUMBERS = [f.name for f in FIELDS.values() if f.type == "number"]
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\"\\,.*%_= '잠🦴")
TEXT = st.text(CHARACTERS, max_size=12).map(lambda text: unicodedata.normalize("NFC", text))
WHOLE = st.integers(1 - 2**63, 2**63 - 1)
REAL = st.floats(allow_nan=False, allow_infinity=False)


def row(**values: Any) -> dict[str, Any]:
    """A row with natural values and these."""
    return Item(**{"key": "k", "kind": Kind.IMAGE, "dataset": "d", "capture_id": "c"} | values).row()


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    """Any condition on any field."""
    name, values = draw(
        st.sampled_from([(n, TEXT) for n in TEXTS] + [(n, WHOLE) for n in INTEGERS] + [(n, REAL) for n in NUMBERS])
    )
    operator = draw(st.sampled_from(["in", "range"] + (["prefix"] if name in TEXTS else [])))
    negated = draw(st.booleans())
    if operator == "in":
        return Condition(name, "in", tuple(draw(st.lists(values, min_size=1, max_size=4))), negated)
    if operator == "prefix":
        return Condition(name, "prefix", (draw(TEXT),), negated)
    low, high = draw(st.tuples(st.none() | values, st.none() | values).filter(lambda pair: pair != (None, None)))
    return Condition(name, "range", (low, high), negated)


def typed(condition: Condition) -> str | None:
    """The condition as a person would type it; None where the grammar has no words for it."""
    sign = "!=" if condition.negated else "="
    if condition.operator == "in":
        return condition.field + sign + ",".join(quoted(v) if isinstance(v, str) else repr(v) for v in condition.values)
    if condition.operator == "prefix":
        prefix = condition.values[0]
        if re.search(r'[,"]|\.\.', prefix) or prefix != prefix.strip():
            return None
        return f"{condition.field}{sign}{prefix}*"
    if condition.field in TEXTS or (None not in condition.values and condition.values[0] > condition.values[1]):
        return None
    low, high = ("" if v is None else repr(v) for v in condition.values)
    return f"{condition.field}{sign}{low}..{high}"


@given(conditions())
def test_a_typed_condition_is_the_condition_that_was_meant(condition: Condition) -> None:
    text = typed(condition)
    if text is not None:
        assert parse(text) == condition


@given(st.text() | st.builds("{}{}{}".format, st.sampled_from(list(FIELDS)), st.sampled_from(["=", "!="]), st.text()))
def test_any_text_is_a_condition_or_a_named_mistake(text: str) -> None:
    try:
        condition = parse(text)
    except FilterError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert condition.field in FIELDS
        assert condition.expression


@given(TEXT)
def test_literals_cannot_be_left(text: str) -> None:
    """A literal is one string of the expression language (whose escapes are JSON's), so nothing can follow it."""
    assert json.loads(literal(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(bool))
def test_a_text_in_quotes_means_itself(text: str) -> None:
    """Stars, dots, commas and blanks are nothing special within quotes."""
    plain = unicodedata.normalize("NFC", text)
    condition = parse(f"capture_id = {quoted(text)} ")
    assert condition == Condition("capture_id", "in", (plain,))
    assert condition.matches(row(capture_id=plain))
    assert not condition.matches(row(capture_id=plain + "x"))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("altitude=300", Condition("altitude", "in", (300.0,))),
        ("altitude = 300 , 400", Condition("altitude", "in", (300.0, 400.0))),
        ("altitude=200..400", Condition("altitude", "range", (200.0, 400.0))),
        ("altitude=200..", Condition("altitude", "range", (200.0, None))),
        ("altitude!=..4e2", Condition("altitude", "range", (None, 400.0), True)),
        ("altitude=-1.5..-0.5", Condition("altitude", "range", (-1.5, -0.5))),
        ("frame=3.0", Condition("frame", "in", (3,))),
        ("frame=1e3", Condition("frame", "in", (1000,))),
        ("source_mtime_ns=1758187555123456789", Condition("source_mtime_ns", "in", (1758187555123456789,))),
        ("source_size=9223372036854775807", Condition("source_size", "in", (2**63 - 1,))),
        ("kind=image,view", Condition("kind", "in", ("image", "view"))),
        ("capture_id=250918*", Condition("capture_id", "prefix", ("250918",))),
        ("capture_id=*", Condition("capture_id", "prefix", ("",))),
        ('capture_id="250918*"', Condition("capture_id", "in", ("250918*",))),
        ('capture_id="a..b"', Condition("capture_id", "in", ("a..b",))),
        ('dataset="a,b",c', Condition("dataset", "in", ("a,b", "c"))),
        (r'dataset="a\"b\\"', Condition("dataset", "in", ('a"b\\',))),
        ('category=""', Condition("category", "in", ("",))),
        ("dataset=a=b", Condition("dataset", "in", ("a=b",))),
        ("captured_at=2025-09-01..2025-09-30", Condition("captured_at", "range", ("2025-09-01", "2025-09-30"))),
    ],
)
def test_the_grammar(text: str, condition: Condition) -> None:
    assert parse(text) == condition


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("altitude", "is not a valid condition"),
        ("altitude>300", "is not a valid condition"),
        ("", "is not a valid condition"),
        ("altidude=300", "did you mean 'altitude'"),
        ("datset=x", "did you mean 'dataset'"),
        ("zzzzzzzz=1", "the fields are key, kind"),
        ("altitude=", "has no value"),
        ("altitude=high", "altitude must be a number"),
        ("altitude=nan", "finite"),
        ("altitude=inf..", "finite"),
        ("altitude=1,,2", "empty value in the list"),
        ("altitude=1,", "empty value in the list"),
        ("altitude=3*", "has no prefix"),
        ("altitude=..", "neither a beginning nor an end"),
        ("frame=1.5", "whole number"),
        ("frame=9223372036854775808", "whole number"),
        ("frame=-9223372036854775808", "whole number"),  # a server cannot parse it
        ("frame=1e30", "whole number"),
        ("frame=" + "9" * 5000, "frame"),
        ("kind=photo", "kind must be one of image, reference, view, specimen"),
        ("kind=imag", "did you mean 'image'"),
        ("dataset=a*,b", "a prefix cannot be part of a list"),
        ("altitude=400..200", "write altitude=200.0..400.0"),
        ('dataset="a', "not closed"),
        ("dataset=\x07", "control character"),
    ],
)
def test_mistakes_are_named(text: str, complaint: str) -> None:
    with pytest.raises(FilterError, match=re.escape(complaint)) as caught:
        where(text)
    assert len(str(caught.value)) < 6000


@given(WHOLE, st.sampled_from(INTEGERS))
def test_whole_numbers_are_exact(value: int, name: str) -> None:
    """Nanoseconds since 1970 are past what a float can tell apart."""
    for condition in (parse(f"{name}={value}"), equals(name, value).conditions[0]):
        assert condition.values == (value,)
        (kind,) = FIELDS[name].kinds[:1]
        assert condition.matches(row(kind=kind, **{name: value}))
        assert not condition.matches(row(kind=kind, **{name: value + (1 if value < 2**63 - 1 else -1)}))


@given(conditions(), st.sampled_from(Kind))
def test_a_condition_and_its_opposite_share_out_the_rows_that_it_is_about(condition: Condition, kind: Kind) -> None:
    about = FIELDS[condition.field].kinds
    value = next((v for v in condition.values if v is not None), None)
    this = row(kind=kind, **{condition.field: value})
    opposite = Condition(condition.field, condition.operator, condition.values, not condition.negated)
    answers = (condition.matches(this), opposite.matches(this))
    unknown = (condition.field in ("latitude", "longitude") and value == UNKNOWN_COORDINATE) or (
        condition.field == "altitude" and condition.operator == "range" and value <= 0
    )
    assert sum(answers) == (0 if kind not in about or unknown else 1)


def test_natural_values_answer_no_condition_that_is_not_about_them() -> None:
    """A specimen has altitude 0, rotation 0 and latitude 999 because no column is ever empty: they mean nothing."""
    specimen = row(kind=Kind.SPECIMEN, category="x")
    for text in ("altitude=0", "altitude=0..10", "altitude!=300", "rotation=0", "crop=0", "latitude!=1", "frame=0.."):
        assert not where(text).matches(specimen), text
    assert not where("view=-1..").matches(row(view=POOLED_VIEW))
    unplaced = row()
    assert not where("latitude=0..").matches(unplaced)
    assert not where("latitude!=5").matches(unplaced)
    assert not where("altitude=..100").matches(unplaced)
    assert not where("altitude!=100..200").matches(unplaced)
    assert where("altitude=0").matches(unplaced)
    assert where("altitude!=100").matches(unplaced)


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("250918", ["250918", "250918_1", "250918\U0010ffff"], ["25091", "250919", ""]),
        ("a%", ["a%", "a%b"], ["ab", "a"]),
        ("a_", ["a_", "a_b"], ["ab", "aab"]),
        ("잠", ["잠", "잠실"], ["잡", ""]),
        ("\ud7ff", ["\ud7ff", "\ud7ffz"], ["\ue000"]),
        ("\U0010ffff", ["\U0010ffff", "\U0010ffff1"], ["\uffff"]),
        ("", ["", "x"], []),
    ],
)
def test_prefixes_are_ranges_of_code_points(prefix: str, inside: list[str], outside: list[str]) -> None:
    """What `matches` says by definition, the expression's bounds say to Milvus; surrogates are skipped."""
    condition = Condition("capture_id", "prefix", (prefix,))
    low, _, high = condition.expression.strip("()").partition(" and ")
    bounds = [json.loads(b.split(" ", 2)[2]) for b in (low, high) if b]
    for text, expected in [(t, True) for t in inside] + [(t, False) for t in outside]:
        assert condition.matches(row(capture_id=text)) == expected
        assert (text >= bounds[0] and (len(bounds) < 2 or text < bounds[1])) == expected


@given(st.lists(conditions(), max_size=3), st.lists(conditions(), max_size=3))
def test_and_joins(one: list[Condition], other: list[Condition]) -> None:
    both = Filter(tuple(one)) & Filter(tuple(other))
    assert both == Filter((*one, *other))
    assert bool(both) == bool(one or other)
    this = row()
    assert both.matches(this) == (Filter(tuple(one)).matches(this) and Filter(tuple(other)).matches(this))


def test_raw_expressions_stay_apart() -> None:
    """An `or` within a raw expression must not swallow the conditions beside it."""
    assert where("frame=1", raw=" a or b ").expression.endswith(" and (a or b)")
    assert (where(raw="a or b") & where(raw="c or d")).expression == "((a or b) and (c or d))"
    with pytest.raises(FilterError, match="only understood by Milvus"):
        where(raw="frame > 1").matches(row())


@given(st.lists(st.lists(TEXT, min_size=1, max_size=3), min_size=1, max_size=3))
def test_chosen_is_what_every_condition_allows(lists: list[list[str]]) -> None:
    filter = Filter(tuple(Condition("dataset", "in", tuple(values)) for values in lists))
    allowed = set.intersection(*(set(values) for values in lists))
    assert filter.chosen("dataset") == tuple(sorted(allowed))
    assert filter.chosen("kind") is None
    assert not filter.without("dataset")


@pytest.mark.parametrize("text", ["dataset!=a", "dataset=a*", "dataset=a..b"])
def test_only_equality_chooses_partitions(text: str) -> None:
    assert where(text).chosen("dataset") is None
    assert where(text).without("dataset") == where(text)


@given(st.lists(TEXT, max_size=5))
def test_ids_are_escaped(ids: list[str]) -> None:
    assert json.loads(ids_expression(ids).removeprefix("id in ")) == ids


@pytest.mark.parametrize("value", [math.nan, math.inf, "", "x"])
def test_numbers_are_finite_numbers(value: Value) -> None:
    with pytest.raises(FilterError, match="altitude"):
        equals("altitude", value)


def test_a_number_is_no_text() -> None:
    with pytest.raises(FilterError, match="dataset must be a text"):
        equals("dataset", 3)


@pytest.mark.parametrize(
    "raw",
    [
        "frame >= 0) or (frame >= 0",
        "(frame >= 0",
        'key == "a',
        "key == 'a",
        "id in ['a'",
        "frame >= 0]",
        "(id in [1)]",
        ")(",
    ],
)
def test_a_raw_filter_cannot_leave_its_parentheses(raw: str) -> None:
    with pytest.raises(FilterError, match="--filter"):
        where("altitude=0..1", raw=raw)


@pytest.mark.parametrize(
    "raw", ['key == "a) or (b"', "key like 'it\\'s (%'", "(frame > 1 and (frame < 3)) or id in [\"(\", ']']", ""]
)
def test_parentheses_in_texts_are_texts(raw: str) -> None:
    assert where(raw=raw).raw == raw
