"""Own columns: tables as people have them become typed values, or an error that names the cell; conditions mean what they say."""

from __future__ import annotations

import datetime
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.schema.column_filters import ColumnCondition
from outcrop.schema.column_match import Match, match
from outcrop.schema.column_tables import MetadataTable, read_metadata
from outcrop.schema.columns import (
    RESERVED,
    Column,
    Columns,
    ColumnType,
    column_name,
    day,
    inferred,
    key_of,
    name_of,
    own_of,
)
from outcrop.schema.errors import FilterError, InputError
from outcrop.schema.filters import Filter, asked, where
from outcrop.schema.item import UNKNOWN_COORDINATE, Item, Kind, image_key, reference_key, specimen_key, view_key

COLUMNS = Columns(
    (Column("collector", "text"), Column("age_ma", "number"), Column("holotype", "boolean"), Column("found", "date"))
)


def table(folder: Path, text: str | bytes, name: str = "t.csv", **how: Any) -> MetadataTable:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_metadata(path, **how)


def refusal(folder: Path, text: str | bytes, **how: Any) -> str:
    with pytest.raises(InputError) as caught:
        table(folder, text, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused_file(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_metadata(path)
    return str(caught.value)


def types_of(read: MetadataTable) -> dict[str, str]:
    return {column.name: column.type for column in read.columns.values()}


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", "", "-3e2"], "number"),
        (["1", "NA", "nan"], "number"),
        (["007", "008"], "text"),  # names, not amounts
        (["1758187555123456789"], "text"),  # a float could not tell it from the next
        (["48.129640939037564", "11.5"], "number"),  # as programs write floats
        (["1_000"], "text"),
        (["1987", "1990"], "number"),
        (["2021-05-03", "2021-05"], "date"),
        (["2021/5/3", "2021.12.24"], "date"),
        (["2021-05-03", "yesterday"], "text"),
        (["2021-13-03"], "text"),
        (["true", "FALSE", ""], "boolean"),
        (["yes", "no"], "text"),
        (["Kim", "1"], "text"),
        (["", " ", "nan"], None),
        ([True, False, None], "boolean"),
        ([1, 2.5, float("nan")], "number"),
        ([2**60], "text"),
        ([datetime.date(2021, 5, 3)], "date"),
    ],
)
def test_a_column_has_the_narrowest_type_that_fits(cells: list[object], kind: str | None) -> None:
    assert inferred(cells) == kind


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("2021", "2021"),
        ("2021-5", "2021-05"),
        ("2021/05/03", "2021-05-03"),
        ("2021-05-03 10:30", "2021-05-03T10:30"),
        ("2021-05-03T10:30:05.25", "2021-05-03T10:30:05.250000"),
        ("2021-05-03T23:30-05:00", "2021-05-04T04:30"),
        ("2021-05-03T10:30:00Z", "2021-05-03T10:30:00"),
    ],
)
def test_dates_are_kept_as_far_as_they_are_known(text: str, stored: str) -> None:
    assert day(text) == stored
    assert day(stored) == stored


@pytest.mark.parametrize(
    "text", ["03.05.2021", "2021-02-30", "21-05-03", "2021-05-03T25:00", "", "9999-12-31T23:59-05:00"]
)
def test_what_is_no_date_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError, match="date"):
        day(text)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_names_in_rows_are_identifiers_that_lead_back(heading: str) -> None:
    try:
        name = column_name(heading)
    except ValueError:
        return
    if name in RESERVED:
        return
    assert key_of(name).isascii() and key_of(name).isidentifier()
    assert name_of(key_of(name)) == name
    assert own_of({key_of(name): 1.0, "width": 3}) == {name: 1.0}
    assert where(f'{name}="x"', columns=Columns((Column(name, "text"),))).matches({key_of(name): "x"})


# -- conditions --------------------------------------------------------------------------------------------------------

WORD = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=5).map(
    lambda text: unicodedata.normalize("NFC", text)
)
DATES = st.dates().map(str) | st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds"))
VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    "text": WORD,
    "number": st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0),
    "boolean": st.booleans(),
    "date": DATES | DATES.map(lambda text: text[:7]) | DATES.map(lambda text: text[:4]),
}


