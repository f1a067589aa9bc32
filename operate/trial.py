"""A short trial of this machine: how fast it decodes photographs and encodes them, and what an ingest will be bound by."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from outcrop.operate.rates import Rates
from outcrop.schema.machine import cores
from outcrop.schema.settings import Settings
from outcrop.schema.space import Space

if TYPE_CHECKING:
    from outcrop.embed.protocol import PictureEncoder

SECONDS = 2.0
"""How long each rate is measured."""
SIDES = (4000, 3000)
"""Of the photograph that is decoded: a drone's, 12 megapixels."""
DEVICE_BATCH = 16
"""Files that the device decodes in one call."""
CPU_BATCH, GPU_BATCH = 4, 256
"""Pictures given to the encoder in one call; on a CPU a batch of a large model takes seconds."""


def measure(settings: Settings) -> Rates:
    """The rates of this machine with the model of the settings, on its device; about `SECONDS` for each.

    Raises:
        WeightsError: the model has no weights here. InputError: the device is not there.
    """
    from outcrop.embed.models import resolve
    from outcrop.embed.opening import open_encoder
    from outcrop.embed.sharded import device_names

    model = resolve(settings)
    device = _device_of(device_names(settings.device)[0])
    photograph = a_photograph()
    encoder = open_encoder(model, settings, batch=CPU_BATCH if device == "cpu" else 0)
    try:
        return Rates(
            model=model.preset.name,
            device=device,
            threads=cores(),
            megapixels=SIDES[0] * SIDES[1] / 1e6,
            decode=round(decoding_rate(photograph, model.space, cores()), 1),
            encode=round(encoding_rate(encoder, model.space, device), 1),
            device_decode=device_decoding_rate(photograph, device),
        )
    finally:
        encoder.close()


def _device_of(name: str) -> str:
    """The device that ``auto`` means here, as torch calls it."""
    from outcrop.embed.devices import choose_device

    return str(choose_device(name))


def a_photograph() -> bytes:
    """A JPEG of 12 megapixels with the detail of a real one (about 3 MB at quality 90, 4:2:0)."""
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (SIDES[1] // 12, SIDES[0] // 12, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize(SIDES, Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-6, 7, (*picture.shape[:2], 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90, subsampling=2)
    return file.getvalue()


def decoding_rate(photograph: bytes, space: Space, threads: int) -> float:
    """Photographs a second, decoded and fitted to the model's input on so many threads, as an ingest does it."""
    from outcrop.embed.crops import prepare
    from outcrop.embed.images import decode

    def one(data: bytes) -> None:
        prepare(decode(data, name="trial", at_least=space.size), space)

    with ThreadPoolExecutor(threads) as pool:
        return _rate(lambda: len(list(pool.map(one, repeat(photograph, threads)))))


def device_decoding_rate(photograph: bytes, device: str) -> float | None:
    """Photographs a second that the device's own decoder makes; None where the device is the CPU, or there is no decoder."""
    from outcrop.embed.decoding import find_decoder

    if not device.startswith("cuda"):
        return None
    decoder = find_decoder(device)
    if isinstance(decoder, str):
        return None
    return round(_rate(lambda: sum(each is not None for each in decoder.decode([photograph] * DEVICE_BATCH))), 1)


def encoding_rate(encoder: PictureEncoder, space: Space, device: str) -> float:
    """Pictures a second through the model, from the host's memory to vectors there."""
    count = CPU_BATCH if device == "cpu" else GPU_BATCH
    pixels = np.random.default_rng(0).integers(0, 256, (count, *space.size, 3), dtype=np.uint8)
    return _rate(lambda: len(encoder.encode(pixels)))


def _rate(batch: Callable[[], int]) -> float:
    """What `batch` makes a second, after a first call that warms up."""
    batch()
    made, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < SECONDS or not made:
        made += batch()
    return made / passed if passed else 0.0
