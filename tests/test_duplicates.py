"""`query duplicates`: groups that are those of numpy over all pairs, the best of each, and what geometry says of them."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import run
from pictures import picture, write_dataset
from PIL import Image, ImageFilter

from outcrop.query import alike_pairs
from outcrop.query.best_picture import sides_and_sharpness
from outcrop.query.duplicates import find_duplicates
from outcrop.schema.errors import InputError
from outcrop.schema.filters import where
from outcrop.schema.item import Item, Kind, image_key, specimen_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SPACE = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=8)
IMAGES, SPECIMENS = 300, 40


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Item], np.ndarray]:
    """Images and specimens around a few centres; every tenth image is made of the file of the one before."""
    rng = np.random.default_rng(5)
    items = [
        Item(image_key("d", "c", n), Kind.IMAGE, "d", "c", frame=n, source_digest=f"{n - (n % 10 == 0):032x}{0:032x}")
        for n in range(1, IMAGES + 1)
    ]
    items += [
        Item(specimen_key("m", "", str(n)), Kind.SPECIMEN, "m", str(n), source_digest=f"{900 + n:032x}{0:032x}")
        for n in range(SPECIMENS)
    ]
    centres = rng.normal(size=(25, 8))
    vectors = centres[rng.integers(0, 25, len(items))] + rng.normal(size=(len(items), 8)) * 0.12
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    folder = tmp_path_factory.mktemp("duplicates")
    with Store.connect(str(folder / "outcrop.db")) as store:
        Collection.create(store, "outcrop", SPACE).upsert(items, vectors)
    return folder, items, vectors


def by_numpy(items: list[Item], vectors: np.ndarray, threshold: float) -> set[frozenset[str]]:
    """The connected components of all pairs, the plain way."""
    exact = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    alike = exact >= threshold
    files = np.array([item.source_digest[:32] for item in items])
    kinds = np.array([str(item.kind) for item in items])
    alike |= files[:, None] == files[None]
    alike &= kinds[:, None] == kinds[None]
    reach = alike
    while True:
        wider = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
        if (wider == reach).all():
            break
        reach = wider
    groups = {frozenset(items[n].id for n in np.flatnonzero(row)) for row in reach}
    return {group for group in groups if len(group) > 1}


@pytest.mark.parametrize("threshold", [0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("rows", [7, 1024])
def test_groups_are_those_of_numpy(
    stored: tuple[Path, list[Item], np.ndarray], threshold: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size of the blocks: vectors are multiplied part by part."""
    monkeypatch.setattr(alike_pairs, "BLOCK", 2 * rows)
    monkeypatch.setattr(alike_pairs, "ROWS", rows)
    monkeypatch.setattr(alike_pairs, "COLUMNS", 3 * rows)
    folder, items, vectors = stored
    counted: list[int] = []
    with Store.connect(str(folder / "outcrop.db")) as store:
        collection = Collection.open(store, "outcrop")
        found = find_duplicates(collection, threshold, progress=counted.append)
        assert {frozenset(group.ids) for group in found} == by_numpy(items, vectors, threshold)
        assert counted == sorted(counted) and counted[-1] == IMAGES + SPECIMENS
        images = find_duplicates(collection, threshold, where("kind=image", "frame=1..100"))
        assert {frozenset(group.ids) for group in images} == by_numpy(items[:100], vectors[:100], threshold)
    same = {item.source_digest for item in items}
    assert sum(group.identical for group in found) <= len(items) - len(same)
    if threshold == 1.0:
        assert [group.identical for group in found] == [True] * (IMAGES // 10)
        assert {group.scores for group in found} == {(1.0, 1.0)}


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("block", [100, 512])
def test_short_vectors_rule_out_no_pair(threshold: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs of numpy, each once, with its product: where most are ruled out, and where a great many are left."""
    rng = np.random.default_rng(int(100 * threshold))
    vectors = rng.normal(size=(30, 64))[rng.integers(0, 30, 700)] + rng.normal(size=(700, 64)) * rng.uniform(
        0, 0.8, (700, 1)
    )
    vectors *= 0.9 ** np.arange(64)
    vectors[500:] = vectors[rng.integers(0, 500, 200)]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    for name, value in {
        "BLOCK": block,
        "ROWS": 64,
        "COLUMNS": 96,
        "PART": 50,
        "SAMPLE": 200,
        "MANY": 20,
        "TAKING": 10.0,
    }.items():
        monkeypatch.setattr(alike_pairs, name, value)
    sieve = alike_pairs.Sieve.fitting(vectors[:200], threshold)
    assert sieve is not None
    short = sieve.short(vectors).astype(np.float64)
    exact = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    assert ((short @ short.T) - exact).min() > -alike_pairs.ROUNDING / 10
    with alike_pairs.VectorFile(64) as file:
        file.add(vectors[:150])
        file.add(vectors[150:])
        parts = list(alike_pairs.alike_pairs(file, threshold))
    found = {(int(a), int(b)): float(s) for _, i, j, scores in parts for a, b, s in zip(i, j, scores, strict=True)}
    wanted = {(a, b) for a, b in zip(*np.nonzero(np.triu(exact >= threshold, 1)), strict=True)}
    assert len(wanted) > 100 and found.keys() == wanted and sum(len(part[1]) for part in parts) == len(wanted)
    assert all(score == pytest.approx(exact[pair], abs=1e-12) for pair, score in found.items())
    assert parts[-1][0] == 700


def test_geometry_decides_where_it_is_asked(stored: tuple[Path, list[Item], np.ndarray]) -> None:
    """What geometry refuses is in no group, except the very same file; and it is asked once where two are already together."""
    folder, items, vectors = stored
    asked: list[frozenset[str]] = []
    odd = {item.id for item in items if item.frame % 2}

    def verify(one: str, other: str) -> bool:
        asked.append(frozenset((one, other)))
        return one in odd and other in odd

    with Store.connect(str(folder / "outcrop.db")) as store:
        found = find_duplicates(Collection.open(store, "outcrop"), 0.99, where("kind=image"), verify=verify)
    assert len(asked) == len(set(asked)) > 10
    odds = [n for n, item in enumerate(items) if item.id in odd]
    wanted = by_numpy([items[n] for n in odds], vectors[odds], 0.99)
    assert {frozenset(group.ids) & odd for group in found if len(odd.intersection(group.ids)) > 1} == wanted
    with Store.connect(str(folder / "outcrop.db")) as store, pytest.raises(InputError, match="--threshold"):
        find_duplicates(Collection.open(store, "outcrop"), 1.5)


def test_the_best_of_real_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy, a smaller one, a blurred one, and others: the largest is kept, of the largest the sharpest."""
    write_dataset(tmp_path, {"a_300": 6}, name="d", root="one")
    folder = tmp_path / "one/a_300"
    original = picture(1, 640, 480, edges=True)
    for frame, made in (
        (1, original.filter(ImageFilter.GaussianBlur(0.7))),
        (2, original.resize((480, 360))),
        (3, original),
    ):
        made.save(folder / f"a_300_{frame:04d}.jpg", quality=92)
    shutil.copy(folder / "a_300_0006.jpg", folder / "a_300_0005.jpg")
    place = ("--registry", tmp_path / "data_key.json", "--uri", tmp_path / "outcrop.db")
    assert run("ingest", "dataset", "d", "--model", "efficientnet_lite0", *place).code == 0
    answer = run("query", "duplicates", "--threshold", 0.985, *place, "--json").json
    groups = [[item["key"][-1] for item in group["items"]] for group in answer["groups"]]
    assert groups == [["3", "1", "2"], ["5", "6"]]
    assert [group["identical"] for group in answer["groups"]] == [False, True]
    best = answer["groups"][0]["items"][0]
    assert (best["best"], best["width"], best["height"]) == (True, 640, 480) and best["score"] > 0.985
    rows = list(csv.DictReader(io.StringIO(run("query", "duplicates", "--threshold", 0.985, *place, "--csv").out)))
    assert [row["group"] for row in rows] == ["1", "1", "1", "2", "2"] and sum(
        row["best"] == "True" for row in rows
    ) == 2
    monkeypatch.setenv("COLUMNS", "80")
    table = run("query", "duplicates", "--threshold", 0.985, *place)
    assert "2 groups, 5 items" in table.out and "image/d/a_300/0003" in table.out
    verified = run("query", "duplicates", "--threshold", 0.985, "--verify", *place, "--json").json["groups"]
    assert ["5", "6"] in [[item["key"][-1] for item in group["items"]] for group in verified]
    (folder / "a_300_0002.jpg").unlink()
    partly = run("query", "duplicates", "--threshold", 0.985, "--verify", *place, "--json")
    assert "1 items could not be verified" in partly.err and not any(
        item["key"].endswith("2") for group in partly.json["groups"] for item in group["items"]
    )
    none = run("query", "duplicates", "--where", "frame=4", *place)
    assert none.code == 0 and "no two items" in none.err
    assert "--threshold" in run("query", "duplicates", "--threshold", 0, *place).error(3)


def test_sharpness_is_of_the_same_scale(tmp_path: Path) -> None:
    sharp = picture(1, 2048, 1536, edges=True)
    sharp.save(tmp_path / "large.png")
    sharp.resize((1024, 768), Image.Resampling.BOX).save(tmp_path / "half.png")
    sharp.filter(ImageFilter.GaussianBlur(8)).save(tmp_path / "blurred.png")
    picture(1, 8, 4000).save(tmp_path / "tiny.png")
    large, half, blurred, tiny = (
        sides_and_sharpness(tmp_path / f"{name}.png") for name in ("large", "half", "blurred", "tiny")
    )
    assert large[:2] == (2048, 1536) and large[2] == pytest.approx(half[2], rel=0.05) and blurred[2] < half[2] / 2
    assert tiny == (8, 4000, 0.0)
