"""Clusters: the numbers, ids that last, the files, the page, and the command on a real collection."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import run
from hypothesis import given
from hypothesis import strategies as st
from kernels import kernels, run_under
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.clusters import hierarchy
from outcrop.query.clusters.cluster import UNASSIGNED, Recipe, cluster, reduced
from outcrop.query.clusters.ids import Known, stable_ids
from outcrop.query.clusters.map import chosen, lay_out
from outcrop.query.clusters.quality import quality
from outcrop.query.clusters.spanning import spanning_tree
from outcrop.schema.errors import InputError
from outcrop.schema.item import Item, Kind, specimen_key, view_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

GENERA = ("molars", "femurs", "skulls")


def groups(each: int, strays: int, seed: int = 0, dim: int = 24) -> tuple[NDArray[np.float32], list[str]]:
    """Unit vectors in three tight groups of `each`, and strays everywhere: [N, dim] float32, and their groups ('' = stray)."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(dim, 3)))[0].T
    points = [centre + rng.normal(size=(each, dim)) * 0.05 for centre in centres]
    vectors = np.concatenate([*points, rng.normal(size=(strays, dim))])
    names = [name for name in GENERA for _ in range(each)] + [""] * strays
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), names


@pytest.mark.parametrize("method", ["hdbscan", "kmeans", "agglomerative"])
def test_methods_find_the_groups(method: str) -> None:
    vectors, names = groups(20, 0)
    found = cluster(vectors, Recipe(method))  # type: ignore[arg-type]
    assert found.count == 3 and (found.labels >= 0).mean() > 0.9
    figures = quality(found.points, found.labels, names)
    assert figures.ari is not None and figures.ari > 0.9 and figures.ari_assigned == 1
    assert figures.nmi is not None and figures.nmi > 0.9 and figures.categories == 3
    assert figures.silhouette is not None and figures.silhouette > 0.5
    assert figures.dbcv is not None and figures.dbcv > 0.5
    assert ((found.probability >= 0) & (found.probability <= 1)).all()
    assert (found.probability[found.labels < 0] == 0).all()


def test_the_inner_functions_of_hdbscan_give_what_its_public_way_gives() -> None:
    """They are not public: the version that is installed must be one in which they were tried."""
    assert version("hdbscan") in hierarchy.CHECKED, "compare both ways, then add the version"
    for seed in range(4):
        tree = spanning_tree(groups(30, 20, seed, dim=16)[0], 3)
        tree = replace(
            tree, weight=tree.weight + 1e-9 * np.arange(109)
        )  # of equally heavy edges the two take others first
        for ours, theirs in zip(hierarchy.inner(tree, 5), hierarchy.public(tree, 5), strict=True):
            assert np.array_equal(ours, theirs)


def test_without_the_inner_functions_the_public_way_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = groups(20, 6)
    expected = cluster(vectors, Recipe())
    monkeypatch.delattr("hdbscan._hdbscan_linkage.label")
    assert np.array_equal(cluster(vectors, Recipe()).labels, expected.labels) and expected.count == 3


@pytest.mark.parametrize("method", ["hdbscan", "kmeans", "agglomerative"])
def test_equal_vectors_are_never_parted(method: str) -> None:
    """Blank pictures, say. Products of matrices round them differently, by where they stand."""
    vectors, _ = groups(9, 12, seed=5, dim=200)
    which = np.random.default_rng(1).integers(len(vectors), size=301)
    for pca in (64, 0):
        found = cluster(vectors[which], Recipe(method, pca=pca))  # type: ignore[arg-type]
        assert found.count >= 2
        for row in np.unique(which):
            alike = which == row
            for values in (found.labels, found.probability, found.outlier):
                assert len(np.unique(values[alike])) == 1
            assert (found.points[alike] == found.points[alike][0]).all()


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
@pytest.mark.parametrize("clusters", [None, 2, 7])
def test_copies_of_one_vector_are_one_cluster(method: str, clusters: int | None) -> None:
    one, other = groups(1, 1, dim=100)[0][:2]
    alone = cluster(np.repeat(one[None], 30, axis=0), Recipe(method, clusters=clusters))  # type: ignore[arg-type]
    assert alone.count == 1 and (alone.probability == 1).all()
    two = cluster(np.stack([one] * 29 + [other]), Recipe(method, clusters=clusters))  # type: ignore[arg-type]
    assert two.labels.tolist() == [0] * 29 + [1]


CLUSTERED_UNDER_A_KERNEL = """
import sys
import numpy as np
from outcrop.query.clusters.cluster import Recipe, cluster
for vectors in np.load(sys.argv[1]):
    for recipe in (Recipe(), Recipe("kmeans", clusters=6), Recipe("agglomerative")):
        print(cluster(vectors, recipe).labels.tolist())
"""


