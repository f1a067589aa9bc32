"""Opens the encoder that belongs to a collection that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outcrop.schema.errors import SpaceMismatch
from outcrop.schema.registry import weights_search
from outcrop.schema.settings import Settings

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder
    from outcrop.store.collection import Collection


def open_encoder(settings: Settings, collection: Collection) -> Encoder:
    """The encoder that made the collection's vectors.

    Raises:
        SpaceMismatch: a model or weights are asked for that are not the collection's.
        WeightsError: its weights are not found.
    """
    from outcrop.embed.models import find
    from outcrop.embed.opening import open_for_space

    space = collection.space
    if settings.model is not None and find(settings.model).name != space.model:
        raise SpaceMismatch(
            f"collection {collection.name!r} holds vectors of {space.model}, not of {settings.model}; "
            "leave --model (OUTCROP_MODEL) out, or choose another --collection"
        )
    if settings.pooling is not None and settings.pooling != space.pooling:
        raise SpaceMismatch(
            f"collection {collection.name!r} holds vectors pooled by {space.pooling}, not by {settings.pooling}; "
            "leave --pooling (OUTCROP_POOLING) out, or choose another --collection"
        )
    return open_for_space(
        space,
        weights=settings.weights,
        hint=collection.weights_hint,
        search=weights_search(settings.registry),
        device=settings.device.split(",")[0],  # a query is one batch
        precision=settings.precision,
    )


def open_model(settings: Settings, size: int | None = None) -> Encoder:
    """The encoder of the settings' model (else the one that the weights are named as, else that of new collections), without a
    collection.

    Raises:
        WeightsError: unknown model, or no weights.
    """
    from outcrop.embed.encoder import Encoder
    from outcrop.embed.presets import NEW_MODEL
    from outcrop.embed.weights import model_of

    return Encoder.open(
        settings.model or model_of(settings.weights) or NEW_MODEL,
        weights=settings.weights,
        search=weights_search(settings.registry),
        size=size,
        device=settings.device.split(",")[0],
        precision=settings.precision,
    )
