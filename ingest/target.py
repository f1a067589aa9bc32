"""Opens what an ingest writes to: the encoder, and the collection of the encoder's space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.embed.encoder import describe_space
from outcrop.embed.models import find
from outcrop.embed.opening import locate_for_space
from outcrop.embed.presets import NEW_MODEL
from outcrop.embed.weights import model_of
from outcrop.schema.errors import InputError, SpaceMismatch, WeightsError
from outcrop.schema.registry import weights_search
from outcrop.schema.settings import Settings
from outcrop.schema.space import Fit, Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

if TYPE_CHECKING:
    from outcrop.embed.protocol import OpenEncoder


def target_space(
    settings: Settings, found: Collection | None, size: int | None = None, fit: Fit | None = None
) -> tuple[Space, Path | None]:
    """The space to ingest into, and the weights to open: the collection's own unless a model is asked for.

    Raises:
        SpaceMismatch: what is asked for is not the collection's space.
        WeightsError: unknown model, or no weights.
    """
    search = weights_search(settings.registry)
    asked = (settings.model, settings.pooling, size, fit)
    if found is not None and all(value is None for value in asked):
        return found.space, locate_for_space(
            found.space, weights=settings.weights, hint=found.weights_hint, search=search
        )
    own = found.space if found is not None else None
    model = settings.model or (own.model if own is not None else model_of(settings.weights) or NEW_MODEL)
    weights, pooling = settings.weights, settings.pooling
    if found is not None and own is not None and find(model).name == own.model:
        if weights is None and found.weights_hint and Path(found.weights_hint).exists():
            weights = Path(found.weights_hint)
        space = describe_space(model, weights, search, size or own.size, fit or own.fit, pooling or own.pooling)
    else:
        space = describe_space(model, weights, search, size, fit, pooling)
    if found is not None:
        found.require(space)
    return space, weights


def open_encoder(settings: Settings, space: Space, weights: Path | None, batch: int) -> OpenEncoder:
    """The encoder of a space, on the device of the settings or, in a process each, on several; `batch` is for each."""
    from outcrop.embed.encoder import Encoder
    from outcrop.embed.sharded import ShardedEncoder, device_names

    devices = device_names(settings.device)
    options: dict[str, Any] = {
        "weights": weights,
        "search": weights_search(settings.registry),
        "size": space.size,
        "fit": space.fit,
        "pooling": space.pooling,
        "precision": settings.precision,
        "batch": batch,
        "compile": settings.compile,
    }
    if len(devices) > 1:
        return ShardedEncoder.open(space.model, devices=devices, **options)
    return Encoder.open(space.model, device=devices[0], **options)


def open_collection(
    store: Store, settings: Settings, space: Space, weights: Path | None, index: str | None
) -> Collection:
    """The collection of a space, made where it is missing (with the index asked for)."""
    from outcrop.embed.weights import locate

    hint = str(locate(find(space.model), weights, weights_search(settings.registry)).resolve())
    return Collection.ensure(store, settings.collection, space, index=index, weights=hint)


def space_of_tree(folder: Path, settings: Settings, found: Collection | None, dim: int | None) -> tuple[Space, bool]:
    """The space of vectors that lie in files, and whether its weights are at hand.

    What ``space.json`` beside them says; else the model asked for, with the weights that are found, or none; else the
    collection's own. `dim` is how many numbers the vectors have, None where no file tells.

    Raises:
        InputError: nothing tells the model, or its vectors are of another width.
        SpaceMismatch: the collection is of another space.
    """
    from outcrop.embed.models import find
    from outcrop.ingest.layouts import ELSEWHERE, read_space

    space = read_space(folder)
    at_hand = space is not None and space.weights_digest != ELSEWHERE
    if space is None and settings.model is None and found is not None:
        space, at_hand = found.space, found.space.weights_digest != ELSEWHERE
    if space is None:
        if settings.model is None:
            raise InputError(f"nothing in {folder} says which model made its vectors; give --model NAME")
        try:
            space, at_hand = describe_space(settings.model, settings.weights, weights_search(settings.registry)), True
        except WeightsError:
            if settings.weights is not None:
                raise
            preset = find(settings.model)  # an unknown model is an error all the same
            space = Space(
                model=preset.name,
                weights_digest=ELSEWHERE,
                size=preset.size,
                fit=preset.fit,
                mean=preset.mean,
                std=preset.std,
                pooling=preset.pooling,
                dim=preset.dim,
            )
    elif settings.model is not None and find(settings.model).name != space.model:
        raise SpaceMismatch(f"{folder} holds vectors of {space.model}, not of {settings.model}; leave --model out")
    if dim is not None and dim != space.dim:
        raise InputError(f"{folder} holds vectors of {dim} numbers, those of {space.model} have {space.dim}")
    if found is not None:
        found.require(space)
    return space, at_hand
