"""A simulated drone: where it flies, what its camera sees of the land, and the JPEG it writes.

Places are metres east and north of the land's middle; headings are degrees clockwise from north, and the top of a
picture points that way. The camera looks straight down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter
from PIL.TiffImagePlugin import IFDRational

from .land import Land

ORIGIN = (37.515, 127.073)
"""Degrees north and east of the land's middle (Jamsil, Seoul)."""
METRES_PER_DEGREE = 111_319.49
"""Along a meridian, and along the equator (WGS 84's semi-major axis)."""
Corners = tuple[tuple[float, float], ...]
_BLACK_LEVEL = 6


@dataclass(frozen=True)
class Pose:
    """Where the camera is: metres `east`, `north` and above ground (`altitude`), and its `heading` in degrees."""

    east: float
    north: float
    altitude: float
    heading: float

    @property
    def place(self) -> tuple[float, float]:
        """Latitude and longitude in degrees."""
        return to_degrees(self.east, self.north)


@dataclass(frozen=True)
class Camera:
    """Picture size in pixels and horizontal field of view in degrees."""

    width: int = 1024
    height: int = 768
    field_of_view: float = 73.7

    @property
    def focal_length_35mm(self) -> float:
        """Millimetres of a lens that shows as much across a film of 36 mm."""
        return 18 / math.tan(math.radians(self.field_of_view / 2))

    def ground(self, altitude: float) -> tuple[float, float]:
        """Metres of ground across and along a picture taken from `altitude` metres."""
        across = 2 * altitude * math.tan(math.radians(self.field_of_view / 2))
        return across, across * self.height / self.width


def to_degrees(east: float, north: float) -> tuple[float, float]:
    """Latitude and longitude of a place in metres (flat-earth approximation: good to centimetres over a kilometre)."""
    return (
        ORIGIN[0] + north / METRES_PER_DEGREE,
        ORIGIN[1] + east / (METRES_PER_DEGREE * math.cos(math.radians(ORIGIN[0]))),
    )


def footprint(pose: Pose, camera: Camera) -> Corners:
    """The corners of the ground in the picture, in metres: upper left, upper right, lower right, lower left."""
    across, along = camera.ground(pose.altitude)
    turn = math.radians(pose.heading)
    right, up = (math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))
    return tuple(
        (pose.east + x * right[0] + y * up[0], pose.north + x * right[1] + y * up[1])
        for x, y in (
            (-across / 2, along / 2),
            (across / 2, along / 2),
            (across / 2, -along / 2),
            (-across / 2, -along / 2),
        )
    )


def survey(
    half: float, altitude: float, camera: Camera, rng: np.random.Generator, *, forward: float = 0.7, side: float = 0.55
) -> list[Pose]:
    """A lawnmower flight over a square of half side `half` metres: every picture stays on the land.

    Strips run north and south in turn; `forward` and `side` are the shares by which pictures overlap along and across them.
    Wind moves the drone by a metre or so and turns it by a degree or two.
    """
    across, along = camera.ground(altitude)
    margin = math.hypot(across, along) / 2 + 4
    reach = half - margin
    if reach <= 0:
        raise ValueError(f"a land of {2 * half:.0f} m is too small for pictures from {altitude:.0f} m")
    strips = max(2, round(2 * reach / (across * (1 - side))) + 1)
    stops = max(2, round(2 * reach / (along * (1 - forward))) + 1)
    poses = []
    for number, east in enumerate(np.linspace(-reach, reach, strips)):
        southward = bool(number % 2)
        for north in np.linspace(reach, -reach, stops) if southward else np.linspace(-reach, reach, stops):
            drift = rng.normal(0, (1.2, 1.2, 1.5, 1.3))
            drift = np.clip(drift, -3, 3)
            heading = (180.0 if southward else 0.0) + float(drift[3])
            poses.append(
                Pose(float(east + drift[0]), float(north + drift[1]), float(altitude + drift[2]), heading % 360)
            )
    return poses


