"""One file on its way to becoming an item: what the registry says of it, and what only the file can tell."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embed.images import Decoded
from schema.errors import PictureError
from schema.item import UNKNOWN_COORDINATE, Item

MOST_BYTES = 2**30
"""Files larger than this (bytes) are no photographs and are not read."""
STORED = ("source", "source_size", "source_mtime_ns", "source_digest", "altitude")
"""The fields of a stored row that tell whether its source is unchanged."""


@dataclass(frozen=True)
class Source:
    """One file to be embedded as `item`; what only the file can tell (size, digest, EXIF) is filled in on the way.

    `altitude_stated` tells that the item's altitude comes from the registry or the capture's name and is to be kept.
    """

    item: Item
    path: Path
    altitude_stated: bool = False

    def registered_as(self, row: Mapping[str, Any]) -> bool:
        """Whether a stored row says the same as the registry says now (file name, stated altitude)."""
        same_altitude = not self.altitude_stated or row["altitude"] == self.item.altitude
        return bool(row["source"] == self.item.source and same_altitude)

    def unchanged_since(self, row: Mapping[str, Any]) -> bool:
        """Whether the file has the size and time that a stored row remembers, and is registered as it was."""
        try:
            stat = self.path.stat()
        except OSError:
            return False  # whoever reads it will say why
        same_file = (stat.st_size, stat.st_mtime_ns) == (row["source_size"], row["source_mtime_ns"])
        return same_file and self.registered_as(row)


@dataclass(frozen=True)
class Contents:
    """A file as it was read: its bytes, its state at that time, and the digest of the bytes (hex)."""

    data: bytes
    stat: os.stat_result
    digest: str

    @classmethod
    def read(cls, path: Path) -> Contents:
        """Reads a file whole.

        Raises:
            PictureError: it is too large to be a photograph. OSError: it cannot be read.
        """
        stat = path.stat()
        if stat.st_size > MOST_BYTES:
            raise PictureError(f"{path} has {stat.st_size} bytes, more than a photograph; move it away")
        data = path.read_bytes()
        return cls(data, stat, hashlib.blake2b(data, digest_size=16).hexdigest())


def complete(source: Source, decoded: Decoded, contents: Contents) -> Item:
    """The item with what its file tells: size, time, digest, place, time of the photograph, altitude where none is stated.

    The height above ground and the camera's heading (degrees clockwise from north), where the file has them, are kept as
    `relative_altitude` and `yaw` in any case.
    """
    facts, item = decoded.metadata, source.item
    extra = dict(item.extra, width=decoded.width, height=decoded.height)
    altitude = item.altitude
    if facts.relative_altitude is not None:
        extra["relative_altitude"] = facts.relative_altitude
        altitude = altitude if source.altitude_stated else max(0.0, facts.relative_altitude)
    if facts.yaw is not None:
        extra["yaw"] = facts.yaw
    latitude, longitude = facts.latitude, facts.longitude
    if latitude is None or longitude is None:
        latitude = longitude = UNKNOWN_COORDINATE
    return replace(
        item,
        altitude=altitude,
        extra=extra,
        source_size=contents.stat.st_size,
        source_mtime_ns=contents.stat.st_mtime_ns,
        source_digest=contents.digest,
        latitude=latitude,
        longitude=longitude,
        captured_at=facts.captured_at or "",
    )
