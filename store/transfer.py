"""Collections to files and back, and from one store to another: whole, verified, and nothing half-written.

Parquet is the exchange format: a column for every field and every own column, `vector` as a list of float32, `extra` (what else
is in the dynamic field) as JSON; the space, the index and the number of rows stand in the file's metadata.
`outcrop.store.arrays` does .npy and FAISS, `outcrop.store.map_files` CSV and maps.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from outcrop.schema.columns import Columns
from outcrop.schema.errors import InputError, OutcropError, Refused
from outcrop.schema.files import at_hand, whole_file
from outcrop.schema.filters import Filter
from outcrop.schema.item import FIELDS, Item
from outcrop.schema.space import Space
from outcrop.store.averaged import Averaged, require_alike
from outcrop.store.bulk import Bulk, load_into
from outcrop.store.collection import PROPERTY_FOLDERS, PROPERTY_MAPS, PROPERTY_REFERENCES, PROPERTY_TABLES, Collection
from outcrop.store.connection import Store
from outcrop.store.rows import pack, unpack

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = 1000
"""Rows read or written in one go."""
SAMPLED = 200
"""Rows whose vectors are compared bit for bit after a transfer."""
_FORMAT = b"outcrop.format"
_SPACE = b"outcrop.space"
_FACTS = b"outcrop.facts"
_DIGEST = b"outcrop.digest"


@dataclass(frozen=True)
class Transfer:
    """What was moved: `rows` items, and where they are now."""

    rows: int
    target: str
    checked: int = 0


def export_parquet(
    collection: Collection, path: Path, filter: Filter | None = None, *, progress: Callable[[int], None] | None = None
) -> Transfer:
    """Writes a collection, or what a filter keeps of it, to one Parquet file, ordered by id.

    The file appears under its name only when it is whole and its rows are as many as the collection has.

    Raises:
        InputError: the file cannot be written (no space, no permission). OutcropError: the scan missed rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = collection.count(filter)
    facts = {
        "rows": expected,
        "index": collection.profile.name,
        "build": collection.build,
        "weights": collection.weights_hint,
        "name": collection.name.removesuffix("__" + collection.space.fingerprint[:8]),
        "columns": {column.name: column.type for column in collection.columns.values()},
    }
    if collection.averaged is not None:
        facts["averaged"] = collection.averaged.model_dump(mode="json")
    space_text, facts_text = collection.space.model_dump_json().encode(), json.dumps(facts).encode()
    schema = _arrow_schema(collection.space.dim, collection.columns).with_metadata(
        {_FORMAT: b"1", _SPACE: space_text, _FACTS: facts_text, _DIGEST: _digest(space_text, facts_text)}
    )
    rows = 0
    # Checksums: a flipped bit in a vector or a number would pass unnoticed otherwise.
    options = {"compression": "zstd", "write_page_checksum": True}
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for page in collection.scan_rows(filter, ["*"], batch=PAGE):
            items, vectors = unpack(page)
            writer.write_table(_table(items, vectors, schema, collection.columns, pa))
            rows += len(items)
            if progress is not None:
                progress(rows)
        require_complete(collection, rows, expected)
    return Transfer(rows, str(path))


def import_parquet(
    store: Store,
    path: Path,
    name: str | None = None,
    *,
    index: str | None = None,
    progress: Callable[[int], None] | None = None,
    bulk: Bulk | None = None,
    say: Callable[[str], None] | None = None,
) -> Transfer:
    """Reads a file of `export_parquet` into a new collection, or one of its space (rows of the same key are replaced).

    The whole file is checked before the first row is written. With `bulk`, many rows go through files that the server reads
    (see `outcrop.store.bulk`), which is said to `say`.

    Raises:
        InputError: no such file, damaged, or not one of ours. SpaceMismatch: the collection has a different space.
    """
    try:
        with at_hand(path) as here:
            return _import_parquet(store, here, name, index, progress, bulk, say)
    except FileNotFoundError:
        raise InputError(f"no file {path}; check the path") from None


def _import_parquet(
    store: Store,
    path: Path,
    name: str | None,
    index: str | None,
    progress: Callable[[int], None] | None,
    bulk: Bulk | None,
    say: Callable[[str], None] | None,
) -> Transfer:
    space, facts = read_parquet_facts(path)
    columns = Columns.of_text(json.dumps(facts.get("columns")))
    if say is not None and (strange := _strange(path, space, columns)):
        say(
            f"{path}: {', '.join(strange)} not read: an export has no such column; see `collection annotate` for own ones"
        )
    counted = sum(len(items) for items, _ in _pages(path, space, columns, check=True))
    if counted != facts.get("rows"):
        raise InputError(
            f"{path} contains {counted} rows but declares {facts.get('rows')}; nothing was written, export it again"
        )
    name = name or str(facts.get("name") or "outcrop")
    collection = _target(store, name, space, _averaged(facts), index=index, weights=str(facts.get("weights", "")))
    collection.add_columns(columns)
    rows = _loaded(collection, _pages(path, space, columns, check=False), bulk, counted, progress, say)
    collection.flush()
    collection.wait_for_index()
    collection.wait_until_served()
    checked = _compare(
        (pair for page in _pages(path, space, columns, check=False) for pair in zip(*page, strict=True)),
        collection,
        rows,
    )
    return Transfer(rows, collection.physical, checked)


