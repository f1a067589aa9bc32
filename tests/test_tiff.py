"""TIFFs of every kind, read as tifffile, numpy or Pillow read them; raw photographs, nodata and bands."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image
from scenes import case, saved, scene

from outcrop.embed.images import decode, inspect
from outcrop.embed.photo import PhotoMetadata
from outcrop.schema.errors import PictureError


def written(values: NDArray[Any], **options: Any) -> bytes:
    """An array as a TIFF of one page."""
    file = io.BytesIO()
    if values.ndim == 3:
        options.setdefault("planarconfig", "contig")
    tifffile.imwrite(file, values, metadata=None, **options)
    return file.getvalue()


def oracle(data: bytes) -> NDArray[Any]:
    """The samples as tifffile reads them, [H, W, bands]."""
    found = tifffile.imread(io.BytesIO(data))
    return np.moveaxis(found, 0, -1) if found.ndim == 3 and found.shape[0] < found.shape[-1] else found


def pixels(data: bytes) -> NDArray[np.int64]:
    return np.asarray(decode(data, name="x.tif").image).astype(int)


def bands(count: int, dtype: str = "uint16", height: int = 90, width: int = 70) -> NDArray[Any]:
    """A picture of many bands, each of another content."""
    y, x = np.mgrid[0:height, 0:width]
    layers = [np.sin(x / (5 + band)) * np.cos(y / (9 - band / 2)) + band / 7 for band in range(count)]
    values = np.stack(layers, -1)
    values = (values - values.min()) / np.ptp(values)
    kind = np.dtype(dtype)
    return (
        values.astype(kind) * 900 - 100 if kind.kind == "f" else (values * (np.iinfo(kind).max / 2 + 100)).astype(kind)
    )


def expected(values: NDArray[Any]) -> NDArray[np.int64]:
    """8 bits of three bands: unsigned integers up to 16 bits by their type's range, others by their own."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return np.rint(values.astype(float) * 255 / np.iinfo(values.dtype).max).astype(int)
    wide = values.astype(float)
    return np.rint((wide - wide.min()) / np.ptp(wide) * 255).astype(int)


# Many bands and types that Pillow has no mode for


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
@pytest.mark.parametrize("compression", [None, "lzw", "adobe_deflate", "packbits", "zstd", "lzma"])
def test_five_bands_in_every_layout(planar: str, tile: tuple[int, int] | None, compression: str | None) -> None:
    values = bands(5)
    stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
    data = written(
        stored, planarconfig=planar, photometric="minisblack", tile=tile, compression=compression, rowsperstrip=7
    )
    assert np.array_equal(oracle(data), values)
    found = decode(data, name="x")
    assert (found.width, found.height) == (70, 90) == inspect(data, name="x")[:2]
    assert np.abs(np.asarray(found.image) - expected(values[..., :3])).max() <= 1
    assert found.remarks == ("it has 5 bands; the first three are read as red, green and blue",)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [False, True])
def test_every_type_of_five_bands(dtype: str, order: str, predictor: bool) -> None:
    values = bands(5, dtype)
    data = written(
        values,
        photometric="minisblack",
        byteorder=order,
        compression="adobe_deflate",
        predictor=predictor,
        tile=(16, 32),
    )
    assert np.array_equal(oracle(data), values)
    assert np.abs(pixels(data) - expected(values[..., :3])).max() <= 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint32", "int16", "int32"])
@pytest.mark.parametrize("predictor", [False, True])
def test_colour_in_floats_and_wide_integers(dtype: str, predictor: bool) -> None:
    values = bands(3, dtype)
    data = written(values, photometric="rgb", compression="lzw", predictor=predictor)
    assert np.array_equal(oracle(data), values)
    assert np.abs(pixels(data) - expected(values)).max() <= 1
    assert decode(data, name="x").remarks == ()


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint32", "int8", "uint64", "int64"])
def test_grey_in_doubles_and_wide_integers(dtype: str) -> None:
    values = bands(1, dtype)[..., 0]
    data = written(values, photometric="minisblack")
    found = pixels(data)
    assert np.abs(found - expected(values)[..., None]).max() <= 1


def test_two_bands_are_read_as_the_first() -> None:
    values = bands(2, "float32")
    data = written(values, photometric="minisblack", planarconfig="contig")
    assert np.abs(pixels(data) - expected(values[..., 0])[..., None]).max() <= 1
    assert "2 bands" in decode(data, name="x").remarks[0]


