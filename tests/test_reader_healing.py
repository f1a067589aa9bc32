"""Collections made before a reader was mended: the next ingest embeds again what is read otherwise, and nothing else."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from profiles import ADOBE, SRGB, rgb_profile
from scenes import case, saved, scene
from test_sources import SPACE, ToyEncoder

from outcrop.embed.images import Decoded
from outcrop.embed.photo import PhotoMetadata
from outcrop.ingest import photos, references
from outcrop.ingest.changes import changes
from outcrop.ingest.checked import CheckedFiles
from outcrop.ingest.listing import ingest_listing, look_ahead
from outcrop.ingest.photos import PhotoSource
from outcrop.ingest.pipeline import Options
from outcrop.ingest.records import find_run
from outcrop.ingest.references import ReferenceSource
from outcrop.ingest.runs import Failure, Record, Run
from outcrop.ingest.sources import Contents, Listing, Source
from outcrop.schema.crops import CropSpec, parse_crops
from outcrop.schema.digests import SourceDigest
from outcrop.schema.errors import PictureError
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


def ingest(collection: Collection, sources: list[Source], checked: CheckedFiles | None = None) -> Record:
    run = Run.begin(Path("state"), "dataset")
    return ingest_listing(Listing("d", sources), Encoder(), collection, run, Options(checked=checked))


def failures(record: Record) -> list[Failure]:
    return find_run(Path("state"), record.run)[1]


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


def damaged_png() -> bytes:
    """A PNG of whose pixels one byte is another, so that their checksum is wrong."""
    data = bytearray(saved(scene(96, 64), "PNG"))
    data[data.index(b"IDAT") + 40] ^= 4
    return bytes(data)


def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads like a version that took from a PNG what could be decoded of it, and knew nothing of today's versions."""
    monkeypatch.setattr(photos, "decode", lambda data, **_: Decoded(scene(96, 64), 96, 64, PhotoMetadata()))
    monkeypatch.setattr(photos, "reader_version", lambda path: "")


def test_a_damaged_png_that_was_embedded_is_found_and_its_row_goes(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("sound.png").write_bytes(saved(scene(96, 64), "PNG"))
    Path("damaged.png").write_bytes(damaged_png())
    Path("photo.jpg").write_bytes(saved(scene(96, 64), "JPEG"))
    listed = photographs([Path("sound.png"), Path("damaged.png"), Path("photo.jpg")])
    with monkeypatch.context() as before:
        as_before(before)
        assert ingest(collection, listed).embedded == 3
    checked = CheckedFiles(Path("state"))
    ahead = look_ahead(Listing("d", listed), collection, checked=checked)
    assert (ahead.to_embed, ahead.unchanged) == (1, 2)
    (change,) = (one for one in changes(Listing("d", listed), collection, checked=checked) if one.kind == "changed")
    assert "damaged (the checksum of IDAT" in change.reason

    read: list[Path] = []
    monkeypatch.setattr(PhotoSource, "read", lambda self, path: read.append(path) or Contents.read(path))
    second = ingest(collection, listed, checked)
    assert (second.embedded, second.unchanged, second.failed, second.removed) == (0, 2, 1, 1)
    assert sorted(map(str, read)) == ["damaged.png", "sound.png"]  # no other format is read whole for this
    (failure,) = failures(second)
    assert "damaged PNG (the checksum of IDAT" in failure.reason
    assert failure.reason.endswith("what an earlier version stored of it is removed")
    assert stored(collection).keys() == {"sound.png", "photo.jpg"}

    read.clear()
    third = ingest(collection, listed, checked)
    assert (third.embedded, third.unchanged, third.failed, third.removed) == (0, 2, 1, 0)
    assert read == [Path("damaged.png")]  # what is known to be sound is not read again
    Path("damaged.png").write_bytes(saved(scene(96, 64), "PNG"))
    assert ingest(collection, listed, checked).embedded == 1
    read.clear()
    assert (ingest(collection, listed, checked).unchanged, read) == (3, [])  # what is embedded now is known to be sound
    fresh = ingest(collection, listed, CheckedFiles(Path("another state")))
    assert (fresh.embedded, fresh.unchanged, len(read)) == (0, 3, 2)


def test_a_png_that_only_changed_its_time_is_looked_at_too(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.png").write_bytes(damaged_png())
    with monkeypatch.context() as before:
        as_before(before)
        assert ingest(collection, photographs([Path("a.png")])).embedded == 1
    os.utime("a.png", (1, 1))
    again = ingest(collection, photographs([Path("a.png")]), CheckedFiles(Path("state")))
    assert (again.failed, again.removed) == (1, 1)


def test_what_an_earlier_reader_made_of_a_file_that_is_refused_now_goes(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("raw.dng").write_bytes(case("raw_preview/dng_like.dng"))
    Path("other.jpg").write_bytes(saved(scene(96, 64), "JPEG"))
    listed = photographs([Path("raw.dng"), Path("other.jpg")])
    with monkeypatch.context() as before:
        as_before(before)
        assert ingest(collection, listed).embedded == 2  # the preview, as it once was
    monkeypatch.setattr(photos, "decode", refusing)
    second = ingest(collection, listed)
    assert (second.unchanged, second.failed, second.removed) == (1, 1, 1)
    assert stored(collection).keys() == {"other.jpg"}


def test_a_row_of_other_bytes_stays_where_its_file_is_refused_now(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.png").write_bytes(saved(scene(96, 64), "PNG"))
    listed = photographs([Path("a.png")])
    assert ingest(collection, listed).embedded == 1
    Path("a.png").write_bytes(damaged_png() + b"longer")  # as while it is copied
    second = ingest(collection, listed)
    assert (second.failed, second.removed) == (1, 0)
    assert stored(collection).keys() == {"a.png"}


def refusing(data: bytes, **_: object) -> Decoded:
    raise PictureError("refused")


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
