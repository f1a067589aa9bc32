"""Vectors that were made elsewhere, as sources of an ingest: bundles of arrays yield items with their vectors; no model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from outcrop.embed.feature_files import FeatureFolder
from outcrop.embed.protocol import PictureEncoder
from outcrop.ingest.layouts import Bundle, Layout, unit_vectors
from outcrop.ingest.sources import Contents, Listing, Outcome, Ready, Source, Todo, Wanted
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.item import Item


@dataclass(frozen=True)
class BundleSource:
    """The arrays of an image or a reference, or of a specimen with its views, whose items are taken together or not at all.

    Other views of the specimen that are stored stay: a tree may hold the pooled vectors alone.
    """

    bundle: Bundle
    whole: ClassVar[bool] = False
    stage: ClassVar[str] = "read"

    @property
    def path(self) -> Path:
        """The first of its arrays."""
        return self.bundle.path

    @property
    def count(self) -> int:
        """How many vectors the arrays hold."""
        return len(self.bundle.items)

    @property
    def atomic(self) -> bool:
        """Whether it makes several items; one alone fails under its own key."""
        return self.count > 1

    @property
    def wanted(self) -> Sequence[Wanted]:
        """The items in the order of the vectors; each is made of all files."""
        first, *others = self.bundle.files
        return [Wanted(item, first, others=tuple(others)) for item in self.bundle.items]

    def read(self, path: Path) -> Contents:
        """The state and the digest of all files: numpy maps the arrays by itself."""
        return Contents.digested(*self.bundle.files)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.sources.Source.make`; of the encoder only its space counts."""
        try:
            vectors = unit_vectors(self.bundle, encoder.space.dim)
        except InputError as error:
            raise PictureError(str(error)) from None
        rows = {item.id: vector for item, vector in zip(self.bundle.items, vectors, strict=True)}
        for each in todo:
            item = _complete(each.wanted, contents)
            yield Ready(item, rows[item.id], self._keeper(item))

    def _keeper(self, item: Item) -> Callable[[FeatureFolder], None] | None:
        return partial(_keep, self.bundle.keep, item) if self.bundle.keep is not None else None


def list_bundles(layout: Layout, folder: Path, dataset: str, *, only: Iterable[str] | None = None) -> Listing:
    """Lists a folder; `only` keeps the bundles that make items of these keys, whole.

    Raises:
        InputError: the folder does not exist or has another layout, or two files make the same item.
    """
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}; give the folder of the tree")
    bundles = list(layout.bundles(folder, dataset))
    owners: dict[str, Path] = {}
    for bundle in bundles:
        for item in bundle.items:
            if (first := owners.setdefault(item.key, bundle.path)) != bundle.path:
                raise InputError(f"{first} and {bundle.path} would both be {item.key}; rename one of them")
    if only is not None:
        keys = frozenset(only)
        bundles = [bundle for bundle in bundles if any(item.key in keys for item in bundle.items)]
    return Listing(dataset, [BundleSource(bundle) for bundle in bundles])


def dim_of(sources: Iterable[Source]) -> int | None:
    """The length of the vectors, from the first bundle that can be read; None where there is none."""
    for source in sources:
        if isinstance(source, BundleSource):
            try:
                return int(source.bundle.load().shape[-1])
            except (InputError, PictureError):
                continue  # it goes to the ledger once it is read
    return None


def _complete(wanted: Wanted, contents: Contents) -> Item:
    """The item with the size, time and digest of its files, unless it states those of the file that it was made of."""
    if wanted.item.source_digest:
        return wanted.item
    return replace(
        wanted.item,
        source_size=contents.state.size,
        source_mtime_ns=contents.state.mtime_ns,
        source_digest=wanted.digest(contents),
    )


def _keep(keep: Callable[[FeatureFolder, Item], None], item: Item, folder: FeatureFolder) -> None:
    try:
        keep(folder, item)
    except InputError as error:
        raise PictureError(str(error)) from None
