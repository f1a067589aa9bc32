"""`ingest specimens`: meshes and point clouds below a folder, their views and the specimens pooled from them.

The digest of an item is that of its file's bytes followed by that of how it is looked at (32 hex digits each; of a specimen also
how its views are pooled), so that a change of either is noticed, and nothing else.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.crops import prepare
from outcrop.embed.images import Decoded, thumbnail
from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.pooling import Pool, pooled
from outcrop.embed.protocol import PictureEncoder
from outcrop.ingest.runs import Failure
from outcrop.ingest.sources import Contents, Listing, Outcome, Pooled, Prepared, Todo, Wanted
from outcrop.render.preflight import SUFFIXES, reader_version
from outcrop.render.views import ViewSpec
from outcrop.render.workers import Workers
from outcrop.schema.digests import SourceDigest, digest_of
from outcrop.schema.errors import InputError, PictureError, PlaceUnusable
from outcrop.schema.files import whole_file
from outcrop.schema.item import FIELDS, Item, Kind, parent_of, specimen_key, view_key


@dataclass(frozen=True)
class SpecimenSource:
    """One mesh file, its views and its specimen. `root` is the folder that `path` lies below."""

    path: Path
    root: Path
    dataset: str
    look: ViewSpec
    how: Pool
    workers: Workers
    renders: Path | None = None
    whole: ClassVar[bool] = True
    atomic: ClassVar[bool] = True
    stage: ClassVar[str] = "render"
    _small: list[bytes | None] = field(default_factory=lambda: [None], compare=False, repr=False)

    @property
    def specimen(self) -> str:
        """The specimen's id: the file's name without its ending."""
        return unicodedata.normalize("NFC", self.path.stem)

    @property
    def category(self) -> str:
        """The folders between the root and the file, separated by ``/``."""
        return unicodedata.normalize("NFC", self.path.relative_to(self.root).parent.as_posix().removeprefix("."))

    @property
    def key(self) -> str:
        """The key of the specimen.

        Raises:
            InputError: the file's name cannot be part of a key.
        """
        return specimen_key(self.dataset, self.category, self.specimen)

    @property
    def count(self) -> int:
        """The views and the specimen."""
        return self.look.views + 1

    @property
    def wanted(self) -> Sequence[Wanted]:
        """The views in their order, then the specimen; the views' pictures are outputs where they are wanted."""
        extra = {**self.look.as_extra(), "pool": self.how, "root": str(self.root)}
        specimen = Item(
            self.key,
            Kind.SPECIMEN,
            self.dataset,
            self.specimen,
            category=self.category,
            source=self.path.relative_to(self.root).as_posix(),
            extra=extra,
        )
        names = (self.dataset, self.category, self.specimen)
        views = [
            replace(specimen, key=view_key(*names, n), kind=Kind.VIEW, view=n, extra=self.look.as_extra())
            for n in range(self.look.views)
        ]
        pooled_how, reader = digest_of(f"{self.look.digest} {self.how}"), partial(reader_version, self.path)
        pictures = [self._picture(n) for n in range(self.look.views)]
        return [
            *(
                Wanted(view, self.path, self.look.digest, reader, some)
                for view, some in zip(views, pictures, strict=True)
            ),
            Wanted(specimen, self.path, pooled_how, reader),
        ]

    def read(self, path: Path) -> Contents:
        """The state and the digest of the file: a drawing process reads it by itself."""
        return Contents.digested(path)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.sources.Source.make`; `todo` is everything."""
        views = [each.wanted for each in todo if each.item.kind is Kind.VIEW]
        remarks: list[str] = []
        for wanted, pixels in zip(views, self.workers.views(self.path, self.look, remarks.append), strict=True):
            picture = Image.fromarray(pixels)
            for path in wanted.outputs:
                _write(path, picture)
            small = thumbnail(picture) if thumbnails else None
            if wanted.item.view == 0:
                self._small[0] = small
            decoded = Decoded(picture, picture.width, picture.height, PhotoMetadata())
            yield Prepared(_complete(wanted, contents), prepare(decoded, encoder.space), small, remarks=tuple(remarks))
            remarks.clear()

    def pool(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> Pooled:
        """The specimen of its views.

        Raises:
            PictureError: some views are missing.
        """
        if len(items) < self.look.views:
            raise PictureError(f"only {len(items)} of {self.look.views} views could be embedded")
        state, wanted = items[0], self.wanted[-1]
        specimen = replace(
            wanted.item,
            source_size=state.source_size,
            source_mtime_ns=state.source_mtime_ns,
            source_digest=str(SourceDigest(SourceDigest.parse(state.source_digest).file, wanted.transform)),
        )
        return Pooled([specimen], pooled(vectors, self.how)[None], [self._small[0]])

    def _picture(self, view: int) -> tuple[Path, ...]:
        """Where a view's picture is to be written, if anywhere."""
        if self.renders is None:
            return ()
        return (self.renders / self.path.relative_to(self.root).parent / f"{self.path.stem}_view{view:02d}.png",)


def _complete(wanted: Wanted, contents: Contents) -> Item:
    return replace(
        wanted.item,
        source_size=contents.state.size,
        source_mtime_ns=contents.state.mtime_ns,
        source_digest=wanted.digest(contents),
    )


def _write(path: Path, picture: Image.Image) -> None:
    """Writes the picture of a view.

    Raises:
        PictureError: it cannot be written; this specimen fails, and not the run.
        PlaceUnusable: nor can the others.
    """
    try:
        with whole_file(path, fix="make room, or give another --save-renders", durable=False, parents=True) as file:
            picture.save(file, "PNG", compress_level=4)
    except PlaceUnusable:
        raise
    except InputError as error:
        raise PictureError(str(error)) from None


def find_meshes(folder: Path) -> list[Path]:
    """The mesh files below a folder, by path; hidden files and folders are left out.

    Raises:
        InputError: no such folder, or no mesh in it.
    """
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}; give the folder that holds the meshes")
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in files if not name.startswith(".")]
    meshes = sorted(path for path in found if path.suffix.lower() in SUFFIXES)
    if not meshes:
        raise InputError(f"the folder {folder} holds no mesh ({', '.join(sorted(SUFFIXES))})")
    return meshes


def list_specimens(
    folder: Path,
    dataset: str,
    look: ViewSpec,
    pool: Pool = "mean",
    *,
    workers: Workers,
    renders: Path | None = None,
    limit: int | None = None,
    only: Iterable[str] | None = None,
    meshes: Sequence[Path] | None = None,
) -> Listing:
    """Lists the specimens below a folder; the folders between are their categories.

    `renders` is a folder for the views as PNG files; `only` keeps the specimens with these keys (or with views of these keys),
    `limit` the first N; `meshes` are the files where they have been found already (see `find_meshes`). Files that would
    make the same specimen, and names that cannot be keys, are failures of the listing.

    Raises:
        InputError: no such folder, no mesh in it, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, not {limit}")
    root = folder.absolute()
    sources: dict[str, list[SpecimenSource]] = {}
    missing: list[Failure] = []
    for path in find_meshes(folder) if meshes is None else meshes:
        source = SpecimenSource(path.absolute(), root, dataset, look, pool, workers, renders)
        try:
            sources.setdefault(_usable_key(source), []).append(source)
        except InputError as error:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            missing.append(Failure(shown, shown, "list", str(error)))
    for key, same in sources.items():
        if len(same) > 1:
            names = ", ".join(source.path.relative_to(root).as_posix() for source in same)
            reason = f"{len(same)} files make the same specimen ({names}); rename or remove all but one"
            missing.append(Failure(key, str(same[0].path), "list", reason))
    wanted = [(key, same[0]) for key, same in sources.items() if len(same) == 1]
    if only is not None:
        keys = {parent_of(key) for key in only}
        wanted = [(key, source) for key, source in wanted if key in keys]
        missing = [failure for failure in missing if failure.key in keys]
    if limit is not None:
        wanted, missing = wanted[:limit], []
    return Listing(dataset, [source for _, source in wanted], missing)


def _usable_key(source: SpecimenSource) -> str:
    """The key of a source's specimen, if all that is made of it fits its fields.

    Raises:
        InputError: it does not.
    """
    key = source.key
    longest = view_key(source.dataset, source.category, source.specimen, 100)
    for name, text in (("key", longest), ("category", source.category), ("capture_id", source.specimen)):
        size, most = len(text.encode()), FIELDS[name].max_length
        if size > most:
            raise InputError(
                f"its {name} has {size} bytes, more than {most}; give the file or its folders shorter names"
            )
    return key


def check_renders(folder: Path) -> None:
    """Refuses a place for `--save-renders` that is not a folder.

    Raises:
        InputError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--save-renders {folder} is a file; give a folder")
