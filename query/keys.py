"""Keys as people type them: whole, or only as much of the end as names one item.

``image/caliterra/DJI/9354`` may be typed ``caliterra/9354``, the specimen ``specimen/molars/Alouatta/000`` just ``000``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from urllib.parse import unquote

from outcrop.schema.errors import InputError, OutcropError, nearest
from outcrop.schema.filters import Condition, Filter, equals
from outcrop.schema.item import Item, Kind, item_id, part
from outcrop.store.collection import Collection

SHOWN = 5
"""Items that an ambiguous name lists."""
COMPARED = 1000
"""Items with the same end that are compared with a name that is misspelt."""
PARTS = (Kind.REFERENCE, Kind.VIEW)
KINDS = (Kind.SPECIMEN, Kind.IMAGE, Kind.TILE, *PARTS)
"""In which order an end of a key is looked for."""
ENDS = {Kind.IMAGE: 2, Kind.REFERENCE: 4, Kind.VIEW: 2, Kind.SPECIMEN: 1, Kind.TILE: 3}
"""Pieces of a key, from its end, that are never left out of its shorter forms: captures and specimens keep their names."""


def full_keys(names: Sequence[str], collection: Collection, kinds: Sequence[Kind] = tuple(Kind)) -> list[str]:
    """The keys of stored items for keys, or ends of keys.

    An end may leave out components in the middle (``caliterra/9354``); one that is a key's end as it is, wins. Frames are
    compared as numbers. Of references and views, the photograph or specimen may be typed so (``9354/rot030/crop00``,
    ``000/03``), of tiles scale, row and column (``150m/3/12``).

    Raises:
        InputError: an end names no item of these kinds, or several.
    """
    stored = collection.items([item_id(name) for name in names])
    return [name if item_id(name) in stored else _lengthened(name, collection, kinds) for name in names]


def shorter_keys(keys: Sequence[str]) -> list[list[str]]:
    """Ever shorter forms of the keys of a table, for narrow terminals: in each, every key is an end of its own that no other
    key of the table has, and `full_keys` takes it (or, where the collection holds another such end, lists both)."""
    pieces = {key: key.split("/") for key in keys}
    least = {key: _least_end(some) for key, some in pieces.items()}
    ends = Counter("/".join(some[start:]) for some in pieces.values() for start in range(len(some)))
    shown, forms = {key: key for key in keys}, [list(keys)]
    for left_out in range(1, max(map(len, pieces.values()), default=0)):
        for key, some in pieces.items():
            end = "/".join(some[left_out:])
            if left_out <= len(some) - least[key] and ends[end] == 1:
                shown[key] = end
        if (form := [shown[key] for key in keys]) != forms[-1]:
            forms.append(form)
    return forms[1:]


def _least_end(pieces: Sequence[str]) -> int:
    return ENDS[Kind(pieces[0])] if pieces[0] in tuple(Kind) else len(pieces)


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
    hint = _misspelt(name, pieces, collection, kinds)
    if tuple(kinds) == (Kind.SPECIMEN,):
        raise InputError(
            f"no specimen {name!r} in collection {collection.name!r}{hint}; give a mesh, a photograph, or the key of a specimen "
            "(specimen/<dataset>/<category…>/<specimen>) or its end"
        )
    raise InputError(f"no item {name!r} in collection {collection.name!r}{hint or _near(name, collection)}")


def _candidates(pieces: Sequence[str], collection: Collection, kinds: Sequence[Kind]) -> list[Item]:
    """Items whose keys hold the pieces in their order, the last ones at the end; references and views where nothing else does."""
    found: list[Item] = []
    for kind in KINDS:
        if kind in kinds and (not found or kind not in PARTS) and (said := _said(pieces, kind)) is not None:
            filter, wanted = said
            for items, _ in collection.scan(equals("kind", str(kind)) & filter):
                found += [item for item in items if _holds(item.key, wanted, exactly=kind is Kind.TILE)]
    return found


def _said(pieces: Sequence[str], kind: Kind) -> tuple[Filter, Sequence[str]] | None:
    """What the last pieces say of an item of a kind, and the pieces as its key has them; None where they cannot be its end."""
    last = _number(pieces[-1]) if pieces else None
    match kind:
        case Kind.SPECIMEN if pieces:
            return equals("capture_id", unquote(pieces[-1])), pieces
        case Kind.IMAGE if last is not None:
            return equals("frame", last), pieces
        case Kind.VIEW if last is not None and len(pieces) > 1:
            return equals("capture_id", unquote(pieces[-2])) & equals("view", last), pieces
        case Kind.TILE if last is not None and len(pieces) > 2 and (row := _number(pieces[-2])) is not None:
            return equals("capture_id", unquote(pieces[-3])), [*pieces[:-2], f"{row:04d}", f"{last:04d}"]
        case Kind.REFERENCE if len(pieces) > 2:
            frame, crop = _number(pieces[-3]), _number(pieces[-1].removeprefix("crop"))
            if frame is not None and crop is not None:
                return equals("frame", frame) & equals("crop", crop), [*pieces[:-3], f"{frame:04d}", *pieces[-2:]]
    return None


def _holds(key: str, pieces: Sequence[str], *, exactly: bool) -> bool:
    """Whether a key has the pieces in their order; the last one is compared where it is to be `exactly` the key's."""
    *before, end = key.split("/")
    there = iter(before)
    return all(piece in there for piece in pieces[:-1]) and (not exactly or end == pieces[-1])


def _ends(key: str, pieces: Sequence[str]) -> bool:
    return key.split("/")[-len(pieces) : -1] == list(pieces[:-1])


def _number(piece: str) -> int | None:
    return int(piece) if piece.isascii() and piece.isdigit() and len(piece) <= 18 else None


def _misspelt(name: str, pieces: Sequence[str], collection: Collection, kinds: Sequence[Kind]) -> str:
    """A hint: an item with the same end, of a dataset, capture or category that is spelt nearly so."""
    if len(pieces) < 2:
        return ""
    forms: set[str] = set()
    for item in _candidates(pieces[-1:], collection, kinds)[:COMPARED]:
        there = item.key.split("/")
        forms.update("/".join(there[start:]) for start in range(len(there) - 1))
        forms.add(f"{there[1]}/{there[-1]}")
    return nearest(name, sorted(forms), cutoff=0.7)


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
