"""Manifests (``manifest.json`` or YAML): what to embed, with which model, and where its files go; one file, one run.

The words are those that aerial teams' manifests use already::

    {"model": "dinov3_vitb16",
     "weights": "dinov3_weights.01_ViT_LVD-1689M",
     "datasets": {"jamshill_image": {"captures": {"250918092555_300": "1..300"}}},
     "image_groups": [{"dataset": "jamshill_image", "capture_id": "250918092555", "folder": "250918092555_300",
                       "label_token": "300", "indices": "1..300", "rotations": "0:360:30"}],
     "variants": ["raw", {"name": "subsample", "stride": 2}],
     "features": {"patch": true, "grid": 4},
     "run": {"generate_denseft": true},
     "output": {"root": "/exports/dinov3_embeds"}}

`datasets` are pictures of the registry, `image_groups` written references (turned and cropped pictures on disk). Every other
field has a default; an unknown field is an error that names its line and the nearest known one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from outcrop.schema.documents import Document, first_complaint, place_of, read_document
from outcrop.schema.errors import ManifestError, nearest
from outcrop.schema.places import below, place
from outcrop.schema.space import Fit

MAX_NUMBERS = 1_000_000
"""Frames or rotations that one field may name."""
WEIGHT_ENDINGS = (".pth", ".pt", ".bin", ".safetensors")
"""How names of files of weights end; what else `weights` says is a place in the registry."""
_RANGE = re.compile(r"(\d{1,18})\s*(?:\.\.|-)\s*(\d{1,18})\Z")
_STEPS = re.compile(r"(\d{1,4}(?:\.\d+)?):(\d{1,4}(?:\.\d+)?):(\d{1,4}(?:\.\d+)?)\Z")


class _Strict(BaseModel):
    # Unknown fields are found below, with their nearest; the JSON Schema says the same.
    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": False})

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for name in values:
                if name not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_field",
                        "unknown field {quoted}{hint} (known: {known})",
                        {
                            "field": str(name),
                            "quoted": repr(str(name)),
                            "hint": nearest(str(name), cls.model_fields),
                            "known": ", ".join(cls.model_fields),
                        },
                    )
        return values


def _numbers(value: Any) -> Any:
    """``"1..40"``, ``7`` and lists of both as sorted whole numbers; ``"all"`` as it is."""
    if value == "all":
        return value
    found: set[int] = set()
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, bool) or not isinstance(part, (int, str)):
            raise ValueError(f'{part!r} is not a valid frame; give "all", numbers, or ranges such as "1..40"')
        if isinstance(part, int):
            if part < 0:
                raise ValueError(f"frame {part} is negative")
            found.add(part)
            continue
        match = _RANGE.match(part.strip())
        if not match:
            raise ValueError(f'{part!r} is not a valid range of frames; write "1..40"')
        first, last = int(match[1]), int(match[2])
        if first > last:
            raise ValueError(f'frames {part!r} run backwards; write "{last}..{first}"')
        if last - first >= MAX_NUMBERS:
            raise ValueError(f"frames {part!r} are more than {MAX_NUMBERS}")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def _degrees(value: Any) -> Any:
    """``"0:360:30"`` (the end left out), ``90`` and lists of numbers as sorted degrees; ``"all"`` as it is."""
    if value == "all":
        return value
    if isinstance(value, str):
        match = _STEPS.match(value.strip())
        if not match:
            raise ValueError(f'{value!r} is not a valid range of rotations; write "0:360:30", or a list of degrees')
        start, stop, step = (float(part) for part in match.groups())
        if step <= 0 or not start < stop <= 360:
            raise ValueError(f"rotations {value!r}: the step must be above 0, the end after the start and at most 360")
        count = int((stop - start) / step - 1e-9) + 1
        if count > MAX_NUMBERS:
            raise ValueError(f"rotations {value!r} are more than {MAX_NUMBERS}")
        value = [round(start + n * step, 9) for n in range(count)]
    given = value if isinstance(value, (list, tuple)) else [value]
    for part in given:
        if isinstance(part, bool) or not isinstance(part, (int, float)) or not 0 <= part < 360:
            raise ValueError(f"{part!r} is not a valid rotation; it must be in [0, 360) degrees")
    return tuple(sorted({float(part) for part in given}))


_FRAME = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\s*[0-9]+\s*(\.\.|-)\s*[0-9]+\s*$"}]
_ROTATION = {"type": "number", "minimum": 0, "exclusiveMaximum": 360}
Numbers = Annotated[
    tuple[int, ...] | Literal["all"],
    BeforeValidator(_numbers),
    WithJsonSchema({"anyOf": [{"const": "all"}, *_FRAME, {"type": "array", "items": {"anyOf": _FRAME}}]}),
]
"""Frames as they are written: ``"all"``, ``7``, ``"1..40"``, or a list."""
Degrees = Annotated[
    tuple[float, ...] | Literal["all"],
    BeforeValidator(_degrees),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "all"},
                _ROTATION,
                {"type": "string", "pattern": r"^\s*[0-9.]+:[0-9.]+:[0-9.]+\s*$"},
                {"type": "array", "items": _ROTATION},
            ]
        }
    ),
]
"""Rotations as they are written: ``"all"``, ``90``, ``"0:360:30"``, or a list of degrees."""
_NAMES = {"type": "array", "items": {"type": "string"}}


def _or(short: dict[str, Any]) -> Any:
    """What adds a short way of writing to the JSON Schema of a model."""

    def schema(core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [short, handler(core)]}

    return schema


def _names_too(schema: dict[str, Any]) -> None:
    """Allows a list of names in the JSON Schema of a field that is a table of names."""
    table = {name: schema.pop(name) for name in ("type", "additionalProperties", "anyOf") if name in schema}
    schema["anyOf"] = [*table.pop("anyOf", [table]), _NAMES]


class DatasetPart(_Strict):
    """Which captures and frames of a registered dataset are meant; all of them by default.

    `captures` maps a capture to its frames: ``"all"``, ``"1..40"``, a number, or a list of both. A list of captures means
    all of their frames. `positions` is a file with the places of the photographs, relative to the manifest.
    """

    __get_pydantic_json_schema__ = _or({"anyOf": [{"const": "all"}, _NAMES]})

    captures: dict[str, Numbers] | Literal["all"] = Field(default="all", json_schema_extra=_names_too)
    positions: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"captures": value} if value == "all" or isinstance(value, list) else value

    @field_validator("captures", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, list):
            if not all(isinstance(name, str) for name in value):
                raise ValueError("captures must be names; write them in quotes")
            return dict.fromkeys(value, "all")
        return value


class ImageGroup(_Strict):
    """Written references of one capture: ``references_<dataset>/R<folder>/<capture_id>_<label_token>_<index>_rot###_crop##``.

    `indices` are the frames and `rotations` the degrees that are meant; all that lie there by default. `folder` is without
    the leading ``R`` (``<capture_id>_<label_token>`` by default); `label_token` is the altitude in metres.
    """

    dataset: str
    capture_id: str
    folder: str | None = None
    label_token: Annotated[str, WithJsonSchema({"type": ["string", "integer"]})] = ""
    indices: Numbers = "all"
    rotations: Degrees = "all"

    @field_validator("label_token", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Variant(_Strict):
    """How patch tokens are kept: ``raw`` all of them; ``subsample`` every `stride`-th row and column of them, or so many at
    `random`, chosen by `seed`, in the same places of every picture.
    """

    __get_pydantic_json_schema__ = _or({"enum": ["raw", "subsample"]})

    name: Literal["raw", "subsample"]
    stride: int = Field(default=2, ge=1, le=64)
    random: int = Field(default=0, ge=0, le=100_000)
    seed: int = Field(default=0, ge=0, le=2**31)

    @property
    def kind(self) -> str:
        """The kind of features it asks for, as `ingest dataset --features` names it."""
        if self.name == "raw":
            return "patch"
        return f"patch:random={self.random}:seed={self.seed}" if self.random else f"patch:stride={self.stride}"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Features(_Strict):
    """What is kept beside the vectors: patch tokens (in the manifest's variants), and their means over `grid` x `grid` cells."""

    patch: bool = False
    grid: int = Field(default=0, ge=0, le=64)


class RunOptions(_Strict):
    """How the run goes. `generate_denseft` keeps dense features too: tokens interpolated to a fine grid of pixels."""

    generate_denseft: bool = False
    batch: int = Field(default=0, ge=0, le=4096)
    workers: int = Field(default=0, ge=0, le=256)
    force: bool = False
    thumbnails: bool = True


class Output(_Strict):
    """Where files are written, `root` and `reference_root` relative to the manifest; nothing is written where both are empty.

    `EMBED_ROOT` in the environment takes the place of `root`, `REFERENCE_EMBED_ROOT` that of `reference_root`.
    """

    root: str | None = None
    reference_root: str | None = None


class MetadataTable(_Strict):
    """A table of own columns (docs/metadata.md): its path relative to the manifest, what its rows are about, its encoding."""

    table: str
    on: str | None = None
    encoding: str | None = None


class Manifest(_Strict):
    """The whole manifest. `weights` is a file, a folder, or a place in the registry's `weights`, its names joined by dots."""

    description: str = ""
    registry: str | None = None
    model: str | None = None
    weights: str | None = None
    size: int | None = Field(default=None, ge=32, le=8192)
    fit: Fit | None = None
    collection: str | None = None
    datasets: dict[str, DatasetPart] = Field(default_factory=dict, json_schema_extra=_names_too)
    image_groups: tuple[ImageGroup, ...] = ()
    variants: tuple[Variant, ...] = (Variant(name="raw"),)
    """Of patch tokens; naming some asks for patch tokens."""
    features: Features = Features()
    metadata: MetadataTable | None = None
    run: RunOptions = RunOptions()
    output: Output = Output()

    @field_validator("datasets", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, list):
            if not all(isinstance(name, str) for name in value):
                raise ValueError("datasets are names, or a table of names to their captures")
            return dict.fromkeys(value, "all")
        return value

    @model_validator(mode="after")
    def _something(self) -> Manifest:
        if not self.datasets and not self.image_groups:
            raise ValueError("there is nothing to embed; name datasets or image_groups")
        if self._names_variants and "patch" in self.features.model_fields_set and not self.features.patch:
            raise ValueError("variants are of patch tokens, and features.patch is false; leave out one of the two")
        return self

    @property
    def _names_variants(self) -> bool:
        return "variants" in self.model_fields_set and bool(self.variants)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of features to keep, as `ingest dataset --features` names them; none by default."""
        kinds = [variant.kind for variant in self.variants] if self.features.patch or self._names_variants else []
        kinds += [f"grid:side={self.features.grid}"] if self.features.grid else []
        kinds += ["dense"] if self.run.generate_denseft else []
        return tuple(dict.fromkeys(kinds))


def read_manifest(path: Path) -> Manifest:
    """Reads and validates a manifest.

    Raises:
        ManifestError: the file is missing or damaged, or a field is wrong: line, field and nearest match are named.
    """
    document = read_document(path, "manifest", ManifestError)
    if not isinstance(document.values, dict):
        raise ManifestError(f'manifest {path} is not an object; it must begin with {{"datasets": ...}}')
    try:
        return Manifest.model_validate(document.values)
    except ValidationError as error:
        line = _line(document, error)
        where = f"{path}, line {line}" if line else str(path)
        raise ManifestError(f"manifest {where}: {first_complaint(error)}") from None


def output_roots(
    manifest: Manifest, base: Path, environment: Mapping[str, str] = os.environ
) -> tuple[Path | None, Path | None]:
    """The folders for the files of images and of references; `EMBED_ROOT` and `REFERENCE_EMBED_ROOT` win. None = no files."""
    root, reference_root = (
        environment.get(name) or (str(below(base, given)) if given else "")
        for name, given in (
            ("EMBED_ROOT", manifest.output.root),
            ("REFERENCE_EMBED_ROOT", manifest.output.reference_root),
        )
    )
    return (place(root) if root else None), (place(reference_root) if reference_root else None)


def weights_of(
    manifest: Manifest, base: Path, registry_weights: Mapping[str, Any], registry_folder: Path
) -> Path | None:
    """The file or folder of the manifest's weights: a path from the manifest, or a place in the registry's `weights`.

    Raises:
        ManifestError: neither is there; the nearest name at that place is given.
    """
    if manifest.weights is None:
        return None
    direct = below(base, manifest.weights)
    if direct.exists():
        return direct
    value, walked = _walk(registry_weights, manifest.weights)
    if isinstance(value, str) and (registry_folder / value).exists():
        return registry_folder / value
    if walked and (registry_folder / walked[-1]).is_dir():
        return registry_folder / walked[-1]
    if isinstance(value, str):
        raise ManifestError(
            f"weights {manifest.weights!r}: the registry names {registry_folder / value}, and no file is there; "
            "put the weights there, or correct the registry"
        )
    if "/" in manifest.weights or "\\" in manifest.weights or manifest.weights.endswith(WEIGHT_ENDINGS):
        raise ManifestError(f"weights: no file at {direct.absolute()}; put the weights there, or correct the manifest")
    known = value if isinstance(value, Mapping) else registry_weights
    raise ManifestError(
        f"weights {manifest.weights!r} is neither a file beside the manifest "
        "nor an entry of the registry's weights that names one"
        f"{nearest(manifest.weights.rpartition('.')[2], map(str, known))}"
    )


def _walk(weights: Mapping[str, Any], place: str) -> tuple[Any, list[str]]:
    """What stands in nested tables at a place of names joined by dots (names may hold dots), and the names walked."""
    value: Any = weights
    walked: list[str] = []
    rest = place
    while rest and isinstance(value, Mapping):
        name = next(
            (n for n in sorted(map(str, value), key=len, reverse=True) if rest == n or rest.startswith(f"{n}.")), None
        )
        if name is None:
            return value, []
        value, rest = value[name], rest[len(name) + 1 :]
        walked.append(name)
    return value, walked


def _line(document: Document, error: ValidationError) -> int | None:
    first = error.errors(include_url=False)[0]
    place = place_of(error)
    if first["type"] == "unknown_field":
        place = (*place, first["ctx"]["field"])
    return document.line(place)
