"""What decodes JPEGs on the devices of an encoder, and whether it is trusted: a first photograph is decoded there and on the CPU,
and the two are compared before a device takes any."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from outcrop.embed.images import decode
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.resident import DeviceReader, Undecoded, compare

if TYPE_CHECKING:
    from torch import Tensor

THREADS = 2
"""Threads that decode on devices: one waits for a decoder while the other cuts out what is embedded. More would wait for Python's
lock, also where there are several devices."""
BYTES_A_PIXEL = 16
"""A device has room for one pixel in hand for so many bytes of its memory, so that most of it is left to the network."""
ON_CPU = "JPEGs are decoded on the CPU: "
"""How the reasons begin."""
LIKE = 2.0
"""Grey levels by which the first photograph, decoded on the device and on the CPU, may differ on average; where decoders only
round otherwise they stay below 0.3."""
ALIKE = 0.99
"""The cosine of a photograph's two vectors below which the device is not trusted. EfficientNet-Lite0, the most sensitive of all,
stays above 0.996 on real photographs where the decoders differ in nothing but their rounding."""


class Readers:
    """The decoders of all devices that have one that is trusted. Threads may share them."""

    def __init__(self) -> None:
        self._all: list[DeviceReader] = []
        self._busy: list[int] = []
        self._taken: list[int] = []
        self._lock = threading.Lock()

    def add(self, reader: DeviceReader) -> None:
        """One more."""
        with self._lock:
            self._busy.append(0)
            self._taken.append(0)
            self._all.append(reader)

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def most(self) -> int:
        """The pixels of a batch that each of them takes."""
        return min(reader.most for reader in self._all)

    def staged(self, data: bytes) -> Tensor:
        """The bytes of a file where every device takes them from fastest."""
        return self._all[0].decoder.staged(data)

    @contextlib.contextmanager
    def least_busy(self) -> Iterator[DeviceReader]:
        """The one with the fewest batches in hand; of several, the one that has had the fewest."""
        with self._lock:
            number = min(range(len(self._all)), key=lambda each: (self._busy[each], self._taken[each]))
            self._busy[number] += 1
            self._taken[number] += 1
        try:
            yield self._all[number]
        finally:
            with self._lock:
                self._busy[number] -= 1


def find_reader(device: str, megapixels: int) -> DeviceReader | str:
    """What decodes on a device, with `megapixels` in hand, or fewer where its memory is small; or why nothing does."""
    from outcrop.embed.decoding import find_decoder

    found = find_decoder(device)
    if isinstance(found, str):
        return found
    pixels, memory = megapixels * 10**6, 0
    if device.startswith("cuda"):
        import torch

        memory = torch.cuda.get_device_properties(device).total_memory
        pixels = min(pixels, memory // BYTES_A_PIXEL)
    return DeviceReader(found, max(1, pixels // (THREADS + 1)), memory)


@dataclass(frozen=True)
class Said:
    """Whether a device's decoder is trusted, and a sentence about it."""

    trusted: bool
    text: str


def trusted(reader: DeviceReader, file: Undecoded, encoder: PictureEncoder) -> Said:
    """Tries a device's decoder on a photograph that the CPU decodes too.

    Raises:
        PictureError: the CPU cannot decode it.
    """
    decoded = decode(file.data, name="the first photograph", at_least=encoder.space.size)
    alone = replace(file, scale=_scale(file, encoder))
    found = compare(reader, alone, decoded, encoder.space, encoder.encode)
    name = reader.decoder.describe()
    if found.failure:
        return Said(False, f"{ON_CPU}{name} fails at the first photograph ({found.failure})")
    seen = (
        f"the first photograph differs by {found.difference:.2f} grey levels from the CPU's, cosine {found.cosine:.5f}"
    )
    if found.difference > LIKE or not found.cosine >= ALIKE:
        fix = f"{LIKE:g} levels and a cosine of {ALIKE:g} are allowed"
        return Said(False, f"{ON_CPU}{name} is not trusted, as {seen} ({fix})")
    return Said(True, f"JPEGs are decoded by {name} and on the CPU; {seen}")


def _scale(file: Undecoded, encoder: PictureEncoder) -> int:
    """The scale at which the whole of a photograph is decoded for an encoder, whatever was wanted of it."""
    from outcrop.embed.images import DRAFT_MARGIN
    from outcrop.embed.jpeg import scale_of

    height, width = encoder.space.size
    return scale_of((file.width, file.height), (DRAFT_MARGIN * width, DRAFT_MARGIN * height))
