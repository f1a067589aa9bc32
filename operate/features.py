"""Kept features (patch, grid …) whose items are no longer in the collection."""

from __future__ import annotations

from collections.abc import Collection as Ids
from collections.abc import Iterator
from itertools import islice

from outcrop.embed.feature_files import FeatureFolder
from outcrop.store.collection import Collection
from outcrop.store.table import LOOKUP


def stranded(collection: Collection, folder: FeatureFolder, gone: Ids[str] = ()) -> list[str]:
    """The ids of a folder's features that the collection has no row for, or only one that is about to be `gone`, in order."""
    found: list[str] = []
    for ids in _pages(folder.ids()):
        known = collection.lookup(ids, fields=("kind",))
        found += [id for id in ids if id not in known or id in gone]
    return found


def remove_features(folder: FeatureFolder, ids: list[str]) -> int:
    """Removes the features of items; returns of how many."""
    for id in ids:
        folder.remove(id)
    return len(ids)


def _pages(ids: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(ids, LOOKUP)):
        yield page