@st.composite
def own_conditions(draw: st.DrawFn) -> tuple[ColumnCondition, Any]:
    """A condition on an own column, and a value of it."""
    column = draw(st.sampled_from(list(COLUMNS.values())))
    values = VALUES[column.type]
    operator = draw(st.sampled_from(["in", "range", "prefix"] if column.type in ("text", "date") else ["in", "range"]))
    if operator == "range" and column.type != "boolean":
        low, high = sorted(draw(st.tuples(values, values)))
        wanted = draw(st.sampled_from([(low, high), (low, None), (None, high)]))
    else:
        operator = "in" if column.type == "boolean" else operator
        wanted = tuple(draw(st.lists(values, min_size=1, max_size=1 if operator == "prefix" else 3)))
    return ColumnCondition(column, operator, wanted, draw(st.booleans())), draw(
        values | st.sampled_from(wanted).filter(bool)
    )


@given(own_conditions())
def test_a_value_fulfils_a_condition_or_its_opposite_and_a_missing_one_neither(
    pair: tuple[ColumnCondition, Any],
) -> None:
    condition, value = pair
    opposite = ColumnCondition(condition.column, condition.operator, condition.values, not condition.negated)
    row = {condition.column.key: value}
    assert condition.matches(row) != opposite.matches(row)
    assert not condition.matches({}) and not opposite.matches({})
    assert not condition.matches({condition.column.key: None})


@given(own_conditions())
def test_expressions_compare_and_nothing_else(pair: tuple[ColumnCondition, Any]) -> None:
    """`not` and `!=` are true of missing values on Milvus 2.3.5, and false on Milvus Lite."""
    expression = pair[0].expression
    outside = "".join(part for n, part in enumerate(expression.replace('\\"', "").split('"')) if n % 2 == 0)
    assert "not" not in outside and "!=" not in outside and "exists" not in outside


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("age_ma=100..200", ["a"]),
        ("age_ma!=100..200", ["b"]),
        ("age_ma=66", ["b"]),
        ("collector=Kim*", ["a", "b"]),
        ("collector!=Kim*", ["c"]),
        ("collector!=Kimura", ["a", "c"]),
        ('collector="Kim Minseo",Cho', ["a", "c"]),
        ("holotype=true", ["a"]),
        ("holotype!=yes", ["c"]),
        ("found=2019", ["a", "b"]),
        ("found=2019-05", ["a"]),
        ("found=2019-05..2019-06", ["a", "b"]),
        ("found=2019-05..2019", ["a", "b"]),
        ("found=..2019-06-01", ["a"]),
        ("found!=2019-05-03", ["b", "c"]),
    ],
)
def test_what_conditions_keep(text: str, kept: list[str]) -> None:
    rows = {
        "a": {"collector": "Kim Minseo", "age_ma": 150.0, "holotype": True, "found": "2019-05-03"},
        "b": {"collector": "Kimura", "age_ma": 66.0, "found": "2019-06-02T10:00"},
        "c": {"collector": "Cho", "holotype": False, "found": "2021"},
        "d": {},
    }
    filter = asked(text).bound(COLUMNS)
    assert [n for n, row in rows.items() if filter.matches({key_of(k): v for k, v in row.items()})] == kept


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("age_mya=1", "did you mean 'age_ma'"),
        ("qqqq=1", "own columns: collector, age_ma, holotype, found"),
        ("age_ma=old", "age_ma is a number: 'old' is not a number"),
        ("age_ma=1*", "has no prefix"),
        ("age_ma=200..100", "runs backwards"),
        ("found=2021..2019", "runs backwards"),
        ("holotype=1..2", "boolean"),
        ("found=yesterday", "is not a date"),
        ('collector=""', "a missing value, which fulfils no condition; --filter 'not (exists own_collector)'"),
        ("age_ma=..", "neither a beginning nor an end"),
    ],
)
def test_mistakes_are_named(text: str, complaint: str) -> None:
    filter = asked(text)
    with pytest.raises(FilterError) as caught:
        filter.bound(COLUMNS)
    assert complaint in str(caught.value)


