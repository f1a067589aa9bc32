"""Checkpoints in the layouts in which Meta publishes DINOv2 and DINOv3: their names and shapes, seeded random tensors.

The tensors come from `numpy.random.RandomState`, whose streams numpy never changes, so that outputs recorded once stay
comparable. Widths and depths are small where the real ones would be slow; everything else is as published.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from outcrop.embed.models import find_preset
from outcrop.embed.presets import Preset

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """What tells one of Meta's vision transformers from another; `hidden` is the width inside an MLP (of one gate where
    it is gated), `table` the side of the position table in patches (0: rotary)."""

    dim: int
    depth: int
    heads: int
    hidden: int
    patch: int
    table: int = 0
    registers: bool = False
    gated: bool = False
    bias: bool = True
    local_norm: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The same as arguments for timm."""
        return {"embed_dim": self.dim, "depth": self.depth, "num_heads": self.heads}


V2 = Shape(128, 4, 2, 512, 14, table=37)
V2_GATED = Shape(96, 4, 2, 256, 14, table=37, gated=True)
V3 = Shape(128, 4, 2, 512, 16, registers=True)
V3_GATED = Shape(128, 4, 2, 512, 16, registers=True, gated=True)
V3_7B = Shape(128, 4, 2, 256, 16, registers=True, gated=True, bias=False, local_norm=True)

VITS: dict[str, Shape] = {
    **{f"dinov2_vit{size}14": V2 for size in "sbl"},
    **{f"dinov2_vit{size}14_reg": replace(V2, registers=True) for size in "sbl"},
    "dinov2_vitg14": V2_GATED,
    "dinov2_vitg14_reg": replace(V2_GATED, registers=True),
    **{f"dinov3_vit{size}16": V3 for size in "sbl"},
    "dinov3_vitl16_sat": replace(V3, local_norm=True),
    "dinov3_vitsplus16": V3_GATED,
    "dinov3_vithplus16": V3_GATED,
    "dinov3_vit7b16": V3_7B,
    "dinov3_vit7b16_sat": V3_7B,
}

CONVNEXTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    f"dinov3_convnext_{size}": ((32, 48, 64, 96), (1, 2, 3, 1)) for size in ("tiny", "small", "base", "large")
}
"""Dimensions and depths of the four stages."""


