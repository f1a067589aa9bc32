"""Rows on their way: a file to which rows are appended, and from which they are read again after the process was killed.

An Arrow stream of the rows as they will be stored, each with its checksum, and their vectors. What was appended is on the disk
when `append` returns. A file that ends in the middle of rows gives those before.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import PlaceUnusable
from outcrop.schema.item import Item
from outcrop.store.integrity import fault_of
from outcrop.store.rows import pack, unpack

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = b"outcrop.folder"
"""The key in the file's header under which it says where the server's files were made of it."""


class Spool:
    """One file of rows with vectors of `dim` numbers. `folder` is where the server's files will be made of it."""

    def __init__(self, path: Path, dim: int, folder: str) -> None:
        import pyarrow as pa

        self.path, self.rows, self._dim = path, 0, dim
        self._schema = _schema(dim).with_metadata({FOLDER: folder.encode()})
        with _on_the_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb")
            self._stream = pa.ipc.new_stream(self._file, self._schema)

    def append(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> None:
        """Keeps items with their vectors [N, D] float32 (length 1).

        Raises:
            InputError: one of them cannot be stored (see `pack`). PlaceUnusable: the disk is full, say.
        """
        import pyarrow as pa

        packed = pack(items, vectors, self._dim)
        rows, numbers = packed.rows(), packed.vectors.reshape(-1)
        for row in rows:
            del row["vector"]
        columns = [
            pa.array([json.dumps(row, ensure_ascii=False) for row in rows], type=pa.string()),
            pa.FixedSizeListArray.from_arrays(pa.array(numbers, type=pa.float32()), self._dim),
        ]
        with _on_the_disk(self.path):
            self._stream.write_batch(pa.record_batch(columns, schema=self._schema))
            self._file.flush()
            os.fsync(self._file.fileno())
        self.rows += len(rows)

    def close(self) -> None:
        """Ends the file."""
        with _on_the_disk(self.path):
            self._stream.close()
            self._file.close()

    def leave(self) -> None:
        """Leaves it as it is, to whoever reads it next."""
        with contextlib.suppress(OSError):
            self._file.close()

    def remove(self) -> None:
        """Removes it: its rows are stored."""
        self.path.unlink(missing_ok=True)


def kept_in(path: Path, dim: int) -> Iterator[tuple[list[Item], NDArray[np.float32]]]:
    """The items of a file with their vectors [N, D] float32, as they were appended, up to where it was cut short."""
    import pyarrow as pa

    with path.open("rb") as file, contextlib.suppress(pa.ArrowInvalid, OSError, StopIteration):
        stream = pa.ipc.open_stream(file)
        if stream.schema.field("vector").type != _schema(dim).field("vector").type:
            return
        while True:
            rows = list(_sound(stream.read_next_batch(), dim))
            if rows:
                yield unpack(rows)


def folder_of(path: Path) -> str:
    """Where the server's files were made of a file; '' where that cannot be read any more."""
    import pyarrow as pa

    with path.open("rb") as file, contextlib.suppress(pa.ArrowInvalid, OSError):
        return str((pa.ipc.open_stream(file).schema.metadata or {}).get(FOLDER, b""), "utf-8")
    return ""


def _sound(batch: pa.RecordBatch, dim: int) -> Iterator[dict[str, Any]]:
    """The rows of a batch that are what was appended; a power cut may leave others."""
    vectors = np.asarray(batch.column(1).flatten(), dtype=np.float32).reshape(-1, dim)
    for text, vector in zip(batch.column(0).to_pylist(), vectors, strict=True):
        try:
            row = {**json.loads(text), "vector": vector}
        except ValueError:
            continue
        if not fault_of(row):
            yield row


def _schema(dim: int) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([pa.field("row", pa.string()), pa.field("vector", pa.list_(pa.float32(), dim))])


@contextlib.contextmanager
def _on_the_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlaceUnusable(
            f"rows on their way to the server cannot be kept in {path} ({error.strerror or error}); make room there, "
            "or give another --state"
        ) from None
