"""The contract of `ingest.sources`: files that make several items, pooled ones among them, and what becomes of the rest."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_encoders import Later, Submits

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.listing import ingest_listing, look_ahead
from outcrop.ingest.pipeline import Options, Pipeline
from outcrop.ingest.runs import Record, Run
from outcrop.ingest.sources import Contents, Listing, Outcome, Pooled, Prepared, Todo, Unfit, Wanted
from outcrop.schema.errors import PictureError
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import Item, Kind, image_key, parent_of, specimen_key, view_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SPACE = Space(
    model="toy", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=4, fit="squash"
)


class ToyEncoder(Submits):
    """Vectors from the first pixels; black pictures give none. Counts the pictures it holds at most."""

    batch = 5

    def __init__(self) -> None:
        self.space = SPACE
        self.encoded = 0

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not pixels.reshape(len(pixels), -1).any(axis=1).all():
            raise PictureError("a black picture has no direction")
        self.encoded += len(pixels)
        vectors = pixels.reshape(len(pixels), -1)[:, :4].astype(np.float32) + 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass(frozen=True)
class Mesh:
    """A file that makes `views` views, and the specimen of their mean."""

    path: Path
    views: int
    whole: bool = True
    atomic: bool = True
    black: frozenset[int] = frozenset()
    unfit: frozenset[int] = frozenset()
    breaks_at: int = 10**9
    stage: str = "render"
    made: list[int] = field(default_factory=list)

    @property
    def _views(self) -> list[Item]:
        return [
            Item(view_key("bones", "leg", self.path.stem, n), Kind.VIEW, "bones", self.path.stem, "leg", view=n)
            for n in range(self.views)
        ]

    @property
    def _specimen(self) -> Item:
        return Item(specimen_key("bones", "leg", self.path.stem), Kind.SPECIMEN, "bones", self.path.stem, "leg")

    @property
    def wanted(self) -> Sequence[Wanted]:
        return [Wanted(replace(item, source=self.path.name), self.path) for item in (*self._views, self._specimen)]

    @property
    def count(self) -> int:
        return self.views + 1

    def read(self, path: Path) -> Contents:
        return Contents.read(path)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: ToyEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        for item in (each.item for each in todo):
            if item.kind is Kind.SPECIMEN:
                continue
            if item.view == self.breaks_at:
                raise PictureError(f"{self.path} broke off")
            if item.view in self.unfit:
                yield Unfit(item, "blank")
                continue
            self.made.append(item.view)
            value = 0 if item.view in self.black else 1 + item.view % 200
            pixels = np.full((*SPACE.size, 3), value, np.uint8)
            pixels[0, 0] = (0, 0, 0) if item.view in self.black else (len(contents.data) % 256, item.view % 256, 9)
            yield Prepared(self._complete(item, contents), pixels, b"thumbnail" if thumbnails else None)

    def pool(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> Pooled:
        if len(items) < self.views:
            raise PictureError(f"{len(items)} of {self.views} views")
        mean = vectors.mean(axis=0)
        specimen = self._complete(self._specimen, Contents.read(self.path))
        return Pooled([specimen], (mean / np.linalg.norm(mean))[None], [None])

    def _complete(self, item: Item, contents: Contents) -> Item:
        return replace(
            item,
            source=self.path.name,
            source_size=contents.state.size,
            source_mtime_ns=contents.state.mtime_ns,
            source_digest=contents.digest,
        )


@pytest.fixture
def collection(lite_uri: str) -> Iterator[Collection]:
    with Store.connect(lite_uri) as store:
        yield Collection.create(store, "toys", SPACE)


@pytest.fixture
def meshes(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{name}.ply" for name in ("femur", "tibia", "skull")]
    for number, file in enumerate(files):
        file.write_bytes(b"x" * (10 + number))
    return files


def ingest(collection: Collection, *sources: Mesh, force: bool = False, batch: int = 5) -> Record:
    run = Run.begin(Path("state"), "specimens")
    options = Options(batch=batch, workers=2, force=force)
    thumbnails = ThumbnailStore.below(Path("state"))
    return ingest_listing(Listing("bones", sources), ToyEncoder(), collection, run, options, thumbnails=thumbnails)


def keys(collection: Collection, kind: Kind = Kind.VIEW) -> set[str]:
    return {r["key"] for rows in collection.scan_rows(equals("kind", str(kind)), ["id", "key"]) for r in rows}


def test_all_items_of_a_source_and_the_pooled_one(collection: Collection, meshes: list[Path]) -> None:
    first = ingest(collection, *(Mesh(path, 7) for path in meshes))
    assert (first.expected, first.embedded, first.upserted, first.failed, first.removed) == (24, 24, 24, 0, 0)
    stored = {
        item.key: vector
        for items, vectors in collection.scan(vectors=True)
        for item, vector in zip(items, vectors, strict=True)
    }
    for path in meshes:
        views = np.stack([stored[view_key("bones", "leg", path.stem, n)] for n in range(7)])
        mean = views.mean(axis=0)
        assert np.allclose(stored[specimen_key("bones", "leg", path.stem)], mean / np.linalg.norm(mean), atol=1e-6)
    again = [Mesh(path, 7) for path in meshes]
    assert look_ahead(Listing("bones", again), collection).to_embed == 0
    second = ingest(collection, *again)
    assert (second.embedded, second.unchanged) == (0, 24) and not any(mesh.made for mesh in again)
    assert ingest(collection, Mesh(meshes[0], 7), force=True).embedded == 8 and collection.count() == 24


def test_a_touched_but_equal_file_is_unchanged_as_a_whole(collection: Collection, meshes: list[Path]) -> None:
    ingest(collection, Mesh(meshes[0], 7))
    meshes[0].touch()
    mesh = Mesh(meshes[0], 7)
    assert ingest(collection, mesh).unchanged == 8 and not mesh.made


def test_fewer_views_remove_the_others_of_the_same_source_only(collection: Collection, meshes: list[Path]) -> None:
    ingest(collection, *(Mesh(path, 7) for path in meshes))
    thumbnails = ThumbnailStore.below(Path("state"))
    assert len(list(thumbnails.folder.rglob("*.jpg"))) == 21
    record = ingest(collection, Mesh(meshes[0], 4))
    assert record.removed == 3
    assert keys(collection) == {
        view_key("bones", "leg", path.stem, n) for path in meshes for n in range(4 if path is meshes[0] else 7)
    }
    assert len(list(thumbnails.folder.rglob("*.jpg"))) == 18
    assert ingest(collection, Mesh(meshes[0], 4)).removed == 0


def test_nothing_is_removed_for_a_source_asked_for_in_part_or_that_failed(
    collection: Collection, meshes: list[Path]
) -> None:
    ingest(collection, *(Mesh(path, 7) for path in meshes))
    assert ingest(collection, Mesh(meshes[0], 4, whole=False)).removed == 0
    broken = ingest(collection, Mesh(meshes[0], 4, unfit=frozenset({1})), force=True)
    assert (broken.removed, broken.failed) == (0, 2)  # the blank view, and the specimen that lacks it
    assert len(keys(collection)) == 21


def test_one_unfit_view_fails_alone_and_the_pooled_item_with_its_own_reason(
    collection: Collection, meshes: list[Path]
) -> None:
    record = ingest(collection, Mesh(meshes[0], 7, unfit=frozenset({2})), Mesh(meshes[1], 7, black=frozenset({3})))
    assert (record.expected, record.embedded, record.failed) == (16, 12, 4)
    ledger = [line for line in (Path("state/runs") / record.run / "failures.jsonl").read_text().splitlines()]
    assert sum("blank" in line and "render" in line for line in ledger) == 1
    assert sum("no direction" in line for line in ledger) == 1
    assert sum("6 of 7 views" in line for line in ledger) == 2


def test_a_source_that_breaks_off_fails_for_what_it_did_not_make(collection: Collection, meshes: list[Path]) -> None:
    record = ingest(collection, Mesh(meshes[0], 7, breaks_at=4), Mesh(meshes[1], 7))
    assert (record.embedded, record.failed) == (4 + 8, 4)
    assert record.state == "done" and collection.count() == 12


def test_an_interrupted_source_is_neither_covered_nor_lost(collection: Collection, meshes: list[Path]) -> None:
    ingest(collection, Mesh(meshes[0], 500))
    run = Run.begin(Path("state"), "specimens")
    pipelines: list[Pipeline] = []

    class Stopping(ToyEncoder):
        def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            pipelines[0].stop()
            return super().encode(pixels)

    mesh = Mesh(meshes[0], 400)
    options = Options(batch=5, workers=1, force=True)
    record = ingest_listing(Listing("bones", [mesh]), Stopping(), collection, run, options, on_start=pipelines.append)
    assert record.state == "interrupted" and record.removed == 0
    assert 0 < record.embedded == record.upserted == len(mesh.made) < 400
    assert len(keys(collection)) == 500


def test_a_source_of_many_items_is_held_back(collection: Collection, meshes: list[Path]) -> None:
    """However many items a source makes, no more pictures wait than the queue and the batch hold."""
    mesh, waiting, lock = Mesh(meshes[0], 600), [0], threading.Lock()

    class Watching(ToyEncoder):
        def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            with lock:
                waiting.append(len(mesh.made) - self.encoded)
            return super().encode(pixels)

    run = Run.begin(Path("state"), "specimens")
    ingest_listing(Listing("bones", [mesh]), Watching(), collection, run, Options(batch=8, workers=2))
    assert collection.count(Filter()) == 601
    assert max(waiting) <= 8 + 2 * 8 + 2 + 8


class Flying(ToyEncoder):
    """Keeps two batches in hand: vectors are never there when they are asked about."""

    in_flight = 2
    at_once = False

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def submit(self, pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> Later:
        self.events.append("submit")
        return super().submit(pixels)

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.events.append("result")
        return super().encode(pixels)


def test_the_next_batches_are_on_their_way_before_a_vector_is_waited_for(
    collection: Collection, meshes: list[Path]
) -> None:
    encoder, mesh = Flying(), Mesh(meshes[0], 40)
    run = Run.begin(Path("state"), "specimens")
    record = ingest_listing(Listing("bones", [mesh]), encoder, collection, run, Options(batch=8, workers=1))
    assert record.upserted == 41 and record.failed == 0
    assert encoder.events == ["submit"] * 3 + ["result", "submit"] * 2 + ["result"] * 3
    stored = {
        item.view: vector
        for items, vectors in collection.scan(equals("kind", "view"), vectors=True)
        for item, vector in zip(items, vectors, strict=True)
    }
    pixels = np.zeros((40, *SPACE.size, 3), np.uint8)
    for view in range(40):
        pixels[view], pixels[view, 0, 0] = 1 + view, (10, view, 9)
    assert np.allclose(np.stack([stored[view] for view in range(40)]), ToyEncoder().encode(pixels), atol=1e-6)


def test_one_picture_without_a_vector_does_not_take_those_in_flight_with_it(
    collection: Collection, meshes: list[Path]
) -> None:
    sources = [Mesh(meshes[0], 12, atomic=False, whole=False, black=frozenset({4})), Mesh(meshes[1], 12)]
    run = Run.begin(Path("state"), "specimens")
    record = ingest_listing(Listing("bones", sources), Flying(), collection, run, Options(batch=5, workers=1))
    assert (record.expected, record.embedded, record.failed) == (26, 24, 2)
    assert keys(collection) == {
        view_key("bones", "leg", path.stem, n) for path in meshes[:2] for n in range(12) if (path, n) != (meshes[0], 4)
    }


@pytest.mark.parametrize("own", [3, 150])
def test_without_a_batch_the_encoder_says_how_many_it_takes(
    collection: Collection, meshes: list[Path], own: int
) -> None:
    class Asked(ToyEncoder):
        batch = own
        seen: list[int] = []  # noqa: RUF012

        def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.seen.append(len(pixels))
            return super().encode(pixels)

    run = Run.begin(Path("state"), "specimens")
    sources = [Mesh(meshes[0], 200), Mesh(meshes[1], 200)]
    record = ingest_listing(Listing("bones", sources), Asked(), collection, run, Options(batch=0, workers=2))
    assert record.failed == 0 and record.upserted == 402
    assert max(Asked.seen) == own and sum(Asked.seen) == 400


def test_parents() -> None:
    assert parent_of(view_key("bones", "leg/upper", "f 1", 3)) == specimen_key("bones", "leg/upper", "f 1")
    assert parent_of(view_key("bones", "", "f", 3)) == "specimen/bones/f" == parent_of("specimen/bones/f")
    assert parent_of("reference/a/b_300/0007/rot022.5/crop60") == image_key("a", "b_300", 7)
