"""The maps whose tiles a collection holds: which file each is, kept among its properties, as folders of photographs are."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from outcrop.store.collection import PROPERTY_MAPS
from outcrop.store.remembered import Remembered


class KnownMap(BaseModel):
    """A map's file or folder as an absolute path, the sides of its tiles in metres, and its terrain model."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: Path
    scales: tuple[float, ...]
    terrain: Path | None = None


MAPS: Remembered[KnownMap] = Remembered(PROPERTY_MAPS, KnownMap)
