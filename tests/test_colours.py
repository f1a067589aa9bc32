"""Colour profiles: pictures of other spaces are sRGB afterwards, as numpy computes it; sRGB ones stay as they are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from profiles import ADOBE, INKS, P3, PROPHOTO, SRGB, Space, cmyk_profile, grey_profile, in_srgb, printed, rgb_profile
from scenes import saved, scene

from outcrop.embed.images import decode
from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.reader_versions import version_of

SPACES = {"Adobe RGB": ADOBE, "Display P3": P3, "ProPhoto": PROPHOTO}
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JPEG": {"quality": 100, "subsampling": 0},
}


def muted() -> np.ndarray:
    """A picture whose colours lie inside of every space, so that nothing is clipped."""
    return (np.asarray(scene(96, 64)).astype(float) * 0.4 + 90).astype(np.uint8)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_profile_is_followed(space: str, kind: str) -> None:
    stored = muted()
    data = saved(Image.fromarray(stored), kind, icc_profile=rgb_profile(SPACES[space]), **LOSSLESS[kind])
    found = decode(data, name="x")
    expected = in_srgb(stored, SPACES[space])
    assert np.abs(expected - stored).max() > 8  # it does matter
    difference = np.abs(np.asarray(found.image) - expected)
    assert (difference.max() if kind not in ("JPEG", "AVIF") else difference.mean()) < 2
    assert found.remarks == ()
    assert found.metadata == PhotoMetadata()


@pytest.mark.parametrize("space", SPACES)
def test_one_scene_is_one_picture_whatever_its_space(space: str) -> None:
    """The scene is stored in the space by numpy, and read back: it is what the sRGB file of it shows."""
    wanted = muted()
    grid = np.arange(256)
    from_space = SPACES[space]
    matrix = np.linalg.inv(rgb_to_rgb(from_space))
    linear = np.where(grid / 255 <= 0.04045, grid / 255 / 12.92, ((grid / 255 + 0.055) / 1.055) ** 2.4)[wanted]
    stored = np.rint(255 * np.clip(linear @ matrix.T, 0, 1) ** (1 / from_space[2])).astype(np.uint8)
    data = saved(Image.fromarray(stored), "PNG", icc_profile=rgb_profile(from_space))
    plain = decode(saved(Image.fromarray(wanted), "PNG"), name="x")
    found = decode(data, name="x")
    assert np.abs(np.asarray(found.image).astype(int) - np.asarray(plain.image)).max() <= 2


def rgb_to_rgb(space: Space) -> np.ndarray:
    from profiles import to_d50

    return np.linalg.inv(to_d50(SRGB)) @ to_d50(space)


def option_file(index: object) -> Image.Exif:
    """EXIF as cameras write it that are set to a colour space (DCF 2.0)."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index}
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_adobe_rgb_that_only_exif_names(kind: str) -> None:
    options: dict[str, Any] = {"quality": 100, "subsampling": 0}
    plain = decode(saved(Image.fromarray(muted()), kind, **options), name="x")
    named = saved(Image.fromarray(muted()), kind, exif=option_file("R03"), **options)
    found = np.asarray(decode(named, name="x").image)
    assert np.abs(found - in_srgb(np.asarray(plain.image), ADOBE)).max() < 2
    assert version_of(io.BytesIO(named)) == "profile1"
    for index in ("R98", "R031", ""):
        other = saved(Image.fromarray(muted()), kind, exif=option_file(index), **options)
        assert np.array_equal(np.asarray(decode(other, name="x").image), np.asarray(plain.image))
        assert version_of(io.BytesIO(other)) == ""
    embedded = saved(Image.fromarray(muted()), kind, exif=option_file("R03"), icc_profile=rgb_profile(SRGB), **options)
    assert np.array_equal(np.asarray(decode(embedded, name="x").image), np.asarray(plain.image))


