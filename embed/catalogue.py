"""The models there are, and whether their weights are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.embed import hub
from outcrop.embed.models import find_preset
from outcrop.embed.presets import PRESETS, Preset
from outcrop.embed.weights import locate
from outcrop.schema.errors import WeightsError


@dataclass(frozen=True)
class ModelEntry:
    """A model, as listed.

    `size` is the default input (height, width) and `patch` the side of a patch in pixels (None: convolutional); `parameters`
    counts the network's numbers; `files` are the names that its weights are looked for under, `hub` where
    ``--weights hub:`` downloads them, `weights` the file that would be used, and `problem` why there is none.
    """

    model: str
    dim: int
    patch: int | None
    parameters: int
    size: tuple[int, int]
    pooling: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    files: tuple[str, ...]
    hub: str
    weights: str | None
    problem: str


def list_models(name: str | None = None, weights: Path | None = None, search: Sequence[Path] = ()) -> list[ModelEntry]:
    """Every preset, or the one model of a name (``timm:…`` too), with its weights where they are found.

    `weights` and `search` are as in `embed.weights.locate`; the network is not asked. Raises `WeightsError` for an unknown
    name.
    """
    presets = list(PRESETS.values()) if name is None else [find_preset(name)]
    places = [weights] if weights is not None and not hub.asked_for(weights) else list(search)
    return [_entry(preset, places) for preset in presets]


def _entry(preset: Preset, places: Sequence[Path]) -> ModelEntry:
    found, problem = None, ""
    try:
        found = str(locate(preset, None, places))
    except WeightsError as error:
        problem = str(error)
    return ModelEntry(
        preset.name,
        preset.dim,
        preset.patch,
        preset.parameters,
        preset.size,
        preset.pooling,
        preset.mean,
        preset.std,
        preset.licence,
        tuple(f"{pattern}.pth" for pattern in preset.filenames),
        preset.hub,
        found,
        problem,
    )
