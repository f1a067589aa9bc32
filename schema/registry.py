"""The registry (``data_key.json`` or YAML): where datasets lie, what their captures are, and which weights there are.

The layout is the one that aerial teams already keep::

    {"datasets": {"jamshill_image": {
        "root": "01_02_jamshill_data_image",
        "folder_template": "{capture_id}",
        "filename_template": "{capture_id}_{frame:04d}.jpg",
        "images": {"250918092555_300": 300}}},
     "weights": {"dinov3_weights": {}}}

A capture's value is its number of frames, ``"all"``, or an object with ``frames``, ``altitude`` (metres), ``folder``, ``label``.
This module reads and validates the text; `outcrop.schema.frames` finds the files.
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from outcrop.schema.documents import first_complaint, read_document
from outcrop.schema.errors import InputError, RegistryError, nearest
from outcrop.schema.films import seconds_of
from outcrop.schema.places import below

TEMPLATE_FIELDS = ("capture_id", "frame", "scene", "altitude", "label", "folder")
_SCENE_ALTITUDE = re.compile(r"(?P<scene>.+)_(?P<altitude>(?:0|[1-9]\d{0,4})(?:\.\d+)?)\Z")
_RANGE = re.compile(r"(\d+)\s*(?:\.\.|-)\s*(\d+)\Z")
MAX_FRAMES = 10_000_000


class _Checked(BaseModel):
    """Unknown fields are kept and ignored (registries carry notes), unless one looks like a misspelt known field."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _no_misspelt_field(cls, values: Any) -> Any:
        if isinstance(values, dict):
            absent = [name for name in cls.model_fields if name not in values]
            for name in values:
                # 'alt' is taken for a misspelt 'altitude', the note 'date' is not
                if name not in cls.model_fields and (hint := nearest(str(name), absent, cutoff=0.54)):
                    raise ValueError(f"unknown field {name!r}{hint}")
        return values


_FRAMES: dict[str, Any] = {
    "anyOf": [
        {"const": "all"},
        {"type": "integer", "minimum": 0, "maximum": MAX_FRAMES},
        {"type": "string", "pattern": r"^\s*[0-9]+\s*(\.\.|-)\s*[0-9]+\s*$"},
        {"type": "array", "items": {"type": "integer", "minimum": 0}},
    ]
}
Frames = Annotated[int | Literal["all"] | tuple[int, ...], WithJsonSchema(_FRAMES)]
"""Frames as they are written: a count, ``"all"``, a range such as ``"1..40"``, or a list of numbers."""


