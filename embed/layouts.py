"""How checkpoints are laid out: which tensors Meta's files hold, under which names, and how they become timm's.

Files are checked by the names they bear themselves: as strict as Meta's own loader, so that a missing, unexpected or
misshaped tensor is named, and never a layer left at random. Sources: the state dicts of facebookresearch/dinov2 and
facebookresearch/dinov3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from outcrop.embed.presets import Preset

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


class Misfit(ValueError):
    """A checkpoint does not hold what a layout wants; the text names the first tensor that is wrong."""


@dataclass(frozen=True)
class Layout:
    """One way to write a network's tensors to a file.

    `shapes` are all tensors of the file by name; `convert` makes timm's of them, for an input of (height, width) patches.
    """

    shapes: Shapes
    convert: Callable[[State, tuple[int, int]], State]

    def read(self, state: State, grid: tuple[int, int]) -> State:
        """The tensors by timm's names. Raises `Misfit` naming the first tensor that is missing, unexpected or misshaped."""
        if missing := [name for name in self.shapes if name not in state]:
            raise Misfit(f"tensor {missing[0]!r} is missing" + _others(len(missing)))
        if unexpected := [name for name in state if name not in self.shapes]:
            raise Misfit(f"tensor {unexpected[0]!r} is unexpected" + _others(len(unexpected)))
        for name, tensor in state.items():
            if tuple(tensor.shape) != self.shapes[name] and not _is_square_table(name, tensor, self.shapes[name]):
                raise Misfit(f"tensor {name!r} is {list(tensor.shape)}, expected {list(self.shapes[name])}")
        return self.convert(state, grid)


def layouts(preset: Preset, network: nn.Module) -> list[Layout]:
    """The layouts in which a preset's checkpoint may come, the likeliest first: Meta's, then timm's own.

    `network` is timm's, on any device and for any input size.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if preset.family == "dinov2":
        return [_dinov2(shapes), _dinov2_of_timm(shapes)]
    if preset.family == "dinov3":
        return [_dinov3(shapes, len(network.get_buffer("rope.periods")), preset.local_norm), Layout(shapes, _as_it_is)]
    if preset.family == "dinov3_convnext":
        return [_convnext(shapes), Layout(shapes, _as_it_is)]
    return [Layout(shapes, _as_it_is)]


def choose(candidates: list[Layout], state: State) -> Layout:
    """The layout whose names differ the least from a file's; the first of several."""
    return min(candidates, key=lambda layout: len(layout.shapes.keys() ^ state.keys()))


def _as_it_is(state: State, grid: tuple[int, int]) -> State:
    return dict(state)


def _others(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


# DINOv2

TABLE = 37
"""The side, in patches, of the position tables that Meta publishes (518 / 14)."""


def _dinov2(shapes: Shapes) -> Layout:
    """Meta's DINOv2: a position table [1, 1 + patches, D] with the class token first; gated layers as w12 and w3."""
    wanted: Shapes = {}
    dim = shapes["cls_token"][-1]
    for name, shape in shapes.items():
        if name == "pos_embed":
            shape = (1, 1 + TABLE * TABLE, dim)
        wanted[_dinov2_name(name, shapes)] = shape
    return Layout({**wanted, "mask_token": (1, dim)}, _from_dinov2)


def _dinov2_name(name: str, shapes: Shapes) -> str:
    if name == "reg_token":
        return "register_tokens"
    if found := re.fullmatch(r"(blocks\.\d+\.mlp\.)fc([12])(\.\w+)", name):
        block, layer, kind = found.groups()
        gated = shapes[f"{block}fc1.weight"][0] == 2 * shapes[f"{block}fc2.weight"][1]
        return f"{block}{'w12' if layer == '1' else 'w3'}{kind}" if gated else name
    return name


def _from_dinov2(state: State, grid: tuple[int, int]) -> State:
    state = {name: tensor for name, tensor in state.items() if name != "mask_token"}
    registers = "register_tokens" in state
    if registers:
        # timm adds the class token's position to the token itself and keeps the patches' table only
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"].float() + state["pos_embed"][:, :1].float()
        state["pos_embed"] = state["pos_embed"][:, 1:]
    state["pos_embed"] = _position_table(state["pos_embed"], grid, registers)
    return {name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): state[name] for name in state}


def _dinov2_of_timm(shapes: Shapes) -> Layout:
    """timm's own names, as on the hub; the position table is of 518 pixels all the same."""
    registers = "reg_token" in shapes
    wanted = {**shapes, "pos_embed": (1, TABLE * TABLE + (not registers), shapes["cls_token"][-1])}
    return Layout(
        wanted, lambda state, grid: {**state, "pos_embed": _position_table(state["pos_embed"], grid, registers)}
    )


