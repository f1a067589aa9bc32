"""Pictures to vectors: open a model once, encode many. torch is imported when an encoder is opened, not before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.embed.features import Features
from outcrop.embed.lean_torch import import_torch
from outcrop.embed.models import Model
from outcrop.embed.weights import load_state
from outcrop.schema.errors import InputError, PictureError, nearest
from outcrop.schema.memory import require_address_space, torch_bytes
from outcrop.schema.space import Space
from outcrop.schema.starting import importing

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from outcrop.embed.aggregation import Aggregation
    from outcrop.embed.backbones import Backbone
    from outcrop.embed.staging import Fetched, Rows
    from outcrop.embed.trial import Trial

    Run = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]

_log = logging.getLogger(__name__)

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

IN_FLIGHT = 2
"""Batches that a GPU has to hand at once: one that it computes and one that waits for it."""

Compile = bool | str | None
"""Whether torch.compile rewrites a network: with a backend of that name, or (None) where a run is long enough."""

FEW = 2000
"""Pictures below which a run is over before trying batches, or a compiler, would have paid."""

BATCH = 32
"""Pictures that are handed over at once where nothing else is said and nothing is to be found by trial."""

CPU_STEP = 8
"""Pictures of 224 x 224 per pass on a CPU. Activations of more spill out of the cache, and beyond 32 MB glibc
returns every block to the system and fetches it anew: at 32 pictures half of the time went there."""


class Submitted:
    """Vectors that a device is making. `result` is called once."""

    def __init__(self, parts: list[Fetched], finish: Callable[[list[tuple[Any, ...]]], Vectors]) -> None:
        self._parts, self._finish = parts, finish

    @property
    def done(self) -> bool:
        """Whether `result` would not wait."""
        return all(part.done for part in self._parts)

    def result(self) -> Vectors:
        """The vectors, as of `Encoder.encode`. Waits for the device. Raises `PictureError` as `encode` does."""
        return self._finish([tuple(part.arrays()) for part in self._parts])


class Encoder:
    """One model, opened. Thread-safe: threads may share it, though one at a time is fastest on one device.

    `space` is the embedding space of its vectors; `device` is torch's name of where it runs (``cpu``,
    ``cuda:0``, ``mps``); `precision` is ``fp32``, ``bf16`` or ``fp16``. Open one with `Encoder.open`.
    """

    def __init__(self, space: Space, network: Backbone, device: torch.device, precision: str, batch: int) -> None:
        import torch

        from outcrop.embed.staging import open_lane

        self.space = space
        self.batch = batch
        """How many pictures are best handed over at once."""
        self.device = str(device)
        self.precision = precision
        self.in_flight = IN_FLIGHT if device.type == "cuda" else 1
        """How many submitted batches keep the device busy; more only take memory."""
        self._network = network
        self._device = device
        self._autocast = network.autocast
        self._lane = open_lane(device)
        self._step = min(batch, _cpu_step(space)) if device.type == "cpu" else batch
        self._whole = False
        # (pixel / 255 - mean) / std as one multiply-add, per channel.
        std = torch.tensor(space.std, dtype=torch.float64)
        self._scale = (1 / (255 * std)).float().to(device)
        self._shift = (-torch.tensor(space.mean, dtype=torch.float64) / std).float().to(device)

    @classmethod
    @importing()
    def open(
        cls,
        model: Model,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch: int = BATCH,
        threads: int | None = None,
        compile: Compile = False,
        expected: int | None = None,
        memory: Path | None = None,
    ) -> Encoder:
        """Open a model (see `outcrop.embed.models`): its weights are read as they are, and neither looked for nor digested.

        `device` is ``auto`` (CUDA, then Apple's MPS, then the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        `precision` ``auto`` is bf16 on CUDA from compute capability 8.0, and for DINOv2 and DINOv3 on CPUs with units for it
        (`outcrop.embed.precision`); fp32 elsewhere. `batch` is the most pictures in one pass; where they do not
        fit into the device's memory, it is halved until they do; 0 has a GPU try how many it takes best
        (`find_batch`), and is 32 on a CPU and for few pictures. `threads` sets torch's CPU threads for the whole
        process; None leaves them.

        `compile` has torch.compile rewrite the network's blocks, each kind once (with the backend of that name); smaller batches
        are then filled up, as each size would be compiled anew, and where it fails the network stays as it is, with a
        warning. None has it done on CUDA where the run is long enough to earn it back: `expected` pictures are to come.
        `memory` is a file of the state folder that remembers trials.

        Raises `WeightsError` (damaged or misfit weights) and `InputError` (device, precision, batch, threads).
        """
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}: choose {', '.join(PRECISIONS)}{nearest(precision, PRECISIONS)}")
        if batch < 0 or (threads is not None and threads < 1):
            raise InputError("batch must not be negative, and threads must be at least 1")

        require_address_space(torch_bytes(), "torch")
        import_torch()
        import torch

        from outcrop.embed.backbones import build
        from outcrop.embed.devices import adapt, choose_device
        from outcrop.embed.precision import choose_precision

        chosen = choose_device(device)
        precision = choose_precision(precision, chosen, model.preset.family)
        if threads is not None:
            torch.set_num_threads(threads)
        space = model.space
        fitted = _aggregation(model.vocabulary) if model.vocabulary is not None else None
        network = build(model.preset, load_state(model.weights), space.size, model.weights, space.pooling, fitted)
        network = adapt(network, model.preset, space, chosen, precision)
        encoder = cls(space, network, chosen, precision, batch or BATCH)
        encoder._tune(batch, compile, expected, memory)
        return encoder

    def _tune(self, batch: int, compile: Compile, expected: int | None, memory: Path | None) -> None:
        """Finds the batch and compiles, where that is asked for or pays."""
        on_trial = batch == 0 and self._device.type != "cpu" and (expected is None or expected >= FEW)
        unasked = compile is None and self._device.type == "cuda" and expected is not None and expected >= FEW
        if not (on_trial or compile or unasked):
            return  # a query, or a run on a CPU: nothing of this is imported
        from outcrop.embed.tuning import earns, rate_of

        rate = self.find_batch(memory).rate if on_trial else 0.0
        if unasked:
            compile = earns(self.device, expected, rate or rate_of(self))
        if compile:
            self.compile(compile if isinstance(compile, str) else "inductor")

    def find_batch(self, memory: Path | None = None) -> Trial:
        """Tries how many pictures at once the device takes best, and goes by it from now on; some seconds. See
        `outcrop.embed.tuning.find_batch`.
        """
        from outcrop.embed.tuning import find_batch

        found = find_batch(self, memory)
        self.batch = self._step = found.batch
        return found

    def compile(self, backend: str = "inductor") -> bool:
        """Has torch.compile rewrite the network's blocks; False, and a warning, where that fails."""
        from outcrop.embed.tuning import compiled

        self._whole = True
        self._whole = compiled(self, self._network, backend)
        return self._whole

    def launch(self, pixels: Pixels) -> Fetched:
        """One pass of all pictures at once, however many; raises torch's error where they do not fit."""
        return self._pass(pixels, len(pixels), lambda planes: (self._network(planes).float(),))

    def encode(self, pixels: Rows) -> Vectors:
        """Vectors of prepared pictures: uint8 [N, H, W, 3] -> float32 [N, D], L2-normalised and finite; N may
        be 0.

        Instead of an array, `pixels` may be a tensor on the encoder's device, uint8 [N, 3, H, W], or a sequence of single
        pictures of either kind, [H, W, 3] arrays and [3, H, W] tensors. What makes a tensor must be on the current stream.
        In fp32 a picture's vector does not depend on its neighbours in the batch (up to 1e-5 per number).
        Raises `InputError` for pixels of another shape or type, `PictureError` naming the row whose vector is
        not finite or zero.
        """
        return self.submit(pixels).result()

    def submit(self, pixels: Rows) -> Submitted:
        """As `encode`, without waiting for the vectors: a GPU computes while the caller goes on; a CPU runs at once.

        Results come in the order in which batches were submitted. The pixels are free for other use when it returns.
        Raises `InputError` as `encode` does; a `PictureError` comes from `result`.
        """
        check_pixels(pixels, self.space, self.device)
        return Submitted(list(self._passes(pixels, lambda planes: (self._network(planes).float(),))), self._joined)

    def _joined(self, parts: list[tuple[Any, ...]]) -> Vectors:
        if not parts:
            return np.empty((0, self.space.dim), dtype=np.float32)
        return self._unit(np.concatenate([vectors for (vectors,) in parts]))

    def features(self, pixels: Rows) -> Features:
        """Vectors and patch tokens of prepared pictures, from the same forward pass: uint8 [N, H, W, 3], N at least 1.

        The vectors are those of `encode`, and so are the forms of `pixels`. Raises what `encode` raises.
        """
        check_pixels(pixels, self.space, self.device)

        def run(planes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(made.float() for made in self._network.features(planes))

        vectors, tokens = zip(*[part.arrays() for part in self._passes(pixels, run)], strict=True)
        return Features(self._unit(np.concatenate(vectors)), np.concatenate(tokens))

    def _unit(self, vectors: Vectors) -> Vectors:
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
        if len(bad):
            rows = ", ".join(map(str, bad[:5])) + (" …" if len(bad) > 5 else "")
            raise PictureError(
                f"row {rows}: {self.space.model} in {self.precision} gave a vector that is zero or not "
                "finite; try --precision fp32, or check the weights"
            )
        unit: Vectors = (vectors / norms).astype(np.float32)
        return unit

    def _passes(self, pixels: Rows, run: Run) -> Iterator[Fetched]:
        """What `run` makes of the pictures, in as many passes as memory asks for."""
        from outcrop.embed.devices import out_of_memory, release

        done = 0
        while done < len(pixels):
            step = self._step if self._whole else min(self._step, len(pixels) - done)
            try:
                made = self._pass(pixels[done : done + step], step, run)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                made = None
            if made is None:  # past the handler, which would keep the failed pass's memory
                if step == 1:
                    raise InputError(
                        f"one picture of {self.space.size[0]}x{self.space.size[1]} pixels does not fit into the memory of "
                        f"{self.device} with {self.space.model}; take a smaller --size or model, or another --device"
                    )
                self._lane.release()
                release(self._device)
                self._step = min(self._step, step // 2)
                _log.warning(
                    "%d pictures do not fit into the memory of %s: now %d at once", step, self.device, self._step
                )
                continue
            yield made
            done += step

    def _pass(self, rows: Rows, fill: int, run: Run) -> Fetched:
        """One batch through the network, filled up to `fill` pictures."""
        import torch

        from outcrop.embed.precision import autocast

        with torch.inference_mode(), self._lane.working(), autocast(self._device, self._autocast):
            try:
                batch = self._lane.load(rows, fill).to(torch.float32)
                # [n, H, W, 3] seen as [n, 3, H, W] is channels-last already, which is what fast convolutions
                # want.
                planes = torch.addcmul(self._shift, batch, self._scale).permute(0, 3, 1, 2)
            finally:
                self._lane.loaded()
            return self._lane.fetch([tensor[: len(rows)] for tensor in run(planes)])

    def close(self) -> None:
        """Gives the network back."""
        del self._network

    def describe(self) -> str:
        """One line for logs: ``efficientnet_lite0 224x224 crop on cpu (fp32, 2 threads)``, ``… (bf16, 128 at once)``."""
        import torch

        count = torch.get_num_threads()
        threads = f"{count} thread{'s' * (count > 1)}" if self._device.type == "cpu" else f"{self.batch} at once"
        return describe(self.space, self.device, self.precision, threads)


def _aggregation(vocabulary: Path) -> Aggregation:
    from outcrop.embed.aggregation import Aggregation
    from outcrop.embed.vocabulary import load

    return Aggregation(load(vocabulary))


def describe(space: Space, device: str, *details: str) -> str:
    """An encoder in one line."""
    return f"{space.model} {space.size[0]}x{space.size[1]} {space.fit} on {device} ({', '.join(details)})"


def check_pixels(pixels: Rows, space: Space, device: str = "") -> None:
    """Raises `InputError` for pixels that are not uint8 [N, H, W, 3] of the size of a space, or tensors [N, 3, H, W] of it
    that lie on another device. Of a sequence every picture is looked at.
    """
    if isinstance(pixels, Sequence):
        for row in pixels:
            _check(row, (1, *row.shape), space, device)
        return
    _check(pixels, tuple(pixels.shape), space, device)


def _check(pixels: Any, shape: tuple[int, ...], space: Space, device: str) -> None:
    last = (*space.size, 3) if isinstance(pixels, np.ndarray) else (3, *space.size)
    kind = str(pixels.dtype).removeprefix("torch.")
    if kind != "uint8" or len(shape) != 4 or shape[1:] != last:
        raise InputError(f"pixels are {kind} {list(shape)}; {space.model} wants uint8 [N, {', '.join(map(str, last))}]")
    place = "" if isinstance(pixels, np.ndarray) else str(pixels.device)
    if place and place.removesuffix(":0") != device.removesuffix(":0"):
        raise InputError(f"pixels lie on {place}, and the encoder runs on {device or 'other devices'}")


def _cpu_step(space: Space) -> int:
    return max(1, round(CPU_STEP * 224 * 224 / (space.size[0] * space.size[1])))
