"""Keys that are typed in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import run

from outcrop.query.keys import full_keys, shorter_keys
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, image_key, reference_key, specimen_key, tile_key, view_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SPECIMENS = [
    ("molars", "Alouatta", "000"),
    ("molars", "Cebus/early", "001"),
    ("bones", "", "001"),
    ("bones", "", "종/1"),
]
IMAGES = [
    ("caliterra", "flight", 9354),
    ("caliterra", "flight", 7),
    ("caliterra", "second", 7),
    ("seneca", "flight", 12),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    items = [Item(specimen_key(*names), Kind.SPECIMEN, names[0], names[2], names[1]) for names in SPECIMENS]
    items += [Item(view_key(*SPECIMENS[0], 3), Kind.VIEW, "molars", "000", "Alouatta", view=3)]
    items.append(Item(tile_key("ortho", "150m", 3, 12), Kind.TILE, "ortho", "150m"))
    items.append(Item(tile_key("ortho", "150m", 3, 2), Kind.TILE, "ortho", "150m"))
    turned = {"frame": 7, "rotation": 30.0, "crop": 2}
    items.append(
        Item(reference_key("caliterra", "flight", 7, 30.0, 2), Kind.REFERENCE, "caliterra", "flight", **turned)
    )
    items += [Item(image_key(*names), Kind.IMAGE, names[0], names[1], frame=names[2]) for names in IMAGES]
    vectors = np.random.default_rng(0).normal(size=(len(items), 8))
    space = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=8)
    with Store.connect(str(folder / "outcrop.db")) as store:
        collection = Collection.create(store, "outcrop", space)
        collection.upsert(items, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return folder


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("image/caliterra/flight/9354", "image/caliterra/flight/9354"),
        ("caliterra/9354", "image/caliterra/flight/9354"),
        ("flight/0007", "image/caliterra/flight/0007"),
        ("second/7", "image/caliterra/second/0007"),
        ("caliterra/second/7", "image/caliterra/second/0007"),
        ("12", "image/seneca/flight/0012"),
        ("000", "specimen/molars/Alouatta/000"),
        ("molars/001", "specimen/molars/Cebus/early/001"),
        ("early/001", "specimen/molars/Cebus/early/001"),
        ("bones/001", "specimen/bones/001"),
        ("종%2F1", "specimen/bones/종%2F1"),
        ("view/molars/Alouatta/000/03", "view/molars/Alouatta/000/03"),
        ("150m/3/12", "tile/ortho/150m/0003/0012"),
        ("ortho/150m/3/2", "tile/ortho/150m/0003/0002"),
        ("000/3", "view/molars/Alouatta/000/03"),
        ("caliterra/flight/7/rot030/crop02", "reference/caliterra/flight/0007/rot030/crop02"),
        ("0007/rot030/crop02", "reference/caliterra/flight/0007/rot030/crop02"),
    ],
)
def test_as_much_of_the_end_as_names_one(place: Path, typed: str, key: str) -> None:
    with Store.connect(str(place / "outcrop.db")) as store:
        assert full_keys([typed], Collection.open(store, "outcrop")) == [key]


def test_the_shorter_forms_of_a_table_are_ends_that_are_taken(place: Path) -> None:
    with Store.connect(str(place / "outcrop.db")) as store:
        collection = Collection.open(store, "outcrop")
        keys = sorted(item.key for items, _ in collection.scan() for item in items)
        forms = shorter_keys(keys)
        assert len(forms) > 1
        for form in forms:
            assert len(set(form)) == len(keys)
            assert full_keys(form, collection) == keys
    assert shorter_keys(["image/d/c/0001"]) == [["d/c/0001"], ["c/0001"]] and shorter_keys([]) == []
    assert shorter_keys(["image/a/c/0001", "image/b/c/0001"]) == [["a/c/0001", "b/c/0001"]]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "7",
            "names 2 items of 'outcrop': image/caliterra/flight/0007, image/caliterra/second/0007; give more of the key",
        ),
        ("001", "names 2 items"),
        ("seneca/9354", "no item 'seneca/9354'"),
        ("caliterr/9354", "did you mean 'caliterra/9354'?"),
        ("image/calitera/flight/7", "did you mean 'image/caliterra/flight/0007'?"),
        ("molar/000", "did you mean 'molars/000'?"),
        ("image/caliterra/flight/9355", "there is 'image/caliterra/flight/0007'"),
        ("", "no item ''"),
        ("a//b", "no item"),
    ],
)
def test_what_names_none_or_several_is_refused(place: Path, typed: str, said: str) -> None:
    with Store.connect(str(place / "outcrop.db")) as store, pytest.raises(InputError) as caught:
        full_keys([typed], Collection.open(store, "outcrop"))
    assert said in str(caught.value)


def test_the_commands_take_them(place: Path) -> None:
    store = ("--uri", place / "outcrop.db", "--json")
    assert run("query", "item", "caliterra/9354", *store).json["queries"][0]["query"] == "image/caliterra/flight/9354"
    found = run("query", "specimen", "000", "--exclude-self", *store).json["queries"][0]
    assert {hit["key"] for hit in found["hits"]} == {specimen_key(*names) for names in SPECIMENS[1:]}
    assert "no specimen 'molar.ply2'" in run("query", "specimen", "molar.ply2", *store).error(3)
    assert "did you mean 'molars/000'?" in run("query", "specimen", "molar/000", *store).error(3)
    assert "did you mean 'molars/000'?" in run("query", "sheet", "molar/000", "--uri", place / "outcrop.db").error(3)
    assert "give more of the key" in run("query", "sheet", "001", "--uri", place / "outcrop.db").error(3)
