"""The one transparent colour that a PNG may name (tRNS) instead of an alpha band, where Pillow compares it wrongly.

Pillow compares the colour as it is written with pixels that it has brought to 8 bits: with 16 bits none is ever found, with 2
and 4 bits another one. PNG (third edition, 11.3.1.1): a pixel is transparent where all samples are the colour's, in full depth.
"""

from __future__ import annotations

import io
import struct
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GREY, _COLOUR = 0, 2
"""Colour types whose transparency is one colour."""


def colour_key(file: IO[bytes]) -> tuple[int, ...]:
    """The transparent colour of a PNG that Pillow would not find, a number for each sample in the file's depth; () for others."""
    file.seek(8)
    header = file.read(25)  # IHDR, its length before it and its checksum behind it
    if len(header) < 25:
        return ()
    depth, colour = header[16], header[17]
    if not ((colour == _GREY and depth in (2, 4, 16)) or (colour == _COLOUR and depth == 16)):
        return ()
    samples = 1 if colour == _GREY else 3
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"tRNS":
            body = file.read(2 * samples)
            # Only as many bits as a sample has count.
            found = struct.unpack(f">{samples}H", body) if length == len(body) == 2 * samples else ()
            return tuple(value & ((1 << depth) - 1) for value in found)
        file.seek(length + 4, io.SEEK_CUR)
    return ()


def is_transparent(image: Image.Image, data: bytes, key: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels [H, W] of a loaded PNG with these bytes have the colour `key`, compared in the file's own depth."""
    values = np.asarray(image)
    if len(key) == 1:
        depth = data[24]
        return np.asarray(values == key[0] * (1 if depth == 16 else 255 // (2**depth - 1)))
    with Image.open(io.BytesIO(data), formats=("PNG",)) as other:
        # Pillow keeps the upper bytes. Read as if the lower ones came first, the samples give these.
        other.tile = [tile._replace(args="RGB;16L") for tile in other.tile]
        lower = np.asarray(other)
    upper, under = (np.array(key) >> 8, np.array(key) & 255)
    return np.asarray(((values == upper) & (lower == under)).all(-1))
