"""What a long run is worth to an encoder: the best batch by trial, and a compiler for the network's blocks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from outcrop.embed.backbones import Backbone
from outcrop.embed.devices import out_of_memory, release
from outcrop.embed.trial import Trial, TrialMemory, best_batch
from outcrop.schema.errors import PictureError

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder

_log = logging.getLogger(__name__)

EARNED = 120.0
"""Seconds of work in eager mode from which blocks are compiled unasked. Compiling takes half a minute at most (one block, or one
of each stage of a ConvNeXt), and a compiled network takes about two thirds of the time."""
SAMPLE = 64
"""Pictures of a sample at least: several passes of a small batch, as a run hands them over."""
SHARE = 0.5
"""Part of a GPU's free memory that a pass may take: the rest is for pictures that are decoded there."""
SAME = 0.9995
"""Least cosine of a compiled network's vectors to those of the same network in eager mode."""


def find_batch(encoder: Encoder, memory: Path | None = None) -> Trial:
    """The batch that a device takes best, as remembered in a file of the state folder, or by a trial of some seconds."""
    known = TrialMemory(memory) if memory is not None else None
    key = trial_key(encoder)
    found = known.recall(key) if known is not None else None
    if found is None:
        found = best_batch(Passes(encoder).seconds)
        if known is not None and found.rate:
            known.keep(key, found)
    return found


def trial_key(encoder: Encoder) -> str:
    """What a trial depends on: the weights, the size of the input, the precision and the card."""
    device, space = torch.device(encoder.device), encoder.space
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{space.weights_digest} {space.size[0]}x{space.size[1]} {encoder.precision} {card}"


class Passes:
    """Times passes of an encoder: `seconds` of a number of pictures, or None where they do not fit."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._device = encoder, torch.device(encoder.device)
        self._used: dict[int, int] = {}

    def seconds(self, count: int) -> float | None:
        """The time of one pass, of several that follow each other."""
        first = count not in self._used
        if first and not self._has_room(count):
            return None
        pixels = np.zeros((count, *self._encoder.space.size, 3), np.uint8)
        passes = 1 if first else max(1, SAMPLE // count)
        taken: float | None
        try:
            begun = time.perf_counter()
            for made in [self._encoder.launch(pixels) for _ in range(passes)]:
                made.arrays()
            taken = (time.perf_counter() - begun) / passes
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            taken = None
        if taken is None:  # past the handler, which would keep the failed pass's memory
            release(self._device)
        elif first:
            self._used[count] = self._peak()
        return taken

    def _peak(self) -> int:
        """Bytes that the passes since `_has_room` took at most."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else 0

    def _has_room(self, count: int) -> bool:
        """Whether a pass may be tried, going by what the largest one so far took."""
        if self._device.type != "cuda":
            return True
        held = torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device) - held
        torch.cuda.reset_peak_memory_stats(self._device)
        largest = max(self._used, default=0)
        return not largest or (self._used[largest] - held) * count / largest <= SHARE * free


def earns(device: str, expected: int | None, rate: float) -> bool:
    """Whether compiling pays for a run of `expected` pictures at `rate` a second in eager mode: on CUDA, from two minutes."""
    return device.startswith("cuda") and expected is not None and rate > 0 and expected / rate >= EARNED


def rate_of(encoder: Encoder) -> float:
    """Pictures a second at the encoder's batch, from the median of three passes; 0 where they do not fit."""
    passes = Passes(encoder)
    passes.seconds(encoder.batch)
    taken = sorted(passes.seconds(encoder.batch) or 0.0 for _ in range(3))[1]
    return encoder.batch / taken if taken else 0.0


def blocks_of(network: Any) -> Sequence[nn.Module]:
    """The blocks that repeat, one piece of code for all of them; none where a network is not made of such."""
    if type(network).__name__ in ("VisionTransformer", "Eva"):
        return list(network.blocks)
    if type(network).__name__ == "ConvNeXt":
        return [block for stage in network.stages for block in stage.blocks]
    return []


def compiled(encoder: Encoder, backbone: Backbone, backend: str | Callable[..., Any]) -> bool:
    """Compiles the blocks of a network, each kind once, and sees to it that the vectors stay the same.

    False where that failed, for whatever reason: the network is then as before, and a warning says why.
    """
    noise = np.random.default_rng(0).integers(0, 256, (encoder.batch, *encoder.space.size, 3), dtype=np.uint8)
    parts = blocks_of(backbone.network) or [backbone]
    begun = time.perf_counter()
    try:
        expected = encoder.encode(noise)
        for part in parts:
            part.compile(backend=backend, dynamic=False)
        found = encoder.encode(noise)
        least = float((found.astype(np.float64) * expected).sum(1).min())
        trouble = "" if least >= SAME else f"its vectors differ (cosine {least:.5f})"
    except PictureError as error:
        trouble = str(error)
    except Exception as error:  # noqa: BLE001  compilers fail in many ways, and none of them is worth a run
        trouble = _reason(error)
    if trouble:
        for part in parts:
            part._compiled_call_impl = None
        _log.warning("the network runs as it is, without torch.compile: %s", trouble)
        return False
    _log.info("compiled %s in %.0f s", encoder.space.model, time.perf_counter() - begun)
    return True


def _reason(error: Exception) -> str:
    """An error of a compiler in one line: what its backend raised, not where."""
    cause = getattr(error, "inner_exception", error)
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__
