"""Items, their keys and ids, and the fields that every item has.

One list of fields (`FIELDS`) serves every kind and everything that needs to know them: the Milvus schema, filters, answers,
exports and the documentation. Every field has a natural value for every kind, so no field is ever null.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from typing import Any, Literal
from urllib.parse import quote, unquote

from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError

UNKNOWN_COORDINATE = 999.0
"""Latitude and longitude of an item whose place is not known (degrees; outside every range)."""

POOLED_VIEW = -1
"""`view` of an item that is not one view of a specimen."""


class Kind(StrEnum):
    """What an item is."""

    IMAGE = "image"
    REFERENCE = "reference"
    VIEW = "view"
    SPECIMEN = "specimen"
    TILE = "tile"


AERIAL = (Kind.IMAGE, Kind.REFERENCE)
"""Photographs, and what is cut out of them."""
FOSSIL = (Kind.VIEW, Kind.SPECIMEN)

FieldType = Literal["text", "integer", "number"]


@dataclass(frozen=True)
class Field:
    """One column: its type, the most UTF-8 bytes of a text, its meaning, and the kinds for which it says something."""

    name: str
    type: FieldType
    meaning: str
    max_length: int = 0
    kinds: tuple[Kind, ...] = tuple(Kind)


FIELDS: dict[str, Field] = {
    f.name: f
    for f in (
        Field("key", "text", "readable name of the item", 1024),
        Field("kind", "text", "image, reference, view, specimen or tile", 16),
        Field("dataset", "text", "name of the dataset in the registry", 256),
        Field("category", "text", "category tree of a specimen, '' for aerial items", 512, FOSSIL),
        Field(
            "capture_id",
            "text",
            "capture of an aerial item; specimen id of a view or specimen; scale of a tile (150m)",
            256,
        ),
        Field("frame", "integer", "frame number within its capture", kinds=AERIAL),
        Field("altitude", "number", "metres above ground, 0 where none", kinds=AERIAL),
        Field("rotation", "number", "degrees [0, 360) by which the picture was turned counter-clockwise", kinds=AERIAL),
        Field(
            "crop",
            "integer",
            "number of the crop: 0 the whole picture, 1 to 99 hundredths of its sides, more a cell of a grid",
            kinds=AERIAL,
        ),
        Field("view", "integer", "number of the view, -1 = pooled or not a view", kinds=FOSSIL),
        Field("latitude", "number", "degrees north (WGS 84), 999 = unknown"),
        Field("longitude", "number", "degrees east (WGS 84), 999 = unknown"),
        Field("captured_at", "text", "ISO 8601 time of the photograph, '' where unknown", 40, AERIAL),
        Field("source", "text", "path of the source file, relative to its root", 1024),
        Field("source_size", "integer", "bytes of the source file"),
        Field("source_mtime_ns", "integer", "time of the source file's last change, ns since 1970"),
        Field("source_digest", "text", "hex digest of the source's bytes and of the transform applied to it", 64),
        Field("ingested_at", "text", "ISO 8601 time (UTC) at which the item was embedded", 40),
    )
}
CHECKSUM = "checksum"
"""The name in the dynamic field under which a row keeps its checksum; no item has an `extra` of this name."""
ANSWER_FIELDS = (
    "key",
    "kind",
    "dataset",
    "category",
    "capture_id",
    "frame",
    "altitude",
    "rotation",
    "crop",
    "view",
    "source",
)
"""The fields that a query's answer carries, in this order."""


