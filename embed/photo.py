"""What a drone photo says about itself: position, height above ground, heading and time.

Read from EXIF (CIPA DC-008) and from the XMP packet that DJI aircraft write (namespace ``drone-dji``). A photo's metadata is
often damaged or absent, and a picture is worth embedding without it: what cannot be read is None, and nothing here raises. A
directory that is there but damaged is noted as a remark of the picture (`outcrop.embed.remarks`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Literal

from PIL import ExifTags, Image

from outcrop.embed.adobe_rgb import names_adobe_rgb
from outcrop.embed.exif import QuickExif, quick_exif
from outcrop.embed.remarks import note
from outcrop.embed.xmp import dji_number, dji_position, packet
from outcrop.schema.angles import top_heading

FAR = 0.01
"""Degrees between the EXIF and the XMP position of one photo from which the two are remarked on (about a kilometre)."""

_MOMENT = re.compile(r"([0-9]{4}):([0-9]{2}):([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
_OFFSET = re.compile(r"[+-](?:0\d|1[0-4]):[0-5]\d|Z")


@dataclass(frozen=True)
class PhotoMetadata:
    """Where, how high, which way and when a photo was taken; None where the photo does not say.

    `latitude` and `longitude` are WGS 84 degrees, positive north and east, and `position_source` says whether they are EXIF's
    ("exif"), DJI's XMP ("xmp"), of the telemetry beside a film ("srt"), or a GeoTIFF's, of the middle of the picture
    ("geotiff"); `relative_altitude` is metres above the take-off point and `absolute_altitude` metres above the sea or the
    ellipsoid; `yaw` is degrees clockwise from north in [0, 360), to the picture's top, by the gimbal where known, otherwise the
    aircraft; `captured_at` is ISO 8601 local time, with the UTC offset where the camera wrote one; `pitch` is the gimbal's, in
    degrees, -90 straight down; `focal_length_35mm` is the focal length in millimetres that would show as much on film 36 mm
    wide, along the picture's longer side.
    """

    latitude: float | None = None
    longitude: float | None = None
    relative_altitude: float | None = None
    yaw: float | None = None
    captured_at: str | None = None
    pitch: float | None = None
    focal_length_35mm: float | None = None
    position_source: Literal["exif", "xmp", "geotiff", "srt"] | None = None
    absolute_altitude: float | None = None


def read_metadata(image: Image.Image) -> PhotoMetadata:
    """The metadata of an opened picture. Never raises: unreadable fields are None. Load a PNG first: its EXIF may stand behind
    the pixels, and Pillow loads them to find out, in which case their damage would go unnoticed here."""
    quick = _quick(image)
    return (
        metadata_of(_exif(image), packet(image)) if quick is None else facts_of(quick.gps, quick.camera, packet(image))
    )


def metadata_of(exif: Image.Exif, xmp: bytes) -> PhotoMetadata:
    """What EXIF and an XMP packet say; never raises."""
    return facts_of(_directory(exif, ExifTags.IFD.GPSInfo), _directory(exif, ExifTags.IFD.Exif), xmp)


def facts_of(gps: Mapping[int, Any], camera: Mapping[int, Any], xmp: bytes) -> PhotoMetadata:
    """What two directories of EXIF and an XMP packet say; never raises."""
    latitude, longitude, source = position_of(gps, xmp)
    return PhotoMetadata(
        latitude=latitude,
        longitude=longitude,
        relative_altitude=dji_number(xmp, "RelativeAltitude"),
        yaw=_heading(xmp),
        captured_at=_captured_at(camera),
        pitch=dji_number(xmp, "GimbalPitchDegree"),
        focal_length_35mm=_focal_length(camera),
        position_source=source,
        absolute_altitude=_absolute_altitude(gps, xmp),
    )


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where it is missing, damaged or out of range."""
    quick = _quick(image)
    if quick is not None and (stated := quick.base.get(ExifTags.Base.Orientation)) is not None:
        return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1
    try:
        value = _exif(image).get(ExifTags.Base.Orientation, 1)  # Pillow also looks for one in XMP
    except Exception as error:  # noqa: BLE001  Pillow raises whatever its parsers trip over; a damaged tag means "as it lies"
        _damaged(error)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def in_adobe_rgb(image: Image.Image) -> bool:
    """Whether an opened picture's EXIF says that it is in Adobe RGB. Never raises."""
    quick = _quick(image)
    try:
        return names_adobe_rgb(_exif(image).get_ifd(ExifTags.IFD.Interop) if quick is None else quick.interop)
    except Exception as error:  # noqa: BLE001  see read_orientation
        _damaged(error)
        return False


