"""Pictures on their way to a device, and vectors on their way back, so that neither waits for the other.

On CUDA pixels are written into memory that was pinned once, copied on a stream of their own while the network computes on
another, and vectors are fetched without stopping it. A CPU and Apple's MPS run each batch at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.uint8] | Tensor | Sequence[NDArray[np.uint8] | Tensor]
"""Pictures: an array [N, H, W, 3], a tensor [N, 3, H, W] on the device, or a sequence of single ones of either kind."""

SLOTS = 2
"""Buffers for pixels: one is written while the other is copied."""


class Fetched(Protocol):
    """Tensors on their way back from a device."""

    @property
    def done(self) -> bool:
        """Whether `arrays` would not wait."""
        ...

    def arrays(self) -> list[NDArray[Any]]:
        """The tensors on the host; waits for the device."""
        ...


class Lane(Protocol):
    """The way to a device and back: `load`, `loaded` and `fetch` are called within `working`."""

    def working(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which the network is launched."""
        ...

    def load(self, rows: Rows, fill: int) -> Tensor:
        """Pictures on the device, uint8 [fill, H, W, 3]: black ones follow the last. It may be read until `loaded`."""
        ...

    def loaded(self) -> None:
        """Whatever reads what was loaded last has been launched."""
        ...

    def fetch(self, made: Sequence[Tensor]) -> Fetched:
        """Sends tensors back."""
        ...

    def release(self) -> None:
        """Gives its memory back; it is taken anew when it is needed."""
        ...


def open_lane(device: torch.device) -> Lane:
    """The way to a device."""
    return CudaLane(device) if device.type == "cuda" else DirectLane(device)


def gathered(rows: Rows) -> NDArray[np.uint8] | Tensor:
    """Single pictures of one kind in one piece; of both kinds, as a tensor on the device of the tensors among them."""
    if isinstance(rows, np.ndarray | Tensor):
        return rows
    tensors = [row for row in rows if isinstance(row, Tensor)]
    if not tensors:
        return np.stack(rows) if len(rows) else np.empty((0, 0, 0, 3), np.uint8)
    if len(tensors) == len(rows):
        return torch.stack(tensors)
    place = tensors[0].device
    return torch.stack([row if isinstance(row, Tensor) else _planes(row).to(place) for row in rows])


def _planes(row: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.require(row, requirements=["C", "W"])).permute(2, 0, 1)


class _Here:
    """Tensors that are on the host already, or are waited for."""

    done = True

    def __init__(self, made: Sequence[Tensor]) -> None:
        self._made = [tensor.cpu() for tensor in made]

    def arrays(self) -> list[NDArray[Any]]:
        """As `Fetched.arrays`."""
        return [tensor.numpy() for tensor in self._made]


class DirectLane:
    """A device that runs each batch at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def working(self) -> contextlib.AbstractContextManager[Any]:
        """As `Lane.working`."""
        return contextlib.nullcontext()

    def load(self, rows: Rows, fill: int) -> Tensor:
        """As `Lane.load`."""
        batch = gathered(rows)
        if isinstance(batch, np.ndarray):
            batch = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
        else:
            batch = batch.permute(0, 2, 3, 1)
        batch = batch.to(self._device)
        return _filled(batch, fill)

    def loaded(self) -> None:
        """As `Lane.loaded`."""

    def fetch(self, made: Sequence[Tensor]) -> Fetched:
        """As `Lane.fetch`."""
        return _Here(made)

    def release(self) -> None:
        """As `Lane.release`."""


def _filled(batch: Tensor, fill: int) -> Tensor:
    missing = fill - len(batch)
    return batch if missing <= 0 else torch.cat([batch, batch.new_zeros((missing, *batch.shape[1:]))])


def _pinned(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]  # as of torch 2.14


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # as of torch 2.14


def _copy(to: Tensor, source: Tensor) -> None:
    """Copies on the current stream, and does not wait for it."""
    to.copy_(source, non_blocking=True)


class _Slot:
    """A pinned buffer, the one on the device into which it is copied, and when either may be written again."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.host = self.there = torch.empty(0, dtype=torch.uint8)
        self.copied, self.read = _event(), _event()

    def room(self, count: int, shape: Sequence[int]) -> bool:
        """Makes room for pictures, and says whether the buffers are new ones; they are kept while they are large enough."""
        if len(self.host) >= count and tuple(self.host.shape[1:]) == tuple(shape):
            return False
        self.copied.synchronize()
        self.read.synchronize()
        self.host = self.there = torch.empty(0, dtype=torch.uint8)
        there = torch.empty((count, *shape), dtype=torch.uint8, device=self._device)
        self.host = _pinned((count, *shape), torch.uint8)
        self.there = there
        return True


