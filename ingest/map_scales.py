"""How much ground the tiles of a map should show: as much as the photographs that will be looked for on it."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from statistics import median

from outcrop.schema.errors import InputError
from outcrop.schema.filters import equals
from outcrop.schema.item import Kind
from outcrop.store.collection import Collection
from outcrop.store.folders import FOLDERS
from outcrop.store.maps import MAPS

DEFAULT = (60.0, 120.0, 240.0)
"""Sides of tiles in metres where nothing is known of photographs: for heights of about 60, 120 and 240 m above ground."""
FOCAL_LENGTH = 24.0
"""Millimetres (on film 36 mm wide) where a photograph does not say: the lens of most drones."""
SHARE = 2 / 3
"""A tile's side as a share of what a photograph shows across: what is left of it when it is turned, or tilted by 4:3."""
STEP = 1.5
"""Photographs count as of one scale where what they show across differs by less than this factor."""
LEAST, MOST = 0.05, 4
"""The share of photographs that a scale must have, and how many scales there are at most."""


def scales_of(collection: Collection, name: str, path: Path) -> tuple[tuple[float, ...], Path | None]:
    """The sides of a map's tiles in metres, and its terrain model: as the collection remembers them, else `scales_for`.

    Raises:
        InputError: the name is another map's that is still there, or a dataset's of photographs.
    """
    known = MAPS.get(collection, name)
    if known is not None and known.path != path and known.path.exists():
        raise InputError(
            f"map {name!r} of collection {collection.name!r} is {known.path}; give {path} another --name, "
            "or take the old map away if it moved"
        )
    if FOLDERS.get(collection, name) is not None:
        raise InputError(f"{name!r} is a folder of photographs in collection {collection.name!r}; give another --name")
    if known is not None:
        return known.scales, known.terrain
    window = collection.space.window
    return ((_round(max(window)),) if window is not None else scales_for(collection)), None


def scales_for(collection: Collection) -> tuple[float, ...]:
    """Sides of tiles in metres that suit the photographs of a collection, by their heights and focal lengths; `DEFAULT` where
    none states its height."""
    grouped: dict[int, list[float]] = defaultdict(list)
    for rows in collection.scan_rows(equals("kind", str(Kind.IMAGE)), ["id", "altitude", "focal_length_35mm"]):
        for row in rows:
            if row["altitude"] > 0:
                across = row["altitude"] * 36.0 / (row.get("focal_length_35mm") or FOCAL_LENGTH)
                grouped[round(math.log(across, STEP))].append(across)
    total = sum(map(len, grouped.values()))
    usual = sorted((some for some in grouped.values() if len(some) >= LEAST * total), key=len, reverse=True)[:MOST]
    return tuple(sorted(_round(SHARE * median(some)) for some in usual)) or DEFAULT


def _round(metres: float) -> float:
    """Two digits: keys hold it, and must not change with every photograph."""
    return float(f"{metres:.2g}")
