"""What is to be ingested: a listing of sources, each one file (or a few), and the items that are wanted of it.

A photograph makes one item, a photograph with its references dozens, a mesh its views and the specimen pooled from them; a bundle
of arrays (`outcrop.ingest.bundles`) makes items whose vectors are there already. Sources only *make*: whether an item must be
made is judged in one place, `outcrop.ingest.changes`, by what `Source.wanted` states. The pipeline then calls, in a thread of
several, `Source.make` with what is to be done and the file as it was read, once for each file. A source yields as it goes: the
pipeline holds it back when the encoder is busy, so a source with 360 references needs the memory of a few.

A source that pools (see `Pools`) is *atomic*: all its items are made, or none. It is given everything of it that was embedded in
this pass, and returns the items made of these vectors, such as the specimen of its views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.feature_files import FeatureFolder
from outcrop.embed.placement import Placement
from outcrop.embed.protocol import PictureEncoder
from outcrop.ingest.runs import Failure
from outcrop.schema.digests import SourceDigest, digest_of, digest_of_file
from outcrop.schema.errors import PictureError
from outcrop.schema.item import Item
from outcrop.schema.places import URI, is_remote
from outcrop.schema.sequences import Chosen, Joined, Made

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.embed.resident import Small

S = TypeVar("S")
MAX_BYTES = 2**30
"""Larger files (bytes) are not photographs and are not read."""


@dataclass(frozen=True)
class FileState:
    """What a file's directory says of it: `size` in bytes and the time of its last change; of several, the sum and the newest.

    `ctime_ns` (when its bytes or its entry last changed, which no program sets) and `inode` are hints.
    """

    size: int
    mtime_ns: int
    ctime_ns: int = 0
    inode: int = 0

    @classmethod
    def of(cls, *paths: Path) -> Self:
        """The state of the files now.

        Raises:
            OSError: one cannot be accessed.
        """
        stats = [path.stat() for path in paths]
        size, newest = sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)
        return cls(size, newest, max(stat.st_ctime_ns for stat in stats), stats[0].st_ino)


@dataclass(frozen=True)
class Wanted:
    """One item that should be stored, with what is known of it without reading its file.

    `process` is the digest of what is done to the picture (rotation and crop, cameras), '' where it is embedded as it is.
    `reader` names the way in which the file is read, '' for the first one: a source states it for the files that are now read in
    another way than when rows were first made of them, so that these are embedded again and no others. It may look at the file's
    head, so it is asked only for items that have a row, and when one is made. `outputs` are files that the source also writes.
    `altitude_stated` says that the item's altitude comes from the registry or the capture's name: it then wins over the file's.
    `others` are further files that the item is made of. An item that has a `source_digest` already (a vector from elsewhere, with
    a description beside it) states itself what it was made of, and is judged by that alone. `instead` is the same item made of
    another file: a row made that way is in order while that file is as it was, and `path` has not been written since.
    """

    item: Item
    path: Path
    process: str = ""
    reader: Callable[[], str] = field(default=str, compare=False, repr=False)
    outputs: tuple[Path, ...] = ()
    altitude_stated: bool = False
    others: tuple[Path, ...] = ()
    instead: Wanted | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it is made of."""
        return (self.path, *self.others)

    @cached_property
    def transform(self) -> str:
        """The digest of all that is done to the file's bytes, as `SourceDigest.transform` keeps it; '' where nothing is."""
        reader = self.reader()
        return digest_of(f"{self.process} read={reader}") if reader else self.process

    def digest(self, contents: Contents) -> str:
        """The `source_digest` of the item made of a file's contents."""
        return str(SourceDigest(contents.digest, self.transform))


@dataclass(frozen=True)
class Todo:
    """One item to be made; where `embed` is false its row is in order, and only its `outputs` are missing."""

    wanted: Wanted
    embed: bool = True

    @property
    def item(self) -> Item:
        """The item, as far as it is known."""
        return self.wanted.item


@dataclass(frozen=True)
class Prepared:
    """An item ready to be embedded: complete but for `ingested_at`; `pixels` uint8 [H, W, 3] as `encode` wants them, or a tensor
    [3, H, W] on the encoder's device, with `small` for a thumbnail that is there too.

    `placement` says where the pixels lie in the source's picture; None where it has none (a rendered view).
    `remarks` are what was odd about the source, said with the first item of it (`outcrop.embed.images.Decoded.remarks`).
    """

    item: Item
    pixels: NDArray[np.uint8] | Tensor
    thumbnail: bytes | None = None
    placement: Placement | None = None
    remarks: tuple[str, ...] = ()
    small: Small | None = None

    def packed(self) -> Prepared:
        """The same with its `small` thumbnail packed."""
        if self.small is None:
            return self
        return Prepared(self.item, self.pixels, self.small.packed(), self.placement, self.remarks)


@dataclass(frozen=True)
class Kept:
    """An item whose row stays as it is; its missing outputs have been written."""

    item: Item


@dataclass(frozen=True)
class LeftOut:
    """An item that is not to be stored after all: the file shows the same as another one (a film that stands still)."""

    item: Item


@dataclass(frozen=True)
class Unfit:
    """An item that cannot be made, and why; it goes to the ledger."""

    item: Item
    reason: str


@dataclass(frozen=True)
class Ready:
    """An item whose `vector` [D] float32 of length 1 is there already, complete but for `ingested_at` (which it may have).

    `keep` puts the features that lie beside the vector into a folder of features, where there are any; it raises `PictureError`.
    """

    item: Item
    vector: NDArray[np.float32]
    keep: Callable[[FeatureFolder], None] | None = None


