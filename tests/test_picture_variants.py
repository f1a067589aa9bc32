"""Other spellings of what was read wrongly once: transparency, negatives, planes, alpha, decimal commas; read by numpy too."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scenes import saved, scene

from outcrop.embed.images import decode
from outcrop.embed.reader_versions import version_of
from outcrop.embed.telemetry import read_telemetry
from outcrop.schema.errors import PictureError

RANDOM = np.random.default_rng(7)
Values = NDArray[Any]


def pixels(data: bytes) -> NDArray[np.int64]:
    return np.asarray(decode(data, name="x").image).astype(int)


def version(data: bytes) -> str:
    return version_of(io.BytesIO(data))


def colour(grey: Values) -> Values:
    return np.repeat(np.rint(grey)[..., None], 3, axis=-1)


def close(data: bytes, expected: Values, within: int = 1) -> None:
    """Compares with pixels in float; Pillow keeps the upper 8 of 16 bits in colour and alpha, up to 2 grey levels off."""
    assert np.abs(pixels(data) - np.rint(expected)).max() <= within


# PNGs with one transparent colour (tRNS), in every depth


def png(rows: Sequence[bytes], width: int, depth: int, kind: int, key: Sequence[int] = ()) -> bytes:
    def part(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    transparent = part(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + transparent + part(b"gAMA", struct.pack(">I", 45455))
        + part(b"IDAT", body) + part(b"IEND", b"")
    )  # fmt: skip


def packed(values: Values, depth: int) -> list[bytes]:
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in values]
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_found_in_every_depth(depth: int) -> None:
    values = RANDOM.integers(0, 2**depth, (24, 32))
    values[:5] = key = int(values[7, 7])
    grey = values * 255 / (2**depth - 1)
    close(png(packed(values, depth), 32, depth, 0), colour(grey))
    data = png(packed(values, depth), 32, depth, 0, [key])
    close(data, colour(np.where(values == key, 255, grey)))
    assert version(data) == ("transparent1" if depth in (2, 4, 16) else "")


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png_is_compared_in_full_depth(depth: int) -> None:
    key = [10, 20, 30] if depth == 8 else [2570, 5140, 7710]
    values = RANDOM.integers(0, 2**depth, (24, 32, 3))
    values[:4], values[4:8] = key, np.array(key) + 1  # with 16 bits these are equal in their upper halves
    expected = values * 255 / (2**depth - 1)
    expected[:4] = 255
    data = png(packed(values.reshape(24, -1), depth), 32, depth, 2, key)
    close(data, expected)
    assert version(data) == ("transparent1" if depth == 16 else "")


# TIFFs that libtiff or Pillow show as something else


def tiff(values: Values, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, **options)
    return file.getvalue()


def nodata(text: str) -> list[tuple[int, str, int, str, bool]]:
    return [(42113, "s", len(text) + 1, text, True)]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("bands", [3, 4])
def test_planes_of_colour(dtype: str, compression: str | None, bands: int) -> None:
    top = np.iinfo(dtype).max
    values = RANDOM.integers(0, top + 1, (bands, 24, 32)).astype(dtype)
    extra: dict[str, Any] = {"extrasamples": ["unassalpha"]} if bands == 4 else {}
    data = tiff(values, photometric="rgb", planarconfig="separate", compression=compression, **extra)
    share = np.moveaxis(values, 0, -1) / top
    alpha = share[..., 3:] if bands == 4 else 1.0
    close(data, 255 * (share[..., :3] * alpha + 1 - alpha), within=2)
    assert ("samples1" in version(data)) == (dtype == "u2" and compression is None)


def test_planes_of_cmyk_that_would_be_shifted_are_refused() -> None:
    values = RANDOM.integers(0, 65536, (4, 24, 32)).astype("u2")
    with pytest.raises(PictureError, match="colour model"):
        decode(tiff(values, photometric="separated", planarconfig="separate"), name="x")


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("empty", [False, True])
def test_grey_in_which_0_is_white(dtype: str, empty: bool) -> None:
    whole = dtype[0] == "u"
    values = RANDOM.integers(1, 200, (24, 32)).astype(dtype)
    values[:6] = 7
    there = values != 7 if empty else np.ones(values.shape, bool)
    low, high = (0, np.iinfo(dtype).max) if whole else (values[there].min(), values[there].max())
    expected = np.where(there, 255 - np.rint((values.astype(float) - low) / (high - low) * 255), 0)
    data = tiff(values, photometric="miniswhite", extratags=nodata("7") if empty else [])
    close(data, colour(expected))
    assert ("samples1" in version(data)) == (dtype != "u1" or empty)


@pytest.mark.parametrize("text", ["nan", "-9999", "256", "7.5", "inf", "", "none"])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_nodata_that_no_byte_can_have_masks_nothing(text: str, bands: int) -> None:
    values = RANDOM.integers(0, 256, (24, 32, bands)).astype("u1")
    values[:4] = 0
    shown = values if bands == 3 else values[..., 0]
    data = tiff(shown, photometric="rgb" if bands == 3 else "minisblack", extratags=nodata(text))
    close(data, values if bands == 3 else colour(shown), within=0)


@pytest.mark.parametrize("multiplied", [False, True])
@pytest.mark.parametrize(("dtype", "bands"), [("u1", 5), ("u2", 5), ("u2", 2), ("u2", 4)])
def test_alpha_beside_nodata_and_behind_other_bands(dtype: str, bands: int, multiplied: bool) -> None:
    top = np.iinfo(dtype).max
    values = RANDOM.integers(0, top + 1, (24, 32, bands)).astype(dtype)
    values[:6] = 0  # transparent, and what GDAL says is nothing: the alpha band decides
    if multiplied:
        values[..., :-1] = np.minimum(values[..., :-1], values[..., -1:])
    shown = 3 if bands > 2 else 1
    kinds = ["unspecified"] * (bands - shown - 1) + ["assocalpha" if multiplied else "unassalpha"]
    photometric = "rgb" if bands > 2 else "minisblack"
    data = tiff(values, photometric=photometric, extrasamples=kinds, planarconfig="contig", extratags=nodata("0"))
    share = values / top
    colours, alpha = share[..., :shown], share[..., -1:]
    expected = 255 * ((colours if multiplied else colours * alpha) + 1 - alpha)
    close(data, np.broadcast_to(expected, (24, 32, 3)))
    assert "alpha1" in version(data)
    assert (pixels(data)[:6] == 255).all()


def test_floats_with_a_mask_as_gdal_writes_it() -> None:
    values = RANDOM.random((24, 32, 4)).astype("f4")
    values[:6, :, 3], values[6:, :, 3] = 0, 255
    values[:6, :, :3] = 1e9  # takes no part in the range
    low, high = values[6:, :, :3].min(), values[6:, :, :3].max()
    expected = (values[..., :3] - low) / (high - low) * 255
    expected[:6] = 255
    close(tiff(values, photometric="rgb", extrasamples=["unassalpha"]), expected, within=0)


# Decimal commas in DJI's XMP


@pytest.mark.parametrize("form", ['<a drone-dji:{}="{}"/>', "<drone-dji:{0}>{1}</drone-dji:{0}>"])
def test_decimal_commas(form: str) -> None:
    said = {
        "GpsLatitude": "+37,5",
        "GpsLongtitude": "-127,25",
        "RelativeAltitude": "+40,20",
        "GimbalYawDegree": "-90,5",
    }
    data = saved(scene(96, 64), "JPEG", xmp="".join(form.format(*item) for item in said.items()).encode())
    found = decode(data, name="x").metadata
    assert (found.latitude, found.longitude, found.relative_altitude, found.yaw) == (37.5, -127.25, 40.2, 269.5)
    assert version(data) == "commas1 position1"
    points = data.replace(b"37,5", b"37.5").replace(b"127,25", b"127.25").replace(b"40,20", b"40.20")
    assert version(points.replace(b"90,5", b"90.5")) == "position1"


# A gimbal that has rolled over


@pytest.mark.parametrize(
    ("pitch", "roll", "heading"),
    [
        ("-90.00", "+180.00", 217.5),
        ("-89.90", "-180.00", 217.5),
        ("-80.00", "+179.50", 217.5),  # past straight down, as Mavic 3E write it
        ("-90.00", "+0.00", 37.5),
        ("-90.00", "-2.10", 37.5),
        ("-90.00", "+357.90", 37.5),
        ("-20.00", "+180.00", 37.5),  # looks ahead, upside down
        (None, "+180.00", 37.5),
    ],
)
def test_the_top_of_a_picture_whose_gimbal_rolled_over(pitch: str | None, roll: str, heading: float) -> None:
    """By rotation matrices: yaw, then pitch, then roll, north-east-down; the top of a picture is up in the camera's frame."""
    said = f'drone-dji:GimbalYawDegree="+37.50" drone-dji:FlightYawDegree="+30.00" drone-dji:GimbalRollDegree="{roll}"'
    said += f' drone-dji:GimbalPitchDegree="{pitch}"' if pitch else ""
    data = saved(scene(96, 64), "JPEG", xmp=f"<a {said}/>".encode())
    assert decode(data, name="x").metadata.yaw == heading
    assert version(data) == ("roll1" if heading == 217.5 else "")
    telemetry = read_telemetry(
        f"1\n00:00:00,000 --> 00:00:01,000\n[gb_yaw: 37.5 gb_pitch: {pitch or ''} gb_roll: {roll}]\n".encode()
    )
    assert telemetry.at(0.0)[0].yaw == heading
    if pitch is None or float(pitch) > -60:
        return
    y, p, r = np.radians([37.5, float(pitch), float(roll)])
    yaw = np.array([[np.cos(y), -np.sin(y), 0], [np.sin(y), np.cos(y), 0], [0, 0, 1]])
    tilt = np.array([[np.cos(p), 0, np.sin(p)], [0, 1, 0], [-np.sin(p), 0, np.cos(p)]])
    turn = np.array([[1, 0, 0], [0, np.cos(r), -np.sin(r)], [0, np.sin(r), np.cos(r)]])
    north, east, _ = yaw @ tilt @ turn @ [0, 0, -1]
    assert np.degrees(np.arctan2(east, north)) % 360 == pytest.approx(heading, abs=3)


def test_a_number_with_two_marks_is_no_number() -> None:
    xmp = b'<a drone-dji:RelativeAltitude="1,234.5" drone-dji:GpsLatitude="37,5,1" drone-dji:GpsLongtitude="127,25"/>'
    found = decode(saved(scene(96, 64), "JPEG", xmp=xmp), name="x").metadata
    assert (found.relative_altitude, found.latitude) == (None, None)
