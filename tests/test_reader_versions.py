"""Rows made before are made again exactly where their file is read otherwise now."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin
from profiles import ADOBE, SRGB, cmyk_profile, rgb_profile
from scenes import case, saved, scene

from outcrop.embed.reader_versions import reader_version, version_of


def version(data: bytes, **options: Any) -> str:
    return version_of(io.BytesIO(data), **options)


def exif(orientation: int = 1, gps: dict[int, Any] | None = None, camera: dict[int, Any] | None = None) -> bytes:
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    made.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    made.get_ifd(ExifTags.IFD.Exif).update(camera or {})
    return made.tobytes()


PRECISE = {1: "N", 2: (37.0, 30.0, 36.5), 3: "E", 4: (127.0, 0.0, 0.0)}
DJI = b'<a drone-dji:GpsLatitude="37.5" drone-dji:GpsLongtitude="127.0"/>'
TAKEN = {36867: "2024:03:09 08:05:01"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "MPO"])
@pytest.mark.parametrize("cropped", [False, True])
def test_a_plain_picture_is_read_as_ever(kind: str, cropped: bool) -> None:
    assert version(saved(scene(64, 48), kind), cropped=cropped) == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_colour_profile_counts_unless_it_is_srgb(kind: str) -> None:
    assert version(saved(scene(64, 48), kind, icc_profile=rgb_profile(ADOBE))) == "profile1"
    assert version(saved(scene(64, 48), kind, icc_profile=rgb_profile(SRGB))) == ""
    assert version(saved(scene(64, 48), kind, icc_profile=b"damaged")) == ""


def test_a_profile_in_several_segments() -> None:
    profile = cmyk_profile() + bytes(150_000)
    profile = len(profile).to_bytes(4, "big") + profile[4:]
    data = saved(Image.new("CMYK", (16, 16)), "JPEG", icc_profile=profile, exif=exif())
    assert data.count(b"ICC_PROFILE") > 2
    assert version(data) == "profile1"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_positions_and_times_that_were_read_otherwise(kind: str) -> None:
    def made(xmp: bytes | None, data: bytes) -> str:
        options: dict[str, Any] = {"exif": data}
        if xmp is not None and kind == "PNG":
            info = PngImagePlugin.PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
            options["pnginfo"] = info
        elif xmp is not None and kind == "TIFF":
            options["tiffinfo"] = {700: xmp}
            del options["exif"]
        elif xmp is not None:
            options["xmp"] = xmp
        return version(saved(scene(64, 48), kind, **options))

    assert made(DJI, exif()) == "position1"
    if kind == "TIFF":
        return
    assert made(DJI, exif(gps=PRECISE)) == ""
    assert made(None, exif(gps=PRECISE)) == ""
    assert made(DJI, exif(gps={**PRECISE, 2: (37.0, 30.0, 36.0)})) == "position1"
    assert made(None, exif(camera={**TAKEN, 36880: "+01:00"})) == "time1"
    assert made(None, exif(camera={**TAKEN, 36880: "+01:00", 36881: "+09:00"})) == ""
    assert made(None, exif(camera={36880: "+01:00"})) == ""
    assert made(DJI, exif(camera={**TAKEN, 36880: "+01:00"})) == "position1 time1"


def test_tiffs() -> None:
    def made(values: np.ndarray, **options: Any) -> str:
        file = io.BytesIO()
        tifffile.imwrite(file, values, metadata=None, **options)
        return version(file.getvalue())

    floats = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    assert made(floats) == ""
    assert made(floats, extratags=[(42113, "s", 6, "-9999", True)]) == "nodata1"
    assert made(floats, extratags=[(42113, "s", 4, "nan", True)]) == ""
    assert made(floats.astype(np.uint32)) == "samples1"
    assert made(np.zeros((48, 64, 3), np.uint16), photometric="rgb") == ""
    six = saved(scene(64, 48), "TIFF", exif=exif(6))
    assert (version(six), version(six, cropped=True)) == ("", "sides1")
    assert version(saved(scene(64, 48), "TIFF", exif=exif(3)), cropped=True) == ""


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("raw_preview/dng_like.dng", "raw1"),
        ("float_nodata/nodata9999.tif", "nodata1"),
        ("float_nodata/nan.tif", ""),
        ("dji_xmp_position/x_gps_only.jpg", "position1"),
        ("edit_time_offset/t_off_only.jpg", "time1"),
    ],
)
def test_the_cases(file: str, expected: str) -> None:
    assert version(case(file)) == expected


def test_what_cannot_be_looked_at_is_left_to_its_reader() -> None:
    assert reader_version(Path("nowhere.jpg")) == ""
    files = {
        "empty": b"",
        "text": b"hello",
        "cut.tif": b"II*\0\x08\0\0\0\xff\xff",
        "cut.png": b"\x89PNG\r\n\x1a\n",
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
        assert reader_version(Path(name)) == ""


def test_a_file_that_changed_is_looked_at_again() -> None:
    path = Path("a.jpg")
    path.write_bytes(saved(scene(64, 48), "JPEG"))
    assert reader_version(path) == ""
    path.write_bytes(saved(scene(64, 48), "JPEG", icc_profile=rgb_profile(ADOBE)))
    assert reader_version(path) == "profile1"
