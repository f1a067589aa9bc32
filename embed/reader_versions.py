"""Which files are read otherwise than when rows were first made of them, so that these are embedded again and no others.

A version is a few words that name what is read otherwise; '' for a file that is read as ever. Only a file's head is looked at.
When a way of reading changes again, its word here gets another number.

A PNG whose pixels are damaged was once embedded as far as it could be decoded. Its head does not say so: such files are read
whole, once each (`keeps_checksums`, `damage_of`), and `outcrop.ingest.checked` remembers those that are sound.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from PIL import ExifTags, Image

from outcrop.embed.adobe_rgb import OPTION_FILE, names_adobe_rgb
from outcrop.embed.colours import transform_of
from outcrop.embed.exif import quick_exif
from outcrop.embed.formats import format_of, png_damage
from outcrop.embed.geotiff import with_position
from outcrop.embed.photo import has_rolled_over, metadata_of, offset_of, position_of, tiff_exif
from outcrop.embed.png_keys import colour_key
from outcrop.embed.remarks import collected
from outcrop.embed.tiff import alpha_of, directories, is_shown_wrongly, packet_of, picture_of, raw_kind
from outcrop.embed.xmp import XMP_LIMIT, dji_position, has_decimal_commas, packet

PROFILE, RAW, NODATA, SAMPLES, SIDES, POSITION, TIME, GEOTIFF, TRANSPARENT, ALPHA, COMMAS, ROLL = (
    "profile1",
    "raw1",
    "nodata1",
    "samples1",
    "sides1",
    "position1",
    "time1",
    "geotiff1",
    "transparent1",
    "alpha1",
    "commas1",
    "roll1",
)
_OFFSET = re.compile(rb"[+-]\d\d:[0-5]\d\0")


def reader_version(path: Path, *, cropped: bool = False) -> str:
    """The version of the reader of a picture file; '' where it is read as ever, or cannot be looked at (its reader says why).

    `cropped` is for references, which are cut out by the sides that `outcrop.embed.images.inspect` gives.
    """
    try:
        stat = path.stat()
    except OSError:
        return ""
    return _looked_at(str(path), stat.st_size, stat.st_mtime_ns, cropped)[0]


def keeps_checksums(path: Path, *, cropped: bool = False) -> bool:
    """Whether a file keeps checksums of its pixels that were not always compared: a PNG, by its first bytes.

    Asked with the same `cropped` as `reader_version` was, it opens no file.
    """
    try:
        stat = path.stat()
    except OSError:
        return False
    return _looked_at(str(path), stat.st_size, stat.st_mtime_ns, cropped)[1] == "PNG"


def damage_of(data: bytes) -> str:
    """What the checksums of a file with these bytes find damaged ('' for nothing, and where it keeps none)."""
    return png_damage(data) if format_of(data[:64]) == "PNG" else ""


@functools.lru_cache(maxsize=4096)
def _looked_at(path: str, size: int, time: int, cropped: bool) -> tuple[str, str]:
    """The version of a file's reader, and its format."""
    kind = ""
    with collected():
        try:
            with Path(path).open("rb") as file:
                kind = format_of(file.read(64))
                file.seek(0)
                return version_of(file, cropped=cropped), kind
        except Exception:  # noqa: BLE001  a damaged file fails where it is decoded, with its reason
            return "", kind


def version_of(file: IO[bytes], *, cropped: bool = False) -> str:
    """The same of an opened file. Raises whatever a damaged one makes its reader raise."""
    head = file.read(64)
    kind = format_of(head)
    file.seek(0)
    if kind == "TIFF":
        return " ".join(_of_tiff(file, head, cropped))
    keyed = False
    if kind == "JPEG":
        profile, exif, xmp = _segments(file)
    elif kind in ("PNG", "WEBP", "AVIF"):
        if kind == "PNG":
            keyed = bool(colour_key(file))
            file.seek(0)
        with Image.open(file, formats=(kind,)) as image:
            profile, exif, xmp = image.info.get("icc_profile") or b"", image.info.get("exif") or b"", packet(image)
    else:
        return ""
    said = _of_profile(profile) if profile or kind != "JPEG" else _of_option_file(exif)
    return " ".join([*said, *([TRANSPARENT] if keyed else []), *_of_metadata(exif, xmp)])


