"""Vocabularies on their way: a collection whose vectors are made with one is of use only where the vocabulary is too.

It lies in the state folder under its digest (`outcrop.embed.vocabulary`); an export leaves a copy beside its file, and an import
takes it from there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from outcrop.embed.vocabulary import SUFFIX, for_space, load
from outcrop.schema.errors import InputError, WeightsError
from outcrop.schema.files import whole_file
from outcrop.schema.settings import Settings
from outcrop.schema.space import Space


def missing(space: Space, settings: Settings) -> str:
    """What to say where the vocabulary of a space is not in the state folder; '' where it is, or the space has none."""
    try:
        if space.vocabulary is not None:
            for_space(space, settings.vocabularies_folder)
    except WeightsError as error:
        return str(error)
    return ""


def leave_beside(space: Space, settings: Settings, folder: Path) -> str:
    """Copies the vocabulary of a space into a folder of exports; returns a warning where that cannot be done, else ''."""
    if space.vocabulary is None:
        return ""
    if warning := missing(space, settings):
        return f"{warning}; until then the export can be imported but not asked with pictures"
    source = for_space(space, settings.vocabularies_folder)
    if folder.absolute() != source.parent.absolute():
        _copy(source, folder / source.name)
    return ""


def take_from_beside(space: Space, settings: Settings, file: Path) -> None:
    """Copies the vocabulary of a space from beside an export into the state folder, unless it is there already.

    Raises:
        InputError: it is in neither place. WeightsError: it is damaged.
    """
    if not missing(space, settings):
        return
    name = f"{space.vocabulary}{SUFFIX}"
    place = (file if file.is_dir() else file.absolute().parent) / name
    if not place.is_file():
        raise InputError(
            f"{file}: its vectors are pooled by {space.pooled_by}, and its vocabulary is neither {place} nor in "
            f"{settings.vocabularies_folder}; put {name} there (the export left it beside its file)"
        )
    load(place)  # a damaged one is refused
    _copy(place, settings.vocabularies_folder / name)


def _copy(source: Path, target: Path) -> None:
    with whole_file(target, parents=True) as temporary:
        shutil.copyfile(source, temporary)
