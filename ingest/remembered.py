"""What a collection is meant to hold of references: the requests that made them, kept among its properties.

The registry says which photographs are wanted, but not which rotations and crops of them. So each `ingest references` (turned or
`--from` written files) and each manifest with image groups is remembered by the collection, for every dataset, and
`collection audit` lists them again: the newest request that covers a photograph whole says which references it should have, and
requests with `--add` say more. A request for every photograph replaces the earlier ones. Retries and repairs are not remembered,
nor what a program ingests without a request. References that no request wants are judged by their files alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from outcrop.ingest.references import ReferenceSource
from outcrop.ingest.requests import (
    ImagesRequest,
    ManifestRequest,
    MapRequest,
    ReferencesRequest,
    Request,
    VideoRequest,
    WrittenReferencesRequest,
)
from outcrop.ingest.sources import Source
from outcrop.ingest.written import WrittenSource
from outcrop.schema.errors import InputError, RegistryError
from outcrop.schema.item import Kind, parent_of
from outcrop.schema.settings import Settings
from outcrop.schema.written import written_folder
from outcrop.store.collection import PROPERTY_REFERENCES, Collection
from outcrop.store.folders import FOLDERS, KnownFolder, Place, place_of
from outcrop.store.maps import MAPS, KnownMap

MAX_REMEMBERED = 64
"""Requests remembered for each dataset; the oldest are forgotten."""

ReferenceRequest = ReferencesRequest | WrittenReferencesRequest | ManifestRequest
Remembered = dict[str, list[ReferenceRequest]]
"""Requests by dataset, the oldest first."""
_REMEMBERED: TypeAdapter[Remembered] = TypeAdapter(
    dict[str, list[Annotated[ReferenceRequest, Field(discriminator="kind")]]]
)


@dataclass(frozen=True)
class WantedReferences:
    """The sources of the references that a dataset should have, and what a person should know of requests that cannot be read."""

    sources: Sequence[Source]
    remarks: Sequence[str] = ()


def remember(collection: Collection, request: Request) -> None:
    """Keeps what a request says with the collection: of references itself, the folder of images or films, a map.

    Raises:
        OutcropError: the collection's properties cannot be changed.
    """
    if isinstance(request, MapRequest) and request.scales is not None:
        known_map = KnownMap(path=request.path, scales=request.scales, terrain=request.terrain)
        MAPS.update(collection, {request.name: known_map})
    if isinstance(request, ImagesRequest | VideoRequest):
        FOLDERS.update(collection, {request.name: _folder_after(FOLDERS.get(collection, request.name), request)})
    if not isinstance(request, ReferenceRequest):
        return
    slim = request.model_copy(
        update={"force": False, "features": None, "features_folder": None}
        | ({"write_images": None} if isinstance(request, ReferencesRequest) else {})
    )
    known = _known(collection)
    before = dict(known)
    for dataset in _datasets(slim):
        known[dataset] = _after(known.get(dataset, []), slim)
    if known != before:
        collection.set_property(PROPERTY_REFERENCES, _REMEMBERED.dump_json(known, by_alias=True).decode())


def _folder_after(before: KnownFolder | None, request: ImagesRequest | VideoRequest) -> KnownFolder:
    """What is remembered of a folder once it is ingested: films are added to its photographs, and the other way round."""
    folder = request.folder
    if before is None or before.folder != folder:
        before = KnownFolder(folder=folder, photographs=False)
    if isinstance(request, ImagesRequest):
        both = {"every": request.every, "films": request.films} if request.every is not None else {}
        return before.model_copy(update={"positions": request.positions, "photographs": True, **both})
    # Films that were named one by one stay a list; a folder of them replaces it.
    films: set[str] = {*request.films, *before.films} if request.films else set()
    if before.every is not None and not before.films:
        films = set()
    return before.model_copy(update={"every": request.every, "films": tuple(sorted(films))})


def wanted_references(collection: Collection, dataset: str, settings: Settings) -> WantedReferences:
    """The references that a dataset should have, by the requests that the collection remembers; opens no file.

    Registry and folders are those of the settings, wherever the requests were made.

    Raises:
        RegistryError: the registry, the dataset or its root is wrong.
    """
    sources: list[Source] = []
    remarks: list[str] = []
    left = _Left()
    place = place_of(collection, settings, dataset)
    for request in reversed(_known(collection).get(dataset, [])):
        try:
            sources += left.of(_listed(request, dataset, settings, place))
        except RegistryError:
            raise
        except InputError as error:
            # Which references it took over from older requests is not known, so these say nothing either.
            remarks.append(f"a request for references of {dataset} cannot be listed again: {error}")
            break
    return WantedReferences(sources, remarks)


class _Left:
    """What newer requests leave to older ones: photographs that none covers whole, and of these the references not named yet."""

    def __init__(self) -> None:
        self._covered: set[str] = set()
        self._named: dict[str, set[tuple[float, int]]] = {}

    def of(self, sources: Iterator[Source]) -> list[Source]:
        """The sources of the next older request."""
        found: list[Source] = []
        covered: set[str] = set()
        named: dict[str, set[tuple[float, int]]] = {}
        for source in sources:
            parent = parent_of(source.wanted[0].item.key)
            if parent in self._covered:
                continue
            if source.whole:
                covered.add(parent)
            rest = _without(source, self._named.get(parent, set()))
            if rest is not None:
                found.append(rest)
                named.setdefault(parent, set()).update((w.item.rotation, w.item.crop) for w in rest.wanted)
        self._covered |= covered
        for parent, some in named.items():
            self._named.setdefault(parent, set()).update(some)
        return found


def _without(source: Source, named: set[tuple[float, int]]) -> Source | None:
    """A source without references that are named already; None where none is left."""
    if not named:
        return source
    if isinstance(source, ReferenceSource):
        turns = tuple(turn for turn in source.turns if (turn.rotation, turn.crop.number) not in named)
        return replace(source, turns=turns) if turns else None
    assert isinstance(source, WrittenSource)  # nothing else makes references
    files = tuple(file for file in source.files if (file.rotation, file.crop) not in named)
    return replace(source, files=files) if files else None


def _listed(request: ReferenceRequest, dataset: str, settings: Settings, place: Place) -> Iterator[Source]:
    here = {"registry": place.registry, "datasets": place.datasets}
    if isinstance(request, ManifestRequest):
        places = {**here, "references": _folder(request.references, dataset, settings)}
        for part in request.model_copy(update=places).parts():
            if part.kind is Kind.REFERENCE and part.dataset == dataset:
                yield from part.listing.sources
        return
    if isinstance(request, WrittenReferencesRequest):
        here["folder"] = _folder(request.folder, dataset, settings)
    yield from request.model_copy(update=here).list(None).sources


def _folder(recorded: Path, dataset: str, settings: Settings) -> Path:
    """The folder of written references: as recorded, or where the settings have it on this machine."""
    places = (recorded, settings.references, settings.datasets_folder)
    return next(
        (place for place in places if place is not None and (place / written_folder(dataset)).is_dir()), recorded
    )


def _known(
    collection: Collection,
) -> Remembered:
    text = collection.properties().get(PROPERTY_REFERENCES) or "{}"
    try:
        return _REMEMBERED.validate_python(json.loads(text))
    except (ValueError, ValidationError, RecursionError):
        return {}  # of a version that remembered otherwise: the next request is remembered anew


def _datasets(request: ReferenceRequest) -> list[str]:
    if not isinstance(request, ManifestRequest):
        return [request.name]
    from outcrop.schema.manifest import read_manifest

    return list(dict.fromkeys(group.dataset for group in read_manifest(request.manifest).image_groups))


def _after(
    earlier: Sequence[ReferenceRequest],
    request: ReferenceRequest,
) -> list[ReferenceRequest]:
    """The requests to remember once another is made."""
    if isinstance(request, ReferencesRequest) and not request.add and request.limit is None:
        return [request]
    return [*(each for each in earlier if each != request), request][-MAX_REMEMBERED:]
