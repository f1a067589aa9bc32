"""Pictures that tests of several rooms make, and the files that failed once."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

CASES = Path(__file__).parents[2] / "shared/cases"


def case(name: str) -> bytes:
    """The bytes of a file that was read wrongly once; skips the test where the folder of these files is not there."""
    file = CASES / name
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    return file.read_bytes()


def scene(width: int = 640, height: int = 400) -> Image.Image:
    """A picture with no symmetry: smooth colour, edges, and texture."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / width, 255 * y / height
    blue = 127 + 90 * np.sin(x / 9) * np.cos(y / 13)
    image = Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.1, height * 0.1, width * 0.3, height * 0.5), fill=(250, 250, 240))
    draw.rectangle((width * 0.6, height * 0.7, width * 0.9, height * 0.8), fill=(10, 30, 10))
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file of that format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
