"""The checksums of PNG files, which Pillow compares for some parts only."""

from __future__ import annotations

import struct
import zlib

PNG_START = b"\x89PNG\r\n\x1a\n"


def png_damage(data: bytes) -> str:
    """Which part of a PNG is damaged, by its checksums ('' where all are right); Pillow itself skips those of the pixels."""
    place = 8
    view = memoryview(data)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            return "it is cut off"
        # An upper-case first letter marks what is needed to show the picture.
        if not kind[0] & 32 and zlib.crc32(view[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return f"the checksum of {kind.decode('ascii', 'replace')} at byte {place} is wrong"
        if kind == b"IEND":
            return ""
        place = end + 4
    return "it is cut off"
