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
    from outcrop.asking import cluster as cluster
    from outcrop.asking import evaluate as evaluate
    from outcrop.asking import find_track as find_track
    from outcrop.asking import match as match
    from outcrop.asking import query_dataset as query_dataset
    from outcrop.asking import query_images as query_images
    from outcrop.asking import query_items as query_items
    from outcrop.asking import query_specimens as query_specimens
    from outcrop.asking import where as where
    from outcrop.filling import ingest_dataset as ingest_dataset
    from outcrop.filling import ingest_images as ingest_images
    from outcrop.filling import ingest_references as ingest_references
    from outcrop.filling import ingest_specimens as ingest_specimens
    from outcrop.filling import ingest_video as ingest_video
    from outcrop.library import OpenCollection as OpenCollection
    from outcrop.library import open_collection as open_collection
    from outcrop.schema.errors import OutcropError as OutcropError
    from outcrop.schema.settings import Settings as Settings

_HOME = {
    "OpenCollection": "outcrop.library",
    "OutcropError": "outcrop.schema.errors",
    "Settings": "outcrop.schema.settings",
    "cluster": "outcrop.asking",
    "evaluate": "outcrop.asking",
    "find_track": "outcrop.asking",
    "ingest_dataset": "outcrop.filling",
    "ingest_images": "outcrop.filling",
    "ingest_references": "outcrop.filling",
    "ingest_specimens": "outcrop.filling",
    "ingest_video": "outcrop.filling",
    "match": "outcrop.asking",
    "open_collection": "outcrop.library",
    "query_dataset": "outcrop.asking",
    "query_images": "outcrop.asking",
    "query_items": "outcrop.asking",
    "query_specimens": "outcrop.asking",
    "where": "outcrop.asking",
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
