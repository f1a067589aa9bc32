"""Keys and ids: any name gives a key, a key gives its names back, and no two things share one."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.schema.errors import InputError
from outcrop.schema.item import (
    ANSWER_FIELDS,
    FIELDS,
    ImageKey,
    Item,
    Kind,
    image_key,
    item_id,
    parse_image_key,
    part,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    ["a/b", "%2F", "a%2Fb", "..", " ", "잠실", "ジャム", "é", "e\N{COMBINING ACUTE ACCENT}", "\0", "a\nb", "🦴"]
)
FRAMES = st.integers(0, 10**12)


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@given(NAMES, NAMES, FRAMES)
def test_a_key_gives_its_components_back(dataset: str, capture: str, frame: int) -> None:
    key = image_key(dataset, capture, frame)
    assert parse_image_key(key) == ImageKey(nfc(dataset), nfc(capture), frame)
    assert key.count("/") == 3
    assert not any(ord(c) < 32 for c in key)


@given(st.tuples(NAMES, NAMES, FRAMES), st.tuples(NAMES, NAMES, FRAMES))
def test_different_components_never_share_a_key(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    same = (nfc(one[0]), nfc(one[1]), one[2]) == (nfc(other[0]), nfc(other[1]), other[2])
    assert (image_key(*one) == image_key(*other)) == same


@given(st.lists(NAMES, min_size=2, max_size=2), st.integers(0, 30))
def test_moving_a_slash_makes_another_key(names: list[str], at: int) -> None:
    """``("a/b", "c")`` and ``("a", "b/c")`` read alike when they are only joined."""
    text = "/".join(names)
    splits = [(text[:i], text[i + 1 :]) for i, c in enumerate(text) if c == "/" and 0 < i < len(text) - 1]
    splits = [(a, b) for a, b in splits if a and b]
    keys = {image_key(a, b, at) for a, b in splits}
    assert len(keys) == len({(nfc(a), nfc(b)) for a, b in splits})


@given(st.text())
def test_an_id_is_32_hex_characters(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        return
    digest = item_id(key)
    assert len(digest) == 32
    assert int(digest, 16) >= 0 and digest == digest.lower()
    assert digest == item_id(key)


def test_ids_are_fixed_for_ever() -> None:
    """Stored collections hold these ids: another digest would make every ingested row a stranger."""
    assert item_id("image/jamshill_image/250918092555_300/0001") == "d38464796032ce16bca3fc02a4586195"


def test_both_spellings_of_a_name_are_one_item() -> None:
    """macOS writes names decomposed (NFD), Linux and Windows composed (NFC)."""
    for name in ("잠실", "ガラス", "Müller"):
        assert image_key(unicodedata.normalize("NFD", name), name, 1) == image_key(nfc(name), name, 1)


@given(st.text() | st.from_regex(r"image/[^/]*/[^/]*/[0-9]{1,6}", fullmatch=True))
def test_a_text_that_is_taken_for_a_key_is_the_key_of_what_it_says(text: str) -> None:
    """Two spellings of one key would be one image with two rows."""
    try:
        parsed = parse_image_key(text)
    except InputError as error:
        assert "image/<dataset>/<capture_id>/<frame>" in str(error)
    else:
        assert str(parsed) == nfc(text), "keys are compared in NFC"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "image/a/b",
        "image/a/b/1/2",
        "reference/a/b/0001",
        "image/a/b/-001",
        "image/a/b/٠٠٠١",
        "image/a/b/",
        "image//b/0001",
        "image/a/b/01",
        "image/a/b/00001",
        "image/%41/b/0001",
        "image/a/b/" + "1" * 5000,
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not the key of an image"):
        parse_image_key(text)


@pytest.mark.parametrize("name", ["", "\ud800", "a\udfffb"])
def test_a_name_that_cannot_be_stored_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        part(name)


VALUES = {"text": st.text(st.characters(exclude_categories=["Cs"])), "integer": st.integers(-(2**63), 2**63 - 1)}
JSON = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


@st.composite
def items(draw: st.DrawFn) -> Item:
    values = {f.name: draw(VALUES.get(f.type, st.floats(allow_nan=False))) for f in FIELDS.values() if f.name != "kind"}
    extra = draw(st.dictionaries(st.text(min_size=1).filter(lambda n: n not in FIELDS and n != "vector"), JSON))
    return Item(kind=draw(st.sampled_from(Kind)), **values, extra=extra)


@given(items())
def test_a_row_gives_its_item_back(item: Item) -> None:
    row = item.row()
    assert row["id"] == item.id
    back = Item.from_row(row | {"vector": [1.0]})
    assert back == Item(**{**vars(item), "extra": {n: v for n, v in item.extra.items() if n != "id"}})
    assert isinstance(back.kind, Kind)


@given(items(), st.floats(0, 9000), st.text(max_size=9))
def test_quick_ways_make_the_items_of_slow_ones(item: Item, altitude: float, source: str) -> None:
    changed = item.changed(altitude=altitude, source=source, extra={"a": 1})
    assert changed == replace(item, altitude=altitude, source=source, extra={"a": 1})
    assert item.changed(rotation=15.0) == replace(item, rotation=15.0) and changed.source == nfc(source)
    assert Item.of_fields(item.row()) == replace(item, extra={})


def test_extra_values_never_replace_fields() -> None:
    """The dynamic field lies flat beside the fields: an extra named `id` must not become the primary key."""
    item = Item("k", Kind.IMAGE, "d", "c", extra={"id": "x", "frame": 9, "vector": 0, "width": 4})
    row = item.row()
    assert (row["id"], row["frame"], row["width"]) == (item.id, 0, 4)


def test_every_field_has_a_natural_value() -> None:
    """No nulls: an item made of the bare necessities fills every column."""
    row = Item("k", Kind.SPECIMEN, "d", "c").row()
    assert set(row) == {"id", *FIELDS}
    assert None not in row.values()
    types = {"text": str, "integer": int, "number": float}
    assert all(type(row[f.name]) is types[f.type] for f in FIELDS.values())
    assert set(ANSWER_FIELDS) <= set(FIELDS)