class Tensors:
    """Seeded random tensors, each from a stream of its own: by its name, whatever is made before it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, name: str, *shape: int, scale: float = 0.1, around: float = 0.0) -> State:
        stream = np.random.RandomState(zlib.crc32(f"{self.seed} {name}".encode()))
        return {name: torch.from_numpy((around + scale * stream.standard_normal(shape)).astype(np.float32))}

    def linear(self, name: str, out: int, into: int, bias: bool = True) -> State:
        """A layer whose outputs are about as large as its inputs."""
        weight = self(f"{name}.weight", out, into, scale=into**-0.5)
        return weight | self(f"{name}.bias", out) if bias else weight

    def norm(self, name: str, dim: int) -> State:
        return self(f"{name}.weight", dim, scale=0.2, around=1.0) | self(f"{name}.bias", dim)


def vit(shape: Shape, seed: int = 7) -> State:
    """A vision transformer as DINOv2 (position table) or DINOv3 (rotary) saves it."""
    make, dim = Tensors(seed), shape.dim
    state = make("cls_token", 1, 1, dim, scale=0.5) | make("mask_token", 1, dim)
    if shape.table:
        state |= make("pos_embed", 1, 1 + shape.table**2, dim, scale=0.5)
    else:
        # as trained: rounded to bfloat16
        exponents = torch.arange(dim // shape.heads // 4) * 4 / (dim // shape.heads)
        state["rope_embed.periods"] = (100.0**exponents).bfloat16().float()
    if shape.registers:
        state |= make("register_tokens" if shape.table else "storage_tokens", 1, 4, dim, scale=0.5)
    area = 3 * shape.patch**2
    state |= make("patch_embed.proj.weight", dim, 3, shape.patch, shape.patch, scale=area**-0.5)
    state |= make("patch_embed.proj.bias", dim)
    for number in range(shape.depth):
        block = f"blocks.{number}"
        state |= make.norm(f"{block}.norm1", dim)
        state |= make.linear(f"{block}.attn.qkv", 3 * dim, dim, shape.bias)
        if not shape.table and shape.bias:
            state[f"{block}.attn.qkv.bias_mask"] = torch.cat([torch.ones(dim), torch.zeros(dim), torch.ones(dim)])
        state |= make.linear(f"{block}.attn.proj", dim, dim) | make(f"{block}.ls1.gamma", dim, around=0.5)
        state |= make.norm(f"{block}.norm2", dim) | make(f"{block}.ls2.gamma", dim, around=0.5)
        if not shape.gated:
            layers = {"fc1": (shape.hidden, dim), "fc2": (dim, shape.hidden)}
        elif shape.table:
            layers = {"w12": (2 * shape.hidden, dim), "w3": (dim, shape.hidden)}
        else:
            layers = {"w1": (shape.hidden, dim), "w2": (shape.hidden, dim), "w3": (dim, shape.hidden)}
        for layer, (out, into) in layers.items():
            state |= make.linear(f"{block}.mlp.{layer}", out, into)
    state |= make.norm("norm", dim)
    return state | make.norm("local_cls_norm", dim) if shape.local_norm else state


def convnext(dims: tuple[int, ...], depths: tuple[int, ...], seed: int = 7) -> State:
    """A ConvNeXt as DINOv3 saves it; the last norm has two names."""
    make = Tensors(seed)
    state = make("downsample_layers.0.0.weight", dims[0], 3, 4, 4, scale=48**-0.5)
    state |= make("downsample_layers.0.0.bias", dims[0]) | make.norm("downsample_layers.0.1", dims[0])
    for stage in (1, 2, 3):
        name, into, out = f"downsample_layers.{stage}", dims[stage - 1], dims[stage]
        state |= make.norm(f"{name}.0", into) | make(f"{name}.1.weight", out, into, 2, 2, scale=(4 * into) ** -0.5)
        state |= make(f"{name}.1.bias", out)
    for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        for number in range(depth):
            block = f"stages.{stage}.{number}"
            state |= make(f"{block}.gamma", dim, around=0.5)
            state |= make(f"{block}.dwconv.weight", dim, 1, 7, 7, scale=1 / 7) | make(f"{block}.dwconv.bias", dim)
            state |= make.norm(f"{block}.norm", dim)
            state |= make.linear(f"{block}.pwconv1", 4 * dim, dim) | make.linear(f"{block}.pwconv2", dim, 4 * dim)
    state |= make.norm("norm", dims[-1])
    return state | {"norms.3.weight": state["norm.weight"], "norms.3.bias": state["norm.bias"]}


def small(model: str) -> tuple[Preset, Callable[[], State]]:
    """A preset with a narrow, shallow network, and what makes its checkpoint."""
    preset = find_preset(model)
    if model in VITS:
        shape = VITS[model]
        return replace(preset, dim=shape.dim, options=shape.options), lambda: vit(shape)
    dims, depths = CONVNEXTS[model]
    return replace(preset, dim=dims[-1], options={"dims": dims, "depths": depths}), lambda: convnext(dims, depths)


def pixels(size: tuple[int, int], seed: int = 5) -> np.ndarray:
    """One picture, uint8 [1, H, W, 3]: noise over a gradient of each colour."""
    height, width = size
    noise = np.random.RandomState(seed).randint(0, 128, (1, height, width, 3))
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    gradient = np.stack(
        [128 * rows // height + 0 * columns, 128 * columns // width + 0 * rows, rows * 0 + 64 + 0 * columns], -1
    )
    return (noise + gradient).astype(np.uint8)


SIZES = {14: ((224, 224), (252, 252), (518, 518), (280, 168)), 16: ((224, 224), (256, 256), (512, 512), (256, 160))}
"""The sizes that are compared, (height, width), by patch; where the patch does not divide 256 or 518, its nearest multiple."""


def summary(tokens: np.ndarray, pooled: np.ndarray) -> dict[str, list[float]]:
    """What is recorded of one output, [H, W, D] patch tokens and a class token [D]: values at fixed places, norms, and
    products with fixed vectors of signs, in which a difference anywhere shows."""
    random = np.random.RandomState(3)
    places = random.randint(0, tokens.size, 24)
    flat = tokens.astype(np.float64).ravel()
    signs = random.randint(0, 2, (8, tokens.size)) * 2.0 - 1
    return {
        "token": [*pooled[:24].astype(float), float(np.linalg.norm(pooled))],
        "patches": [*flat[places], float(np.linalg.norm(flat))],
        "products": [float(product) for product in signs @ flat],
    }