class _Coming:
    """Tensors that a stream copies into pinned memory."""

    def __init__(self, made: Sequence[Tensor], stream: torch.cuda.Stream) -> None:
        self._host = [_pinned(tensor.shape, tensor.dtype) for tensor in made]
        for host, tensor in zip(self._host, made, strict=True):
            _copy(host, tensor)
        self._event = _event()
        self._event.record(stream)

    @property
    def done(self) -> bool:
        """As `Fetched.done`."""
        return bool(self._event.query())  # type: ignore[no-untyped-call]  # as of torch 2.14

    def arrays(self) -> list[NDArray[Any]]:
        """As `Fetched.arrays`."""
        self._event.synchronize()
        return [tensor.numpy() for tensor in self._host]


class CudaLane:
    """The way to a CUDA device: one stream copies pixels, another computes.

    A tensor that is handed over must have been made on the stream that is current for the thread that hands it over, or that
    stream must wait for what makes it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies, self._compute = _stream(device), _stream(device)
        self._slots = [_Slot(device) for _ in range(SLOTS)]
        self._lock = threading.Lock()
        self._turn = 0
        self._last: _Slot | None = None
        self._reading: list[Tensor] = []
        # Tensors that were handed over, until they have been read: one event for all of a batch, as telling the allocator of
        # every single one takes longer than to copy them.
        self._held: deque[tuple[torch.cuda.Event, list[Tensor]]] = deque()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """As `Lane.working`; other threads wait until it is left."""
        with self._lock:
            self._compute.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._compute):
                yield

    def load(self, rows: Rows, fill: int) -> Tensor:
        """As `Lane.load`."""
        if isinstance(rows, Tensor):
            self._reading = [rows]
            return _filled(rows.permute(0, 2, 3, 1), fill)
        there = [(n, row) for n, row in enumerate(rows) if isinstance(row, Tensor)]
        self._reading = [row for _, row in there]
        if len(there) == len(rows):
            return _filled(torch.stack(self._reading).permute(0, 2, 3, 1), fill)
        return self._staged(rows, there, fill)

    def _staged(self, rows: Sequence[Any] | NDArray[np.uint8], there: list[tuple[int, Tensor]], fill: int) -> Tensor:
        """Arrays through pinned memory, and tensors from where they are, in their order."""
        slot = self._slots[self._turn]
        shape = next(row.shape for row in rows if not isinstance(row, Tensor))
        if slot.room(fill, shape):
            # New memory may be what the network has just done with, as far as the allocator goes, and is still writing to.
            self._copies.wait_stream(self._compute)
        self._turn = (self._turn + 1) % len(self._slots)
        slot.copied.synchronize()
        host = slot.host.numpy()
        for number, row in enumerate(rows):
            if not isinstance(row, Tensor):
                host[number] = row
        host[len(rows) : fill] = 0
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(slot.read)
            _copy(slot.there[:fill], slot.host[:fill])
            slot.copied.record(self._copies)
        self._compute.wait_event(slot.copied)
        if there:
            numbers = torch.tensor([number for number, _ in there], device=self._device)
            slot.there.index_copy_(0, numbers, torch.stack(self._reading).permute(0, 2, 3, 1))
        self._last = slot
        return slot.there[:fill]

    def loaded(self) -> None:
        """As `Lane.loaded`."""
        if self._last is not None:
            self._last.read.record(self._compute)
            self._last = None
        if self._reading:
            read = _event()
            read.record(self._compute)
            self._held.append((read, self._reading))
            self._reading = []
        while self._held and self._held[0][0].query():  # type: ignore[no-untyped-call]  # as of torch 2.14
            self._held.popleft()

    def fetch(self, made: Sequence[Tensor]) -> Fetched:
        """As `Lane.fetch`."""
        return _Coming(made, self._compute)

    def release(self) -> None:
        """As `Lane.release`."""
        torch.cuda.synchronize(self._device)
        self._reading = []
        self._held.clear()
        self._slots = [_Slot(self._device) for _ in range(SLOTS)]
