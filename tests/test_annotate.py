"""Own columns in collections: given by a table, asked for, exported, and kept when items are embedded again."""

from __future__ import annotations

import csv
import json
import xml.dom.minidom
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from operations import SPACE, done, items, unit

from outcrop.ingest.requests import ManifestRequest
from outcrop.ingest.row_writer import Rows, RowWriter
from outcrop.schema.column_tables import read_metadata
from outcrop.schema.columns import Column, Columns, own_of
from outcrop.schema.errors import FilterError, InputError
from outcrop.schema.filters import asked, equals
from outcrop.schema.item import Item, Kind, parent_of, reference_key
from outcrop.schema.manifest import read_manifest
from outcrop.schema.settings import read_settings
from outcrop.store.annotate import annotate, plan_annotation
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.integrity import fault_of
from outcrop.store.search import search
from outcrop.store.transfer import copy

ROWS = 40


def some() -> list[Item]:
    """Images with a source, every fourth a reference of the image before it."""
    made = []
    for n, item in enumerate(items(ROWS, mixed=False)):
        item = replace(item, source=f"c_100/{n:04d}.jpg", extra={"width": 640})
        if n % 4 == 3:
            item = replace(item, key=reference_key("town", "c_100", n - 1, 90, 60), kind=Kind.REFERENCE)
            item = replace(item, source=f"c_100/{n - 1:04d}.jpg")
        made.append(item)
    return made


@pytest.fixture
def filled(store: Store, name: str) -> Iterator[Collection]:
    made = Collection.create(store, name, SPACE, index="FLAT")
    made.upsert(some(), unit(ROWS))
    made.flush()
    yield made


