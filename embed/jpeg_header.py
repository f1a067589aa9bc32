"""The header of an ordinary JPEG, read straight from its bytes: Pillow takes longer for it than one process does for all else of
a photograph that is decoded elsewhere.

What is said here is what Pillow would say. Anything odd (a colour profile, several pictures in one file, segments that come
twice, a size near a limit) is left to it, with its reasons.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from PIL import ExifTags, Image

from outcrop.embed.adobe_rgb import names_adobe_rgb
from outcrop.embed.exif import SIZES, QuickExif, quick_exif
from outcrop.embed.images import DRAFT_MARGIN, MIN_SIDE, JpegHeader, opened_jpeg
from outcrop.embed.jpeg import Markers, scale_of
from outcrop.embed.photo import PhotoMetadata, facts_of
from outcrop.embed.remarks import collected
from outcrop.embed.xmp import XMP_LIMIT

AtLeast = tuple[int, int] | Callable[[int, int, PhotoMetadata], tuple[int, int]] | None
"""The least height and width (pixels, upright) to be decoded, or what says them of a photograph's width, height and metadata;
None for all of it."""

_EXIF, _XMP, _PROFILE, _SEVERAL = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"MPF\0"
_TABLE, _SCAN = 0xDB, 0xDA
_USUAL = frozenset((0xC0, 0xC1, 0xC2, 0xC4, _TABLE, 0xDD, *range(0xE0, 0xF0), 0xFE))
"""Markers of frames, tables, restarts, applications and comments. In others Pillow may look for a frame, or for nothing."""
_LEAST = ((0xE0, b"JFIF", 14), (0xEE, b"Adobe", 12), (0xED, b"Photoshop 3.0\0", 1 << 16))
"""Segments in which Pillow reads, by marker and beginning, with the least length at which it finds what it looks for; all those
of Photoshop are left to it."""


def header_of(data: bytes, markers: Markers, name: str, at_least: AtLeast) -> JpegHeader:
    """What `outcrop.embed.images.decode` would go by with a JPEG whose markers are read.

    Raises:
        PictureError: it cannot be read, as `decode` says it; or what `at_least` raises.
    """
    found = _quick(data, markers, at_least)
    if found is not None:
        return found
    with opened_jpeg(data, name, lambda *sides: _smallest(at_least, *sides)) as header:
        return header


def _smallest(at_least: AtLeast, width: int, height: int, metadata: PhotoMetadata) -> tuple[int, int] | None:
    """The least width and height, upright, at which a scaled decode stops."""
    wanted = at_least(width, height, metadata) if callable(at_least) else at_least
    return None if wanted is None else (DRAFT_MARGIN * wanted[1], DRAFT_MARGIN * wanted[0])


def _quick(data: bytes, markers: Markers, at_least: AtLeast) -> JpegHeader | None:
    packets = _packets(data)
    tags = quick_exif(packets[0]) if packets is not None else None
    if packets is None or tags is None or names_adobe_rgb(tags.interop):
        return None
    stored, orientation = (markers.width, markers.height), _orientation(tags, packets[1])
    if not orientation or min(stored) < MIN_SIDE or stored[0] * stored[1] > (Image.MAX_IMAGE_PIXELS or 0):
        return None
    width, height = stored if orientation < 5 else stored[::-1]
    with collected() as remarks:
        metadata = facts_of(tags.gps, tags.camera, packets[1])
    smallest = _smallest(at_least, width, height, metadata)
    scale = 1 if smallest is None else scale_of((width, height), smallest)
    return JpegHeader(stored, width, height, orientation, scale, True, metadata, tuple(remarks))


def _orientation(tags: QuickExif, xmp: bytes) -> int:
    """As `outcrop.embed.photo.read_orientation`; 0 where Pillow looks for it in XMP."""
    stated = tags.base.get(ExifTags.Base.Orientation)
    if stated is None:
        return 0 if b"Orientation" in xmp else 1
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def _packets(data: bytes) -> tuple[bytes, bytes] | None:
    """The EXIF and the XMP packet of a JPEG; None where a segment before its pixels is not as cameras write it."""
    exif = xmp = b""
    place = 2
    while data[place : place + 1] == b"\xff":
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _SCAN:
            return exif, xmp
        start, end = place + 4, place + 2 + length
        if marker not in _USUAL or any(
            marker == each and length - 2 < least and data.startswith(begun, start) for each, begun, least in _LEAST
        ):
            return None
        if marker == _TABLE and ((length - 2) % 65 or any(number > 3 for number in data[start:end:65])):
            return None  # not tables of bytes, each with its number before it
        if marker == 0xE1 and data.startswith(_EXIF, start):
            if exif:
                return None
            exif = data[start:end]
        elif marker == 0xE1 and data.startswith(_XMP, start):
            if xmp:
                return None
            xmp = data[start + len(_XMP) : end][:XMP_LIMIT]
        elif marker == 0xE2 and _is_odd(data[start:end]):
            return None
        place = end
    return None


def _is_odd(body: bytes) -> bool:
    """Whether a second application segment holds a colour profile, or an index of pictures that is not in order."""
    return body.startswith(_PROFILE) or (body.startswith(_SEVERAL) and not _is_usual(body[len(_SEVERAL) :]))


def _is_usual(index: bytes) -> bool:
    """Whether the index of the pictures of a file (CIPA DC-007), such as the preview behind a photograph, is in perfect order; of
    another one Pillow says what is wrong."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(index[:4])
    try:
        (first,) = struct.unpack_from(f"{order}I", index, 4)
        (count,) = struct.unpack_from(f"{order}H", index, first)
        tags = {}
        for place in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, many, value = struct.unpack_from(f"{order}HHII", index, place)
            size = SIZES.get(kind, 0) * many
            if tag in tags or not size or (size > 4 and value + size > len(index)):
                return False
            tags[tag] = (kind, many, value)
        pictures = tags[0xB001][2]
        if tags[0xB001][:2] != (4, 1) or tags[0xB002][:2] != (7, 16 * pictures) or pictures < 2:
            return False
        kinds = struct.unpack_from(f"{order}{'I12x' * pictures}", index, tags[0xB002][2])
    except (struct.error, KeyError):
        return False
    return not any(kind & 0x07000000 for kind in kinds)  # each is a JPEG
