"""Adobe RGB (1998) of photographs that name it in EXIF alone: cameras set to it embed no profile (DCF 2.0, "DCF option file")."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping

OPTION_FILE = "R03"
"""InteropIndex of a photograph in Adobe RGB; those in sRGB have R98."""
_D50 = (0.9642, 1.0, 0.8249)
_COLOURS = {b"r": (0.60974, 0.31111, 0.01947), b"g": (0.20528, 0.62567, 0.06087), b"b": (0.14919, 0.06322, 0.74457)}
"""The primaries as XYZ of D50, and the exponent (Adobe RGB (1998) Color Image Encoding, 2005-05, 4.3)."""
_GAMMA = 0x0233


def names_adobe_rgb(interoperability: Mapping[int, object]) -> bool:
    """Whether EXIF's directory of interoperability says that the picture is in Adobe RGB."""
    index = interoperability.get(1, "")
    text = index.decode("ascii", "replace") if isinstance(index, bytes) else str(index)
    return text.strip("\0 ") == OPTION_FILE


@functools.cache
def adobe_rgb() -> bytes:
    """An ICC profile (version 2, matrix and curves) of Adobe RGB."""
    xyz = {letter + b"XYZ": _xyz(colour) for letter, colour in _COLOURS.items()}
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, _GAMMA) + bytes(2)
    name = b"desc" + bytes(4) + struct.pack(">I", 10) + b"Adobe RGB\0" + bytes(78 + 2 + 2)
    tags = {b"desc": name, b"cprt": b"text" + bytes(8), b"wtpt": _xyz(_D50), **xyz}
    tags |= {letter + b"TRC": curve for letter in _COLOURS}
    place, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", place + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    head = head.ljust(68, b"\0") + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + table + body


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)
