"""Collections as plain arrays: ``NAME.npy`` or a FAISS index, with the keys in ``NAME.ids.txt``, row by row.

Beside them lie ``NAME.space.json`` (the embedding space) and ``NAME.items.jsonl`` (the items' metadata, one JSON object per
line); where there are own columns, ``NAME.columns.json`` has their types. Files from elsewhere need only the vectors and the ids,
and a collection or file that says which space they are of: keys tell kind, dataset, capture and frame by themselves.
"""

from __future__ import annotations

import contextlib
import json
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from pydantic import ValidationError

from outcrop.schema.columns import Columns
from outcrop.schema.errors import InputError
from outcrop.schema.files import at_hand, whole_file
from outcrop.schema.filters import Filter
from outcrop.schema.item import Item, item_of_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.rows import pack
from outcrop.store.transfer import PAGE, Transfer, require_complete

SUFFIXES = (".npy", ".faiss", ".index")


def export_arrays(
    collection: Collection, path: Path, filter: Filter | None = None, *, progress: Callable[[int], None] | None = None
) -> Transfer:
    """Writes vectors [N, D] float32 to ``.npy`` (or into a ``faiss.IndexFlatIP``), with ids, space and items beside.

    Raises:
        InputError: the files cannot be written, or FAISS is not installed.
    """
    expected = collection.count(filter)
    dim = collection.space.dim
    with (
        whole_file(_beside(path, ".ids.txt")) as ids,
        whole_file(_beside(path, ".items.jsonl")) as lines,
        whole_file(path) as main,
    ):
        rows = 0
        with (
            ids.open("w", encoding="utf-8") as id_file,
            lines.open("w", encoding="utf-8") as item_file,
            _faiss_writer(main, dim) if path.suffix != ".npy" else _npy_writer(main, expected, dim) as store_vectors,
        ):
            for page in collection.scan_rows(filter, ["*"], batch=PAGE):
                store_vectors(np.asarray([row["vector"] for row in page], dtype=np.float32))
                for row in page:
                    item = Item.from_row(row)
                    id_file.write(item.key + "\n")
                    item_file.write(
                        json.dumps({k: v for k, v in item.row().items() if k != "id"}, ensure_ascii=False) + "\n"
                    )
                rows += len(page)
                if progress is not None:
                    progress(rows)
        require_complete(collection, rows, expected)
        with whole_file(_beside(path, ".space.json")) as space:
            space.write_text(collection.space.model_dump_json(indent=1), encoding="utf-8")
        if collection.columns:
            with whole_file(_beside(path, ".columns.json")) as columns:
                columns.write_text(collection.columns.as_text() + "\n", encoding="utf-8")
    return Transfer(rows, str(path))


def import_arrays(
    store: Store,
    path: Path,
    name: str,
    *,
    space: Space | None = None,
    index: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Transfer:
    """Reads vectors and ids into a collection; vectors are normalised where they are not of length 1.

    `space` says which space they are of where no ``NAME.space.json`` does.

    Raises:
        InputError: a file is missing, damaged or does not fit the others; nothing is written then.
    """
    space = space or _read_space(path)
    vectors, keys = _read_vectors(path), _read_ids(path)
    if vectors.ndim != 2 or vectors.shape[1] != space.dim or len(vectors) != len(keys):
        raise InputError(
            f"{path} holds vectors of shape {list(vectors.shape)}; "
            f"{len(keys)} ids of space {space} need [{len(keys)}, {space.dim}]"
        )
    if len(set(keys)) != len(keys):
        raise InputError(
            f"{_beside(path, '.ids.txt')} names {len(keys) - len(set(keys))} ids twice; every row needs an id of its own"
        )
    items, columns = _read_items(path, keys), _read_columns(path)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise InputError(f"{path} holds vectors that are zero or not finite; remove them")
    off = np.abs(norms - 1) >= 1e-3
    vectors = np.where(off, vectors / norms, vectors).astype(np.float32)
    for start in range(0, len(items), PAGE):
        pack(items[start : start + PAGE], vectors[start : start + PAGE], space.dim)
    collection = Collection.ensure(store, name, space, index=index)
    collection.require_plain()
    collection.add_columns(columns)
    for start in range(0, len(items), PAGE):
        collection.upsert(items[start : start + PAGE], vectors[start : start + PAGE], replacing=True, patience=60)
        if progress is not None:
            progress(start + len(items[start : start + PAGE]))
    collection.flush()
    collection.wait_for_index()
    collection.wait_until_served()
    return Transfer(len(items), collection.physical)


@contextlib.contextmanager
def _npy_writer(path: Path, rows: int, dim: int) -> Iterator[Callable[[NDArray[np.float32]], object]]:
    """Takes pages of vectors; they are written as plain bytes, for a disk that fills up under a memory map ends the process."""
    with path.open("wb") as file:
        write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})
        yield lambda vectors: file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())


