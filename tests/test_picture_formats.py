"""Files are judged by their first bytes: what is not read is refused as what it is, with the way out."""

from __future__ import annotations

import io
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from scenes import case, saved, scene

from outcrop.embed.formats import FORMATS, format_of
from outcrop.embed.images import decode, inspect
from outcrop.embed.remarks import MAX_REMARKS, collected, note
from outcrop.schema.errors import PictureError


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_formats_are_known_by_their_first_bytes(kind: str) -> None:
    data = saved(scene(64, 48), kind)
    assert format_of(data) == ("JPEG" if kind == "MPO" else kind)
    found = decode(data, name="misleading.txt")
    assert (found.width, found.height) == (64, 48)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_portable_anymaps_of_every_kind(mode: str) -> None:
    assert decode(saved(scene(64, 48).convert(mode), "PPM"), name="x").image.size == (64, 48)


@pytest.mark.parametrize(
    ("data", "name", "way"),
    [
        (b"8BPS\0\x01" + bytes(60), "Photoshop", "export it"),
        (b"v/1\x01" + bytes(60), "OpenEXR", "32-bit TIFF"),
        (b"#?RADIANCE\n" + bytes(60), "Radiance", "export it"),
        (b"\xff\x0a" + bytes(60), "JPEG XL", "djxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "JPEG XL", "djxl"),
        (b"II\xbc\x01" + bytes(60), "JPEG XR", "convert"),
        (b"%PDF-1.7", "PDF", "export"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript", "export"),
        (b"\x89HDF\r\n\x1a\n", "HDF5", "GeoTIFF"),
        (b"PK\x03\x04" + bytes(60), "ZIP", "unpack"),
        (b"\x1aE\xdf\xa3" + bytes(60), "video", "frames"),
        (b"\0\0\0\x18ftypmp42" + bytes(60), "video", "export"),
        (bytes(128) + b"DICM" + b"\x02" * 60, "DICOM", "export"),
        (b"<?xml version='1.0'?><svg xmlns=''/>", "SVG", "PNG"),
        (b"<svg/>", "SVG", "PNG"),
        (b"BM and then a text that is no bitmap, only begins like one", "not a picture", "give one of"),
        (b"P6 is how this text begins, and it is no pixmap", "not a picture", "give one of"),
    ],
)
def test_what_is_not_read_is_named(data: bytes, name: str, way: str) -> None:
    for reader in (decode, inspect):
        with pytest.raises(PictureError) as caught:
            reader(data, name="x")
        assert str(caught.value).startswith("x: ") and name in str(caught.value) and way in str(caught.value)


# HEIC


def heic(image: Image.Image, **options: Any) -> bytes:
    """The picture as HEIC."""
    library = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    library.from_pillow(image).save(file, quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("reader", [decode, inspect])
def test_heic_without_its_library_is_named(reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(scene(64, 48))
    assert format_of(data) == "HEIF"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(PictureError, match=r"x: is a HEIC photograph; install outcrop\[heif\] to read it, or export"):
        reader(data, name="x")


def test_heic_is_read_with_its_library() -> None:
    data = heic(scene(96, 64))
    found = decode(data, name="x")
    assert (found.width, found.height) == found.image.size == inspect(data, name="x")[:2] == (96, 64)
    assert np.abs(np.asarray(found.image).astype(int) - np.asarray(scene(96, 64))).mean() < 6


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_turned_upright_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = heic(scene(96, 64), exif=exif.tobytes())
    found = decode(data, name="x")
    sides = (96, 64) if orientation < 5 else (64, 96)
    assert (found.width, found.height) == found.image.size == inspect(data, name="x")[:2] == sides
    upright = np.rot90(np.asarray(scene(96, 64)), {1: 0, 3: 2, 6: -1, 8: 1}[orientation]).astype(int)
    assert np.abs(np.asarray(found.image).astype(int) - upright).mean() < 6


def test_the_heic_of_the_case() -> None:
    data = case("sound_but_refused/heic.bin")
    pytest.importorskip("pillow_heif")
    found = decode(data, name="x")
    assert (found.width, found.height) == (400, 300)
    assert found.metadata.position_source == "exif"


# JPEGs that are no 8-bit JPEGs


def jpeg_of(marker: int, bits: int) -> bytes:
    data = bytearray(saved(scene(64, 48), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 1], data[place + 4] = marker, bits
    return bytes(data)


def test_a_jpeg_of_12_bits_is_named() -> None:
    for data in (case("sound_but_refused/jpeg12.bin"), jpeg_of(0xC1, 12)):
        with pytest.raises(PictureError, match="x: is a JPEG of 12 bits a sample; convert it to an 8-bit JPEG"):
            decode(data, name="x")


@pytest.mark.parametrize("marker", [0xC3, 0xC7, 0xCB, 0xCF])
def test_a_lossless_jpeg_is_named(marker: int) -> None:
    with pytest.raises(PictureError, match="x: is a lossless JPEG of 14 bits"):
        decode(jpeg_of(marker, 14), name="x")


def test_jpeg_ls_is_named() -> None:
    codecs = pytest.importorskip("imagecodecs")
    data = codecs.jpegls_encode(np.asarray(scene(64, 48).convert("L")))
    with pytest.raises(PictureError, match="x: is a JPEG-LS file"):
        decode(bytes(data), name="x")


# What the libraries say


def test_pillows_modules_ask_the_thread_before_they_warn() -> None:
    for module in (Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin):
        with pytest.warns(UserWarning, match="outside"):
            module.warnings.warn("said outside of a picture", stacklevel=1)
        with collected() as remarks, warnings.catch_warnings():
            warnings.simplefilter("error")
            module.warnings.warn("said inside", stacklevel=1)
        assert remarks == ["said inside"]


def test_remarks_are_few_short_and_different() -> None:
    with collected() as remarks:
        for number in range(100):
            note(f"line {number % 50}\n" + "x" * 1000)
    assert len(remarks) == MAX_REMARKS
    assert all(len(remark) <= 200 and "\n" not in remark for remark in remarks)
    assert not note("nobody listens")


def test_threads_have_their_own_remarks() -> None:
    odd, plain = case("pillow_warning/o_two.jpg"), saved(scene(96, 64), "JPEG")
    broken = bytearray(saved(scene(300, 200), "TIFF", compression="tiff_lzw"))
    broken[500:5000] = bytes(4500)
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(30):
            match (number + turn) % 3:
                case 0:
                    if len(decode(odd, name="x").remarks) != 1:
                        wrong.append("the odd one has one remark")
                case 1:
                    if decode(plain, name="x").remarks:
                        wrong.append("the plain one has none")
                case _:
                    try:
                        decode(bytes(broken), name="x")
                    except PictureError:
                        continue
                    wrong.append("the broken one is refused")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_command_line_tool_that_decodes_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    decode(case("pillow_warning/o_two.jpg"), name="x")
    assert capfd.readouterr() == ("", "")
    assert not list(Path().iterdir())