def test_a_big_tiff_of_five_bands() -> None:
    values = bands(5)
    file = io.BytesIO()
    tifffile.imwrite(
        file, values, bigtiff=True, planarconfig="contig", photometric="minisblack", metadata=None, compression="lzw"
    )
    assert np.abs(pixels(file.getvalue()) - expected(values[..., :3])).max() <= 1
    assert len(decode(file.getvalue(), name="x").remarks) == 1  # of the bands


@pytest.mark.parametrize("orientation", range(1, 9))
def test_five_bands_are_turned_upright(orientation: int) -> None:
    values = bands(5)
    data = written(values, photometric="minisblack", extratags=[(274, "H", 1, orientation, True)])
    upright = np.asarray(Image.fromarray(expected(values[..., :3]).astype(np.uint8)))
    turned = [
        upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1], upright.swapaxes(0, 1),
        np.rot90(upright, -1), np.rot90(upright, 2).swapaxes(0, 1), np.rot90(upright),
    ][orientation - 1]  # fmt: skip
    found = decode(data, name="x")
    assert np.abs(np.asarray(found.image).astype(int) - turned).max() <= 1
    assert inspect(data, name="x")[:2] == (found.width, found.height) == found.image.size


WAVELENGTHS = "475, 560, 668, 840, 717"
NAMES = "Blue, Green, Red, NIR, Red edge"


@pytest.mark.parametrize(
    ("packet", "how"),
    [
        (f'<a Camera:CentralWavelength="{WAVELENGTHS}"/>', "wavelength"),
        (f"<Camera:CentralWavelength>{WAVELENGTHS}</Camera:CentralWavelength>", "wavelength"),
        (
            "<Camera:CentralWavelength><rdf:Seq>"
            + "".join(f"<rdf:li>{one}</rdf:li>" for one in WAVELENGTHS.split(", "))
            + "</rdf:Seq></Camera:CentralWavelength>",
            "wavelength",
        ),
        (f'<a Camera:BandName="{NAMES}"/>', "name"),
    ],
)
def test_red_green_and_blue_by_wavelength_or_name(packet: str, how: str) -> None:
    values = bands(5)
    data = written(values, photometric="minisblack", extratags=[(700, "B", len(packet), packet.encode(), True)])
    assert np.abs(pixels(data) - expected(values[..., [2, 1, 0]])).max() <= 1
    assert decode(data, name="x").remarks == (f"it has 5 bands; red, green and blue are bands 3, 2, 1, by their {how}",)


def test_bands_by_gdals_metadata() -> None:
    values = bands(4)
    items = "".join(
        f'<Item name="DESCRIPTION" sample="{band}" role="description">{name}</Item>'
        for band, name in enumerate(("NIR", "Red", "Green", "Blue"))
    )
    text = f"<GDALMetadata>{items}</GDALMetadata>"
    data = written(values, photometric="minisblack", extratags=[(42112, "s", len(text) + 1, text, True)])
    assert np.abs(pixels(data) - expected(values[..., [1, 2, 3]])).max() <= 1


def test_wavelengths_without_red_do_not_choose() -> None:
    values = bands(5)
    packet = b'<a Camera:CentralWavelength="717, 740, 783, 842, 865"/>'
    data = written(values, photometric="minisblack", extratags=[(700, "B", len(packet), packet, True)])
    assert np.abs(pixels(data) - expected(values[..., :3])).max() <= 1


def test_12_bits_have_the_brightness_of_8() -> None:
    grey = np.asarray(scene(64, 48).convert("L"))
    deep = np.rint(grey / 255 * 4095).astype(np.uint16)
    data = written(deep, photometric="minisblack", bitspersample=12)
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), deep)
    assert np.abs(pixels(data) - grey[..., None]).max() <= 1


# Refused by name


@pytest.mark.parametrize("compression", ["webp", "jpegxl", "jpeg2000", "lerc"])
def test_compressions_that_are_not_read_are_named(compression: str) -> None:
    data = written(np.asarray(scene(64, 48)), photometric="rgb", compression=compression)
    names = {"webp": "WebP", "jpegxl": "JPEG XL", "jpeg2000": "JPEG 2000", "lerc": "LERC"}
    with pytest.raises(PictureError, match=rf"x: is compressed as {names[compression]}.*; export it with LZW"):
        decode(data, name="x")