Outcome = Prepared | Ready | Kept | LeftOut | Unfit


@dataclass(frozen=True)
class Pooled:
    """Items made of vectors: `vectors` [n, D] float32 of length 1, and a thumbnail (or None) for each."""

    items: Sequence[Item]
    vectors: NDArray[np.float32]
    thumbnails: Sequence[bytes | None]


@dataclass(frozen=True)
class Contents:
    """A file as it was read: its bytes, its state at that time, and the digest of the bytes (hex)."""

    data: bytes
    state: FileState
    digest: str

    @classmethod
    def read(cls, path: Path) -> Contents:
        """Reads a file whole.

        Raises:
            PictureError: it is too large to be a photograph. OSError: it cannot be read.
        """
        state = FileState.of(path)
        if state.size > MAX_BYTES:
            raise PictureError(f"{path} has {state.size} bytes, more than a photograph; move it away")
        data = path.read_bytes()
        return cls(data, state, digest_of(data))

    @classmethod
    def digested(cls, *paths: Path) -> Contents:
        """The state and digest of a file (or of several) without the bytes, which are read in pieces.

        Raises:
            OSError: a file cannot be read.
        """
        return cls(b"", FileState.of(*paths), digest_of_file(*paths))


class Source(Protocol):
    """One file on its way to becoming items; the module's docstring says who calls what when."""

    @property
    def path(self) -> Path:
        """The file, as failures name it."""
        ...

    @property
    def wanted(self) -> Sequence[Wanted]:
        """Every item that should be stored of it, at least one; may be made anew at each call."""
        ...

    @property
    def count(self) -> int:
        """How many are `wanted`."""
        ...

    @property
    def whole(self) -> bool:
        """Whether `wanted` is all that the file is to have: other stored items of the same parent are then stale."""
        ...

    @property
    def atomic(self) -> bool:
        """Whether all its items are made, or none."""
        ...

    @property
    def stage(self) -> str:
        """What making is called in ledgers and among the stages' times: "decode", "render" or "read"."""
        ...

    def read(self, path: Path) -> Contents:
        """One of its files as `make` needs it.

        Raises:
            PictureError: the file is unfit. OSError: it cannot be read.
        """
        ...

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """An outcome for each item to be made that is not pooled; all are of the file that `contents` was read from.

        Raises:
            PictureError, MeshError, OSError: what has not been yielded yet cannot be made.
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


@cache
def pools(kind: type) -> bool:
    """Whether sources of a kind pool: to ask that of every one takes longer than all else that the encoder's thread does."""
    return issubclass(kind, Pools)


@runtime_checkable
class OfCapture(Protocol):
    """A source whose items are all images of one capture: other stored images of it are stale where it is `whole`."""

    @property
    def capture_key(self) -> str:
        """What the keys of these images begin with, without the last slash."""
        ...


@cache
def is_of_capture(kind: type) -> bool:
    """Whether sources of a kind are `OfCapture`, by the property alone; see `pools`."""
    return hasattr(kind, "capture_key")


@runtime_checkable
class LeavesOut(Protocol):
    """A source that does not want some of its items any more, since an earlier pass left them out (see `LeftOut`)."""

    @property
    def left_out_before(self) -> int:
        """How many these are."""
        ...


@dataclass(frozen=True)
class Listing:
    """The desired state of a dataset, as its files are on disk; no file has been opened.

    `missing` are items declared but not there, `undeclared` files that look like sources but are not declared, `remarks` what
    a person should know of both; `others` counts by kind the files of a folder that are not read, and
    `summary` is a sentence of what was found ('' where the registry says it).
    """

    dataset: str
    sources: Sequence[Source]
    missing: Sequence[Failure] = ()
    undeclared: Sequence[Path] = ()
    remarks: Sequence[str] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    summary: str = ""

    @cached_property
    def expected(self) -> int:
        """Declared items, on disk or not."""
        return count_of(self.sources) + len(self.missing)


class Alike(Made[S, Source]):
    """Sources of `each` items that are made of the members of `of` when they are asked for; `key` gives a source's key, or one of
    the same parent's."""

    def __init__(self, of: Sequence[S], make: Callable[[S], Source], key: Callable[[S], str], each: int = 1) -> None:
        super().__init__(of, make)
        self.key, self.each = key, each


def count_of(sources: Sequence[Source]) -> int:
    """How many items are wanted of sources; those that are made when they are asked for are not."""
    if isinstance(sources, Alike):
        return len(sources) * sources.each
    if isinstance(sources, Chosen) and isinstance(sources.of, Alike):
        return len(sources) * sources.of.each
    if isinstance(sources, Joined):
        return sum(map(count_of, sources.parts))
    return sum(source.count for source in sources)


def parents_of(sources: Sequence[Source]) -> Iterator[str]:
    """A key for each source, of the parent that its items have in common; see `count_of`."""
    if isinstance(sources, Alike):
        return map(sources.key, sources.of)
    if isinstance(sources, Joined):
        return chain.from_iterable(map(parents_of, sources.parts))
    return (source.wanted[0].item.key for source in sources)


def addressed(item: Item, source: Source) -> Item:
    """The item with the address of the object that it was made of, where its source is in an object store."""
    return item.changed(extra={**item.extra, URI: str(source.path)}) if is_remote(source.path) else item


def examples(listing: Listing, most: int = 5) -> tuple[Wanted, ...]:
    """A few items of a listing, from all over it."""
    sources = listing.sources
    step = max(1, len(sources) // most)
    return tuple(source.wanted[0] for source in sources[::step][:most])


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