def test_the_same_clusters_under_every_kernel(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sets = [groups(12, 9, seed, dim=130)[0][rng.integers(45, size=120)] for seed in range(2)]
    np.save(tmp_path / "vectors.npy", np.stack(sets))
    answers = [run_under(kernel, CLUSTERED_UNDER_A_KERNEL, tmp_path / "vectors.npy") for kernel in kernels()[::3]]
    assert len(answers[0].splitlines()) == 6 and all(answer == answers[0] for answer in answers)


def test_strays_are_in_no_cluster() -> None:
    vectors, names = groups(20, 15, seed=3, dim=64)
    found = cluster(vectors, Recipe())
    strays = np.array([not name for name in names])
    assert (found.labels[strays] == UNASSIGNED).mean() > 0.8
    assert found.outlier[strays].mean() > found.outlier[~strays].mean() + 0.2


@pytest.mark.parametrize("method", ["hdbscan", "kmeans", "agglomerative"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_few_and_equal_vectors(method: str, count: int) -> None:
    """Hardly anything, and copies of one vector: an answer or a reason, never a crash."""
    rng = np.random.default_rng(count)
    for vectors in (rng.normal(size=(count, 8)).astype(np.float32), np.ones((count, 8), np.float32)):
        if method != "hdbscan" and count < 2:
            with pytest.raises(InputError, match="cannot make"):
                cluster(vectors, Recipe(method))  # type: ignore[arg-type]
            continue
        found = cluster(vectors, Recipe(method))  # type: ignore[arg-type]
        assert found.labels.shape == (count,) and np.isfinite(found.probability).all()
        quality(found.points, found.labels, ["a"] * count)
        assert lay_out(found.points, found.labels).places.shape == (count, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "kmean"}, "kmeans"),
        ({"clusters": 4}, "finds the number itself"),
        ({"min_cluster_size": 1}, "--min-cluster-size"),
        ({"pca": -1}, "--pca"),
        ({"method": "kmeans", "clusters": 1}, "--clusters"),
    ],
)
def test_recipes_that_make_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**values)  # type: ignore[arg-type]


def test_more_clusters_than_items() -> None:
    with pytest.raises(InputError, match="smaller --clusters"):
        cluster(groups(2, 0)[0], Recipe("kmeans", clusters=50))


def test_components_keep_the_distances() -> None:
    vectors, _ = groups(30, 10)
    points = reduced(vectors, 24)
    kept = reduced(vectors, 23)
    assert np.array_equal(points, vectors) and kept.shape == (100, 23)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    assert np.allclose(np.linalg.norm(kept[:, None] - kept[None], axis=2), apart, atol=0.06)
    assert reduced(vectors[:3], 64).shape == (3, 2), "three points lie in a plane"


labellings = st.lists(st.integers(-1, 5), min_size=1, max_size=60)


def tidy(labels: list[int]) -> NDArray[np.int64]:
    """Labels numbered from 0 without gaps."""
    names = sorted({label for label in labels if label >= 0})
    return np.array([names.index(label) if label >= 0 else -1 for label in labels], np.int64)


@given(labels=labellings, shuffled=st.permutations(range(6)))
def test_the_same_clusters_keep_their_ids(labels: list[int], shuffled: list[int]) -> None:
    """Whatever the numbers that a run gives them."""
    first = tidy(labels)
    names = [f"item{number}" for number in range(len(labels))]
    begun = stable_ids(names, first, None)
    known = Known(dict(zip(names, (int(label) for label in first), strict=True)), begun.next_id)
    second = tidy([shuffled[label] if label >= 0 else -1 for label in first])
    again = stable_ids(names, second, known)
    assert not again.new and not again.gone and again.next_id == begun.next_id
    for label, other in zip(first, second, strict=True):
        assert label < 0 or again.ids[other] == label


@given(old=labellings, new=labellings)
def test_no_id_is_given_twice(old: list[int], new: list[int]) -> None:
    before, now = tidy(old), tidy(new)
    names = [f"item{number}" for number in range(max(len(old), len(new)))]
    known = Known({name: int(label) for name, label in zip(names, before, strict=False)}, int(before.max()) + 1)
    found = stable_ids(names[: len(now)], now, known)
    assert len(set(found.ids)) == len(found.ids)
    assert all(id >= known.next_id for id in found.new) and set(found.kept) | set(found.new) == set(found.ids)
    assert found.next_id > max(found.ids, default=-1) and found.next_id >= known.next_id
    assert set(found.gone) == {int(id) for id in before if id >= 0} - set(found.ids)


