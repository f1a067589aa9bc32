"""Maps that are pyramids of square pictures in Web Mercator: folders of XYZ tiles (``z/x/y.png``), and PMTiles archives."""

from __future__ import annotations

import io
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.colours import BACKGROUND
from outcrop.embed.georeference import WEB_MERCATOR, WORLD, Affine, Georeference
from outcrop.embed.maps import MapWindow, unreadable
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, PictureError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
TILE_JSON = ("metadata.json", "tiles.json", "tile.json", "tilejson.json")
"""What describes a folder of tiles, beside it (TileJSON, and what tools for MBTiles write)."""
MOST_LOOKED_AT = 32 * 2**20
"""Pixels of a whole map that are looked at for what is transparent."""
HELD = 64
"""Pictures kept in memory: neighbouring windows share them."""
Address = tuple[int, int, int]
"""Zoom, column and row of a picture, rows from the north."""


class Pictures(Protocol):
    """Where the pictures of a pyramid lie."""

    path: Path

    @property
    def files(self) -> str:
        """See `outcrop.embed.maps.Map.files`."""
        ...

    def addresses(self) -> Iterator[Address]:
        """All pictures that there are; none is opened."""
        ...

    def get(self, address: Address) -> bytes | None:
        """The file of a picture; None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        ...


class FolderTiles:
    """A folder of XYZ tiles; or of TMS tiles, whose rows count from the south, where a description beside them says so."""

    def __init__(self, path: Path) -> None:
        """Lists it.

        Raises:
            InputError: it holds no tiles, or tiles that are not in Web Mercator.
        """
        self.path = path
        southern = _counts_from_south(path)
        self._files: dict[Address, Path] = {}
        states = []
        for file in sorted(path.glob("*/*/*.*")):
            parts = re.fullmatch(r"(\d{1,2})/(\d{1,8})/(\d{1,8})\.\w+", file.relative_to(path).as_posix())
            if parts is not None and file.suffix.lower() in PICTURES:
                zoom, column, row = int(parts[1]), int(parts[2]), int(parts[3])
                self._files[zoom, column, 2**zoom - 1 - row if southern else row] = file
                stat = file.stat()
                states.append((file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns))
        if not self._files:
            raise InputError(
                f"the folder {path} holds no XYZ tiles (z/x/y.png); give the folder that holds the zooms, or a GeoTIFF"
            )
        self.files = digest_of(repr(states))
        """The digest of the names, sizes and times of all pictures."""

    def addresses(self) -> Iterator[Address]:
        """See `Pictures.addresses`."""
        return iter(self._files)

    def get(self, address: Address) -> bytes | None:
        """See `Pictures.get`."""
        file = self._files.get(address)
        return file.read_bytes() if file is not None else None


def _counts_from_south(folder: Path) -> bool:
    """Whether a folder of tiles is one of TMS: gdal2tiles describes those (and no others) in a file, and TileJSON has a scheme.

    Raises:
        InputError: they are not in Web Mercator.
    """
    described = folder / "tilemapresource.xml"
    if not described.is_file():
        files = [folder / name for name in TILE_JSON if (folder / name).is_file()]
        return any(re.search(rb'"scheme"\s{0,9}:\s{0,9}"tms"', file.read_bytes()[:65536]) for file in files)
    profile = re.search(rb'<TileSets\s+profile="([^"]{1,40})"', described.read_bytes()[:65536])
    if profile is None or profile[1] not in (b"mercator", b"global-mercator"):
        raise InputError(
            f"{folder}: {described.name} does not say that the tiles are in Web Mercator; "
            "write them with `gdal2tiles --xyz --profile=mercator`"
        )
    return True


class ArchiveTiles:
    """A PMTiles archive of pictures."""

    files = ""

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            InputError: pmtiles is not installed, the file is damaged, or it holds vectors.
        """
        try:
            from pmtiles import reader, tile
        except ImportError:
            raise InputError(
                f"{path}: PMTiles need pmtiles; install outcrop[maps], or give a GeoTIFF or XYZ tiles"
            ) from None
        self.path, self._tile = path, tile
        try:
            with path.open("rb") as file:  # its memory stays mapped
                self._bytes = reader.MmapSource(file)
            self._reader = reader.Reader(self._bytes)
            self._header = self._reader.header()
        except Exception as error:  # noqa: BLE001  the library raises whatever its parser trips over
            raise InputError(f"{path} is not a PMTiles archive ({error}); write it again") from None
        if self._header["tile_type"] not in (tile.TileType.PNG, tile.TileType.JPEG, tile.TileType.WEBP):
            raise InputError(f"{path} holds {self._header['tile_type'].name} tiles, not pictures; give a raster map")

    def addresses(self) -> Iterator[Address]:
        """See `Pictures.addresses`."""
        yield from self._below(self._header["root_offset"], self._header["root_length"])

    def get(self, address: Address) -> bytes | None:
        """See `Pictures.get`."""
        found = self._reader.get(*address)
        return bytes(found) if found is not None else None

    def _below(self, offset: int, length: int) -> Iterator[Address]:
        for entry in self._tile.deserialize_directory(self._bytes(offset, length)):
            if entry.run_length == 0:
                yield from self._below(self._header["leaf_directory_offset"] + entry.offset, entry.length)
            for number in range(entry.run_length):
                yield self._tile.tileid_to_zxy(entry.tile_id + number)


