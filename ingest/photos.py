"""A photograph as a source of one item: what the registry says of it, and what only its file says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from outcrop.embed.crops import prepare
from outcrop.embed.images import Decoded, decode, thumbnail
from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.placement import Placement
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.reader_versions import reader_version
from outcrop.embed.resident import Resident, Undecoded, fitted, small, undecoded
from outcrop.ingest.sources import Contents, Outcome, Prepared, Todo, Wanted
from outcrop.schema.item import UNKNOWN_COORDINATE, Item


@dataclass(frozen=True)
class PhotoSource:
    """One photograph to be embedded as `item`; what only the file says (size, digest, EXIF) is filled in on the way.

    `altitude_stated` says that the item's altitude comes from the registry or the capture's name and is to be kept.
    """

    item: Item
    path: Path
    altitude_stated: bool = False
    whole: ClassVar[bool] = True
    atomic: ClassVar[bool] = False
    stage: ClassVar[str] = "decode"
    count: ClassVar[int] = 1

    @property
    def wanted(self) -> Sequence[Wanted]:
        """The one item."""
        return (
            Wanted(
                self.item, self.path, reader=lambda: reader_version(self.path), altitude_stated=self.altitude_stated
            ),
        )

    def read(self, path: Path) -> Contents:
        """See `outcrop.ingest.sources.Source.read`."""
        return Contents.read(path)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.sources.Source.make`."""
        decoded = decode(contents.data, name=str(self.path), at_least=encoder.space.size)
        contents = replace(contents, data=b"")  # not held while it is embedded
        yield from self.made_of(decoded, todo, contents, encoder, thumbnails)

    def undecoded(self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder) -> Undecoded | str:
        """See `outcrop.ingest.on_device.ReadOnDevice`."""
        return undecoded(contents.data, name=str(self.path), at_least=encoder.space.size)

    def made_of(
        self,
        picture: Decoded | Resident,
        todo: Sequence[Todo],
        contents: Contents,
        encoder: PictureEncoder,
        thumbnails: bool,
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.on_device.ReadOnDevice`."""
        item, space = complete(todo[0].wanted, picture, contents), encoder.space
        placement = Placement.of(picture, space.size, space.fit)
        if isinstance(picture, Resident):
            little = small(picture) if thumbnails else None
            yield Prepared(item, fitted(picture, space), None, placement, picture.remarks, little)
        else:
            packed = thumbnail(picture.image) if thumbnails else None
            yield Prepared(item, prepare(picture, space), packed, placement, picture.remarks)


def complete(wanted: Wanted, decoded: Decoded | Resident, contents: Contents) -> Item:
    """The wanted item with what its file says: size, time and digest, and what `with_metadata` adds."""
    known = with_metadata(wanted.item, decoded.width, decoded.height, decoded.metadata, wanted.altitude_stated)
    return replace(
        known,
        source_size=contents.state.size,
        source_mtime_ns=contents.state.mtime_ns,
        source_digest=wanted.digest(contents),
    )


def with_metadata(item: Item, width: int, height: int, facts: PhotoMetadata, altitude_stated: bool) -> Item:
    """The item with what a photograph says of itself: sides in pixels, place, time, altitude where none is stated.

    The height above ground and the camera's heading (degrees clockwise from north), where the file has them, are kept as
    `relative_altitude` and `yaw` in any case; `position_source` says whose position it is: "exif", "xmp"
    (DJI's), "geotiff", or "file:" and the name of a file of positions, which wins.
    """
    extra = dict(item.extra, width=width, height=height)
    altitude = item.altitude
    if facts.relative_altitude is not None:
        extra["relative_altitude"] = facts.relative_altitude
        altitude = altitude if altitude_stated else max(0.0, facts.relative_altitude)
    if facts.yaw is not None:
        extra["yaw"] = facts.yaw
    latitude, longitude = facts.latitude, facts.longitude
    if item.latitude != UNKNOWN_COORDINATE:  # a file of positions wins
        latitude, longitude = item.latitude, item.longitude
    elif latitude is None or longitude is None:
        latitude = longitude = UNKNOWN_COORDINATE
    elif facts.position_source is not None:
        extra["position_source"] = facts.position_source
    return replace(
        item,
        altitude=altitude,
        extra=extra,
        latitude=latitude,
        longitude=longitude,
        captured_at=facts.captured_at or "",
    )
