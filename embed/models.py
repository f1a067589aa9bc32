"""Models by name, and one model resolved: its preset, the file of its weights, and the space of its vectors.

A command resolves its model once (`resolve`) and hands it on: to `outcrop.embed.encoder.Encoder.open`, and its space to the
collection. Weights are located and digested here and nowhere else; torch is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from outcrop.embed import vocabulary as vocabularies
from outcrop.embed import weights as checkpoint
from outcrop.embed.lean_torch import import_torch
from outcrop.embed.presets import ALIASES, NEW_MODEL, PRESETS, TIMM, Preset
from outcrop.schema.errors import InputError, SpaceMismatch, WeightsError, nearest
from outcrop.schema.places import place
from outcrop.schema.registry import weights_search
from outcrop.schema.settings import Settings
from outcrop.schema.space import AskedPooling, Fit, Pooling, Space

FITS = ("squash", "crop", "pad")

MIN_INPUT = 32
"""Pixels. Below this a convolutional network has no feature map left."""

DIGESTS = "weights.json"
"""The file in the state folder that keeps the digests of weights."""

Size = int | tuple[int, int]
"""The sides of a network's input in pixels: one for both, or (height, width)."""


@dataclass(frozen=True)
class Model:
    """A model that can be opened: what it is, the file of its weights, and the space that both make.

    `vocabulary` is the file of what was fitted to pictures, where the space has one.
    """

    preset: Preset
    weights: Path
    space: Space
    vocabulary: Path | None = None
    origin: Path | None = None
    """The object in an object store that the weights' file is a copy of, if it is one."""

    @property
    def hint(self) -> str:
        """Where the weights are, as a collection remembers it."""
        return str(self.origin or self.weights.resolve())


def find_preset(name: str) -> Preset:
    """The preset of that name (or of Meta's own spelling, such as ``dinov3_vith16plus``), or what timm knows of a
    model ``timm:<name>[.<tag>]``.

    Raises `WeightsError` that names the nearest.
    """
    if name.strip().startswith(TIMM):
        import_torch()
        from outcrop.embed.timm_models import describe

        return describe(name.strip().removeprefix(TIMM))
    key = name.strip().lower().replace("-", "_")
    if found := PRESETS.get(key) or ALIASES.get(key):
        return found
    hint = nearest(key, [*PRESETS, *ALIASES]) or f"; choose one of {', '.join(PRESETS)}, or timm:<name>"
    raise WeightsError(f"{name!r} is not a known model{hint}")


def find_model(
    name: str,
    weights: Path | None = None,
    search: Sequence[Path] = (),
    *,
    size: Size | None = None,
    fit: Fit | None = None,
    pooling: str | None = None,
    gsd: float | None = None,
    memory: Path | None = None,
    fitted: Path | None = None,
) -> Model:
    """The model of a name with its weights (`weights` and `search` are as in `outcrop.embed.weights.locate`).

    None for `size`, `fit` or `pooling` means the preset's own, for `gsd` pictures as they are; `memory` is as in
    `outcrop.embed.weights.digest`, and `fitted` is the folder of vocabularies. Raises `WeightsError` for an unknown model or
    missing weights, `InputError` for an impossible size, fit or pooling, or one that asks for a vocabulary which is not there.
    """
    asked = AskedPooling.parse(pooling) if pooling is not None else None
    plain = _unfitted(name, weights, search, size, fit, asked.name if asked is not None else None, memory, gsd)
    if asked is None or not asked.fitted:
        return plain
    if fitted is None:
        raise InputError(f"pooling {pooling!r} needs a vocabulary, and no folder of them is given")
    file = vocabularies.for_asked(asked, plain.space, fitted)
    return replace(plain, space=vocabularies.load(file).space, vocabulary=file)


def _unfitted(
    name: str,
    weights: Path | None,
    search: Sequence[Path],
    size: Size | None,
    fit: Fit | None,
    pooling: Pooling | None,
    memory: Path | None,
    gsd: float | None,
) -> Model:
    """The model as `find_model` finds it, without a vocabulary."""
    preset = find_preset(name)
    path = checkpoint.locate(preset, weights, search)
    space = make_space(preset, "", size, fit, pooling, gsd)  # what cannot be is refused before a large file is read
    here = checkpoint.on_disk(path, memory)
    known = space.model_copy(update={"weights_digest": checkpoint.digest(here, memory)})
    return Model(preset, here, known, origin=path if here != path else None)


def resolve(
    settings: Settings, space: Space | None = None, hint: str = "", *, size: Size | None = None, fit: Fit | None = None
) -> Model:
    """The model of a command. Call it once, and hand the result on.

    `space` is that of the collection, if there is one: its model is meant, and what the settings ask for must agree with it.
    `hint` is where its weights were found when it was made. Without a space it is the model asked for, else the one that the
    weights are named as, else that of new collections.

    Raises:
        SpaceMismatch: the collection is of another model, pooling, size or fit than asked for, or of different weights.
        WeightsError: unknown model, or no weights. InputError: an impossible size, fit or pooling.
    """
    if space is not None:
        _require(space, settings, size, fit)
        return resolve_space(space, settings, hint)
    name = settings.model or checkpoint.model_of(settings.weights) or NEW_MODEL
    search = weights_search(settings.registry)
    memory = settings.state / DIGESTS
    return find_model(
        name,
        settings.weights,
        search,
        size=size,
        fit=fit,
        pooling=settings.pooling,
        gsd=settings.gsd,
        memory=memory,
        fitted=settings.vocabularies_folder,
    )


