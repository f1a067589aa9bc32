"""The layout of ImgMatching: global, patch and grid features of images and references, by dataset and capture.

::

    <dataset>/Global/<folder>/<name>.npy          [D]           float32, the vector
    <dataset>/Patch/<variant>/<folder>/<name>.npy [H, W, D'] …  float16, as kept at ingest; ``raw``, ``subsample-stride2`` …
    <dataset>/Grid/<g>/<folder>/<name>.npy        [g, g, D']    float16
    <dataset>/Dense/<s>/<folder>/<name>.npy       [h, w, D']    float16
    <dataset>/meta/<folder>/<name>.json           the item's fields; model, input size, arrays with their shapes, and the
                                                  transform from the input's pixels to the picture's

``folder`` is the capture (``R<capture>`` for references), ``name`` is ``<capture>_<frame>``, of references followed by
``_rot###_crop##``. Patch, grid and dense features are written where `ingest … --features` has kept them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.feature_files import FeatureFolder, FeatureRecord
from outcrop.embed.placement import Placement
from outcrop.ingest.layouts import Bundle, load_array, require_below, save_array, write_space
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import Item, Kind, image_key, part, reference_key
from outcrop.schema.registry import split_capture
from outcrop.store.collection import Collection

_NAME = re.compile(
    r"(?P<capture>.+)_(?P<frame>\d{1,18})(?:_rot(?P<rotation>\d{3}(?:\.\d{1,3})?)_crop(?P<crop>\d{1,9}))?\Z"
)
_FOLDERS = {"patch": "Patch", "grid": "Grid", "dense": "Dense"}


class ImgMatching:
    """See the module. `features` is the folder in which features of the collection's space are kept, or None."""

    name = "imgmatching"
    folders: Sequence[str] = ()
    numbered: Mapping[str, str] = MappingProxyType({})

    def __init__(self, features: Path | None = None) -> None:
        self._features = features

    def write(
        self, collection: Collection, folder: Path, filter: Filter, progress: Callable[[int], None] | None = None
    ) -> int:
        """Writes the images and references that a filter keeps; returns how many. Files that are up to date are left alone.

        Raises:
            InputError: there are none, or a file cannot be written.
        """
        kept = FeatureFolder.below(self._features, collection.space) if self._features is not None else None
        kinds = equals("kind", str(Kind.IMAGE), str(Kind.REFERENCE))
        written = 0
        for items, vectors in collection.scan(filter & kinds, vectors=True, batch=500):
            for item, vector in zip(items, vectors, strict=True):
                self._write(collection, folder, item, vector, kept)
            written += len(items)
            if progress is not None:
                progress(written)
        if not written:
            raise InputError(f"collection {collection.name!r} holds no images or references that fit")
        write_space(folder, collection.space)
        return written

    def _write(
        self,
        collection: Collection,
        folder: Path,
        item: Item,
        vector: NDArray[np.float32],
        kept: FeatureFolder | None,
    ) -> None:
        base = folder / part(item.dataset)
        place, name = _folder(item), _name(item)
        record = kept.record(item.id) if kept is not None else None
        arrays = record.kinds if record is not None and record.source_digest == item.source_digest else {}
        meta = require_below(folder, base / "meta" / place / f"{name}.json")
        text = _meta(collection, item, arrays, record, kept.grid if kept is not None and arrays else None)
        try:
            if meta.read_text(encoding="utf-8") == text:
                return
        except (OSError, UnicodeDecodeError):
            pass  # not there yet
        save_array(base / "Global" / place / f"{name}.npy", vector)
        for kind in arrays:
            if (inner := _inner(kind)) is not None and kept is not None:
                save_array(base / inner / place / f"{name}.npy", kept.read(item.id, kind))
        meta.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(meta) as file:  # last: where it is, the arrays are whole
            file.write_text(text, encoding="utf-8")

    def bundles(self, folder: Path, dataset: str) -> Iterator[Bundle]:
        """Lists the global features of a dataset below a folder, which holds ``<dataset>/Global``, or ``Global`` itself.

        Raises:
            InputError: neither exists, or neither a file's name nor a JSON says its capture and frame.
        """
        base = folder if (folder / "Global").is_dir() else folder / part(dataset)
        if not (base / "Global").is_dir():
            raise InputError(f"{folder} holds neither Global nor {part(dataset)}/Global; give the folder above it")
        root = (base / "Global").resolve()
        for path in sorted((base / "Global").rglob("*.npy")):
            if path.is_file() and path.resolve().is_relative_to(root):
                inner = path.relative_to(base / "Global")
                source = f"{part(dataset)}/Global/{inner.as_posix()}"  # from whichever of the two folders it is seen
                item, record = _described(base / "meta" / inner.with_suffix(".json"), path, source, dataset)
                yield Bundle(path, (item,), (path,), partial(_load, path), _keeper(base, inner, record))


