"""Filling a collection: an ingest of each kind, as one call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.schema.places import place

if TYPE_CHECKING:
    from outcrop.ingest.requests import AnyRequest
    from outcrop.ingest.runs import Record
    from outcrop.library import OpenCollection


def ingest_dataset(
    collection: OpenCollection,
    name: str,
    *,
    limit: int | None = None,
    force: bool = False,
    features: str | None = None,
    metadata: str | Path | None = None,
) -> Record:
    """Embeds the photographs of a dataset of the registry, new and changed ones only; returns the run's record.

        outcrop.ingest_dataset(collection, "jamshill_image").embedded

    `limit` takes the first photographs only, `force` embeds unchanged ones too, and `features` ("patch", "grid:side=4") are
    kept beside the vectors. `metadata` is a table of own columns (docs/metadata.md), which the collection remembers. What failed
    is in the ledger that the record names.

    Raises:
        RegistryError: the registry or the dataset is not as it must be. SpaceMismatch: the collection has another model.
    """
    from outcrop.ingest.requests import DatasetRequest

    request = DatasetRequest.of(collection.settings, name, limit=limit, force=force, features=features)
    return collection.ingest(_with(request, metadata))


def ingest_images(
    collection: OpenCollection,
    folder: str | Path,
    *,
    name: str | None = None,
    positions: str | Path | None = None,
    limit: int | None = None,
    force: bool = False,
    metadata: str | Path | None = None,
) -> Record:
    """Embeds the photographs of a folder and of all folders in it, whatever their names; no registry is needed.

        outcrop.ingest_images(collection, "photos").embedded

    `name` is the dataset's (the folder's own by default), `positions` a file with the places of the photographs (ODM's geo.txt,
    or CSV); `limit`, `force` and `metadata` as in `ingest_dataset`.

    Raises:
        InputError: no such folder, no photograph in it, wrong positions, or a name that is another dataset's. SpaceMismatch: as
        `ingest_dataset`.
    """
    from outcrop.ingest.requests import ImagesRequest

    places = place(positions) if positions is not None else None
    request = ImagesRequest.of(place(folder), name, collection.settings, positions=places, limit=limit, force=force)
    return collection.ingest(_with(request, metadata))


def ingest_video(
    collection: OpenCollection,
    place: str | Path,
    *,
    name: str | None = None,
    every: str = "1s",
    limit: int | None = None,
    force: bool = False,
    metadata: str | Path | None = None,
) -> Record:
    """Embeds frames of a film, or of all films in a folder, with the positions that DJI's SRT files beside them state.

        outcrop.ingest_video(collection, "DJI_0001.MP4", every="2s").embedded

    Near-equal frames are left out. `name` is the dataset's (by default the folder's); the others as in `ingest_dataset`. It needs
    the extra ``outcrop[video]``.

    Raises:
        InputError: no such place, no film in it, or PyAV is not installed. SpaceMismatch: as `ingest_dataset`.
    """
    from outcrop.ingest.requests import VideoRequest

    request = VideoRequest.of(Path(place), name, every, collection.settings, limit=limit, force=force)
    return collection.ingest(_with(request, metadata))


def ingest_references(
    collection: OpenCollection, name: str, *, angles: str = "0:360:30", crops: str = "0.6", force: bool = False
) -> Record:
    """Embeds rotated crops of a dataset's photographs, so that a query at any heading finds them; writes no pictures.

        outcrop.ingest_references(collection, "jamshill_image", angles="0:360:45")

    `angles` are degrees counter-clockwise (START:STOP:STEP, or a list), `crops` fractions of the picture's sides.

    Raises:
        RegistryError: as `ingest_dataset`. InputError: an angle or a crop is not valid.
    """
    from outcrop.ingest.requests import ReferencesRequest

    return collection.ingest(ReferencesRequest.of(collection.settings, name, angles=angles, crops=crops, force=force))


def ingest_specimens(
    collection: OpenCollection,
    folder: str | Path,
    name: str | None = None,
    *,
    views: int = 12,
    force: bool = False,
    metadata: str | Path | None = None,
) -> Record:
    """Draws and embeds the meshes and point clouds below a folder: `views` of each, and one pooled vector a specimen.

        outcrop.ingest_specimens(collection, "meshes", "fossils")

    `name` is the dataset (by default the folder's name); sub-folders are categories; `metadata` as in `ingest_dataset`.

    Raises:
        InputError: there is no such folder, or no mesh in it.
    """
    from outcrop.ingest.requests import SpecimensRequest

    folder = place(folder)
    name = name or folder.absolute().name
    request = SpecimensRequest(name=name, folder=folder, views=views, align="axes", force=force)
    return collection.ingest(_with(request, metadata))


def _with(request: AnyRequest, metadata: str | Path | None) -> AnyRequest:
    """The request with a table of own columns, if one is given."""
    return request.with_metadata(Path(metadata)) if metadata is not None else request