def _is_square_table(name: str, tensor: Tensor, expected: tuple[int, ...]) -> bool:
    """Whether a tensor is a position table of another square of patches (a model trained at another size)."""
    if name != "pos_embed" or tensor.ndim != 3 or (tensor.shape[0], tensor.shape[2]) != (expected[0], expected[2]):
        return False
    head = expected[1] - TABLE * TABLE
    side = round(max(0, tensor.shape[1] - head) ** 0.5)
    return bool(side > 0 and side * side + head == tensor.shape[1])


def _position_table(table: Tensor, grid: tuple[int, int], registers: bool) -> Tensor:
    """The position table for another grid of patches, resized as Meta's code does: bicubic; without registers
    by a scale factor with an offset of 0.1 and no antialiasing, with registers to the size and
    antialiased."""
    head = 0 if registers else 1
    side = round((table.shape[1] - head) ** 0.5)
    if (side, side) == grid:
        return table
    square = table[:, head:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if registers:
        resized = functional.interpolate(square, size=grid, mode="bicubic", antialias=True)
    else:
        factors = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
        resized = functional.interpolate(square, scale_factor=factors, mode="bicubic")
    return torch.cat([table[:, :head].float(), resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


# DINOv3

_DINOV3_NAMES = (
    ("reg_token", "storage_tokens"),
    (".gamma_1", ".ls1.gamma"),
    (".gamma_2", ".ls2.gamma"),
    (".mlp.fc1_g.", ".mlp.w1."),
    (".mlp.fc1_x.", ".mlp.w2."),
)
"""(timm's, Meta's)"""


def _dinov3(shapes: Shapes, periods: int, local_norm: bool) -> Layout:
    """Meta's DINOv3 ViT: registers are called storage tokens, the rotary periods and the mask of the qkv bias are in
    the file, and where the model has it the norm that only training used."""
    gated = any(".mlp.fc1_g." in name for name in shapes)
    dim = shapes["cls_token"][-1]
    wanted: Shapes = {"mask_token": (1, dim), "rope_embed.periods": (periods,)}
    for name, shape in shapes.items():
        if name.endswith(".v_bias"):
            continue
        if name.endswith(".q_bias"):
            bias = name.replace("q_bias", "qkv.bias")
            wanted[bias] = wanted[f"{bias}_mask"] = (3 * shape[0],)
            continue
        for timm_part, meta_part in _DINOV3_NAMES:
            name = name.replace(timm_part, meta_part)
        wanted[name.replace(".mlp.fc2.", ".mlp.w3.") if gated else name] = shape
    if local_norm:
        wanted |= {"local_cls_norm.weight": (dim,), "local_cls_norm.bias": (dim,)}
    return Layout(wanted, _from_dinov3)


def _from_dinov3(state: State, grid: tuple[int, int]) -> State:
    converted: State = {}
    for name, tensor in state.items():
        if name in ("mask_token", "rope_embed.periods") or name.startswith("local_cls_norm."):
            continue  # used in training only; the periods are no parameter of timm's (see `backbones`)
        if name.endswith(".bias_mask"):
            third = torch.ones(len(tensor) // 3)
            if not torch.equal(tensor.float(), torch.cat([third, 0 * third, third])):
                raise Misfit(f"tensor {name!r} is not the mask of a published model: ones, zeros for the keys, ones")
            continue
        if name.endswith("qkv.bias"):
            query, _, value = tensor.chunk(3)  # the mask sets the keys' third to zero
            converted[name.replace("qkv.bias", "q_bias")] = query
            converted[name.replace("qkv.bias", "v_bias")] = value
            continue
        for timm_part, meta_part in _DINOV3_NAMES:
            name = name.replace(meta_part, timm_part)
        converted[name.replace(".mlp.w3.", ".mlp.fc2.")] = tensor
    return converted


def _convnext(shapes: Shapes) -> Layout:
    """Meta's ConvNeXt; ``norms.3`` is a second name of the last norm."""
    names = {_convnext_name(name): name for name in shapes}
    wanted = {meta: shapes[name] for meta, name in names.items()}
    wanted |= {f"norms.3.{kind}": wanted[f"norm.{kind}"] for kind in ("weight", "bias")}

    def convert(state: State, grid: tuple[int, int]) -> State:
        for kind in ("weight", "bias"):
            if not torch.equal(state[f"norms.3.{kind}"], state[f"norm.{kind}"]):
                raise Misfit(f"tensor 'norms.3.{kind}' differs from 'norm.{kind}', whose second name it is")
        return {name: state[meta] for meta, name in names.items()}

    return Layout(wanted, convert)


def _convnext_name(name: str) -> str:
    name = name.replace("stem.", "downsample_layers.0.").replace("head.norm.", "norm.")
    name = re.sub(r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1.", name)
    name = re.sub(r"^stages\.(\d+)\.blocks\.", r"stages.\1.", name)
    return name.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc", ".pwconv")


# EfficientNet-Lite0


def efficientnet_by_order(state: State, expected: Mapping[str, Tensor]) -> State:
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