def _strange(path: Path, space: Space, columns: Columns) -> list[str]:
    """The columns of a file that are none of an export's."""
    import pyarrow.parquet as pq

    known = set(_arrow_schema(space.dim, columns).names)
    return [f"column {name!r} is" for name in pq.read_schema(path).names if name not in known]


def _averaged(facts: dict[str, Any]) -> Averaged | None:
    return Averaged.of_text(json.dumps(facts["averaged"])) if facts.get("averaged") else None


def _target(store: Store, name: str, space: Space, averaged: Averaged | None, **creation: Any) -> Collection:
    """The collection that rows are brought into, which says of its vectors what their source says.

    Raises:
        Refused: it holds rows that were not averaged as these were.
    """
    there = Collection.find(store, name)
    if there is not None:
        require_alike(name, there.averaged, averaged)
    collection = Collection.ensure(store, name, space, **creation)
    collection.say_averaged(averaged)
    return collection


def read_parquet_facts(path: Path) -> tuple[Space, dict[str, Any]]:
    """The space of an exported file, and what else it says of itself.

    Raises:
        InputError: no such file, damaged, or not one of ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with at_hand(path) as here:
            schema = pq.read_schema(here)
        names = schema.names  # damaged names are found where they are decoded
    except FileNotFoundError:
        raise InputError(f"no file {path}; check the path") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({_first_line(error)}); export it again") from None
    metadata = schema.metadata or {}
    if metadata.get(_FORMAT) != b"1":
        raise InputError(
            f"{path} is not an export of Outcrop (it states no embedding space); `collection export` makes one"
        )
    try:
        if metadata[_DIGEST] != _digest(metadata[_SPACE], metadata[_FACTS]):
            raise ValueError("digest")
        space = Space.model_validate_json(metadata[_SPACE])
        facts = json.loads(metadata[_FACTS])
        _averaged(facts)
    except (KeyError, ValueError, ValidationError, RecursionError):
        raise InputError(f"{path} states an embedding space that cannot be read; export it again") from None
    wanted = _arrow_schema(space.dim)
    for field in wanted:
        if field.name not in names or schema.field(field.name).type != field.type:
            raise InputError(
                f"{path}: column {field.name!r} is missing or is not of type {field.type}; export it again"
            )
    return space, facts


def copy(
    source: Collection,
    target: Store,
    name: str,
    *,
    index: str | None = None,
    progress: Callable[[int], None] | None = None,
    bulk: Bulk | None = None,
    say: Callable[[str], None] | None = None,
) -> Transfer:
    """Copies a collection into another store (or under another name), and verifies it: counts, ids, sampled vectors.

    The target is a new collection, or one of the same space, where rows of the same key are replaced. `bulk` and `say` are as in
    `import_parquet`.

    Raises:
        Refused: source and target are one. SpaceMismatch: the target has a different space. OutcropError: rows are missing.
    """
    there = Collection.find(target, name)
    if there is not None and there.physical == source.physical and _same_place(source.store, target):
        raise Refused(f"{name!r} in {target.describe()} is the same collection; give --to-uri or --to")
    expected = source.count()
    collection = _target(target, name, source.space, source.averaged, index=index, weights=source.weights_hint)
    take_over(source, collection, memory=there is None)
    pages = (unpack(page) for page in source.scan_rows(Filter(), ["*"], batch=PAGE))
    rows = _loaded(collection, pages, bulk, expected, progress, say)
    require_complete(source, rows, expected)
    collection.flush()
    collection.wait_for_index()
    collection.wait_until_served()
    missing, sample = 0, random.Random(0)
    sampled: list[str] = []
    for page in source.scan_rows(Filter(), ["id"], batch=PAGE):
        ids = [row["id"] for row in page]
        missing += len(ids) - len(collection.lookup(ids, fields=("kind",)))
        sampled += sample.sample(ids, min(len(ids), max(1, SAMPLED * len(ids) // max(1, rows))))
    if missing:
        raise OutcropError(
            f"{missing} of {rows} rows are not in {name!r} of {target.describe()} after the copy; copy again"
        )
    ours, theirs = source.items(sampled), collection.items(sampled)
    for id, (item, vector) in ours.items():
        if theirs[id][0] != item or not np.array_equal(theirs[id][1], vector):
            raise OutcropError(f"{item.key} differs in {name!r} of {target.describe()} after the copy; copy again")
    return Transfer(rows, collection.physical, len(sampled))


def take_over(source: Collection, collection: Collection, *, memory: bool = True) -> None:
    """Gives a collection the own columns of its source, and with `memory` what that remembers of its datasets."""
    properties = source.properties() if memory else {}
    for kept in (PROPERTY_REFERENCES, PROPERTY_FOLDERS, PROPERTY_MAPS, PROPERTY_TABLES):
        if remembered := properties.get(kept):
            collection.set_property(kept, remembered)
    collection.add_columns(source.columns)


def _loaded(
    collection: Collection,
    pages: Iterable[tuple[list[Item], NDArray[np.float32]]],
    bulk: Bulk | None,
    expected: int,
    progress: Callable[[int], None] | None,
    say: Callable[[str], None] | None,
) -> int:
    """Writes pages of rows, in files where that is asked for; returns how many rows."""
    load, rows = load_into(collection, bulk, expected, say), 0
    for items, vectors in pages:
        load.add(items, vectors)
        rows += len(items)
        if progress is not None:
            progress(rows)
    load.close()
    return load.rows


def _arrow_schema(dim: int, columns: Columns = Columns()) -> pa.Schema:
    import pyarrow as pa

    own = {"text": pa.string(), "number": pa.float64(), "boolean": pa.bool_(), "date": pa.string()}

    types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    fields = [pa.field(name, types[spec.type], nullable=False) for name, spec in FIELDS.items()]
    return pa.schema(
        [
            *fields,
            *(pa.field(column.name, own[column.type]) for column in columns.values()),
            pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
            pa.field("extra", pa.string(), nullable=False),
        ]
    )


def _table(items: list[Item], vectors: NDArray[np.float32], schema: pa.Schema, own: Columns, pa: Any) -> pa.Table:
    columns: list[Any] = []
    keys = set(own.keys_in_rows)
    rest = [{name: value for name, value in item.extra.items() if name not in keys} for item in items]
    for field in schema:
        if field.name == "vector":
            flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), type=pa.float32())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        elif field.name == "extra":
            columns.append(
                pa.array([json.dumps(extra, ensure_ascii=False, sort_keys=True) for extra in rest], type=field.type)
            )
        elif field.name in own:
            columns.append(pa.array([item.extra.get(own[field.name].key) for item in items], type=field.type))
        else:
            columns.append(pa.array([_plain(getattr(item, field.name)) for item in items], type=field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _pages(
    path: Path, space: Space, columns: Columns, *, check: bool
) -> Iterator[tuple[list[Item], NDArray[np.float32]]]:
    """Pages of items and vectors of a file; with `check`, everything that could fail later fails here."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    seen = 0
    try:
        # What is buffered ahead stays until the file is closed: as much as the whole file in the end.
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            for batch in file.iter_batches(PAGE):
                seen += len(batch)
                for field, column in zip(batch.schema, batch.columns, strict=True):
                    if column.null_count and field.name not in columns:
                        raise ValueError(f"column {field.name!r} has gaps")
                vectors = (
                    batch.column("vector")
                    .flatten()
                    .to_numpy(zero_copy_only=False)
                    .astype(np.float32)
                    .reshape(-1, space.dim)
                )
                rows = batch.drop_columns(["vector"]).to_pylist()
                items = [Item.from_row({**json.loads(row.pop("extra")), **_keyed(row, columns)}) for row in rows]
                if check:
                    pack(items, vectors, space.dim)
                yield items, vectors
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is damaged after {seen} rows ({_first_line(error)}); nothing was written, export it again"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} contains a row that is not a valid item ({_first_line(error)}); nothing was written, export it again"
        ) from None


