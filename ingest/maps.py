"""`ingest map`: the tiles of a map, read by windows; nothing is written to disk."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from outcrop.embed.crops import prepare
from outcrop.embed.georeference import Georeference
from outcrop.embed.images import MIN_SIDE, thumbnail
from outcrop.embed.maps import Map, opened_map, window_picture
from outcrop.embed.placement import Placement
from outcrop.embed.protocol import PictureEncoder
from outcrop.ingest.map_grid import MapTile, keep_large, tiles_of
from outcrop.ingest.sources import Contents, FileState, Listing, Outcome, Prepared, Todo, Unfit, Wanted
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.item import Item, Kind, tile_key
from outcrop.schema.machine import cores

VERSION = "map 1"
"""Names the way in which tiles become pictures; part of their digest, so that another way makes them anew."""
DECIMALS = 8
"""Of the corners' degrees: a millimetre."""


@dataclass(frozen=True)
class MapSource:
    """A map of which tiles are made. `tiles` are in the order of `wanted`; `whole` says that they are all that it is to have."""

    path: Path
    wanted: Sequence[Wanted]
    tiles: Sequence[MapTile]
    whole: bool
    atomic: ClassVar[bool] = False
    stage: ClassVar[str] = "decode"

    @property
    def count(self) -> int:
        """How many tiles."""
        return len(self.tiles)

    def read(self, path: Path) -> Contents:
        """The state of the map and, of a map that is one file, the digest of its bytes."""
        if self.wanted[0].item.source_digest:
            return Contents(b"", FileState.of(path), "")
        return Contents.digested(path)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.sources.Source.make`; a few windows are read ahead, in threads."""
        tiles = {each.item.key: tile for each, tile in zip(self.wanted, self.tiles, strict=True)}
        pending: deque[Future[Outcome]] = deque()
        try:
            source = opened_map
            with source(self.path) as read, ThreadPoolExecutor(cores(), thread_name_prefix="map") as pool:
                for each in todo:
                    pending.append(
                        pool.submit(_made, read, each.wanted, tiles[each.item.key], contents, encoder, thumbnails)
                    )
                    if len(pending) > 2 * cores():
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
        except InputError as error:
            raise PictureError(str(error)) from None
        finally:
            for future in pending:
                future.cancel()


def list_map(path: Path, name: str, scales: Sequence[float], *, only: Iterable[str] | None = None) -> Listing:
    """Lists the tiles of a map with sides of `scales` metres under the name of a dataset; reads where the map shows anything.

    `only` keeps the tiles with these keys.

    Raises:
        InputError: there is no map, or it cannot be read; or nothing of it shows anything.
    """
    try:
        with opened_map(path) as source:
            tiles = tiles_of(source, scales)
            large = keep_large(tiles, MIN_SIDE)
            items = _items(path, name, source, large)
            remarks = source.remarks
            middle = source.place.degrees(np.array([[source.width / 2, source.height / 2]]))[0]
    except PictureError as error:
        raise InputError(str(error)) from None
    if not large:
        why = "has no tile of at least 8 pixels" if tiles else "shows nothing"
        raise InputError(f"the map {path} {why} at scales of {_said(scales)}; give longer --scales")
    wanted = [
        Wanted(item, path, "" if item.source_digest else _process(tile))
        for item, tile in zip(items, large, strict=True)
    ]
    whole = only is None
    if only is not None:
        keys = frozenset(only)
        kept = [number for number, item in enumerate(items) if item.key in keys]
        wanted, large = [wanted[number] for number in kept], [large[number] for number in kept]
    sources = [MapSource(path, wanted, large, whole)] if wanted else []
    what = f"{len(wanted)} tiles of {_said(scales)}" + (f", {large[0].metres:.3g} m a pixel" if large else "")
    return Listing(name, sources, remarks=remarks, summary=f"{path}: {what}, around {middle[0]:.4f}, {middle[1]:.4f}")


def _items(path: Path, name: str, source: Map, tiles: Sequence[MapTile]) -> list[Item]:
    """The items of tiles, with their places on the ground."""
    if not tiles:
        return []
    files = source.files
    outlines = np.concatenate([tile.window.corners() for tile in tiles])
    middles = outlines.reshape(-1, 4, 2).mean(axis=1)
    corners = source.place.degrees(outlines).reshape(-1, 4, 2)
    places = source.place.degrees(middles)
    return [
        Item(
            tile_key(name, tile.scale, tile.row, tile.column),
            Kind.TILE,
            name,
            tile.scale,
            latitude=float(place[0]),
            longitude=float(place[1]),
            source=path.name,
            source_digest=digest_of(f"{files} {_process(tile)}") if files else "",
            extra={
                "footprint": [[round(float(value), DECIMALS) for value in corner] for corner in outline],
                "crs": _named(source.place),
                "metres_per_pixel": round(tile.metres, 6),
                "window": [tile.window.left, tile.window.top, tile.window.width, tile.window.height],
                "width": tile.sides[0],
                "height": tile.sides[1],
            },
        )
        for tile, place, outline in zip(tiles, places, corners, strict=True)
    ]


def _made(
    source: Map, wanted: Wanted, tile: MapTile, contents: Contents, encoder: PictureEncoder, thumbnails: bool
) -> Outcome:
    """One tile ready to be embedded, or why it cannot be."""
    space = encoder.space
    try:
        picture = window_picture(source, tile.window, tile.sides, space.size)
    except PictureError as error:
        return Unfit(wanted.item, str(error))
    item = replace(
        wanted.item,
        source_size=contents.state.size,
        source_mtime_ns=contents.state.mtime_ns,
        source_digest=wanted.item.source_digest or wanted.digest(contents),
    )
    packed = thumbnail(picture.image) if thumbnails else None
    return Prepared(item, prepare(picture, space), packed, Placement.of(picture, space.size, space.fit))


def _process(tile: MapTile) -> str:
    """The digest of what makes a tile of the map's pixels."""
    return digest_of(json.dumps([VERSION, *vars(tile.window).values(), *tile.sides]))


def _named(place: Georeference) -> str:
    """The coordinate system, short where it is known by a number."""
    return place.system if len(place.system) <= 64 else place.system[:64] + "…"


def _said(scales: Sequence[float]) -> str:
    return ", ".join(f"{scale:g}" for scale in scales) + " m"