@dataclass(frozen=True)
class Item:
    """One thing with a vector. `extra` goes into the collection's dynamic field (JSON values only)."""

    key: str
    kind: Kind
    dataset: str
    capture_id: str
    category: str = ""
    frame: int = 0
    altitude: float = 0.0
    rotation: float = 0.0
    crop: int = 0
    view: int = POOLED_VIEW
    latitude: float = UNKNOWN_COORDINATE
    longitude: float = UNKNOWN_COORDINATE
    captured_at: str = ""
    source: str = ""
    source_size: int = 0
    source_mtime_ns: int = 0
    source_digest: str = ""
    ingested_at: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Disks spell names in either Unicode form (a Mac's in NFD); conditions are in NFC, and so is what they are compared with.
        if not self.source.isascii():
            object.__setattr__(self, "source", _nfc(self.source))

    @property
    def id(self) -> str:
        """The primary key: 32 hex characters, a digest of the key."""
        return item_id(self.key)

    def changed(self, **values: Any) -> Item:
        """As `dataclasses.replace`, which asks for every field and takes ten times as long: an ingest does this several times for
        each item."""
        made = object.__new__(Item)
        vars(made).update(vars(self), **values)
        if "source" in values:
            made.__post_init__()
        return made

    def row(self) -> dict[str, Any]:
        """The item as plain values, `id` first and `extra` unfolded; the vector is not part of it.

        What `extra` calls like a field (or `id`) is left out: it would replace the field, even the primary key.
        """
        row: dict[str, Any] = {"id": self.id, **self.extra}
        row.pop("vector", None)
        row.pop(CHECKSUM, None)
        for name in FIELDS:  # not `asdict`, which copies deeply: an ingest asks for every item's row
            row[name] = getattr(self, name)
        row["id"], row["kind"] = self.id, str(self.kind)
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Item:
        """The inverse of `row`; what is not a field of an item becomes `extra`."""
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in row.items():
            if name in FIELDS:
                values[name] = value
            elif name not in ("id", "vector", CHECKSUM):
                extra[name] = value
        values["kind"] = Kind(values["kind"])
        return cls(**values, extra=extra)

    @classmethod
    def of_fields(cls, row: Mapping[str, Any]) -> Item:
        """As `from_row`, but of the fields alone: without `extra`. Every hit of a search is made so."""
        made = object.__new__(cls)  # `__init__` sets field by field, and takes three times as long
        values = vars(made)
        values.update(zip(_NAMES, _IN_ORDER(row), strict=True))
        values["kind"] = _KINDS.get(values["kind"]) or Kind(values["kind"])
        values["extra"] = {}
        made.__post_init__()
        return made


_NAMES = tuple(each.name for each in fields(Item) if each.name != "extra")
_IN_ORDER = itemgetter(*_NAMES)
_KINDS: dict[str, Kind] = {str(kind): kind for kind in Kind}


@lru_cache(maxsize=16384)  # an ingest asks several times for that of each item on its way
def item_id(key: str) -> str:
    """128-bit BLAKE2b digest of a key (in NFC, whichever form was typed), as 32 hex characters: the primary key of its row."""
    return digest_of(_nfc(key))


def image_key(dataset: str, capture_id: str, frame: int) -> str:
    """``image/<dataset>/<capture_id>/<frame>``; frames have at least four digits."""
    return "/".join((Kind.IMAGE, part(dataset), part(capture_id), f"{frame:04d}"))


def reference_key(dataset: str, capture_id: str, frame: int, rotation: float, crop: int) -> str:
    """``reference/<dataset>/<capture_id>/<frame>/rot<RRR>/crop<CC>``; a rotation has up to three decimals (``rot022.5``).

    Raises:
        InputError: the rotation is not in [0, 360) degrees.
    """
    if not 0 <= rotation < 360:
        raise InputError(f"a rotation must be in [0, 360) degrees, got {rotation:g}; give {rotation % 360:g}")
    turned = f"{rotation:07.3f}".rstrip("0").rstrip(".")
    return "/".join(
        (Kind.REFERENCE, part(dataset), part(capture_id), f"{frame:04d}", f"rot{turned}", f"crop{crop:02d}")
    )


def view_key(dataset: str, category: str, specimen: str, view: int) -> str:
    """``view/<dataset>/<category…>/<specimen>/<VV>``; a category's levels are separated by ``/``, '' has none."""
    return "/".join((Kind.VIEW, part(dataset), *_levels(category), part(specimen), f"{view:02d}"))


def specimen_key(dataset: str, category: str, specimen: str) -> str:
    """``specimen/<dataset>/<category…>/<specimen>``; see `view_key`."""
    return "/".join((Kind.SPECIMEN, part(dataset), *_levels(category), part(specimen)))


def tile_key(dataset: str, scale: str, row: int, column: int) -> str:
    """``tile/<dataset>/<scale>/<row>/<column>``: a tile of a map; its scale is the metres of its sides (``150m``)."""
    return "/".join((Kind.TILE, part(dataset), part(scale), f"{row:04d}", f"{column:04d}"))


def made_together(key: str) -> str:
    """What names the items that one pass makes or removes together: all tiles of a map; otherwise the parent (`parent_of`)."""
    return "/".join(key.split("/")[:2]) if key.startswith(f"{Kind.TILE}/") else parent_of(key)


def parent_of(key: str) -> str:
    """The key of what an item shows: the image of a reference, the specimen of a view; its own key otherwise."""
    pieces = key.split("/")
    if pieces[0] == Kind.REFERENCE and len(pieces) == 6:
        return "/".join((Kind.IMAGE, *pieces[1:4]))
    if pieces[0] == Kind.VIEW and len(pieces) >= 4:
        return "/".join((Kind.SPECIMEN, *pieces[1:-1]))
    return key


def _levels(category: str) -> list[str]:
    return [part(level) for level in category.split("/")] if category else []


@lru_cache(maxsize=4096)
def part(name: str) -> str:
    """One component of a key: NFC, with ``/``, ``%`` and control characters percent-encoded, so that keys never collide."""
    name = _nfc(name)
    if not name:
        raise InputError("a key has an empty component; name the dataset and the capture")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name!r} is not valid Unicode text; rename it") from None
    return "".join(quote(c, safe="") if c in "/%" or ord(c) < 32 or ord(c) == 127 else c for c in name)