class Capture(_Checked):
    """One flight or sweep of a dataset.

    `frames` is a count, ``"all"`` files that fit the template, or the frame numbers themselves (a list, or ``"1..40"``);
    `altitude` is in metres above ground; `folder` and `label` override what the templates would say.
    """

    frames: Frames = "all"
    altitude: float | None = Field(default=None, ge=0, le=100_000, allow_inf_nan=False)
    folder: str | None = None
    label: str | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A capture may be written as its frames alone, or as null for all of them."""
        return {"anyOf": [*_FRAMES["anyOf"], {"type": "null"}, handler(core)]}

    @field_validator("frames", mode="before")
    @classmethod
    def _frames(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("frames is true or false; give a count, a list of numbers, a range such as 1..40, or all")
        if isinstance(value, str) and (match := _RANGE.match(value.strip())):
            first, last = int(match[1]), int(match[2])
            if first > last:
                raise ValueError(f"frames {value!r} run backwards; write {last}..{first}")
            if last - first >= MAX_FRAMES:
                raise ValueError(f"frames {value!r} are more than {MAX_FRAMES}")
            return tuple(range(first, last + 1))
        return value

    @field_validator("frames")
    @classmethod
    def _possible(cls, value: Any) -> Any:
        if isinstance(value, int) and not 0 <= value <= MAX_FRAMES:
            raise ValueError(f"a count of frames must be between 0 and {MAX_FRAMES}, got {value}")
        if isinstance(value, tuple):
            if any(v < 0 for v in value):
                raise ValueError("frame numbers must not be negative")
            return tuple(sorted(set(value)))
        return value


class Dataset(_Checked):
    """One dataset: its root folder (relative to the datasets folder), its templates and its captures.

    With ``files: any`` there are no templates: every photograph below the root counts, its folder is its capture, and `images`
    may state altitudes and labels of such captures (see `outcrop.schema.any_files`). `positions` is a file with the places of
    the photographs, relative to the root (see `outcrop.schema.positions`). With `films` (``1s``), the films below the root
    belong to it too, one frame every so often. `focal_length` is that of the photographs that do not state theirs, in
    millimetres on film 36 mm wide: collections with a ground scale need it (see `outcrop.schema.ground`). `terrain` is a terrain
    model below the root, a raster of heights in metres: photographs that state an altitude above sea level have their heights
    above the ground by it.
    """

    root: str
    files: Literal["template", "any"] = "template"
    positions: str | None = None
    terrain: str | None = None
    films: str | None = None
    focal_length: float | None = Field(default=None, gt=0, le=10_000, allow_inf_nan=False)
    folder_template: str = "{capture_id}"
    filename_template: str = "{capture_id}_{frame:04d}.jpg"
    images: dict[str, Capture] = Field(default_factory=dict)

    @field_validator("images", mode="before")
    @classmethod
    def _captures(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("images maps each capture to its number of frames")
        captures = {}
        for name, capture in value.items():
            name = _checked_name(name, "capture")
            if name in captures:
                raise ValueError(f"duplicate capture {name!r}")
            captures[name] = (
                capture if isinstance(capture, (dict, Capture)) else {"frames": "all" if capture is None else capture}
            )
        return captures

    @field_validator("folder_template", "filename_template")
    @classmethod
    def _template(cls, template: str) -> str:
        try:
            pieces = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"template {template!r}: {error}") from None
        for _, name, spec, conversion in pieces:
            if name is None:
                continue
            if name not in TEMPLATE_FIELDS:
                raise ValueError(
                    f"template {template!r} uses unknown field {{{name}}}{nearest(name, TEMPLATE_FIELDS)} "
                    f"(known: {', '.join(TEMPLATE_FIELDS)})"
                )
            if conversion or (spec and not re.fullmatch(r"0?\d{0,3}d?", spec)):
                raise ValueError(
                    f"template {template!r}: {{{name}:{spec}}} is not supported; only widths such as {{frame:04d}} are"
                )
            if spec and name != "frame":
                raise ValueError(f"template {template!r}: only {{frame}} can have a width")
        _stays_below(
            template.format(**{name: 0 if name == "frame" else "x" for name in TEMPLATE_FIELDS}),
            f"template {template!r}",
        )
        return template

    @field_validator("filename_template")
    @classmethod
    def _has_frame(cls, template: str) -> str:
        if "frame" not in {name for _, name, _, _ in string.Formatter().parse(template)}:
            raise ValueError(
                f"filename_template {template!r} has no {{frame}}, so all frames would be one file; add {{frame:04d}}"
            )
        return template

    @field_validator("root", "positions", "terrain")
    @classmethod
    def _root(cls, root: str | None, info: ValidationInfo) -> str | None:
        if root is not None:
            _stays_below(root, str(info.field_name))
        return root

    @field_validator("films")
    @classmethod
    def _films(cls, every: str | None) -> str | None:
        if every is not None:
            try:
                seconds_of(every, "films")
            except InputError as error:
                raise ValueError(str(error)) from None
        return every

    @model_validator(mode="after")
    def _any_files_have_no_templates(self) -> Self:
        if self.films is not None and self.files != "any":
            raise ValueError(
                'films belong to a dataset with files "any" only; write "files": "any", or leave films out'
            )
        if self.files == "any":
            if given := self.model_fields_set & {"folder_template", "filename_template"}:
                raise ValueError(f'files "any" and {min(given)} exclude each other; leave one of them out')
            for name, capture in self.images.items():
                if capture.frames != "all" or capture.folder is not None:
                    raise ValueError(
                        f'with files "any" all photographs of a folder are its capture; of {name!r} give altitude and label only'
                    )
        return self

    def folder(self, capture_id: str) -> PurePosixPath:
        """The folder of a capture, relative to the dataset's root.

        Raises:
            RegistryError: when the name would leave the root.
        """
        capture = self.images[capture_id]
        text = (
            capture.folder
            if capture.folder is not None
            else self.folder_template.format(frame=0, **self.template_values(capture_id))
        )
        try:
            _stays_below(text, f"the folder of capture {capture_id!r}")
        except ValueError as error:
            raise RegistryError(str(error)) from None
        return PurePosixPath(text)

    def filename(self, capture_id: str, frame: int) -> PurePosixPath:
        """The path of one frame within its capture's folder."""
        return PurePosixPath(self.filename_template.format(frame=frame, **self.template_values(capture_id)))

    def template_values(self, capture_id: str) -> dict[str, str]:
        """What a capture puts into the templates' fields, `frame` excepted."""
        capture = self.images[capture_id]
        scene, altitude = split_capture(capture_id)
        label = capture.label if capture.label is not None else altitude
        folder = capture.folder if capture.folder is not None else capture_id
        return {"capture_id": capture_id, "scene": scene, "altitude": altitude, "label": label, "folder": folder}

    def altitude(self, capture_id: str) -> float | None:
        """Metres above ground: as stated, else from a name ``<scene>_<altitude>``, else None."""
        stated = self.images[capture_id].altitude
        if stated is not None:
            return stated
        named = split_capture(capture_id)[1]
        return float(named) if named else None


