"""Decoding, fitting and thumbnails: every mode and orientation, hostile and broken files."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from growth import growth
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from scenes import case, saved, scene

from outcrop.embed.images import BACKGROUND, Decoded, decode, fit_to, inspect, thumbnail
from outcrop.schema.errors import InputError, PictureError

SAMPLE = Path(__file__).parents[2] / "shared/sample"

# How a camera held that way stores an upright picture: the inverse of what a viewer must do.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def pixels(decoded: Decoded) -> np.ndarray:
    return np.asarray(decoded.image).astype(int)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_gives_the_same_upright_picture(orientation: int, kind: str) -> None:
    upright = scene(320, 200)
    stored = upright if STORED[orientation] is None else upright.transpose(STORED[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    found = decode(saved(stored, kind, exif=exif, **options), name="x")
    assert (found.width, found.height) == (320, 200)
    assert found.image.size == (320, 200)
    assert found.image.mode == "RGB"
    assert difference(pixels(found), np.asarray(upright)) < (2 if kind == "JPEG" else 0.01)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_scaled_decode_measures_the_upright_sides(orientation: int) -> None:
    upright = scene(1600, 800)
    stored = upright if STORED[orientation] is None else upright.transpose(STORED[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    found = decode(saved(stored, "JPEG", exif=exif, quality=95), name="x", at_least=(100, 200))
    assert (found.width, found.height) == (1600, 800)
    assert found.image.size == (400, 200)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_out_of_range_means_upright(value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    data = saved(scene(64, 40), "PNG", exif=exif)
    assert difference(pixels(decode(data, name="x")), np.asarray(scene(64, 40))) == 0


# Scaled decode


@pytest.mark.parametrize("at_least", [(50, 80), (120, 100), (224, 224), (300, 20), (2000, 2000)])
def test_a_scaled_decode_keeps_twice_the_target_or_everything(at_least: tuple[int, int]) -> None:
    data = saved(scene(1600, 1200), "JPEG", quality=92)
    image = decode(data, name="x", at_least=at_least).image
    enough = image.height >= 2 * at_least[0] and image.width >= 2 * at_least[1]
    assert enough or image.size == (1600, 1200)
    half_would_do = image.height // 2 >= 2 * at_least[0] and image.width // 2 >= 2 * at_least[1]
    assert not half_would_do or image.size == (200, 150)  # an eighth is the least there is


def test_scaled_and_full_decode_agree_after_fitting() -> None:
    data = saved(scene(2400, 1800), "JPEG", quality=92)
    full = fit_to(decode(data, name="x").image, (224, 224), "squash")
    scaled = decode(data, name="x", at_least=(224, 224))
    assert scaled.image.width < 2400
    assert difference(fit_to(scaled.image, (224, 224), "squash"), full) < 1.0


def test_a_target_does_not_scale_formats_that_cannot() -> None:
    found = decode(saved(scene(), "PNG"), name="x", at_least=(10, 10))
    assert found.image.size == (640, 400)


# Modes


def test_grey_bilevel_and_palette() -> None:
    grey = scene(64, 40).convert("L")
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "GIF", "PPM"):
        found = decode(saved(grey, kind), name="x")
        assert difference(pixels(found), np.asarray(grey.convert("RGB"))) < 3
    bilevel = grey.convert("1")
    assert difference(pixels(decode(saved(bilevel, "PNG"), name="x")), np.asarray(bilevel.convert("RGB"))) == 0
    palette = scene(64, 40).convert("P")
    assert difference(pixels(decode(saved(palette, "PNG"), name="x")), np.asarray(palette.convert("RGB"))) == 0


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_has_the_brightness_of_8_bit(kind: str) -> None:
    eight = np.asarray(scene(64, 40).convert("L"))
    sixteen = Image.fromarray(eight.astype(np.uint16) * 257)
    found = pixels(decode(saved(sixteen, kind), name="x"))
    assert np.array_equal(found[..., 0], eight)
    assert np.array_equal(found[..., 0], found[..., 2])


def test_big_endian_16_bit_tiff() -> None:
    values = np.linspace(0, 65535, 64 * 40).reshape(40, 64).astype(np.uint16)
    image = Image.frombytes("I;16B", (64, 40), values.astype(">u2").tobytes())
    found = pixels(decode(saved(image, "TIFF"), name="x"))[..., 0]
    assert np.abs(found - values / 257).max() <= 0.51


def test_32_bit_and_float_are_scaled_by_their_own_range() -> None:
    ramp = np.linspace(-3.0, 5.0, 64 * 40, dtype=np.float32).reshape(40, 64)
    found = pixels(decode(saved(Image.fromarray(ramp), "TIFF"), name="x"))[..., 0]
    assert (found.min(), found.max()) == (0, 255)
    assert np.abs(found - (ramp + 3) / 8 * 255).max() <= 0.51
    integers = Image.fromarray((ramp * 1000).astype(np.int32))
    assert np.abs(pixels(decode(saved(integers, "TIFF"), name="x"))[..., 0] - found).max() <= 1
    holes = ramp.copy()
    holes[0, :8] = np.nan
    assert pixels(decode(saved(Image.fromarray(holes), "TIFF"), name="x"))[0, 0].tolist() == [0, 0, 0]
    assert pixels(decode(saved(Image.fromarray(np.full_like(ramp, 7)), "TIFF"), name="x")).max() == 0


def test_cmyk_jpeg_is_read_the_adobe_way() -> None:
    colours = scene(64, 40)
    found = decode(saved(colours.convert("CMYK"), "JPEG", quality=98, subsampling=0), name="x")
    assert difference(pixels(found), np.asarray(colours)) < 4
    found = decode(saved(colours.convert("CMYK"), "TIFF"), name="x")
    assert difference(pixels(found), np.asarray(colours)) < 4


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    clear.paste((200, 0, 0, 128), (8, 0, 16, 16))
    for kind in ("PNG", "TIFF", "WEBP"):
        found = pixels(decode(saved(clear, kind), name="x"))
        assert found[4, 2].tolist() == [255, 255, 255]
        assert np.abs(found[4, 14] - [227, 127, 127]).max() <= 6
    grey = clear.convert("LA")
    assert pixels(decode(saved(grey, "PNG"), name="x"))[4, 2].tolist() == [255, 255, 255]


def test_transparent_palette_and_colour_keys_are_laid_on_white() -> None:
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.paste(0, (0, 0, 8, 16))
    for kind in ("PNG", "GIF"):
        found = pixels(decode(saved(palette, kind, transparency=0), name="x"))
        assert found[4, 2].tolist() == [255, 255, 255]
        assert found[4, 12].tolist() == [10, 200, 30]
    keyed = Image.new("RGB", (16, 16), (1, 2, 3))
    found = pixels(decode(saved(keyed, "PNG", transparency=(1, 2, 3)), name="x"))
    assert found[4, 4].tolist() == [255, 255, 255]


def test_the_first_frame_of_an_animation_or_stack() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    for kind, options in (("GIF", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("MPO", {})):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert np.abs(pixels(decode(data, name="x"))[8, 8] - [250, 0, 0]).max() <= 4, kind


def test_lab_is_refused_with_its_name() -> None:
    lab = Image.frombytes("LAB", (16, 16), bytes(16 * 16 * 3))
    with pytest.raises(PictureError, match=r"x\.tif: .*LAB.*sRGB"):
        decode(saved(lab, "TIFF"), name="x.tif")


# Refusals


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"\n  <html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        (bytes(1000), "zero bytes"),
        (b"hello, this is text", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not a picture"),
        (b"%PDF-1.7\n", "not a picture"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, cause: str) -> None:
    with pytest.raises(PictureError) as caught:
        decode(data, name="dir/photo.jpg")
    message = str(caught.value)
    assert message.startswith("dir/photo.jpg: ")
    assert cause in message
    assert "\n" not in message
    assert ";" in message


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_tiny_pictures_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match=f"is {size[0]}x{size[1]} pixels; a picture needs at least 8x8"):
        decode(saved(Image.new("RGB", size), "PNG"), name="x")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes of data do not hold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(100_000, 100_000), (20_000, 9_000), (10_000, 9_000)])
def test_bombs_are_refused_before_pixels_are_allocated(size: tuple[int, int]) -> None:
    data = png_claiming(*size)
    named = (
        rf"({size[0]}x{size[1]}|{size[0] * size[1]:,}) pixels, over the limit"  # Pillow's own limit gives the product
    )
    with growth() as grown, pytest.raises(PictureError, match=named):
        decode(data, name="x")
    assert grown.kib < 130_000  # the smallest would have taken 260,000; other threads may import something meanwhile


def test_a_big_jpeg_is_decoded_only_where_scaling_brings_it_under_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved(scene(1600, 1200), "JPEG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # 1.92 million pixels: between once and twice
    with pytest.raises(PictureError, match="over the limit of 1,000,000"):
        decode(data, name="x")
    with pytest.raises(PictureError, match="over the limit"):
        decode(data, name="x", at_least=(600, 800))
    found = decode(data, name="x", at_least=(224, 224))
    assert (found.width, found.height, found.image.size) == (1600, 1200, (800, 600))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900_000)
    with pytest.raises(PictureError, match="over the limit of 1,800,000"):
        decode(data, name="x", at_least=(224, 224))


WHOLE = {
    "JPEG": saved(scene(160, 100), "JPEG"),
    "progressive": saved(scene(160, 100), "JPEG", progressive=True),
    "PNG": saved(scene(160, 100), "PNG"),
    "TIFF": saved(scene(160, 100), "TIFF"),
    "deflate": saved(scene(160, 100), "TIFF", compression="tiff_adobe_deflate"),
    "WEBP": saved(scene(160, 100), "WEBP"),
    "GIF": saved(scene(160, 100), "GIF"),
    "BMP": saved(scene(160, 100), "BMP"),
    "PPM": saved(scene(160, 100), "PPM"),
    "JPEG2000": saved(scene(160, 100), "JPEG2000"),
    "AVIF": saved(scene(160, 100), "AVIF"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_truncated_file_is_a_picture_error_at_every_cut(kind: str) -> None:
    whole = WHOLE[kind]
    assert decode(whole, name="x").image.size == (160, 100)
    for cut in sorted({*range(64), *np.linspace(64, len(whole) * 0.9, 60).astype(int).tolist()}):
        with pytest.raises(PictureError, match=r"^x: .+; .+$"):
            decode(whole[:cut], name="x")


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    cut=st.floats(0, 1.5),
)
def test_damage_ends_in_a_picture_or_a_picture_error(kind: str, flips: list[tuple[float, int]], cut: float) -> None:
    data = bytearray(WHOLE[kind])
    for place, value in flips:
        data[int(place**3 * (len(data) - 1))] = value  # most of them in the headers
    try:
        found = decode(bytes(data[: int(cut * len(data)) if cut < 1 else None]), name="x", at_least=(20, 20))
    except PictureError as error:
        assert str(error).startswith("x: ") and "\n" not in str(error)
    else:
        assert found.image.mode == "RGB"
        assert min(found.width, found.height) >= 8


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from([data[:size] for data in WHOLE.values() for size in (0, 4, 12, 30)]),
    rest=st.binary(max_size=400),
)
def test_random_bytes_are_a_picture_error(head: bytes, rest: bytes) -> None:
    try:
        decode(head + rest, name="x")
    except PictureError as error:
        assert str(error).startswith("x: ")


# Damaged pixels


def test_the_damaged_png_is_refused() -> None:
    with pytest.raises(PictureError, match=r"damaged PNG .*checksum of IDAT"):
        decode(case("damaged_png/corrupt.png"), name="x")


def chunks(png: bytes) -> list[tuple[int, bytes, int]]:
    """Place, type and length of each chunk of a PNG."""
    found, place = [], 8
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        found.append((place, kind, length))
        place += 12 + length
    return found


@pytest.mark.parametrize(
    ("part", "mend"), [(0.02, False), (0.5, False), (0.97, False), (0.0, True)], ids=["begin", "middle", "end", "zlib"]
)
@pytest.mark.parametrize("reader", [decode, inspect])
def test_a_png_with_damaged_pixels_is_refused(part: float, mend: bool, reader: Callable[..., object]) -> None:
    """Asking for EXIF loads the pixels, and must not swallow what is wrong with them; `mend` rights the chunk's checksum."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    png = bytearray(saved(Image.fromarray(noise), "PNG", exif=exif))
    place, _, length = next(one for one in chunks(bytes(png)) if one[1] == b"IDAT")
    png[place + 8 + int(part * length)] ^= 0xFF
    if mend:
        png[place + 8 + length : place + 12 + length] = struct.pack(
            ">I", zlib.crc32(png[place + 4 : place + 8 + length])
        )
    with pytest.raises(PictureError, match=r"^x: damaged PNG"):
        reader(bytes(png), name="x")


