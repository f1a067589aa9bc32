"""What a page offers to choose from: counts are those of the rows, of all of them or of a sample that says so; paging by key."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from vectors import unit_vectors

from outcrop.query.area import rectangle
from outcrop.query.service.browsing import Browsed, page_by_key, parts_of
from outcrop.query.service.choices import chosen_conditions, written
from outcrop.query.service.facets import Facet, facets_of
from outcrop.query.service.overview import Overview, Overviews
from outcrop.schema.columns import Column, Columns
from outcrop.schema.errors import FilterError, InputError
from outcrop.schema.filters import Filter, asked, parse
from outcrop.schema.item import Item, Kind, image_key, reference_key, specimen_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SPACE = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=8)
OWN = Columns(
    (Column("collector", "text"), Column("depth", "number"), Column("cleaned", "boolean"), Column("found", "date"))
)


def photographs() -> list[Item]:
    return [
        Item(
            image_key(dataset, capture, frame),
            Kind.IMAGE,
            dataset,
            capture,
            frame=frame,
            altitude=100.0 + frame,
            latitude=35.0 + frame / 1000,
            longitude=129.0,
            captured_at=f"2025-09-{frame:02d}T09:30:00",
            extra={
                "own_collector": ("Kim, J.", 'the "old" one')[frame % 2],
                "own_depth": frame / 2,
                "own_cleaned": frame < 5,
            }
            if dataset == "town"
            else {},
        )
        for dataset in ("town", "field")
        for capture in ("morning", "evening")
        for frame in range(1, 21)
    ]


def everything() -> list[Item]:
    specimens = [
        Item(
            specimen_key("molars", category, f"{n}"),
            Kind.SPECIMEN,
            "molars",
            f"{n}",
            category,
            extra={"own_found": day},
        )
        for category in ("Alouatta", "Ateles")
        for n, day in enumerate(("2020", "2021-05-03", "2021-06-01"))
    ]
    references = [
        Item(reference_key("town", "morning", 3, angle, 0), Kind.REFERENCE, "town", "morning", frame=3, rotation=angle)
        for angle in (0.0, 90.0, 180.0)
    ]
    return [*photographs(), *specimens, *references]


@pytest.fixture(scope="module")
def collection(backend: str) -> Iterator[Collection]:
    items = everything()
    with Store.connect(backend) as store:
        made = Collection.create(store, "outcrop", SPACE)
        made.upsert(items, unit_vectors(len(items), 8))
        made.add_columns(OWN)
        yield made


@pytest.fixture(scope="module")
def overview(collection: Collection) -> Overview:
    return Overview.read(collection, collection.count())


def kept(*conditions: str, but: str = "") -> list[dict]:
    """The rows that a page's conditions keep, by the definition of a filter."""
    filter = Filter(tuple(c for c in asked(*conditions).bound(OWN).conditions if c.field != but))
    return [row for row in (item.row() for item in everything()) if filter.matches(row)]


def by_field(overview: Overview, *conditions: str) -> dict[str, Facet]:
    return {facet.field: facet for facet in facets_of(overview, asked(*conditions), conditions).facets}


@pytest.mark.parametrize(
    "conditions",
    [
        (),
        ("kind=image",),
        ("dataset=town", "capture_id=morning"),
        ("dataset!=town",),
        ("altitude=105..110", "kind=image"),
        ("category=Al*",),
        ('collector="Kim, J."',),
        ("collector!=Kim*",),
        ("depth=2..4", "cleaned=true"),
        ("found=2021",),
        ("captured_at=2025-09-03..2025-09-05T24",),
        ("frame=3",),
    ],
)
def test_counts_are_those_of_the_rows(overview: Overview, conditions: tuple[str, ...]) -> None:
    found = facets_of(overview, asked(*conditions), conditions)
    assert found.kept == len(kept(*conditions)) and found.rows == len(everything()) and not found.sampled
    keys = {"collector": "own_collector", "cleaned": "own_cleaned"}
    for facet in found.facets:
        if facet.shape != "values":
            continue
        name = keys.get(facet.field, facet.field)
        truth = Counter(str(row.get(name, "")) for row in kept(*conditions, but=facet.field))
        for value in facet.values:
            assert value.count == truth[value.text if name != "own_cleaned" else value.text.capitalize()]
        assert {value.text.lower() for value in facet.values} >= {text.lower() for text in truth if text}


def test_ranges_are_those_of_the_rows_and_leave_out_what_is_not_known(overview: Overview) -> None:
    altitude, captured, depth = (by_field(overview)[name] for name in ("altitude", "captured_at", "depth"))
    assert (altitude.least, altitude.most) == ("101", "120")  # specimens have 0: not known
    assert (captured.shape, captured.least, captured.most) == ("dates", "2025-09-01", "2025-09-20")
    assert (depth.least, depth.most) == ("0.5", "10")
    narrow = by_field(overview, "frame=2..3", "altitude=100..500")["altitude"]
    assert (narrow.least, narrow.most, narrow.low, narrow.high) == ("102", "103", "100", "500")


def test_what_is_chosen_is_shown_and_other_conditions_stay_texts(overview: Overview) -> None:
    conditions = ("dataset=town,field", "altitude=101", "captured_at=2025-09-03..2025-09-05T24", "capture_id=m*")
    found = facets_of(overview, asked(*conditions), conditions)
    facets = {facet.field: facet for facet in found.facets}
    assert {value.text for value in facets["dataset"].values if value.chosen} == {"town", "field"}
    assert (facets["captured_at"].low, facets["captured_at"].high) == ("2025-09-03", "2025-09-05")
    assert found.others == ("altitude=101", "capture_id=m*")
    unknown = by_field(overview, "category=Homo")["category"]
    assert [(value.text, value.count) for value in unknown.values if value.chosen] == [("Homo", 0)]


