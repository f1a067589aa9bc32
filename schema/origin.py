"""Where an item's vector came from: what kind of file its `source` names."""

from __future__ import annotations

from enum import StrEnum

from outcrop.schema.item import FOSSIL, Kind
from outcrop.schema.written import written_folder


class Origin(StrEnum):
    """What an item was made of."""

    PHOTOGRAPH = "photograph"
    """An image: the photograph that `source` names, below the dataset's root."""
    CROP = "crop"
    """A reference cut out of its photograph, which `source` names."""
    WRITTEN = "written"
    """A reference that is a picture file of its own: `source` begins with ``references_<dataset>/``."""
    MESH = "mesh"
    """A view of a specimen, or the specimen of its views: `source` names the mesh, below the folder that was ingested."""
    MAP = "map"
    """A tile of a map: `source` names the map's file or folder."""
    VECTOR = "vector"
    """A vector that was read from an array (`ingest features`): no picture file on this machine made it."""


def origin_of(kind: Kind, dataset: str, source: str) -> Origin:
    """The origin of an item, from fields that every row has had since the first version."""
    if source.endswith(".npy"):
        return Origin.VECTOR
    if kind in FOSSIL:
        return Origin.MESH
    if kind is Kind.TILE:
        return Origin.MAP
    if kind is Kind.REFERENCE:
        return Origin.WRITTEN if source.startswith(f"{written_folder(dataset)}/") else Origin.CROP
    return Origin.PHOTOGRAPH