def _of_profile(profile: Any) -> list[str]:
    return [PROFILE] if isinstance(profile, bytes) and profile and isinstance(transform_of(profile), tuple) else []


def _of_option_file(data: bytes) -> list[str]:
    if OPTION_FILE.encode() not in data:
        return []
    exif = Image.Exif()
    exif.load(data)
    return [PROFILE] if names_adobe_rgb(exif.get_ifd(ExifTags.IFD.Interop)) else []


def _of_metadata(data: bytes, xmp: bytes) -> list[str]:
    odd = [*([COMMAS] if has_decimal_commas(xmp) else []), *([ROLL] if has_rolled_over(xmp) else [])]
    if dji_position(xmp) is None and not _OFFSET.search(data):
        return odd  # most photographs: their EXIF need not be parsed
    if (tags := quick_exif(data)) is not None:
        return [*odd, *_of_facts(position_of(tags.gps, xmp)[2], tags.camera)]
    exif = Image.Exif()
    exif.load(data)
    return [*odd, *_of_exif(exif, xmp)]


def _of_exif(exif: Image.Exif, xmp: bytes) -> list[str]:
    return _of_facts(metadata_of(exif, xmp).position_source, exif.get_ifd(ExifTags.IFD.Exif))


def _of_facts(position_source: str | None, camera: Mapping[int, Any]) -> list[str]:
    found = [POSITION] if position_source == "xmp" else []
    # The offset of the file's edit was taken where the photograph's own was missing.
    edited = offset_of(camera, ExifTags.Base.OffsetTime) and not offset_of(camera, ExifTags.Base.OffsetTimeOriginal)
    return [*found, TIME] if edited and ExifTags.Base.DateTimeOriginal in camera else found


def _of_tiff(file: IO[bytes], head: bytes, cropped: bool) -> list[str]:
    found = directories(file)
    page = picture_of(found)
    if raw_kind(head, found) or page is not found[0]:
        return [RAW]
    file.seek(0)
    said = [NODATA] if page.nodata is not None else []
    said += [SAMPLES] if is_shown_wrongly(page) or page.numbers(258) == (12,) else []
    by_hand = is_shown_wrongly(page) or (page.samples == 2 and page.numbers(258)[:1] != (8,))
    said += [ALPHA] if by_hand and alpha_of(page) is not None else []
    said += [SIDES] if cropped and page.orientation >= 5 else []
    exif = (
        tiff_exif(file, page.offset)
        if ExifTags.IFD.Exif in page.tags or ExifTags.IFD.GPSInfo in page.tags
        else Image.Exif()
    )
    facts = metadata_of(exif, packet_of(page))
    placed = [GEOTIFF] if with_position(facts, page).position_source == "geotiff" else []
    rolled = [ROLL] if has_rolled_over(packet_of(page)) else []
    return [*said, *_of_profile(page.tags.get(34675)), *_of_exif(exif, packet_of(page)), *placed, *rolled]


def _segments(file: IO[bytes]) -> tuple[bytes, bytes, bytes]:
    """The colour profile, the EXIF and the XMP packet of a JPEG, from the segments before its pixels."""
    parts: dict[int, bytes] = {}
    exif = xmp = b""
    file.seek(2)
    while len(marker := file.read(4)) == 4 and marker[0] == 0xFF and marker[1] not in (0xDA, 0xD9):
        length = int.from_bytes(marker[2:], "big") - 2
        if marker[1] not in (0xE1, 0xE2) or length < 0:
            file.seek(max(length, 0), io.SEEK_CUR)
            continue
        body = file.read(length)
        if body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = xmp or body.partition(b"\0")[2][:XMP_LIMIT]
        elif body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            parts[body[12]] = body[14:]
    return b"".join(parts[number] for number in sorted(parts)), exif, xmp
