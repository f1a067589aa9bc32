"""Which tiles a map is cut into: squares on the ground that overlap by half, at each of a few scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.maps import Map, MapWindow
from outcrop.schema.errors import InputError

OVERLAP = 0.5
"""The share of a tile's side by which neighbours overlap, at least."""
LEAST_SHOWN = 0.5
"""Tiles less of which shows anything are left out."""
CELLS, MOST_CELLS = 8, 2048
"""Cells of the grid along a side of the smallest tile by which that is judged, and along a side of the map at most."""
MOST_TILES = 1_000_000
MOST_SCALES = 8


@dataclass(frozen=True)
class MapTile:
    """A tile: `scale` is the name of its scale (``150m``), `row` and `column` count from the upper left corner of the map.

    `sides` are those of its picture in pixels (width, height), of `metres` on the ground each.
    """

    scale: str
    row: int
    column: int
    window: MapWindow
    sides: tuple[int, int]
    metres: float


def parse_scales(text: str) -> tuple[float, ...]:
    """The sides of tiles in metres, as in ``60,120``, smallest first.

    Raises:
        InputError: one is not a length, or there are too many.
    """
    try:
        scales = tuple(sorted({float(word) for word in text.split(",")}))
    except ValueError:
        scales = ()
    if not scales or not all(math.isfinite(scale) and scale >= 1 for scale in scales):
        raise InputError(f"--scales must be lengths in metres of at least 1, as in 60,120; got {text!r}")
    if len(scales) > MOST_SCALES:
        raise InputError(f"--scales must be at most {MOST_SCALES}, got {len(scales)}")
    return scales


def tiles_of(source: Map, scales: Sequence[float]) -> list[MapTile]:
    """The tiles of a map whose sides are `scales` metres, scale by scale, row by row; those that show nothing are left out.

    A scale that is longer than the map gives one tile: the map. One that gives the same as a smaller scale gives nothing.

    Raises:
        InputError: the map lies nowhere, or there would be too many tiles. PictureError: it cannot be read.
    """
    across, down = source.place.metres_per_pixel(source.width, source.height)
    finest = min(across, down)
    windows: set[MapWindow] = set()
    tiles: list[MapTile] = []
    least = min(scales) / across, min(scales) / down
    shown = _Shown(source, least)
    for scale in scales:
        width, height = (max(1, round(scale / metres)) for metres in (across, down))
        columns, rows = list(_starts(source.width, width)), list(_starts(source.height, height))
        if len(tiles) + len(columns) * len(rows) > MOST_TILES:
            raise InputError(
                f"tiles of {scale:g} m would be more than {MOST_TILES:,}; give longer --scales, or cut the map into parts"
            )
        for row, top in enumerate(rows):
            for column, left in enumerate(columns):
                window = MapWindow(left, top, min(width, source.width), min(height, source.height))
                if window in windows or shown.share(window) < LEAST_SHOWN:
                    continue
                windows.add(window)
                sides = max(1, round(window.width * across / finest)), max(1, round(window.height * down / finest))
                tiles.append(MapTile(f"{scale:g}m", row, column, window, sides, finest))
    return tiles


def keep_large(tiles: Iterable[MapTile], least: int) -> list[MapTile]:
    """The tiles whose pictures have at least `least` pixels a side."""
    return [tile for tile in tiles if min(tile.sides) >= least]


def _starts(length: int, side: int) -> Iterator[int]:
    """Where tiles of `side` pixels begin along `length` pixels: evenly spread from edge to edge."""
    if side >= length:
        yield 0
        return
    count = math.ceil((length - side) / (side * (1 - OVERLAP)) - 1e-9) + 1
    yield from (round(number * (length - side) / (count - 1)) for number in range(count))


class _Shown:
    """How much of any window of a map shows something, by sums over a coarse grid."""

    def __init__(self, source: Map, least: tuple[float, float]) -> None:
        self._across, self._down = (
            max(1, min(MOST_CELLS, pixels, math.ceil(CELLS * pixels / side)))
            for pixels, side in ((source.width, least[0]), (source.height, least[1]))
        )
        self._width, self._height = source.width, source.height
        grid = source.coverage((self._across, self._down))
        self._sums: NDArray[np.int64] = np.pad(grid.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def share(self, window: MapWindow) -> float:
        """0 to 1."""
        left, right = self._cells(window.left, window.width, self._width, self._across)
        top, bottom = self._cells(window.top, window.height, self._height, self._down)
        total = self._sums[bottom, right] - self._sums[top, right] - self._sums[bottom, left] + self._sums[top, left]
        return float(total) / ((right - left) * (bottom - top))

    @staticmethod
    def _cells(start: int, side: int, length: int, cells: int) -> tuple[int, int]:
        first = min(cells - 1, round(start * cells / length))
        return first, max(first + 1, round((start + side) * cells / length))
