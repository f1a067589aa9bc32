"""Partitions: one per kind and dataset, and the right ones for a filter."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.schema.filters import Filter, equals, where
from outcrop.schema.item import Item, Kind
from outcrop.store import partitions
from outcrop.store.partitions import chosen, home, home_of, partition_name

KINDS = st.sampled_from(Kind)
DATASETS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20) | st.sampled_from(
    ["a", "A", "a_", "a__b", "a-b", "a b", "a.b", "잠실", "잠싷", "🦴", "_default", "a__0123456789abcdef", "x" * 256]
)


@given(KINDS, DATASETS)
def test_names_are_what_milvus_takes(kind: Kind, dataset: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", partition_name(kind, dataset))


@given(KINDS, DATASETS, KINDS, DATASETS)
def test_no_two_datasets_share_a_name(kind: Kind, dataset: str, other_kind: Kind, other: str) -> None:
    same = (kind, dataset) == (other_kind, other)
    assert (partition_name(kind, dataset) == partition_name(other_kind, other)) == same


def test_a_dataset_cannot_pose_as_another_ones_digest() -> None:
    name = partition_name(Kind.IMAGE, "a b")
    assert partition_name(Kind.IMAGE, name.removeprefix("image__")) != name


@pytest.mark.parametrize("dataset", ["jamshill_image", "a", "A1_"])
def test_plain_names_stay_readable(dataset: str) -> None:
    assert partition_name(Kind.REFERENCE, dataset) == f"reference__{dataset}"


@given(st.lists(st.tuples(KINDS, DATASETS), max_size=20), st.integers(1, 8), st.data())
def test_chosen_partitions_and_what_is_left_to_sift_find_the_right_rows(
    rows: list[tuple[Kind, str]], most: int, data: st.DataObject
) -> None:
    """Whatever the limit, and in whatever order datasets came: the oracle is the filter itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "MOST", most)
        existing = {"_default"}
        at: list[tuple[str, dict[str, object]]] = []
        for kind, dataset in rows:
            name = home_of(kind, dataset, existing)
            existing.add(name)
            at.append((name, Item("k", kind, dataset, "c").row()))
        filter = Filter()
        if data.draw(st.booleans()):
            filter &= equals("kind", *data.draw(st.lists(KINDS, min_size=1, max_size=2)))
        if data.draw(st.booleans()):
            known = sorted({dataset for _, dataset in rows})
            some = (st.sampled_from(known) | DATASETS) if known else DATASETS
            filter &= equals("dataset", *data.draw(st.lists(some, min_size=1, max_size=3)))
        if data.draw(st.booleans()):
            filter &= where("frame=0")
        names, rest = chosen(filter, existing)
        found = [row for name, row in at if (names is None or name in names) and rest.matches(row)]
        assert found == [row for _, row in at if filter.matches(row)]
        assert names is None or set(names) <= existing


@given(st.lists(st.tuples(KINDS, DATASETS), max_size=20), st.integers(1, 8))
def test_a_dataset_keeps_its_partition(rows: list[tuple[Kind, str]], most: int) -> None:
    """An upsert replaces rows within one partition only: a row that moves would be there twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "MOST", most)
        existing = {"_default"}
        homes: dict[tuple[Kind, str], str] = {}
        for kind, dataset in rows:
            name = home_of(kind, dataset, existing)
            existing.add(name)
            assert homes.setdefault((kind, dataset), name) == name
        for kind, dataset in rows:
            assert home(Item("k", kind, dataset, "c"), existing) == homes[kind, dataset]


def test_a_dropped_dataset_does_not_draw_others_out_of_the_shared_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "MOST", 3)
    existing = {"_default", "image__a", "image__b"}
    assert home_of(Kind.IMAGE, "c", existing) == "image"
    existing = {"_default", "image"}  # a and b were dropped; the rows of c are where they were
    assert home_of(Kind.IMAGE, "c", existing) == "image"
    assert home_of(Kind.VIEW, "c", existing) == "view__c"
