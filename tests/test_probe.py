"""Probes and disparity: known vectors give known figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import run

from outcrop.query.evaluation.figures import Bootstrap
from outcrop.query.evaluation.probe import disparity_of, linear_probe, shot_probe
from outcrop.schema.item import Item, Kind, view_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

QUICK = Bootstrap(resamples=200)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_separate_categories_are_told_apart_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    labels, groups = np.repeat(np.arange(3), 40), np.repeat(np.arange(60), 2)
    clear = unit(np.eye(3, 16)[labels] + rng.normal(size=(120, 16)) * 0.05)
    linear, one = linear_probe(clear, labels, groups, QUICK), shot_probe(clear, labels, groups, 1, QUICK)
    assert linear is not None and linear.value == linear.low == 1 and one is not None and one.value == 1
    noise = unit(rng.normal(size=(120, 16)))
    # Views of a parent are alike: a split that parts them would look them up.
    leaking = unit(noise[groups] + rng.normal(size=(120, 16)) * 1e-3)
    blind = linear_probe(leaking, labels, groups, QUICK)
    assert blind is not None and blind.low < 1 / 3 < blind.high + 0.1 and blind.value < 0.6
    assert shot_probe(clear, labels, groups, 20, QUICK) is None


def test_disparity_is_the_sum_of_variances_and_the_mean_distance() -> None:
    points = np.random.default_rng(1).normal(size=(12, 5))
    spread, apart = disparity_of(points, QUICK)
    assert spread.value == pytest.approx(points.var(axis=0, ddof=1).sum())
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert apart.value == pytest.approx(gaps[np.triu_indices(12, 1)].mean())
    assert spread.low < spread.value < spread.high and apart.low < apart.high


def test_the_command(tmp_path: Path) -> None:
    place = ("--uri", tmp_path / "outcrop.db", "--state", tmp_path / "state")
    space = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=8)
    rng, items, vectors = np.random.default_rng(2), [], []
    for number in range(14):
        genus = f"bones/{'ab'[number % 2]}"
        for view in range(2):
            key = view_key("fossils", genus, f"s{number}", view)
            items.append(Item(key, Kind.VIEW, "fossils", f"s{number}", category=genus, view=view))
            vectors.append(np.eye(2, 8)[number % 2] + rng.normal(size=8) * 0.05)
    with Store.connect(str(tmp_path / "outcrop.db")) as store:
        collection = Collection.create(store, "outcrop", space)
        collection.upsert(items, unit(np.array(vectors)))
        collection.flush()
    asked = ("evaluate", "fossils", "--query-kind", "view", "--truth", "category", "--probe", *place)
    found = run("query", *asked, "--json").json
    assert (found["items"], found["parents"], found["categories"], found["chance"]) == (28, 14, 2, 0.5)
    assert found["linear"]["value"] == 1 and found["shots"]["5"]["value"] == 1 and found["shots"]["10"] is None
    assert set(found["disparity"]) == {"bones/a", "bones/b"} and found["disparity"]["bones/a"]["parents"] == 7
    assert "linear" in run("query", *asked).out
    assert "--truth category" in run("query", *asked[:5], "own", *asked[6:]).error(2)
    assert "a probe needs two" in run("query", *asked, "--levels", 1).error(3)
