"""The name of a dataset that a folder is: its own, and not that of another dataset of the registry or the collection."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from outcrop.schema.dataset_files import dataset_files
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.schema.frames import on_disk
from outcrop.schema.item import part
from outcrop.schema.registry import declares, read_registry
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.folders import FOLDERS


def require_own_name(name: str, folder: Path, collection: Collection | None, settings: Settings) -> None:
    """Refuses a name under which the registry or the collection already knows other photographs.

    A folder that moved keeps its name: the one that the collection remembers is then not there any more.

    Raises:
        InputError: the name is another dataset's, or cannot be part of a key. RegistryError: the registry cannot be read.
    """
    part(name)
    if declares(settings.registry, name):
        dataset = read_registry(settings.registry).dataset(name)
        root = on_disk(settings.datasets_folder, PurePosixPath(dataset.root).parts)
        if dataset.files != "any" or root is None or not _same(root, folder):
            raise InputError(
                f"the registry {settings.registry} declares a dataset {name!r}: type `ingest dataset {name}` for it, "
                "or give the folder another --name, or take the old folder away if its photographs moved"
            )
    if collection is None:
        return
    known = FOLDERS.get(collection, name)
    if known is not None and not _same(known.folder, folder) and known.folder.is_dir():
        raise InputError(
            f"dataset {name!r} of collection {collection.name!r} is the folder {known.folder}; "
            f"give {folder} another --name, or take the old folder away if its photographs moved"
        )


def add_to_registry(file: Path, name: str, folder: Path, positions: Path | None = None) -> str:
    """Writes a folder as it stands into a registry (JSON; a new one, or one that has no such dataset); returns what to type next.

    The captures are listed with the altitudes that names give, for whoever knows them better.

    Raises:
        InputError: the folder is not below the registry's, the registry has other photographs under this name, or is YAML.
    """
    base, root = file.absolute().parent, folder.absolute()
    next_step = (
        f"the registry {file} declares {name!r}: from now on, `ingest dataset {name} --registry {file}` does the same"
    )
    if not root.is_relative_to(base):
        raise InputError(
            f"{folder} is not below {base}; write the registry into a folder above it, such as {root.parent / file.name}"
        )
    if declares(file, name):
        known = read_registry(file).dataset(name)
        if known.files == "any" and (base / known.root).absolute() == root:
            return next_step
        raise InputError(f"the registry {file} has another dataset {name!r}; give another --name")
    if file.exists() and file.suffix.lower() in (".yaml", ".yml"):
        raise InputError(f"{file} is YAML, which is not rewritten; give a JSON file that is not there yet")
    found = dataset_files(root, name, root)
    captures = {key: {"altitude": capture.altitude} for key, capture in found.dataset.images.items()}
    entry: dict[str, object] = {"root": root.relative_to(base).as_posix(), "files": "any", "images": captures}
    if positions is not None and positions.absolute().is_relative_to(root):
        entry["positions"] = positions.absolute().relative_to(root).as_posix()
    values = json.loads(file.read_text(encoding="utf-8-sig")) if file.exists() else {"datasets": {}}
    values["datasets"][name] = entry
    with whole_file(file, what="the registry", fix="give another --write-registry") as temporary:
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return next_step


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
