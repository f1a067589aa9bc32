"""Ground scale: how much ground a pixel shows, and which part of a picture shows as much as an embedding space asks for.

A space with a ground sampling distance (`outcrop.schema.space.Space.gsd`) embeds pictures from every height at one scale. A
pixel of the network's input is `gsd` metres of ground, so its whole input is a *window* of some metres. A picture that shows
more ground than that holds several windows; one that shows less is embedded whole, at the nearest scale that it has. The camera
is taken to look straight down on flat ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from outcrop.schema.crops import WHOLE, Crop, crop_numbered

STEEPEST = 30.0
"""Degrees by which a camera may look off straight down; what is farther off has no one scale."""
FILM = 36.0
"""Millimetres of the film for which focal lengths are stated, along the longer side."""
OVERLAP = 0.25
"""The share of what a window shows by which the windows of a stored photograph overlap, at least."""
MOST_OF_QUERY = 4
"""Windows along a side of a query picture, at most: each is embedded at every turn."""
MOST_CELLS = 9
"""Windows along a side of a picture, at most: what a crop's number can hold."""
SMALLER = 0.97
"""Of a window's metres: a picture that shows less than this share of them is remarked on."""

UNKNOWN = "does not say its height above ground or its focal length: embedded whole, not at the ground scale of the collection"
OBLIQUE = "looks more than 30 degrees off straight down: embedded whole, not at the ground scale of the collection"
GAPS = "shows more ground than its windows, nine along a side at most: there are gaps between them"
TOO_LITTLE = "shows less ground than one window of the collection's ground scale: embedded whole, larger than to scale"


@dataclass(frozen=True)
class Footing:
    """What decides the scale of a photograph: metres above ground (None or 0: unknown), the focal length in millimetres on film
    36 mm wide, and the camera's pitch in degrees (-90 straight down, None: taken to be that)."""

    altitude: float | None = None
    focal_length: float | None = None
    pitch: float | None = None

    def metres_per_pixel(self, width: int, height: int) -> float | None:
        """Metres of ground in a pixel of the full-size picture, whose sides are given in pixels; None where they cannot be
        known."""
        if self.oblique or not self.altitude or not self.focal_length or self.altitude < 0:
            return None
        return self.altitude * FILM / (self.focal_length * max(width, height))

    @property
    def oblique(self) -> bool:
        """Whether the camera looks too far off straight down."""
        return self.pitch is not None and abs(self.pitch + 90.0) > STEEPEST


@dataclass(frozen=True)
class Scaled:
    """How a picture meets a ground scale: the `share` of its sides (0 to 1) that a crop of its proportions must have to hold one
    window, and why it is not to scale ('' where it is)."""

    share: float = 1.0
    remark: str = ""


WHOLE_PICTURE = Scaled()
"""A picture that is embedded as it is."""


def scaled(footing: Footing, width: int, height: int, window: tuple[float, float]) -> Scaled:
    """What of a picture of `width` x `height` pixels shows a window of (height, width) metres."""
    metres = footing.metres_per_pixel(width, height)
    if metres is None:
        return Scaled(remark=OBLIQUE if footing.oblique else UNKNOWN)
    share = max(window[0] / (metres * height), window[1] / (metres * width))
    return Scaled(min(1.0, share), TOO_LITTLE if share * SMALLER > 1.0 else "")


def ground_crops(share: float, width: int, height: int, window: tuple[float, float]) -> tuple[Crop, ...]:
    """Crops of a picture that together show it in windows, each a `share` of its sides: what is seen of neighbours overlaps by
    `OVERLAP` at least.

    Of a crop of the picture's proportions the network sees the middle, in the proportions of `window` (height, width).
    """
    seen_across, seen_down = _seen(share, width, height, window)
    return _grid(share, _overlapping(share, seen_across), _overlapping(share, seen_down))


def leaves_gaps(share: float, width: int, height: int, window: tuple[float, float]) -> bool:
    """Whether `ground_crops` are too few to show all of a picture."""
    return any((1.0 - share) / (MOST_CELLS - 1) > seen + 1e-6 for seen in _seen(share, width, height, window))


def positive(*metres: float | None) -> float | None:
    """The first of some heights that is known and more than 0; those above a take-off point on a cliff may be less."""
    return next((each for each in metres if each is not None and each > 0), None)


def query_crops(
    share: float, width: int, height: int, window: tuple[float, float], most: int = MOST_OF_QUERY
) -> tuple[Crop, ...]:
    """The same of a query picture: as many as lie side by side, `most` along a side at most; what is stored overlaps already."""
    return _grid(
        share, *(max(1, min(most, math.floor(1 / seen + 0.25))) for seen in _seen(share, width, height, window))
    )


def _grid(share: float, columns: int, rows: int) -> tuple[Crop, ...]:
    percent = max(1, round(100 * share))
    if percent >= 100:
        return (WHOLE,)
    if columns * rows == 1:
        found = [crop_numbered(percent)]
    else:
        number = columns * 100_000 + rows * 10_000 + percent * 100
        found = [crop_numbered(number + cell + 1) for cell in range(columns * rows)]
    return tuple(crop for crop in found if crop is not None)


def _seen(share: float, width: int, height: int, window: tuple[float, float]) -> tuple[float, float]:
    """Of a crop of a `share` of the sides, what the network sees, as shares of the picture's width and height."""
    down, across = window
    scale = min(width * share / across, height * share / down)
    return min(share, across * scale / width), min(share, down * scale / height)


def _overlapping(share: float, seen: float) -> int:
    """How many crops of a `share` of a side are spread along it so that what is `seen` of neighbours overlaps."""
    room = 1.0 - share
    if room <= 0.005:
        return 1
    return min(MOST_CELLS, math.ceil(room / (seen * (1 - OVERLAP)) - 1e-6) + 1)