def write(path: Path, *rows: tuple[object, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def given(collection: Collection, path: Path, **how: Any) -> int:
    plan = plan_annotation(collection, read_metadata(path, known=collection.columns, **how))
    return annotate(collection, plan)


def own(collection: Collection) -> dict[str, dict[str, Any]]:
    """The own columns of all items, by key; every row is as it was written, vector and all."""
    found = collection.items([item.id for item in some()])
    for n, item in enumerate(some()):
        stored, vector = found[item.id]
        assert vector.tobytes() == unit(ROWS)[n].tobytes() and stored.extra["width"] == 640
    return {item.key: own_of(item.extra) for item, _ in found.values()}


def test_a_table_becomes_columns_that_are_asked_for(filled: Collection, tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        ("file", "age_ma", "collector", "holotype", "found", "채집지"),
        *(
            (f"{n:04d}.jpg", n * 10 if n % 2 else "", f"Kim {n}", n % 3 == 0, f"20{10 + n}-05-01", "=1+1")
            for n in range(20)
            if n % 4 < 3
        ),
        ("0099", 1, "x", "", "", ""),
    )
    read = read_metadata(path)
    plan = plan_annotation(filled, read)
    assert plan.match.unmatched_rows == ["0099"] and len(plan.match.unmatched_items) == 15 and plan.looked_at == ROWS
    assert own(filled)[some()[1].key] == {} and not filled.columns, "a plan changes nothing"
    assert annotate(filled, plan) == len(plan.changed) == 20
    again = Collection.open(filled.store, filled.name)
    assert str(again.columns).startswith("age_ma (number), collector (text), holotype (boolean), found (date)")
    values = own(again)
    assert values[some()[1].key] == {
        "age_ma": 10.0, "collector": "Kim 1", "holotype": False, "found": "2011-05-01", "채집지": "=1+1",
    }  # fmt: skip
    assert "age_ma" not in values[some()[2].key]
    assert values[some()[3].key] == values[some()[2].key], "a reference has what its photograph has"
    for text, count in (
        ("age_ma=50..90", 2),
        ("age_ma!=50..90", 3),
        ("collector=Kim 1*", 11),
        ("holotype=true", 7),
        ("holotype!=true", 13),
        ("found=2011..2013", 3),
        ('채집지="=1+1"', 20),
    ):
        rows = [{**item.row(), **{again.columns[k].key: v for k, v in values[item.key].items()}} for item in some()]
        filter = asked(text)
        assert again.count(filter) == sum(filter.bound(again.columns).matches(row) for row in rows) == count, text
    for exact in (False, True):
        hits = search(again, unit(2), 3, asked("age_ma=10..130"), exact=exact).hits
        assert all(10 <= own_of(hit.item.extra)["age_ma"] <= 130 for line in hits for hit in line) and len(hits[0]) == 3
    assert given(again, path) == 0, "the same table again changes nothing"
    with pytest.raises(FilterError, match="unknown field 'age'; did you mean"):
        again.count(asked("age=1"))


def test_seconds_of_films_are_asked_for_beside_columns(store: Store, name: str) -> None:
    """What rows keep beside their fields under its own name; of a row without it, a condition does not hold, nor its opposite."""
    made = Collection.create(store, name, SPACE, index="FLAT")
    frames = [replace(item, extra={"second": n / 2} if n % 4 else {}) for n, item in enumerate(some())]
    made.upsert(frames, unit(ROWS))
    made.flush()
    for text in ("second=3..5", "second=9", "second=0.5,3.5", "second!=3..5", "second!=9", "second=..4", "second=15.."):
        filter = asked(text)
        count = sum(filter.bound(Columns()).matches(item.row()) for item in frames)
        assert made.count(filter) == count > 0, text
    with pytest.raises(FilterError, match="did you mean 'second'"):
        made.count(asked("secnd=1"))


def test_columns_of_another_process_are_seen(filled: Collection, tmp_path: Path) -> None:
    with pytest.raises(FilterError, match="unknown field 'n'"):
        filled.count(asked("n=1"))
    other = Collection.open(filled.store, filled.name)
    given(other, write(tmp_path / "t.csv", ("file", "n"), ("0000", 1)))
    assert filled.count(asked("n=1")) == 1


def test_a_later_table_replaces_and_types_stay(filled: Collection, tmp_path: Path) -> None:
    given(filled, write(tmp_path / "t.csv", ("file", "n", "t"), ("0000", 1, "x"), ("0001", 2, "y")))
    assert given(filled, write(tmp_path / "u.csv", ("file", "n", "u"), ("0000", "", "z"))) == 1
    values = own(filled)
    assert values[some()[0].key] == {"t": "x", "u": "z"} and values[some()[1].key] == {"n": 2.0, "t": "y"}
    with pytest.raises(InputError, match="row 2, column 'n': 'many' is not a number"):
        given(filled, write(tmp_path / "v.csv", ("file", "n"), ("0000", "many")))
    with pytest.raises(InputError, match=r"column 'n' of collection .* is a number, not a text"):
        filled.add_columns(Columns((Column("n", "text"),)))
    assert filled.count(asked("n=2")) == 1


def test_checksums_are_those_of_the_new_rows(filled: Collection, tmp_path: Path) -> None:
    given(filled, write(tmp_path / "t.csv", ("file", "n", "yes"), ("0000", 1, "true")))
    row = filled.lookup([some()[0].id], ("*",))[some()[0].id]
    assert fault_of(row) == ""
    key = filled.columns["n"].key
    assert fault_of({**row, key: 2.0}) == "it does not match its checksum"
    assert fault_of({name: value for name, value in row.items() if name != key}) == "it does not match its checksum"


def test_items_embedded_again_keep_their_columns(filled: Collection, tmp_path: Path) -> None:
    header = ("file", "n", "decimalLatitude", "decimalLongitude")
    given(filled, write(tmp_path / "t.csv", header, ("0000", 1, 36.5, 127.5), ("0002", 2, "", "")))
    first, parent, part = some()[0], some()[2], some()[3]
    assert parent_of(part.key) == parent.key
    new = replace(part, key=reference_key("town", "c_100", 2, 180, 60))
    made = [replace(item, source_digest="other") for item in (first, some()[5], new)]
    RowWriter(filled).write([Rows(made, list(unit(3, seed=9)), [None] * 3, replaces=True)])
    found = {item.key: item for item, _ in filled.items([item.id for item in made]).values()}
    kept = found[first.key]
    assert (own_of(kept.extra)["n"], kept.latitude, kept.source_digest) == (1.0, 36.5, "other")
    assert kept.extra["position_source"] == "table:t.csv"
    assert own_of(found[some()[5].key].extra) == {}
    assert own_of(found[new.key].extra) == {"n": 2.0}, "a new reference has what its photograph has"
    located = replace(first, latitude=1.0, longitude=2.0, extra={"position_source": "exif"})
    RowWriter(filled).write([Rows([located], list(unit(1)), [None], replaces=True)])
    again = filled.items([first.id])[first.id][0]
    assert (again.latitude, again.extra["position_source"]) == (1.0, "exif"), "its own position wins"


def test_copies_have_the_columns(filled: Collection, name: str, tmp_path: Path) -> None:
    given(filled, write(tmp_path / "t.csv", ("file", "n", "found"), ("0000", 1, "2019-05-01")))
    with Store.connect(str(tmp_path / "copy.db")) as target:
        copy(filled, target, name)
        assert Collection.open(target, name).count(asked("n=1", "found=2019")) == 1


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(uri: str, name: str) -> str:
    with Store.connect(uri) as store:
        made = Collection.create(store, name, SPACE, index="FLAT")
        made.upsert(some(), unit(ROWS))
    return name


def test_annotate_and_export(place: str, uri: str, tmp_path: Path) -> None:
    header = ("key", "age_ma", "remark", "decimalLatitude", "decimalLongitude", "altitude")
    keys = [item.key for item in some()]
    table = write(
        tmp_path / "t.csv", header, (keys[0], -5, '=HYPERLINK("x")', 36.5, 127.5, 7), (keys[1], 2, "+1 <&>", "", "", 7)
    )
    would = done("annotate", table, place, "--dry-run")
    assert (would["changed"], would["dry_run"], would["matched"], would["on"]) == (2, True, 2, "key")
    assert done("describe", place)["columns"] == []
    changed = done("annotate", table, place)
    assert (
        changed["changed"] == 2 and changed["columns"]["age_ma"] == "number" and len(changed["unmatched_items"]) == 28
    )
    facts = done("describe", place)
    assert facts["columns"][0] == {"column": "age_ma", "type": "number"} and facts["state"] == "ready"
    assert "own columns" in run("collection", "describe", place).out
    said = run("collection", "annotate", table, place).err
    assert (
        "columns: age_ma (number), remark (text)" in said
        and "not read, since fields of every item have these names: altitude" in said
    )

    path = tmp_path / "x.csv"
    assert done("export", place, path)["rows"] == ROWS
    text = path.read_text(encoding="utf-8")
    assert text.startswith("\ufeffkey,") and "'=HYPERLINK" in text and "'+1 <&>" in text and ",-5.0," in text
    assert done("annotate", path, place, "--dry-run")["changed"] == 0, "what was exported is what is there"
    listed = done("items", place, "--where", "age_ma=2")
    assert [item["columns"] for item in listed["items"]] == [{"age_ma": 2.0, "remark": "+1 <&>"}]
    lines = run("collection", "items", place, "--where", "age_ma=2", "--csv").out.splitlines()
    assert lines[0].endswith(",age_ma,remark") and lines[1].endswith(",2.0,'+1 <&>")
    map_path = tmp_path / "x.geojson"
    assert done("export", place, map_path)["unlocated"] == ROWS - 1
    (feature,) = json.loads(map_path.read_text(encoding="utf-8"))["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [127.5, 36.5]}
    assert feature["properties"]["age_ma"] == -5 and feature["properties"]["position_source"] == "table:t.csv"
    assert "are not in" in run("collection", "export", place, tmp_path / "x.kml").err
    kml = xml.dom.minidom.parse(str(tmp_path / "x.kml"))
    assert kml.getElementsByTagName("coordinates")[0].firstChild.data == "127.5,36.5"
    line = run("collection", "export", place, tmp_path / "y.kml", "--where", "age_ma=2").error(3)
    assert "none of 1 items has a position" in line and not (tmp_path / "y.kml").exists()
    assert done("export", place, tmp_path / "z.csv", "--where", "age_ma=..0")["rows"] == 1
    assert "did you mean 'age_ma'" in run(
        "collection", "export", place, tmp_path / "w.csv", "--where", "age_m=1"
    ).error(3)


def test_the_list_counts_truly(place: str, uri: str) -> None:
    """A server's statistics count superseded rows until compaction, as 2.3.5 does of rows that were written twice."""
    with Store.connect(uri) as store:
        made = Collection.open(store, place)
        made.flush()
        made.upsert(some(), unit(ROWS))
        made.flush()
        made.load()
    (row,) = [row for row in done("list")["rows"] if row["name"] == place]
    assert (row["rows"], row["estimated"], row["state"]) == (ROWS, False, "ready")
    if uri.startswith("http"):
        done("release", place)
        outcome = run("collection", "list", "--json")
        (row,) = [row for row in outcome.json["rows"] if row["name"] == place]
        assert row["estimated"] and row["rows"] >= ROWS and not row["loaded"]
        assert "estimated, since counting would load them" in outcome.err


@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
def test_columns_go_through_files(place: str, name: str, suffix: str, tmp_path: Path, lite_uri: str) -> None:
    table = write(
        tmp_path / "t.csv", ("file", "n", "yes", "found"), ("0000", 1, "true", "2019-05-01"), ("0001", 2, "", "")
    )
    done("annotate", table, place)
    path = tmp_path / f"x{suffix}"
    done("export", place, path)
    assert run("collection", "import", path, "--to", "other", "--uri", lite_uri).code == 0
    with Store.connect(lite_uri) as store:
        made = Collection.open(store, "other")
        assert made.count(asked("yes=true", "found=2019")) == 1 and made.count(asked("n=1..2")) == 2
        assert own_of(made.items([some()[1].id])[some()[1].id][0].extra) == {"n": 2.0}
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        columns = pq.read_table(path, columns=["n", "yes", "extra"]).to_pydict()
        assert sorted(value for value in columns["n"] if value is not None) == [1.0, 2.0]
        assert not any("own_" in extra for extra in columns["extra"])


def test_an_ingest_takes_a_table(lite: str, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(4):
        pixels = np.random.default_rng(n).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{n}.png")
    ingest = ("ingest", "images", folder, "--model", "efficientnet_lite0", "--json")
    bad = write(tmp_path / "bad.csv", ("file", "n:number"), ("p0", "x"))
    assert "row 2, column 'n': 'x' is not a number" in run(*ingest, "--metadata", bad).error(3)
    with Store.connect(lite) as store:
        assert Collection.find(store, "outcrop") is None, "a wrong table is found before anything is made"
    assert "give it with --metadata" in run(*ingest, "--on", "source").error(2)
    table = write(tmp_path / "t.csv", ("Bild", "n", "taxon"), ("p0", 1, "a"), ("p1", 2, "b"), ("q", 3, "c"))
    with_table = (*ingest, "--metadata", table, "--on", "source=Bild")
    would = run(*with_table, "--dry-run").json
    assert would["metadata"]["matched"] == 2 and would["to_embed"] == 4
    outcome = run(*with_table)
    assert outcome.json["metadata"]["unmatched_rows"] == ["q"] and outcome.json["metadata"]["unmatched_items"] == [
        "p2.png",
        "p3.png",
    ]
    assert "rows that match nothing by source: 1 (q)" in outcome.err and "n (number), taxon (text)" in outcome.err
    key = would["examples"][0]["key"]
    found = run("query", "item", key, "--where", "n=2..3", "--json").json["queries"][0]["hits"]
    assert [hit["columns"] for hit in found] == [{"Bild": "p1", "n": 2.0, "taxon": "b"}]
    printed = run("query", "item", key, "--where", "taxon=b", "--csv").out
    assert printed.splitlines()[0].endswith(",Bild,n,taxon") and printed.splitlines()[1].endswith(",2.0,b")
    report = tmp_path / "r.html"
    run("query", "item", key, "--where", "n=2", "--report", report)
    assert "<dt>taxon</dt><dd>b</dd>" in report.read_text()
    assert "write r.html, and print it as PDF" in run("query", "item", key, "--report", "r.pdf").error(3)

    write(table, ("Bild", "n", "taxon"), ("p0", 7, "a"), ("p2", 8, "d"))
    again = run(*with_table)
    assert again.json["embedded"] == 0 and "2 items that were there already have other columns now" in again.err
    assert run(*ingest, "--force").json["embedded"] == 4
    with Store.connect(lite) as store:
        made = Collection.open(store, "outcrop")
        assert made.count(asked("n=7..8")) == 2 and made.count(asked("n=2")) == 1, "without a table, columns stay"
        assert made.count(equals("kind", "image")) == 4


def test_a_table_is_remembered_for_items_that_come_later(lite: str, tmp_path: Path) -> None:
    from pictures import picture

    def photo(n: int) -> None:
        picture(n).save(tmp_path / f"photos/p{n}.png")

    def ingested(*more: object) -> Any:
        said = run("ingest", "all" if not more else "images", *more, "--model", "efficientnet_lite0", "--json")
        assert said.code == 0, said.err
        return said

    def count(*conditions: str) -> int:
        with Store.connect(lite) as store:
            return Collection.open(store, "outcrop").count(asked(*conditions))

    (tmp_path / "photos").mkdir()
    photo(0)
    table = write(tmp_path / "t.csv", ("file", "n", "taxon"), ("p0", 1, "a"), ("p1", 2, "b"), ("p2", 3, "b"))
    ingested(tmp_path / "photos", "--metadata", table)
    photo(1)
    said = ingested()
    assert "t.csv of photos is remembered" in said.err and "already" not in said.err
    assert (count("n=1..2"), count("taxon=b")) == (2, 1), "`ingest all` gives the new photograph its columns"

    write(table, ("file", "n", "taxon"), ("p0", 7, "a"), ("p1", 2, "b"), ("p2", 3, "b"))
    would = run("ingest", "images", tmp_path / "photos", "--model", "efficientnet_lite0", "--dry-run", "--json")
    assert would.json["metadata"]["matched"] == 2
    said = ingested()
    assert "has changed and is read again" in said.err and "1 items that were there already have other" in said.err
    assert count("n=7") == 1

    table.rename(tmp_path / "away.csv")
    photo(2)
    assert "is gone: new items are without its columns (n, taxon)" in ingested().err and count("n=3") == 0
    write(table, ("file", "n:number", "taxon"), ("p2", "x", "b"))
    assert "'x' is not a number" in ingested().err, "a table that has become wrong does not stop the photographs"
    (tmp_path / "away.csv").rename(table)
    assert "1 items that were there already have other" in ingested().err and count("n=3") == 1

    run("collection", "annotate", write(tmp_path / "site.csv", ("file", "site"), ("p1", "north"), ("p3", "south")))
    photo(3)
    said = ingested()
    assert "site.csv of photos is remembered" in said.err and (count("site=south"), count("n=2")) == (1, 1)

    table.unlink()
    write(tmp_path / "v2.csv", ("file", "n", "taxon", "age"), ("p3", 4, "c", 5), ("p4", 5, "c", 6))
    said = ingested(tmp_path / "photos", "--metadata", tmp_path / "v2.csv")
    assert "t.csv is gone and is forgotten" in said.err and count("age=5", "site=south") == 1
    assert "t.csv" not in ingested().err and count("n=7") == 1, "what its rows were given stays"
    (tmp_path / "site.csv").unlink()
    assert "site.csv --forget`" in ingested().err
    assert run("collection", "annotate", tmp_path / "site.csv", "--forget").code == 0
    assert "site.csv" not in ingested().err
    assert "remembers no table" in run("collection", "annotate", tmp_path / "site.csv", "--forget").error(3)
    photo(4)
    assert run("collection", "audit", "--dataset", "photos", "--fix").code == 0 and count("age=6") == 1


def test_a_manifest_names_a_table(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"datasets": ["d"], "metadata": {"table": "t.csv", "on": "source=Bild"}}))
    request = ManifestRequest.of(read_settings(), file, read_manifest(file))
    assert request.metadata is not None
    assert (request.metadata.table, request.metadata.on) == (tmp_path / "t.csv", "source=Bild")
    other = request.with_metadata(tmp_path / "other.csv").metadata
    assert other is not None and other.table == tmp_path / "other.csv", "an option wins"


def test_specimens_have_them_with_their_views(lite: str, tmp_path: Path) -> None:
    """A fossil without a category gets one of its taxon; the views that a later run adds have what the specimen has."""
    import meshes

    (tmp_path / "bones").mkdir()
    meshes.write(tmp_path / "bones/s0.ply", *meshes.ball(subdivisions=1))
    ingest = ("ingest", "specimens", tmp_path / "bones", "--model", "efficientnet_lite0", "--size", 32, "--json")
    table = write(tmp_path / "t.csv", ("catalogNumber", "family", "scientificName", "age_ma"), ("s0", "F", "G h", 66.5))
    first = run(*ingest, "--views", 2, "--metadata", table)
    assert first.json["embedded"] == 3 and "family, scientificName are the category of specimens" in first.err
    assert run(*ingest, "--views", 3).json["embedded"] == 4
    places = ("catalogNumber", "decimalLatitude", "decimalLongitude")
    north = write(tmp_path / "n.csv", places, ("s0", "48°7'N", 11.114896412775401))
    said = run("collection", "annotate", north, "--dry-run")
    assert "not all cells of decimalLatitude are decimal degrees" in said.err
    run("collection", "annotate", write(tmp_path / "n.csv", places, ("s0", 48.12964093903756, 11.114896412775401)))
    with Store.connect(lite) as store:
        made = Collection.open(store, "outcrop")
        assert made.count(asked("latitude=48.1..48.2", "longitude=11..12")) == 4
        kept = asked("age_ma=66.5", "catalogNumber=s0", 'category="F/G h"')
        assert made.count(kept) == 4 and made.count(asked("kind=view") & kept) == 3
