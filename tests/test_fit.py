"""The default fit is that of new collections: those that exist go on with their own, and nothing is mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import Outcome, run
from pictures import picture, write_dataset

from outcrop.embed.encoder import Encoder
from outcrop.embed.images import fit_to
from outcrop.embed.models import find_model
from outcrop.ingest.layouts import space_of_tree
from outcrop.ingest.vocabulary import _modelled
from outcrop.schema.item import image_key, item_id
from outcrop.schema.settings import Settings
from outcrop.schema.space import AskedPooling, Fit
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SMALL = ("--model", "efficientnet_lite0", "--input-size", 64)
CAPTURE = "250918092555_300"


def ingest(*more: object) -> Outcome:
    return run("ingest", "dataset", "jamshill_image", "--json", *more)


def made_by(fit: Fit, frame: int) -> np.ndarray:
    encoder = Encoder.open(find_model("efficientnet_lite0", size=64, fit=fit), device="cpu")
    return encoder.encode(fit_to(picture(frame, 320, 180), (64, 64), fit)[None])[0]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three wide photographs, of which two are in a collection that squashes them, as all did by default once."""
    write_dataset(tmp_path, {CAPTURE: 3})
    for frame in (1, 2, 3):
        picture(frame, 320, 180).save(tmp_path / f"images/{CAPTURE}/{CAPTURE}_{frame:04d}.jpg", quality=95)
    assert ingest(*SMALL, "--fit", "squash", "--limit", 2).json["embedded"] == 2
    return tmp_path


def test_new_collections_keep_proportions(site: Path) -> None:
    assert ingest(*SMALL, "--collection", "new").json["embedded"] == 3
    with Store.connect("outcrop.db") as store:
        assert Collection.open(store, "new").space.fit == "crop"
        assert Collection.open(store, "outcrop").space.fit == "squash"


def test_a_collection_that_squashes_goes_on_so_without_being_told(site: Path) -> None:
    """Photographs, references and queries alike, whether the model is named or not."""
    again = ingest("--model", "efficientnet_lite0").json
    assert (again["embedded"], again["unchanged"]) == (1, 2)
    done = run("ingest", "references", "jamshill_image", "--angles", 0, "--crops", 1, "--json").json
    assert (done["embedded"], done["failed"]) == (3, 0)
    key = image_key("jamshill_image", CAPTURE, 3)
    with Store.connect("outcrop.db") as store:
        collection = Collection.open(store, "outcrop")
        assert collection.space.fit == "squash"
        vector = collection.items([item_id(key)])[item_id(key)][1]
    assert vector @ made_by("squash", 3) > 0.99 > vector @ made_by("crop", 3)
    file = site / f"images/{CAPTURE}/{CAPTURE}_0003.jpg"
    (answer,) = run("query", "image", file, "--group", "none", "-k", 2, "--json").json["queries"]
    assert {hit["kind"] for hit in answer["hits"]} == {"image", "reference"}
    assert all(hit["score"] > 0.995 and hit["capture_id"] == CAPTURE and hit["frame"] == 3 for hit in answer["hits"])


def test_another_fit_is_refused_where_there_is_one(site: Path) -> None:
    assert "fitted by squash, not crop; leave --fit out" in ingest("--fit", "crop").error(6)


def test_trees_of_vectors_that_say_nothing_are_of_the_programs_that_squash(site: Path) -> None:
    """Whichever fit new collections have; but a collection's own, and what is asked for, count more."""
    asked = Settings(model="efficientnet_lite0", registry=site / "absent.json")
    assert space_of_tree(site, asked, None, None)[0].fit == "squash"
    assert space_of_tree(site, asked.model_copy(update={"fit": "pad"}), None, None)[0].fit == "pad"
    elsewhere = asked.model_copy(update={"model": "dinov2_vits14"})  # whose weights are not here
    assert space_of_tree(site, elsewhere, None, None)[0].fit == "squash"
    assert ingest("--model", "efficientnet_lite0", "--collection", "new", "--limit", 1).json["embedded"] == 1
    with Store.connect("outcrop.db") as store:
        assert space_of_tree(site, asked, Collection.open(store, "new"), None)[0].fit == "crop"


@pytest.mark.parametrize("named", [None, "efficientnet_lite0"])
def test_a_vocabulary_is_fitted_as_the_collection_fits(site: Path, named: str | None) -> None:
    settings = Settings(model=named, registry=site / "data_key.json")
    with Store.connect("outcrop.db") as store:
        collection = Collection.open(store, "outcrop")
        for asked, fit in ((settings, "squash"), (settings.model_copy(update={"fit": "pad"}), "pad")):
            assert _modelled("jamshill_image", asked, AskedPooling("avg"), collection)[0].space.fit == fit
