"""Vectors as trees of files, the way other programs keep them: what a layout is, and what all of them share.

A layout both writes a collection's vectors below a folder and reads such a folder back. `space.json` in the folder says which
embedding space the vectors are of; trees made elsewhere have none, and the model must be named.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from outcrop.embed.arrays import map_array
from outcrop.embed.feature_files import FeatureFolder
from outcrop.embed.models import find_preset, make_space, resolve
from outcrop.schema.errors import InputError, OutcropError, SpaceMismatch, WeightsError
from outcrop.schema.files import whole_file
from outcrop.schema.filters import Filter
from outcrop.schema.item import Item
from outcrop.schema.places import require_disk
from outcrop.schema.settings import Settings
from outcrop.schema.space import AskedPooling, Fit, Space
from outcrop.store.collection import Collection

Vectors = NDArray[np.float32]
SPACE_FILE = "space.json"
FIT_ELSEWHERE: Fit = "squash"
"""How pictures were brought to the network's input where a tree of vectors does not say: the programs whose layouts these are
scale both sides. No default of new collections changes what was made."""
ELSEWHERE = "made elsewhere"
"""`weights_digest` of a space whose weights are not on this machine: no picture can be embedded into it here."""
MAX_NUMBERS = 2**28
"""Numbers in one file of vectors; more is refused before memory is spent."""


@dataclass(frozen=True)
class Bundle:
    """The files that make some items together: a specimen's views and pooled vector, an image.

    `items` know everything but the size, time and digest of the `files` (`path` is the first); those that state a `source_digest`
    were made of another file, and know these too. `load` gives their vectors [N, D] as the files hold them;
    `keep` puts other features of an item that lie beside them into a folder of features, where there are any.
    """

    path: Path
    items: tuple[Item, ...]
    files: tuple[Path, ...]
    load: Callable[[], NDArray[Any]]
    keep: Callable[[FeatureFolder, Item], None] | None = None


class Layout(Protocol):
    """One way to lay out files. Where it has no `folders`, writing adds to a tree and leaves alone what is up to date; otherwise
    these are replaced, as a whole, or of `numbered` ones the files of this pattern. Other files of the folder are left alone."""

    name: str
    folders: Sequence[str]
    numbered: Mapping[str, str]

    def write(
        self, collection: Collection, folder: Path, filter: Filter, progress: Callable[[int], None] | None = None
    ) -> int:
        """Writes the items that a filter keeps; returns how many vectors."""
        ...

    def bundles(self, folder: Path, dataset: str) -> Iterator[Bundle]:
        """Lists what is there, by name, and loads nothing but the arrays' headers.

        Raises:
            InputError: the folder is not laid out so.
        """
        ...


def write_space(folder: Path, space: Space) -> None:
    """Leaves the space beside the vectors."""
    with whole_file(folder / SPACE_FILE) as file:
        file.write_text(space.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_space(folder: Path) -> Space | None:
    """The space that a folder's vectors are of, where it says so.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / SPACE_FILE
    try:
        return Space.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(
            f"{path} does not describe an embedding space ({str(error).splitlines()[0]}); remove it"
        ) from None


def space_of_tree(folder: Path, settings: Settings, found: Collection | None, dim: int | None) -> tuple[Space, bool]:
    """The space of vectors that lie in files, and whether its weights are on this machine.

    What ``space.json`` beside them says; else the model asked for, with the weights that are found, or none, and the fit asked
    for, the collection's or `FIT_ELSEWHERE`; else the collection's own space. `dim` is the length of the vectors, None
    where no file says.

    Raises:
        InputError: nothing names the model, or its vectors have another length.
        SpaceMismatch: the collection has another space.
    """
    space = read_space(folder)
    if space is None and settings.model is None and found is not None:
        space = found.space
    if space is None:
        space = _space_asked_for(folder, settings, FIT_ELSEWHERE if found is None else found.space.fit)
    elif settings.model is not None and find_preset(settings.model).name != space.model:
        raise SpaceMismatch(f"{folder} holds vectors of {space.model}, not of {settings.model}; leave --model out")
    if dim is not None and dim != space.dim:
        raise InputError(f"{folder} holds vectors of {dim} numbers, those of {space.model} have {space.dim}")
    if found is not None:
        found.require(space)
    return space, space.weights_digest != ELSEWHERE


