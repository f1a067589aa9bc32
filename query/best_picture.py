"""Which of several pictures of the same is best kept: that of the most pixels, then the sharpest, then the largest file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.query.duplicates import Duplicates
from outcrop.query.verification.features import read_picture
from outcrop.schema.errors import OutcropError
from outcrop.schema.item import AERIAL, FIELDS, Item

if TYPE_CHECKING:
    from pathlib import Path

    from outcrop.query.verification.originals import Originals
    from outcrop.store.collection import Collection

SIDE = 1024
"""Pixels of the longer side at which sharpness is measured, so that pictures of several sizes can be compared."""
SIDES = ("width", "height")
"""What an ingest notes of a picture."""
COLUMNS = ("group", "best", "key", "score", "identical", "width", "height", "sharpness", "bytes", "source")


@dataclass(frozen=True)
class Member:
    """An item of a group: the highest similarity with another of it, sides in pixels and sharpness of its picture (None where
    there is no picture, or its file is gone)."""

    item: Item
    score: float
    width: int | None = None
    height: int | None = None
    sharpness: float | None = None

    @property
    def worth(self) -> tuple[float, float, int]:
        """What members are compared by."""
        return (self.width or 0) * (self.height or 0), self.sharpness or 0.0, self.item.source_size


@dataclass(frozen=True)
class Group:
    """Items that show the same, the best one first; `identical` where all were made of the same bytes."""

    members: tuple[Member, ...]
    identical: bool

    def rows(self, number: int) -> list[dict[str, Any]]:
        """The members as plain values."""
        return [
            {
                "group": number,
                "best": place == 0,
                "key": one.item.key,
                "score": round(one.score, 6),
                "identical": self.identical,
                "width": one.width,
                "height": one.height,
                "sharpness": None if one.sharpness is None else round(one.sharpness, 1),
                "bytes": one.item.source_size,
                "source": one.item.source,
            }
            for place, one in enumerate(self.members)
        ]


def judged(found: Duplicates, collection: Collection, originals: Originals) -> Group:
    """A group with its members' pictures measured, the best first; equals are in order of their keys."""
    return measured(looked_up(found, collection), originals)


def looked_up(found: Duplicates, collection: Collection) -> Group:
    """A group with its members' items, in order of their keys; their pictures have the sides that were noted at their ingest."""
    rows = collection.lookup(list(found.ids), fields=(*FIELDS, *SIDES))
    members = []
    for id, score in zip(found.ids, found.scores, strict=True):
        if id in rows:  # deleted since, otherwise
            width, height = (rows[id].get(name) for name in SIDES)
            sides = (width, height) if isinstance(width, int) and isinstance(height, int) else (None, None)
            members.append(Member(Item.from_row({name: rows[id][name] for name in FIELDS}), score, *sides))
    return Group(tuple(sorted(members, key=lambda one: one.item.key)), found.identical)


def measured(group: Group, originals: Originals, most: int | None = None) -> Group:
    """A group with its members' pictures measured, the best first; with `most`, of a larger one those alone that have the most
    pixels (then the largest files) by what was noted at their ingest, among which the best is."""
    first = sorted(group.members, key=lambda one: one.worth, reverse=True)[:most]
    pictures = {one.item.key: replace(one, **_measured(one.item, originals)) for one in first}
    members = [pictures.get(one.item.key, one) for one in group.members]
    return replace(group, members=tuple(sorted(members, key=lambda one: one.worth, reverse=True)))


def _measured(item: Item, originals: Originals) -> dict[str, Any]:
    names = ("width", "height", "sharpness")
    nothing = dict.fromkeys(names)
    if item.kind not in AERIAL:
        return nothing
    try:
        return dict(zip(names, sides_and_sharpness(originals.find(item).path), strict=True))
    except (OutcropError, OSError):  # the file is gone or broken: it is not the one to keep
        return nothing


def sides_and_sharpness(path: Path) -> tuple[int, int, float]:
    """Width and height of a picture file in pixels, and its sharpness: the variance of the Laplacian of its grey values (0 to
    255) at `SIDE` pixels.

    Raises:
        PictureError: it is not a picture. OSError: it cannot be read.
    """
    from PIL import Image

    from outcrop.embed.images import DRAFT_MARGIN, decode, inspect

    data = read_picture(path)
    width, height, _ = inspect(data, name=str(path))
    image = decode(data, name=str(path), at_least=(SIDE // DRAFT_MARGIN, SIDE // DRAFT_MARGIN)).image.convert("L")
    if max(image.size) > SIDE:
        scale = SIDE / max(image.size)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BOX)
    grey = np.asarray(image, dtype=np.float32)
    if min(grey.shape) < 3:
        return width, height, 0.0
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return width, height, float(laplacian.var())
