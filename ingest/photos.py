"""A photograph as a source of one item: what the registry says of it, and what only its file says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from outcrop.embed.crops import prepare
from outcrop.embed.images import Decoded, decode, inspect, thumbnail
from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.placement import Placement
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.reader_versions import reader_version
from outcrop.embed.resident import Resident, Undecoded, fitted, small, undecoded
from outcrop.ingest.sources import Contents, Outcome, Prepared, Todo, Wanted
from outcrop.schema.ground import WHOLE_PICTURE, Footing, Scaled, positive, scaled
from outcrop.schema.item import UNKNOWN_COORDINATE, Item
from outcrop.schema.space import Space

OF_FILE = (
    "altitude",
    "latitude",
    "longitude",
    "captured_at",
    "source_size",
    "source_mtime_ns",
)
"""The fields that `complete` fills in, beside `source_digest` and `extra`."""


@dataclass(frozen=True)
class PhotoSource:
    """One photograph to be embedded as `item`; what only the file says (size, digest, EXIF) is filled in on the way.

    `altitude_stated` says that the item's altitude comes from the registry or the capture's name and is to be kept;
    `focal_length` (millimetres on film 36 mm wide) is that of photographs that do not state theirs, for a ground scale.
    """

    item: Item
    path: Path
    altitude_stated: bool = False
    focal_length: float | None = None
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
        decoded = decode(contents.data, name=str(self.path), at_least=self._needed(contents, encoder.space))
        contents = replace(contents, data=b"")  # not held while it is embedded
        yield from self.made_of(decoded, todo, contents, encoder, thumbnails)

    def undecoded(self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder) -> Undecoded | str:
        """See `outcrop.ingest.on_device.ReadOnDevice`."""
        space = encoder.space

        def needed(width: int, height: int, facts: PhotoMetadata) -> tuple[int, int]:
            return enlarged(space.size, self._scaled(space, width, height, facts).share)

        return undecoded(contents.data, name=str(self.path), at_least=space.size if space.window is None else needed)

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
        scale = self._scaled(space, picture.width, picture.height, picture.metadata)
        if scale.share < 1:
            item = item.changed(extra={**item.extra, "crop_box": [0.5, 0.5, *(2 * [round(scale.share, 6)])]})
        remarks = (*picture.remarks, scale.remark) if scale.remark else picture.remarks
        placement = Placement.of(picture, space.size, space.fit, scale.share)
        if isinstance(picture, Resident):
            little = small(picture) if thumbnails else None
            yield Prepared(item, fitted(picture, space, scale.share), None, placement, remarks, little)
        else:
            packed = thumbnail(picture.image) if thumbnails else None
            yield Prepared(item, prepare(picture, space, scale.share), packed, placement, remarks)

    def _scaled(self, space: Space, width: int, height: int, facts: PhotoMetadata) -> Scaled:
        """What of the photograph shows a window of the space's ground scale; all of it where the space has none."""
        stated = self.item.altitude if self.altitude_stated else None
        return scaled_photo(space, width, height, footing(facts, stated, self.focal_length))

    def _needed(self, contents: Contents, space: Space) -> tuple[int, int]:
        """Height and width of the whole picture at which what is embedded of it still fills the network's input."""
        if space.window is None:
            return space.size
        width, height, facts = inspect(contents.data, name=str(self.path))
        return enlarged(space.size, self._scaled(space, width, height, facts).share)


def footing(facts: PhotoMetadata, stated: float | None, focal_length: float | None) -> Footing:
    """What decides a photograph's scale: the altitude that the registry has `stated`, else its own; its focal length, else the
    one given."""
    return Footing(positive(stated, facts.relative_altitude), facts.focal_length_35mm or focal_length, facts.pitch)


def scaled_photo(space: Space, width: int, height: int, known: Footing) -> Scaled:
    """What of a photograph of sides in pixels shows a window of a space's ground scale; all of it where the space has none."""
    return WHOLE_PICTURE if space.window is None else scaled(known, width, height, space.window)


def enlarged(size: tuple[int, int], share: float) -> tuple[int, int]:
    """The sides (height, width) that a whole picture must have for a `share` of them to be as long as `size`."""
    return math.ceil(size[0] / share), math.ceil(size[1] / share)


def complete(wanted: Wanted, decoded: Decoded | Resident, contents: Contents) -> Item:
    """The wanted item with what its file says: size, time and digest, and what `with_metadata` adds."""
    known = with_metadata(wanted.item, decoded.width, decoded.height, decoded.metadata, wanted.altitude_stated)
    return known.changed(
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
    return item.changed(
        altitude=altitude,
        extra=extra,
        latitude=latitude,
        longitude=longitude,
        captured_at=facts.captured_at or "",
    )
