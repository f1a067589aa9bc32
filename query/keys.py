"""Keys as people type them: whole, or only as much of the end as names one item.

``image/caliterra/DJI/9354`` may be typed ``caliterra/9354``, the specimen ``specimen/molars/Alouatta/000`` just ``000``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from outcrop.schema.errors import InputError, OutcropError
from outcrop.schema.filters import Condition, Filter, equals
from outcrop.schema.item import Item, Kind, item_id, part
from outcrop.store.collection import Collection

SHOWN = 5
"""Items that an ambiguous name lists."""


def full_keys(names: Sequence[str], collection: Collection, kinds: Sequence[Kind] = tuple(Kind)) -> list[str]:
    """The keys of stored items for keys, or ends of keys, of images and specimens.

    An end may leave out components in the middle (``caliterra/9354``); one that is a key's end as it is, wins. Frames are
    compared as numbers. References and views are named by their whole key.

    Raises:
        InputError: an end names no item of these kinds, or several.
    """
    stored = collection.items([item_id(name) for name in names])
    return [name if item_id(name) in stored else _lengthened(name, collection, kinds) for name in names]


def _lengthened(name: str, collection: Collection, kinds: Sequence[Kind]) -> str:
    try:
        pieces = [part(unquote(piece)) for piece in name.strip("/").split("/")]
    except InputError:
        pieces = []
    found = sorted(item.key for item in _candidates(pieces, collection, kinds))
    named = [key for key in found if _ends(key, pieces)] or found
    if len(named) == 1:
        return named[0]
    if named:
        shown = ", ".join(named[:SHOWN]) + (" …" if len(named) > SHOWN else "")
        raise InputError(f"{name!r} names {len(named)} items of {collection.name!r}: {shown}; give more of the key")
    if tuple(kinds) == (Kind.SPECIMEN,):
        raise InputError(
            f"no specimen {name!r} in collection {collection.name!r}; give a mesh, a photograph, or the key of a specimen "
            "(specimen/<dataset>/<category…>/<specimen>) or its end"
        )
    raise InputError(f"no item {name!r} in collection {collection.name!r}{_near(name, collection)}")


def _candidates(pieces: Sequence[str], collection: Collection, kinds: Sequence[Kind]) -> Iterator[Item]:
    """Images and specimens whose keys hold the pieces in their order, the last one at the end."""
    if not pieces:
        return
    filters = []
    if Kind.SPECIMEN in kinds:
        filters.append(equals("kind", str(Kind.SPECIMEN)) & equals("capture_id", unquote(pieces[-1])))
    if Kind.IMAGE in kinds and _number(pieces[-1]) is not None:
        filters.append(equals("kind", str(Kind.IMAGE)) & equals("frame", str(_number(pieces[-1]))))
    for filter in filters:
        for items, _ in collection.scan(filter):
            yield from (item for item in items if _holds(item.key, pieces))


def _holds(key: str, pieces: Sequence[str]) -> bool:
    there = iter(key.split("/")[:-1])
    return all(piece in there for piece in pieces[:-1])


def _ends(key: str, pieces: Sequence[str]) -> bool:
    return key.split("/")[-len(pieces) : -1] == list(pieces[:-1])


def _number(piece: str) -> int | None:
    return int(piece) if piece.isascii() and piece.isdigit() and len(piece) <= 18 else None


def _near(key: str, collection: Collection) -> str:
    """A hint: a key that is there and begins as the missing one does."""
    pieces = key.split("/")
    for depth in range(len(pieces) - 1, 1, -1):
        beginning = Filter((Condition("key", "prefix", ("/".join(pieces[:depth]) + "/",)),))
        try:
            for items, _ in collection.scan(beginning, batch=1):
                return f"; there is {items[0].key!r}"
        except OutcropError:  # a key that no filter can name
            break
    return "; a key looks like image/<dataset>/<capture_id>/<frame>, or specimen/<dataset>/<category…>/<specimen>"
