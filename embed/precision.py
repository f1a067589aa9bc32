"""In which precision a network runs, and how one is put into half precision as a whole.

Weights and activations are of half precision, without autocast, whose casts at every layer cost a GPU a quarter of its time. What
parity to fp32 needs stays exact: norms take their statistics in fp32 (torch's kernels do), rotary angles and their products are
fp32, and so is all that follows the last block: the last norm, pooling and the vector. So is the sum to which a transformer's
blocks add, whose rounding would grow with each of them (least cosine to fp32 of DINOv3's ViT-L with random weights: 0.9999 with a
sum in bf16, 0.99998 in fp32); layer scales go into the weights before them, which pays for it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from outcrop.embed.backbones import Backbone
from outcrop.embed.presets import Preset
from outcrop.embed.rotary import turn_together

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

EXACT_STAGES = 4
"""Of EfficientNet-Lite0's seven stages, these first ones stay in fp32, and the stem before them: their few channels carry the
rounding of half precision into everything after them. The least cosine of bf16 vectors to those of fp32, over 43 aerial
photographs, 12 procedural pictures and 8 of noise, is 0.9956 with none, 0.9982 with three and 0.9994 with four."""

ENDS = ("norm_pre", "norm", "fc_norm", "head", "global_pool", "attn_pool")
"""The parts before the first block and behind the last one, by timm's names: they stay in fp32."""


class Cast(nn.Module):
    """A part of a network, and the type of numbers that it is given."""

    def __init__(self, part: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.part, self.dtype = part, dtype

    def forward(self, values: Tensor) -> Tensor:
        """As the part."""
        made: Tensor = self.part(values.to(self.dtype))
        return made


class HalfBlock(nn.Module):
    """A block of a vision transformer (timm's `Block` or `EvaBlock`) in half precision, which adds to a sum in fp32."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        _fold_scale(block.attn.proj, _scale(block, "1"))
        _fold_scale(block.mlp.fc2, _scale(block, "2"))
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        self.dtype = dtype

    def forward(self, total: Tensor, **given: Any) -> Tensor:
        """The sum [N, tokens, D] in fp32 after this block; what is `given` (rotary angles, say) is for the attention."""
        total = total.float()
        given = {name: value for name, value in given.items() if value is not None and value is not False}
        total = total + self.attn(self.norm1(total.to(self.dtype)), **given)
        made: Tensor = total + self.mlp(self.norm2(total.to(self.dtype)))
        return made


def _scale(block: Any, number: str) -> Tensor | None:
    """The layer scale of a branch; None where it has none."""
    own = getattr(block, f"gamma_{number}", None)
    return own if own is not None else getattr(getattr(block, f"ls{number}", None), "gamma", None)


def _fold_scale(layer: nn.Linear, scale: Tensor | None) -> None:
    """Has a layer give what a layer scale behind it would make of its numbers."""
    if scale is not None:
        layer.weight = nn.Parameter(layer.weight * scale[:, None], requires_grad=False)
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias * scale, requires_grad=False)


class FixedAngles(nn.Module):
    """Rotary angles of one grid of patches, computed once: timm computes them anew in every pass, on the host, for which a GPU
    waits. They stay in fp32.
    """

    def __init__(self, angles: Any, grid: tuple[int, int]) -> None:
        super().__init__()
        self._angles, self._grid = angles, grid
        self.register_buffer("embed", angles.get_embed(shape=grid), persistent=False)

    def get_embed(self, shape: Any = None) -> Tensor:
        """The sines and cosines of the grid."""
        if shape is not None and tuple(shape) != self._grid:
            other: Tensor = self._angles.get_embed(shape=shape)
            return other
        return self.get_buffer("embed")


def fix_angles(network: Any, size: tuple[int, int], patch: int) -> None:
    """Computes the rotary angles of a DINOv3 transformer for an input of a size (height, width) once and for all."""
    network.rope = FixedAngles(network.rope, (size[0] // patch, size[1] // patch))


HALVED_ON_CPU = ("dinov2", "dinov3", "dinov3_convnext")
"""Families that a CPU with units for bf16 matrices computes in bf16 by itself. On one core with AVX512-BF16, bf16 made 2.6 times
as many pictures a second as fp32 with dinov3_vits16, 3.0 with dinov3_convnext_tiny and 1.6 with dinov2_vits14, at a least cosine
above 0.9999. EfficientNet-Lite0 gained a third, at 0.9996: it stays in fp32. So do timm's models, few of which were measured."""


def choose_precision(precision: str, device: torch.device, family: str = "") -> str:
    """What ``auto`` means for a family of models on a device: bf16 on CUDA from compute capability 8.0, and for some families
    on CPUs that multiply bf16 matrices; fp32 elsewhere.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and family in HALVED_ON_CPU and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor has units for bf16 matrices (AMX or AVX512-BF16), and torch the library that uses them."""
    supported = (getattr(torch.cpu, f"_is_{unit}_supported", lambda: False) for unit in ("amx_tile", "avx512_bf16"))
    library = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # as of torch 2.14
    return bool(library) and any(known() for known in supported)


def halve(backbone: Backbone, preset: Preset, dtype: torch.dtype) -> None:
    """Puts a network into half precision, but for what must stay exact."""
    network = backbone.network
    kind = type(network).__name__
    if preset.family == "efficientnet":
        exact = _first_stages(network)
        network.blocks[EXACT_STAGES] = Cast(network.blocks[EXACT_STAGES], dtype)
    elif kind == "ConvNeXt" and _plain(network):
        exact, backbone.dtype = set(), dtype
    elif kind in ("VisionTransformer", "Eva") and all(_plain_block(block) for block in network.blocks):
        exact, backbone.dtype = {network}, dtype  # tokens and position tables are added to the sum
        if isinstance(getattr(network, "rope", None), FixedAngles):
            turn_together(network, network.rope.get_embed())
        for number, block in enumerate(network.blocks):
            network.blocks[number] = HalfBlock(block, dtype)
    else:
        backbone.autocast = dtype  # torch's tables know what may be halved in a network that we do not know
        exact = {module for module in network.modules() if not isinstance(module, nn.Linear | nn.Conv2d)}
    for part in (*(getattr(network, name, None) for name in ENDS), getattr(network, "rope", None)):
        if isinstance(part, nn.Module):
            exact |= set(part.modules())
    for module in network.modules():
        if module not in exact:
            _halve(module, dtype)


def _plain(network: nn.Module) -> bool:
    """Whether a network has no batch norms, whose statistics are not of its inputs."""
    return not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def _plain_block(block: Any) -> bool:
    """Whether a block of a transformer is what `HalfBlock` takes it for."""
    parts = all(isinstance(part, nn.Linear) for part in (_at(block, "attn", "proj"), _at(block, "mlp", "fc2")))
    return parts and type(block).__name__ in ("Block", "EvaBlock") and _plain(block)


def _at(block: Any, part: str, layer: str) -> Any:
    return getattr(getattr(block, part, None), layer, None)


def _first_stages(network: Any) -> set[nn.Module]:
    """The layers of an EfficientNet that stay in fp32."""
    first = (network.conv_stem, network.bn1, *network.blocks[:EXACT_STAGES])
    return {network, *(layer for part in first for layer in part.modules())}


def _halve(module: nn.Module, dtype: torch.dtype) -> None:
    """The numbers that a module holds itself, without its parts."""
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.to(dtype)
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.is_floating_point():
            module._buffers[name] = buffer.to(dtype)


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """The context in which a network runs that torch is to halve."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
