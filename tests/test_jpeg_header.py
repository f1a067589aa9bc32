"""The header of an ordinary JPEG is read here as Pillow reads it; everything odd is left to Pillow."""

from __future__ import annotations

import functools
import io
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import picture
from PIL import ExifTags, Image

from outcrop.embed.adobe_rgb import adobe_rgb
from outcrop.embed.images import JpegHeader, opened_jpeg
from outcrop.embed.jpeg import read_markers, unfit
from outcrop.embed.jpeg_header import AtLeast, _quick, _smallest, header_of
from outcrop.embed.photo import PhotoMetadata
from outcrop.schema.errors import PictureError

DJI = b'<a drone-dji:GpsLatitude="37.5" drone-dji:GpsLongtitude="127.0" drone-dji:RelativeAltitude="+80.5"/>'
PLACE = {1: "N", 2: (37.0, 30.0, 36.0), 3: "E", 4: (129.0, 0.0, 0.0)}
CAMERA = {36867: "2024:03:09 08:05:01", 41989: 24}


def exif(orientation: int | None = 1, gps: dict[int, Any] | None = None, camera: dict[int, Any] | None = None) -> bytes:
    made = Image.Exif()
    if orientation is not None:
        made[ExifTags.Base.Orientation] = orientation
    made.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    made.get_ifd(ExifTags.IFD.Exif).update(camera or {})
    return made.tobytes()


def jpeg(width: int = 320, height: int = 200, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture(1, width, height).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@functools.cache
def ordinary() -> dict[str, bytes]:
    """Files as cameras write them, by what they have."""
    return {
        "nothing": jpeg(),
        "a comment": jpeg(comment=b"a comment"),
        "a place": jpeg(exif=exif(6, PLACE, CAMERA)),
        "two places": jpeg(exif=exif(8, PLACE), xmp=DJI),
        "no orientation": jpeg(exif=exif(None, PLACE), xmp=DJI, dpi=(72, 72)),
        "an orientation of 9": jpeg(exif=exif(9)),
        "grey": jpeg_grey(),
        "a preview": stereo(),
    }


def stereo() -> bytes:
    buffer = io.BytesIO()
    picture(1, 64, 48).save(buffer, "MPO", save_all=True, append_images=[picture(2, 64, 48)])
    return buffer.getvalue()


def jpeg_grey() -> bytes:
    buffer = io.BytesIO()
    picture(1, 64, 48).convert("L").save(buffer, "JPEG", exif=exif(3))
    return buffer.getvalue()


def of_pillow(data: bytes, at_least: AtLeast) -> JpegHeader:
    with opened_jpeg(data, "a.jpg", lambda *sides: _smallest(at_least, *sides)) as header:
        return header


def quick(data: bytes, at_least: AtLeast) -> JpegHeader | None:
    """What is said without Pillow of a file that a device may decode."""
    markers = read_markers(data)
    return None if markers is None or unfit(markers, data) else _quick(data, markers, at_least)


def half(width: int, height: int, metadata: PhotoMetadata) -> tuple[int, int]:
    return height // 4, width // 4


@pytest.mark.parametrize("what", ordinary())
@pytest.mark.parametrize("at_least", [None, (50, 40), half])
def test_ordinary_files_need_no_pillow(what: str, at_least: AtLeast) -> None:
    data = ordinary()[what]
    assert quick(data, at_least) == of_pillow(data, at_least)


def test_what_is_odd_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    several = stereo()
    unordered = several.replace(b"MPF\0II", b"MPF\0IJ").replace(b"MPF\0MM", b"MPF\0MI")
    turned = b'<a xmlns:tiff="x" tiff:Orientation="6"/>'
    twice = jpeg(exif=exif(6))
    start = twice.index(b"Exif\0\0") - 4
    segment = twice[start : start + 2 + int.from_bytes(twice[start + 2 : start + 4], "big")]
    odd = {
        "profile": jpeg(icc_profile=adobe_rgb()),
        "several": unordered,
        "turned": jpeg(xmp=turned),
        "twice": twice[:2] + segment + twice[2:],
        "another frame": jpeg().replace(b"\xff\xe0", b"\xff\xde", 1),
        "no version": jpeg()[:2] + b"\xff\xe0\0\6JFIF" + jpeg()[2:],
        "no transform": jpeg()[:2] + b"\xff\xee\0\7Adobe" + jpeg()[2:],
        "Photoshop": jpeg()[:2] + b"\xff\xed\0\x15Photoshop 3.0\x008BIM\0" + jpeg()[2:],
        "16-bit tables": jpeg().replace(b"\xff\xdb\x00\x43\x00", b"\xff\xdb\x00\x43\x10", 1),
    }
    assert [name for name, data in odd.items() if quick(data, None) is not None] == []
    data = odd["turned"]
    markers = read_markers(data)
    assert markers is not None and header_of(data, markers, "a.jpg", None).width == 200, "Pillow follows XMP"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 320 * 200 - 1)
    assert quick(jpeg(), None) is None


@settings(max_examples=200)
@example("a comment", 3, 0xDE)  # a frame for Pillow, none for a decoder
@given(st.sampled_from(sorted(ordinary())), st.integers(2, 700), st.integers(0, 255))
def test_a_damaged_header_is_read_as_pillow_reads_it(what: str, place: int, value: int) -> None:
    data = bytearray(ordinary()[what])
    data[place] = value
    found = quick(bytes(data), (50, 40))
    if found is not None:
        assert found == of_pillow(bytes(data), (50, 40))


def test_an_error_of_whoever_wants_it_comes_through() -> None:
    def refused(*_: Any) -> tuple[int, int]:
        raise PictureError("a.jpg: too small")

    data = jpeg()
    markers = read_markers(data)
    assert markers is not None
    with pytest.raises(PictureError, match="too small"):
        header_of(data, markers, "a.jpg", refused)
