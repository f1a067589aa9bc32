"""`query specimen` and `query sheet`: asked with meshes, keys and photographs; pooled, or view by view."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import meshes
import numpy as np
import pytest
from commands import Outcome, run
from PIL import Image
from toy_specimens import LOOK, SPACE, Ingest, ToyEncoder

from outcrop.query.answers import Results
from outcrop.query.specimen import query_specimens, stored_look
from outcrop.query.view_sets import likeness, specimen_views
from outcrop.render.workers import Workers
from outcrop.schema.errors import InputError, MeshError, PictureError
from outcrop.schema.filters import Filter, where
from outcrop.schema.item import item_id
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

GENERA = {"flat": (1, 0.3, 1), "tall": (0.4, 1, 0.4), "long": (1, 0.5, 0.5)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three genera of four specimens, ingested; the renders beside them."""
    place = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for genus, stretched in GENERA.items():
        for number in range(4):
            shape = meshes.ball(3, np.array(stretched) * rng.uniform(0.9, 1.1, 3), bumps=5 + number)
            meshes.write(place / f"shells/{genus}/{genus}{number}.ply", *shape)
    with (
        Store.connect(str(place / "outcrop.db")) as store,
        Workers(2) as workers,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(place)
        collection = Collection.create(store, "outcrop", SPACE)
        record, _ = Ingest(place / "shells", collection, workers)(replace(LOOK, views=6), renders=place / "renders")
        assert record.failed == 0
    return place


@pytest.fixture
def collection(world: Path, tmp_path: Path) -> Iterator[Collection]:
    shutil.copytree(world / "outcrop.db", tmp_path / "outcrop.db")
    with Store.connect(str(tmp_path / "outcrop.db")) as store:
        yield Collection.open(store, "outcrop")


def ask(collection: Collection, *names: object, k: int = 4, filter: Filter | None = None, **how: object) -> Results:
    return query_specimens([str(name) for name in names], collection, ToyEncoder, k, filter, **how)  # type: ignore[arg-type]


def keys(results: Results, number: int = 0) -> list[str]:
    return [hit.item.key for hit in results.results[number].hits]


def key(genus: str, number: int) -> str:
    return f"specimen/shells/{genus}/{genus}{number}"


@pytest.mark.parametrize("by", ["pooled", "views"])
def test_a_stored_specimen_finds_itself_and_its_genus(collection: Collection, by: str) -> None:
    for genus in GENERA:
        found = ask(collection, key(genus, 1), by=by)
        assert keys(found)[0] == key(genus, 1) and found.results[0].hits[0].score == pytest.approx(1, abs=1e-5)
        assert {hit.item.category for hit in found.results[0].hits} == {genus}
        others = ask(collection, key(genus, 1), by=by, exclude_self=True, k=3)
        assert key(genus, 1) not in keys(others) and len(keys(others)) == 3
        assert keys(ask(collection, f"view/shells/{genus}/{genus}1/03", by=by)) == keys(found)


@pytest.mark.parametrize("by", ["pooled", "views"])
def test_a_mesh_is_drawn_as_the_stored_ones_were(collection: Collection, world: Path, by: str) -> None:
    file = world / "shells/tall/tall2.ply"
    found = ask(collection, file, by=by)
    assert keys(found)[0] == key("tall", 2) and found.results[0].hits[0].score == pytest.approx(1, abs=1e-5)
    assert found.results[0].query.thumbnail is not None
    assert key("tall", 2) not in keys(ask(collection, file, by=by, exclude_self=True))
    copy = meshes.write(Path("new.stl"), *meshes.ball(3, (0.42, 1, 0.38), bumps=6))
    assert {hit.item.category for hit in ask(collection, copy, by=by).results[0].hits} == {"tall"}
    assert len(ask(collection, world / "shells/long", by=by).results) == 4


@pytest.mark.parametrize("by", ["pooled", "views"])
@pytest.mark.parametrize("align", ["axes", "axes-mirror"])
def test_a_mesh_is_found_in_whatever_pose_it_comes(tmp_path: Path, by: str, align: str) -> None:
    shells: dict[str, tuple[Any, Any]] = {}
    for number in range(4):
        vertices, faces = meshes.ball(3, (1, 0.7, 0.4 + 0.05 * number), bumps=3)
        vertices[:, :2] *= (
            1 + (0.1 + 0.1 * number) * np.maximum(vertices[:, :2], 0) + 0.3 * np.maximum(vertices[:, 2:], 0)
        )
        shells[f"s{number}"] = vertices, faces
        meshes.write(tmp_path / f"shells/s{number}.ply", vertices, faces)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    if (np.linalg.det(turn) < 0) == (align == "axes"):
        turn[0] *= -1  # a mirror image, where that is to be the same
    with Store.connect(str(tmp_path / "outcrop.db")) as store, Workers(2) as workers:
        collection = Collection.create(store, "outcrop", SPACE)
        look = replace(LOOK, views=6, align=align)
        record, _ = Ingest(tmp_path / "shells", collection, workers)(look)
        assert record.failed == 0
        for name, (vertices, faces) in shells.items():
            copy = meshes.write(tmp_path / "copy.stl", 3 * vertices @ turn.T + 5, faces)
            best = ask(collection, copy, by=by).results[0].hits[0]
            assert best.item.capture_id == name and best.score > 0.999


def test_view_by_view_is_the_mean_of_the_best_pairs(collection: Collection) -> None:
    found = ask(collection, key("flat", 0), by="views", k=12)
    items = collection.items([item_id(key(genus, n)) for genus in GENERA for n in range(4)])
    specimens = [item for item, _ in items.values()]
    views = {item.key: v for item, (_, v) in zip(specimens, specimen_views(collection, specimens), strict=True)}
    own = views[key("flat", 0)]
    expected = {name: float((own @ other.T).max(axis=1).mean()) for name, other in views.items()}
    assert [(hit.item.key, pytest.approx(hit.score, abs=1e-5)) for hit in found.results[0].hits] == sorted(
        expected.items(), key=lambda entry: -entry[1]
    )


def test_an_evaluation_compares_view_by_view_beside(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "outcrop.db", tmp_path / "outcrop.db")
    with Store.connect(str(tmp_path / "outcrop.db")) as store:
        names = [key(genus, number) for genus in GENERA for number in range(4)]
        asked = ask(Collection.open(store, "outcrop"), *names, by="views", exclude_self=True, k=12)
    right = {
        one.query.name: [hit.rank for hit in one.hits if f"/{hit.item.category}/" in one.query.name]
        for one in asked.results
    }
    how = ("--query-kind", "specimen", "--truth", "category", "--uri", tmp_path / "outcrop.db", "--state", tmp_path)
    answer = run("query", "evaluate", "shells", "--by", "views", "--where", "kind=specimen", *how, "--json").json
    plain, views = answer["strategies"]
    assert (plain["name"], views["name"]) == ("embedding", "views")
    assert {one["query"]: one["first"] for one in views["per_query"]} == {
        name: ranks[0] for name, ranks in right.items()
    }
    for one in views["per_query"]:
        precisions = [place / rank for place, rank in enumerate(right[one["query"]], start=1)]
        assert one["average_precision"] == pytest.approx(np.mean(precisions), abs=1e-5)
    assert "--by must be pooled or views" in run("query", "evaluate", "shells", *how, "--by", "view").error(3)
    assert "--query-kind specimen" in run("query", "evaluate", "shells", "--by", "views", *how[2:]).error(2)


def test_a_photograph_finds_specimens_by_their_views(collection: Collection, world: Path) -> None:
    photo = world / "renders/long/long3_view04.png"
    found = ask(collection, photo, by="views")
    assert keys(found)[0] == key("long", 3) and found.results[0].hits[0].score == pytest.approx(1, abs=1e-5)


def test_filters_are_about_specimens_or_views(collection: Collection) -> None:
    for by in ("pooled", "views"):
        found = ask(collection, key("flat", 0), by=by, filter=where("category=tall,long"), k=20)
        assert {hit.item.category for hit in found.results[0].hits} == {"tall", "long"} and len(keys(found)) == 8
        with pytest.raises(InputError, match="holds no dataset 'other'; there are: shells"):
            ask(collection, key("flat", 0), by=by, filter=where("dataset=other"))
    every = ask(collection, key("flat", 0), by="views", k=20)
    some = ask(collection, key("flat", 0), by="views", filter=where("view=0..1"), k=20)
    assert len(keys(some)) == 12 and some.results[0].hits[0].score < every.results[0].hits[0].score
    raw = ask(collection, key("flat", 0), by="views", filter=Filter(raw="view == 2"), k=20)
    assert len(keys(raw)) == 12
    with pytest.raises(InputError, match="leave kind= out"):
        ask(collection, key("flat", 0), filter=where("kind=view"))


def test_what_cannot_be_asked_is_said(collection: Collection, world: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.ply").write_bytes(meshes.broken()["cut.ply"][0])
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "folder").mkdir()
    for name, kind, said in (
        ("bad.ply", MeshError, "cut short"),
        ("bad.jpg", PictureError, "not a picture"),
        ("gone.ply", InputError, "no file at gone.ply"),
        ("folder", InputError, "holds no mesh"),
        ("image/a/b/0001", InputError, "give a mesh"),
        (key("flat", 9), InputError, "no specimen"),
    ):
        with pytest.raises(kind, match=said):
            ask(collection, name)
    with pytest.raises(InputError, match="did you mean 'views'"):
        ask(collection, key("flat", 0), by="view")
    with pytest.raises(InputError, match="holds no specimens that fit"):
        ask(collection, world / "shells/flat/flat0.ply", filter=where("category=other"))
    found = ask(collection, "bad.ply", world / "shells/flat/flat0.ply", key("tall", 1))
    assert [bool(result.error) for result in found.results] == [True, False, False]


def test_the_look_of_most_specimens_is_taken(collection: Collection, world: Path) -> None:
    look, pool = stored_look(collection)
    assert (look, pool) == (replace(LOOK, views=6), "mean")
    with Workers(1) as workers:
        Ingest(world / "shells", collection, workers)(replace(LOOK, views=2), only=[key("flat", 0), key("flat", 1)])
    assert stored_look(collection)[0].views == 6
    assert stored_look(collection, where("capture_id=flat0,flat1"))[0].views == 2


def test_specimens_that_came_as_vectors_are_compared_view_by_view_too(collection: Collection) -> None:
    stored = {
        item.key: (replace(item, extra={}), vector)
        for items, vectors in collection.scan(where("category=flat"), vectors=True)
        for item, vector in zip(items, vectors, strict=True)
    }
    before = ask(collection, key("tall", 0), by="views", k=12)
    collection.upsert([item for item, _ in stored.values()], np.stack([v for _, v in stored.values()]), replacing=True)
    after = ask(collection, key("tall", 0), by="views", k=12)
    assert keys(after) == keys(before)
    assert keys(ask(collection, key("flat", 0), by="views", k=1)) == [key("flat", 0)]


def command(*arguments: object) -> Outcome:
    return run("query", *arguments, "--state", "state")


@pytest.mark.usefixtures("collection")
def test_the_commands(world: Path) -> None:
    shutil.copytree(world / "state", "state")
    answer = command("specimen", key("flat", 2), "-k", 3, "--json").json
    hit = answer["queries"][0]["hits"][0]
    assert (hit["key"], hit["kind"], hit["category"], hit["view"]) == (key("flat", 2), "specimen", "flat", -1)
    rows = list(csv.DictReader(io.StringIO(command("specimen", key("flat", 2), "--by", "views", "--csv").out)))
    assert rows[0]["key"] == key("flat", 2) and len(rows) == 10
    assert key("flat", 2) in command("specimen", key("flat", 2), "--report", "r.html", "--explain").out
    assert Path("r.html").read_text().count("data:image/jpeg") >= 10
    assert command("sheet", key("tall", 0)).code == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 4 * 64 and sheet.height > 2 * 64
        assert len(sheet.getcolors(1 << 20) or ()) > 50
    assert command("sheet", world / "shells/tall/tall0.ply", "-o", "mesh.png").code == 0
    with Image.open("mesh.png") as sheet:
        assert sheet.width > 4 * 256
    shutil.rmtree("state/thumbnails")
    assert command("sheet", key("tall", 0), "-o", "again.png").code == 0  # the file is still there
    assert "no specimen 'specimen/no/thing'" in command("sheet", "specimen/no/thing").error(3)
    assert "give the name of a file" in command("sheet", key("tall", 0), "-o", ".").error(3)


def test_a_sheet_of_a_mesh_needs_no_collection() -> None:
    meshes.write(Path("a.stl"), *meshes.ball(2))
    assert command("sheet", "a.stl").code == 0
    assert Path("sheet.png").is_file()
    assert command("sheet", "specimen/a/b").code in (3, 5)


def test_specimens_with_equal_views_are_equally_similar() -> None:
    """Whatever the order of their views, and however many others stand beside them: a tie is left to the key."""
    rng = np.random.default_rng(0)
    views, others = (rng.normal(size=(count, 384)).astype(np.float32) for count in (7, 26))
    scores = {
        likeness(views, np.concatenate([others, others[:extra]])[rng.permutation(26 + extra)]) for extra in range(9)
    }
    exact = (views.astype(np.float64) @ others.astype(np.float64).T).max(axis=1).mean()
    assert len(scores) == 1 and scores.pop() == pytest.approx(exact, abs=1e-9)
