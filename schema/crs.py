"""Coordinate systems of positions: WGS 84 in degrees as it is, others through pyproj (an extra) or refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from outcrop.schema.errors import InputError

Place = tuple[float, float]
"""Two coordinates; degrees are longitude first here, as in files of positions."""
Turn = Callable[[Sequence[Place]], list[Place]]
"""From coordinates (x, y) of one system to those of another."""

_UTM = re.compile(r"WGS\s?84 UTM (?P<zone>\d{1,2})\s?(?P<half>[NS])\Z", re.IGNORECASE)
_CODE = re.compile(r"EPSG:(?P<code>\d{3,7})\Z", re.IGNORECASE)


def names_system(text: str) -> bool:
    """Whether a line is the name of a coordinate system, as the first line of ODM's geo.txt is."""
    text = text.strip()
    return bool(
        _CODE.match(text) or _UTM.match(text) or text.startswith("+proj=") or text.upper() in ("WGS84", "WGS 84")
    )


def to_degrees(system: str) -> Turn:
    """What turns coordinates of a system (``EPSG:32632``, ``+proj=…``, ``WGS84 UTM 32N``) into WGS 84 degrees.

    Raises:
        InputError: it is not in degrees of WGS 84, and pyproj is not installed or does not know it.
    """
    return _turn(system, inverse=False)


def from_degrees(system: str) -> Turn:
    """The inverse of `to_degrees`: WGS 84 degrees (longitude, latitude) into coordinates of a system; raises the same."""
    return _turn(system, inverse=True)


def _turn(system: str, *, inverse: bool) -> Turn:
    text = " ".join(system.split())
    if is_degrees(text):
        return list
    if match := _UTM.match(text):
        text = f"EPSG:{(32600 if match['half'].upper() == 'N' else 32700) + int(match['zone'])}"
    try:
        import pyproj
    except ImportError:
        raise InputError(
            f"positions in {system.strip()!r} need pyproj: install outcrop[positions], or give degrees (EPSG:4326)"
        ) from None
    try:
        systems = ("EPSG:4326", text) if inverse else (text, "EPSG:4326")
        transformer = pyproj.Transformer.from_crs(*systems, always_xy=True)
    except pyproj.exceptions.ProjError as error:
        raise InputError(
            f"{system.strip()!r} is not a coordinate system that pyproj knows ({str(error).splitlines()[0]}); "
            "write EPSG:4326 for degrees"
        ) from None

    def turn(places: Sequence[Place]) -> list[Place]:
        if not places:
            return []
        x, y = transformer.transform([place[0] for place in places], [place[1] for place in places])
        return list(zip(map(float, x), map(float, y), strict=True))

    return turn


def is_degrees(text: str) -> bool:
    """Whether a system's name says that it is WGS 84 in degrees, longitude first."""
    if text.upper() in ("EPSG:4326", "WGS84", "WGS 84"):
        return True
    words = set(text.split())
    return (
        "+proj=longlat" in words
        and not any(word.startswith(("+towgs84", "+pm", "+lon_0")) for word in words)
        and (bool(words & {"+datum=WGS84", "+ellps=WGS84"}))
    )
