"""`ingest specimens`: views and pooled specimens of the meshes below a folder, once, whatever some of the files are like."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import meshes
import numpy as np
import psutil
import pytest
from commands import run
from PIL import Image
from toy_specimens import LOOK, SPACE, Ingest, shells

from outcrop.embed.encoder import Encoder
from outcrop.embed.models import find_model
from outcrop.embed.pooling import pooled
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.listing import ingest_listing, look_ahead
from outcrop.ingest.pipeline import Options
from outcrop.ingest.runs import Run
from outcrop.ingest.specimens import find_meshes, list_specimens
from outcrop.render.views import ViewSpec
from outcrop.render.workers import Workers
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.filters import equals
from outcrop.schema.item import item_id
from outcrop.store.collection import Collection
from outcrop.store.connection import Store


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """Two drawing processes for all tests here."""
    with Workers(2) as pool:
        yield pool


@pytest.fixture
def collection(lite_uri: str) -> Iterator[Collection]:
    """An empty collection of the toy's space."""
    with Store.connect(lite_uri) as store:
        yield Collection.create(store, "shells", SPACE)


@pytest.fixture
def ingest(folder: Path, collection: Collection, workers: Workers) -> Ingest:
    return Ingest(folder, collection, workers)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shells(tmp_path / "shells")


def test_views_and_specimens_with_categories_and_what_they_were_made_of(ingest: Ingest) -> None:
    record, _ = ingest()
    assert (record.expected, record.embedded, record.failed) == (16, 16, 0)
    rows = ingest.rows()
    assert {key for key in rows if key.startswith("specimen/")} == {
        "specimen/shells/ammonites/early/smooth",
        "specimen/shells/ammonites/early/RIBBED",
        "specimen/shells/snails/tall one",
        "specimen/shells/scan",
    }
    row, vector = rows["specimen/shells/ammonites/early/smooth"]
    assert (row["category"], row["capture_id"], row["view"]) == ("ammonites/early", "smooth", -1)
    assert row["source"] == "ammonites/early/smooth.ply"
    views = np.stack([rows[f"view/shells/ammonites/early/smooth/{n:02d}"][1] for n in range(3)])
    assert [rows[f"view/shells/ammonites/early/smooth/{n:02d}"][0]["view"] for n in range(3)] == [0, 1, 2]
    assert np.allclose(vector, pooled(views, "mean"), atol=1e-6) and np.linalg.norm(vector) == pytest.approx(1)
    thumbnails = ThumbnailStore.below(Path("state"))
    assert all(thumbnails.read(item_id(key)) for key in rows)


def test_a_second_run_does_nothing_and_a_changed_one_only_what_is_needed(ingest: Ingest) -> None:
    ingest()
    again, _ = ingest()
    assert (again.embedded, again.unchanged, again.removed) == (0, 16, 0)
    meshes.write(ingest.folder / "ammonites/early/smooth.ply", *meshes.ball(3, (1, 0.5, 1)))
    outlook = look_ahead(ingest.listing(), ingest.collection)
    assert (outlook.unchanged, outlook.to_embed) == (12, 4)
    assert ingest()[0].embedded == 4
    changes = ({"seed": 5}, {"layout": "sphere"}, {"up": "z"}, {"size": 72}, {"views": 4})
    for listing in (*(ingest.listing(replace(LOOK, **change)) for change in changes), ingest.listing(pool="gem")):
        assert look_ahead(listing, ingest.collection).unchanged == 0
    os.utime(ingest.folder / "scan.Ply")  # another time, the same bytes
    assert ingest()[0].unchanged == 16
    assert ingest(force=True)[0].embedded == 16


def test_fewer_views_remove_the_others(ingest: Ingest) -> None:
    ingest()
    fewer, _ = ingest(replace(LOOK, views=2))
    assert (fewer.embedded, fewer.removed) == (12, 4)
    rows = ingest.rows()
    assert len(rows) == 12 and not any(key.endswith("/02") for key in rows)


