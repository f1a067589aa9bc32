"""Weights from the Hugging Face hub, where they are asked for by name: ``--weights hub:`` or ``hub:<owner>/<name>``.

Nothing else ever reaches for the network. Files are kept in the hub's own cache (`HF_HOME`), and what is there is used
without asking the network again; `HF_HUB_OFFLINE=1` forbids it. Only safetensors are fetched: they hold no code.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from outcrop.embed.presets import PRESETS, TIMM, Preset
from outcrop.schema.errors import WeightsError

PREFIX = "hub:"
FILE = "model.safetensors"

_log = logging.getLogger(__name__)


def asked_for(weights: Path | None) -> bool:
    """Whether a `--weights` means the hub."""
    return weights is not None and str(weights).startswith(PREFIX)


def model_of(weights: Path) -> str | None:
    """The model that a ``hub:<owner>/<name>`` is of; None if the name does not say."""
    repository = _repository(weights)[0]
    for preset in PRESETS.values():
        if preset.hub == repository:
            return preset.name
    owner, _, name = repository.partition("/")
    return TIMM + name if owner == "timm" and name else None


def fetch(preset: Preset, weights: Path) -> Path:
    """The checkpoint of a preset on the hub, downloaded if not cached; a download is announced.

    `weights` is ``hub:`` (the preset's own repository) or ``hub:<owner>/<name>[@<revision>]``. Raises `WeightsError` where
    it does not exist, belongs to another preset, or the hub cannot be reached.
    """
    repository, revision = _repository(weights)
    repository = repository or preset.hub
    if not repository:
        raise WeightsError(f"timm names no weights of {preset.name} on the hub; give --weights FILE")
    for other in PRESETS.values():
        if other.hub == repository != preset.hub:
            raise WeightsError(
                f"{PREFIX}{repository} holds the weights of {other.name}, not {preset.name}; use --model {other.name}"
            )
    return _cached(repository, revision) or _downloaded(repository, revision, preset)


def _repository(weights: Path) -> tuple[str, str | None]:
    repository, _, revision = str(weights).removeprefix(PREFIX).partition("@")
    if repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise WeightsError(
            f"{weights}: the hub's repositories are named <owner>/<name>, as in {PREFIX}timm/resnet50.a1_in1k"
        )
    return repository, revision or None


def _cached(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, FILE, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _downloaded(repository: str, revision: str | None, preset: Preset) -> Path:
    from huggingface_hub import hf_hub_download

    _log.warning("downloading %s of %s from the Hugging Face hub (licence: %s)", FILE, repository, preset.licence)
    try:
        return Path(hf_hub_download(repository, FILE, revision=revision))
    except Exception as error:  # the hub's client lets through the errors of the HTTP library it uses
        cause = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{PREFIX}{repository} cannot be fetched ({cause}); give --weights FILE") from error