def test_odd_bits_are_named() -> None:
    values = (bands(5) >> 4).astype(np.uint16)
    data = written(values, photometric="minisblack", compression="adobe_deflate")
    patched = data.replace(np.array([16] * 5, "<u2").tobytes(), np.array([12] * 5, "<u2").tobytes(), 1)
    with pytest.raises(PictureError, match="12 bits"):
        decode(patched, name="x")


@pytest.mark.parametrize("compression", [None, "lzw", "adobe_deflate"])
def test_damaged_samples_are_refused(compression: str | None) -> None:
    data = written(bands(5), photometric="minisblack", compression=compression, rowsperstrip=8)
    for cut in (0.3, 0.7, 0.9):
        with pytest.raises(PictureError, match=r"^x: "):
            decode(data[: int(cut * len(data))], name="x")


# Nodata


def test_the_nodata_of_the_case_is_read_like_nan() -> None:
    assert np.array_equal(pixels(case("float_nodata/nodata9999.tif")), pixels(case("float_nodata/nan.tif")))


def nodata_tag(text: str) -> list[tuple[int, str, int, str, bool]]:
    return [(42113, "s", len(text) + 1, text, True)]


@pytest.mark.parametrize("text", ["-9999", "-9999.0", " -9999 ", "-3.4028234663852886e+38", "1e30"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 3])
def test_nodata_in_floats_is_read_like_nan(text: str, dtype: str, count: int) -> None:
    values = bands(count, dtype)
    values = values[..., 0] if count == 1 else values
    photometric = "minisblack" if count == 1 else "rgb"
    holes = values.copy()
    holes[20:40, 10:30] = np.nan
    marked = values.copy()
    marked[20:40, 10:30] = np.dtype(dtype).type(float(text))
    one = pixels(written(marked, photometric=photometric, extratags=nodata_tag(text)))
    other = pixels(written(holes, photometric=photometric))
    assert np.array_equal(one, other)
    assert other[25, 15].tolist() == [0, 0, 0]
    rest = np.delete(values.reshape(-1, count), np.s_[:0], 0)
    assert other.max() == 255 and rest.max() < 1e6


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("uint16", 65535), ("int16", -32768), ("int32", -9999)])
@pytest.mark.parametrize("count", [1, 3])
def test_nodata_in_integers_is_black_and_outside_of_the_range(dtype: str, nodata: int, count: int) -> None:
    kind = np.dtype(dtype)
    values = (bands(count, "uint8").astype(int) // 2 + 40).astype(kind)
    values = values[..., 0] if count == 1 else values
    values[20:40, 10:30] = nodata
    data = written(values, photometric="minisblack" if count == 1 else "rgb", extratags=nodata_tag(str(nodata)))
    found = pixels(data)
    assert (found[20:40, 10:30] == 0).all()
    kept = np.ones(values.shape[:2], bool)
    kept[20:40, 10:30] = False
    valid = values[kept].astype(float)
    if kind.kind == "u":
        wanted = np.rint(valid * 255 / np.iinfo(kind).max)
    else:
        wanted = np.rint((valid - valid.min()) / np.ptp(valid) * 255)
    wanted = wanted[:, None] if count == 1 else wanted
    assert np.abs(found[kept] - wanted).max() <= 1


def test_one_band_that_equals_nodata_is_a_colour() -> None:
    values = np.full((16, 16, 3), 100, np.uint8)
    values[4, 4] = (0, 100, 100)
    values[5, 5] = 0
    data = written(values, photometric="rgb", extratags=nodata_tag("0"))
    assert pixels(data)[4, 4].tolist() == [0, 100, 100]


@pytest.mark.parametrize("text", ["nan", "none", "", "1,2,3"])
def test_a_nodata_that_says_nothing(text: str) -> None:
    values = bands(1, "float32")[..., 0]
    data = written(values, photometric="minisblack", extratags=nodata_tag(text))
    assert np.abs(pixels(data) - expected(values)[..., None]).max() <= 1


# Orientation


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "F"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_sides_of_a_turned_tiff_are_given_upright(orientation: int, mode: str, compression: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    grey = np.asarray(scene(64, 40).convert("L"))
    image = {
        "RGB": scene(64, 40),
        "L": Image.fromarray(grey),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
        "F": Image.fromarray(grey.astype(np.float32)),
    }[mode]
    data = saved(image, "TIFF", exif=exif, compression=compression)
    found = decode(data, name="x")
    assert inspect(data, name="x")[:2] == (found.width, found.height) == found.image.size == (40, 64)
    grey_found = np.asarray(found.image.convert("L")).astype(int)
    turn = {5: lambda a: a.T, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}[orientation]
    assert np.corrcoef(grey_found.ravel(), turn(grey).ravel())[0, 1] > 0.999


# Raw photographs


def test_the_preview_of_the_case_is_not_the_photograph() -> None:
    data = case("raw_preview/dng_like.dng")
    found = decode(data, name="x")
    assert (found.width, found.height) == (400, 300) == inspect(data, name="x")[:2]
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        full = file.pages.first.pages[0].asarray()  # type: ignore[union-attr,index]
    assert np.array_equal(np.asarray(found.image), full)


TO_SRGB = (32405, -15371, -4985, -9693, 18760, 416, 556, -2040, 10572)
"""From XYZ to a camera that sees as sRGB does, in ten thousandths."""


def raw(
    sensor: NDArray[np.uint16] | None,
    full: NDArray[np.uint8] | None = None,
    *,
    dng: bool = True,
    marked: bool = True,
    make: str = "NIKON CORPORATION",
    orientation: int = 1,
) -> bytes:
    """A raw photograph as cameras write them: a preview first, and the sensor's data or a finished picture in a SubIFD."""
    file = io.BytesIO()
    preview = np.asarray(scene(64, 48))
    tags: list[tuple[Any, ...]] = [(271, "s", len(make) + 1, make, True), (274, "H", 1, orientation, True)]
    if dng:
        tags += [
            (50706, "B", 4, bytes((1, 4, 0, 0)), True),
            (50708, "s", 5, "Test", True),
            (50721, "2i", 9, tuple(n for one in TO_SRGB for n in (one, 10_000)), True),
            (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
            (50778, "H", 1, 21, True),
        ]
    with tifffile.TiffWriter(file) as writer:
        writer.write(
            preview, photometric="rgb", subifds=1, metadata=None, subfiletype=1 if marked else 0, extratags=tags
        )
        if sensor is not None:
            cfa = [
                (33421, "H", 2, (2, 2), True),
                (33422, "B", 4, bytes((0, 1, 1, 2)), True),
                (50714, "H", 1, 0, True),
                (50717, "H", 1, 65535, True),
            ]
            writer.write(sensor, photometric=32803, metadata=None, subfiletype=0, extratags=cfa)
        else:
            assert full is not None
            writer.write(full, photometric="rgb", metadata=None, subfiletype=0)
    return file.getvalue()


@pytest.mark.parametrize("dng", [True, False])
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_full_picture_of_a_subifd_is_read(dng: bool, marked: bool, orientation: int) -> None:
    full = np.asarray(scene(200, 120))
    data = raw(None, full, dng=dng, marked=marked, orientation=orientation)
    found = decode(data, name="x")
    upright = np.rot90(full, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    assert np.array_equal(np.asarray(found.image), upright)
    assert inspect(data, name="x")[:2] == (found.width, found.height)


def mosaic(colour: tuple[int, int, int], height: int = 240, width: int = 320) -> NDArray[np.uint16]:
    """What a sensor with the filters RG/GB sees of one colour, brighter to the right."""
    values = np.zeros((height, width), np.uint16)
    for (row, column), channel in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
        values[row::2, column::2] = colour[channel]
    return (values * np.linspace(0.2, 1, width)).astype(np.uint16)


@pytest.mark.parametrize("kind", ["DNG", "NEF", "ARW", "PEF"])
def test_sensor_data_are_refused_as_raw_without_rawpy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    make = {"NEF": "NIKON CORPORATION", "ARW": "SONY", "PEF": "PENTAX"}.get(kind, "Any")
    data = raw(mosaic((30000, 20000, 10000)), dng=kind == "DNG", make=make)
    for reader in (decode, inspect):
        with pytest.raises(PictureError, match=rf"x: is a raw photograph \({kind}\); install outcrop\[raw\]"):
            reader(data, name="x")


def test_what_libraw_cannot_read_is_refused_as_raw() -> None:
    pytest.importorskip("rawpy")
    data = bytearray(raw(mosaic((30000, 20000, 10000)), dng=False, make="SONY"))
    try:
        found = decode(bytes(data), name="x")
    except PictureError as error:
        assert "raw photograph (ARW) that LibRaw cannot read" in str(error)
    else:
        assert (found.width, found.height) == (320, 240)


def test_a_dng_of_previews_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    file = io.BytesIO()
    tags = [(50706, "B", 4, bytes((1, 4, 0, 0)), True)]
    tifffile.imwrite(file, np.asarray(scene(64, 48)), photometric="rgb", metadata=None, subfiletype=1, extratags=tags)
    with pytest.raises(PictureError, match=r"x: is a raw photograph \(DNG\)"):
        decode(file.getvalue(), name="x")


def test_a_raw_that_is_cut_off_is_damaged_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    data = raw(mosaic((40000, 20000, 5000)))
    for cut in (0.5, 0.9, 0.99):
        with pytest.raises(PictureError, match=r"x: damaged DNG \(it is cut off\)"):
            decode(data[: int(cut * len(data))], name="x")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sensor_data_are_developed(orientation: int) -> None:
    pytest.importorskip("rawpy")
    data = raw(mosaic((40000, 20000, 5000)), orientation=orientation)
    found = decode(data, name="x")
    sides = (320, 240) if orientation < 5 else (240, 320)
    assert (found.width, found.height) == found.image.size == inspect(data, name="x")[:2] == sides
    image = np.asarray(found.image).astype(float)
    red, green, blue = image.mean((0, 1))
    assert red > green > blue
    turned = np.rot90(image, {1: 0, 3: 2, 6: 1, 8: -1}[orientation])  # back to how it is stored
    assert turned[:, -60:].mean() > turned[:, :60].mean() + 20


def test_a_raw_is_developed_at_half_its_size_where_that_is_enough() -> None:
    pytest.importorskip("rawpy")
    found = decode(raw(mosaic((40000, 20000, 5000))), name="x", at_least=(32, 32))
    assert (found.width, found.height, found.image.size) == (320, 240, (160, 120))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
        (b"IIRO\x08\0\0\0", "Olympus ORF"),
        (b"IIU\0\x18\0\0\0", "Panasonic RW2"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "Canon CR3"),
    ],
)
@pytest.mark.parametrize("installed", [True, False])
def test_raw_formats_are_named(start: bytes, name: str, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "rawpy", None)
    elif name == "CR2":
        pytest.importorskip("rawpy")
    if name == "CR2":
        tiff = saved(scene(64, 48), "TIFF")
        place = int.from_bytes(tiff[4:8], "little")
        moved = start[:4] + (place + 8).to_bytes(4, "little") + start[8:]
        with pytest.raises(PictureError, match="x: "):
            decode(moved + tiff[8:], name="x")
        return
    with pytest.raises(PictureError, match=rf"x: is a raw photograph \({name}\)"):
        decode(start + bytes(500), name="x")


def test_a_page_marked_as_a_preview_is_not_the_picture() -> None:
    file = io.BytesIO()
    full = np.asarray(scene(200, 120))
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.asarray(scene(64, 48)), photometric="rgb", metadata=None, subfiletype=1)
        writer.write(full, photometric="rgb", metadata=None, subfiletype=0)
    assert np.array_equal(pixels(file.getvalue()), full)


def test_an_overview_pyramid_and_a_stack_give_their_first_picture() -> None:
    first = np.asarray(scene(200, 120))
    for kind in (1, 0):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(first, photometric="rgb", metadata=None, subfiletype=0)
            writer.write(np.asarray(scene(400, 240)), photometric="rgb", metadata=None, subfiletype=kind)
        assert np.array_equal(pixels(file.getvalue()), first)


def test_the_photograph_of_a_subifd_has_the_metadata_of_the_file() -> None:
    exif = Image.Exif()
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps.update({1: "N", 2: (37.0, 30.0, 36.5), 3: "E", 4: (127.0, 0.0, 0.0)})
    data = saved(scene(64, 48), "TIFF", exif=exif.tobytes())
    found = decode(data, name="x").metadata
    assert found != PhotoMetadata() and found.position_source == "exif"
    assert found == inspect(data, name="x")[2]


# Nothing on the screen


def test_what_libtiff_says_is_a_remark_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(saved(scene(300, 200), "TIFF", compression="tiff_lzw"))
    data[500:5000] = bytes(4500)
    with pytest.raises(PictureError, match="damaged TIFF"):
        decode(bytes(data), name="x")
    odd = written(bands(5), photometric="minisblack", compression="lzw")
    for place in range(8, 2000, 37):
        broken = bytearray(odd)
        broken[place] ^= 0x5A
        try:
            decode(bytes(broken), name="x")
        except PictureError:
            continue
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