def test_renders_are_saved_as_they_were_embedded_and_made_up_for(ingest: Ingest) -> None:
    ingest(renders=Path("renders"))
    assert sorted(str(path.relative_to("renders")) for path in Path("renders").rglob("*.png")) == sorted(
        f"{stem}_view{n:02d}.png"
        for stem in ("ammonites/early/smooth", "ammonites/early/RIBBED", "snails/tall one", "scan")
        for n in range(3)
    )
    picture = Path("renders/snails/tall one_view01.png")
    before = picture.read_bytes()
    with Image.open(picture) as image:
        assert image.size == (64, 64) and image.getpixel((0, 0)) == (255, 255, 255)
    picture.unlink()
    again, _ = ingest(renders=Path("renders"))
    assert again.unchanged == 12 and picture.read_bytes() == before


def test_files_of_the_same_specimen_are_named_and_the_rest_is_done(ingest: Ingest) -> None:
    early = ingest.folder / "ammonites/early"
    shutil.copy(early / "smooth.ply", early / "smooth.PLY")
    meshes.write(ingest.folder / "snails/tall one.stl", *meshes.box())
    record, failures = ingest()
    reasons = {failure.key: failure.reason for failure in failures}
    assert set(reasons) == {"specimen/shells/ammonites/early/smooth", "specimen/shells/snails/tall one"}
    assert "smooth.PLY, ammonites/early/smooth.ply" in reasons["specimen/shells/ammonites/early/smooth"]
    assert record.failed == 2 and len(ingest.rows()) == 8
    (ingest.folder / "snails/tall one.stl").unlink()
    only = ["specimen/shells/snails/tall one"]
    assert ingest(only=only)[0].embedded == 4 and len(ingest.rows()) == 12


def test_names_that_no_key_can_have_are_failures(ingest: Ingest) -> None:
    meshes.write(ingest.folder.joinpath(*["y" * 200] * 3) / "a.ply", *meshes.ball(1))
    shutil.copy(ingest.folder / "scan.Ply", os.fsencode(ingest.folder) + b"/\xff.ply")
    record, failures = ingest()
    reasons = sorted(failure.reason for failure in failures)
    assert record.embedded == 16 and len(reasons) == 2
    assert "not valid Unicode" in reasons[0] and "category has 602 bytes" in reasons[1]
    assert run("ingest", "status", "last", "--state", "state", "--json").json["failed"] == 2


def test_a_look_comes_back_from_what_is_stored(ingest: Ingest) -> None:
    look = ViewSpec(2, 48, "sphere", 4, "z")
    ingest(look, only=["specimen/shells/scan"])
    row = ingest.rows()["specimen/shells/scan"][0]
    assert ViewSpec.of_extra(row) == look
    assert row["pool"] == "mean" and row["root"] == str(ingest.folder)
    assert ViewSpec.of_extra({}) is None
    with pytest.raises(InputError):
        ViewSpec.of_extra({**ViewSpec().as_extra(), "look_renderer": "of another version"})


def test_wrong_options_are_refused_before_any_work(folder: Path, lite_uri: str, tmp_path: Path) -> None:
    common = ("--model", "efficientnet_lite0", "--uri", lite_uri)
    (tmp_path / "bare").mkdir()
    (tmp_path / "file").touch()
    for given, options, said in (
        (folder, ("--pool", "men"), "did you mean 'mean'"),
        (folder, ("--layout", "cube"), "--cameras must be ring or sphere"),
        (folder, ("--renderer", "gl"), "--renderer must be auto, raycast, egl or filament"),
        (folder, ("--size", "7"), "--size must be 32 to"),
        (folder, ("--limit", "0"), "--limit must be at least 1"),
        (folder, ("--save-renders", tmp_path / "file"), "is a file"),
        (tmp_path / "nowhere", (), "no folder at"),
        (tmp_path / "bare", (), "holds no mesh"),
    ):
        assert said in run("ingest", "specimens", given, *options, *common).error(3)
    assert not (tmp_path / ".outcrop/runs").exists(), "no run was begun"


