"""Rotations and crops: what is asked for, where it lies on the picture, and the pixels that come out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture
from PIL import Image

from outcrop.embed.crops import CropSampler, require_pixels
from outcrop.embed.images import fit_to
from outcrop.schema.crops import (
    WHOLE,
    Crop,
    CropSpec,
    apart,
    crop_numbered,
    crop_specs,
    largest,
    normal,
    parse_angles,
    parse_crops,
)
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.item import item_of_key, reference_key

ANGLES = st.integers(0, 359_999).map(lambda thousandths: thousandths / 1000)
CROPS = st.one_of(
    st.integers(1, 100).map(lambda percent: f"{percent / 100:g}"),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 99)).map(
        lambda grid: f"{grid[0]}x{grid[1]}:{grid[2] / 100:g}"
    ),
)
SIDES = st.integers(8, 6000)


def test_angles() -> None:
    assert parse_angles("0:360:30") == tuple(range(0, 360, 30))
    assert parse_angles("200, 77,0:90:45,0") == (0, 45, 77, 200)
    assert parse_angles("0:1:0.1") == tuple(n / 10 for n in range(10))
    assert parse_angles("350:360:7.5") == (350, 357.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("360", "give 0"),
        ("-30", "give 330"),
        ("0:400:30", "at most at 360"),
        ("90:45:5", "after the start"),
        ("0:360:0", "more than 0"),
        ("0:360:0.01", "at most 4096"),
        ("0:360", "START:STOP:STEP"),
        ("1.00001", "3 decimals"),
        ("north", "is not a valid angle"),
        ("nan", "is not a valid angle"),
        ("inf", "is not a valid angle"),
        ("", "is not a valid angle"),
    ],
)
def test_wrong_angles(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_angles(text)


def test_crops() -> None:
    assert parse_crops("1,0.6") == (WHOLE, Crop(60, 0.6))
    assert parse_crops("2x2") == parse_crops("grid2x2:0.5")
    assert [crop.number for crop in parse_crops("2x2:0.5")] == [225001, 225002, 225003, 225004]
    assert [crop.centre for crop in parse_crops("2x2:0.5")] == [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]
    assert [crop.centre for crop in parse_crops("3x1:0.4")] == [(0.2, 0.5), (0.5, 0.5), (pytest.approx(0.8), 0.5)]
    assert parse_crops("1x1:0.3") == parse_crops("0.3")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.2", "larger than the picture"),
        ("0", "is empty"),
        ("-0.5", "is empty"),
        ("0.605", "two decimals"),
        ("2x2:1", "whole picture"),
        ("2x2:1.5", "larger than the picture"),
        ("10x2", "is not a valid crop"),
        ("2x2:", "is not a valid crop"),
        ("half", "is not a valid crop"),
        ("", "is not a valid crop"),
    ],
)
def test_wrong_crops(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_crops(text)


def test_too_many_references_are_refused() -> None:
    with pytest.raises(InputError, match="at most 4096"):
        crop_specs(parse_angles("0:360:0.25"), parse_crops("9x9:0.2"))


@given(CROPS)
def test_a_number_is_one_crop(text: str) -> None:
    for crop in parse_crops(text):
        assert crop_numbered(crop.number) == crop


@pytest.mark.parametrize("number", [-1, 100, 12_345, 110_001, 205_001, 225_000, 225_005, 1_025_001])
def test_numbers_of_no_crop(number: int) -> None:
    assert crop_numbered(number) is None


@given(ANGLES, st.integers(0, 10**6))
def test_keys_of_references_read_back(rotation: float, crop: int) -> None:
    item = item_of_key(reference_key("a b/c", "x_300", 7, rotation, crop))
    assert (item.dataset, item.capture_id, item.frame, item.rotation, item.crop) == (
        "a b/c",
        "x_300",
        7,
        rotation,
        crop,
    )


@given(SIDES, SIDES, ANGLES, CROPS)
def test_no_corner_is_empty(width: int, height: int, rotation: float, text: str) -> None:
    for crop in parse_crops(text):
        window = CropSpec(rotation, crop).window(width, height)
        across, down = window.width * width, window.height * height
        assert across == pytest.approx(round(across)) and down == pytest.approx(round(down))
        assert window.width <= crop.fraction + 1e-9 or round(across) == 1
        turn = math.radians(rotation)
        for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
            dx, dy = x * across / 2, y * down / 2
            corner_x = window.x * width + dx * math.cos(turn) - dy * math.sin(turn)
            corner_y = window.y * height + dx * math.sin(turn) + dy * math.cos(turn)
            slack = 1 if min(across, down) < 2 else 1e-6  # a side is never less than a pixel
            assert -slack <= corner_x <= width + slack and -slack <= corner_y <= height + slack


def test_the_largest_crop_of_known_pictures() -> None:
    assert largest(400, 300, 0) == pytest.approx(largest(400, 300, 180)) == 1
    assert largest(400, 300, 90) == pytest.approx(0.75)
    assert largest(400, 300, math.degrees(math.atan2(4, 3))) == pytest.approx(0.6)  # the worst angle of 4:3
    assert largest(100, 100, 45) == pytest.approx(math.sqrt(0.5))


def test_angles_normalised_and_apart() -> None:
    assert [normal(a) for a in (0, 360, -30, 725, -1e-18)] == [0, 0, 330, 5, 0]
    assert (apart(350, 10), apart(10, 350), apart(0, 180), apart(77, 77)) == (20, 20, 180, 0)


# -- pixels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_right_angles_turn_counter_clockwise_as_pillow_does(rotation: int) -> None:
    image = picture(3, 256, 256)
    expected = np.asarray(image.rotate(rotation)).astype(int)
    turned = CropSampler(image, (256, 256), "squash").pixels([CropSpec(rotation, WHOLE).window(256, 256)])[0]
    assert np.abs(turned.astype(int) - expected).mean() < 1.0
    assert np.abs(turned.astype(int) - np.asarray(image.rotate(rotation + 90)).astype(int)).mean() > 20


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize(("rotation", "crop"), [(0, "1"), (30, "0.6"), (77, "1"), (200, "2x2:0.4")])
@pytest.mark.parametrize("sides", [(800, 600), (2000, 1200), (300, 420)])
def test_pixels_are_those_of_the_turned_picture_cut_and_fitted(
    fit: str, rotation: float, crop: str, sides: tuple[int, int]
) -> None:
    width, height = sides
    image = picture(5, width, height)
    window = CropSpec(rotation, parse_crops(crop)[-1]).window(width, height)
    x, y, across, down = window.x * width, window.y * height, window.width * width, window.height * height
    turned = image.rotate(rotation, Image.Resampling.BICUBIC, center=(x, y))
    left, top = round(x - across / 2), round(y - down / 2)
    expected = fit_to(turned.crop((left, top, left + round(across), top + round(down))), (96, 128), fit)
    found = CropSampler(image, (96, 128), fit).pixels([window])[0]
    assert found.shape == (96, 128, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.astype(int)).mean() < 3.0


def test_many_windows_are_the_same_as_one_at_a_time() -> None:
    image = picture(7, 1600, 1200)
    windows = [spec.window(1600, 1200) for spec in crop_specs(parse_angles("0:360:45"), parse_crops("1,0.6,0.2"))]
    together = CropSampler(image, (64, 64), "squash").pixels(windows)
    alone = np.concatenate([CropSampler(image, (64, 64), "squash").pixels([window]) for window in windows])
    assert np.array_equal(together, alone)
    assert CropSampler(image, (64, 64), "squash").pixels([]).shape == (0, 64, 64, 3)


def test_a_crop_of_too_few_pixels_is_refused() -> None:
    window = CropSpec(30, Crop(50, 0.5)).window(12, 40)
    with pytest.raises(PictureError, match=r"tiny\.png: is 12x40 pixels.* 4x15"):
        require_pixels(window, 12, 40, "tiny.png")
    require_pixels(CropSpec(30, Crop(50, 0.5)).window(40, 40), 40, 40, "ok.png")
