"""Opens what an ingest writes to: the encoder, and the collection of the encoder's space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embed.encoder import describe_space
from embed.opening import locate_for_space
from embed.weights import model_of
from schema.registry import weights_search
from schema.settings import Settings
from schema.space import Fit, Space
from store.collection import Collection
from store.connection import Store

if TYPE_CHECKING:
    from embed.encoder import Encoder

NEW_MODEL = "dinov3_vits16"
"""The model of a new collection where none is asked for, and the name of the weights tells none."""


def target_space(
    settings: Settings, found: Collection | None, size: int | None = None, fit: Fit | None = None
) -> tuple[Space, Path | None]:
    """The space to ingest into, and the weights to open: the collection's own unless a model is asked for.

    Raises:
        SpaceMismatch: what is asked for is not the collection's space.
        WeightsError: unknown model, or no weights.
    """
    search = weights_search(settings.registry)
    if found is not None and settings.model is None and size is None and fit is None:
        return found.space, locate_for_space(
            found.space, weights=settings.weights, hint=found.weights_hint, search=search
        )
    model = settings.model or (found.space.model if found is not None else model_of(settings.weights) or NEW_MODEL)
    weights = settings.weights
    if found is not None and model == found.space.model:
        size_asked = size if size is not None else found.space.size
        fit = fit if fit is not None else found.space.fit
        if weights is None and found.weights_hint and Path(found.weights_hint).exists():
            weights = Path(found.weights_hint)
        space = describe_space(model, weights, search, size_asked, fit)
    else:
        space = describe_space(model, weights, search, size, fit)
    if found is not None:
        found.require(space)
    return space, weights


def open_encoder(settings: Settings, space: Space, weights: Path | None, batch: int) -> Encoder:
    """The encoder of a space."""
    from embed.encoder import Encoder

    return Encoder.open(
        space.model,
        weights=weights,
        search=weights_search(settings.registry),
        size=space.size,
        fit=space.fit,
        device=settings.device,
        precision=settings.precision,
        batch=batch,
    )


def open_collection(
    store: Store, settings: Settings, space: Space, weights: Path | None, index: str | None
) -> Collection:
    """The collection of a space, made where it is missing (with the index asked for)."""
    from embed.presets import find
    from embed.weights import locate

    hint = str(locate(find(space.model), weights, weights_search(settings.registry)).resolve())
    return Collection.ensure(store, settings.collection, space, index=index, weights=hint)
