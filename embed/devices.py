"""Where a network runs, how it lies in memory there, and what to do when memory runs out.

One code path serves CPUs, CUDA GPUs and Apple's MPS.
"""

from __future__ import annotations

import re

import torch

from outcrop.embed.backbones import Backbone
from outcrop.embed.folding import fold_batch_norms, fold_padding
from outcrop.embed.precision import HALVES, fix_angles, halve
from outcrop.embed.presets import Preset
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.space import Space


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


def adapt(backbone: Backbone, preset: Preset, space: Space, device: torch.device, precision: str) -> Backbone:
    """The network on its device, laid out and rewritten for speed; changes `backbone` and returns it."""
    if preset.family == "efficientnet":
        backbone.network = fold_padding(fold_batch_norms(backbone.network), space.size)
    if preset.patch is None:
        backbone.to(memory_format=torch.channels_last)
    if preset.family == "dinov3" and preset.patch:
        fix_angles(backbone.network, space.size, preset.patch)
    if precision != "fp32":
        halve(backbone, preset, HALVES[precision])
    return backbone.to(device)


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