def test_thirty_good_and_twenty_broken_meshes(tmp_path: Path, lite_uri: str) -> None:
    """The good ones are specimens, every broken one is named once with its reason, and no claim costs memory."""
    root = tmp_path / "mixed"
    endings = ("ply", "stl", "off", "obj")
    for number in range(30):
        shape = meshes.ball(2, (1, 0.4 + number / 50, 0.7), bumps=number % 7)
        meshes.write(root / f"good/{number:02d}.{endings[number % 4]}", *shape, text=number % 8 > 3)
    broken = dict(sorted(meshes.broken().items())[:: len(meshes.broken()) // 20][:20]) | {
        name: meshes.broken()[name] for name in ("huge.ply", "huge.stl", "huge.off")
    }
    broken = dict(sorted(broken.items(), key=lambda entry: not entry[0].startswith("huge"))[:20])
    (root / "broken").mkdir()
    for name, (data, _) in broken.items():
        (root / f"broken/{name.replace('.', '_')}.{name.split('.')[-1]}").write_bytes(data)
    peak = Peak()
    with peak:
        answer = run("ingest", "specimens", root, "--views", 2, "--model", "efficientnet_lite0", "--uri", lite_uri)
    assert "60 of 150 items failed" in answer.error(4)
    assert peak.workers_mb < 700  # a drawing process with Open3D and nothing else takes about 200
    shown = run("ingest", "status", "last", "--json").json
    assert len(shown["failures"]) == 20 and shown["failed"] == 60 and shown["upserted"] == 90
    for name, (_, reason) in broken.items():
        said = [f["reason"] for f in shown["failures"] if f["key"] == f"specimen/mixed/broken/{name.replace('.', '_')}"]
        assert len(said) == 1 and reason in said[0], name
    with Store.connect(lite_uri) as store:
        collection = Collection.open(store, "outcrop")
        assert collection.count(equals("kind", "specimen")) == 30
    # What is mended is taken up by a retry; what is not fails again.
    meshes.write(next((root / "broken").glob("huge_*.ply")), *meshes.ball(2))
    retried = run("ingest", "retry", "last", "--uri", lite_uri, "--json")
    assert retried.code == 4 and retried.json["upserted"] == 3 and retried.json["failed"] == 57


class Peak:
    """The largest memory (MB) of the drawing processes while it is open."""

    def __init__(self) -> None:
        self.workers_mb = 0.0

    def __enter__(self) -> Peak:
        import threading

        self._open = True
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._open = False
        self._thread.join()
        assert self.workers_mb > 20, "no drawing process was seen"

    def _watch(self) -> None:
        import time

        while self._open:
            for child in psutil.Process().children():
                try:
                    if "outcrop.render.workers" in " ".join(child.cmdline()):
                        self.workers_mb = max(self.workers_mb, child.memory_info().rss / 2**20)
                except psutil.Error:
                    continue
            time.sleep(0.02)


def test_features_are_exported_and_replaced(folder: Path, lite_uri: str, tmp_path: Path) -> None:
    """The tree holds what the collection holds, also after a second run with fewer views, and with a file that failed."""
    tree = tmp_path / "tree"

    def ingested(views: int, code: int) -> None:
        outcome = run(
            "ingest", "specimens", folder, "--name", "s", "--views", views, "--model", "efficientnet_lite0",
            "--export-features", tree, "--uri", lite_uri, "--json",
        )  # fmt: skip
        assert outcome.code == code, outcome.err
        with Store.connect(lite_uri) as store:
            rows = {
                item.key: vector
                for items, vectors in Collection.open(store, "outcrop").scan(vectors=True)
                for item, vector in zip(items, vectors, strict=True)
            }
        for key, vector in rows.items():
            kind, _, *names = key.split("/")
            if kind == "view":
                array = np.load(tree / "features" / f"{'/'.join(names[:-1])}.npy")
                assert len(array) == views and np.array_equal(array[int(names[-1])], vector)
            else:
                assert np.array_equal(np.load(tree / "embeddings" / f"{'/'.join(names)}.npy"), vector)
        ids = (tree / "embeddings/ids.txt").read_text(encoding="utf-8").splitlines()
        assert (
            len(ids)
            == sum(key.startswith("specimen/") for key in rows)
            == len(list((tree / "results").glob("knn_*.csv")))
        )

    (tree / "results").mkdir(parents=True)
    (tree / "meshes").mkdir()
    mine = [tree / "meshes/thesis.ply", tree / "results/clusters.csv"]
    for file in mine:
        file.touch()
    ingested(3, 0)
    (folder / "broken.ply").write_bytes(b"ply")
    ingested(2, 4)
    assert all(file.exists() for file in mine), "what the export did not write stays"
    strange = tmp_path / "strange"
    (strange / "features").mkdir(parents=True)
    (strange / "features/thesis.npy").touch()
    refused = run("ingest", "specimens", folder, "--export-features", strange, "--model", "efficientnet_lite0")
    assert (
        "holds features that Outcrop did not write" in refused.error(3) and (strange / "features/thesis.npy").exists()
    )


@pytest.fixture(scope="module")
def animals(shared_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """The real specimens, 12 views each at the network's size."""
    place = tmp_path_factory.mktemp("animals")
    encoder = Encoder.open(find_model("efficientnet_lite0"))
    with Store.connect(str(place / "outcrop.db")) as store, Workers(2) as workers:
        collection = Collection.create(store, "real", encoder.space)
        listing = list_specimens(shared_sample / "specimens", "real", ViewSpec(size=224), workers=workers)
        record = ingest_listing(listing, encoder, collection, Run.begin(place, "specimens"), Options(workers=2))
        assert (record.failed, record.upserted) == (0, 18 * 13)
        yield collection


def test_real_specimens_separate(animals: Collection) -> None:
    """Every mesh renders; each molar's nearest other specimen is a molar, each femur's a femur."""
    found = next(animals.scan(equals("kind", "specimen"), vectors=True, batch=100))
    items, vectors = found
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    nearest = {item.source: items[int(row.argmax())].source for item, row in zip(items, likeness, strict=True)}
    molars = {source for source in nearest if "molars" in source}
    femurs = {source for source in nearest if "femur" in source.rsplit("/", 1)[1]}
    assert len(molars) == 8 and all(nearest[source] in molars for source in molars)
    assert len(femurs) == 3 and all(nearest[source] in femurs for source in femurs)
    groups = [source.split("/")[0].split("_")[0] for source in (item.source for item in items)]
    kind = np.array([{"femurs": "bone", "leg": "bone", "odedstein": "animal"}.get(g, g) for g in groups])
    for name in ("primate", "bone", "animal"):
        inside = likeness[np.ix_(kind == name, kind == name)]
        among = inside[inside > -1].mean()
        across = likeness[np.ix_(kind == name, kind != name)].mean()
        assert among > across, (name, among, across)


def test_pooling() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 20)).astype(np.float32)
    mean = vectors.mean(axis=0)
    assert np.allclose(pooled(vectors, "mean"), mean / np.linalg.norm(mean), atol=1e-6)
    largest = vectors.max(axis=0)
    assert np.allclose(pooled(vectors, "max"), largest / np.linalg.norm(largest), atol=1e-6)
    positive = np.abs(vectors)
    gem = ((positive.astype(float) ** 3).mean(axis=0)) ** (1 / 3)
    assert np.allclose(pooled(positive, "gem"), gem / np.linalg.norm(gem), atol=1e-6)
    for how in ("mean", "max", "gem"):
        assert np.array_equal(pooled(vectors, how), pooled(vectors[rng.permutation(7)], how))
    with pytest.raises(PictureError, match="cancel each other out"):
        pooled(np.stack([vectors[0], -vectors[0]]), "mean")


