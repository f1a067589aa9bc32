"""A preset and a checkpoint become a network that gives one vector per picture. timm has the architectures.

Checkpoints are converted here, tensor by tensor, and every tensor must fit: a missing, unexpected or
misshaped one is an error that names it, never a layer left at random. The network is laid out on torch's meta
device first, so nothing is initialised twice and a memory-mapped checkpoint is not copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models._manipulate import reinit_non_persistent_buffers
from torch import Tensor, nn
from torch.nn import functional

from embed.presets import Preset
from schema.errors import WeightsError

State = dict[str, Tensor]


def build(preset: Preset, state: Mapping[str, Tensor], size: tuple[int, int], source: Path) -> nn.Module:
    """The network of a preset in eval mode: float [N, 3, H, W] -> [N, D] before L2 normalisation.

    `state` is what `weights.load_state` read from `source`; `size` is (height, width) in pixels.
    Raises `WeightsError` naming the first tensor that does not fit.
    """
    # timm's DINOv3 averages the patch tokens unless told otherwise; its DINOv2 has one fixed position table.
    options: dict[str, Any] = {"num_classes": 0, "global_pool": preset.pooling}
    if preset.family == "dinov2":
        options["img_size"] = size
    with torch.device("meta"):
        network: nn.Module = timm.create_model(preset.timm_name, pretrained=False, **options)
    expected = network.state_dict()
    converted = _CONVERSIONS[preset.family](dict(state), expected, size)
    _check(preset, converted, expected, source)
    network.load_state_dict({name: tensor.to(torch.float32) for name, tensor in converted.items()}, assign=True)
    _materialise(network, state)
    return network.eval().requires_grad_(False)


def _materialise(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give computed buffers (which no checkpoint holds) their values; the meta device left them without
    any."""
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                module.register_buffer(name, torch.empty_like(buffer, device="cpu"), persistent=False)
    reinit_non_persistent_buffers(network)
    # Meta's DINOv3 checkpoints hold the rotary periods as they were trained, rounded to bfloat16; timm
    # computes them anew.
    periods = state.get("rope_embed.periods")
    if periods is not None:
        computed = network.get_buffer("rope.periods")
        if periods.shape == computed.shape:
            computed.copy_(periods)


def _check(preset: Preset, state: State, expected: Mapping[str, Tensor], source: Path) -> None:
    wrong = ""
    if missing := [name for name in expected if name not in state]:
        wrong = f"tensor {missing[0]!r} is missing" + _others(len(missing))
    elif unexpected := [name for name in state if name not in expected]:
        wrong = f"tensor {unexpected[0]!r} is unexpected" + _others(len(unexpected))
    else:
        for name, tensor in state.items():
            if tensor.shape != expected[name].shape:
                wrong = f"tensor {name!r} is {list(tensor.shape)}, expected {list(expected[name].shape)}"
                break
    if wrong:
        raise _misfit(preset, source, wrong)


def _misfit(preset: Preset, source: Path, wrong: str) -> WeightsError:
    return WeightsError(
        f"{source}: does not fit {preset.name}: {wrong}; "
        f"give {' or '.join(preset.filenames)}, or choose the --model it is of"
    )