def tiff_exif(file: IO[bytes], offset: int) -> Image.Exif:
    """The EXIF of a TIFF's directory at an offset, whatever its pixels are; empty where it is damaged."""
    exif = Image.Exif()
    try:
        file.seek(0)
        head = file.read(4)
        exif.endian, exif.bigtiff = "<" if head[:2] == b"II" else ">", b"+" in head[2:]
        exif.load_from_fp(file, offset)
    except Exception as error:  # noqa: BLE001  see read_orientation
        _damaged(error)
        return Image.Exif()
    return exif


def _quick(image: Image.Image) -> QuickExif | None:
    """The tags of a JPEG's EXIF; None where they are Pillow's to read."""
    return quick_exif(image.info.get("exif", b"")) if image.format in ("JPEG", "MPO") else None


def _exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception as error:  # noqa: BLE001  see read_orientation
        _damaged(error)
        return Image.Exif()


def _directory(exif: Image.Exif, which: ExifTags.IFD) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(which)
    except Exception as error:  # noqa: BLE001  see read_orientation
        _damaged(error)
        return {}


def _damaged(error: Exception) -> None:
    note(f"its EXIF is damaged ({str(error) or type(error).__name__})")


def position_of(gps: Mapping[int, Any], xmp: bytes) -> tuple[float | None, float | None, Literal["exif", "xmp"] | None]:
    """Latitude, longitude and which of the two packets gave them; EXIF's, unless it has none or only whole seconds (31 m)."""
    exif, dji = _exif_position(gps), dji_position(xmp)
    if exif is None:
        return (*dji, "xmp") if dji is not None else (None, None, None)
    if dji is None or not _whole_seconds(gps):
        return *exif, "exif"
    if max(abs(one - other) for one, other in zip(exif, dji, strict=True)) > FAR:
        note("its EXIF and its XMP place it more than a kilometre apart; the XMP position is used")
    return *dji, "xmp"


def _absolute_altitude(gps: Mapping[int, Any], xmp: bytes) -> float | None:
    """DJI's, else that of EXIF, whose reference says with 1 (or 3, of the ellipsoid) that it lies below."""
    stated = dji_number(xmp, "AbsoluteAltitude")
    if stated is not None:
        return stated
    try:
        metres = float(gps[ExifTags.GPS.GPSAltitude])
        reference = gps.get(ExifTags.GPS.GPSAltitudeRef, 0)
        below = (reference[0] if isinstance(reference, bytes) else int(reference)) in (1, 3)
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError):
        return None
    return (-metres if below else metres) if math.isfinite(metres) else None


def _exif_position(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    """Latitude and longitude, both or neither. A missing hemisphere is unknown, not north or east; (0, 0) is
    what receivers write before they have a fix."""
    latitude = _angle(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "N", "S", 90.0)
    longitude = _angle(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "E", "W", 180.0)
    if latitude is None or longitude is None or (latitude == 0.0 and longitude == 0.0):
        return None
    return latitude, longitude


def _whole_seconds(gps: Mapping[int, Any]) -> bool:
    """Whether both angles are given to the second only (degrees and minutes without fractions, too)."""
    parts = [*gps[ExifTags.GPS.GPSLatitude], *gps[ExifTags.GPS.GPSLongitude]]
    return all(float(part).is_integer() for part in parts)


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
        text = _text(camera[ExifTags.Base.DateTimeOriginal])
        usual = _MOMENT.fullmatch(text)  # `strptime` takes ten times as long, and also what other programs write
        taken = datetime(*map(int, usual.groups())) if usual else datetime.strptime(text, "%Y:%m:%d %H:%M:%S")  # type: ignore[arg-type]  # six
    except (KeyError, ValueError):
        return None
    # OffsetTime is not asked: it belongs to DateTime, the file's last edit, which may have happened in another country.
    return taken.isoformat() + offset_of(camera, ExifTags.Base.OffsetTimeOriginal)


def offset_of(camera: Mapping[int, Any], tag: int) -> str:
    """The UTC offset that a tag gives (``+09:00``); '' where it is missing or damaged."""
    offset = _text(camera.get(tag))
    return offset if _OFFSET.fullmatch(offset) else ""


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return str(value).strip("\0 ") if value is not None else ""


def _heading(xmp: bytes) -> float | None:
    """The gimbal's, else the aircraft's; DJI writes (-180, 180]."""
    gimbal = dji_number(xmp, "GimbalYawDegree")
    if gimbal is None:
        return top_heading(dji_number(xmp, "FlightYawDegree"), None, None)
    return top_heading(gimbal, dji_number(xmp, "GimbalPitchDegree"), dji_number(xmp, "GimbalRollDegree"))


def has_rolled_over(xmp: bytes) -> bool:
    """Whether the camera's heading is not the yaw that is written."""
    yaw = dji_number(xmp, "GimbalYawDegree")
    return yaw is not None and _heading(xmp) != top_heading(yaw, None, None)