def _space_asked_for(folder: Path, settings: Settings, fit: Fit) -> Space:
    fit = settings.fit or fit
    if settings.model is None:
        raise InputError(f"nothing in {folder} says which model made its vectors; give --model NAME")
    try:
        return resolve(settings, fit=fit).space
    except WeightsError:
        if settings.weights is not None:
            raise
        # without its weights nothing is embedded here, but an unknown model is an error all the same
        asked = AskedPooling.parse(settings.pooling) if settings.pooling is not None else None
        if asked is not None and asked.fitted:
            raise InputError(
                f"--pooling {settings.pooling} cannot be looked up without the weights of {settings.model}; give --weights, "
                f"or a {SPACE_FILE} in {folder}"
            ) from None
        pooling = asked.name if asked is not None else None
        return make_space(find_preset(settings.model), ELSEWHERE, fit=fit, pooling=pooling)


def load_array(path: Path, dims: tuple[int, ...]) -> NDArray[Any]:
    """A ``.npy`` file mapped into memory; floats of as many dimensions as one of `dims` says.

    Raises:
        InputError: it does not hold such an array, or too large a one.
    """
    try:
        array = map_array(path)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no array of numbers, or damaged"
        raise InputError(f"{path}: {reason}") from None
    if not isinstance(array, np.ndarray) or array.ndim not in dims or array.dtype.kind != "f" or not array.size:
        shape = list(array.shape) if isinstance(array, np.ndarray) else "?"
        wanted = " or ".join(f"{n}-dimensional" for n in dims)
        raise InputError(
            f"{path} holds {getattr(array, 'dtype', 'no array')} {shape}; it must hold a {wanted} array of floats"
        )
    if array.size > MAX_NUMBERS:
        raise InputError(f"{path} holds {array.size:,} numbers, more than vectors do")
    return array


def unit_vectors(bundle: Bundle, dim: int) -> Vectors:
    """The vectors of a bundle, [N, D] float32 of length 1; those that are of length 1 already stay bit for bit.

    Raises:
        InputError: a wrong width, or a vector that is zero or not finite; the file is named.
    """
    vectors = bundle.load()
    if vectors.shape != (len(bundle.items), dim):
        raise InputError(f"{bundle.path} holds vectors of {vectors.shape[-1]} numbers, the space's have {dim}")
    exact = np.asarray(vectors, dtype=np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", exact, exact))[:, None]
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise InputError(f"{bundle.path} holds a vector that is zero or not finite")
    return np.where(np.abs(norms - 1) < 1e-3, vectors, exact / norms).astype(np.float32)


def check_tree(folder: Path, layout: Layout) -> None:
    """Before any work: whether `export_tree` may write there.

    Raises:
        InputError: it is a file, its parent is missing, or it holds vectors in this layout that Outcrop did not write.
    """
    require_disk(folder, "the folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give the name of a folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"the folder {folder.absolute().parent} does not exist; create it")
    held = [name for name in layout.folders if (folder / name).exists()]
    if held and not (folder / SPACE_FILE).exists():
        raise InputError(
            f"{folder} holds {' and '.join(held)} that Outcrop did not write, and they would be replaced; choose another folder"
        )


def export_tree(
    layout: Layout,
    collection: Collection,
    folder: Path,
    filter: Filter,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Writes the items that a filter keeps, in place of what an earlier export wrote; returns how many vectors.

    Raises:
        InputError: see `check_tree`; or it cannot be written, and the earlier tree stays.
    """
    check_tree(folder, layout)
    try:
        if not layout.folders:
            folder.mkdir(exist_ok=True)
            return layout.write(collection, folder, filter, progress)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
        try:
            rows = layout.write(collection, made, filter, progress)
            folder.mkdir(exist_ok=True)
            _replace(layout, made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); give another folder") from None
    return rows


def _replace(layout: Layout, made: Path, folder: Path) -> None:
    """Puts what was written in the place of what an earlier export wrote."""
    earlier = made / ".earlier"
    earlier.mkdir()
    for name in layout.folders:
        if (folder / name).exists():
            os.replace(folder / name, earlier / name)
        if (made / name).exists():
            os.replace(made / name, folder / name)
    for name, pattern in layout.numbered.items():
        (folder / name).mkdir(exist_ok=True)
        for file in (folder / name).glob(pattern):
            file.unlink()
        for file in (made / name).glob(pattern):
            os.replace(file, folder / name / file.name)
    os.replace(made / SPACE_FILE, folder / SPACE_FILE)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Writes a ``.npy`` file whole.

    Raises:
        InputError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file, file.open("wb") as opened:
        np.save(opened, np.ascontiguousarray(array), allow_pickle=False)


def require_below(root: Path, path: Path) -> Path:
    """The path itself, which must lie below the root: names of items become names of files.

    Raises:
        OutcropError: it does not.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise OutcropError(f"{path} would lie outside {root}; rename the item")
    return path
