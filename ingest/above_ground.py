"""Heights above ground by a terrain model: a photograph's altitude above sea level, less the height of the ground below it.

What aircraft state is their height above the place where they took off, and a capture's name the height that was planned; on
a slope both are tens of metres from the height above what a photograph shows, which is what a ground scale needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from outcrop.embed.terrain import Terrain, open_terrain
from outcrop.ingest.ground_windows import head_of, of_each
from outcrop.schema.dataset_files import DatasetFiles, dataset_files
from outcrop.schema.frames import Frame

LEAST = 1.0
"""Metres above ground below which an altitude and a terrain model do not belong together."""


def grounded_files(registry: Path, name: str, datasets: Path, positions: Path | None = None) -> DatasetFiles:
    """The files of a dataset as `dataset_files` lists them; where the registry names a terrain model, with heights above it as
    the altitudes of the photographs that state a place and an altitude above sea level. Their heads are read for it.

    Others keep their altitudes, and a remark counts them.

    Raises:
        RegistryError: the registry, the dataset's name, a template or a folder is wrong. InputError: the positions or the terrain
            model are. PictureError: the terrain model cannot be read.
    """
    found = dataset_files(registry, name, datasets, positions)
    if found.dataset.terrain is None:
        return found
    model = found.root / found.dataset.terrain
    frames = found.frames
    above_sea = of_each(frames, _above_sea)
    with closing(open_terrain(model)) as terrain:
        heights = [_height(terrain, *stated) for stated in above_sea]
    by_key = {
        frame.key: replace(frame, altitude=round(height, 1))
        for frame, height in zip(frames, heights, strict=True)
        if height >= LEAST
    }
    captures = tuple(
        replace(capture, frames=tuple(by_key.get(frame.key, frame) for frame in capture.frames))
        for capture in found.captures
    )
    return replace(found, captures=captures, remarks=(*found.remarks, *_remarks(heights, model)))


def _above_sea(frame: Frame) -> tuple[float, float, float]:
    """Latitude, longitude and altitude of a photograph; NaN where it does not say. A file of positions wins."""
    head = head_of(frame.path)
    facts = head[2] if head is not None else None
    place = frame.position
    said: Sequence[float | None] = (
        (place.latitude, place.longitude, place.elevation)
        if place is not None and place.elevation is not None
        else (facts.latitude, facts.longitude, facts.absolute_altitude)
        if facts is not None
        else (None, None, None)
    )
    latitude, longitude, altitude = (math.nan if value is None else value for value in said)
    return latitude, longitude, altitude


def _height(terrain: Terrain, latitude: float, longitude: float, altitude: float) -> float:
    """Metres above ground; NaN where they cannot be known."""
    if math.isnan(latitude + longitude + altitude):
        return math.nan
    return altitude - float(terrain.heights(np.array([(latitude, longitude)]))[0])


def _remarks(heights: Sequence[float], model: Path) -> list[str]:
    unknown = sum(math.isnan(height) for height in heights)
    below = sum(height < LEAST for height in heights)
    said = []
    if unknown:
        said.append(
            f"{unknown} of {len(heights)} photographs state no place and altitude above sea level, or lie outside the terrain "
            f"model {model}: their heights above ground are what the registry or they themselves say"
        )
    if below:
        said.append(
            f"{below} of {len(heights)} photographs lie below the ground of the terrain model {model}, which is not used for "
            "them: are its heights of another datum than their altitudes?"
        )
    return said
