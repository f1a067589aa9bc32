"""Opens a model: on one device, on several, or when the first picture comes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from outcrop.embed.encoder import BATCH, Compile, Encoder, Vectors
from outcrop.embed.features import Features
from outcrop.embed.models import Model
from outcrop.embed.protocol import Pending, PictureEncoder
from outcrop.embed.sharded import ShardedEncoder, device_names
from outcrop.schema.errors import InputError, SpaceMismatch
from outcrop.schema.settings import Settings
from outcrop.schema.space import Space

if TYPE_CHECKING:
    from outcrop.embed.staging import Rows


class Asked(TypedDict):
    """What the settings ask of an encoder, on one device or on several."""

    precision: str
    batch: int
    compile: Compile
    memory: Path


TRIALS = "batches.json"
"""The file in the state folder that keeps which batch a device takes best."""


def open_encoder(
    model: Model, settings: Settings, batch: int = BATCH, *, expected: int | None = None
) -> PictureEncoder:
    """A model on the device of the settings or, in a process each, on several; `batch` is for each.

    `expected` pictures are to come: what pays only in long runs is left out of short ones. Raises what `Encoder.open` raises.
    """
    devices = device_names(settings.device)
    asked: Asked = {
        "precision": settings.precision,
        "batch": batch,
        "compile": settings.compile,
        "memory": settings.state / TRIALS,
    }
    if len(devices) == 1:
        return Encoder.open(model, device=devices[0], expected=expected, **asked)
    share = None if expected is None else expected // len(devices)
    return ShardedEncoder.open(model, devices=devices, expected=share, **asked)


def open_for_query(model: Model, settings: Settings) -> Encoder:
    """A model on the first device of the settings: a query is one batch, not worth a compiler or a second device."""
    return Encoder.open(model, device=device_names(settings.device)[0], precision=settings.precision)


class LazyEncoder:
    """An encoder that is opened by the first picture, or by `begin` while that is still to be read.

    A run that finds everything unchanged never waits for torch. `space` is known at once; `opened` is called with the encoder
    when it is there. Threads may share it. Where it cannot be opened, whoever asks for it gets the reason; it is tried once.
    """

    def __init__(
        self,
        space: Space,
        open_encoder: Callable[[], PictureEncoder],
        opened: Callable[[PictureEncoder], None] | None = None,
    ) -> None:
        self.space = space
        self._open, self._opened = open_encoder, opened
        self._encoder: PictureEncoder | None = None
        self._lock = threading.Lock()
        self._failed: Exception | None = None
        self._beginning: threading.Thread | None = None
        self._closed = False

    def begin(self) -> None:
        """Opens it in a thread of its own, unless somebody has begun; returns at once, and raises nothing: a picture will."""
        if self._beginning is None:
            self._beginning = threading.Thread(target=self._ahead, name="open", daemon=True)  # `close` waits for it
            self._beginning.start()

    def _ahead(self) -> None:
        with contextlib.suppress(Exception):  # kept, and raised where the encoder is asked for
            self._now(ahead=True)

    @property
    def is_open(self) -> bool:
        """Whether a picture has opened it."""
        return self._encoder is not None

    def encode(self, pixels: Rows) -> Vectors:
        """As `Encoder.encode`."""
        return self._now().encode(pixels)

    def submit(self, pixels: Rows) -> Pending:
        """As `Encoder.submit`; opening the encoder is waited for."""
        return self._now().submit(pixels)

    def features(self, pixels: Rows) -> Features:
        """As `Encoder.features`."""
        return self._now().features(pixels)

    @property
    def device(self) -> str:
        """As `Encoder.device`; opens the encoder."""
        return self._now().device

    @property
    def batch(self) -> int:
        """As `Encoder.batch`; opens the encoder, which may have to try."""
        return self._now().batch

    @property
    def in_flight(self) -> int:
        """As `Encoder.in_flight`; opens the encoder."""
        return self._now().in_flight

    def describe(self) -> str:
        """As `Encoder.describe`; opens the encoder."""
        return self._now().describe()

    def close(self) -> None:
        """Closes the encoder, if there is one; waits where it is being opened."""
        with self._lock:
            self._closed = True
            if self._encoder is not None:
                self._encoder.close()
                self._encoder = None
        if self._beginning is not None:
            self._beginning.join()

    def _now(self, *, ahead: bool = False) -> PictureEncoder:
        with self._lock:
            if self._failed is not None or (ahead and self._closed):
                raise self._failed or InputError("the encoder is closed")
            if self._encoder is None:
                try:
                    self._encoder = self._made()
                except Exception as error:
                    self._failed = error
                    raise
                if self._opened is not None:
                    self._opened(self._encoder)
            return self._encoder

    def _made(self) -> PictureEncoder:
        encoder = self._open()
        if encoder.space.fingerprint != self.space.fingerprint:
            raise SpaceMismatch(f"the encoder has a different space: {self.space.difference(encoder.space)}")
        return encoder
