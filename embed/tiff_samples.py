"""The samples of TIFFs for which Pillow has no mode: five bands, floats in colour, doubles, 32-bit integers in colour.

libtiff takes off the compression, as for every TIFF: each group of strips or tiles is given to Pillow as a grey 8-bit picture as
wide as a row of the file has bytes. What the bytes mean (types, byte order, predictors, planes) is then numpy's.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from outcrop.embed.tiff import Directory

COMPRESSIONS = {
    1: "none",
    5: "LZW",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    34925: "LZMA",
    50000: "Zstandard",
}
"""Compressions of bytes, which know nothing of the picture in them."""
OTHER_COMPRESSIONS = {
    2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "old JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG",
    34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34713: "Nikon's own", 34887: "LERC", 34892: "lossy JPEG",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
GROUP = 1 << 24
"""Bytes of samples that are decompressed at once, about."""
MAX_SAMPLES_BYTES = 1 << 33
"""Bytes that the samples of all bands of a picture may have together."""


class Unsupported(Exception):
    """A TIFF that is whole, but of a kind that is not read; the text says which."""


@dataclass(frozen=True)
class Samples:
    """How the samples of one directory are laid out. `width`, `height` and those of a `tile` (a strip is as wide as the picture)
    are pixels; `planes` is whether each band has tiles of its own."""

    width: int
    height: int
    bands: int
    type: np.dtype[Any]
    tile: tuple[int, int]
    tiled: bool
    planes: bool
    compression: int
    predictor: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, directory: Directory, little: bool) -> Samples:
        """From the tags of a directory.

        Raises:
            Unsupported: of a kind that is not read. ValueError: the tags contradict each other.
        """
        width, height = directory.size
        tiled = TiffImagePlugin.TILEOFFSETS in directory.tags
        if tiled:
            tile = directory.number(TiffImagePlugin.TILEWIDTH), directory.number(TiffImagePlugin.TILELENGTH)
        else:
            tile = width, min(directory.number(TiffImagePlugin.ROWSPERSTRIP, height), height)
        made = cls(
            width,
            height,
            directory.samples,
            _type(directory, little),
            tile,
            tiled,
            directory.number(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2,
            _compression(directory),
            directory.number(TiffImagePlugin.PREDICTOR, 1),
            directory.numbers(TiffImagePlugin.TILEOFFSETS if tiled else TiffImagePlugin.STRIPOFFSETS),
            directory.numbers(TiffImagePlugin.TILEBYTECOUNTS if tiled else TiffImagePlugin.STRIPBYTECOUNTS),
        )
        made._check()
        return made

    @property
    def across(self) -> int:
        """Tiles side by side."""
        return -(-self.width // self.tile[0])

    @property
    def down(self) -> int:
        """Tiles one below the other."""
        return -(-self.height // self.tile[1])

    def _check(self) -> None:
        if min(self.width, self.height, self.bands, *self.tile) < 1 or (self.tiled and self.tile[0] % 16):
            raise ValueError("its sides or those of its tiles are wrong")
        if self.width * self.height * self.bands * self.type.itemsize > MAX_SAMPLES_BYTES:
            raise Unsupported("has too many bands for its size; export three of them")
        wanted = self.across * self.down * (self.bands if self.planes else 1)
        if len(self.offsets) < wanted or len(self.lengths) < wanted:
            raise ValueError("it has fewer strips or tiles than its size needs")
        if self.predictor not in (1, 2, 3) or (self.predictor == 3 and self.type.kind != "f"):
            raise Unsupported(f"has a predictor ({self.predictor}) that is not read; export it without")


def read_samples(data: bytes, layout: Samples, bands: Sequence[int]) -> NDArray[Any]:
    """Some bands of a picture as [H, W, len(bands)], of the file's type in native byte order.

    Raises:
        ValueError, OSError: the data are damaged.
    """
    native = layout.type.newbyteorder("=")
    found = np.empty((layout.height, layout.width, len(bands)), native)
    planes = [(band, [place]) for place, band in enumerate(bands)] if layout.planes else [(0, list(range(len(bands))))]
    for plane, places in planes:
        row = 0
        for block in _blocks(data, layout, plane):
            rows = min(len(block), layout.height - row)
            part = block[:rows, : layout.width]
            found[row : row + rows, :, places] = part if layout.planes else part[..., list(bands)]
            row += rows
    return found


def _blocks(data: bytes, layout: Samples, plane: int) -> Iterator[NDArray[Any]]:
    """Rows of tiles or strips from the top, [rows, at least the width, bands of the plane], without predictors."""
    bands = 1 if layout.planes else layout.bands
    across, down = layout.across, layout.down
    row_bytes = layout.tile[0] * bands * layout.type.itemsize
    at_once = max(1, GROUP // (row_bytes * across * layout.tile[1]))
    for top in range(0, down, at_once):
        count = min(at_once, down - top)
        # The last strip may be shorter, a tile never is.
        rows = (
            count * layout.tile[1]
            if layout.tiled
            else min(count * layout.tile[1], layout.height - top * layout.tile[1])
        )
        first = plane * across * down + top * across
        chunk = slice(first, first + count * across)
        raw = _unpacked(data, layout, layout.offsets[chunk], layout.lengths[chunk], row_bytes, rows)
        tiles = raw.reshape(rows, across, row_bytes)
        values = np.concatenate([_values(tiles[:, n], layout, bands) for n in range(across)], axis=1)
        yield values


def _unpacked(
    data: bytes, layout: Samples, offsets: Sequence[int], lengths: Sequence[int], row_bytes: int, rows: int
) -> NDArray[np.uint8]:
    """The bytes of some strips or rows of tiles, [rows, bytes of a row], decompressed."""
    across = layout.across
    if any(not 0 < offset <= len(data) - length for offset, length in zip(offsets, lengths, strict=True)):
        raise ValueError("its pixels lie behind the end of the file; it is cut off")
    pieces = [data[offset : offset + length] for offset, length in zip(offsets, lengths, strict=True)]
    if layout.compression == 1:
        return _uncompressed(pieces, layout, across, row_bytes, rows)
    file = _grey_tiff(pieces, row_bytes * across, rows, layout, row_bytes)
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        return np.asarray(image).reshape(rows, -1)


def _uncompressed(
    pieces: Sequence[bytes], layout: Samples, across: int, row_bytes: int, rows: int
) -> NDArray[np.uint8]:
    if not layout.tiled:
        whole = np.frombuffer(b"".join(pieces), np.uint8)
        if len(whole) < rows * row_bytes:
            raise ValueError("its strips are shorter than its size needs")
        return whole[: rows * row_bytes].reshape(rows, row_bytes)
    needed = layout.tile[1] * row_bytes
    if any(len(piece) < needed for piece in pieces):
        raise ValueError("its tiles are shorter than their size needs")
    tiles = np.stack([np.frombuffer(piece[:needed], np.uint8) for piece in pieces])
    grid = tiles.reshape(-1, across, layout.tile[1], row_bytes)
    return grid.transpose(0, 2, 1, 3).reshape(rows, across * row_bytes)


def _grey_tiff(pieces: Sequence[bytes], width: int, height: int, layout: Samples, tile_bytes: int) -> bytes:
    """A TIFF of the given strips or tiles as they are, declared as 8-bit grey and `width` bytes wide."""
    entries: dict[int, Sequence[int]] = {
        256: [width], 257: [height], 258: [8], 259: [layout.compression], 262: [1], 277: [1],
    }  # fmt: skip
    offsets, place = [], 8
    for piece in pieces:
        offsets.append(place)
        place += len(piece)
    lengths = [len(piece) for piece in pieces]
    if layout.tiled:
        entries |= {322: [tile_bytes], 323: [layout.tile[1]], 324: offsets, 325: lengths}
    else:
        entries |= {273: offsets, 278: [layout.tile[1]], 279: lengths}
    place += place % 2
    directory = struct.pack("<H", len(entries))
    behind, extra = place + 2 + 12 * len(entries) + 4, b""
    for tag in sorted(entries):
        values = entries[tag]
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            extra, packed = extra + packed, struct.pack("<I", behind + len(extra))
        directory += struct.pack("<HHI", tag, 4, len(values)) + packed
    body = b"".join(pieces)
    return struct.pack("<2sHI", b"II", 42, place) + body + b"\0" * (len(body) % 2) + directory + b"\0\0\0\0" + extra


def _values(raw: NDArray[np.uint8], layout: Samples, bands: int) -> NDArray[Any]:
    """The samples [rows, pixels, bands] of rows of bytes of one tile or strip, in native byte order, the predictor undone."""
    size = layout.type.itemsize
    rows, pixels = len(raw), raw.shape[1] // (bands * size)
    native = layout.type.newbyteorder("=")
    if layout.predictor == 3:
        # Adobe's floating-point predictor: bytes in planes, the most significant first, each the difference to the one before.
        summed = np.cumsum(raw.reshape(rows, -1, bands), axis=1, dtype=np.uint8).reshape(rows, size, pixels * bands)
        big = np.ascontiguousarray(summed.transpose(0, 2, 1)).view(layout.type.newbyteorder(">"))
        return big.reshape(rows, pixels, bands).astype(native)
    values = np.ascontiguousarray(raw).view(layout.type).reshape(rows, pixels, bands).astype(native)
    if layout.predictor == 2:
        whole = values.view(f"u{size}")
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(native)
    return values


def _type(directory: Directory, little: bool) -> np.dtype[Any]:
    bits = set(directory.numbers(TiffImagePlugin.BITSPERSAMPLE) or (1,))
    kinds = set(directory.numbers(TiffImagePlugin.SAMPLEFORMAT) or (1,))
    if len(bits) > 1 or len(kinds) > 1:
        raise Unsupported("has bands of different types; export them as one type")
    size, kind = bits.pop(), {1: "u", 2: "i", 3: "f", 4: "u"}.get(kinds.pop(), "")
    if not kind or size not in (8, 16, 32, 64) or (kind == "f" and size == 8):
        raise Unsupported(f"has samples of {size} bits of a type that is not read; export it with 8 or 16 bits a band")
    return np.dtype(f"{'<' if little else '>'}{kind}{size // 8}")


def _compression(directory: Directory) -> int:
    found = directory.number(TiffImagePlugin.COMPRESSION, 1)
    if found not in COMPRESSIONS:
        name = OTHER_COMPRESSIONS.get(found, f"kind {found}")
        raise Unsupported(f"is compressed in a way that is not read here ({name}); export it with LZW or Deflate")
    return found
