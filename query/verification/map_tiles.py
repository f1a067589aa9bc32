"""The tiles of maps as pictures for verification: read again from the map, by window, and never written.

What a row says of its window is not trusted beyond the map's edges, and the map is the one that the collection remembers.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outcrop.embed.maps import Map, MapWindow, open_map, window_picture
from outcrop.query.verification.feature_cache import FeatureCache
from outcrop.query.verification.features import Extractor, LocalFeatures
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.item import Item
from outcrop.store.maps import KnownMap


@dataclass(frozen=True)
class View:
    """A window of a map as a picture of `sides` (width, height) in pixels."""

    source: Map
    window: MapWindow
    sides: tuple[int, int]

    def features(self, extractor: Extractor) -> LocalFeatures:
        """Its local features, in pixels of `sides`.

        Raises:
            PictureError: the map cannot be read.
        """
        return extractor.extract(window_picture(self.source, self.window, self.sides, extractor.wanted))


class MapTiles:
    """The tiles of the maps that a collection remembers. Threads may share it; as a context manager it closes the maps."""

    def __init__(self, maps: Mapping[str, KnownMap], extractor: Extractor, cache: FeatureCache | None = None) -> None:
        self.maps = maps
        self._extractor, self._cache = extractor, cache
        self._opened: dict[str, tuple[Map, str]] = {}
        self._lock = threading.Lock()

    def features(self, item: Item) -> LocalFeatures | str:
        """The local features of a tile, or the reason why it has none."""
        try:
            view = self.view(item)
            if self._cache is None:
                return view.features(self._extractor)
            state = self._opened[item.dataset][1]
            digest = digest_of(f"{state} {view.window} {view.sides}")
            return self._cache.get(digest, lambda: view.features(self._extractor))
        except (InputError, PictureError) as error:
            return str(error)

    def view(self, item: Item) -> View:
        """What a tile shows.

        Raises:
            InputError: its map is not known, is gone, or does not have the window that the row says.
        """
        source = self.open(item.dataset)
        window, sides = _window(item.extra.get("window")), (item.extra.get("width"), item.extra.get("height"))
        inside = (
            window is not None
            and min(window.left, window.top) >= 0
            and min(window.width, window.height) >= 1
            and window.left + window.width <= source.width
            and window.top + window.height <= source.height
        )
        if window is None or not inside or not all(isinstance(side, int) and 1 <= side < 2**20 for side in sides):
            raise InputError(f"{item.key} is not a part of its map any more; run `ingest map` again")
        return View(source, window, sides)  # type: ignore[arg-type]  # whole numbers, as was checked

    def open(self, dataset: str) -> Map:
        """The map of a dataset, opened once.

        Raises:
            InputError: it is not known, or cannot be opened.
        """
        with self._lock:
            if dataset not in self._opened:
                known = self.maps.get(dataset)
                if known is None:
                    raise InputError(f"the collection does not know the map {dataset!r}; run `ingest map` again")
                found = open_map(known.path)
                stat = known.path.stat()
                self._opened[dataset] = found, f"{known.path} {stat.st_size} {stat.st_mtime_ns} {found.files}"
            return self._opened[dataset][0]

    def __enter__(self) -> MapTiles:
        return self

    def __exit__(self, *unused: object) -> None:
        for source, _ in self._opened.values():
            source.close()
        self._opened.clear()


def _window(values: Any) -> MapWindow | None:
    if not isinstance(values, list) or len(values) != 4 or not all(isinstance(value, int) for value in values):
        return None
    return MapWindow(*values)