def test_remarks_on_a_mesh_are_said_once_and_kept(tmp_path: Path, lite_uri: str) -> None:
    """What a reader left out reaches the person and the run's folder, not the log."""
    folder = tmp_path / "scans"
    folder.mkdir()
    points = meshes.ball(3)[0] + [0, 0, 5]
    for name, count in (("a", 7), ("b", 9)):
        (folder / f"{name}.ply").write_bytes(meshes.cloud_ply(np.concatenate([np.zeros((count, 3)), points])))
    common = ("--views", 2, "--model", "efficientnet_lite0", "--uri", lite_uri)
    answer = run("ingest", "specimens", folder, *common)
    assert answer.code == 0 and "WARNING" not in answer.err
    said = [line for line in answer.err.splitlines() if "(0, 0, 0)" in line]
    assert len(said) == 1 and "and 1 more" in said[0] and "points at (0, 0, 0), taken for missing returns" in said[0]
    kept = "".join(path.read_text() for path in Path(".outcrop/runs").glob("*/remarks.jsonl"))
    assert "7 points at (0, 0, 0)" in kept and "9 points at (0, 0, 0)" in kept
    assert "(0, 0, 0)" not in run("ingest", "specimens", folder, *common, "--force", "--quiet").err


def test_views_of_an_older_reader_are_drawn_again(ingest: Ingest) -> None:
    """A collection that was made before a format was read rightly is healed by the next ingest."""
    with pytest.MonkeyPatch.context() as before:
        before.setattr("outcrop.render.preflight.READER", 1)
        ingest()
        assert ingest()[0].unchanged == 16
    outlook = look_ahead(ingest.listing(), ingest.collection)
    assert (outlook.unchanged, outlook.to_embed) == (0, 16)
    assert ingest()[0].embedded == 16 and ingest()[0].unchanged == 16


