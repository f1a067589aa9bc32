"""Maps as pictures: a GeoTIFF or a pyramid of tiles, of any size, of which windows are read.

A map is never read whole. What a window shows is 8-bit RGB on white, and a mask says where there is anything. Readers are
`outcrop.embed.map_rasters` (whatever GDAL opens) and `outcrop.embed.map_pyramids` (XYZ folders and PMTiles).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.georeference import Affine, Georeference
from outcrop.embed.images import DRAFT_MARGIN, Decoded
from outcrop.embed.photo import PhotoMetadata
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.places import require_disk

MOST_PIXELS = 64 * 2**20
"""Pixels of one window as it is read: none asked for is finer than that."""
PYRAMIDS = (".pmtiles",)
NOT_READ = {
    ".mbtiles": "MBTiles are not read; convert it: `pmtiles convert IN.mbtiles OUT.pmtiles`",
    ".kmz": "KMZ overlays are not read; export a GeoTIFF",
    ".ecw": "ECW needs a licensed GDAL; convert it: `gdal_translate IN.ecw OUT.tif`",
    ".sid": "MrSID needs a licensed GDAL; convert it to a GeoTIFF",
}


@dataclass(frozen=True)
class MapWindow:
    """A rectangle of a map in whole pixels: `left` and `top` of its outer corner, `width` and `height`."""

    left: int
    top: int
    width: int
    height: int

    def corners(self) -> NDArray[np.float64]:
        """Upper left, upper right, lower right, lower left: [4, 2] in the map's pixels."""
        right, bottom = self.left + self.width, self.top + self.height
        return np.array(
            [[self.left, self.top], [right, self.top], [right, bottom], [self.left, bottom]], dtype=np.float64
        )


class Map(Protocol):
    """An opened map of `width` x `height` pixels. Any number of threads may read it."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def place(self) -> Georeference: ...

    @property
    def files(self) -> str:
        """What names the state of all files of a map that is made of many; '' where it is one file, whose bytes count."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of what is not read."""
        ...

    def read(self, window: MapWindow, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A window within the map at a size (width, height): RGB [h, w, 3], and where it shows anything [h, w].

        Raises:
            PictureError: it cannot be read.
        """
        ...

    def coverage(self, cells: tuple[int, int]) -> NDArray[np.bool_]:
        """Roughly where the map shows anything: a grid [rows, columns] of `cells` (columns, rows) over all of it.

        Raises:
            PictureError: it cannot be read.
        """
        ...

    def close(self) -> None:
        """Gives back its files."""
        ...


def open_map(path: Path) -> Map:
    """Opens a map: a folder of XYZ tiles, a PMTiles archive, or a raster that GDAL reads.

    Raises:
        InputError: there is none, its format is not read, it has no place on the globe, or its reader is not installed.
    """
    require_disk(path, "a map", "copy it to a disk")
    suffix = path.suffix.lower()
    if suffix in NOT_READ:
        raise InputError(f"{path}: {NOT_READ[suffix]}")
    if path.is_dir():
        from outcrop.embed.map_pyramids import FolderTiles, Pyramid

        return Pyramid(FolderTiles(path))
    if not path.exists():
        raise InputError(f"no map at {path}; give a GeoTIFF, a folder of XYZ tiles, or a .pmtiles file")
    if suffix in PYRAMIDS:
        from outcrop.embed.map_pyramids import ArchiveTiles, Pyramid

        return Pyramid(ArchiveTiles(path))
    from outcrop.embed.map_rasters import Raster

    return Raster(path)


@contextlib.contextmanager
def opened_map(path: Path) -> Iterator[Map]:
    """`open_map`, closed at the end."""
    found = open_map(path)
    try:
        yield found
    finally:
        found.close()


def window_picture(
    source: Map, window: MapWindow, sides: tuple[int, int], at_least: tuple[int, int] | None = None
) -> Decoded:
    """A window as a picture of `sides` (width, height) pixels, square ones on the ground even where the map's are not.

    It is read no finer than `DRAFT_MARGIN` times `at_least` (height, width), as photographs are, and what shows nothing is white.

    Raises:
        PictureError: it cannot be read.
    """
    scale = math.sqrt(MOST_PIXELS / (sides[0] * sides[1]))
    if at_least is not None:
        scale = min(scale, DRAFT_MARGIN * max(at_least[0] / sides[1], at_least[1] / sides[0]))
    scale = min(1.0, scale)
    size = max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))
    pixels, _ = source.read(window, size)
    return Decoded(Image.fromarray(pixels), *sides, PhotoMetadata())


def to_map(window: MapWindow, sides: tuple[int, int]) -> Affine:
    """From points of the window as a picture of `sides` (upper left pixel's centre at 0, 0) to points of the map in pixels."""
    across, down = window.width / sides[0], window.height / sides[1]
    return across, 0.0, window.left + 0.5 * across, 0.0, down, window.top + 0.5 * down


def unreadable(path: Path, error: Exception) -> PictureError:
    """The error for a map that opened, and cannot be read now."""
    return PictureError(f"{path}: cannot be read ({str(error) or type(error).__name__}); is its disk there?")