def test_unbound_conditions_say_what_is_unknown() -> None:
    with pytest.raises(FilterError, match="unknown field 'altidude'; did you mean 'altitude'"):
        _ = asked("altidude=300").expression
    with pytest.raises(FilterError, match="unknown field"):
        asked("altidude=300").matches({})
    assert asked("altitude=300").bound(Columns()) == where("altitude=300")
    assert Filter().bound(COLUMNS) == Filter()


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "text", "said"),
    [
        ("utf-8-sig", "specimen,채집자\na,김민서\n", ""),
        ("utf-16", "specimen,채집자\na,김민서\n", "read as UTF-16"),
        ("cp949", "specimen,채집자\na,김민서\nb,암모나이트 화석\n", "read as cp949"),
        ("shift_jis", "specimen,採集者\na,アンモナイト\nb,ひさし\n", "read as shift_jis"),
        ("cp1252", "specimen,Sammler\na,Müller\nb,Álvarez\nc,Grün\n", "read as cp1252"),
    ],
)
def test_encodings_are_found_out_and_said(tmp_path: Path, encoding: str, text: str, said: str) -> None:
    read = table(tmp_path, text.encode(encoding))
    heading, value = text.splitlines()[0].partition(",")[2], text.splitlines()[1].partition(",")[2]
    assert read.rows[0].values == {key_of(heading): value}
    assert (said in " ".join(read.remarks)) and bool(said) == bool(read.remarks)
    again = table(tmp_path, text.encode(encoding), encoding=encoding)
    assert again.rows == read.rows and not again.remarks


def test_a_wrong_encoding_is_named(tmp_path: Path) -> None:
    assert "is not ascii: byte 9" in refusal(tmp_path, "specimen,é\na,b", encoding="ascii")
    assert "'utf-99' is not known" in refusal(tmp_path, "specimen,b\na,b", encoding="utf-99")


def test_types_are_declared_known_or_inferred(tmp_path: Path) -> None:
    text = "specimen,age:text,n,found:date,site:skip,empty,type: Boolean\na,12,1,2019,x,,yes\nb,,2,,y,,0\n"
    read = table(tmp_path, text)
    assert types_of(read) == {"age": "text", "n": "number", "found": "date", "type": "boolean"}
    assert read.rows[0].values == {key_of("age"): "12", key_of("n"): 1.0, key_of("found"): "2019", key_of("type"): True}
    assert read.rows[1].values == {key_of("age"): None, key_of("n"): 2.0, key_of("found"): None, key_of("type"): False}
    assert any("without any value are left out: empty" in remark for remark in read.remarks)
    known = Columns((Column("n", "text"),))
    assert types_of(table(tmp_path, "specimen,n\na,1\n", known=known)) == {"n": "text"}
    assert "declared as number, but the collection has it as text" in refusal(
        tmp_path, "specimen,n:number\na,1\n", known=known
    )
    assert "'numbr' is not a type; did you mean 'number'" in refusal(tmp_path, "specimen,n:numbr\na,1\n")