def resolve_space(space: Space, settings: Settings, hint: str = "") -> Model:
    """The model that made the vectors of a space, whichever the settings ask for; of these only the weights count.

    Raises:
        SpaceMismatch: weights are found, but they are not the ones that made the space.
        WeightsError: no weights are found, or the vocabulary is missing.
    """
    weights = settings.weights
    if weights is None and hint and (hinted := place(hint)).exists():
        weights = hinted
    file = vocabularies.for_space(space, settings.vocabularies_folder) if space.vocabulary is not None else None
    search, memory = weights_search(settings.registry), settings.state / DIGESTS
    try:
        found = _unfitted(space.model, weights, search, space.size, space.fit, space.pooling, memory, space.gsd)
    except WeightsError as error:
        raise WeightsError(f"{error} (the collection's vectors were made by {space})") from None
    if file is not None:  # opening it shows whether it is the one of that digest
        made = space.model_copy(update={"weights_digest": found.space.weights_digest})
        found = replace(found, space=made, vocabulary=file)
    if found.space.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the weights found for {space.model} are not the ones that made the collection "
            f"({space.difference(found.space)}); give the same --weights FILE, or ingest into another --collection"
        )
    return found


def _require(space: Space, settings: Settings, size: Size | None, fit: Fit | None) -> None:
    """Refuses what is asked for where the collection's space is another."""
    model = find_preset(settings.model).name if settings.model is not None else None
    asked = (
        ("of ", space.model, model, "--model (OUTCROP_MODEL)"),
        ("pooled by ", space.pooled_by, _other_pooling(space, settings), "--pooling (OUTCROP_POOLING)"),
        ("of pictures of size ", _by(space.size), _by(_sides(size)), "--input-size"),
        ("of pictures fitted by ", space.fit, fit, "--fit"),
        ("of pictures at metres per pixel of ", space.gsd or "their own", settings.gsd, "--gsd (OUTCROP_GSD)"),
    )
    for how, own, wanted, option in asked:
        if wanted and wanted != own:
            raise SpaceMismatch(
                f"collection {settings.collection!r} holds vectors {how}{own}, not {wanted}; "
                f"leave {option} out, or choose another --collection"
            )


def _other_pooling(space: Space, settings: Settings) -> str | None:
    """The pooling that the settings ask for where it is not the space's."""
    asked = settings.pooling
    return None if asked is None or AskedPooling.parse(asked).means(space) else asked


def make_space(
    preset: Preset,
    digest: str,
    size: Size | None = None,
    fit: Fit | None = None,
    pooling: Pooling | None = None,
    gsd: float | None = None,
) -> Space:
    """The space of a preset's vectors with weights of a digest, as the network pools them: without a vocabulary, and of ``vlad``
    as wide as its tokens. Raises `InputError` for what the model cannot do.
    """
    if fit is not None and fit not in FITS:
        raise InputError(f"fit {fit!r}: choose squash, crop or pad{nearest(str(fit), FITS)}")
    if pooling == "native" and preset.pooling != "native":
        raise InputError(
            f"pooling 'native': {preset.name} has no other pooling of its own; choose token, avg, gem or vlad"
        )
    if pooling == "token" and not preset.class_token:
        raise InputError(f"pooling 'token': {preset.name} has no class token; choose avg, gem or vlad")
    if gsd is not None and fit not in (None, "crop"):
        raise InputError(f"fit {fit!r}: pictures at one ground scale (--gsd) keep their proportions; leave --fit out")
    own = pooling in (None, preset.pooling)
    return Space(
        model=preset.name,
        weights_digest=digest,
        size=_input_size(preset, size),
        fit=fit or ("crop" if gsd is not None else preset.fit),
        mean=preset.mean,
        std=preset.std,
        pooling=pooling or preset.pooling,
        dim=preset.dim if own else preset.token_dim or preset.dim,
        gsd=gsd,
    )


def _sides(size: Size | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size


def _by(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))


def _input_size(preset: Preset, size: Size | None) -> tuple[int, int]:
    height, width = _sides(size) or preset.size
    if min(height, width) < MIN_INPUT:
        raise InputError(f"size {height}x{width}: both sides must be at least {MIN_INPUT} pixels")
    patch = preset.patch or 1
    if height % patch or width % patch:
        near = "x".join(str(max(1, round(side / patch)) * patch) for side in (height, width))
        raise InputError(
            f"size {height}x{width}: {preset.name} needs multiples of {patch} pixels; the nearest is {near}"
        )
    return height, width
