"""The short way to the tags that are used: whatever it reads is what Pillow reads, and what is odd is left to Pillow."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from outcrop.embed.adobe_rgb import names_adobe_rgb
from outcrop.embed.exif import quick_exif
from outcrop.embed.photo import in_adobe_rgb, metadata_of, read_metadata, read_orientation
from outcrop.embed.xmp import packet

ANGLES = st.tuples(*[st.fractions(0, 200, max_denominator=10**6).map(float) for _ in range(3)])
TEXTS = st.sampled_from(
    ["2024:03:09 08:05:01", "2024:03:09 08:05:01\0", "", "soon", "N", "S", "E", "W", "+09:00", "R03", "R98"]
)


def made(base: dict[int, Any], gps: dict[int, Any], camera: dict[int, Any], interop: dict[int, Any]) -> Image.Exif:
    exif = Image.Exif()
    exif.update(base)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    exif.get_ifd(ExifTags.IFD.Exif).update(camera)
    if interop:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = interop
    return exif


def tags(**kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[int, Any]]:
    return st.fixed_dictionaries({}, optional={int(name[1:]): value for name, value in kinds.items()})


EXIFS = st.builds(
    made,
    tags(_274=st.integers(0, 9), _271=TEXTS, _282=st.floats(1, 300)),
    tags(_1=TEXTS, _2=ANGLES, _3=TEXTS, _4=ANGLES, _5=st.sampled_from([b"\0", b"\1", b"\3"]), _6=st.floats(0, 9000)),
    tags(
        _36867=TEXTS,
        _36881=TEXTS,
        _36880=TEXTS,
        _41989=st.integers(0, 600),
        _37386=st.floats(0, 300),
        _41486=st.floats(0, 9000),
        _41488=st.integers(0, 4),
        _40962=st.integers(0, 9000),
        _40963=st.integers(0, 9000),
        _37500=st.binary(max_size=30),
    ),
    tags(_1=TEXTS),
)


def opened(block: bytes) -> Image.Image:
    """A JPEG that holds a block of EXIF."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=block)
    return Image.open(io.BytesIO(buffer.getvalue()))


def is_as_pillow_reads_it(block: bytes) -> bool:
    """Whether it was read the short way; then what is made of it is what is made of Pillow's reading."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image, other = opened(block), opened(block)
    quick = quick_exif(image.info.get("exif", b""))
    if quick is None:
        return False
    exif = other.getexif()
    assert read_metadata(image) == metadata_of(exif, packet(other))
    stated = exif.get(ExifTags.Base.Orientation, 1)
    assert read_orientation(image) == (stated if isinstance(stated, int) and 1 <= stated <= 8 else 1)
    assert in_adobe_rgb(image) == names_adobe_rgb(exif.get_ifd(ExifTags.IFD.Interop))
    return True


@settings(max_examples=200)
@given(EXIFS)
def test_tags_are_those_that_pillow_reads(exif: Image.Exif) -> None:
    is_as_pillow_reads_it(exif.tobytes())


@settings(max_examples=300)
@given(EXIFS, st.lists(st.tuples(st.integers(6, 400), st.integers(0, 255)), max_size=4), st.integers(0, 60))
def test_a_damaged_block_is_read_alike_or_left_to_pillow(
    exif: Image.Exif, changes: list[tuple[int, int]], cut: int
) -> None:
    block = bytearray(exif.tobytes())
    for place, value in changes:
        block[min(place, len(block) - 1)] = value
    is_as_pillow_reads_it(bytes(block[: len(block) - cut]))


def test_photographs_are_read_the_short_way(shared_sample: Path) -> None:
    """What cameras and drones write is in order; else the short way would be of no use."""
    found = sorted(shared_sample.rglob("*.[jJ][pP]*[gG]"))
    quick = 0
    for path in found:
        with Image.open(path) as image:
            block = image.info.get("exif", b"")
        quick += is_as_pillow_reads_it(block) if block else 1
    assert quick == len(found) > 20


def directory(order: str, *entries: tuple[int, int, int, bytes], after: bytes = b"") -> bytes:
    head = b"Exif\0\0" + {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(struct.pack(f"{order}HHI4s", *entry) for entry in entries) + bytes(4) + after


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_orders_of_bytes(order: str) -> None:
    found = quick_exif(directory(order, (274, 3, 1, struct.pack(f"{order}HH", 6, 0))))
    assert found is not None and found.base == {274: 6}


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"II*\0\x08\0\0\0\0\0",
        b"Exif\0\0II+\0\x08\0\0\0\0\0",
        directory("<", (274, 3, 2, b"\6\0\6\0")),
        directory("<", (274, 4, 1, b"\6\0\0\0")),
        directory("<", (274, 3, 1, b"\6\0\0\0"), (274, 3, 1, b"\1\0\0\0")),
        directory("<", (271, 99, 1, b"\6\0\0\0")),
        directory("<", (271, 2, 400, b"\6\0\0\0")),
        directory("<", (34853, 4, 1, b"\xff\xff\0\0")),
        directory("<", (34665, 4, 1, b"\x1a\0\0\0"), after=b"\1\0" + struct.pack("<HHII", 37386, 5, 1, 44) + bytes(16)),
    ],
    ids=["empty", "bare", "big", "two", "long", "twice", "type", "beyond", "far", "nothing-below"],
)
def test_what_is_odd_is_left_to_pillow(block: bytes) -> None:
    assert quick_exif(block) is None