def test_a_wrong_type_is_named_by_row_and_column(tmp_path: Path) -> None:
    text = "specimen,age_ma:number,found:date\na,12,2019-01-01\n\nb,Jurassic,today\nc,inf,2019\n"
    line = refusal(tmp_path, text)
    assert (
        "t.csv, row 4, column 'age_ma': 'Jurassic' is not a number; row 4, column 'found': 'today' is not a date"
        in line
    )
    assert "row 5, column 'age_ma': 'inf' is not a finite number" in line and line.endswith("Nothing was changed")
    many = "specimen,n:number\n" + "".join(f"s{n},x\n" for n in range(9))
    assert "and 6 more cells" in refusal(tmp_path, many)
    assert "row 2, column 'decimalLatitude': 99 is not a latitude" in refusal(
        tmp_path, "specimen,decimalLatitude,decimalLongitude\na,99,1\n"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("specimen,n\na,1\nA,2\n", "rows 2 and 3 both name 'A'"),
        ("specimen,n\na,1\n,2\n", "row 3, column 'specimen': the cell is empty"),
        ("specimen,n,n\na,1,2\n", "two columns named 'n'"),
        ("specimen,a b,a-b\na,1,2\n", "would both be 'a_b'"),
        ("specimen,n\na,1,2\n", "row 2 has more cells than the header ('2')"),
        ("specimen,,n\na,1,2\n", "column 2: '' is not a name"),
        ("specimen,n\n", "no row below its header"),
        ("", "is empty"),
        ("taxon,n\na,1\n", "no column that names items"),
        ('specimen,n\n"a,1\n', "row 2 is not CSV (unexpected end of data)"),
        ("specimen,a_u61_b\na,1\n", "looks like the way in which other letters are written"),
        ("specimen," + "n" * 65 + "\na,1\n", "more than 64 characters"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaint in refusal(tmp_path, text)


def test_other_refusals(tmp_path: Path) -> None:
    assert "no table at" in refused_file(tmp_path / "no.csv")
    assert "save a spreadsheet as CSV" in refused_file(tmp_path / "no.xlsx")
    assert "--on must be one of key, source, specimen, capture, got 'sourse'; did you mean 'source'" in refusal(
        tmp_path, "specimen,n\na,1\n", on="sourse"
    )
    assert "no column 'Nam'; did you mean 'Name'" in refusal(tmp_path, "Name,n\na,1\n", on="source=Nam")
    assert "no column named capture, capture_id" in refusal(tmp_path, "Name,n\na,1\n", on="capture")
    assert "has more than 8192 bytes" in refusal(tmp_path, f"specimen,t\na,{'x' * 8193}\n")


def test_names_of_fields_are_left_out_and_said(tmp_path: Path) -> None:
    read = table(tmp_path, "key,altitude,age (Ma),2nd,dataset\nimage/d/c/0001,5,1,2,d\n")
    assert types_of(read) == {"age_Ma": "number", "_2nd": "number"}
    assert any("not read, since fields of every item have these names: altitude" in remark for remark in read.remarks)
    assert any("'age (Ma)' as age_Ma" in remark for remark in read.remarks)
    assert read.rows[0].dataset == "d"


def test_delimiters_decimal_commas_and_formulas(tmp_path: Path) -> None:
    assert types_of(table(tmp_path, "specimen;n;t\na;1,5;x\n")) == {"n": "number", "t": "text"}
    assert table(tmp_path, "specimen;n\na;1,5\n").rows[0].values == {key_of("n"): 1.5}
    assert table(tmp_path, "specimen\tn\na\t1\n", "t.tsv").rows[0].values == {key_of("n"): 1.0}
    assert table(tmp_path, "specimen,t\na,'=cast\nb,'plain\n").rows[0].values == {key_of("t"): "=cast"}
    assert table(tmp_path, 'specimen,t\na,"x\ny"\n').rows[0].values == {key_of("t"): "x y"}, (
        "no condition names a newline"
    )


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    columns = {
        "specimen": ["a", "b"],
        "n": [1, None],
        "t": ["x", ""],
        "yes": [True, None],
        "on": [datetime.date(2020, 1, 2), None],
        "at": [datetime.datetime(2020, 1, 2, 3, 4, 5), None],
        "nan": [float("nan"), 2.5],
    }
    pq.write_table(pa.table(columns), path)
    read = read_metadata(path)
    assert types_of(read) == {"n": "number", "t": "text", "yes": "boolean", "on": "date", "at": "date", "nan": "number"}
    first = {name_of(key): value for key, value in read.rows[0].values.items()}
    assert first == {"n": 1.0, "t": "x", "yes": True, "on": "2020-01-02", "at": "2020-01-02T03:04:05", "nan": None}
    assert {name_of(k): v for k, v in read.rows[1].values.items() if v is not None} == {"nan": 2.5}
    pq.write_table(pa.table({"specimen": ["a"], "list": [[1]]}), path)
    assert "column 'list' is of type list" in refused_file(path)
    path.write_bytes(b"PAR1 no")
    assert "not a readable Parquet file" in refused_file(path)


# -- matching ----------------------------------------------------------------------------------------------------------


def image(source: str, frame: int, dataset: str = "d", **more: Any) -> Item:
    return Item(image_key(dataset, "c1", frame), Kind.IMAGE, dataset, "c1", frame=frame, source=source, **more)


def fossils(category: str, name: str, views: int = 2) -> list[Item]:
    key = specimen_key("d", category, name)
    made = [Item(view_key("d", category, name, n), Kind.VIEW, "d", name, category, view=n) for n in range(views)]
    return [Item(key, Kind.SPECIMEN, "d", name, category), *made]


def matched(folder: Path, text: str, items: list[Item], **how: Any) -> Match:
    return match(table(folder, text, **how), items)


def test_sources_are_named_by_path_file_or_stem(tmp_path: Path) -> None:
    items = [image("a/1.jpg", 1), image("b/1.jpg", 2), image("b/2.jpg", 3), image("1.jpg", 4), image("x/IMG.JPG", 5)]
    reference = Item(reference_key("d", "c1", 3, 90, 60), Kind.REFERENCE, "d", "c1", frame=3, source="b/2.jpg")
    text = "file,n\na/1.jpg,1\n2,2\n1.jpg,3\n/home/me/img.jpg,4\n1,5\nnothing.jpg,6\n"
    found = matched(tmp_path, text, [*items, reference])
    values = [found.of(item).extra.get(key_of("n")) for item in [*items, reference]]
    assert values == [1.0, None, 2.0, 3.0, 4.0, 2.0]
    assert (found.unmatched_rows, found.unclear_rows, found.unmatched_items) == (["nothing.jpg"], ["1"], ["b/1.jpg"])
    assert found.units == 5 and found.as_json()["matched"] == 4
    assert any("rows that match nothing by source: 1 (nothing.jpg)" in remark for remark in found.remarks())
    with pytest.raises(InputError, match=r"rows 2 and 3 are both about 'b/2\.jpg'"):
        matched(tmp_path, "file,n\nb/2.jpg,1\n2.jpg,2\n", items)


def test_datasets_keep_names_apart(tmp_path: Path) -> None:
    items = [image("1.jpg", 1), image("1.jpg", 1, "e")]
    assert matched(tmp_path, "source,n\n1.jpg,1\n", items).unclear_rows == ["1.jpg"]
    found = matched(tmp_path, "source,dataset,n\n1.jpg,d,1\n1.jpg,e,2\n", items)
    assert [found.of(item).extra for item in items] == [{key_of("n"): 1.0}, {key_of("n"): 2.0}]


def test_specimens_with_their_views_captures_and_keys(tmp_path: Path) -> None:
    items = [*fossils("a", "s1"), *fossils("b", "s1"), *fossils("b", "s2")]
    found = matched(tmp_path, "specimen,n\na/s1,1\ns2,2\ns1,3\n", items)
    assert [found.of(item).extra.get(key_of("n")) for item in items] == [1.0] * 3 + [None] * 3 + [2.0] * 3
    assert found.unclear_rows == ["s1"] and found.unmatched_items == [specimen_key("d", "b", "s1")]
    by_key = matched(tmp_path, f"key,n\n{items[0].key},1\n{items[1].key},2\n", items)
    assert [by_key.of(item).extra.get(key_of("n")) for item in items[:3]] == [1.0, 2.0, 1.0], "its own row comes first"
    assert by_key.units == 3
    photos = [image("1.jpg", 1), image("2.jpg", 2)]
    by_capture = matched(tmp_path, "capture,n\nc1,7\n", [*photos, *items])
    assert all(by_capture.of(photo).extra == {key_of("n"): 7.0} for photo in photos)
    assert by_capture.units == 1 and not by_capture.has(items[0])


def test_a_later_table_replaces_its_columns_and_leaves_others(tmp_path: Path) -> None:
    first = matched(tmp_path, "specimen,n,t\ns1,1,x\n", fossils("a", "s1"))
    item = first.of(fossils("a", "s1")[0])
    again = matched(tmp_path, "specimen,n:number,u\ns1,,y\n", [item])
    assert own_of(again.of(item).extra) == {"t": "x", "u": "y"}
    assert first.of(first.of(item)) == first.of(item)


def test_darwin_core_fills_what_is_missing(tmp_path: Path) -> None:
    header = "catalogNumber,dwc:family,genus,scientificName,decimalLatitude,decimalLongitude\n"
    bare, filed = fossils("", "s1")[0], fossils("a", "s2")[0]
    found = matched(tmp_path, f"{header}s1,F,,G/x y,36.5,127.25\ns2,F,G,,0,0\n", [bare, filed])
    made = found.of(bare)
    assert (made.key, made.category, made.latitude, made.longitude) == (bare.key, "F/G x y", 36.5, 127.25)
    assert made.extra["category_source"] == made.extra["position_source"] == "table:t.csv"
    assert own_of(made.extra)["catalogNumber"] == "s1" and own_of(made.extra)["scientificName"] == "G/x y"
    other = found.of(filed)
    assert (other.category, other.latitude) == ("a", UNKNOWN_COORDINATE), (
        "0, 0 is what is written before there is a fix"
    )
    placed = Item(bare.key, Kind.SPECIMEN, "d", "s1", latitude=1.0, longitude=2.0, extra={"position_source": "exif"})
    assert (found.of(placed).latitude, found.of(placed).extra["position_source"]) == (1.0, "exif")
    assert any("the category of specimens that have none" in remark for remark in found.table.remarks)
    later = matched(tmp_path, f"{header}s1,E,,,37,128\n", [made]).of(made)
    assert (later.category, later.latitude) == ("E", 37.0), "what came from a table is replaced by another"
