"""What the pipeline takes: a source is one file, and the items that are made of it.

A photograph makes one item, a photograph with its references dozens, a mesh its views and the specimen pooled from them. The
contract, in the order in which the pipeline calls it:

1. `Source.items` are all items the source will make, with what is known without opening the file (a key at least). They are
   looked up in the collection; `count` is how many there are. They share one parent (`outcrop.schema.item.parent_of`).
2. `Source.outdated(rows)` is asked with the stored rows (by id, fields `STORED`): which of the items must be looked at, judged
   by the file's size and time alone. The others count as unchanged, and the file is not opened for them.
3. `Source.prepare(wanted, rows, encoder, thumbnails)` runs in one of several threads. It yields one outcome per item:
   `Prepared` (pixels for the encoder), `Unchanged` (the digest says so) or `Unfit` (this one cannot be made, the others can).
   It is to yield as it goes: the pipeline holds it back when the encoder is busy, so a source with 360 references needs the
   memory of a few. A `PictureError`, `MeshError` or `OSError` fails every item that it has not yielded yet.
4. A source that has `pool(items, vectors)` (see `Pools`) is then given everything of it that was embedded in this pass, and
   returns the items made of these vectors, such as the specimen of its views. Their items stand in `items` too. What it needs
   whole it must want whole: `outdated` returns all items where one is. A `PictureError` fails the items it did not make.
5. When all of this went well, the source is covered: stored items of the same parent and kinds that are not among `items` (of
   other angles, of more views) are removed at the end of the pass. Not where `whole` is false: the source was asked for some
   of its items only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.placement import Placement
from outcrop.embed.protocol import PictureEncoder
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import PictureError
from outcrop.schema.item import Item

MAX_BYTES = 2**30
"""Files larger than this (bytes) are no photographs and are not read."""
STORED = ("source", "source_size", "source_mtime_ns", "source_digest", "altitude")
"""The fields of a stored row that tell whether its source is unchanged."""

Row = Mapping[str, Any]
Rows = Mapping[str, Row]
"""Stored rows by id."""


@dataclass(frozen=True)
class Prepared:
    """An item ready to be embedded: complete but for `ingested_at`; `pixels` uint8 [H, W, 3] as `encode` wants them.

    `placement` says where the pixels lie in the source's picture; None where it has none (a rendered view).
    `remarks` are what was odd about the source, said with the first item of it (`outcrop.embed.images.Decoded.remarks`).
    """

    item: Item
    pixels: NDArray[np.uint8]
    thumbnail: bytes | None = None
    placement: Placement | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unchanged:
    """An item whose row is what would be made again: the bytes and the transform are those that were embedded."""

    item: Item


@dataclass(frozen=True)
class Unfit:
    """An item that cannot be made, and why; it goes to the ledger."""

    item: Item
    reason: str


Outcome = Prepared | Unchanged | Unfit


@dataclass(frozen=True)
class Pooled:
    """Items made of vectors: `vectors` [n, D] float32 of length 1, and a thumbnail (or None) for each."""

    items: Sequence[Item]
    vectors: NDArray[np.float32]
    thumbnails: Sequence[bytes | None]


class Source(Protocol):
    """One file on its way to becoming items; the module's docstring says who calls what when."""

    @property
    def path(self) -> Path:
        """The file, as failures name it."""
        ...

    @property
    def items(self) -> Sequence[Item]:
        """Every item that the source makes, at least one; may be made anew at each call."""
        ...

    @property
    def count(self) -> int:
        """How many `items` there are."""
        ...

    @property
    def whole(self) -> bool:
        """Whether `items` are all that the file is to have; others of the same parent are then removed."""
        ...

    @property
    def stage(self) -> str:
        """What preparing is called in ledgers and among the stages' times: "decode" or "render"."""
        ...

    def outdated(self, rows: Rows) -> Sequence[Item]:
        """The items that must be looked at, given the rows there are; opens nothing."""
        ...

    def prepare(
        self, wanted: Sequence[Item], rows: Rows, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """An outcome for each wanted item that is not pooled. `rows` is empty where everything is to be made again.

        Raises:
            PictureError, MeshError: the file is unfit. OSError: it cannot be read.
        """
        ...


@runtime_checkable
class Pools(Protocol):
    """A source some of whose items are made of the vectors of the others."""

    def pool(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> Pooled:
        """The items made of `items` (those embedded in this pass) and their vectors [n, D] float32, n at least 1.

        Raises:
            PictureError: they are not enough.
        """
        ...


@dataclass(frozen=True)
class Contents:
    """A file as it was read: its bytes, its state at that time, and the digest of the bytes (hex)."""

    data: bytes
    stat: os.stat_result
    digest: str

    @classmethod
    def read(cls, path: Path) -> Contents:
        """Reads a file whole.

        Raises:
            PictureError: it is too large to be a photograph. OSError: it cannot be read.
        """
        stat = path.stat()
        if stat.st_size > MAX_BYTES:
            raise PictureError(f"{path} has {stat.st_size} bytes, more than a photograph; move it away")
        data = path.read_bytes()
        return cls(data, stat, digest_of(data))


def same_file(path: Path, row: Row) -> bool:
    """Whether a file has the size and time that a stored row remembers; False where it cannot be looked at."""
    try:
        stat = path.stat()
    except OSError:
        return False  # whoever reads it will say why
    return (stat.st_size, stat.st_mtime_ns) == (row["source_size"], row["source_mtime_ns"])


def groups(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    """Sources in groups of about `size` items."""
    group: list[Source] = []
    items = 0
    for source in sources:
        group.append(source)
        items += source.count
        if items >= size:
            yield group
            group, items = [], 0
    if group:
        yield group
