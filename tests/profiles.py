"""ICC profiles written by hand, and what they mean in numpy: nothing here knows Little CMS."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

D50 = np.array([0.9642, 1.0, 0.8249])
ADOBE = ((0.6400, 0.3300), (0.2100, 0.7100), (0.1500, 0.0600)), (0.3127, 0.3290), 563 / 256
P3 = ((0.6800, 0.3200), (0.2650, 0.6900), (0.1500, 0.0600)), (0.3127, 0.3290), 2.2
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585), 1.8
SRGB = ((0.6400, 0.3300), (0.3000, 0.6000), (0.1500, 0.0600)), (0.3127, 0.3290), 0.0

Space = tuple[tuple[tuple[float, float], ...], tuple[float, float], float]


def to_d50(space: Space) -> NDArray[np.float64]:
    """The matrix from linear RGB to XYZ of D50, adapted by Bradford's method (ICC.1 annex E)."""
    primaries, white, _ = space
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    light = np.array([white[0] / white[1], 1.0, (1 - sum(white)) / white[1]])
    matrix = xyz * np.linalg.solve(xyz, light)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gain = (bradford @ D50) / (bradford @ light)
    return np.linalg.inv(bradford) @ np.diag(gain) @ bradford @ matrix


def in_srgb(pixels: NDArray[np.uint8], space: Space) -> NDArray[np.float64]:
    """What 8-bit pixels [..., 3] of a space are in sRGB (0 to 255, clipped)."""
    linear = (pixels / 255.0) ** space[2]
    rgb = np.clip(linear @ to_d50(space).T @ np.linalg.inv(to_d50(SRGB)).T, 0, 1)
    return 255 * np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(colours: bytes, pcs: bytes, device: bytes, tags: dict[bytes, bytes]) -> bytes:
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, place + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s12s4s4sI4sIQI12s4s", place + len(body), b"none", 0x02400000, device, colours, pcs, bytes(12), b"acsp",
        b"none", 0, b"none", 0, 0, 0, _fixed(*D50), b"none",
    )  # fmt: skip
    return head + bytes(128 - len(head)) + table + body


def _text(text: str) -> dict[bytes, bytes]:
    words = text.encode() + b"\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(words)) + words + bytes(4 + 4 + 2 + 1 + 67)
    return {b"desc": described, b"cprt": b"text" + bytes(4) + b"none\0"}


def _gamma(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _srgb_curve() -> bytes:
    x = np.linspace(0, 1, 1024)
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *np.rint(y * 65535).astype(int))


def rgb_profile(space: Space, name: str = "some RGB") -> bytes:
    """A matrix profile of an RGB space."""
    matrix = to_d50(space)
    curve = _gamma(space[2]) if space[2] else _srgb_curve()
    tags = _text(name) | {b"wtpt": b"XYZ " + bytes(4) + _fixed(*D50)}
    for number, letter in enumerate((b"r", b"g", b"b")):
        tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(*matrix[:, number])
        tags[letter + b"TRC"] = curve
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags)


def grey_profile(gamma: float) -> bytes:
    """A grey space of one gamma; 0 is sRGB's own curve."""
    curve = _gamma(gamma) if gamma else _srgb_curve()
    tags = _text("some grey") | {b"wtpt": b"XYZ " + bytes(4) + _fixed(*D50), b"kTRC": curve}
    return _profile(b"GRAY", b"XYZ ", b"mntr", tags)


def cmyk_profile() -> bytes:
    """A press whose every mixture is plain: its table has the Lab colour of each of the 16 mixtures of full inks.

    It is not the naive one that Pillow uses: cyan prints as (0, 120, 200), as inks do.
    """
    entries = b""
    for index in range(16):
        inks = [index >> 3 & 1, index >> 2 & 1, index >> 1 & 1, index & 1]
        entries += bytes(_lab8(printed(inks)))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4 + entries + ramp * 3
    tags = _text("some press") | {b"wtpt": b"XYZ " + bytes(4) + _fixed(*D50)}
    tags |= {name: table for name in (b"A2B0", b"A2B1", b"A2B2")}
    return _profile(b"CMYK", b"Lab ", b"prtr", tags)


INKS = np.array([(0, 120, 200), (200, 20, 110), (250, 230, 0), (25, 25, 25)])


def printed(inks: list[int]) -> NDArray[np.float64]:
    """The sRGB colour of full inks on white paper: what all of them let through."""
    passed = np.prod([INKS[n] / 255.0 for n in range(4) if inks[n]] or [np.ones(3)], axis=0)
    return 255 * passed


def _lab8(rgb: NDArray[np.float64]) -> tuple[int, int, int]:
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    ratio = to_d50(SRGB) @ linear / D50
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    lightness, a, b = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
    return round(lightness * 2.55), round(a + 128), round(b + 128)