def test_a_scaled_decode_follows_the_profile_too() -> None:
    data = saved(scene(1600, 1200), "JPEG", quality=95, icc_profile=rgb_profile(ADOBE))
    full, scaled = decode(data, name="x"), decode(data, name="x", at_least=(100, 100))
    assert scaled.image.width < full.image.width
    small = np.asarray(full.image.resize(scaled.image.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(scaled.image) - small).mean() < 2


@pytest.mark.parametrize(
    "profile",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), rgb_profile(SRGB, "not its name")],
    ids=["Little CMS", "by hand"],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_in_srgb_stays_bit_for_bit(profile: bytes, kind: str) -> None:
    with_profile = decode(saved(scene(96, 64), kind, icc_profile=profile), name="x")
    without = decode(saved(scene(96, 64), kind), name="x")
    assert np.array_equal(np.asarray(with_profile.image), np.asarray(without.image))


@pytest.mark.parametrize("deep", [False, True])
def test_a_grey_profile_is_followed(deep: bool) -> None:
    grey = np.linspace(0, 255, 96 * 64).reshape(64, 96).astype(np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if deep else Image.fromarray(grey)
    found = np.asarray(decode(saved(image, "PNG", icc_profile=grey_profile(1.0)), name="x").image)
    linear = grey / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(found - expected[..., None]).max() <= 2
    assert np.array_equal(found[..., 0], found[..., 2])
    same = np.asarray(decode(saved(image, "PNG", icc_profile=grey_profile(0.0)), name="x").image)
    assert np.array_equal(same[..., 0], grey)


def test_a_grey_picture_with_an_rgb_profile() -> None:
    grey = scene(96, 64).convert("L")
    found = np.asarray(decode(saved(grey, "JPEG", quality=100, icc_profile=rgb_profile(P3)), name="x").image).astype(
        int
    )
    expected = in_srgb(np.asarray(grey.convert("RGB")), P3)
    assert np.abs(found - expected).mean() < 1.5


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_a_cmyk_profile_is_followed(kind: str) -> None:
    for inks in ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]):
        image = Image.new("CMYK", (16, 16), tuple(255 * ink for ink in inks))
        found = decode(saved(image, kind, icc_profile=cmyk_profile()), name="x")
        colour = np.asarray(found.image)[8, 8].astype(int)
        assert np.abs(colour - printed(inks)).max() <= 12, inks  # 8-bit Lab, and black point compensation
        naive = np.asarray(image.convert("RGB"))[8, 8].astype(int)
        if sum(inks) == 1 and inks[2] == 0:
            assert np.abs(colour - INKS[inks.index(1)]).max() < np.abs(colour - naive).max()


@pytest.mark.parametrize(
    "profile", [b"not a profile at all", rgb_profile(ADOBE)[:200], rgb_profile(ADOBE)[:128] + bytes(400), b"\0" * 3000]
)
def test_a_damaged_profile_is_a_remark(profile: bytes) -> None:
    found = decode(saved(scene(96, 64), "PNG", icc_profile=profile), name="x")
    assert np.array_equal(np.asarray(found.image), np.asarray(scene(96, 64)))
    (said,) = found.remarks
    assert said.startswith("its colour profile is") and said.endswith("read as sRGB")


def test_a_profile_of_another_kind_of_picture_is_a_remark() -> None:
    found = decode(saved(scene(96, 64), "PNG", icc_profile=cmyk_profile()), name="x")
    assert np.array_equal(np.asarray(found.image), np.asarray(scene(96, 64)))
    assert "is one of CMYK" in found.remarks[0]


def test_transparency_and_palettes_with_a_profile() -> None:
    clear = Image.new("RGBA", (16, 16), (200, 100, 100, 0))
    clear.paste((200, 100, 100, 255), (8, 0, 16, 16))
    found = np.asarray(decode(saved(clear, "PNG", icc_profile=rgb_profile(ADOBE)), name="x").image).astype(int)
    assert found[4, 2].tolist() == [255, 255, 255]
    assert np.abs(found[4, 12] - in_srgb(np.array([200, 100, 100], np.uint8), ADOBE)).max() <= 2
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 200, 100, 100])
    found = np.asarray(decode(saved(palette, "PNG", icc_profile=rgb_profile(ADOBE)), name="x").image).astype(int)
    assert np.abs(found[4, 4] - in_srgb(np.array([200, 100, 100], np.uint8), ADOBE)).max() <= 2
