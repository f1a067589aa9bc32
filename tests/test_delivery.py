"""Answers beside the screen: files and Redis through the commands, what stands in them, and agreement with FAISS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import run
from milvus_server import free_ports
from pictures import picture
from PIL import Image
from vectors import unit_vectors

from outcrop.embed.images import thumbnail
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.schema.item import Item, Kind, image_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

DIM, IMAGES, TURNS = 32, 40, 6
SPACE = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=DIM)


def images() -> list[Item]:
    return [Item(image_key("town", "c_100", n), Kind.IMAGE, "town", "c_100", frame=n) for n in range(IMAGES)]


def references() -> list[Item]:
    made = []
    for image in images():
        for n in range(TURNS):
            key = f"{image.key.replace('image', 'reference')}/rot{60 * n:03d}/crop00"
            made.append(replace(image, key=key, kind=Kind.REFERENCE, rotation=60.0 * n))
    return made


@pytest.fixture(scope="module")
def filled(backend: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """A collection `answers` with images and references, and their vectors."""
    queries, gallery = unit_vectors(IMAGES, DIM, 1), unit_vectors(IMAGES * TURNS, DIM, 2)
    with Store.connect(backend) as store:
        made = Collection.create(store, "answers", SPACE, index="FLAT")
        made.upsert(images(), queries)
        made.upsert(references(), gallery)
    return backend, queries, gallery


@pytest.fixture
def asked(filled: tuple[str, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    monkeypatch.setenv("OUTCROP_URI", filled[0])
    monkeypatch.setenv("OUTCROP_COLLECTION", "answers")
    return filled[1:]


def test_a_dataset_against_references_is_what_faiss_gives(asked: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    """The same vectors in an `IndexFlatIP`: the same ids, the same scores."""
    faiss = pytest.importorskip("faiss")
    queries, gallery = asked
    index = faiss.IndexFlatIP(DIM)
    index.add(gallery)
    expected, order = index.search(queries, 7)
    outcome = run(
        "query", "dataset", "town", "--against", "reference", "--group", "none", "-k", 7, "--output", "out", "--json"
    )
    assert outcome.code == 0, outcome.err
    keys = [item.key for item in references()]
    assert (tmp_path / "out/queries.txt").read_text().splitlines() == [item.key for item in images()]
    assert np.load("out/keys.npy").tolist() == [[keys[n] for n in row] for row in order]
    assert np.load("out/ids.npy").tolist() == [[references()[n].id for n in row] for row in order]
    scores = np.load("out/scores.npy")
    assert scores.dtype == np.float32 and np.abs(scores - expected).max() < 1e-5
    assert json.loads((tmp_path / "out/answer.json").read_text()) == outcome.json


def test_against_a_dataset_or_a_kind(asked: tuple[np.ndarray, np.ndarray]) -> None:
    def kinds(*against: str) -> set[str]:
        words = [word for name in against for word in ("--against", name)]
        answer = run("query", "dataset", "town", "--limit", 3, "-k", 60, *words, "--json").json
        return {hit["kind"] for query in answer["queries"] for hit in query["hits"]}

    assert kinds() == {"image", "reference"}
    assert kinds("image") == {"image"}
    assert kinds("image", "reference") == {"image", "reference"}
    assert kinds("town") == {"image", "reference"}
    assert "'field'" in run("query", "dataset", "town", "--against", "field").error(3), "nothing of this name is held"
    assert kinds("town", "reference") == {"reference"}


def test_files_of_an_answer(asked: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    store = ThumbnailStore.below(tmp_path / ".outcrop")
    for number, item in enumerate(images()):
        store.write(item.id, thumbnail(picture(number)))
    key = image_key("town", "c_100", 3)
    assert run("query", "item", key, "-k", 6, "--against-nothing", "--output", "out").code == 2
    ask = ("query", "item", key, "-k", 6, "--where", "kind=image", "--output", "out", "--quiet")
    assert run(*ask).code == 0
    names = ["answer.json", "ids.npy", "keys.npy", "queries.txt", "scores.npy"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_file()) == names
    (sheet,) = (tmp_path / "out/sheets").iterdir()
    assert sheet.name == "0001_image_town_c_100_0003.png"
    with Image.open(sheet) as opened:
        colours = np.asarray(opened.convert("RGB"))
    assert colours.shape[0] > 300 and len(np.unique(colours.reshape(-1, 3), axis=0)) > 5000  # thumbnails are on it
    (tmp_path / "out/sheets/old.png").touch()
    assert run(*ask).code == 0  # an earlier answer is replaced whole
    assert [p.name for p in (tmp_path / "out/sheets").iterdir()] == [sheet.name]
    (tmp_path / "out/mine.txt").touch()
    assert "holds 'mine.txt'" in run(*ask).error(6) and (tmp_path / "out/mine.txt").exists()
    assert "is a file" in run(*ask[:-2], sheet).error(3)
    assert "does not exist" in run(*ask[:-2], "no/where").error(3)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out.")]


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_redis_through_the_commands(
    asked: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = pytest.importorskip("redis")
    from redis_server import RedisServer

    key = image_key("town", "c_100", 3)
    ask = ("query", "item", key, "-k", 4, "--json")
    (port,) = free_ports(1)
    assert f"127.0.0.1:{port}" in run(*ask, "--redis", f"redis://:secret@127.0.0.1:{port}").error(5)
    server = RedisServer(tmp_path, password="s3cret")
    try:
        monkeypatch.setenv("OUTCROP_REDIS", server.uri.replace("//", "//:s3cret@"))
        outcome = run(*ask, "--redis-ttl", 60)
        assert outcome.code == 0 and "s3cret" not in outcome.out + outcome.err
        with redis.Redis(port=server.port, password="s3cret", decode_responses=True) as client:
            assert json.loads(client.get(f"outcrop:answers:answer:{key}")) == outcome.json["queries"][0]
            assert client.zcard(f"outcrop:answers:hits:{key}") == 4
            assert 0 < client.ttl(f"outcrop:answers:hits:{key}") <= 60
    finally:
        server.stop()
