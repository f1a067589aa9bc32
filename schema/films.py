"""Films: which files are taken for them, and which second of one an item shows."""

from __future__ import annotations

from pathlib import PurePath

from outcrop.schema.item import Item, Kind

SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".3gp"))
"""Endings of the files that are taken for films (compared in lower case)."""


def second_of(item: Item) -> float | None:
    """The second of a film that an image shows, counted from its first frame; None for a photograph.

    The frame number of a film's image is that of its milliseconds.
    """
    if item.kind is not Kind.IMAGE or PurePath(item.source).suffix.lower() not in SUFFIXES:
        return None
    return item.frame / 1000
