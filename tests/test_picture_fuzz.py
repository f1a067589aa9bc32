"""Damaged bytes, EXIF and XMP at random: nothing but a `PictureError` comes out, and nothing reaches the screen.

A few hundred examples each; `OUTCROP_EXAMPLES=20000` (as at night) asks for more.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from profiles import ADOBE, rgb_profile
from scenes import saved, scene

from outcrop.embed.images import Decoded, decode, inspect
from outcrop.embed.photo import PhotoMetadata, metadata_of, read_metadata, read_orientation
from outcrop.embed.reader_versions import version_of
from outcrop.embed.tiff import directories
from outcrop.schema.errors import PictureError

EXAMPLES = int(os.environ.get("OUTCROP_EXAMPLES", "0"))
many = settings(
    max_examples=EXAMPLES or 300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def exif() -> bytes:
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = 6
    made.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (37.0, 30.0, 36.0), 3: "E", 4: (127.0, 0.0, 0.0)})
    made.get_ifd(ExifTags.IFD.Exif).update({36867: "2024:03:09 08:05:01", 36880: "+09:00", 41989: 24})
    return made.tobytes()


XMP = (
    b'<rdf:Description drone-dji:GpsLatitude="+37.5" drone-dji:GpsLongtitude="127.0" drone-dji:RelativeAltitude="+40.2"'
    b' Camera:CentralWavelength="475, 560, 668, 840, 717"><drone-dji:GimbalYawDegree>-90.0</drone-dji:GimbalYawDegree>'
)


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, **options)
    return file.getvalue()


def _bands(count: int, kind: str) -> np.ndarray:
    return (np.random.default_rng(1).random((40, 50, count)) * 200).astype(kind)


WHOLE = {
    "JPEG": saved(scene(80, 60), "JPEG", exif=exif(), xmp=XMP, icc_profile=rgb_profile(ADOBE)),
    "PNG": saved(scene(80, 60), "PNG", exif=exif(), icc_profile=rgb_profile(ADOBE)),
    "WEBP": saved(scene(80, 60), "WEBP", exif=exif(), xmp=XMP),
    "TIFF": saved(scene(80, 60), "TIFF", exif=exif()),
    "LZW": saved(scene(80, 60), "TIFF", compression="tiff_lzw"),
    "GIF": saved(scene(80, 60), "GIF"),
    "BMP": saved(scene(80, 60), "BMP"),
    "PPM": saved(scene(80, 60), "PPM"),
    "JPEG2000": saved(scene(80, 60), "JPEG2000"),
    "AVIF": saved(scene(80, 60), "AVIF", exif=exif()),
    "bands": tiff(
        _bands(5, "uint16"), planarconfig="contig", photometric="minisblack", compression="lzw", predictor=True,
        extratags=[(700, "B", len(XMP), XMP, True), (42113, "s", 2, "0", True)],
    ),
    "tiles": tiff(
        np.moveaxis(_bands(3, "float64"), -1, 0), planarconfig="separate", photometric="rgb", tile=(16, 16),
        compression="adobe_deflate",
    ),
    "float": tiff(
        _bands(3, "float32"), planarconfig="contig", photometric="rgb", compression="adobe_deflate", predictor=3
    ),
    "nodata": tiff(_bands(1, "float32")[..., 0], extratags=[(42113, "s", 6, "-9999", True)]),
}  # fmt: skip


def attempt(reader: Callable[..., Any], data: bytes) -> Any:
    try:
        return reader(data, name="x")
    except PictureError as error:
        said = str(error)
        assert said.startswith("x: ") and "\n" not in said and len(said) < 600
        return None


damage = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=10)


def damaged(whole: bytes, flips: list[tuple[float, int]], cut: float) -> bytes:
    data = bytearray(whole)
    for place, value in flips:
        data[int(place**2 * (len(data) - 1))] = value  # more of them at the beginning, where the headers stand
    return bytes(data[: int(cut * len(data)) if cut < 1 else None])


@many
@given(kind=st.sampled_from(sorted(WHOLE)), flips=damage, cut=st.floats(0, 3))
def test_damaged_pictures(kind: str, flips: list[tuple[float, int]], cut: float) -> None:
    data = damaged(WHOLE[kind], flips, cut)
    found = attempt(lambda data, name: decode(data, name=name, at_least=(20, 20)), data)
    if found is not None:
        assert isinstance(found, Decoded) and found.image.mode == "RGB"
        assert all("\n" not in remark for remark in found.remarks)
    attempt(inspect, data)


@many
@given(tail=st.floats(0, 1), flips=damage)
def test_damaged_directories_of_tiffs(tail: float, flips: list[tuple[float, int]]) -> None:
    """Flips within the directories, wherever these stand, and of whole 32-bit values."""
    for whole in (WHOLE["bands"], WHOLE["tiles"], WHOLE["float"], WHOLE["TIFF"]):
        first = directories(io.BytesIO(whole))[0].offset
        data = bytearray(whole)
        for place, value in flips:
            at = min(first + int(place * 240), len(data) - 4)
            struct.pack_into("<I" if tail < 0.3 else "<B", data, at, value * (0x01010101 if tail < 0.15 else 1))
        attempt(decode, bytes(data))
        attempt(inspect, bytes(data))


@many
@given(
    head=st.sampled_from([data[:size] for data in WHOLE.values() for size in (0, 2, 4, 8, 16)]),
    rest=st.binary(max_size=300),
)
def test_random_bytes(head: bytes, rest: bytes) -> None:
    attempt(decode, head + rest)
    attempt(inspect, head + rest)


def sane(found: PhotoMetadata) -> None:
    assert (found.latitude is None) == (found.longitude is None) == (found.position_source is None)
    assert found.latitude is None or abs(found.latitude) <= 90
    assert found.longitude is None or abs(found.longitude) <= 180
    for value in (found.relative_altitude, found.yaw, found.pitch, found.focal_length_35mm):
        assert value is None or math.isfinite(value)
    assert found.yaw is None or 0 <= found.yaw < 360


@many
@given(flips=damage, cut=st.floats(0, 3))
def test_damaged_exif(flips: list[tuple[float, int]], cut: float) -> None:
    image = Image.new("RGB", (16, 16))
    image.info["exif"] = damaged(exif(), flips, cut)
    sane(read_metadata(image))
    assert 1 <= read_orientation(image) <= 8


@many
@given(flips=damage, cut=st.floats(0, 3), values=st.lists(st.text("+-.0123456789eENn \"'<>/", max_size=30), max_size=4))
def test_xmp_at_random(flips: list[tuple[float, int]], cut: float, values: list[str]) -> None:
    names = ("GpsLatitude", "GpsLongtitude", "RelativeAltitude", "GimbalYawDegree")
    own = "".join(f' drone-dji:{name}="{value}"' for name, value in zip(names, values, strict=False)).encode()
    sane(metadata_of(Image.Exif(), damaged(XMP, flips, cut)))
    sane(metadata_of(Image.Exif(), b"<a" + own + b"/>"))
    sane(metadata_of(Image.Exif(), b"<a" + own + b"/>" + damaged(XMP, flips, cut)))


@many
@given(packet=st.binary(max_size=400), data=st.binary(max_size=400))
def test_metadata_at_random(packet: bytes, data: bytes) -> None:
    for header in (b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0MM\0*\0\0\0\x08", b""):
        image = Image.new("RGB", (16, 16))
        image.info["exif"], image.info["xmp"] = header + data, packet
        sane(read_metadata(image))


@many
@given(kind=st.sampled_from(sorted(WHOLE)), flips=damage, cut=st.floats(0, 3))
def test_the_version_of_the_reader_is_a_version_or_an_error_that_is_caught(
    kind: str, flips: list[tuple[float, int]], cut: float
) -> None:
    data = damaged(WHOLE[kind], flips, cut)
    try:
        said = version_of(io.BytesIO(data))
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception:  # noqa: BLE001  `reader_version` leaves it to whoever decodes
        return
    assert all(word.endswith("1") for word in said.split())


def test_nothing_reaches_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for whole in WHOLE.values():
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(int(generator.integers(1, 8))):
                data[int(generator.random() ** 2 * len(data))] = int(generator.integers(256))
            attempt(decode, bytes(data))
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