def _keyed(row: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """A row of a file as a row of a collection: own columns under their keys, missing values left out."""
    own = {column.key: value for column in columns.values() if (value := row.pop(column.name, None)) is not None}
    return {**row, **own}


def _compare(pairs: Iterator[tuple[Item, NDArray[np.float32]]], collection: Collection, rows: int) -> int:
    """Compares about `SAMPLED` of the pairs with what the collection holds now; returns how many."""
    step = max(1, rows // SAMPLED)
    chosen = {item.id: (item, vector) for number, (item, vector) in enumerate(pairs) if number % step == 0}
    stored = collection.items(list(chosen))
    for id, (item, vector) in chosen.items():
        if id not in stored or stored[id][0] != item or not np.array_equal(stored[id][1], vector):
            raise OutcropError(f"{item.key} is not in {collection.name!r} as it was written; import again")
    return len(chosen)


def require_complete(collection: Collection, rows: int, expected: int) -> None:
    """Refuses a scan that gave other than the expected number of rows."""
    if rows != expected:
        raise OutcropError(
            f"the scan of {collection.name!r} gave {rows} rows, but it has {expected}; was it written to meanwhile? Try again"
        )


def _same_place(one: Store, other: Store) -> bool:
    if one.lite and other.lite:
        return Path(one.uri).resolve() == Path(other.uri).resolve()
    return one.uri.rstrip("/") == other.uri.rstrip("/")


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest().encode()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