class Registry(_Checked):
    """The whole registry; `weights` is kept as it stands (groups of names to files or folders)."""

    datasets: dict[str, Dataset]
    weights: dict[str, Any] = Field(default_factory=dict)

    @field_validator("datasets", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("datasets maps each dataset's name to its root, templates and images")
        datasets: dict[str, Any] = {}
        for name, dataset in value.items():
            name = _checked_name(name, "dataset")
            if name in datasets:
                raise ValueError(f"duplicate dataset {name!r}")
            datasets[name] = dataset
        return datasets

    def dataset(self, name: str) -> Dataset:
        """The dataset of this name.

        Raises:
            RegistryError: naming the nearest dataset there is.
        """
        name = unicodedata.normalize("NFC", name)
        if name not in self.datasets:
            known = ", ".join(sorted(self.datasets)) or "none"
            raise RegistryError(
                f"unknown dataset {name!r}{nearest(name, self.datasets) or f'; the registry has: {known}'}"
            )
        return self.datasets[name]

    def weight_paths(self, base: Path) -> list[Path]:
        """Every file or folder named under `weights` that exists, relative names taken from `base`.

        Keys may be folders: ``{"dinov3_weights": {"01_ViT_LVD-1689M": {"vits16": "dinov3_vits16.pth"}}}`` names the file, the
        folder ``01_ViT_LVD-1689M`` and the file in it, also below a folder ``dinov3_weights``.
        """
        found: list[Path] = []

        def walk(value: Any, places: list[Path]) -> None:
            if isinstance(value, str) and value:
                found.extend(path for place in places if _there(path := below(place, value)))
            elif isinstance(value, dict):
                for name, inner in value.items():
                    inside = [place / str(name) for place in places if _there(place / str(name))]
                    folders = [folder for folder in inside if folder.is_dir()]
                    found.extend(folders)
                    walk(inner, [*places, *folders])
            elif isinstance(value, list):
                for inner in value:
                    walk(inner, places)

        walk(self.weights, [base])
        return list(dict.fromkeys(found))


class FolderRegistry(Registry):
    """What stands in for a registry where a folder is ingested without one: any name is that of the folder as it stands."""

    def dataset(self, name: str) -> Dataset:
        """The folder, as a dataset in which any file counts."""
        return Dataset(root=".", files="any")


def registry_at(registry: Path, datasets: Path) -> Registry:
    """The registry in a file; where both are one folder, what stands in for a registry of that folder.

    Raises:
        RegistryError: see `read_registry`.
    """
    return FolderRegistry(datasets={}) if registry == datasets and not registry.is_file() else read_registry(registry)


def declares(registry: Path, name: str) -> bool:
    """Whether a registry file declares a dataset; not where there is no such file.

    Raises:
        RegistryError: the file cannot be read.
    """
    return registry.exists() and unicodedata.normalize("NFC", name) in read_registry(registry).datasets


def _there(path: Path) -> bool:
    """Whether a path exists; a note that is too long or too odd to be a path is not one."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _checked_name(name: Any, what: str) -> str:
    """A name in NFC; refused where no file system, filter or key could hold it."""
    name = unicodedata.normalize("NFC", str(name))
    if not name or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise ValueError(f"{name!r} is not a valid name for a {what}")
    return str(name)


def split_capture(capture_id: str) -> tuple[str, str]:
    """``250918092555_300`` -> ``("250918092555", "300")``; a name without altitude -> ``(name, "")``."""
    match = _SCENE_ALTITUDE.match(capture_id)
    return (match["scene"], match["altitude"]) if match else (capture_id, "")


def read_registry(path: Path) -> Registry:
    """Reads and validates a registry file (JSON; YAML by the endings ``.yaml`` and ``.yml``).

    The file is read once for as long as its size, time and inode stay as they are; the registry is shared and never changed.

    Raises:
        RegistryError: the file is missing or unreadable, or a field is wrong; file, field and fix are named.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _read(path, ())
    return _read(path, (status.st_size, status.st_mtime_ns, status.st_ino, path.absolute()))


@functools.lru_cache(maxsize=8)
def _read(path: Path, state: tuple[object, ...]) -> Registry:
    values = read_document(path, "registry", RegistryError, "give --registry FILE or set OUTCROP_REGISTRY").values
    if not isinstance(values, dict):
        raise RegistryError(f'registry {path} is not an object; it must begin with {{"datasets": ...}}')
    if "datasets" not in values:
        raise RegistryError(f"registry {path} has no field 'datasets'{nearest('datasets', map(str, values))}")
    try:
        return Registry.model_validate(values)
    except ValidationError as error:
        raise RegistryError(f"registry {path}: {first_complaint(error)}") from None


def weights_search(path: Path) -> list[Path]:
    """Files and folders that a registry file names for weights; none where it cannot be read (who needs it says so)."""
    try:
        return read_registry(path).weight_paths(path.parent)
    except RegistryError:
        return []


def _stays_below(text: str, what: str) -> None:
    """Refuses a relative path that is absolute or climbs out of its root (by either system's rules)."""
    for pure in (PurePosixPath(text), PureWindowsPath(text)):
        if pure.is_absolute() or pure.drive or pure.root or ".." in pure.parts:
            raise ValueError(f"{what} leaves its root ({text!r}); give a path below it, without '..'")
    if any(c == "\0" or unicodedata.category(c) == "Cs" for c in text):
        raise ValueError(f"{what} contains a character that paths cannot have")
