"""One model on several devices, in one process each: each batch is dealt out among them, and one writer gets it back whole.

A process for each device keeps Python's interpreter lock and a GPU's driver from being shared. Pixels go through shared memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.embed.encoder import BATCH, IN_FLIGHT, Compile, Encoder, Pixels, Vectors, check_pixels, describe
from outcrop.embed.features import Features
from outcrop.embed.models import Model
from outcrop.schema.errors import InputError, OutcropError, PictureError
from outcrop.schema.machine import cores
from outcrop.schema.processes import Ended, Handler, Worker
from outcrop.schema.space import Space

if TYPE_CHECKING:
    from pathlib import Path

    from outcrop.embed.staging import Rows


def device_names(text: str) -> list[str]:
    """The devices of ``cuda:0,cuda:1``, in order; one may be named twice (``cpu,cpu``)."""
    return [name.strip() for name in text.split(",")]


class ShardedEncoder:
    """An encoder over several devices; as `Encoder` to whoever uses it. `close` ends its processes.

    Threads may share it: each device has a queue of its own and takes its shares in the order in which they came.
    A picture's vector is that of a single `Encoder` on its device.
    """

    def __init__(self, devices: Sequence[_Device], opened: Sequence[_Opened]) -> None:
        self.space = opened[0].space
        self.device = ",".join(one.device for one in opened)
        self.precision = opened[0].precision
        self.batch = len(opened) * min(one.batch for one in opened)
        """How many pictures are best handed over at once: the shares are equal, so the smallest device decides."""
        self.in_flight = IN_FLIGHT
        """How many submitted batches keep the devices busy."""
        self._devices = devices
        self._lock = threading.Lock()  # the shares of one batch enter all queues before those of the next

    @classmethod
    def open(
        cls,
        model: Model,
        *,
        devices: Sequence[str],
        precision: str = "auto",
        batch: int = BATCH,
        threads: int | None = None,
        compile: Compile = False,
        expected: int | None = None,
        memory: Path | None = None,
    ) -> ShardedEncoder:
        """Opens a model on each of the devices; options and errors are those of `Encoder.open`, `expected` is for each.

        `threads` is for each process; None shares the cores among those on the CPU.
        """
        if threads is None and "cpu" in devices:
            threads = max(1, cores() // devices.count("cpu"))
        options = {
            "precision": precision,
            "batch": batch,
            "compile": compile,
            "expected": expected,
            "memory": memory,
        }
        opening: list[_Device] = []
        try:
            for name in devices:
                opening.append(_Device(name))
                own = {**options, "device": name, "threads": threads if name == "cpu" else None}
                opening[-1].worker.send(_Open(model, own))
            return cls(opening, [device.answer() for device in opening])
        except BaseException:
            for device in opening:
                device.close()
            raise

    def encode(self, pixels: Rows) -> Vectors:
        """As `Encoder.encode`; each device takes its share of the pictures."""
        return self.submit(pixels).result()

    def submit(self, pixels: Rows) -> _Shared:
        """As `Encoder.submit`: the pictures enter the queues of the devices."""
        return _Shared(self._dealt("encode", pixels), self.space.dim)

    def features(self, pixels: Rows) -> Features:
        """As `Encoder.features`."""
        parts: list[Features] = _answers(self._dealt("features", pixels))
        return Features(np.concatenate([p.vectors for p in parts]), np.concatenate([p.patches for p in parts]))

    def describe(self) -> str:
        """One line for logs: ``dinov3_vitl16 256x256 crop on cuda:0,cuda:1 (bf16)``."""
        return describe(self.space, self.device, self.precision)

    def close(self) -> None:
        """Ends the processes; the encoder is of no use afterwards."""
        with self._lock:
            for device in self._devices:
                device.close()

    def _dealt(self, what: str, rows: Rows) -> list[_Dealt]:
        """The shares of the devices, in the order of the pictures, on their way."""
        pixels = _on_host(rows)
        check_pixels(pixels, self.space)
        bounds = np.linspace(0, len(pixels), len(self._devices) + 1).round().astype(int)
        with self._lock:
            return [
                _Dealt(int(start), int(end), device.submit(what, pixels[start:end]))
                for device, start, end in zip(self._devices, bounds, bounds[1:], strict=False)
                if end > start
            ]


def _on_host(rows: Rows) -> Pixels:
    """Pictures as an array, whichever devices they lie on, as other processes encode them: one copy from each device."""
    if isinstance(rows, np.ndarray):
        return np.ascontiguousarray(rows)
    import torch

    if isinstance(rows, torch.Tensor):
        return np.ascontiguousarray(rows.permute(0, 2, 3, 1).cpu().numpy())
    found: list[Pixels | None] = [row if isinstance(row, np.ndarray) else None for row in rows]
    there: dict[torch.device, list[tuple[int, torch.Tensor]]] = {}
    for number, row in enumerate(rows):
        if isinstance(row, torch.Tensor):
            there.setdefault(row.device, []).append((number, row))
    for some in there.values():
        together = torch.stack([row for _, row in some]).permute(0, 2, 3, 1).cpu().numpy()
        for (number, _), row in zip(some, together, strict=True):
            found[number] = row
    arrays = [row for row in found if row is not None]
    return np.ascontiguousarray(np.stack(arrays)) if arrays else np.empty((0, 0, 0, 3), np.uint8)


@dataclass(frozen=True)
class _Dealt:
    """The share of a device: the pictures from `start` up to `end`."""

    start: int
    end: int
    future: Future[Any]


def _answers(shares: Sequence[_Dealt]) -> list[Any]:
    """What the devices made. Raises what one of them raised, once all have answered; a `PictureError` comes last."""
    answers: list[Any] = []
    failures: list[OutcropError] = []
    for share in shares:
        try:
            answers.append(share.future.result())
        except PictureError as error:
            failures.append(PictureError(f"of rows {share.start} to {share.end - 1}, {error}"))
        except OutcropError as error:
            failures.insert(0, error)
    if failures:
        raise failures[0]
    return answers


class _Shared:
    """Vectors that several devices are making."""

    def __init__(self, shares: Sequence[_Dealt], dim: int) -> None:
        self._shares, self._dim = shares, dim

    @property
    def done(self) -> bool:
        """As `Submitted.done`."""
        return all(share.future.done() for share in self._shares)

    def result(self) -> Vectors:
        """As `Submitted.result`."""
        parts = _answers(self._shares)
        return np.concatenate(parts) if parts else np.empty((0, self._dim), dtype=np.float32)


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
    """A device, the process that has it, and the thread that talks to the process: one share at a time, in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.worker = Worker("outcrop.embed.sharded:encoding")
        self._queue = ThreadPoolExecutor(1, f"device-{name}")

    def submit(self, what: str, pixels: Pixels) -> Future[Any]:
        """Queues a share."""
        return self._queue.submit(self._made, what, pixels)

    def _made(self, what: str, pixels: Pixels) -> Any:
        self.worker.send(_Share(what, pixels.shape), pixels.data)
        return self.answer()

    def close(self) -> None:
        """Ends the process, and the shares that still wait with it."""
        self._queue.shutdown(wait=False, cancel_futures=True)
        self.worker.end()

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
