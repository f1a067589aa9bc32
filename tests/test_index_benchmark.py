"""The benchmarks of indexes and of large collections say what they measured, and why something was not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *arguments: object) -> list[dict[str, Any]]:
    command = [sys.executable, str(BENCHMARKS / name), *map(str, arguments), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_the_stand_in_has_the_recall_that_the_profile_promises() -> None:
    """IVF-PQ of faiss-cpu with the parameters of GPU_IVF_PQ, unfiltered and under filters."""
    graph, *lists = run("gpu_index.py", "--small", "--rows", 2000, "--dims", 16, "--queries", 64)
    assert graph["not run"] == "faiss-cpu has no such graph"
    assert [line["kept"] for line in lists] == [1.0, 0.1, 0.01]
    for line in lists:
        assert line["recall@10"] >= 0.95 and line["bucket"] in ("95-98", "99+"), line
        assert line["queries_per_s"] > 0 and line["build_s"] >= 0 and "faiss" in line["engine"]


def test_without_a_card_every_line_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_index
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for rows, dim in ((100_000, 384), (1_000_000, 1024)):
        lines = list(gpu_index.measure(rows, dim, 1000, small=False))
        assert [(line["index"], line["not run"]) for line in lines] == [
            ("GPU_CAGRA", "no CUDA device"),
            ("GPU_IVF_PQ", "no CUDA device"),
        ]


def test_bits_of_a_filter() -> None:
    import gpu_index

    kept = np.zeros(70, dtype=bool)
    kept[[0, 31, 32, 69]] = True
    assert gpu_index.words_of(kept).tolist() == [1 + 2**31, 1, 2**5]


def test_recall_is_counted_against_a_matrix_product() -> None:
    import gpu_index

    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(300, 8)).astype(np.float32), rng.normal(size=(5, 8)).astype(np.float32)
    kept = rng.random(300) < 0.5
    truth = gpu_index.exact(vectors, queries, kept)
    scores = np.where(kept, queries @ vectors.T, -np.inf)
    assert [set(line) for line in truth.tolist()] == [set(np.argsort(-line)[:10].tolist()) for line in scores]
    assert gpu_index.recall_of(truth, truth) == 1.0
    half = np.concatenate([truth[:, :5], np.full((5, 5), -1)], axis=1)
    assert gpu_index.recall_of(half, truth) == 0.5
    few = np.zeros(300, dtype=bool)
    few[:4] = True
    assert gpu_index.exact(vectors, queries, few).shape == (5, 4)


@pytest.mark.slow
def test_commands_on_a_collection_are_measured(tmp_path: Path) -> None:
    lines = run("million.py", "--rows", 300, "--dim", 8, "--folder", tmp_path, "--only", "describe")
    assert [line["command"] for line in lines] == ["(upsert, flush, index)", "collection describe"]
    assert all(line["seconds"] > 0 and line["peak_mib"] > 20 and line["processor_s"] > 0 for line in lines)
