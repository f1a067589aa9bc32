"""What photos say about themselves, on real drone photos and on damaged ones."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational
from scenes import case

from outcrop.embed.images import decode
from outcrop.embed.photo import PhotoMetadata, read_metadata, read_orientation
from outcrop.embed.remarks import collected

SAMPLE = Path(__file__).parents[2] / "shared/sample"

NORTH_EAST = {1: "N", 2: (37.0, 30.0, 36.0), 3: "E", 4: (127.0, 0.0, 0.0)}


@pytest.fixture(scope="session")
def brighton() -> Path:
    folder = SAMPLE / "aerial/brighton_beach"
    if not folder.is_dir():
        pytest.skip(f"the sample photos are not at {folder}")
    return folder


def photo(
    gps: dict[int, object] | None = None,
    camera: dict[int, object] | None = None,
    xmp: bytes | None = None,
    kind: str = "JPEG",
) -> Image.Image:
    """A small picture with that metadata, written to bytes and opened again."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(camera or {})
    buffer = io.BytesIO()
    extra: dict[str, object] = {}
    if xmp is not None and kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        extra["pnginfo"] = info
    elif xmp is not None:
        extra["xmp"] = xmp
    Image.new("RGB", (16, 16)).save(buffer, kind, exif=exif, **extra)
    return Image.open(io.BytesIO(buffer.getvalue()))


def test_real_photos_against_their_table(brighton: Path) -> None:
    with (brighton / "metadata.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 18
    for row in rows:
        with Image.open(brighton / row["file"]) as image:
            found = read_metadata(image)
        assert found.latitude == pytest.approx(float(row["lat"]), abs=1e-7)
        assert found.longitude == pytest.approx(float(row["lon"]), abs=1e-7)
        assert found.relative_altitude == pytest.approx(float(row["RelativeAltitude"]))
        assert found.yaw == pytest.approx(float(row["GimbalYawDegree"]) % 360)
        assert found.captured_at == row["dt"].replace(":", "-", 2).replace(" ", "T")


def test_a_photo_without_dji_fields_has_position_and_time_only() -> None:
    folder = SAMPLE / "aerial/caliterra"
    if not folder.is_dir():
        pytest.skip(f"the sample photos are not at {folder}")
    with Image.open(folder / "IMG_9354.jpg") as image:
        found = read_metadata(image)
    assert found.latitude == pytest.approx(30 + 10 / 60 + 16.404 / 3600)
    assert found.longitude == pytest.approx(-(98 + 5 / 60 + 23.97 / 3600))
    assert (found.relative_altitude, found.yaw) == (None, None)


@pytest.mark.parametrize(
    ("refs", "signs"),
    [(("N", "E"), (1, 1)), (("S", "E"), (-1, 1)), (("N", "W"), (1, -1)), (("s", "w"), (-1, -1))],
)
def test_hemispheres(refs: tuple[str, str], signs: tuple[int, int]) -> None:
    found = read_metadata(photo(gps={**NORTH_EAST, 1: refs[0], 3: refs[1]}))
    assert found.latitude == pytest.approx(signs[0] * 37.51)
    assert found.longitude == pytest.approx(signs[1] * 127.0)


@pytest.mark.parametrize(
    "change",
    [
        {2: (91.0, 0.0, 0.0)},
        {4: (180.0, 0.0, 1.0)},
        {2: (IFDRational(1, 0), IFDRational(0, 1), IFDRational(0, 1))},
        {2: (37.0, 30.0)},
        {1: "X"},
        {1: None},
        {3: None},
        {4: None},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
    ],
    ids=["lat>90", "lon>180", "nan", "two-parts", "bad-ref", "no-lat-ref", "no-lon-ref", "no-lon", "no-fix"],
)
def test_a_position_that_cannot_be_is_unknown(change: dict[int, object]) -> None:
    gps = {tag: value for tag, value in {**NORTH_EAST, **change}.items() if value is not None}
    found = read_metadata(photo(gps=gps))
    assert (found.latitude, found.longitude) == (None, None)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "xmp",
    [
        b"<rdf:Description drone-dji:RelativeAltitude=\"+99.50\" drone-dji:GimbalYawDegree = '-90.00'/>",
        b"<x><drone-dji:RelativeAltitude> 99.5 </drone-dji:RelativeAltitude>"
        b"<drone-dji:GimbalYawDegree>270</drone-dji:GimbalYawDegree></x>",
    ],
    ids=["attributes", "elements"],
)
def test_dji_numbers_as_attributes_and_elements(xmp: bytes, kind: str) -> None:
    found = read_metadata(photo(xmp=xmp, kind=kind))
    assert (found.relative_altitude, found.yaw) == (99.5, 270.0)


