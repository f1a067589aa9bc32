"""New items into an existing clustering: the numbers on their own, and the command on a real collection."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from commands import run
from numpy.typing import NDArray

from outcrop.query.clusters import assign
from outcrop.query.clusters.assign import assigned
from outcrop.query.clusters.cluster import UNASSIGNED, Recipe, cluster
from outcrop.schema.item import Item, Kind, specimen_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

GENERA = ("molars", "femurs", "skulls")
Floats = NDArray[np.float32]


def unit(points: NDArray[np.floating]) -> Floats:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def groups(each: int, strays: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Unit vectors [N, 24] in three tight groups around fixed centres and strays, and their groups (-1 = stray)."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(np.random.default_rng(99).normal(size=(24, 3)))[0].T
    points = [centre + rng.normal(size=(each, 24)) * 0.05 for centre in centres]
    truth = np.concatenate([np.repeat(np.arange(3), each), np.full(strays, UNASSIGNED)])
    return unit(np.concatenate([*points, rng.normal(size=(strays, 24))])), truth


@pytest.mark.parametrize("method", ["hdbscan", "kmeans", "agglomerative"])
def test_newcomers_go_where_their_like_are(method: str) -> None:
    members, truth = groups(20, 0)
    found = cluster(members, Recipe(method, clusters=None if method == "hdbscan" else 3))  # type: ignore[arg-type]
    new, of = groups(10, 0, seed=1)
    ids, probability, nearest, distance = assigned(
        new, members, found.labels, found.probability, leaves_out=method == "hdbscan"
    )
    group = {int(label): int(truth[found.labels == label][0]) for label in range(3)}
    placed = ids != UNASSIGNED
    assert placed.mean() > 0.85 and all(
        group[int(id)] == right for id, right in zip(ids[placed], of[placed], strict=True)
    )
    assert ((probability[placed] > 0) & (probability[placed] <= 1)).all() and (probability[~placed] == 0).all()
    gaps = np.linalg.norm(new[:, None].astype(float) - members[None], axis=2)
    assert np.allclose(distance, gaps.min(axis=1), atol=1e-6) and np.array_equal(nearest, gaps.argmin(axis=1))


def test_copies_are_what_their_originals_are() -> None:
    members, _ = groups(20, 12)
    found = cluster(members, Recipe())
    assert 0 < (found.labels == UNASSIGNED).sum() < 30
    ids, probability, nearest, distance = assigned(members, members, found.labels, found.probability)
    assert np.array_equal(ids, found.labels) and np.allclose(probability, found.probability) and (distance < 1e-6).all()
    assert np.array_equal(members[nearest], members)


def test_strangers_are_left_out_unless_they_are_forced() -> None:
    members, _ = groups(20, 0)
    found = cluster(members, Recipe())
    rng = np.random.default_rng(3)
    strangers = unit(np.concatenate([rng.normal(size=(8, 24)), -members[:2]]))
    ids, probability, _, _ = assigned(strangers, members, found.labels, found.probability)
    assert (ids == UNASSIGNED).all() and (probability == 0).all()
    forced, doubtful, _, _ = assigned(strangers, members, found.labels, found.probability, force=True)
    assert (forced != UNASSIGNED).all() and ((doubtful > 0) & (doubtful < 0.5)).all()
    new, _ = groups(5, 0, seed=8)
    before, sure_before, _, _ = assigned(new, members, found.labels, found.probability)
    ids, sure, _, _ = assigned(new, members, found.labels, found.probability, force=True)
    kept = before != UNASSIGNED  # forcing changes nothing for those that have a place
    assert np.array_equal(ids[kept], before[kept]) and np.array_equal(sure[kept], sure_before[kept])
    assert kept.any()


def test_noise_keeps_newcomers_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    members, _ = groups(20, 12)
    found = cluster(members, Recipe())
    noise = np.flatnonzero(found.labels == UNASSIGNED)
    beside = unit(members[noise] + np.random.default_rng(0).normal(size=(len(noise), 24)) * 1e-4)
    ids, _, _, _ = assigned(beside, members, found.labels, found.probability)
    assert (ids == UNASSIGNED).all()
    new = np.concatenate([beside, groups(7, 0, seed=2)[0]])
    whole = assigned(new, members, found.labels, found.probability, force=True)
    monkeypatch.setattr(assign, "_BLOCK", 3 * len(members))
    for one, other in zip(whole, assigned(new, members, found.labels, found.probability, force=True), strict=True):
        assert np.allclose(one, other, atol=1e-12)


def specimens(vectors: Floats, truth: NDArray[np.int64], first: int) -> list[Item]:
    names = [f"bones/{GENERA[label]}" if label >= 0 else "" for label in truth]
    return [
        Item(specimen_key("fossils", name, f"sp{n:03d}"), Kind.SPECIMEN, "fossils", f"sp{n:03d}", category=name)
        for n, name in enumerate(names, start=first)
    ]


@pytest.fixture
def place(tmp_path: Path) -> tuple[object, ...]:
    """A collection of 36 specimens and 5 strays that is clustered into `out`, after which 9 and a stranger came."""
    space = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=24)
    place = ("--uri", tmp_path / "outcrop.db", "--state", tmp_path / "state")
    vectors, truth = groups(12, 5, seed=1)
    with Store.connect(str(tmp_path / "outcrop.db")) as store:
        collection = Collection.create(store, "outcrop", space)
        collection.upsert(specimens(vectors, truth, 0), vectors)
        collection.flush()
    assert run("query", "cluster", "--output", tmp_path / "out", "--no-page", *place).code == 0
    vectors, truth = groups(3, 1, seed=2)
    with Store.connect(str(tmp_path / "outcrop.db")) as store:
        collection = Collection.open(store, "outcrop")
        collection.upsert(specimens(vectors, truth, 100), vectors)
        collection.flush()
    return place


def test_the_command(place: tuple[object, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    outcome = run("query", "cluster", "assign", out, *place, "--json")
    assert outcome.code == 0, outcome.err
    answer = outcome.json
    assert answer["items"] == 10 and answer["unassigned"] >= 1 and answer["assigned"] >= 8
    categories = {c["cluster_id"]: c["category"] for c in json.loads(before["clusters.json"])["clusters"]}
    for row in answer["assignments"]:
        assert row["key"].split("/")[-1] >= "sp100" and row["nearest"].split("/")[-1] < "sp100"
        if row["cluster_id"] >= 0:
            assert row["category"] == categories[row["cluster_id"]] == "/".join(row["key"].split("/")[2:-1])
    assert {name: (out / name).read_bytes() for name in before} == before
    assert json.loads((out / "assigned.json").read_text()) == answer
    rows = list(csv.DictReader(io.StringIO((out / "assigned.csv").read_text())))
    assert [int(row["cluster_id"]) for row in rows] == [row["cluster_id"] for row in answer["assignments"]]
    forced = run("query", "cluster", "assign", out, "--force-assign", "--output", tmp_path / "more", *place, "--csv")
    lines = list(csv.DictReader(io.StringIO(forced.out)))
    assert len(lines) == 10 and all(int(line["cluster_id"]) >= 0 for line in lines)
    assert (tmp_path / "more/assigned.csv").exists()
    assert "10 new items" in run("query", "cluster", "assign", out, *place).out
    some = run("query", "cluster", "assign", out, "--where", "category=bones/molars", *place, "--json").json
    assert {row["key"].split("/")[3] for row in some["assignments"]} == {"molars"} and some["items"] == 3


def test_refusals(place: tuple[object, ...], tmp_path: Path) -> None:
    said = run("query", "cluster", "assign", tmp_path, *place).error(3)
    assert "no clustering in" in said and "query cluster --output" in said
    nothing = run("query", "cluster", "assign", tmp_path / "out", "--where", "capture_id=sp000", *place).error(3)
    assert "nothing is new" in nothing
    (tmp_path / "out/clusters.parquet").write_bytes(b"PAR1")
    assert "cannot be read" in run("query", "cluster", "assign", tmp_path / "out", *place).error(3)


def test_another_collection_or_space_is_said(place: tuple[object, ...], tmp_path: Path) -> None:
    clusters = tmp_path / "out/clusters.json"
    stored = json.loads(clusters.read_text())
    assert "remark" not in run("query", "cluster", "assign", tmp_path / "out", *place, "--json").json
    for changed, said in (
        ({"space": "0" * 32}, "of vectors of another space (00000000; those of 'outcrop' are of "),
        ({"collection": "north"}, "of collection 'north', not of 'outcrop'"),
    ):
        clusters.write_text(json.dumps({**stored, **changed}))
        outcome = run("query", "cluster", "assign", tmp_path / "out", *place, "--json")
        assert said in outcome.json["remark"] and said in outcome.err
    del stored["space"]  # as earlier versions wrote it
    clusters.write_text(json.dumps(stored))
    assert "remark" not in run("query", "cluster", "assign", tmp_path / "out", *place, "--json").json
