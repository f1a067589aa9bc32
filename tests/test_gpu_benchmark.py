"""The benchmark of a GPU runs on the CPU, on a few of everything, and says what cannot be run and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import picture

Rows = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rows:
    """The rows of a small run, by their figures."""
    from benchmarks import gpu

    def run(*arguments: object) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--small", "--json", *map(str, arguments)])
        gpu.main()
        return {row["figure"]: row for row in json.loads(capsys.readouterr().out)["rows"]}

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        picture(number, 900, 700).save(folder / f"{number}.jpg", quality=90)
    return folder


def test_the_table_has_every_row(rows: Rows, photos: Path) -> None:
    found = rows("--device", "cpu", "--photos", photos)
    for figure in (
        "CPU threads alone",
        "device's decoder alone",
        "photographs to rows, efficientnet_lite0",
        "references to rows, efficientnet_lite0",
        "encoder, efficientnet_lite0",
        "bare network, efficientnet_lite0",
        "one process, references by card",
    ):
        assert found[figure]["value"] > 0, figure
    ingested = found["photographs to rows, efficientnet_lite0"]
    alone = found["CPU threads alone"]["value"] + found["device's decoder alone"]["value"]
    assert ingested["ratio"] == pytest.approx(ingested["value"] / alone)
    assert ingested["note"].startswith("JPEGs are decoded by torch"), "both decoded"
    assert found["least cosine to fp32 on the CPU, efficientnet_lite0"]["value"] > 0.9999
    assert 0.99 < found["least cosine decoded on the device, efficientnet_lite0"]["value"] <= 1.000001
    assert found["compiling"]["note"].startswith("not run: a small run ")
    if drawn := found.get("views, OpenGL, every process"):
        assert drawn["value"] > 0 and "further " in found["views, OpenGL, one process"]["note"]
        assert found["specimens to rows, efficientnet_lite0"]["value"] > 0
    else:
        assert found["drawing"]["note"].startswith("not run: ") and "egl" in found["drawing"]["note"]


def test_without_a_gpu_rows_say_why(rows: Rows, photos: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    found = rows("--photos", photos)
    assert found
    for figure, row in found.items():
        assert row["value"] is None and row["note"].startswith("not run: "), figure