@pytest.mark.parametrize("kind", ["TIFF", "deflate", "WEBP", "GIF", "AVIF", "JPEG2000", "PNG", "JPEG", "BMP", "PPM"])
def test_half_of_the_pixels_missing_is_refused_by_decode(kind: str) -> None:
    whole = WHOLE[kind]
    with pytest.raises(PictureError):
        decode(whole[: len(whole) // 2], name="x")


def test_png_metadata_behind_the_pixels_is_read() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    png = saved(scene(64, 40), "PNG", exif=exif)
    place, _, length = next(one for one in chunks(png) if one[1] == b"eXIf")
    chunk = png[place : place + 12 + length]
    without = png[:place] + png[place + 12 + length :]
    moved = without[:-12] + chunk + without[-12:]
    assert [kind for _, kind, _ in chunks(moved)][-2:] == [b"eXIf", b"IEND"]
    found = decode(moved, name="x")
    assert (found.width, found.height) == inspect(moved, name="x")[:2] == (40, 64)
    assert found.image.size == (40, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_inspect_and_decode_agree_on_the_sides(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(scene(64, 40), kind, exif=exif)
    found = decode(data, name="x")
    expected = (64, 40) if orientation < 5 else (40, 64)
    assert inspect(data, name="x")[:2] == (found.width, found.height) == found.image.size == expected


def test_a_header_that_claims_too_much_is_damage() -> None:
    bmp = bytearray(saved(scene(64, 40), "BMP"))
    bmp[18:22] = struct.pack("<i", -127)  # 4294967169 columns
    with pytest.raises(PictureError, match=r"damaged BMP .*claims") as caught:
        decode(bytes(bmp), name="x")
    assert "scale" not in str(caught.value)


def test_a_gif_over_the_limit_is_too_big_and_not_damaged() -> None:
    gif = bytearray(saved(Image.new("L", (16, 16)), "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(PictureError, match="3,600,000,000 pixels, over the limit of 178,956,970; scale it down"):
        decode(bytes(gif), name="x")


def test_threads_decode_alike() -> None:
    data = saved(scene(800, 600), "JPEG")
    expected = pixels(decode(data, name="x", at_least=(100, 100)))
    found: list[np.ndarray] = []

    def work() -> None:
        for _ in range(5):
            found.append(pixels(decode(data, name="x", at_least=(100, 100))))
            with pytest.raises(PictureError):
                decode(png_claiming(100_000, 100_000), name="x")

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    assert all(np.array_equal(one, expected) for one in found)


# Fit


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(224, 224), (96, 160), (50, 33)])
def test_fit_gives_contiguous_pixels_of_the_size(fit: str, size: tuple[int, int]) -> None:
    for source in (scene(640, 400), scene(40, 300), scene(1500, 1500)):
        found = fit_to(source, size, fit)
        assert found.shape == (*size, 3)
        assert found.dtype == np.uint8
        assert found.flags["C_CONTIGUOUS"] and found.flags["WRITEABLE"]


def ramp(width: int, height: int) -> Image.Image:
    """Red grows with x and green with y, from 0 to 250: a pixel's colour says where in the picture it was."""
    y, x = np.mgrid[0:height, 0:width]
    values = np.stack([250 * (x + 0.5) / width, 250 * (y + 0.5) / height, 0 * x], -1)
    return Image.fromarray(np.rint(values).astype(np.uint8))


def test_squash_keeps_all_content() -> None:
    found = fit_to(ramp(800, 400), (100, 100), "squash").astype(int)
    expected = np.asarray(ramp(100, 100)).astype(int)
    assert np.abs(found - expected).max() <= 3


def test_crop_takes_the_middle() -> None:
    wide = fit_to(ramp(800, 400), (100, 100), "crop").astype(int)
    assert np.abs(wide[50, :, 0] - np.linspace(62.5, 187.5, 100)).max() <= 3  # the middle half in x
    assert np.abs(wide[:, 50, 1] - np.linspace(1, 249, 100)).max() <= 3  # all of y
    tall = fit_to(ramp(400, 800), (100, 200), "crop").astype(int)
    assert np.abs(tall[:, 50, 1] - np.linspace(94, 156, 100)).max() <= 3  # the middle quarter in y
    assert np.abs(tall[50, :, 0] - np.linspace(1, 249, 200)).max() <= 3


def test_pad_keeps_proportions_and_centres_on_white() -> None:
    found = fit_to(ramp(800, 400), (100, 100), "pad").astype(int)
    assert (found[:25] == BACKGROUND).all() and (found[75:] == BACKGROUND).all()
    assert np.abs(found[25:75] - np.asarray(ramp(100, 50)).astype(int)).max() <= 3
    tall = fit_to(ramp(10, 1000), (64, 64), "pad")
    assert (tall[:, :31] == 255).all() and (tall[:, 33:] == 255).all()
    assert not (tall[:, 31:33] == 255).all()


def test_shrinking_is_antialiased() -> None:
    y, x = np.mgrid[0:1024, 0:1024]
    board = Image.fromarray((((x + y) % 2) * 255).astype(np.uint8)).convert("RGB")
    for fit in ("squash", "crop", "pad"):
        found = fit_to(board, (64, 64), fit).astype(int)
        assert np.abs(found - 127).max() <= 4  # a filter that skips pixels shows stripes of 0 and 255


def test_fit_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InputError, match="squash, crop or pad"):
        fit_to(scene(), (10, 10), "stretch")
    with pytest.raises(InputError, match="at least 1 pixel"):
        fit_to(scene(), (0, 10), "squash")


# Thumbnails


def test_thumbnail_is_a_small_jpeg() -> None:
    for size, expected in (
        ((640, 400), (320, 200)),
        ((300, 1200), (80, 320)),
        ((50, 20), (50, 20)),
        ((9000, 8), (320, 1)),
    ):
        data = thumbnail(scene(*size))
        image = Image.open(io.BytesIO(data))
        assert image.format == "JPEG"
        assert image.size == expected
        assert len(data) < 25_000
    assert Image.open(io.BytesIO(thumbnail(scene(), edge=64))).size == (64, 40)


def test_thumbnails_of_real_photos_are_about_15_kb() -> None:
    photos = sorted((SAMPLE / "aerial").glob("*/*.[jJ]*"))
    if not photos:
        pytest.skip(f"the sample photos are not at {SAMPLE}")
    sizes = [len(thumbnail(decode(photo.read_bytes(), name=photo.name).image)) for photo in photos[::6]]
    assert 10_000 < np.mean(sizes) < 20_000  # docs/answers.md says 15


def test_pictures_are_read_without_torch() -> None:
    code = (
        "import sys; from outcrop.embed import encoder, images, models, photo, presets, weights; "
        "models.find_model('efficientnet_lite0'); "
        "sys.exit(bool({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
