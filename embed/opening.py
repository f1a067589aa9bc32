"""Opens the encoder that belongs to an existing embedding space, and refuses one that only looks like it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from outcrop.embed.encoder import Encoder, Pixels, Vectors, describe_space
from outcrop.embed.features import Features
from outcrop.embed.images import Decoded, fit_to
from outcrop.embed.protocol import OpenEncoder
from outcrop.embed.turning import CropSampler
from outcrop.schema.errors import SpaceMismatch, WeightsError
from outcrop.schema.space import Space


def locate_for_space(
    space: Space, *, weights: Path | None = None, hint: str = "", search: Sequence[Path] = ()
) -> Path | None:
    """Where to look for a space's weights: as given, else where they were found when the space was made, else
    None (search).

    Raises:
        SpaceMismatch: weights are found, but they are not the ones that made the space.
        WeightsError: no weights are found.
    """
    if weights is None and hint and Path(hint).exists():
        weights = Path(hint)
    try:
        found = describe_space(space.model, weights, search, space.size, space.fit, space.pooling)
    except WeightsError as error:
        raise WeightsError(f"{error} (the collection's vectors were made by {space})") from None
    if found.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the weights found for {space.model} are not the ones that made the collection ({space.difference(found)}); "
            "give the same --weights FILE, or ingest into another --collection"
        )
    return weights


def open_for_space(
    space: Space,
    *,
    weights: Path | None = None,
    hint: str = "",
    search: Sequence[Path] = (),
    device: str = "auto",
    precision: str = "auto",
    batch: int = 32,
) -> Encoder:
    """The encoder whose vectors may be compared with those of `space`; see `locate_for_space` and
    `Encoder.open`."""
    weights = locate_for_space(space, weights=weights, hint=hint, search=search)
    return Encoder.open(
        space.model,
        weights=weights,
        search=search,
        size=space.size,
        fit=space.fit,
        pooling=space.pooling,
        device=device,
        precision=precision,
        batch=batch,
    )


class LazyEncoder:
    """An encoder that is opened by the first picture: a run that finds everything unchanged never waits for
    torch.

    `space` is known at once; `opened` is called with the encoder when it is there. Threads may share it.
    """

    def __init__(
        self,
        space: Space,
        open_encoder: Callable[[], OpenEncoder],
        opened: Callable[[OpenEncoder], None] | None = None,
    ) -> None:
        self.space = space
        self._open, self._opened = open_encoder, opened
        self._encoder: OpenEncoder | None = None
        self._lock = threading.Lock()

    def prepare(self, decoded: Decoded) -> Pixels:
        """As `Encoder.prepare`; opens nothing."""
        return fit_to(decoded.image, self.space.size, self.space.fit)

    def sampler(self, decoded: Decoded) -> CropSampler:
        """As `Encoder.sampler`."""
        return self._now().sampler(decoded)

    def encode(self, pixels: Pixels) -> Vectors:
        """As `Encoder.encode`."""
        return self._now().encode(pixels)

    def features(self, pixels: Pixels) -> Features:
        """As `Encoder.features`."""
        return self._now().features(pixels)

    @property
    def batch(self) -> int:
        """As `Encoder.batch`; opens the encoder, which may have to try."""
        return self._now().batch

    def close(self) -> None:
        """Closes the encoder, if a picture opened one."""
        with self._lock:
            if self._encoder is not None:
                self._encoder.close()
                self._encoder = None

    def _now(self) -> OpenEncoder:
        with self._lock:
            if self._encoder is None:
                encoder = self._open()
                if encoder.space.fingerprint != self.space.fingerprint:
                    raise SpaceMismatch(f"the encoder is of another space: {self.space.difference(encoder.space)}")
                self._encoder = encoder
                if self._opened is not None:
                    self._opened(encoder)
            return self._encoder
