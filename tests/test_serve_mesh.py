"""`query serve` asked with a mesh: specimens answer, as `query specimen` finds them; hostile files are refused and bounded."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import meshes
import numpy as np
import pytest
from starlette.testclient import TestClient
from toy_specimens import LOOK, SPACE, Ingest, ToyEncoder

import outcrop.embed.models
import outcrop.embed.opening
from outcrop.query.service import engine as engines
from outcrop.query.service.app import application
from outcrop.query.service.engine import Engine
from outcrop.query.specimen import query_specimens
from outcrop.render.workers import Workers
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

GENERA = {"flat": (1, 0.3, 1), "tall": (0.4, 1, 0.4)}
JSON = {"accept": "application/json"}


class Encoder(ToyEncoder):
    """Opened and closed as a model is."""

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for genus, stretched in GENERA.items():
        for number in range(2):
            meshes.write(folder / f"shells/{genus}/{genus}{number}.ply", *meshes.ball(2, stretched, bumps=5 + number))
    with Store.connect(str(folder / "outcrop.db")) as store, Workers(2) as workers, pytest.MonkeyPatch.context() as at:
        at.chdir(folder)
        made = Collection.create(store, "outcrop", SPACE)
        record, _ = Ingest(folder / "shells", made, workers)(replace(LOOK, views=4))
        assert record.failed == 0
    return folder


@pytest.fixture(scope="module")
def engine(place: Path) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcrop.embed.models, "resolve", lambda *_: None)
        patch.setattr(outcrop.embed.opening, "open_for_query", lambda *_: Encoder())
        opened = Engine(Settings(uri=str(place / "outcrop.db"), state=place / "state"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(engine: Engine) -> TestClient:
    return TestClient(application(engine), base_url="http://127.0.0.1:8421", follow_redirects=False)


@pytest.fixture
def shell(place: Path) -> bytes:
    return (place / "shells/tall/tall1.ply").read_bytes()


@pytest.mark.parametrize("by", ["pooled", "views"])
def test_a_mesh_is_answered_as_by_the_command(
    client: TestClient, engine: Engine, place: Path, shell: bytes, by: str
) -> None:
    answer = client.post("/api/search", files={"mesh": ("Mine.PLY", shell)}, data={"k": "3", "by": by})
    assert answer.status_code == 200, answer.text
    (asked,) = answer.json()["queries"]
    file = str(place / "shells/tall/tall1.ply")
    said = query_specimens([file], engine.collection, Encoder, 3, by=by).as_json()
    assert asked["query"] == "Mine.PLY" and asked["hits"] == said["queries"][0]["hits"]
    assert asked["hits"][0]["key"] == "specimen/shells/tall/tall1" and answer.json().keys() == said.keys()


def test_conditions_scores_and_rows(client: TestClient, shell: bytes) -> None:
    flat = client.post("/api/search", files={"mesh": ("a.ply", shell)}, data={"where": "category=flat"})
    assert {hit["category"] for hit in flat.json()["queries"][0]["hits"]} == {"flat"}
    best = client.post("/api/search", files={"mesh": ("a.ply", shell)}, data={"min_score": "0.9999"})
    assert [hit["key"] for hit in best.json()["queries"][0]["hits"]] == ["specimen/shells/tall/tall1"]
    rows = client.post("/api/search", files={"mesh": ("a.ply", shell)}, data={"shape": "csv"}).json()["rows"]
    assert rows[0]["key"] == "specimen/shells/tall/tall1"


def test_the_page_takes_a_mesh_where_it_takes_a_picture(client: TestClient, shell: bytes) -> None:
    posted = client.post("/", files={"picture": ("folder/mine.ply", shell)}, data={"k": "2"})
    assert posted.status_code == 303 and posted.headers["location"].startswith("/?mesh=")
    page = client.get(posted.headers["location"]).text
    assert ">mine.ply<" in page and "shells/tall/tall1" in page and 'src="data:image/jpeg' in page
    assert page.count('class="rank"') == 2 and 'accept="image/*' in page and ".ply" in page
    hits = client.get(posted.headers["location"], headers=JSON).json()["queries"][0]["hits"]
    assert hits[0]["key"] == "specimen/shells/tall/tall1"
    assert client.get(posted.headers["location"].replace("/?mesh=", "/uploads/").partition("&")[0]).status_code == 404


def test_compressed_meshes(client: TestClient, shell: bytes) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inside/shell.ply", shell)
    for name, data in (("a.ply.gz", gzip.compress(shell)), ("a.zip", packed.getvalue())):
        answer = client.post("/api/search", files={"mesh": (name, data)}, data={"k": "1"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["queries"][0]["hits"][0]["key"] == "specimen/shells/tall/tall1"


def zipped(name: str, data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.ply", b"", "the mesh is empty"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1000000000\nend_header\n", "a.ply: "),
        ("a.stl", b"<!doctype html><p>not found", "HTML page"),
        ("a.obj", b"v 0 0 0\n" * 3, "a.obj: "),
        ("a.jpg", b"\xff\xd8\xff", "does not end as a mesh does"),
        ("a.ply.gz", gzip.compress(bytes(2**26)), "becomes more than"),
        ("a.zip", zipped("a.ply", bytes(2**26)), "claim to become"),
        ("a.zip", zipped("../../a.ply", b"ply"), "leads out of it"),
        ("../../../etc/a.ply", b"nonsense", "a.ply: "),
    ],
)
def test_hostile_meshes_are_refused(client: TestClient, place: Path, name: str, data: bytes, said: str) -> None:
    answer = client.post("/api/search", files={"mesh": (name, data)})
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"] and str(place) not in answer.json()["error"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"item": "specimen/shells/tall/tall1"}, "asked for by itself"),
        ({"where": "kind=image"}, "compared with specimens"),
        ({"rerank": "geometric"}, "about pictures"),
        ({"box": "0,0,1,1", "picture": "0" * 32}, "asked for by itself"),
        ({"by": "magic"}, "by must be pooled or views"),
        ({}, "not kept here any more"),
    ],
)
def test_what_does_not_go_with_a_mesh(client: TestClient, params: dict[str, str], said: str) -> None:
    answer = client.get("/api/search", params={"mesh": "0" * 32, **params})
    assert answer.status_code == 400 and said in answer.json()["error"]
    assert "../" not in client.get("/api/search", params={"mesh": "../../etc/passwd"}).json()["error"]
    alone = client.get("/api/search", params={"item": "specimen/shells/tall/tall1", "by": "views"})
    assert alone.status_code == 400 and "give a mesh" in alone.json()["error"]


def test_a_drawing_that_takes_too_long_is_given_up(
    engine: Engine, client: TestClient, shell: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, engine._drawing = engine._drawing, None
    monkeypatch.setattr(engines, "DRAWING_SECONDS", 0.01)
    try:
        answer = client.post("/api/search", files={"mesh": ("a.ply", shell)})
        assert answer.status_code == 400 and "took longer than" in answer.json()["error"]
    finally:
        if engine._drawing is not None:
            engine._drawing.close()
        engine._drawing = kept
    assert client.post("/api/search", files={"mesh": ("a.ply", shell)}).status_code == 200


def test_uploads_of_meshes_are_forgotten_like_pictures(engine: Engine, tmp_path: Path) -> None:
    uploads = type(engine.uploads)(tmp_path / "kept", limit=250)
    names = [uploads.keep(np.random.default_rng(n).bytes(100), f"{n}.ply").digest for n in range(4)]
    assert len(list((tmp_path / "kept").glob("*.ply"))) == 2
    assert uploads.mesh(names[-1]).name == "3.ply" and len(list((tmp_path / "kept").iterdir())) == 4