def item_of_key(key: str) -> Item:
    """An item with what its key says: kind, dataset, category, capture, frame, rotation, crop, view.

    Raises:
        InputError: the text is not a valid key.
    """
    key = _nfc(key)
    pieces = key.split("/")
    names = [unquote(piece) for piece in pieces]
    try:
        match pieces[0]:
            case Kind.IMAGE if len(pieces) == 4:
                return Item(key, Kind.IMAGE, names[1], names[2], frame=int(pieces[3]))
            case Kind.REFERENCE if len(pieces) == 6 and pieces[4].startswith("rot") and pieces[5].startswith("crop"):
                turned, cropped = float(pieces[4][3:]), int(pieces[5][4:])
                return Item(
                    key, Kind.REFERENCE, names[1], names[2], frame=int(pieces[3]), rotation=turned, crop=cropped
                )
            case Kind.VIEW if len(pieces) >= 4:
                return Item(key, Kind.VIEW, names[1], names[-2], category="/".join(names[2:-2]), view=int(pieces[-1]))
            case Kind.SPECIMEN if len(pieces) >= 3:
                return Item(key, Kind.SPECIMEN, names[1], names[-1], category="/".join(names[2:-1]))
            case Kind.TILE if len(pieces) == 5 and pieces[3].isdecimal() and pieces[4].isdecimal():
                return Item(key, Kind.TILE, names[1], names[2])
    except ValueError:
        pass
    raise InputError(f"{key!r} is not a valid key; keys look like image/<dataset>/<capture_id>/<frame>")


@dataclass(frozen=True)
class ImageKey:
    """The components of the key of an image."""

    dataset: str
    capture_id: str
    frame: int

    def __str__(self) -> str:
        return image_key(self.dataset, self.capture_id, self.frame)


def parse_image_key(key: str) -> ImageKey:
    """The components of ``image/<dataset>/<capture_id>/<frame>``.

    Raises:
        InputError: the text is not the key of an image.
    """
    key = _nfc(key)
    pieces = key.split("/")
    if len(pieces) == 4 and re.fullmatch(r"[0-9]{4,18}", pieces[3]):
        parsed = ImageKey(unquote(pieces[1]), unquote(pieces[2]), int(pieces[3]))
        with contextlib.suppress(InputError):  # an empty component
            if str(parsed) == key:  # another spelling of the same components is the key of no row
                return parsed
    raise InputError(f"{key[:300]!r} is not the key of an image; it looks like image/<dataset>/<capture_id>/<frame>")


def _nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
