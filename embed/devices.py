"""Where and how exactly a network runs: device, precision, layout in memory, and what to do when memory runs out.

One code path serves CPUs, CUDA GPUs and Apple's MPS.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import torch
from torch import Tensor, nn

from outcrop.embed.backbones import Backbone
from outcrop.embed.folding import fold_batch_norms, fold_padding
from outcrop.embed.presets import Preset
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.space import Space

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

EXACT_STAGES = 4
"""Of EfficientNet-Lite0's seven stages, these first ones stay in fp32, and the stem before them: their few channels carry the
rounding of half precision into everything after them. The least cosine of bf16 vectors to those of fp32, over 43 aerial
photographs, 12 procedural pictures and 8 of noise, is 0.9956 with none, 0.9982 with three and 0.9994 with four."""


class FullPrecision(nn.Module):
    """A part of a network that stays in fp32 whatever the rest runs in."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, planes: Tensor) -> Tensor:
        """As the part."""
        with torch.autocast(planes.device.type, enabled=False):
            made: Tensor = self.part(planes.float())
            return made


def choose_device(name: str) -> torch.device:
    """The device called ``auto`` (CUDA, then MPS, then the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises `InputError` for another name, or a device that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("device mps: not available on this machine; use --device cpu")
        return torch.device("mps")
    if found := re.fullmatch(r"cuda(?::(\d{1,3}))?", name):
        if not torch.cuda.is_available():
            raise InputError(
                f"device {name}: torch sees no CUDA GPU (driver missing, or a CPU build); use --device cpu"
            )
        index = int(found.group(1) or torch.cuda.current_device())
        if index >= torch.cuda.device_count():
            raise InputError(
                f"device {name}: the last GPU is cuda:{torch.cuda.device_count() - 1}; use --device cuda:0"
            )
        return torch.device("cuda", index)
    raise InputError(
        f"device {name!r}: choose auto, cpu, cuda, cuda:N or mps{nearest(name, ('auto', 'cpu', 'cuda', 'mps'))}"
    )


def choose_precision(precision: str, device: torch.device) -> str:
    """What ``auto`` means on a device: bf16 on CUDA from compute capability 8.0, fp32 elsewhere."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which a network runs in a precision."""
    return contextlib.nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=HALVES[precision])


def adapt(backbone: Backbone, preset: Preset, space: Space, device: torch.device, precision: str) -> Backbone:
    """The network on its device, laid out and rewritten for speed; changes `backbone` and returns it."""
    if preset.family == "efficientnet":
        backbone.network = fold_padding(fold_batch_norms(backbone.network), space.size)
    if preset.patch is None:
        backbone.to(memory_format=torch.channels_last)
    if precision != "fp32":
        # Matrix weights in half precision once, not at every pass; norms and layer scales stay in fp32 under
        # autocast.
        exact: set[nn.Module] = set()
        if preset.family == "efficientnet":
            exact = _keep_exact(backbone.network)
        for module in backbone.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)) and module not in exact:
                module.to(HALVES[precision])
    return backbone.to(device)


def _keep_exact(network: Any) -> set[nn.Module]:
    """Puts the first stages of an EfficientNet into fp32; returns their layers."""
    network.conv_stem = FullPrecision(network.conv_stem)
    for stage in range(EXACT_STAGES):
        network.blocks[stage] = FullPrecision(network.blocks[stage])
    return {*network.conv_stem.modules(), *(m for stage in network.blocks[:EXACT_STAGES] for m in stage.modules())}


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device has no memory left: CUDA has a class for it, MPS and the CPU a text."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def release(device: torch.device) -> None:
    """Gives back what torch keeps for later, so that smaller pieces fit where larger ones were."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