def test_a_sample_says_so_and_its_estimates_are_near(collection: Collection) -> None:
    part = Overview.read(collection, collection.count(), most=40)
    found = facets_of(part, asked("kind=image"), ("kind=image",))
    assert found.sampled and found.read == 40 and found.rows == 89 and abs(found.kept - 80) <= 9
    assert sum(value.count for value in by_field(part)["dataset"].values) == pytest.approx(89, abs=2)


@pytest.mark.parametrize(
    "value", ["plain", "Kim, J.", 'the "old" one', "a\\b", "1..2", "x*", "öß", "2021-05-03", "a=b"]
)
def test_a_choice_becomes_a_condition_that_means_it(value: str) -> None:
    (text,) = chosen_conditions({"only.collector": [value, ""], "k": ["3"]})
    bound = asked(text).bound(OWN).conditions[0]
    assert bound.values == (value,) and bound.operator == "in"
    assert parse(written("dataset", [value, "b"])).values == (value, "b")


def test_ranges_become_conditions() -> None:
    assert chosen_conditions({"from.altitude": ["100"], "to.altitude": ["200"]}) == ("altitude=100..200",)
    assert chosen_conditions({"from.altitude": [""], "to.altitude": ["200"]}) == ("altitude=..200",)
    assert chosen_conditions({"to.captured_at": ["2025-09-05"]}) == ("captured_at=..2025-09-05T24",)
    assert chosen_conditions({"to.found": ["2025-09-05"], "only.kind": [""]}) == ("found=..2025-09-05",)


@pytest.mark.parametrize(
    ("limit", "most"), [(1, 10), (1, 40), (1, 1000), (7, 10), (7, 40), (7, 1000), (1000, 40)]
)  # where one page holds all, nothing is guessed
@pytest.mark.parametrize(
    "conditions", [(), ("dataset=town",), ("capture_id=morning", "frame=3..9"), ("category=Ateles",)]
)
def test_pages_put_together_are_all_items_by_key(
    collection: Collection, most: int, limit: int, conditions: tuple[str, ...]
) -> None:
    """Whatever part of the rows the ends of pages are guessed from. Of a server, which is asked several times for each page, the
    shortest pages are those at both ends."""
    part = Overview.read(collection, collection.count(), most)
    truth = sorted(row["key"] for row in kept(*conditions))

    def from_here(after: str | None, most_pages: int | None = None) -> Iterator[str]:
        for _ in itertools.count() if most_pages is None else range(most_pages):
            page = page_by_key(collection, part, Browsed(conditions, after=after or "", limit=limit))
            assert page.total == len(truth) and len(page.items) <= limit
            yield from (item.key for item in page.items)
            if not (after := page.after):
                return

    if limit == 1 and len(truth) > 20 and not collection.store.lite:
        assert list(from_here(None, 4)) == truth[:4] and list(from_here(truth[-4])) == truth[-3:]
    else:
        assert list(from_here(None)) == truth


def test_a_page_reads_no_more_keys_than_it_needs(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    overview = Overview.read(collection, collection.count())
    read: list[int] = []
    scan = Collection.scan_rows

    def counted(self: Collection, *given: object, **more: object) -> Iterator[list[dict]]:
        for rows in scan(self, *given, **more):  # type: ignore[arg-type]
            read.append(len(rows))
            yield rows

    monkeypatch.setattr(Collection, "scan_rows", counted)
    page_by_key(collection, overview, Browsed(("kind=image",), after="image/field/morning/0003", limit=5))
    assert sum(read) <= 8


def test_a_part_of_the_ground(overview: Overview, collection: Collection) -> None:
    asked_for = Browsed(area="128.9,35.0025,129.1,35.0045")
    page = page_by_key(collection, overview, asked_for)
    assert {item.frame for item in page.items} == {3, 4} and page.total == 8
    assert facets_of(overview, asked_for.filter).kept == 8
    assert rectangle("179,-1,181,1").holds([0.0, 0.0, 0.0], [179.5, -179.5, 178.0]) == [True, True, False]
    assert rectangle("-300,-90,300,90").holds([0.0, 80.0], [0.0, 179.0]) == [True, True]
    for wrong in ("1,2,3", "2,0,1,1", "0,2,1,1", "nan,0,1,1", "0,0,1,inf", "0,-91,1,1", "x"):
        with pytest.raises(InputError, match="WEST,SOUTH,EAST,NORTH"):
            rectangle(wrong)


def test_parts_of_an_item_and_new_columns(collection: Collection, tmp_path: Path) -> None:
    photo = next(item for item in photographs() if item.key == "image/town/morning/0003")
    assert len(page_by_key(collection, Overview.read(collection, 89), Browsed(parts_of(photo))).items) == 3
    assert parts_of(everything()[-1]) == ()
    with pytest.raises(FilterError, match="did you mean 'collector'"):
        facets_of(Overview.read(collection, 89), asked("colector=Kim"))
    with Store.connect(str(tmp_path / "other.db")) as store:
        made = Collection.create(store, "outcrop", SPACE)
        made.upsert(photographs(), unit_vectors(80, 8))
        overviews = Overviews(made)
        assert overviews.now() is overviews.now() and "collector" not in overviews.now().columns
        made.add_columns(OWN)
        made.columns = made.read_columns()
        assert by_field(overviews.now())["collector"].values
