"""Features on disk, one small file for each item and kind, which numpy maps into memory. The layout is in docs/features.md::

    <folder>/<first 8 characters of the space's fingerprint>/
        features.json                   format, space, kinds with their shapes
        <kind>/<2 characters>/<id>.npy  float16, C order
        meta/<2 characters>/<id>.json   key, source, kinds, transform to the source's pixels

An item's JSON is written last: where it is, its arrays are whole.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.arrays import map_array
from outcrop.embed.features import FeatureKind
from outcrop.embed.placement import Placement
from outcrop.schema.errors import InputError, PictureError, SpaceMismatch
from outcrop.schema.files import whole_file
from outcrop.schema.space import Space

FORMAT = 1

Array = NDArray[np.float16]


@dataclass(frozen=True)
class FeatureRecord:
    """What is known of an item's features.

    `source_digest` is that of the item when they were made; `kinds` maps the kinds' names to the arrays' shapes; `input` is
    (height, width) in pixels of what the network saw; `placement` leads from its points to the source's, None where the
    picture was no plain photograph.
    """

    id: str
    key: str
    source: str
    source_digest: str
    kinds: Mapping[str, tuple[int, ...]]
    input: tuple[int, int]
    placement: Placement | None = None


class FeatureFolder:
    """The features of one space. Any thread may read and write; writing again replaces."""

    def __init__(self, root: Path, space: Space) -> None:
        self.root, self.space = root, space
        self._lock = threading.Lock()
        self._noted: dict[str, list[int]] | None = None

    @classmethod
    def below(cls, folder: Path, space: Space) -> FeatureFolder:
        """The features of a space in a folder that may hold those of others too."""
        return cls(folder / space.fingerprint[:8], space)

    @classmethod
    def open(cls, root: Path) -> FeatureFolder:
        """The features below a folder that holds ``features.json``, with the space they are of.

        Raises:
            InputError: the file is missing, or has another format.
        """
        return cls(root, Space.model_validate(_facts(root)["space"]))

    def path(self, kind: str, id: str) -> Path:
        """Where an item's features of a kind lie, or would."""
        return self.root / kind / id[:2] / f"{id}.npy"

    def has(self, id: str, source_digest: str, kinds: Sequence[FeatureKind]) -> bool:
        """Whether the features of an item are there in all these kinds, made of a source of this digest."""
        record = self.record(id)
        return (
            record is not None
            and record.source_digest == source_digest
            and all(kind.name in record.kinds and self.path(kind.name, id).exists() for kind in kinds)
        )

    def record(self, id: str) -> FeatureRecord | None:
        """What is known of an item's features; None where there are none."""
        try:
            values = json.loads(self._meta(id).read_text(encoding="utf-8"))
            place = values["placement"]
            return FeatureRecord(
                values["id"],
                values["key"],
                values["source"],
                values["source_digest"],
                {name: tuple(shape) for name, shape in values["kinds"].items()},
                (values["input"][0], values["input"][1]),
                Placement(tuple(place["matrix"]), place["width"], place["height"]) if place else None,
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # absent or damaged: made anew

    def read(self, id: str, kind: str) -> Array:
        """An item's features, mapped into memory (read only).

        Raises:
            InputError: there are none of that kind.
        """
        record = self.record(id)
        if record is None or kind not in record.kinds:
            there = ", ".join(record.kinds) if record else "none"
            raise InputError(
                f"no {kind} features of item {id} in {self.root} (there are: {there}); ingest with --features"
            )
        path = self.path(kind, id)
        try:
            array: Array = map_array(path)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} cannot be read ({error}); remove it, and ingest again with --features") from error
        if array.shape != record.kinds[kind] or array.dtype != np.float16:
            raise InputError(f"{path} is damaged; remove it, and ingest again with --features")
        return array

    def write(self, record: FeatureRecord, arrays: Mapping[str, Array]) -> None:
        """Keeps features of an item; kinds that are there already, made of the same source, stay.

        Raises:
            InputError: they cannot be written.
        """
        before = self.record(record.id)
        kept = dict(before.kinds) if before and before.source_digest == record.source_digest else {}
        if before and not kept:
            self._meta(record.id).unlink(missing_ok=True)  # no reader may take new arrays for those of the old source
        for name, array in arrays.items():
            _replace(self.path(name, record.id), lambda file, array=array: np.save(file, array))
        values = asdict(record) | {"kinds": {**kept, **record.kinds}}
        text = json.dumps(values, ensure_ascii=False, indent=1)
        _replace(self._meta(record.id), lambda file: file.write(text.encode()))

    def remove(self, id: str) -> None:
        """Removes an item's features of every kind, where there are any.

        Raises:
            InputError: they cannot be removed.
        """
        try:
            self._meta(id).unlink(missing_ok=True)  # first: where it is, the arrays are whole
            for path in self.root.glob(f"*/{id[:2]}/{id}.npy"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"features of {id} in {self.root} cannot be removed: {error.strerror or error}") from error

    def note(self, kinds: Sequence[FeatureKind], grid: tuple[int, int], dim: int) -> None:
        """Notes in ``features.json`` which kinds there are, for `grid` (rows, columns) of tokens `dim` wide.

        Raises:
            SpaceMismatch: the folder holds another space's.
        """
        self.note_shapes({kind.name: kind.shape(grid, self.space, dim) for kind in kinds}, grid)

    def note_shapes(self, shapes: Mapping[str, Sequence[int]], grid: tuple[int, int]) -> None:
        """As `note`, for kinds known by name and shape.

        Raises:
            SpaceMismatch: the folder holds another space's.
        """
        with self._lock:
            noted = self._noted if self._noted is not None else self._read_noted()
            wanted = {name: list(shape) for name, shape in shapes.items()}
            if all(noted.get(name) == shape for name, shape in wanted.items()):
                self._noted = noted
                return
            noted = {**noted, **wanted}
            facts = {
                "format": FORMAT,
                "fingerprint": self.space.fingerprint,
                "space": self.space.model_dump(mode="json"),
                "dtype": "float16",
                "patches": list(grid),
                "kinds": noted,
            }
            text = json.dumps(facts, indent=1)
            _replace(self.root / "features.json", lambda file: file.write(text.encode()))
            self._noted = noted

    @property
    def kinds(self) -> Mapping[str, Sequence[int]]:
        """The shapes of the features that are kept, by kind.

        Raises:
            InputError: there are no features.
        """
        return dict(_facts(self.root)["kinds"])

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in the input.

        Raises:
            InputError: there are no features.
        """
        rows, columns = _facts(self.root)["patches"]
        return int(rows), int(columns)

    def ids(self) -> Iterator[str]:
        """The ids of all items with features, in order."""
        for folder in sorted(self.root.glob("meta/??")):
            yield from sorted(path.stem for path in folder.glob("*.json"))

    def _meta(self, id: str) -> Path:
        return self.root / "meta" / id[:2] / f"{id}.json"

    def _read_noted(self) -> dict[str, list[int]]:
        if not (self.root / "features.json").exists():
            return {}
        facts = _facts(self.root)
        if facts["fingerprint"] != self.space.fingerprint:
            raise SpaceMismatch(f"{self.root} holds features of a different space; give another --features-folder")
        return dict(facts["kinds"])


def halved(array: NDArray[np.float32], kind: str) -> Array:
    """Features as they are kept: float16, in C order.

    Raises:
        PictureError: a number is beyond what float16 holds (65504), or not finite.
    """
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(array, dtype=np.float16)
    if not np.isfinite(half).all():
        raise PictureError(f"its {kind} features hold numbers that float16 does not (over 65504, or not finite)")
    return half


def _facts(root: Path) -> dict[str, Any]:
    path = root / "features.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] == FORMAT and isinstance(facts["kinds"], dict) and facts["space"] and facts["fingerprint"]:
            return dict(facts)
    except FileNotFoundError:
        raise InputError(f"{root} holds no features.json; give the folder that `ingest … --features` wrote") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it, the next ingest writes it anew") from None
    raise InputError(f"{path} is of format {facts['format']!r}, and this version reads {FORMAT}")


def _replace(path: Path, write: Any) -> None:
    """Writes a file whole: a reader never sees half of it. Raises `InputError` where it cannot be written."""
    fix = "make room, or give another --features-folder"
    with whole_file(path, fix=fix, durable=False, parents=True) as temporary, temporary.open("wb") as file:
        write(file)
