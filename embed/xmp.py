"""Fields of an XMP packet, found with patterns: entities and nesting in a hostile file cost nothing, since no XML parser runs."""

from __future__ import annotations

import re

from PIL import Image

XMP_LIMIT = 1 << 20
"""Bytes of an XMP packet that are looked at. DJI's are 2 to 8 KB; the rest of a bigger one is padding or previews."""

_NUMBER = rb"\s{0,8}([+-]?\d{1,9}(?:[.,]\d{0,24})?)\s{0,8}"
_COMMA = re.compile(rb"drone-dji:\w{1,40}(?:\s{0,8}=\s{0,8}[\"']|>)\s{0,8}[+-]?\d{1,9},\d")
MAX_VALUES = 64
"""Values of a list that are read; more bands than any camera for drones has."""


def packet(image: Image.Image) -> bytes:
    """The first `XMP_LIMIT` bytes of an opened picture's XMP packet; empty where it has none."""
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(found, str):
        found = found[:XMP_LIMIT].encode("utf-8", "replace")
    return bytes(found[:XMP_LIMIT]) if isinstance(found, (bytes, bytearray)) else b""


def dji_number(xmp: bytes, *names: str) -> float | None:
    """A finite number of DJI's namespace, an attribute (``name="+1.5"``) or an element; the first of `names` that has one.

    Programs that write the packet again in their user's language may put a comma before the decimals.
    """
    for name in names:
        tag = f"drone-dji:{name}".encode()
        if tag not in xmp:
            continue
        found = re.search(tag + rb"\s{0,8}=\s{0,8}[\"']" + _NUMBER + rb"[\"']", xmp)
        found = found or re.search(rb"<" + tag + rb"\s{0,8}>" + _NUMBER + rb"</" + tag, xmp)
        if found:
            return float(found.group(1).replace(b",", b"."))
    return None


def has_decimal_commas(xmp: bytes) -> bool:
    """Whether a number of DJI's namespace is written with a comma before its decimals."""
    return _COMMA.search(xmp) is not None


def dji_position(xmp: bytes) -> tuple[float, float] | None:
    """Latitude and longitude (WGS 84 degrees) as DJI aircraft write them, some with ``GpsLongtitude`` for longitude.

    None where a part is missing or out of range, or both are 0: that is written before there is a fix.
    """
    latitude = dji_number(xmp, "GpsLatitude", "GPSLatitude", "Latitude")
    longitude = dji_number(xmp, "GpsLongtitude", "GpsLongitude", "GPSLongtitude", "GPSLongitude", "Longitude")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    return None if latitude == 0 and longitude == 0 else (latitude, longitude)


def camera_values(xmp: bytes, name: str) -> tuple[str, ...]:
    """The values of a field of Pix4D's namespace ``Camera``: an attribute or an element with commas, or an rdf list."""
    tag = re.escape(f"Camera:{name}".encode())
    found = re.search(tag + rb"\s{0,8}=\s{0,8}[\"']([^\"'<>]{1,2000})[\"']", xmp)
    if found:
        body = found.group(1)
    elif (opened := re.search(rb"<" + tag + rb"\s{0,8}>", xmp)) is not None:
        end = xmp.find(b"</" + tag, opened.end(), opened.end() + 8000)
        body = xmp[opened.end() : max(end, opened.end())]
    else:
        return ()
    items = re.findall(rb"<rdf:li[^>]{0,100}>([^<]{0,200})</rdf:li", body) if b"<" in body else body.split(b",")
    return tuple(item.decode("utf-8", "replace").strip() for item in items[:MAX_VALUES])
