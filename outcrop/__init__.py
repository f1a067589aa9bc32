"""Outcrop finds where a picture was taken and which specimen it shows.

Everything a command does is a call from here. A notebook in a folder with a registry (`data_key.json`):

    import outcrop

    with outcrop.open_collection("outcrop.db", model="efficientnet_lite0") as collection:
        outcrop.ingest_dataset(collection, "jamshill_image")
        outcrop.query_images(collection, "queries", k=5, where="altitude=200..400")

Names are imported when they are first used, so `import outcrop` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.library import OpenCollection as OpenCollection
    from outcrop.library import cluster as cluster
    from outcrop.library import evaluate as evaluate
    from outcrop.library import find_track as find_track
    from outcrop.library import ingest_dataset as ingest_dataset
    from outcrop.library import ingest_images as ingest_images
    from outcrop.library import ingest_references as ingest_references
    from outcrop.library import ingest_specimens as ingest_specimens
    from outcrop.library import ingest_video as ingest_video
    from outcrop.library import match as match
    from outcrop.library import open_collection as open_collection
    from outcrop.library import query_dataset as query_dataset
    from outcrop.library import query_images as query_images
    from outcrop.library import query_items as query_items
    from outcrop.library import query_specimens as query_specimens
    from outcrop.library import where as where
    from outcrop.schema.errors import OutcropError as OutcropError
    from outcrop.schema.settings import Settings as Settings

_HOME = {
    "OpenCollection": "outcrop.library",
    "OutcropError": "outcrop.schema.errors",
    "Settings": "outcrop.schema.settings",
    "cluster": "outcrop.library",
    "evaluate": "outcrop.library",
    "find_track": "outcrop.library",
    "ingest_dataset": "outcrop.library",
    "ingest_images": "outcrop.library",
    "ingest_references": "outcrop.library",
    "ingest_specimens": "outcrop.library",
    "ingest_video": "outcrop.library",
    "match": "outcrop.library",
    "open_collection": "outcrop.library",
    "query_dataset": "outcrop.library",
    "query_images": "outcrop.library",
    "query_items": "outcrop.library",
    "query_specimens": "outcrop.library",
    "where": "outcrop.library",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("outcrop")
    if name not in _HOME:
        raise AttributeError(f"module 'outcrop' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