def _others(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _dinov2(state: State, expected: Mapping[str, Tensor], size: tuple[int, int]) -> State:
    """Meta's DINOv2: position table [1, 1 + patches, D] with the class token first. With registers, timm adds
    the class token's position to the token itself and keeps the patches' table only."""
    state.pop("mask_token", None)
    registers = "reg_token" in expected
    if registers and "register_tokens" in state and {"cls_token", "pos_embed"} <= state.keys():
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    if "pos_embed" in state and state["pos_embed"].ndim == 3:
        state["pos_embed"] = _position_table(state["pos_embed"], (size[0] // 14, size[1] // 14), registers)
    return {
        re.sub(r"\.mlp\.w12\.", ".mlp.fc1.", re.sub(r"\.mlp\.w3\.", ".mlp.fc2.", name)): state[name] for name in state
    }


def _position_table(table: Tensor, grid: tuple[int, int], registers: bool) -> Tensor:
    """The position table for another grid of patches, resized as Meta's code does: bicubic; without registers
    by a scale factor with an offset of 0.1 and no antialiasing, with registers to the size and
    antialiased."""
    head = 0 if registers else 1
    side = round((table.shape[1] - head) ** 0.5)
    if side * side + head != table.shape[1] or (side, side) == grid:
        return table  # not a square table: the check of shapes says so
    square = table[:, head:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if registers:
        resized = functional.interpolate(square, size=grid, mode="bicubic", antialias=True)
    else:
        factors = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
        resized = functional.interpolate(square, scale_factor=factors, mode="bicubic")
    return torch.cat([table[:, :head].float(), resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _dinov3(state: State, expected: Mapping[str, Tensor], size: tuple[int, int]) -> State:
    """Meta's DINOv3 ViT: registers are called storage tokens, and the key's third of each qkv bias is masked
    to zero."""
    converted: State = {}
    for name, tensor in state.items():
        if name.startswith(("rope", "local_cls_norm.")) or name.endswith((".bias_mask", "mask_token")):
            continue  # computed, or used in training only
        if name.endswith("qkv.bias") and tensor.ndim == 1 and len(tensor) % 3 == 0:
            query, _, value = tensor.chunk(3)
            converted[name.replace("qkv.bias", "q_bias")] = query
            converted[name.replace("qkv.bias", "v_bias")] = value
            continue
        for old, new in _DINOV3_NAMES:
            name = name.replace(old, new)
        converted[name] = tensor
    return converted


_DINOV3_NAMES = (
    ("storage_tokens", "reg_token"),
    (".ls1.gamma", ".gamma_1"),
    (".ls2.gamma", ".gamma_2"),
    (".mlp.w1.", ".mlp.fc1_g."),
    (".mlp.w2.", ".mlp.fc1_x."),
    (".mlp.w3.", ".mlp.fc2."),
)


def _convnext(state: State, expected: Mapping[str, Tensor], size: tuple[int, int]) -> State:
    """Meta's ConvNeXt; ``norms.3`` is a second name of the last norm."""
    converted: State = {}
    for name, tensor in state.items():
        if name.startswith("norms."):
            continue
        name = (
            name.replace("downsample_layers.0.", "stem.").replace(".dwconv.", ".conv_dw.").replace(".pwconv", ".mlp.fc")
        )
        name = re.sub(r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2.", name)
        name = re.sub(r"^downsample_layers\.(\d+)\.(\d+)\.", r"stages.\1.downsample.\2.", name)
        converted[re.sub(r"^norm\.", "head.norm.", name)] = tensor
    return converted


def _efficientnet(state: State, expected: Mapping[str, Tensor], size: tuple[int, int]) -> State:
    """EfficientNet-Lite0 as its PyPI package names it: other names, the same tensors in the same order. A
    file with timm's own names is taken as it is. The classifier is left out."""
    body = {name: tensor for name, tensor in state.items() if not name.startswith(("_fc.", "classifier."))}
    if body.keys() == expected.keys():
        return body
    converted: State = {}
    for (name, tensor), (target, like) in zip(body.items(), expected.items(), strict=False):
        same_role = name.rsplit(".", 1)[-1] == target.rsplit(".", 1)[-1]
        # A tensor out of its place keeps its own name, which the check then reports.
        converted[target if same_role and tensor.shape == like.shape else name] = tensor
    converted.update({name: body[name] for name in list(body)[len(expected) :]})
    return converted


_CONVERSIONS: dict[str, Callable[[State, Mapping[str, Tensor], tuple[int, int]], State]] = {
    "dinov2": _dinov2,
    "dinov3": _dinov3,
    "dinov3_convnext": _convnext,
    "efficientnet": _efficientnet,
}
