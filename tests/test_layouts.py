"""Trees of files that other programs keep: out of a collection, back into another, and what is wrong with them."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from commands import Outcome, run
from vectors import unit_vectors

from outcrop.embed.models import find_preset
from outcrop.ingest.changes import changes
from outcrop.ingest.layouts import ELSEWHERE, SPACE_FILE
from outcrop.ingest.perform import ingest, preview
from outcrop.ingest.records import find_run
from outcrop.ingest.requests import FeaturesRequest
from outcrop.ingest.sources import Listing
from outcrop.schema.filters import equals
from outcrop.schema.item import Item, Kind, specimen_key, view_key
from outcrop.schema.settings import Settings
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

VIEWS, DIM = 3, 24
SPACE = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=DIM)
SPECIMENS = [("ammonites/like harpoceras", "a 1"), ("ammonites/like harpoceras", "b%2/3"), ("", "c"), ("종/속", "d")]


def fill(uri: str) -> dict[str, bytes]:
    """A collection of specimens and views; every key with the bytes of its vector."""
    items: list[Item] = []
    for category, name in SPECIMENS:
        items += [
            Item(view_key("s", category, name, n), Kind.VIEW, "s", name, category=category, view=n)
            for n in range(VIEWS)
        ]
        items.append(Item(specimen_key("s", category, name), Kind.SPECIMEN, "s", name, category=category))
    vectors = unit_vectors(len(items), DIM)
    with Store.connect(uri) as store:
        Collection.create(store, "outcrop", SPACE).upsert(items, vectors)
    return {item.key: vector.tobytes() for item, vector in zip(items, vectors, strict=True)}


def stored(uri: str) -> dict[str, bytes]:
    with Store.connect(uri) as store:
        opened = Collection.open(store, "outcrop")
        return {
            i.key: v.tobytes()
            for items, vectors in opened.scan(vectors=True)
            for i, v in zip(items, vectors, strict=True)
        }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("layouts")
    rows = fill(str(folder / "from.db"))
    outcome = run(
        "collection",
        "export",
        "outcrop",
        folder / "tree",
        "--layout",
        "fossilvit",
        "--uri",
        folder / "from.db",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["rows"] == len(rows)
    return folder, rows


@pytest.fixture
def tree(filled: tuple[Path, dict[str, bytes]], tmp_path: Path) -> Path:
    shutil.copytree(filled[0] / "tree", tmp_path / "tree")
    return tmp_path / "tree"


def features(folder: Path, *more: object) -> Outcome:
    return run("ingest", "features", folder, "--layout", "fossilvit", "--name", "s", "--json", *more)


def test_the_files_are_those_of_the_layout(filled: tuple[Path, dict[str, bytes]]) -> None:
    tree, rows = filled[0] / "tree", filled[1]
    names = ["ammonites/like harpoceras/a 1", "ammonites/like harpoceras/b%252%2F3", "c", "종/속/d"]
    assert (tree / "embeddings/ids.txt").read_text(encoding="utf-8").splitlines() == names
    gallery = np.load(tree / "embeddings/embeddings.npy")
    assert gallery.shape == (4, DIM) and gallery.dtype == np.float32
    for row, (name, (category, specimen)) in enumerate(zip(names, SPECIMENS, strict=True)):
        pooled, views = np.load(tree / f"embeddings/{name}.npy"), np.load(tree / f"features/{name}.npy")
        assert pooled.shape == (DIM,) and views.shape == (VIEWS, DIM)
        assert pooled.tobytes() == gallery[row].tobytes() == rows[specimen_key("s", category, specimen)]
        for view in range(VIEWS):
            assert views[view].tobytes() == rows[view_key("s", category, specimen, view)]


def test_neighbours_are_the_nearest_by_cosine(filled: tuple[Path, dict[str, bytes]]) -> None:
    tree = filled[0] / "tree"
    gallery = np.load(tree / "embeddings/embeddings.npy").astype(np.float64)
    names = (tree / "embeddings/ids.txt").read_text(encoding="utf-8").splitlines()
    for row, name in enumerate(names):
        with (tree / f"results/knn_{name.replace('/', '__')}.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        others = sorted((1 - gallery[row] @ gallery[n], names[n]) for n in range(4) if n != row)
        assert [line["neighbor_id"] for line in lines] == [other for _, other in others]
        assert {line["query_id"] for line in lines} == {name}
        assert [float(line["distance"]) for line in lines] == pytest.approx([d for d, _ in others], abs=2e-6)


def test_what_went_out_comes_back_bit_for_bit(filled: tuple[Path, dict[str, bytes]], tree: Path) -> None:
    first = features(tree)
    assert first.code == 0, first.err
    assert (first.json["expected"], first.json["upserted"]) == (16, 16)
    assert stored("outcrop.db") == filled[1]
    with Store.connect("outcrop.db") as store:
        opened = Collection.open(store, "outcrop")
        assert opened.space == SPACE
        item = opened.items([Item(view_key("s", "종/속", "d", 1), Kind.VIEW, "s", "d").id]).popitem()[1][0]
        assert (item.category, item.capture_id, item.view, item.source) == ("종/속", "d", 1, "features/종/속/d.npy")
    again = features(tree).json
    assert (again["upserted"], again["unchanged"]) == (0, 16)
    changed = np.load(tree / "features/c.npy")
    np.save(tree / "features/c.npy", changed[::-1])
    assert features(tree, "--dry-run").json["to_embed"] == 4
    third = features(tree).json
    assert (third["upserted"], third["unchanged"]) == (4, 12)
    rows = stored("outcrop.db")
    assert rows[view_key("s", "", "c", 0)] == changed[-1].tobytes()


def test_a_tree_from_elsewhere(tmp_path: Path) -> None:
    """No space beside it, vectors of any length, no pooled ones: the model is named, the rest is made."""
    made = tmp_path / "seed"
    rng = np.random.default_rng(0)
    raw = {"genus/x": rng.normal(size=(4, 384)) * 7, "genus/y": rng.normal(size=(2, 384)).astype(np.float16)}
    for name, array in raw.items():
        (made / "features" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(made / f"features/{name}.npy", array)
    assert "give --model" in features(made).error(3)
    assert "did you mean 'dinov2_vits14'" in features(made, "--model", "dinov2_vits15").error(3)
    assert "vectors of 384 numbers, those of dinov2_vitb14 have 768" in features(
        made, "--model", "dinov2_vitb14"
    ).error(3)
    outcome = features(made, "--model", "dinov2_vits14")
    assert outcome.code == 0 and outcome.json["upserted"] == 8
    assert "the weights of dinov2_vits14 are not on this machine" in outcome.err
    with Store.connect("outcrop.db") as store:
        opened = Collection.open(store, "outcrop")
        assert opened.space.model == "dinov2_vits14" and opened.space.weights_digest == ELSEWHERE
        assert opened.space.dim == find_preset("dinov2_vits14").dim
        (items, vectors), *rest = opened.scan(equals("kind", "specimen"), vectors=True)
        assert not rest and {item.key for item in items} == {"specimen/s/genus/x", "specimen/s/genus/y"}
        for item, vector in zip(items, vectors, strict=True):
            unit = raw[f"{item.category}/{item.capture_id}"].astype(np.float32)
            unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
            mean = unit.mean(axis=0)
            assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    hits = run("query", "item", "specimen/s/genus/x", "--where", "kind=view", "-k", 4, "--json").json["queries"][0][
        "hits"
    ]
    assert {hit["capture_id"] for hit in hits} == {"x"}
    assert run("query", "image", made / "features/genus/x.npy").code == 3


def test_broken_files_are_named_and_the_others_written(tree: Path) -> None:
    (tree / "features/c.npy").write_bytes(b"\x93NUMPY\x01\x00 cut")
    np.save(tree / "features/ammonites/like harpoceras/a 1.npy", np.zeros((VIEWS, DIM), np.float32))
    np.save(tree / "embeddings/종/속/d.npy", np.ones(DIM + 1, np.float32))
    np.save(
        tree / "features/ammonites/like harpoceras/b%252%2F3.npy", np.array(["text"], dtype=object), allow_pickle=True
    )
    outcome = features(tree)
    assert outcome.code == 4, outcome.err
    reasons = Path(outcome.json["failures"]).read_text(encoding="utf-8")
    for said in ("c.npy", "zero or not finite", "holds 25 numbers", "no array of numbers"):
        assert said in reasons
    assert outcome.json["upserted"] == 0
    np.save(tree / "embeddings/종/속/d.npy", unit_vectors(1, DIM)[0])
    retried = run("ingest", "retry", "last", "--json")
    assert (retried.code, retried.json["upserted"], retried.json["expected"]) == (4, 4, outcome.json["failed"])
    again = features(tree).json
    assert (again["upserted"], again["unchanged"]) == (0, 4)


def test_a_tree_is_listed_and_compared_like_every_source(tree: Path) -> None:
    """What differs is judged by `outcrop.ingest.changes`: touching a file changes nothing, an older one in its place does."""
    request = FeaturesRequest(name="s", folder=tree, layout="fossilvit")
    some = request.list(None, only=[view_key("s", "", "c", 1)])
    assert [source.path.name for source in some.sources] == ["c.npy"] and some.expected == VIEWS + 1
    first = ingest(request, Settings())
    assert (first.state, first.upserted, first.embedded, first.device) == ("done", 16, 0, "")
    for path in tree.rglob("*.npy"):
        os.utime(path)
    pooled = tree / "embeddings/c.npy"
    np.save(pooled, np.load(pooled)[::-1])
    os.utime(pooled, (0, 0))
    with Store.connect("outcrop.db") as store:
        found = list(changes(request.list(None), Collection.open(store, "outcrop")))
    assert {change.key for change in found if change.embed} == {item.key for item in _items_of(some)}
    assert Counter(change.kind for change in found) == {"unchanged": 12, "changed": 4}
    assert preview(request, Settings()).outlook.to_embed == 4
    assert ingest(request, Settings()).upserted == 4
    assert ingest(request.model_copy(update={"force": True}), Settings()).upserted == 16


def _items_of(listing: Listing) -> list[Item]:
    return [wanted.item for source in listing.sources for wanted in source.wanted]


def test_arrays_that_fail_together_are_one_failure_of_their_specimen(tree: Path) -> None:
    np.save(tree / "embeddings/종/속/d.npy", np.ones(DIM + 1, np.float32))
    features(tree).error(4)
    record, failures = find_run(Settings().state, "last")
    assert (record.failed, record.upserted) == (VIEWS + 1, 12)
    assert [(failure.key, failure.stage, failure.items) for failure in failures] == [
        (specimen_key("s", "종/속", "d"), "read", VIEWS + 1)
    ]


def test_what_makes_no_sense(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "neither features" in features(tmp_path / "empty").error(3)
    assert "no folder at" in features(tmp_path / "nowhere").error(3)
    assert "did you mean 'fossilvit'" in run("ingest", "features", tree, "--layout", "fosilvit").error(3)
    (tree / SPACE_FILE).write_text("{}")
    assert f"{SPACE_FILE} does not describe an embedding space" in features(tree).error(3)
    (tree / SPACE_FILE).write_text(SPACE.model_copy(update={"weights_digest": "other"}).model_dump_json())
    fill("outcrop.db")
    assert "weights_digest" in features(tree).error(6)
    export = ("collection", "export", "outcrop", tree, "--layout", "fossilvit")
    assert "holds an earlier export" in run(*export).error(3)
    (tree / SPACE_FILE).unlink()
    assert "that Outcrop did not write" in run(*export).error(3)
    assert "no specimens that fit" in run(*export[:3], tmp_path / "new", *export[4:], "--where", "dataset=t").error(3)


def test_names_that_would_meet_in_one_file(tmp_path: Path) -> None:
    """A specimen of no category called like the gallery's file is refused; two whose ids meet in ``__`` keep a file each."""
    names = [("", "a__b"), ("a", "b"), ("", "embeddings")]
    items = [Item(specimen_key("s", c, n), Kind.SPECIMEN, "s", n, category=c) for c, n in names]
    vectors = unit_vectors(3, DIM)
    with Store.connect("outcrop.db") as store:
        Collection.create(store, "outcrop", SPACE).upsert(items, vectors)
    export = ("collection", "export", "outcrop", tmp_path / "tree", "--layout", "fossilvit")
    assert "rename the specimen 'embeddings'" in run(*export).error(3)
    with Store.connect("outcrop.db") as store:
        Collection.open(store, "outcrop").delete([items[2].id])
    assert not (tmp_path / "tree").exists(), "what is refused leaves nothing"
    assert run(*export).code == 0
    found = {}
    for path in (tmp_path / "tree/results").iterdir():
        with path.open(encoding="utf-8", newline="") as file:
            found[path.name] = next(csv.DictReader(file))["query_id"]
    assert sorted(found.values()) == ["a/b", "a__b"] and len(found) == 2
