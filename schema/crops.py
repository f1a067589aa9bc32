"""Rotations and crops: which part of a picture a reference shows, and how it is turned.

**Sense of rotation.** A rotation of 30 degrees is the picture turned by 30 degrees counter-clockwise, as Pillow and OpenCV turn
pictures. Turning a nadir photograph so is what turning the aircraft clockwise would have done: a picture that looks like its
parent turned by `r` was taken at the parent's heading plus `r` (headings count clockwise from north).

**Crops** have the proportions of the picture and are given as the fraction of its sides. They are numbered by what they are, so
that the same number is the same crop in every run, whatever else was asked for:

===========  =========================================================  =======================
number       crop                                                       as typed
===========  =========================================================  =======================
0            the whole picture                                          ``1``
1 to 99      in the middle, this many hundredths of the sides           ``0.6`` is number 60
CRFFNN       cell NN (from 1, row by row) of a grid of C columns and R  ``2x2:0.5`` is 225001,
             rows, each FF hundredths of the sides                      225002, 225003, 225004
===========  =========================================================  =======================

**No corner is ever empty.** A crop that reaches beyond the turned picture is moved inwards, and made smaller
if there is no room: the whole of a 4:3 picture is 0.6 of its sides at 53 degrees, and a crop of 0.6 fits at every angle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError

DECIMALS = 3
"""Decimals of an angle that count (degrees)."""
MAX_SPECS = 4096
"""References of one picture."""
TRANSFORM = "turn 1"
"""Names the way in which turned pictures are computed; part of their digest, so that another way makes them anew."""

_GRID = re.compile(r"(?:grid)?([1-9])x([1-9])(?::(.+))?\Z")


@dataclass(frozen=True, order=True)
class Crop:
    """A crop by its number (see the module): `fraction` of the sides, in cell `cell` (from 0) of `columns` x `rows`."""

    number: int
    fraction: float
    columns: int = 1
    rows: int = 1
    cell: int = 0

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the crop in an upright picture, as fractions of its width and height."""
        return (
            _spread(self.cell % self.columns, self.columns, self.fraction),
            _spread(self.cell // self.columns, self.rows, self.fraction),
        )

    def __str__(self) -> str:
        where = f", cell {self.cell + 1} of {self.columns}x{self.rows}" if self.columns * self.rows > 1 else ""
        return f"crop of {self.fraction:g}{where}"


WHOLE = Crop(0, 1.0)
"""The whole picture."""


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture that is turned counter-clockwise by `rotation` degrees about the rectangle's middle.

    `x` and `y` are the middle, `width` and `height` the sides, as fractions of the picture's width and height.
    """

    rotation: float
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class CropSpec:
    """One reference of a picture: a rotation in degrees and a crop."""

    rotation: float
    crop: Crop

    def window(self, width: int, height: int) -> Window:
        """The part of a picture of `width` x `height` pixels that it shows; never beyond the picture's edges.

        Its sides are whole pixels, as those of a written picture must be.
        """
        fraction = min(self.crop.fraction, largest(width, height, self.rotation))
        across, down = (max(1, math.floor(fraction * side + 1e-6)) for side in (width, height))
        cosine, sine = _absolute(self.rotation)
        half_width = (across * cosine + down * sine) / (2 * width)
        half_height = (across * sine + down * cosine) / (2 * height)
        x, y = self.crop.centre
        return Window(self.rotation, _within(x, half_width), _within(y, half_height), across / width, down / height)

    @property
    def digest(self) -> str:
        """32 hex characters: what was done to the picture, and how."""
        text = f"{TRANSFORM} rotation={self.rotation:.{DECIMALS}f} crop={self.crop.number}"
        return digest_of(text)


def largest(width: float, height: float, rotation: float) -> float:
    """The largest fraction of its sides that a picture turned by `rotation` degrees holds without empty corners."""
    cosine, sine = _absolute(rotation)
    return min(1.0, width / (width * cosine + height * sine), height / (width * sine + height * cosine))


def parse_angles(text: str) -> tuple[float, ...]:
    """Angles in degrees from ``0:360:30`` (the end left out), ``0,90,180`` or both mixed; sorted, each once.

    Raises:
        InputError: an angle outside [0, 360), a step that is not positive, or something that is not a number.
    """
    angles: set[float] = set()
    for piece in text.split(","):
        parts = [_number(part, "angle", piece) for part in piece.split(":")]
        if len(parts) == 1:
            angles.add(_angle(parts[0]))
            continue
        if len(parts) != 3:
            raise InputError(f"--angles {piece.strip()!r}: a range is START:STOP:STEP, such as 0:360:30")
        start, stop, step = parts
        if not step > 0:
            raise InputError(f"--angles {piece.strip()!r}: the step must be more than 0 degrees")
        if not _angle(start) < stop <= 360:
            raise InputError(f"--angles {piece.strip()!r}: the end must lie after the start and at most at 360 degrees")
        count = math.ceil((stop - start) / step - 1e-9)
        if count > MAX_SPECS:
            raise InputError(f"--angles {piece.strip()!r}: that is {count} angles; at most {MAX_SPECS} are possible")
        angles.update(_angle(round(start + n * step, 9)) for n in range(count))
    return tuple(sorted(angles))


def parse_crops(text: str) -> tuple[Crop, ...]:
    """Crops from ``0.6``, ``1,0.6``, ``2x2:0.5`` (or ``grid2x2:0.5``), mixed by commas; by number, each once.

    A grid without a fraction covers the picture: ``2x2`` is ``2x2:0.5``, ``3x2`` is ``3x2:0.5``.

    Raises:
        InputError: a fraction that is not above 0 and at most 1, or with more than two decimals; or not a crop.
    """
    crops: set[Crop] = set()
    for piece in text.split(","):
        if match := _GRID.match(piece.strip().lower()):
            columns, rows = int(match[1]), int(match[2])
            given = _number(match[3], "crop", piece) if match[3] else math.ceil(100 / min(columns, rows)) / 100
            crops.update(_cells(columns, rows, given, piece.strip()))
        else:
            crops.add(_centred(_number(piece, "crop", piece), piece.strip()))
    return tuple(sorted(crops))


def crop_numbered(number: int) -> Crop | None:
    """The crop of a number; None where no crop has it."""
    if number == 0:
        return WHOLE
    if 1 <= number <= 99:
        return Crop(number, number / 100)
    columns, rows, percent, cell = number // 100_000, number // 10_000 % 10, number // 100 % 100, number % 100
    if 1 <= columns <= 9 and rows and percent and columns * rows > 1 and 1 <= cell <= columns * rows:
        return Crop(number, percent / 100, columns, rows, cell - 1)
    return None


def crop_specs(angles: Sequence[float], crops: Sequence[Crop]) -> tuple[CropSpec, ...]:
    """Every crop at every angle.

    Raises:
        InputError: that would be more than `MAX_SPECS`.
    """
    if len(angles) * len(crops) > MAX_SPECS:
        raise InputError(
            f"{len(angles)} angles x {len(crops)} crops are {len(angles) * len(crops)} references of each picture; "
            f"at most {MAX_SPECS} are possible"
        )
    return tuple(CropSpec(angle, crop) for angle in angles for crop in crops)


def normal(degrees: float) -> float:
    """The same angle in [0, 360)."""
    turned = math.fmod(degrees, 360.0)
    turned = turned + 360.0 if turned < 0 else turned
    return 0.0 if turned >= 360.0 else turned + 0.0


def apart(one: float, other: float) -> float:
    """How far two angles are apart, in degrees from 0 to 180."""
    return abs((one - other + 180.0) % 360.0 - 180.0)


def _absolute(rotation: float) -> tuple[float, float]:
    turn = math.radians(rotation)
    return abs(math.cos(turn)), abs(math.sin(turn))


def _spread(place: int, places: int, fraction: float) -> float:
    return 0.5 if places == 1 else fraction / 2 + place * (1 - fraction) / (places - 1)


def _within(middle: float, half: float) -> float:
    return 0.5 if half >= 0.5 else min(max(middle, half), 1 - half)


def _number(text: str, what: str, piece: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        example = "0:360:30 or 0,90,180" if what == "angle" else "0.6, 1,0.6 or 2x2:0.5"
        raise InputError(f"--{what}s: {piece.strip()!r} is not a valid {what}; write {example}")
    return value


def _angle(degrees: float) -> float:
    if not 0 <= degrees < 360:
        raise InputError(f"an angle of {degrees:g} degrees lies outside [0, 360); give {normal(degrees):g}")
    if round(degrees, DECIMALS) != degrees:
        raise InputError(f"an angle of {degrees} degrees is too fine; give at most {DECIMALS} decimals")
    return degrees + 0.0


def _percent(fraction: float, piece: str) -> int:
    if not 0 < fraction <= 1:
        why = "is larger than the picture" if fraction > 1 else "is empty"
        raise InputError(f"--crops {piece!r}: a crop of {fraction:g} {why}; give a fraction above 0 and at most 1")
    percent = round(100 * fraction)
    if abs(percent - 100 * fraction) > 1e-6:
        raise InputError(f"--crops {piece!r}: give at most two decimals, such as {max(percent, 1) / 100:g}")
    return percent


def _centred(fraction: float, piece: str) -> Crop:
    percent = _percent(fraction, piece)
    return WHOLE if percent == 100 else Crop(percent, percent / 100)


def _cells(columns: int, rows: int, fraction: float, piece: str) -> list[Crop]:
    percent = _percent(fraction, piece)
    if columns * rows == 1:
        return [_centred(fraction, piece)]
    if percent == 100:
        raise InputError(f"--crops {piece!r}: every cell would be the whole picture; give a fraction below 1")
    number = columns * 100_000 + rows * 10_000 + percent * 100
    return [Crop(number + cell + 1, percent / 100, columns, rows, cell) for cell in range(columns * rows)]
