"""The networks give what Meta's own code gives: numbers recorded from it once, and the same mathematics in numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from meta_checkpoints import VITS, Shape, pixels, small, summary, vit

from outcrop.embed.backbones import Backbone, build
from outcrop.embed.presets import PRESETS, Preset

RECORDED = json.loads((Path(__file__).parent / "recorded/meta_outputs.json").read_text())["outputs"]
CLOSE = 1e-4
"""Relative, in float32: against the root mean square of the numbers compared."""


def planes(preset: Preset, size: tuple[int, int]) -> torch.Tensor:
    """The network's input, float32 [1, 3, H, W], computed as Meta's transform does."""
    scaled = (pixels(size) / 255.0 - np.array(preset.mean)) / np.array(preset.std)
    return torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def opened(model: str, size: tuple[int, int]) -> tuple[Preset, Backbone]:
    preset, make = small(model)
    return preset, build(preset, make(), size, Path("given.pth"))


def test_every_preset_of_meta_is_recorded() -> None:
    assert set(RECORDED) == set(PRESETS) - {"efficientnet_lite0"}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from more, and beside other busy processes threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CASES = [(model, tuple(map(int, size.split("x")))) for model, sizes in RECORDED.items() for size in sizes]


@pytest.mark.parametrize(
    ("model", "size"), CASES, ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value))
)
def test_tokens_are_those_of_metas_code(model: str, size: tuple[int, int]) -> None:
    preset, network = opened(model, size)
    with torch.inference_mode():
        pooled, tokens = network.features(planes(preset, size))
        alone = network(planes(preset, size))
    assert torch.equal(alone, pooled)
    stride = preset.patch or 32
    assert tokens.shape == (1, size[0] // stride, size[1] // stride, preset.dim)
    found, expected = summary(tokens[0].numpy(), pooled[0].numpy()), RECORDED[model][f"{size[0]}x{size[1]}"]
    for name in ("token", "patches"):
        numbers, wanted = np.array(found[name]), np.array(expected[name])
        typical = wanted[-1] / np.sqrt(preset.dim if name == "token" else tokens.numel())
        assert np.abs(numbers - wanted)[:-1].max() < CLOSE * typical
        assert numbers[-1] == pytest.approx(wanted[-1], rel=CLOSE)
    assert np.abs(np.array(found["products"]) - expected["products"]).max() < CLOSE * expected["patches"][-1]


# The same mathematics, written out in numpy


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def turned(x: np.ndarray, periods: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Rotary position embedding of [heads, patches, width]: the first half of the angles from the row, the second from
    the column, both counted from -1 to 1; each number is turned with the one half a width away."""
    y, x_ = ((np.arange(count) + 0.5) / count * 2 - 1 for count in (rows, columns))
    places = np.stack(np.meshgrid(y, x_, indexing="ij"), -1).reshape(-1, 2)
    angles = (2 * np.pi * places[:, :, None] / periods).reshape(len(places), -1)
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def numpy_vit(shape: Shape, state: dict[str, np.ndarray], picture: np.ndarray) -> np.ndarray:
    """All tokens [1 + registers + patches, D] of one picture [3, H, W] of a model without resized position table."""
    p, rows, columns = shape.patch, picture.shape[1] // shape.patch, picture.shape[2] // shape.patch
    patches = picture.reshape(3, rows, p, columns, p).transpose(1, 3, 0, 2, 4).reshape(rows * columns, -1)
    patches = patches @ state["patch_embed.proj.weight"].reshape(shape.dim, -1).T + state["patch_embed.proj.bias"]
    first = state["cls_token"][0]
    if shape.table:
        first, patches = first + state["pos_embed"][0, :1], patches + state["pos_embed"][0, 1:]
    registers = state["register_tokens" if shape.table else "storage_tokens"][0] if shape.registers else first[:0]
    x = np.concatenate([first, registers, patches])
    before = len(x) - len(patches)
    epsilon, width = 1e-6 if shape.table else 1e-5, shape.dim // shape.heads
    for number in range(shape.depth):

        def part(name: str, number: int = number) -> np.ndarray:
            return state[f"blocks.{number}.{name}"]

        def layer(name: str, x: np.ndarray) -> np.ndarray:
            return x @ part(f"{name}.weight").T + part(f"{name}.bias")

        inner = norm(x, part("norm1.weight"), part("norm1.bias"), epsilon)
        qkv = inner @ part("attn.qkv.weight").T
        if shape.bias:
            qkv = qkv + part("attn.qkv.bias") * (1 if shape.table else part("attn.qkv.bias_mask"))
        q, k, v = qkv.reshape(len(x), 3, shape.heads, width).transpose(1, 2, 0, 3)
        if not shape.table:
            periods = state["rope_embed.periods"]
            q, k = (np.concatenate([t[:, :before], turned(t[:, before:], periods, rows, columns)], 1) for t in (q, k))
        logits = q @ k.transpose(0, 2, 1) / math.sqrt(width)
        attention = np.exp(logits - logits.max(-1, keepdims=True))
        attention /= attention.sum(-1, keepdims=True)
        x = x + part("ls1.gamma") * layer("attn.proj", (attention @ v).transpose(1, 0, 2).reshape(len(x), -1))
        inner = norm(x, part("norm2.weight"), part("norm2.bias"), epsilon)
        if shape.gated:
            gate, value = (
                np.split(layer("mlp.w12", inner), 2, -1)
                if shape.table
                else (layer("mlp.w1", inner), layer("mlp.w2", inner))
            )
            inner = layer("mlp.w3", gate / (1 + np.exp(-gate)) * value)
        else:
            inner = layer("mlp.fc2", gelu(layer("mlp.fc1", inner)))
        x = x + part("ls2.gamma") * inner
    return norm(x, state["norm.weight"], state["norm.bias"], epsilon)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("dinov2_vits14", (98, 98)),
        ("dinov2_vitg14_reg", (98, 98)),
        ("dinov3_vits16", (96, 160)),
        ("dinov3_vithplus16", (96, 160)),
        ("dinov3_vit7b16", (96, 160)),
    ],
)
def test_tokens_are_those_of_a_formulation_in_numpy(model: str, size: tuple[int, int]) -> None:
    preset, shape = small(model)[0], VITS[model]
    if shape.table:
        shape = replace(shape, table=7)  # the table of a model of this size: nothing is resized
    checkpoint = vit(shape)
    inputs = planes(preset, size)
    with torch.inference_mode():
        pooled, tokens = build(preset, checkpoint, size, Path("given.pth")).features(inputs)
    state = {name: tensor.double().numpy() for name, tensor in checkpoint.items()}
    expected = numpy_vit(shape, state, inputs[0].double().numpy())
    found = tokens[0].flatten(0, 1).numpy()
    assert np.abs(found - expected[-len(found) :]).max() < CLOSE * np.sqrt((expected**2).mean())
    assert np.abs(pooled[0].numpy() - expected[0]).max() < CLOSE * np.sqrt((expected[0] ** 2).mean())
