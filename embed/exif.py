"""The few tags of a photograph's EXIF that are used here, read straight from its bytes (CIPA DC-008, TIFF 6.0).

Pillow reads every tag of every directory, which takes longer than everything else that is done with a photograph's header, and
keeps the threads that decode waiting. So what is in perfect order is read here; anything odd, down to a value of an unusual type
or a tag that comes twice, is left to Pillow, whose answers these are.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import ExifTags

Value = int | str | bytes | float | tuple[float, ...]

_PREFIX = b"Exif\0\0"
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes of a value of each of TIFF's types."""
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL = 1, 2, 3, 4, 5

_BASE: dict[int, tuple[int, ...]] = {
    ExifTags.Base.Orientation: (_SHORT,),
    ExifTags.Base.XResolution: (_RATIONAL,),  # this and the next are only judged: Pillow remarks on odd ones
    ExifTags.Base.ResolutionUnit: (_SHORT,),
    ExifTags.IFD.Exif: (_LONG,),
    ExifTags.IFD.GPSInfo: (_LONG,),
}
"""The tags that are read of each directory, and the types that they may have."""
_CAMERA: dict[int, tuple[int, ...]] = {
    ExifTags.Base.DateTimeOriginal: (_ASCII,),
    ExifTags.Base.OffsetTime: (_ASCII,),
    ExifTags.Base.OffsetTimeOriginal: (_ASCII,),
    ExifTags.Base.FocalLengthIn35mmFilm: (_SHORT, _LONG),
    ExifTags.Base.FocalLength: (_RATIONAL,),
    ExifTags.Base.FocalPlaneXResolution: (_RATIONAL,),
    ExifTags.Base.FocalPlaneResolutionUnit: (_SHORT,),
    ExifTags.Base.ExifImageWidth: (_SHORT, _LONG),
    ExifTags.Base.ExifImageHeight: (_SHORT, _LONG),
    ExifTags.IFD.Interop: (_LONG,),
}
_GPS: dict[int, tuple[int, ...]] = {
    ExifTags.GPS.GPSLatitudeRef: (_ASCII,),
    ExifTags.GPS.GPSLatitude: (_RATIONAL,),
    ExifTags.GPS.GPSLongitudeRef: (_ASCII,),
    ExifTags.GPS.GPSLongitude: (_RATIONAL,),
    ExifTags.GPS.GPSAltitudeRef: (_BYTE,),
    ExifTags.GPS.GPSAltitude: (_RATIONAL,),
}
_INTEROP: dict[int, tuple[int, ...]] = {1: (_ASCII,)}
_THREE = (ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLongitude)
"""Tags of three numbers; the other ones have one."""


@dataclass(frozen=True)
class QuickExif:
    """What is read of each directory, by tag, as Pillow gives it: text without the zero at its end, rationals as floats."""

    base: Mapping[int, Value]
    camera: Mapping[int, Value]
    gps: Mapping[int, Value]
    interop: Mapping[int, Value]


class _Odd(Exception):
    """Something that is left to Pillow."""


@functools.lru_cache(maxsize=32)
def quick_exif(data: bytes) -> QuickExif | None:
    """The tags of an EXIF block as Pillow keeps it (`Image.info`), ``Exif`` and two zeros before it; None where it is not in
    perfect order. An empty block holds nothing."""
    if not data:
        return QuickExif({}, {}, {}, {})
    tiff = data[len(_PREFIX) :]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if not data.startswith(_PREFIX) or order is None:
        return None
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        base = _directory(tiff, order, first, _BASE)
        camera = _pointed(tiff, order, base, ExifTags.IFD.Exif, _CAMERA)
        gps = _pointed(tiff, order, base, ExifTags.IFD.GPSInfo, _GPS)
        interop = _pointed(tiff, order, camera, ExifTags.IFD.Interop, _INTEROP)
    except (_Odd, struct.error):
        return None
    return QuickExif(base, camera, gps, interop)


def _pointed(
    tiff: bytes, order: str, of: Mapping[int, Value], pointer: int, wanted: Mapping[int, tuple[int, ...]]
) -> dict[int, Value]:
    """The directory to which a tag points; nothing where there is no such tag."""
    place = of.get(pointer)
    return _directory(tiff, order, place, wanted) if isinstance(place, int) else {}


def _directory(tiff: bytes, order: str, start: int, wanted: Mapping[int, tuple[int, ...]]) -> dict[int, Value]:
    """The wanted tags of the directory at a place. Raises `_Odd` and `struct.error`."""
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    _bytes(tiff, start + 2 + 12 * count, 4)  # where the next directory is
    found: dict[int, Value] = {}
    for tag, kind, many, inside in struct.iter_unpack(f"{order}HHI4s", _bytes(tiff, start + 2, 12 * count)):
        size = SIZES.get(kind, 0) * many
        if not size:
            raise _Odd
        raw = inside[:size] if size <= 4 else _bytes(tiff, int(struct.unpack(f"{order}I", inside)[0]), size)
        if tag in wanted:
            if tag in found or kind not in wanted[tag]:
                raise _Odd
            found[tag] = _value(raw, order, kind, many, 3 if tag in _THREE else 1)
    return found


def _bytes(tiff: bytes, start: int, size: int) -> bytes:
    raw = tiff[start : start + size]
    if len(raw) != size:
        raise _Odd
    return raw


def _value(raw: bytes, order: str, kind: int, many: int, expected: int) -> Value:
    if kind == _ASCII:
        return raw.removesuffix(b"\0").decode("latin-1")
    if many != expected:
        raise _Odd
    if kind == _BYTE:
        return raw
    if kind != _RATIONAL:
        number: int = struct.unpack(f"{order}{'H' if kind == _SHORT else 'I'}", raw)[0]
        return number
    parts = struct.unpack(f"{order}{2 * many}I", raw)
    if not all(parts[1::2]):
        raise _Odd
    numbers = tuple(over / under for over, under in zip(parts[::2], parts[1::2], strict=True))
    return numbers if expected > 1 else numbers[0]