@contextlib.contextmanager
def _faiss_writer(path: Path, dim: int) -> Iterator[Callable[[NDArray[np.float32]], object]]:
    faiss = _faiss()
    index = faiss.IndexFlatIP(dim)
    yield index.add
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise OSError(str(error).splitlines()[0].rpartition(": ")[2]) from None


_DAMAGE = (ValueError, OSError, RuntimeError, EOFError, SyntaxError, OverflowError, TypeError, tokenize.TokenError)
"""What numpy and faiss raise for a damaged file."""


def _read_vectors(path: Path) -> NDArray[np.float32]:
    if not path.is_file():
        raise InputError(f"no file {path}; check the path")
    try:
        with at_hand(path) as here:
            if path.suffix == ".npy":
                return np.asarray(np.load(here, mmap_mode="r", allow_pickle=False), dtype=np.float32)
            index = _faiss().read_index(str(here))
            return np.asarray(index.reconstruct_n(0, index.ntotal), dtype=np.float32)
    except (*_DAMAGE, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{path} cannot be read ({reason}); make it again") from None


def _read_ids(path: Path) -> list[str]:
    file = _beside(path, ".ids.txt")
    try:
        return [line.rstrip("\r") for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, UnicodeDecodeError):
        raise InputError(f"no readable {file} beside {path.name}; it names the key of each row, one per line") from None


def _read_items(path: Path, keys: list[str]) -> list[Item]:
    file = _beside(path, ".items.jsonl")
    if not file.exists():
        return [item_of_key(key) for key in keys]
    try:
        items = [Item.from_row(json.loads(line)) for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{file} cannot be read ({str(error)[:160]}); make it again, or remove it") from None
    if [item.key for item in items] != keys:
        raise InputError(f"{file} and {_beside(path, '.ids.txt')} name different items; make them again")
    return items


def _read_columns(path: Path) -> Columns:
    """The own columns that an export wrote beside it; none where it wrote none."""
    file = _beside(path, ".columns.json")
    try:
        return Columns.of_text(file.read_text(encoding="utf-8")) if file.exists() else Columns()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{file} cannot be read; make it again, or remove it") from None


def space_beside(path: Path) -> Space | None:
    """The space that ``NAME.space.json`` beside vectors states; None where there is no such file.

    Raises:
        InputError: it is damaged.
    """
    return _read_space(path) if _beside(path, ".space.json").exists() else None


def _read_space(path: Path) -> Space:
    file = _beside(path, ".space.json")
    try:
        return Space.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no {file} says which space the vectors are of; give --space-of COLLECTION") from None
    except (OSError, ValidationError, UnicodeDecodeError):
        raise InputError(f"{file} states no embedding space; make it again, or give --space-of COLLECTION") from None


def _beside(path: Path, ending: str) -> Path:
    return path.with_suffix(ending)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError("FAISS is not installed; pip install 'outcrop[faiss]', or use .npy or .parquet") from None
    return faiss