def scene(path: Path, names: tuple[str, ...]) -> None:
    """Balls in a row, as a GLB that trimesh writes; of two of one name trimesh itself renames the second."""
    import trimesh

    balls = trimesh.Scene()
    for place, name in enumerate(names):
        mesh = trimesh.Trimesh(*meshes.ball(2, (1, 0.4 + 0.3 * place, 1)))
        balls.add_geometry(
            mesh, node_name=name, geom_name=name, transform=np.diag([1, 1, 1, 1]) + np.eye(4, k=3) * 3 * place
        )
    path.write_bytes(balls.export(file_type="glb"))


def test_a_scene_is_one_specimen_or_split_one_a_node(ingest: Ingest) -> None:
    scene(ingest.folder / "snails/plate.glb", ("left", "right/2"))
    assert ingest(renders=Path("renders"))[0].embedded == 20
    assert "specimen/shells/snails/plate" in ingest.rows()
    record, _ = ingest(split=True, renders=Path("renders"))
    assert (record.embedded, record.unchanged) == (8, 16)
    rows = ingest.rows()
    row, vector = rows["specimen/shells/snails/plate/left"]
    assert (row["category"], row["capture_id"], row["part"]) == ("snails/plate", "left", "left")
    assert row["source"] == "snails/plate.glb"
    assert not np.allclose(vector, rows["specimen/shells/snails/plate/right%2F2"][1])
    assert Path("renders/snails/plate/right%2F2_view00.png").is_file()
    scene(ingest.folder / "snails/plate.glb", ("left", "right/2", "third"))
    again, _ = ingest(split=True)
    assert (again.embedded, again.unchanged) == (12, 16), "the file is another; its parts keep their keys"
    assert ingest(split=True)[0].unchanged == 28


def test_what_a_folder_holds_besides_meshes_is_counted_by_kind(ingest: Ingest, tmp_path: Path) -> None:
    (ingest.folder / "film.MP4").write_bytes(b"?")
    (ingest.folder / "snails/shell.png").write_bytes(b"of the mesh beside it")
    with zipfile.ZipFile(ingest.folder / "papers.zip", "w") as archive:
        archive.writestr("a.txt", "no mesh")
    assert ingest()[0].others == {".mp4": 1, ".txt": 1, ".zip": 1}
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/a.jpg").write_bytes(b"?")
    with pytest.raises(InputError, match=r"holds no mesh .*, but 1 \.jpg"):
        find_meshes(tmp_path / "empty")


def test_the_numbers_of_a_gltf_may_lie_beside_it(ingest: Ingest) -> None:
    import trimesh

    files = trimesh.Scene(trimesh.Trimesh(*meshes.ball(2))).export(file_type="gltf")
    for name, data in files.items():
        (ingest.folder / name).write_bytes(data)
    assert ingest()[0].embedded == 20
    assert ingest()[0].unchanged == 20
    (buffer,) = (path for path in ingest.folder.glob("*.bin") if path.stat().st_size == 162 * 12)
    places = np.frombuffer(buffer.read_bytes(), "<f4").reshape(-1, 3) * np.float32([1, 0.5, 1])
    buffer.write_bytes(places.tobytes())
    again, _ = ingest()
    assert (again.embedded, again.unchanged) == (4, 16)