@pytest.mark.parametrize(
    ("fields", "yaw"),
    [
        ('drone-dji:GimbalYawDegree="10" drone-dji:FlightYawDegree="20"', 10.0),
        ('drone-dji:FlightYawDegree="-20"', 340.0),
        ('drone-dji:GimbalYawDegree="360"', 0.0),
        ('drone-dji:GimbalYawDegree="-0.000000000001"', None),
        ('drone-dji:GimbalYawDegree="nan"', None),
        ('drone-dji:GimbalYawDegree="1e999"', None),
        ('xdrone-dji-GimbalYawDegree="5"', None),
    ],
)
def test_yaw(fields: str, yaw: float | None) -> None:
    found = read_metadata(photo(xmp=f"<a {fields}/>".encode())).yaw
    if fields.endswith('0001"'):
        assert found is not None and 0 <= found < 360
    else:
        assert found == yaw


def test_xmp_is_not_parsed_as_xml_and_is_bounded() -> None:
    laughs = b'<!DOCTYPE a [<!ENTITY b "' + b"ha" * 1000 + b'">]>' + b"&b;" * 1000
    assert read_metadata(photo(xmp=laughs, kind="WEBP")) == PhotoMetadata()
    far = b" " * (1 << 20) + b'<a drone-dji:RelativeAltitude="5"/>'
    assert read_metadata(photo(xmp=far, kind="WEBP")).relative_altitude is None


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ({36867: "2024:03:09 08:05:01"}, "2024-03-09T08:05:01"),
        ({36867: "2024:03:09 08:05:01", 36881: "+09:00"}, "2024-03-09T08:05:01+09:00"),
        ({36867: "2024:03:09 08:05:01", 36880: "-03:30"}, "2024-03-09T08:05:01"),
        ({36867: "2024:03:09 08:05:01", 36881: "+9"}, "2024-03-09T08:05:01"),
        ({36867: "0000:00:00 00:00:00"}, None),
        ({36867: "    :  :     :  :  "}, None),
        ({36868: "2024:03:09 08:05:01"}, None),
    ],
)
def test_time(camera: dict[int, object], expected: str | None) -> None:
    assert read_metadata(photo(camera=camera)).captured_at == expected


def test_the_offset_of_an_edit_is_not_that_of_the_photograph() -> None:
    found = decode(case("edit_time_offset/t_off_only.jpg"), name="x").metadata
    assert found.captured_at == "2025-09-18T09:25:55"


WHOLE_SECONDS = {1: "N", 2: (37.0, 30.0, 36.0), 3: "E", 4: (127.0, 0.0, 0.0)}
PRECISE = {1: "N", 2: (37.0, 30.0, 36.5), 3: "E", 4: (127.0, 0.0, 0.0)}


@pytest.mark.parametrize("longitude", ["GpsLongtitude", "GpsLongitude", "GPSLongtitude", "GPSLongitude", "Longitude"])
@pytest.mark.parametrize("element", [False, True])
def test_the_position_in_dji_xmp(longitude: str, element: bool) -> None:
    latitude = "Latitude" if longitude == "Longitude" else "GpsLatitude"
    values = {latitude: "-46.841700123456789", longitude: "+91.995867"}
    if element:
        body = "".join(f"<drone-dji:{name}>{value}</drone-dji:{name}>" for name, value in values.items())
    else:
        body = "<a " + " ".join(f'drone-dji:{name}="{value}"' for name, value in values.items()) + "/>"
    found = read_metadata(photo(xmp=body.encode()))
    assert (found.latitude, found.longitude) == (pytest.approx(-46.841700123), pytest.approx(91.995867))
    assert found.position_source == "xmp"


def test_the_position_of_the_case() -> None:
    found = decode(case("dji_xmp_position/x_gps_only.jpg"), name="x").metadata
    assert (found.latitude, found.longitude) == (-46.8417, 91.995867)


@pytest.mark.parametrize(
    ("gps", "xmp", "expected", "source"),
    [
        (PRECISE, "37.7 127.1", (37 + 30 / 60 + 36.5 / 3600, 127.0), "exif"),
        (WHOLE_SECONDS, "37.510012 127.000021", (37.510012, 127.000021), "xmp"),
        (WHOLE_SECONDS, "", (37.51, 127.0), "exif"),
        (WHOLE_SECONDS, "0.0 0.0", (37.51, 127.0), "exif"),
        (WHOLE_SECONDS, "91.0 10.0", (37.51, 127.0), "exif"),
        ({}, "0.000 0.000", (None, None), None),
        ({}, "37.5 180.5", (None, None), None),
        ({}, "", (None, None), None),
    ],
)
def test_which_position_is_taken(
    gps: dict[int, object], xmp: str, expected: tuple[float | None, float | None], source: str | None
) -> None:
    values = xmp.split()
    packet = f'<a drone-dji:GpsLatitude="{values[0]}" drone-dji:GpsLongtitude="{values[1]}"/>' if values else "<a/>"
    found = read_metadata(photo(gps=gps, xmp=packet.encode()))
    assert (found.latitude, found.longitude) == pytest.approx(expected, abs=1e-9)
    assert found.position_source == source