def _described(meta: Path, path: Path, source: str, dataset: str) -> tuple[Item, Mapping[str, Any] | None]:
    """The item of a file, from its JSON, else from its name; and what the JSON says of its features."""
    try:
        values = json.loads(meta.read_text(encoding="utf-8"))
        item = Item.from_row(dict(values["item"]))
        if item.kind not in (Kind.IMAGE, Kind.REFERENCE):
            raise ValueError(f"kind {item.kind}")
        return item, values.get("features")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{meta} does not describe an item ({error}); remove it, and the file's name is read"
        ) from None
    match = _NAME.match(path.stem)
    if match is None:
        raise InputError(f"{path}: its name must be <capture>_<frame>.npy, or a JSON in meta must describe it")
    capture, frame = match["capture"], int(match["frame"])
    altitude = split_capture(capture)[1]
    rotation, crop = float(match["rotation"] or 0), int(match["crop"] or 0)
    turned = match["rotation"] is not None
    key = reference_key(dataset, capture, frame, rotation, crop) if turned else image_key(dataset, capture, frame)
    item = Item(
        key,
        Kind.REFERENCE if turned else Kind.IMAGE,
        dataset,
        capture,
        frame=frame,
        altitude=float(altitude or 0),
        rotation=rotation,
        crop=crop,
        source=source,
    )
    return item, None


def _load(path: Path) -> NDArray[Any]:
    """The vector of a file [1, D]."""
    array = load_array(path, (1, 2))
    if array.ndim == 2 and array.shape[0] != 1:
        raise InputError(f"{path} holds {array.shape[0]} vectors; one is wanted")
    return array.reshape(1, -1)


def _keeper(
    base: Path, inner: Path, features: Mapping[str, Any] | None
) -> Callable[[FeatureFolder, Item], None] | None:
    """What puts the features beside a vector into our own folder of features."""
    if not features or not features.get("kinds"):
        return None
    return partial(_keep, base, inner, features)


def _keep(base: Path, inner: Path, features: Mapping[str, Any], folder: FeatureFolder, item: Item) -> None:
    """Puts the features of an item, which its JSON describes, into our own folder."""
    arrays = {}
    for kind in features["kinds"]:
        place = _inner(kind)
        if place is not None and (base / place / inner).exists():
            arrays[kind] = np.asarray(load_array(base / place / inner, (2, 3)), dtype=np.float16)
    if arrays:
        shapes = {name: array.shape for name, array in arrays.items()}
        try:
            (height, width), (rows, columns), place = (features[name] for name in ("input", "patches", "placement"))
            placement = Placement(tuple(place["matrix"]), place["width"], place["height"]) if place else None
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the JSON of {inner} says too little of its features ({error})") from None
        record = FeatureRecord(item.id, item.key, item.source, item.source_digest, shapes, (height, width), placement)
        folder.note_shapes(shapes, (rows, columns))
        folder.write(record, arrays)


def _inner(kind: str) -> str | None:
    """The folder of a kind of features: ``patch-stride2`` -> ``Patch/subsample-stride2``."""
    what, _, variant = kind.partition("-")
    if what == "patch":
        return f"Patch/{f'subsample-{variant}' if variant else 'raw'}"
    match = re.fullmatch(r"(grid|dense)(\d+)", kind)
    return f"{_FOLDERS[match[1]]}/{match[2]}" if match else None


def _meta(
    collection: Collection,
    item: Item,
    arrays: Mapping[str, Any],
    record: FeatureRecord | None,
    grid: tuple[int, int] | None,
) -> str:
    space = collection.space
    row = {name: value for name, value in item.row().items() if name != "id"}
    values = {
        "item": row,
        "model": space.model,
        "space": space.fingerprint,
        "input": list(space.size),
        "files": {
            "Global": [space.dim],
            **{inner: list(shape) for kind, shape in arrays.items() if (inner := _inner(kind)) is not None},
        },
        "features": {
            "kinds": list(arrays),
            "input": list(record.input),
            "patches": grid,
            "placement": asdict(record.placement) if record.placement is not None else None,
        }
        if arrays and record is not None
        else None,
    }
    return json.dumps(values, ensure_ascii=False, indent=1) + "\n"


def _folder(item: Item) -> str:
    return f"R{part(item.capture_id)}" if item.kind is Kind.REFERENCE else part(item.capture_id)


def _name(item: Item) -> str:
    name = f"{part(item.capture_id)}_{item.frame:04d}"
    if item.kind is not Kind.REFERENCE:
        return name
    turned = f"{item.rotation:07.3f}".rstrip("0").rstrip(".")
    return f"{name}_rot{turned}_crop{item.crop:02d}"
