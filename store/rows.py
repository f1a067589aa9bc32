"""Items as rows of Milvus: the schema of a collection, and packing and unpacking of items with their vectors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.columns import MAX_ROW_BYTES, PREFIX
from outcrop.schema.errors import InputError
from outcrop.schema.item import CHECKSUM, FIELDS, Field, Item
from outcrop.store.integrity import OF_THE_ROW, checksums

if TYPE_CHECKING:
    from pymilvus import CollectionSchema, MilvusClient

ID_LENGTH = 32
_VALUES = attrgetter(*FIELDS)


def milvus_schema(client: MilvusClient, dim: int) -> CollectionSchema:
    """The one schema of every collection: `id`, the fields of `schema.item.FIELDS`, `vector` [dim] and the dynamic field."""
    from pymilvus import DataType

    types = {"text": DataType.VARCHAR, "integer": DataType.INT64, "number": DataType.DOUBLE}
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=ID_LENGTH)
    for field in FIELDS.values():
        length = {"max_length": field.max_length} if field.type == "text" else {}
        schema.add_field(field.name, types[field.type], **length)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    return schema


@dataclass(frozen=True)
class Packed:
    """Rows by column, as Milvus is to have them: `fields` by name, in the order of `schema.item.FIELDS`, `extras` what goes into
    the dynamic field of each (its checksum among it), and `vectors` [N, D] float32."""

    ids: list[str]
    fields: dict[str, list[Any]]
    extras: list[dict[str, Any]]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def taken(self, places: Sequence[int]) -> Packed:
        """Some of the rows."""
        if len(places) == len(self) and list(places) == list(range(len(self))):
            return self
        return Packed(
            [self.ids[n] for n in places],
            {name: [column[n] for n in places] for name, column in self.fields.items()},
            [self.extras[n] for n in places],
            self.vectors[list(places)],
        )

    def rows(self) -> list[dict[str, Any]]:
        """Each row by itself, as pymilvus takes it."""
        names = list(self.fields)
        each = zip(self.ids, zip(*self.fields.values(), strict=True), self.extras, self.vectors, strict=True)
        return [
            {"id": id, **extra, **dict(zip(names, values, strict=True)), "vector": vector}
            for id, values, extra, vector in each
        ]


def pack(items: Sequence[Item], vectors: NDArray[np.float32], dim: int) -> Packed:
    """Rows for `items` with `vectors` [N, dim] float32, the last one winning where an id comes twice.

    Milvus keeps both rows (below 2.6.8) or refuses the batch when an id comes twice, and takes NaN and zero vectors. What is
    done with every value is done by column: an ingest on a fast card has a quarter of a millisecond for all that it does of a
    row.

    Raises:
        InputError: wrong shape, a vector that is not finite or not of length 1, a text too long for its field or not valid
            Unicode, too much in own columns, a number that is not finite or too large.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.shape != (len(items), dim):
        raise InputError(f"{len(items)} items need vectors of shape [{len(items)}, {dim}], got {list(vectors.shape)}")
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    bad = np.flatnonzero(~(np.abs(norms - 1.0) < 1e-3))
    if len(bad):
        first = int(bad[0])
        raise InputError(
            f"the vector of {items[first].key} has length {norms[first]:.4g}, not 1; normalise vectors before they are stored"
        )
    ids = [item.id for item in items]
    last = {id: number for number, id in enumerate(ids)}
    if len(last) < len(items):
        places = list(last.values())
        items, ids, vectors = [items[n] for n in places], list(last), vectors[places]
    columns = zip(*map(_VALUES, items), strict=True) if items else ((),) * len(FIELDS)
    fields = {
        field.name: _fitting_column(items, field, column)
        for field, column in zip(FIELDS.values(), columns, strict=True)
    }
    extras = [_extra(item) for item in items]
    for extra, digest in zip(extras, checksums(fields, extras, vectors), strict=True):
        extra[CHECKSUM] = digest
    return Packed(ids, fields, extras, vectors)


def _extra(item: Item) -> dict[str, Any]:
    """What of an item goes into the dynamic field: what it calls like a field would replace that."""
    if not item.extra:
        return {}
    _require_room(item)
    return {name: value for name, value in item.extra.items() if name not in OF_THE_ROW}


def _fitting_column(items: Sequence[Item], field: Field, column: Sequence[Any]) -> list[Any]:
    """The values of a field as Milvus may have them; judged one by one only where something is unusual."""
    if field.name == "kind":
        return [str(value) for value in column]
    usual = {"text": _are_short, "integer": _are_integers, "number": _are_numbers}[field.type]
    if column and not usual(field, column):
        return [_fitting(item, field, value) for item, value in zip(items, column, strict=True)]
    return [value + 0.0 for value in column] if field.type == "number" else list(column)


def _are_short(field: Field, column: Sequence[str]) -> bool:
    return "".join(column).isascii() and max(map(len, column)) <= field.max_length


def _are_integers(_: Field, column: Sequence[Any]) -> bool:
    return set(map(type, column)) == {int} and min(column) > -(2**63) and max(column) < 2**63


def _are_numbers(_: Field, column: Sequence[Any]) -> bool:
    return set(map(type, column)) == {float} and all(map(math.isfinite, column))


def _require_room(item: Item) -> None:
    """Refuses own columns that take more than their share of what Milvus takes of a row's dynamic field."""
    own = {name: value for name, value in item.extra.items() if name.startswith(PREFIX)}
    if own and (size := len(json.dumps(own, ensure_ascii=False).encode())) > MAX_ROW_BYTES:
        raise InputError(
            f"{item.key[:120]}: its own columns have {size} bytes, more than {MAX_ROW_BYTES}; shorten them"
        )


def _fitting(item: Item, field: Field, value: Any) -> Any:
    """A value as Milvus may have it; an InputError where it fits no column or no filter could find it again."""
    if field.type == "text":
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise InputError(
                f"{item.key[:120]!r}: {field.name} {value[:120]!r} is not valid Unicode; rename it"
            ) from None
        if size > field.max_length:
            raise InputError(f"{item.key[:120]}: {field.name} is longer than {field.max_length} bytes; shorten it")
        return value
    if field.type == "integer":
        if not -(2**63) < value < 2**63:
            raise InputError(f"{item.key[:120]}: {field.name} {value} has more than 64 bits")
        return int(value)
    if not math.isfinite(value):
        raise InputError(f"{item.key[:120]}: {field.name} is {value}; give a finite number")
    return float(value) + 0.0  # no -0.0: Milvus Lite does not find it among [0.0, …]


def unpack(rows: Iterable[dict[str, Any]]) -> tuple[list[Item], NDArray[np.float32]]:
    """The inverse of `pack`: items, and their vectors [N, D] float32 ([N, 0] where rows carry none)."""
    rows = list(rows)
    items = [Item.from_row(row) for row in rows]
    vectors = (
        np.asarray([row["vector"] for row in rows], dtype=np.float32)
        if rows and "vector" in rows[0]
        else np.zeros((len(rows), 0), np.float32)
    )
    return items, vectors
