"""What a drone photo says about itself: position, height above ground, heading and time.

Read from EXIF (CIPA DC-008) and from the XMP packet that DJI aircraft write (namespace ``drone-dji``). A
photo's metadata is often damaged or absent, and a picture is worth embedding without it: what cannot be read
is None, and nothing here raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

XMP_LIMIT = 1 << 20
"""Bytes of an XMP packet that are looked at. DJI's are 2 to 8 KB; the rest of a bigger one is padding or
previews."""

_OFFSET = re.compile(r"[+-](?:0\d|1[0-4]):[0-5]\d|Z")


@dataclass(frozen=True)
class PhotoMetadata:
    """Where, how high, which way and when a photo was taken; None where the photo does not say.

    `latitude` and `longitude` are WGS 84 degrees, positive north and east; `relative_altitude` is metres
    above the take-off point; `yaw` is degrees clockwise from north in [0, 360), of the gimbal where known,
    otherwise of the aircraft; `captured_at` is ISO 8601 local time, with the UTC offset where the camera
    wrote one; `pitch` is the gimbal's, in degrees, -90 straight down; `focal_length_35mm` is the focal length in
    millimetres that would show as much on film 36 mm wide, along the picture's longer side.
    """

    latitude: float | None = None
    longitude: float | None = None
    relative_altitude: float | None = None
    yaw: float | None = None
    captured_at: str | None = None
    pitch: float | None = None
    focal_length_35mm: float | None = None


def read_metadata(image: Image.Image) -> PhotoMetadata:
    """The metadata of an opened picture (its pixels need not be loaded). Never raises: unreadable fields are
    None."""
    gps = _directory(image, ExifTags.IFD.GPSInfo)
    camera = _directory(image, ExifTags.IFD.Exif)
    xmp = _xmp(image)
    latitude, longitude = _position(gps)
    gimbal = _dji_number(xmp, "GimbalYawDegree")
    return PhotoMetadata(
        latitude=latitude,
        longitude=longitude,
        relative_altitude=_dji_number(xmp, "RelativeAltitude"),
        yaw=_heading(gimbal if gimbal is not None else _dji_number(xmp, "FlightYawDegree")),
        captured_at=_captured_at(camera),
        pitch=_dji_number(xmp, "GimbalPitchDegree"),
        focal_length_35mm=_focal_length(camera),
    )


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where it is missing, damaged or out of range."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  Pillow raises whatever its parsers trip over; a damaged tag means "as it lies"
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _directory(image: Image.Image, which: ExifTags.IFD) -> Mapping[int, Any]:
    try:
        return image.getexif().get_ifd(which)
    except Exception:  # noqa: BLE001  see read_orientation
        return {}


def _position(gps: Mapping[int, Any]) -> tuple[float | None, float | None]:
    """Latitude and longitude, both or neither. A missing hemisphere is unknown, not north or east; (0, 0) is
    what receivers write before they have a fix."""
    latitude = _angle(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "N", "S", 90.0)
    longitude = _angle(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "E", "W", 180.0)
    if latitude is None or longitude is None or (latitude == 0.0 and longitude == 0.0):
        return None, None
    return latitude, longitude


def _angle(parts: Any, reference: Any, positive: str, negative: str, limit: float) -> float | None:
    """Degrees from EXIF's (degrees, minutes, seconds) rationals and its hemisphere letter."""
    try:
        degrees, minutes, seconds = (float(part) for part in parts)
        letter = (reference.decode("ascii") if isinstance(reference, bytes) else str(reference)).strip("\0 ").upper()
    except (TypeError, ValueError, ArithmeticError):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if letter not in (positive, negative) or min(degrees, minutes, seconds) < 0 or not value <= limit:
        return None  # NaN fails the last comparison too
    return -value if letter == negative else value


def _focal_length(camera: Mapping[int, Any]) -> float | None:
    """The focal length on 36 mm film: as stated, else from the lens's own and the sensor's pixels per inch or centimetre."""
    stated = _positive(camera.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if stated is not None:
        return stated
    unit = {2: 25.4, 3: 10.0}.get(camera.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    length, density, across, down = (
        _positive(camera.get(tag))
        for tag in (
            ExifTags.Base.FocalLength,
            ExifTags.Base.FocalPlaneXResolution,
            ExifTags.Base.ExifImageWidth,
            ExifTags.Base.ExifImageHeight,
        )
    )
    if unit is None or length is None or density is None or across is None:
        return None
    return length * 36.0 * density / (max(across, down or 0.0) * unit)


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _captured_at(camera: Mapping[int, Any]) -> str | None:
    try:
        taken = datetime.strptime(_text(camera[ExifTags.Base.DateTimeOriginal]), "%Y:%m:%d %H:%M:%S")
    except (KeyError, ValueError):
        return None
    offsets = (_text(camera.get(tag)) for tag in (ExifTags.Base.OffsetTimeOriginal, ExifTags.Base.OffsetTime))
    offset = next((text for text in offsets if _OFFSET.fullmatch(text)), "")
    return taken.isoformat() + offset


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return str(value).strip("\0 ") if value is not None else ""


def _xmp(image: Image.Image) -> bytes:
    """The first `XMP_LIMIT` bytes of the XMP packet. It is searched with patterns, never given to an XML
    parser, so that entities and nesting in a hostile file cost nothing."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(packet, str):
        packet = packet[:XMP_LIMIT].encode("utf-8", "replace")
    return bytes(packet[:XMP_LIMIT]) if isinstance(packet, (bytes, bytearray)) else b""


def _dji_number(xmp: bytes, name: str) -> float | None:
    """A finite number of DJI's namespace, written as an attribute (``name="+1.5"``) or as an element."""
    tag = re.escape(f"drone-dji:{name}".encode())
    value = rb"\s{0,8}([+-]?\d{1,9}(?:\.\d{0,12})?)\s{0,8}"
    found = re.search(tag + rb"\s{0,8}=\s{0,8}[\"']" + value + rb"[\"']", xmp)
    found = found or re.search(rb"<" + tag + rb"\s{0,8}>" + value + rb"</" + tag, xmp)
    return float(found.group(1)) if found else None


def _heading(degrees: float | None) -> float | None:
    """Degrees in [0, 360); DJI writes (-180, 180]."""
    if degrees is None or not math.isfinite(degrees):
        return None
    turned = degrees % 360.0
    return 0.0 if turned == 360.0 else turned  # a tiny negative angle rounds up to 360
