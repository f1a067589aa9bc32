"""`ingest specimens`: meshes and point clouds below a folder, their views and the specimens pooled from them.

The digest of an item is that of its file's bytes followed by that of how it is looked at (32 hex digits each; of a specimen also
how its views are pooled), so that a change of either is noticed, and nothing else.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.pooling import Pool, pooled
from outcrop.embed.protocol import PictureEncoder
from outcrop.ingest.finished import Finish
from outcrop.ingest.runs import Failure
from outcrop.ingest.sources import Contents, Listing, Outcome, Pooled, Prepared, Todo, Wanted
from outcrop.render.preflight import SUFFIXES, reader_version, stem_of
from outcrop.render.reading import files_beside, may_hold_mesh, part_names
from outcrop.render.views import ViewSpec
from outcrop.render.workers import Workers
from outcrop.schema.any_names import kinds_of
from outcrop.schema.digests import SourceDigest, digest_of
from outcrop.schema.errors import InputError, MeshError, PictureError, PlaceUnusable
from outcrop.schema.files import whole_file
from outcrop.schema.item import FIELDS, Item, Kind, parent_of, specimen_key, view_key
from outcrop.schema.places import walk

WITH_FILES = frozenset((".obj", ".ply", ".gltf", ".dae"))
"""Endings of meshes that name other files, and (`BESIDE`) of what they name: materials, textures and buffers."""
BESIDE = frozenset((".mtl", ".bin", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".tga", ".webp", ".gif", ".ppm"))


@dataclass(frozen=True)
class SpecimenSource:
    """One mesh file, its views and its specimen. `root` is the folder that `path` lies below; `part` is one mesh of several in
    the file (see `outcrop.render.reading.part_names`), '' all of them."""

    path: Path
    root: Path
    dataset: str
    look: ViewSpec
    how: Pool
    workers: Workers
    renders: Path | None = None
    part: str = ""
    whole: ClassVar[bool] = True
    atomic: ClassVar[bool] = True
    stage: ClassVar[str] = "render"
    _small: list[bytes | None] = field(default_factory=lambda: [None], compare=False, repr=False)

    @property
    def specimen(self) -> str:
        """The specimen's id: the file's name without its ending, or the name of the part."""
        return unicodedata.normalize("NFC", self.part or stem_of(self.path))

    @property
    def category(self) -> str:
        """The folders between the root and the file, separated by ``/``; of a part, the file's name is the last."""
        folder = self.path.relative_to(self.root).parent
        folder = folder / stem_of(self.path) if self.part else folder
        return unicodedata.normalize("NFC", folder.as_posix().removeprefix("."))

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
        return self.look.count + 1

    @property
    def wanted(self) -> Sequence[Wanted]:
        """The views in their order, then the specimen; the views' pictures are outputs where they are wanted."""
        whole = self._pooled
        specimen = whole.item
        names = (self.dataset, self.category, self.specimen)
        views = [
            replace(specimen, key=view_key(*names, n), kind=Kind.VIEW, view=n, extra=self._extra(n))
            for n in range(self.look.count)
        ]
        transform, reader = self.look.digest, partial(reader_version, self.path)
        pictures = [self._picture(n) for n in range(self.look.count)]
        return [
            *(
                Wanted(view, self.path, transform, reader, some, others=self._beside)
                for view, some in zip(views, pictures, strict=True)
            ),
            whole,
        ]

    @property
    def _pooled(self) -> Wanted:
        """The specimen, as it is wanted."""
        extra = {**self.look.as_extra(), "pool": self.how, "root": str(self.root)}
        extra |= {"part": self.part} if self.part else {}
        specimen = Item(
            self.key,
            Kind.SPECIMEN,
            self.dataset,
            self.specimen,
            category=self.category,
            source=self.path.relative_to(self.root).as_posix(),
            extra=extra,
        )
        how, reader = digest_of(f"{self.look.digest} {self.how}"), partial(reader_version, self.path)
        return Wanted(specimen, self.path, how, reader, others=self._beside)

    def read(self, path: Path) -> Contents:
        """The state and the digest of the file: a drawing process reads it by itself."""
        return Contents.digested(path, *self._beside)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.sources.Source.make`; `todo` is everything."""
        views = [each.wanted for each in todo if each.item.kind is Kind.VIEW]
        remarks: list[str] = []
        finish = Finish(encoder.space.size, encoder.space.fit, thumbnails, any(wanted.outputs for wanted in views))
        made = self.workers.made(self.path, self.look, finish, remarks.append, part=self.part)
        for wanted, view in zip(views, made, strict=True):
            if view.picture is not None:
                picture = Image.fromarray(view.picture)
                for path in wanted.outputs:
                    _write(path, picture)
            if wanted.item.view == 0:
                self._small[0] = view.thumbnail
            yield Prepared(_complete(wanted, contents), view.pixels, view.thumbnail, remarks=tuple(remarks))
            remarks.clear()

    def pool(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> Pooled:
        """The specimen of its views.

        Raises:
            PictureError: some views are missing.
        """
        if len(items) < self.look.count:
            raise PictureError(f"only {len(items)} of {self.look.count} views could be embedded")
        vectors = vectors[[item.view < self.look.views for item in items]]  # of the whole, not of its cut copies
        state, wanted = items[0], self._pooled
        specimen = replace(
            wanted.item,
            source_size=state.source_size,
            source_mtime_ns=state.source_mtime_ns,
            source_digest=str(SourceDigest(SourceDigest.parse(state.source_digest).file, wanted.transform)),
        )
        return Pooled([specimen], pooled(vectors, self.how)[None], [self._small[0]])

    def _extra(self, view: int) -> dict[str, Any]:
        """What a view's row says of how it was drawn: of a cut copy also the plane and how much it left."""
        plane = self.look.plane_of(view)
        cut = {} if plane is None else {"cut_normal": list(plane.normal), "cut_share": plane.share}
        return {**self.look.as_extra(), **cut}

    @cached_property
    def _beside(self) -> tuple[Path, ...]:
        """The files in which the mesh's coordinates lie, where these are not in its own."""
        return files_beside(self.path)

    def _picture(self, view: int) -> tuple[Path, ...]:
        """Where a view's picture is to be written, if anywhere."""
        if self.renders is None:
            return ()
        folder, stem = self.path.relative_to(self.root).parent, stem_of(self.path)
        if self.part:  # what a scene calls its parts may be any text
            folder, stem = folder / stem, quote(self.part, safe=" ()+,-=[]").lstrip(".") or "part"
        return (self.renders / folder / f"{stem}_view{view:02d}.png",)


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


@dataclass(frozen=True)
class Meshes:
    """The mesh files of a folder, and the other files in it counted by kind."""

    files: Sequence[Path]
    others: Mapping[str, int]


def find_meshes(folder: Path) -> Meshes:
    """The mesh files below a folder, by path; hidden files and folders are left out.

    Materials and pictures in a folder with meshes are read with these, and are not counted among the others.

    Raises:
        InputError: no such folder, or no mesh in it.
    """
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}; give the folder that holds the meshes")
    found: list[Path] = []
    others: Counter[str] = Counter()
    for place, folders, files in walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [place / name for name in files if not name.startswith(".")]
        meshes = {path for path in paths if may_hold_mesh(path)}
        found += meshes
        beside = {path.suffix.lower() for path in meshes} & WITH_FILES
        others.update(
            path.suffix.lower() or "without an ending"
            for path in paths
            if path not in meshes and not (beside and path.suffix.lower() in BESIDE)
        )
    if not found:
        held = f", but {kinds_of(others)}" if others else ""
        endings = ", ".join([*sorted(SUFFIXES), ".gz of these", ".zip"])
        raise InputError(f"the folder {folder} holds no mesh ({endings}){held}")
    return Meshes(sorted(found), dict(sorted(others.items())))


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
    meshes: Meshes | None = None,
    split: bool = False,
) -> Listing:
    """Lists the specimens below a folder; the folders between are their categories.

    `renders` is a folder for the views as PNG files; `only` keeps the specimens with these keys (or with views of these keys),
    `limit` the first N; `meshes` are the files where they have been found already (see `find_meshes`). With `split` each part of
    a file of several meshes is a specimen, in a category named after the file. Files that would
    make the same specimen, and names that cannot be keys, are failures of the listing.

    Raises:
        InputError: no such folder, no mesh in it, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, not {limit}")
    root = folder.absolute()
    sources: dict[str, list[SpecimenSource]] = {}
    missing: list[Failure] = []
    meshes = find_meshes(folder) if meshes is None else meshes
    for path in meshes.files:
        whole = SpecimenSource(path.absolute(), root, dataset, look, pool, workers, renders)
        for source in _parts(whole, missing) if split else [whole]:
            try:
                sources.setdefault(_usable_key(source), []).append(source)
            except InputError as error:
                missing.append(Failure(_shown(path), _shown(path), "list", str(error)))
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
    return Listing(dataset, [source for _, source in wanted], missing, others=meshes.others)


def _parts(source: SpecimenSource, missing: list[Failure]) -> list[SpecimenSource]:
    """A source for each part of a file, or the whole where its format has none; what cannot be opened is a failure."""
    try:
        names = part_names(source.path)
    except MeshError as error:
        missing.append(Failure(_shown(source.path), _shown(source.path), "list", str(error)))
        return []
    return [replace(source, part=name) for name in names] or [source]


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _usable_key(source: SpecimenSource) -> str:
    """The key of a source's specimen, if all that is made of it fits its fields.

    Raises:
        InputError: it does not.
    """
    key = source.key
    longest = view_key(source.dataset, source.category, source.specimen, max(100, source.look.count))
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
