"""Whether a stored row is still what was written: its checksum, its id and the length of its vector.

A flipped bit on the disk changes a vector or a name, and Milvus returns it as it is. So every row carries a checksum of
everything else in it (in the dynamic field, under `CHECKSUM`); rows of collections made before have none, and are judged by their
id, which is a digest of the key, and by their vector, which has length 1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import Damaged
from outcrop.schema.item import CHECKSUM, FIELDS, item_id

TOLERANCE = 1e-3
"""How far the length of a stored vector may be from 1."""
_FIELDS = tuple((name, field.type == "number") for name, field in FIELDS.items())
OF_THE_ROW = frozenset(("id", "vector", CHECKSUM, *FIELDS))
"""What the dynamic field does not hold, and the checksum that it does."""
_json = json.JSONEncoder(sort_keys=True).encode
_quoted = json.encoder.encode_basestring_ascii


def checksum(row: Mapping[str, Any], vector: NDArray[np.float32]) -> str:
    """16 hex characters over the fields of a row, what is in its dynamic field, and its vector [D] float32."""
    fields = [repr(float(row[name])) if number else str(row[name]) for name, number in _FIELDS]
    extra = {name: value for name, value in row.items() if name not in OF_THE_ROW}
    return _digest(np.ascontiguousarray(vector, dtype=np.float32), fields, extra)


def checksums(
    fields: Mapping[str, Sequence[Any]], extras: Sequence[Mapping[str, Any]], vectors: NDArray[np.float32]
) -> list[str]:
    """`checksum` of rows by column: `fields` by name, the `extras` of each row without what is of the row itself, and `vectors`
    [N, D] float32."""
    texts = [list(map(repr if number else str, fields[name])) for name, number in _FIELDS]
    each = zip(vectors, zip(*texts, strict=True), extras, strict=True)
    return [_digest(vector, values, extra) for vector, values, extra in each]


def _digest(vector: NDArray[np.float32], fields: Iterable[str], extra: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(vector.tobytes(), digest_size=8)
    # One text, not an update a field: an ingest asks for every item's.
    digest.update("\0".join(fields).encode())
    if extra:
        digest.update(_text(extra).encode())
    return digest.hexdigest()


def _text(extra: Mapping[str, Any]) -> str:
    """The dynamic field as JSON with its names sorted; put together here, as the encoder takes three times as long to begin."""
    if not all(type(name) is str for name in extra):
        return _json({name: _plain(value) for name, value in extra.items()})
    return f"{{{', '.join([f'{_quoted(name)}: {_text_of(extra[name])}' for name in sorted(extra)])}}}"


def _text_of(value: Any) -> str:
    """`_plain` of a value as JSON."""
    kind = type(value)
    if kind is float or kind is int:
        return f'"{float(value)!r}"'
    if kind is list:
        return f"[{', '.join(map(_text_of, value))}]"
    return _json(_plain(value))


def fault_of(row: Mapping[str, Any]) -> str:
    """What is wrong with a row as it was read, whole or in part; '' where nothing is seen to be.

    A row with all its fields and its vector is compared with its checksum; of others, the id and the vector's length are judged.
    """
    key, vector = row.get("key"), row.get("vector")
    if key is not None and "id" in row and item_id(key) != row["id"]:
        return "its id is not that of its key"
    if vector is not None:
        vector = np.asarray(vector, dtype=np.float32)
        wide = vector.astype(np.float64)  # a flipped exponent overflows float32
        length = math.sqrt(float(wide @ wide))
        if not abs(length - 1) <= TOLERANCE:
            return f"its vector has length {length:.4g}, not 1"
        if CHECKSUM in row and FIELDS.keys() <= row.keys() and checksum(row, vector) != row[CHECKSUM]:
            return "it does not match its checksum"
    return ""


def require_sound(rows: Iterable[Mapping[str, Any]], collection: str) -> None:
    """Refuses rows of which one is not what was written.

    Raises:
        Damaged: naming the first one.
    """
    for row in rows:
        if fault := fault_of(row):
            raise damaged(row, fault, collection)


def require_unit(ids: Sequence[str], vectors: NDArray[np.float32], collection: str) -> None:
    """Refuses vectors [N, D] of which one has not length 1; `ids` [N] are those of their rows.

    Raises:
        Damaged: naming the first one.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    bad = np.flatnonzero(~(np.abs(lengths - 1) <= TOLERANCE))
    if len(bad):
        place = int(bad[0])
        raise damaged({"id": ids[place]}, f"its vector has length {lengths[place]:.4g}, not 1", collection)


def damaged(row: Mapping[str, Any], fault: str, collection: str) -> Damaged:
    """The error for one damaged row."""
    name = row.get("key") or row.get("id")
    return Damaged(
        f"item {str(name)[:300]!r} of collection {collection!r} is damaged in the store ({fault}); `collection verify` lists "
        "what is: ingest it again with --force, or import an export"
    )


def _plain(value: Any) -> Any:
    """A value of the dynamic field as every backend returns it: numbers as floats, whatever their form in JSON."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return repr(float(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value]