def test_splits_merges_and_newcomers() -> None:
    names = [f"s{number:02d}" for number in range(30)]
    known = Known(
        {name: number // 10 for number, name in enumerate(names)}, 7
    )  # clusters 0, 1, 2; ids up to 6 were given
    split = np.array([0] * 7 + [1] * 3 + [2] * 10 + [3] * 10)
    found = stable_ids(names, split, known)
    assert found.ids == (0, 7, 1, 2) and found.new == (7,) and found.next_id == 8
    merged = np.array([0] * 18 + [-1] * 2 + [1] * 10)
    found = stable_ids(names, merged, known)
    assert found.ids == (0, 2) and found.gone == (1,)
    newcomers = [f"n{number}" for number in range(40)]
    grown = stable_ids([*names, *newcomers], np.array([0] * 10 + [1] * 10 + [2] * 10 + [0] * 40), known)
    assert grown.ids == (0, 1, 2), "newcomers make no cluster another"
    strange = stable_ids(newcomers, np.array([0] * 40), known)
    assert strange.ids == (7,) and strange.gone == (0, 1, 2)


def test_the_map_shows_some_of_every_cluster() -> None:
    labels = np.array([0] * 5000 + [1] * 30 + [2] * 6 + [-1] * 500)
    rows = chosen(labels, 400)
    counts = {label: int((labels[rows] == label).sum()) for label in (0, 1, 2, -1)}
    assert counts[1] >= 10 and counts[2] == 6 and 350 < len(rows) < 440 and counts[-1] > 20
    vectors, _ = groups(30, 0)
    found = lay_out(vectors, np.repeat([0, 1, 2], 30))
    assert found.places.min() == 0 and found.places.max() == 1
    middles = found.places.reshape(3, 30, 2).mean(axis=1)
    spread = np.linalg.norm(found.places.reshape(3, 30, 2) - middles[:, None], axis=2).max()
    apart = min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert apart > 1.5 * spread, "groups lie apart on the map"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection of 36 specimens in three genera and 5 strays, and thumbnails of some."""
    folder = tmp_path_factory.mktemp("clusters")
    vectors, names = groups(12, 5, seed=1)
    items = [
        Item(
            specimen_key("fossils", f"bones/{genus}" if genus else "", f"sp{number:02d}"),
            Kind.SPECIMEN,
            "fossils",
            f"sp{number:02d}",
            category=f"bones/{genus}" if genus else "",
        )
        for number, genus in enumerate(names)
    ]
    space = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=24)
    view = Item(view_key("fossils", "bones/molars", "sp00", 0), Kind.VIEW, "fossils", "sp00", "bones/molars", view=0)
    thumbnails = ThumbnailStore.below(folder / "state")
    with Store.connect(str(folder / "outcrop.db")) as store:
        collection = Collection.create(store, "outcrop", space)
        collection.upsert([*items, view], np.concatenate([vectors, vectors[:1]]))
        collection.flush()
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), (90, 120, 80)).save(picture, "JPEG")
    for item in items[::2]:
        thumbnails.write(item.id, picture.getvalue())
    return folder


def ask(place: Path, *arguments: object) -> tuple[str, ...]:
    return tuple(map(str, ("cluster", *arguments, "--uri", place / "outcrop.db", "--state", place / "state")))


def test_the_files(place: Path, tmp_path: Path) -> None:
    outcome = run("query", *ask(place, "--output", tmp_path / "out", "--json"))
    assert outcome.code == 0, outcome.err
    answer = outcome.json
    assert answer["items"] == 41 and len(answer["clusters"]) == 3 and answer["quality"]["ari"] > 0.9
    assert {c["category"] for c in answer["clusters"]} == {f"bones/{name}" for name in GENERA}
    assert all(c["category_share"] == 1 and len(c["exemplars"]) == 6 for c in answer["clusters"])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/clusters.csv").read_text(encoding="utf-8"))))
    assert list(rows[0]) == ["specimen_id", "cluster_id", "prob"] and len(rows) == 41
    table = pq.read_table(tmp_path / "out/clusters.parquet").to_pydict()
    assert [row["specimen_id"] for row in rows] == table["specimen_id"] and table["key"] == sorted(table["key"])
    assert [int(row["cluster_id"]) for row in rows] == table["cluster_id"]
    assert np.allclose([float(row["prob"]) for row in rows], table["prob"], atol=1e-6)
    stored = json.loads((tmp_path / "out/clusters.json").read_text())
    assert stored == {key: value for key, value in answer.items() if key != "files"}
    assert stored["unassigned"] == table["cluster_id"].count(-1) and stored["next_id"] == 3
    page = (tmp_path / "out/clusters.html").read_text()
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:)", page) and "http" not in page
    assert page.count('<i tabindex="0"') == 41 and page.count("data:image/jpeg") >= 21 and "bones/molars" in page


def test_the_same_bytes_twice(place: Path, tmp_path: Path) -> None:
    """In an empty folder, and over the last result."""
    names = ("clusters.csv", "clusters.json", "clusters.parquet", "clusters.html")

    def made(folder: str, *more: object) -> list[bytes]:
        assert run("query", *ask(place, "--output", tmp_path / folder, *more)).code == 0
        return [(tmp_path / folder / name).read_bytes() for name in names]

    for method in ("hdbscan", "kmeans"):
        first = made(f"one-{method}", "--method", method, "--seed", 5)
        assert made(f"two-{method}", "--method", method, "--seed", 5) == first
        again = made(f"one-{method}", "--method", method, "--seed", 5)
        assert again[0] == first[0] and again[2] == first[2], "ids or numbers changed over the last result"
        assert made(f"one-{method}", "--method", method, "--seed", 5) == again


def test_ids_last_when_specimens_come_and_go(place: Path, tmp_path: Path) -> None:
    run("query", *ask(place, "--output", tmp_path / "out"))
    before = pq.read_table(tmp_path / "out/clusters.parquet").to_pydict()
    ids = dict(zip(before["key"], before["cluster_id"], strict=True))
    fewer = ("--where", "category=bones/femurs,bones/skulls", "--kind", "specimen")
    answer = run("query", *ask(place, "--output", tmp_path / "out", *fewer, "--json")).json
    after = pq.read_table(tmp_path / "out/clusters.parquet").to_pydict()
    kept = [(ids[key], id) for key, id in zip(after["key"], after["cluster_id"], strict=True) if id >= 0]
    assert kept and all(one == other or one == -1 for one, other in kept)
    assert len(answer["ids"]["gone"]) == 1 and not answer["ids"]["new"] and answer["next_id"] == 3


def test_the_table(place: Path, tmp_path: Path) -> None:
    out = run("query", *ask(place, "--output", tmp_path / "out", "--no-page")).out
    assert "100% bones/molars" in out and "none" in out and "ARI against category" in out
    assert not (tmp_path / "out/clusters.html").exists()


def test_other_kinds(place: Path, tmp_path: Path) -> None:
    answer = run("query", *ask(place, "--output", tmp_path / "out", "--where", "kind=view", "--json")).json
    assert answer["items"] == 1 and answer["clusters"] == [] and answer["unassigned"] == 1
    said = run("query", *ask(place, "--output", tmp_path / "no", "--kind", "image")).error(3)
    assert "holds no image; it holds: view, specimen" in said and not (tmp_path / "no").exists()


def test_refusals(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file" in run("query", *ask(place, "--output", tmp_path / "file")).error(3)
    assert "does not exist" in run("query", *ask(place, "--output", tmp_path / "a/b")).error(3)
    assert "'category'" in run("query", *ask(place, "--output", tmp_path / "o", "--against", "categroy")).error(3)
    assert "kmeans" in run("query", *ask(place, "--output", tmp_path / "o", "--method", "k-means")).error(3)
    run("query", *ask(place, "--output", tmp_path / "out"))
    (tmp_path / "out/clusters.json").write_text("{}")
    assert "cluster ids would be lost" in run("query", *ask(place, "--output", tmp_path / "out")).error(3)


def test_names_in_the_csv_tell_rows_apart(tmp_path: Path) -> None:
    """Two specimens of one id are named with their categories, as their files lie in the seed's tree."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4, 8))
    places = [("a", "one", "x"), ("a", "two", "x"), ("a", "", "y"), ("b", "one", "x")]
    items = [
        Item(specimen_key(dataset, category, name), Kind.SPECIMEN, dataset, name, category)
        for dataset, category, name in places
    ]
    space = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=8)
    with Store.connect(str(tmp_path / "outcrop.db")) as store:
        collection = Collection.create(store, "outcrop", space)
        collection.upsert(items, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    assert run("query", *ask(tmp_path, "--output", tmp_path / "out")).code == 0
    table = pq.read_table(tmp_path / "out/clusters.parquet").to_pydict()
    assert dict(zip(table["key"], table["specimen_id"], strict=True)) == {
        "specimen/a/one/x": "specimen/a/one/x",
        "specimen/a/two/x": "two/x",
        "specimen/a/y": "y",
        "specimen/b/one/x": "specimen/b/one/x",
    }