def test_a_position_without_its_other_half_is_unknown() -> None:
    found = read_metadata(photo(xmp=b'<a drone-dji:GpsLatitude="37.5"/>'))
    assert (found.latitude, found.longitude, found.position_source) == (None, None, None)


def test_two_places_far_apart_are_remarked() -> None:
    packet = b'<a drone-dji:GpsLatitude="12.5" drone-dji:GpsLongtitude="13.5"/>'
    with collected() as remarks:
        found = read_metadata(photo(gps=WHOLE_SECONDS, xmp=packet))
    assert (found.latitude, found.longitude) == (12.5, 13.5)
    assert len(remarks) == 1 and "kilometre" in remarks[0]


def test_damaged_exif_is_remarked_and_not_shown(recwarn: pytest.WarningsRecorder) -> None:
    found = decode(case("pillow_warning/o_two.jpg"), name="x")
    assert any("tag 274" in remark for remark in found.remarks)
    assert (found.width, found.height) == (400, 300)  # its orientation is 6
    assert not recwarn.list


def _with_exif(exif: bytes) -> Image.Image:
    image = Image.new("RGB", (16, 16))
    image.info["exif"] = exif
    return image


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 600), flips=st.lists(st.tuples(st.integers(6, 599), st.integers(0, 255)), max_size=12))
def test_damaged_exif_never_raises(cut: int, flips: list[tuple[int, int]]) -> None:
    whole = bytearray(photo(gps=NORTH_EAST, camera={36867: "2024:03:09 08:05:01"}).info["exif"])
    for place, value in flips:
        if place < len(whole):
            whole[place] = value
    image = _with_exif(bytes(whole[:cut]))
    found = read_metadata(image)
    assert found.latitude is None or (math.isfinite(found.latitude) and abs(found.latitude) <= 90)
    assert found.longitude is None or (math.isfinite(found.longitude) and abs(found.longitude) <= 180)
    assert 1 <= read_orientation(image) <= 8


@settings(max_examples=100, deadline=None)
@given(exif=st.binary(max_size=200), xmp=st.binary(max_size=200))
def test_random_bytes_as_metadata_never_raise(exif: bytes, xmp: bytes) -> None:
    for header in (b"Exif\0\0II*\0\x08\0\0\0", b"Exif\0\0MM\0*\0\0\0\x08", b""):
        image = _with_exif(header + exif)
        image.info["xmp"] = xmp
        assert isinstance(read_metadata(image), PhotoMetadata)
        assert 1 <= read_orientation(image) <= 8


def test_focal_length_on_film_as_stated_or_from_the_sensor(brighton: Path, shared_sample: Path) -> None:
    with Image.open(brighton / "DJI_0018.JPG") as image:
        found = read_metadata(image)
    assert found.focal_length_35mm == 20 and found.pitch == pytest.approx(-89.9)
    with Image.open(shared_sample / "aerial/caliterra/IMG_9354.jpg") as image:  # 4.5 mm before a sensor 6.2 mm wide
        found = read_metadata(image)
    assert found.focal_length_35mm == pytest.approx(26.14, abs=0.01) and found.pitch is None


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ({0xA405: 24}, 24.0),
        ({0xA405: 0}, None),  # "unknown", says CIPA DC-008
        ({0x920A: IFDRational(10, 1), 0xA20E: IFDRational(4000, 1), 0xA210: 3, 0xA002: 4000, 0xA003: 6000}, 24.0),
        ({0x920A: IFDRational(10, 1), 0xA20E: IFDRational(4000, 1), 0xA210: 7, 0xA002: 4000}, None),
        ({0x920A: IFDRational(10, 1), 0xA002: 4000}, None),
        ({0x920A: IFDRational(0, 0), 0xA20E: IFDRational(1, 0), 0xA002: 4000}, None),
    ],
)
def test_focal_lengths(camera: dict[int, object], expected: float | None) -> None:
    found = read_metadata(photo(camera=camera)).focal_length_35mm
    assert found == (pytest.approx(expected) if expected is not None else None)
