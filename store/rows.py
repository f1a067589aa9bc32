"""Items as rows of Milvus: the schema of a collection, and packing and unpacking of items with their vectors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.columns import MAX_ROW_BYTES, PREFIX
from outcrop.schema.errors import InputError
from outcrop.schema.item import CHECKSUM, FIELDS, Field, Item
from outcrop.store.integrity import checksum

if TYPE_CHECKING:
    from pymilvus import CollectionSchema, MilvusClient

ID_LENGTH = 32


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


def pack(items: Sequence[Item], vectors: NDArray[np.float32], dim: int) -> list[dict[str, Any]]:
    """Rows for `items` with `vectors` [N, dim] float32, the last one winning where an id comes twice.

    Milvus keeps both rows (below 2.6.8) or refuses the batch when an id comes twice, and takes NaN and zero vectors.

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
    rows: dict[str, dict[str, Any]] = {}
    for item, vector in zip(items, vectors, strict=True):
        row = item.row()
        for name, field in FIELDS.items():
            value = row[name]
            if field.type == "text" and value.isascii() and len(value) <= field.max_length:
                continue  # nearly all of them
            row[name] = _fitting(item, field, value)
        if item.extra:
            _require_room(item)
        row[CHECKSUM] = checksum(row, vector)
        row["vector"] = vector
        rows[row["id"]] = row
    return list(rows.values())


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
