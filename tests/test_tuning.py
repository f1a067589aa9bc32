"""What pays in long runs: trials that are remembered, and blocks that are compiled once, or not at all where that fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from meta_checkpoints import small

from outcrop.embed import encoder as encoders
from outcrop.embed import tuning
from outcrop.embed.encoder import Encoder
from outcrop.embed.models import Model, find_model, make_space
from outcrop.embed.trial import Trial


def little(name: str, folder: Path) -> Model:
    preset, make = small(name)
    torch.save(make(), folder / "weights.pth")
    return Model(preset, folder / "weights.pth", make_space(preset, "0" * 64, 64))


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(("name", "kinds"), [("dinov3_vits16", 1), ("dinov3_convnext_tiny", 4)])
def test_blocks_of_a_kind_are_compiled_once(name: str, kinds: int, tmp_path: Path) -> None:
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    encoder = Encoder.open(little(name, tmp_path), device="cpu", precision="bf16", batch=4)
    pixels = noise(6)
    expected = encoder.features(pixels)
    torch._dynamo.reset()
    assert tuning.compiled(encoder, encoder._network, backend)
    assert len(graphs) == kinds
    encoder._whole = True
    found = encoder.features(pixels)  # a last batch that is not full is filled up
    assert len(graphs) == kinds
    assert (found.vectors * expected.vectors).sum(1).min() > 0.9999
    assert np.array_equal(found.vectors, encoder.encode(pixels))


def broken(graph: Any, inputs: Any) -> Any:
    raise OSError("no C++ compiler\nand more")


def wrong(graph: Any, inputs: Any) -> Any:
    return lambda *given: tuple(-made for made in graph.forward(*given))


@pytest.mark.parametrize(
    ("backend", "reason"),
    [(broken, "no C\\+\\+ compiler"), (wrong, r"its vectors differ \(cosine"), ("absent", "absent")],
)
def test_where_compiling_fails_the_network_stays_as_it_is(
    backend: Any, reason: str, tiny_vit: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder.open(find_model("timm:test_vit", weights=tiny_vit, size=64), device="cpu")
    expected = encoder.encode(noise(3))
    torch._dynamo.reset()
    assert not encoder.compile(backend)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "outcrop.embed.tuning"]
    assert "runs as it is, without torch.compile" in said and re.search(reason, said) and "and more" not in said
    assert np.array_equal(encoder.encode(noise(3)), expected)


@pytest.mark.parametrize(
    ("device", "expected", "rate", "pays"),
    [
        ("cuda:0", 200_000, 1500.0, True),
        ("cuda:0", 100_000, 1500.0, False),
        ("cuda:1", 100_000, 300.0, True),
        ("cuda:0", None, 300.0, False),
        ("cuda:0", 10**6, 0.0, False),
        ("cpu", 10**9, 5.0, False),
        ("mps", 10**9, 5.0, False),
    ],
)
def test_compiling_unasked_is_for_runs_of_more_than_two_minutes_on_cuda(
    device: str, expected: int | None, rate: float, pays: bool
) -> None:
    assert tuning.earns(device, expected, rate) is pays


def test_short_runs_and_cpus_try_nothing(tiny_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `Encoder.open` does on a GPU, with a device that only says that it is one."""
    done: list[str] = []
    monkeypatch.setattr(tuning, "find_batch", lambda encoder, memory: done.append("trial") or Trial(64, 100.0))
    monkeypatch.setattr(tuning, "rate_of", lambda encoder: done.append("rate") or 100.0)
    monkeypatch.setattr(tuning, "compiled", lambda encoder, network, backend: done.append(backend) or True)
    encoder = Encoder.open(
        find_model("timm:test_vit", weights=tiny_vit, size=64), device="cpu", batch=0, expected=10**9
    )
    assert done == [] and encoder.batch == encoders.BATCH
    encoder._device = SimpleNamespace(type="cuda")
    encoder.device = "cuda:0"
    for batch, compile, expected, what in (
        (0, None, 50, []),
        (0, None, 5000, ["trial"]),
        (0, None, 12_000, ["trial", "inductor"]),
        (64, None, 12_000, ["rate", "inductor"]),
        (0, False, 12_000, ["trial"]),
        (0, True, 50, ["inductor"]),
        (0, None, None, ["trial"]),
        (64, None, None, []),
    ):
        done.clear()
        encoder._tune(batch, compile, expected, None)
        assert done == what, (batch, compile, expected)


def test_a_trial_is_made_once_for_weights_size_precision_and_card(
    tiny_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(tuning, "best_batch", lambda seconds: tried.append(1) or Trial(16, 123.0))
    memory = tmp_path / "state" / "batches.json"
    for size, times in ((64, 1), (64, 1), (96, 2)):
        encoder = Encoder.open(find_model("timm:test_vit", weights=tiny_vit, size=size), device="cpu")
        assert encoder.find_batch(memory) == Trial(16, 123.0) and encoder.batch == 16
        assert len(tried) == times
    digest = encoder.space.weights_digest
    assert sorted(json.loads(memory.read_text())) == [f"{digest} 64x64 fp32 cpu", f"{digest} 96x96 fp32 cpu"]


def test_a_run_on_a_cpu_imports_no_compiler(tiny_vit: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from outcrop.embed.encoder import Encoder; "
        "from outcrop.embed.models import find_model; "
        "model = find_model('timm:test_vit', weights=Path(sys.argv[1]), size=64); "
        "encoder = Encoder.open(model, device='cpu', batch=0, compile=None); "
        "encoder.encode(np.ones((1, 64, 64, 3), np.uint8)); print('outcrop.embed.tuning' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", code, tiny_vit], capture_output=True, text=True, check=True)
    assert made.stdout.split() == ["False"]