class Pyramid:
    """A pyramid as one map: its pixels are those of the highest zoom; coarser windows are made of coarser zooms."""

    def __init__(self, pictures: Pictures) -> None:
        self.path, self._pictures = pictures.path, pictures
        levels: dict[int, set[tuple[int, int]]] = {}
        for zoom, column, row in pictures.addresses():
            levels.setdefault(zoom, set()).add((column, row))
        self._levels = levels
        self.zoom = max(levels)
        top = np.array(sorted(levels[self.zoom]))
        self._first = int(top[:, 0].min()), int(top[:, 1].min())
        columns, rows = top.max(axis=0) - top.min(axis=0) + 1
        self._memory: OrderedDict[Address, NDArray[np.uint8] | None] = OrderedDict()
        self._lock = threading.Lock()
        self.side = self._measured(tuple(int(value) for value in top[0]))
        self.width, self.height = int(columns) * self.side, int(rows) * self.side
        pixel = WORLD / 2**self.zoom / self.side
        left, upper = self._first[0] * self.side * pixel - WORLD / 2, WORLD / 2 - self._first[1] * self.side * pixel
        transform: Affine = (pixel, 0.0, left, 0.0, -pixel, upper)
        self.place = Georeference(transform, WEB_MERCATOR)

    @property
    def files(self) -> str:
        """See `outcrop.embed.maps.Map.files`."""
        return self._pictures.files

    @property
    def remarks(self) -> tuple[str, ...]:
        """See `outcrop.embed.maps.Map.remarks`: a coarser zoom may show ground that the highest lacks."""
        said = []
        for zoom, there in sorted(self._levels.items()):
            down = self.zoom - zoom
            if lacking := len(there - {(x >> down, y >> down) for x, y in self._levels[self.zoom]}):
                said.append((lacking, f"{lacking:,} of the {len(there):,} pictures of zoom {zoom}"))
        if not said:
            return ()
        return (
            f"{self.path}: the map is what zoom {self.zoom} shows; {max(said)[1]} show other ground, which is left out: give a "
            "folder without the higher zooms",
        )

    def read(self, window: MapWindow, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """See `outcrop.embed.maps.Map.read`."""
        zoom = self._fitting(window, self._steps(window, size))
        scale = 2.0 ** (zoom - self.zoom)
        # The window in pixels of the zoom, from the upper left of the whole world, which the pictures are numbered from.
        left, top = (
            (first * self.side + own) * scale for first, own in zip(self._first, (window.left, window.top), strict=True)
        )
        right, bottom = left + window.width * scale, top + window.height * scale
        columns, rows = (
            range(int(left // self.side), math.ceil(right / self.side)),
            range(int(top // self.side), math.ceil(bottom / self.side)),
        )
        sheet = np.zeros((len(rows) * self.side, len(columns) * self.side, 4), np.uint8)
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                if (one := self._picture((zoom, column, row))) is not None:
                    sheet[y * self.side : (y + 1) * self.side, x * self.side : (x + 1) * self.side] = one
        mask = Image.fromarray(np.ascontiguousarray(sheet[..., 3]))
        white = np.where(sheet[..., 3:] > 0, sheet[..., :3], np.array(BACKGROUND, np.uint8))
        box = (
            left - columns.start * self.side,
            top - rows.start * self.side,
            right - columns.start * self.side,
            bottom - rows.start * self.side,
        )
        shown = Image.fromarray(white).resize(size, Image.Resampling.BICUBIC, box=box)
        seen = mask.resize(size, Image.Resampling.NEAREST, box=box)
        return np.array(shown, dtype=np.uint8), np.asarray(seen) > 0

    def coverage(self, cells: tuple[int, int]) -> NDArray[np.bool_]:
        """See `outcrop.embed.maps.Map.coverage`: where there are pictures of the highest zoom; and where these are not
        transparent, if a zoom is coarse enough for all of it to be looked at."""
        columns = ((np.arange(cells[0]) + 0.5) * self.width / cells[0] // self.side).astype(int) + self._first[0]
        rows = ((np.arange(cells[1]) + 0.5) * self.height / cells[1] // self.side).astype(int) + self._first[1]
        there = self._levels[self.zoom]
        found = np.array([[(int(x), int(y)) in there for x in columns] for y in rows])
        whole = MapWindow(0, 0, self.width, self.height)
        zoom = self._fitting(whole, self._steps(whole, cells))
        if self.width * self.height >> 2 * (self.zoom - zoom) > MOST_LOOKED_AT:
            return found
        return found & self.read(whole, cells)[1]

    def close(self) -> None:
        """See `outcrop.embed.maps.Map.close`."""
        with self._lock:
            self._memory.clear()

    @staticmethod
    def _steps(window: MapWindow, size: tuple[int, int]) -> int:
        """By how many zooms below the highest a window is fine enough for a size (width, height)."""
        finer = min(window.width / size[0], window.height / size[1])
        return max(0, math.floor(math.log2(finer) + 1e-6)) if finer >= 1 else 0

    def _fitting(self, window: MapWindow, steps: int) -> int:
        """A zoom up to `steps` below the highest that has all pictures which the window's part of the highest lies in."""
        for zoom in range(max(self.zoom - steps, 0), self.zoom):
            if zoom in self._levels and self._complete(window, zoom):
                return zoom
        return self.zoom

    def _complete(self, window: MapWindow, zoom: int) -> bool:
        down = self.zoom - zoom
        columns = range(
            self._first[0] + window.left // self.side, self._first[0] + -(-(window.left + window.width) // self.side)
        )
        rows = range(
            self._first[1] + window.top // self.side, self._first[1] + -(-(window.top + window.height) // self.side)
        )
        finest, coarse = self._levels[self.zoom], self._levels[zoom]
        return all((x >> down, y >> down) in coarse for x in columns for y in rows if (x, y) in finest)

    def _picture(self, address: Address) -> NDArray[np.uint8] | None:
        """A picture as RGBA [side, side, 4]; None where there is none."""
        if address[1:] not in self._levels[address[0]]:
            return None
        with self._lock:
            if address in self._memory:
                self._memory.move_to_end(address)
                return self._memory[address]
        found = self._decoded(address)
        if found is not None and found.shape[:2] != (self.side, self.side):
            raise PictureError(
                f"{self.path}: tile {'/'.join(map(str, address))} is {found.shape[1]}x{found.shape[0]} pixels, others are "
                f"{self.side}x{self.side}; write the pyramid again"
            )
        with self._lock:
            self._memory[address] = found
            while len(self._memory) > HELD:
                self._memory.popitem(last=False)
        return found

    def _decoded(self, address: Address) -> NDArray[np.uint8] | None:
        try:
            data = self._pictures.get(address)
            if data is None:
                return None
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
                return np.array(image.convert("RGBA"), dtype=np.uint8)
        except Exception as error:  # noqa: BLE001  whatever a decoder trips over
            raise unreadable(self.path / "/".join(map(str, address)), error) from None

    def _measured(self, corner: Any) -> int:
        """The side of the pictures, by one of them.

        Raises:
            InputError: it cannot be read.
        """
        try:
            found = self._decoded((self.zoom, *corner))
        except PictureError as error:
            raise InputError(str(error)) from None
        if found is None or found.shape[0] != found.shape[1]:
            raise InputError(f"{self.path}: tile {self.zoom}/{corner[0]}/{corner[1]} is not a square picture")
        return int(found.shape[0])