def photograph(land: Land, pose: Pose, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """What the camera sees, as RGB: antialiased, with the exposure, tint, vignette and grain of one photograph."""
    across, _ = camera.ground(pose.altitude)
    finer = max(1, math.floor(across / camera.width / land.resolution))
    width, height = camera.width * finer, camera.height * finer
    pixel = across / width / land.resolution  # pixels of the land in one pixel of the picture
    turn = math.radians(pose.heading)
    cos, sin = math.cos(turn) * pixel, math.sin(turn) * pixel
    middle_x = land.picture.width / 2 + pose.east / land.resolution
    middle_y = land.picture.height / 2 - pose.north / land.resolution
    # Column u and row v of the picture come from (a u + b v + c, d u + e v + f) of the land.
    a, b, d, e = cos, -sin, sin, cos
    c = middle_x - a * width / 2 - b * height / 2
    f = middle_y - d * width / 2 - e * height / 2
    resampling = Image.Resampling.BICUBIC if pixel > 0.5 else Image.Resampling.BILINEAR
    picture = land.picture.transform((width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), resampling)
    if finer > 1:
        picture = picture.reduce(finer)
    return develop(picture, rng)


def write_jpeg(
    picture: Image.Image,
    path: Path,
    pose: Pose | None,
    moment: datetime,
    *,
    camera: Camera = Camera(),
    quality: int = 88,
) -> None:
    """Writes a photograph with EXIF (time, focal length, GPS) and the XMP that drones write (height above ground, heading);
    without a `pose`, it says nothing of where it was taken."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Outcrop", "Simulated drone", 1
    exif[0x0132] = moment.strftime("%Y:%m:%d %H:%M:%S")
    exif.get_ifd(0x8769).update(
        {0x9003: moment.strftime("%Y:%m:%d %H:%M:%S"), 0x9011: "+09:00", 0xA405: round(camera.focal_length_35mm)}
    )
    if pose is None:
        picture.save(path, "JPEG", quality=quality, exif=exif)
        return
    latitude, longitude = pose.place
    exif.get_ifd(0x8825).update({
        0: b"\x02\x03\x00\x00",
        1: "N" if latitude >= 0 else "S", 2: _sexagesimal(latitude),
        3: "E" if longitude >= 0 else "W", 4: _sexagesimal(longitude),
        5: b"\x00", 6: IFDRational(round(1000 * (pose.altitude + 20)), 1000),
    })  # fmt: skip
    picture.save(path, "JPEG", quality=quality, exif=exif, xmp=_xmp(pose).encode())


def develop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture with the exposure, tint, vignette and grain of one photograph."""
    exposure, warmth = 1 + rng.normal(0, 0.035), rng.normal(0, 0.015)
    table: list[int] = []
    for gain in (exposure * (1 + warmth), exposure, exposure * (1 - warmth)):
        table += [
            min(255, round(_BLACK_LEVEL + (255 - _BLACK_LEVEL) * min(1.0, level / 255 * gain))) for level in range(256)
        ]
    picture = ImageChops.multiply(picture.point(table), _vignette(picture.size))
    grain = ImageChops.offset(_grain(picture.size), int(rng.integers(picture.width)), int(rng.integers(picture.height)))
    return ImageChops.add(picture, grain, 1.0, -128)


_plates: dict[tuple[str, tuple[int, int]], Image.Image] = {}


def _vignette(size: tuple[int, int]) -> Image.Image:
    """Darker corners, as RGB to multiply with."""
    if ("vignette", size) not in _plates:
        y, x = np.mgrid[-1:1:96j, -1:1:128j]
        plate = Image.fromarray((255 * (1 - 0.07 * (x**2 + y**2))).astype(np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        _plates["vignette", size] = Image.merge("RGB", (plate,) * 3)
    return _plates["vignette", size]


def _grain(size: tuple[int, int]) -> Image.Image:
    """The sensor's noise around 128, the same plate for every picture (shifted each time)."""
    if ("grain", size) not in _plates:
        noise = np.random.default_rng(0).normal(128, 3.2, (size[1], size[0])).clip(0, 255).astype(np.uint8)
        plate = Image.fromarray(noise)
        _plates["grain", size] = Image.merge("RGB", (plate, plate.filter(ImageFilter.GaussianBlur(0.4)), plate))
    return _plates["grain", size]


def _sexagesimal(angle: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    units = round(abs(angle) * 3600 * 1_000_000)
    degrees, rest = divmod(units, 3600 * 1_000_000)
    minutes, micro = divmod(rest, 60 * 1_000_000)
    return IFDRational(degrees, 1), IFDRational(minutes, 1), IFDRational(micro, 1_000_000)


def _xmp(pose: Pose) -> str:
    heading = (pose.heading + 180) % 360 - 180
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" '
        f'drone-dji:RelativeAltitude="{pose.altitude:+.2f}" drone-dji:GimbalYawDegree="{heading:+.2f}" '
        f'drone-dji:FlightYawDegree="{heading:+.2f}" drone-dji:GimbalPitchDegree="-90.00"/></rdf:RDF></x:xmpmeta>'
    )
