"""One model on several devices, in one process each: each batch is dealt out among them, and one writer gets it back whole.

A process for each device keeps Python's interpreter lock and a GPU's driver from being shared. Pixels go through shared memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.embed.encoder import BATCH, Encoder, Pixels, Vectors, check_pixels, describe
from outcrop.embed.features import Features
from outcrop.embed.models import Model
from outcrop.schema.errors import InputError, OutcropError, PictureError
from outcrop.schema.machine import cores
from outcrop.schema.processes import Ended, Handler, Worker
from outcrop.schema.space import Space


def device_names(text: str) -> list[str]:
    """The devices of ``cuda:0,cuda:1``, in order; one may be named twice (``cpu,cpu``)."""
    return [name.strip() for name in text.split(",")]


class ShardedEncoder:
    """An encoder over several devices; as `Encoder` to whoever uses it. `close` ends its processes.

    Threads may share it; one call runs at a time. A picture's vector is that of a single `Encoder` on its device.
    """

    def __init__(self, devices: Sequence[_Device], opened: Sequence[_Opened]) -> None:
        self.space = opened[0].space
        self.device = ",".join(one.device for one in opened)
        self.precision = opened[0].precision
        self.batch = len(opened) * min(one.batch for one in opened)
        """How many pictures are best handed over at once: the shares are equal, so the smallest device decides."""
        self._devices = devices
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        model: Model,
        *,
        devices: Sequence[str],
        precision: str = "auto",
        batch: int = BATCH,
        threads: int | None = None,
        compile: bool | str = False,
    ) -> ShardedEncoder:
        """Opens a model on each of the devices; options and errors are those of `Encoder.open`.

        `threads` is for each process; None shares the cores among those on the CPU.
        """
        if threads is None and "cpu" in devices:
            threads = max(1, cores() // devices.count("cpu"))
        options = {"precision": precision, "batch": batch, "compile": compile}
        opening: list[_Device] = []
        try:
            for name in devices:
                opening.append(_Device(name))
                own = {**options, "device": name, "threads": threads if name == "cpu" else None}
                opening[-1].worker.send(_Open(model, own))
            return cls(opening, [device.answer() for device in opening])
        except BaseException:
            for device in opening:
                device.worker.end()
            raise

    def encode(self, pixels: Pixels) -> Vectors:
        """As `Encoder.encode`; each device takes its share of the pictures."""
        parts = self._dealt("encode", pixels)
        return np.concatenate(parts) if parts else np.empty((0, self.space.dim), dtype=np.float32)

    def features(self, pixels: Pixels) -> Features:
        """As `Encoder.features`."""
        parts: list[Features] = self._dealt("features", pixels)
        return Features(np.concatenate([p.vectors for p in parts]), np.concatenate([p.patches for p in parts]))

    def describe(self) -> str:
        """One line for logs: ``dinov3_vitl16 256x256 squash on cuda:0,cuda:1 (bf16)``."""
        return describe(self.space, self.device, self.precision)

    def close(self) -> None:
        """Ends the processes; the encoder is of no use afterwards."""
        with self._lock:
            for device in self._devices:
                device.worker.end()

    def _dealt(self, what: str, pixels: Pixels) -> list[Any]:
        """What the devices make of their shares, in the order of the pictures."""
        check_pixels(pixels, self.space)
        pixels = np.ascontiguousarray(pixels)
        bounds = np.linspace(0, len(pixels), len(self._devices) + 1).round().astype(int)
        shares = [
            (device, int(start), int(end))
            for device, start, end in zip(self._devices, bounds, bounds[1:], strict=False)
            if end > start
        ]
        with self._lock:
            for device, start, end in shares:
                device.worker.send(_Share(what, pixels[start:end].shape), pixels[start:end].data)
            answers: list[Any] = []
            failures: list[OutcropError] = []
            for device, start, end in shares:  # all are waited for, so that no answer is left for the next call
                try:
                    answers.append(device.answer())
                except PictureError as error:
                    failures.append(PictureError(f"of rows {start} to {end - 1}, {error}"))
                except OutcropError as error:
                    failures.insert(0, error)
        if failures:
            raise failures[0]
        return answers


@dataclass(frozen=True)
class _Open:
    """Asks a process to open its encoder."""

    model: Model
    options: dict[str, Any]


@dataclass(frozen=True)
class _Opened:
    """What a process says when it is ready."""

    space: Space
    device: str
    precision: str
    batch: int


@dataclass(frozen=True)
class _Share:
    """Asks a process for what it makes (``encode``, ``features``) of the pixels that come with it."""

    what: str
    shape: tuple[int, ...]


class _Device:
    """A device and the process that has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.worker = Worker("outcrop.embed.sharded:encoding")

    def answer(self) -> Any:
        """What the process made. Raises what was raised there, and `InputError` if it ended."""
        try:
            (made,) = self.worker.answer()
            return made
        except Ended as fate:
            raise InputError(
                f"device {self.name}: its process ended ({fate}); lower --batch, or use fewer --devices"
            ) from None


def encoding() -> Handler:
    """What the process of a device runs."""
    opened: list[Encoder] = []

    def answer(request: _Open | _Share, data: memoryview) -> Iterator[Any]:
        if isinstance(request, _Open):
            opened.append(Encoder.open(request.model, **request.options))
            yield _Opened(opened[0].space, opened[0].device, opened[0].precision, opened[0].batch)
            return
        pixels = np.frombuffer(data, np.uint8).reshape(request.shape)
        yield opened[0].encode(pixels) if request.what == "encode" else opened[0].features(pixels)

    return answer
