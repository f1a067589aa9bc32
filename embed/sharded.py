"""One model on several devices, in one process each: each batch is dealt out among them, and one writer gets it back whole.

A process for each device keeps Python's interpreter lock and a GPU's driver from being shared. Pixels go through shared
memory, vectors come back through a pipe. A script that opens a `ShardedEncoder` must do so below
``if __name__ == "__main__":``, as with every new process of Python's multiprocessing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from outcrop.embed.encoder import Encoder, Pixels, Vectors, check_pixels, describe
from outcrop.embed.features import Features
from outcrop.embed.models import Model
from outcrop.schema.errors import InputError, OutcropError, PictureError
from outcrop.schema.machine import cores
from outcrop.schema.space import Space


def device_names(text: str) -> list[str]:
    """The devices of ``cuda:0,cuda:1``, in order; one may stand there twice (``cpu,cpu``)."""
    return [name.strip() for name in text.split(",")]


class ShardedEncoder:
    """An encoder over several devices; as `Encoder` to whoever uses it. `close` ends its processes.

    Threads may share it; one call runs at a time. A picture's vector is that of a single `Encoder` on its device.
    """

    def __init__(self, workers: Sequence[_Worker], opened: Sequence[_Opened]) -> None:
        self.space = opened[0].space
        self.device = ",".join(one.device for one in opened)
        self.precision = opened[0].precision
        self.batch = len(opened) * min(one.batch for one in opened)
        """How many pictures are best handed over at once: the shares are equal, so the least device decides."""
        self._workers = workers
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, model: Model, *, devices: Sequence[str], threads: int | None = None, **options: Any
    ) -> ShardedEncoder:
        """Opens a model on each of the devices; `options` are those of `Encoder.open`, and so are the errors.

        `threads` is for each process; None shares the cores among those on the CPU.
        """
        if threads is None and "cpu" in devices:
            threads = max(1, cores() // devices.count("cpu"))
        workers: list[_Worker] = []
        try:
            for device in devices:
                given = {**options, "device": device, "threads": threads if device == "cpu" else None}
                workers.append(_Worker(device, model, given))
            return cls(workers, [worker.answer() for worker in workers])
        except BaseException:
            for worker in workers:
                worker.stop()
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
            for worker in self._workers:
                worker.stop()

    def _dealt(self, what: str, pixels: Pixels) -> list[Any]:
        """What the devices make of their shares, in the order of the pictures."""
        check_pixels(pixels, self.space)
        bounds = np.linspace(0, len(pixels), len(self._workers) + 1).round().astype(int)
        shares = [
            (worker, int(start), int(end))
            for worker, start, end in zip(self._workers, bounds, bounds[1:], strict=False)
            if end > start
        ]
        with self._lock:
            for worker, start, end in shares:
                worker.ask(what, pixels[start:end])
            answers: list[Any] = []
            failures: list[OutcropError] = []
            for worker, start, end in shares:  # all are waited for, so that no answer is left for the next call
                try:
                    answers.append(worker.answer())
                except PictureError as error:
                    failures.append(PictureError(f"of rows {start} to {end - 1}, {error}"))
                except OutcropError as error:
                    failures.insert(0, error)
        if failures:
            raise failures[0]
        return answers


@dataclass(frozen=True)
class _Opened:
    """What a process says when it is ready."""

    space: Space
    device: str
    precision: str
    batch: int


class _Worker:
    """The parent's side of one process."""

    def __init__(self, device: str, model: Model, options: dict[str, Any]) -> None:
        context = get_context("spawn")
        self.device = device
        self._pipe, theirs = context.Pipe()
        self._memory: SharedMemory | None = None
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, model, options), name=f"encode-{device}", daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, what: str, pixels: Pixels) -> None:
        """Hands pixels over; `answer` waits for what becomes of them."""
        if self._memory is None or self._memory.size < pixels.nbytes:
            self._free()
            self._memory = SharedMemory(create=True, size=pixels.nbytes)
        np.ndarray(pixels.shape, np.uint8, self._memory.buf)[:] = pixels
        with contextlib.suppress(OSError):  # `answer` says what became of the process
            self._pipe.send((what, self._memory.name, pixels.shape))

    def answer(self) -> Any:
        """What the process made. Raises what was raised there, and `InputError` where it is no more."""
        try:
            outcome = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            why = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            raise InputError(
                f"device {self.device}: its process ended ({why}), perhaps for want of memory; "
                "lower --batch, or use fewer --devices"
            ) from None
        if isinstance(outcome, OutcropError):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Ends the process."""
        self._pipe.close()  # which ends its loop
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self._free()

    def _free(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory.unlink()
            self._memory = None


def _serve(pipe: Connection, model: Model, options: dict[str, Any]) -> None:
    """The loop of one process: opens the encoder, then answers until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides when to end
    try:
        encoder = Encoder.open(model, **options)
        pipe.send(_Opened(encoder.space, encoder.device, encoder.precision, encoder.batch))
    except Exception as error:  # noqa: BLE001  raised again by the parent
        pipe.send(_portable(error))
        return
    memory: SharedMemory | None = None
    try:
        while True:
            what, name, shape = pipe.recv()
            if memory is None or memory.name != name:
                if memory is not None:
                    memory.close()
                memory = SharedMemory(name)
            pixels: Pixels = np.ndarray(shape, np.uint8, memory.buf)
            try:
                outcome: Any = encoder.encode(pixels) if what == "encode" else encoder.features(pixels)
            except Exception as error:  # noqa: BLE001  raised again by the parent
                outcome = _portable(error)
            del pixels
            pipe.send(outcome)
    except (EOFError, OSError):
        os._exit(0)  # the parent closed the pipe, or is gone; tearing torch down politely would take seconds


def _portable(error: Exception) -> OutcropError:
    """An error that survives the way through the pipe: ours as they are, others as their text."""
    if isinstance(error, OutcropError):
        return type(error)(str(error))
    return OutcropError("".join(traceback.format_exception(error)))
