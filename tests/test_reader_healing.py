"""Collections made before a reader was mended: the next ingest embeds again what is read otherwise, and nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from profiles import ADOBE, SRGB, rgb_profile
from scenes import saved, scene
from test_sources import SPACE, ToyEncoder

from outcrop.ingest import photos, references
from outcrop.ingest.listing import ingest_listing, look_ahead
from outcrop.ingest.photos import PhotoSource
from outcrop.ingest.references import ReferenceSource
from outcrop.ingest.runs import Record, Run
from outcrop.ingest.sources import Listing, Source
from outcrop.schema.crops import CropSpec, parse_crops
from outcrop.schema.digests import SourceDigest
from outcrop.schema.frames import Frame
from outcrop.schema.item import UNKNOWN_COORDINATE, ImageKey, Item, Kind, image_key
from outcrop.schema.registry import Registry
from outcrop.store.collection import Collection
from outcrop.store.connection import Store


class Encoder(ToyEncoder):
    """One that crops are cut out for, on the CPU."""

    device = "cpu"


DJI = b'<a drone-dji:GpsLatitude="37.5" drone-dji:GpsLongtitude="127.0"/>'


@pytest.fixture
def collection(lite_uri: str) -> Iterator[Collection]:
    with Store.connect(lite_uri) as store:
        yield Collection.create(store, "toys", SPACE)


def write_photographs() -> list[Path]:
    """Plain ones, and one of each kind that is read otherwise."""
    picture = scene(96, 64)
    floats = np.linspace(0, 1, 96 * 64, dtype=np.float32).reshape(64, 96)
    floats[:8] = -9999
    files = {
        "plain.jpg": saved(picture, "JPEG"),
        "srgb.jpg": saved(picture, "JPEG", icc_profile=rgb_profile(SRGB)),
        "plain.png": saved(picture, "PNG"),
        "plain.tif": saved(picture, "TIFF"),
        "adobe.jpg": saved(picture, "JPEG", icc_profile=rgb_profile(ADOBE)),
        "xmp.jpg": saved(picture, "JPEG", xmp=DJI),
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
    tifffile.imwrite("nodata.tif", floats, metadata=None, extratags=[(42113, "s", 6, "-9999", True)])
    return [Path(name) for name in (*files, "nodata.tif")]


CHANGED = {"adobe.jpg", "xmp.jpg", "nodata.tif"}


def photographs(paths: list[Path]) -> list[Source]:
    return [
        PhotoSource(Item(image_key("d", "c", n), Kind.IMAGE, "d", "c", frame=n, source=path.name), path)
        for n, path in enumerate(paths)
    ]


def ingest(collection: Collection, sources: list[Source]) -> Record:
    return ingest_listing(Listing("d", sources), Encoder(), collection, Run.begin(Path("state"), "dataset"))


def stored(collection: Collection) -> dict[str, Item]:
    ids = [item.id for items, _ in collection.scan() for item in items]
    return {item.source: item for item, _ in collection.items(ids).values()}


def test_what_is_read_otherwise_is_embedded_again_once(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_photographs()
    with monkeypatch.context() as before:
        before.setattr(photos, "reader_version", lambda path: "")
        assert ingest(collection, photographs(paths)).embedded == len(paths)
    assert all(not SourceDigest.parse(item.source_digest).transform for item in stored(collection).values())
    ahead = look_ahead(Listing("d", photographs(paths)), collection)
    assert (ahead.to_embed, ahead.unchanged) == (len(CHANGED), len(paths) - len(CHANGED))
    second = ingest(collection, photographs(paths))
    assert (second.embedded, second.unchanged, second.failed) == (len(CHANGED), len(paths) - len(CHANGED), 0)
    after = stored(collection)
    assert {name for name, item in after.items() if SourceDigest.parse(item.source_digest).transform} == CHANGED
    assert (after["xmp.jpg"].latitude, after["xmp.jpg"].extra["position_source"]) == (37.5, "xmp")
    assert after["plain.jpg"].latitude == UNKNOWN_COORDINATE
    assert "position_source" not in after["plain.jpg"].extra
    third = ingest(collection, photographs(paths))
    assert (third.embedded, third.unchanged) == (0, len(paths))


def test_references_of_a_turned_tiff_are_made_again(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Path("six.tif").write_bytes(saved(scene(96, 64), "TIFF", exif=exif))
    Path("one.tif").write_bytes(saved(scene(96, 64), "TIFF"))
    dataset = Registry.model_validate({"datasets": {"d": {"root": ".", "images": {"c": 2}}}}).dataset("d")
    turns = tuple(CropSpec(0.0, crop) for crop in parse_crops("2x2:0.5"))
    sources: list[Source] = [
        ReferenceSource(Frame(ImageKey("d", "c", n), Path(name), name, None, None), turns, dataset)
        for n, name in enumerate(("six.tif", "one.tif"))
    ]
    with monkeypatch.context() as before:
        before.setattr(references, "reader_version", lambda path, cropped: "")
        assert ingest(collection, sources).embedded == 2 * len(turns)
    second = ingest(collection, sources)
    assert (second.embedded, second.unchanged) == (len(turns), len(turns))
    assert ingest(collection, sources).embedded == 0
    ids = [item.id for items, _ in collection.scan() for item in items]
    boxes = {tuple(item.extra["crop_box"]) for item, _ in collection.items(ids).values()}
    assert len(boxes) == 4  # the quarters of both pictures, upright


def test_a_source_in_nfd_is_stored_in_nfc_by_the_next_ingest(collection: Collection) -> None:
    name = unicodedata.normalize("NFD", "가을.jpg")
    Path(name).write_bytes(saved(scene(96, 64), "JPEG"))
    sources = photographs([Path(name)])
    assert ingest(collection, sources).embedded == 1
    (item,) = stored(collection).values()
    assert item.source == "가을.jpg"
    assert ingest(collection, sources).embedded == 0
