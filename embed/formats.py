"""Which format the bytes of a file are, by their first bytes; what is wrong with those that are no readable picture.

Formats that run other programs (EPS starts Ghostscript) or that are not photographs are never opened.
"""

from __future__ import annotations

import re

# Importing a plugin registers its format, so none of the names is used (F401); these are all that is ever opened.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from outcrop.embed.remarks import listen
from outcrop.schema.pngs import png_damage as png_damage

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000", "AVIF")

listen()

_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
_ANYMAP = re.compile(rb"P(?:[1-6f]|yP|yRGBA|yCMYK)\s+[#\d]")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""Bytes of the second header of a BMP, which distinguish its versions; the two letters before it can begin any text."""
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_RAW = {
    b"IIRO": "Olympus ORF",
    b"IIRS": "Olympus ORF",
    b"MMOR": "Olympus ORF",
    b"IIU\0": "Panasonic RW2",
    b"FUJIFILMCCD-RAW": "Fujifilm RAF",
    b"FOVb": "Sigma X3F",
    b"\0MRM": "Minolta MRW",
}
_OTHER = {
    b"8BPS": "a Photoshop file (PSD); export it as TIFF or JPEG",
    b"v/1\x01": "an OpenEXR file; export it as a 32-bit TIFF",
    b"#?RADIANCE": "a Radiance HDR file; export it as a 32-bit TIFF",
    b"%PDF": "a PDF, not a picture; export its picture as JPEG or PNG",
    b"%!PS": "PostScript, not a picture; export it as PNG",
    b"\xff\x0a": "a JPEG XL file; convert it to JPEG (djxl in.jxl out.jpg)",
    b"\0\0\0\x0cJXL \r\n\x87\n": "a JPEG XL file; convert it to JPEG (djxl in.jxl out.jpg)",
    b"II\xbc\x01": "a JPEG XR file; convert it to JPEG or TIFF",
    b"\x89HDF": "an HDF5 file, not a picture; export its bands as GeoTIFF",
    b"PK\x03\x04": "a ZIP archive, not a picture; unpack it",
    b"\x1aE\xdf\xa3": "a video, not a picture; type `ingest video` for its frames",
}


def format_of(data: bytes) -> str:
    """The format that a file's first bytes announce: one of `FORMATS`, "HEIF", "raw" (cameras' own, not TIFF), or ''."""
    for start, kind in _STARTS.items():
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if _ANYMAP.match(data):
        return "PPM"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        compatible = data[16 : min(int.from_bytes(data[:4], "big"), 128)]
        if brand in (b"avif", b"avis") or (brand in (b"mif1", b"msf1") and b"avif" in compatible):
            return "AVIF"
        if brand in _HEIF:
            return "HEIF"
    return "raw" if raw_name(data) else ""


def raw_name(data: bytes) -> str:
    """The name of a camera's raw format that is not a TIFF; '' for everything else."""
    if data[4:11] == b"ftypcrx":
        return "Canon CR3"
    return next((name for start, name in _RAW.items() if data.startswith(start)), "")


def what_it_is(data: bytes) -> str:
    """A guess at what a file holds that is not a picture, and what to do about it."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page, not a picture (a failed download?); download it again"
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in data[:4096].lower():
        return "an SVG drawing, not a picture; export it as PNG"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the picture itself; run git lfs pull"
    if not any(data):
        return "only zero bytes, not a picture; copy it again"
    if data[4:8] == b"ftyp":
        return "a video (or a picture in an unknown ISO container), not a picture; `ingest video` for frames, or export JPEG"
    if data[128:132] == b"DICM":
        return "a DICOM file; export its picture as PNG or TIFF"
    for start, name in _OTHER.items():
        if data.startswith(start):
            return name
    return f"not a picture that can be read, or damaged in its first bytes; give one of {', '.join(FORMATS)}"


def jpeg_trouble(data: bytes) -> str:
    """Why a JPEG cannot be decoded that is not damaged (12 bits, lossless, JPEG-LS), with the way out; '' where it can."""
    place = 2
    while data[place : place + 1] == b"\xff":
        marker = data[place + 1] if place + 1 < len(data) else 0
        if marker == 0xFF:  # fill bytes
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and place + 4 < len(data):
            bits = data[place + 4]
            if marker in (0xC3, 0xC7, 0xCB, 0xCF):
                return f"a lossless JPEG of {bits} bits; convert it to PNG or an 8-bit JPEG"
            if bits != 8:
                return f"a JPEG of {bits} bits a sample; convert it to an 8-bit JPEG or a 16-bit TIFF or PNG"
            return ""
        elif marker == 0xF7:
            return "a JPEG-LS file; convert it to PNG or an 8-bit JPEG"
        elif marker == 0xDA:
            return ""
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return ""


def png_says_something(data: bytes) -> bool:
    """Whether a PNG may have EXIF or XMP, be it behind its pixels."""
    return any(mark in data for mark in (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type"))
