"""Requests for photographs, films, and the references made of photographs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from outcrop.ingest.request import FILMS, AbsolutePath, OfRegistry, Request, dataset_name
from outcrop.schema.errors import InputError
from outcrop.schema.films import seconds_of
from outcrop.schema.places import is_remote, require_disk
from outcrop.schema.settings import Settings

if TYPE_CHECKING:
    from outcrop.ingest.sources import Listing
    from outcrop.schema.space import Space
    from outcrop.store.collection import Collection

CROPS = "0.6"
"""The crops of references where nobody says which."""


class DatasetRequest(OfRegistry):
    """The pictures of a dataset of the registry, and its films where the registry says so.

    `known` is the folder that remembers which frames of a film were kept.
    """

    command: ClassVar[str] = "dataset"
    kind: Literal["dataset"] = "dataset"
    known: AbsolutePath | None = None

    def located(self, collection: Collection | None, settings: Settings) -> Request:
        """See `OfRegistry.located`; a folder with films that a collection remembers is ingested as it was."""
        from outcrop.store.folders import FOLDERS

        known = FOLDERS.get(collection, self.name) if self.undeclared else None
        if known is None or known.every is None:
            return super().located(collection, settings)
        kept = {field: getattr(self, field) for field in Request.model_fields}
        values = {**kept, "folder": known.folder, "every": known.every, "films": known.films, "limit": self.limit}
        values["known"] = self.known or settings.state / FILMS
        if not known.photographs:
            return VideoRequest.model_validate(values)
        return ImagesRequest.model_validate({**values, "positions": self.positions or known.positions})

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.dataset import declared_films, list_dataset
        from outcrop.ingest.films import with_films

        limit = self.limit if only is None else None
        place = (self.registry, self.name, self.datasets)
        listing = list_dataset(*place, limit=limit, only=only, positions=self.positions)
        films = declared_films(*place, self.known)
        return with_films(listing, films, limit=limit, only=only) if films is not None else listing


class ImagesRequest(Request):
    """The photographs of a folder as it stands, without a registry (see `outcrop.schema.any_files`).

    `positions` is a file with their places; `limit` keeps the first N. With `every`, its films are in the dataset too: those
    that `films` names, else all, one frame every so many seconds; `known` is as in `DatasetRequest`.
    """

    command: ClassVar[str] = "images"
    kind: Literal["images"] = "images"
    folder: AbsolutePath
    positions: AbsolutePath | None = None
    limit: int | None = None
    every: float | None = None
    films: tuple[str, ...] = ()
    known: AbsolutePath | None = None

    @classmethod
    def of(cls, folder: Path, name: str | None, settings: Settings, **more: object) -> ImagesRequest:
        """The request for a folder, by default under its own name; `more` is for the request.

        Raises:
            InputError: the folder has no name, or a value is wrong.
        """
        return cls.model_validate(_of_place(folder, name, settings, more) | {"folder": folder})

    def check(self) -> None:
        """See `Request.check`."""
        super().check()
        if not self.folder.is_dir():
            raise InputError(f"no folder at {self.folder}; give the folder that holds the photographs")

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.dataset import list_folder
        from outcrop.ingest.film_source import Kept
        from outcrop.ingest.films import Films

        limit = self.limit if only is None else None
        films = None
        if self.every is not None and not is_remote(
            self.folder
        ):  # films are read where they lie; there they count as not read
            films = Films(self.folder, self.name, self.every, Kept(self.known), self.films)
        return list_folder(self.folder, self.name, limit=limit, only=only, positions=self.positions, films=films)

    def located(self, collection: Collection | None, settings: Settings) -> Self:
        """The request with the positions, and for films the time between frames, that the collection remembers; refused where the
        name is another dataset's."""
        from outcrop.ingest.folder_names import require_own_name
        from outcrop.store.folders import FOLDERS

        require_own_name(self.name, self.folder, collection, settings)
        known = FOLDERS.get(collection, self.name)
        found: dict[str, object] = {}
        if self.positions is None and known is not None and known.positions is not None and known.positions.is_file():
            found["positions"] = known.positions
        if self.every is not None and known is not None and known.every not in (None, self.every):
            found["every"] = known.every
        return self.model_copy(update=found) if found else self


class VideoRequest(Request):
    """Films: frames of those below `folder`, or of those that `films` names (paths below it), one every so many seconds.

    `known` is the folder that remembers which frames of a film were kept; `limit` keeps the first N.
    """

    command: ClassVar[str] = "video"
    kind: Literal["video"] = "video"
    folder: AbsolutePath
    films: tuple[str, ...] = ()
    every: float = 1.0
    known: AbsolutePath
    limit: int | None = None

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.film_source import Kept
        from outcrop.ingest.films import Films, list_films

        films = Films(self.folder, self.name, self.every, Kept(self.known), self.films)
        return list_films(films, limit=self.limit if only is None else None, only=only)

    @classmethod
    def of(cls, place: Path, name: str | None, every: str, settings: Settings, **more: object) -> VideoRequest:
        """The request for a film or a folder of films, by default under the folder's name; `more` is for the request.

        Raises:
            InputError: there is no such place, or a value is wrong.
        """
        require_disk(place, "films", "copy them to a disk")
        if not place.exists():
            raise InputError(f"no film or folder at {place}; check the path")
        folder = place if place.is_dir() else place.absolute().parent
        films = () if place.is_dir() else (place.name,)
        given = {"folder": folder, "films": films, "every": seconds_of(every), "known": settings.state / FILMS}
        return cls.model_validate(_of_place(folder, name, settings, more) | given)

    def located(self, collection: Collection | None, settings: Settings) -> Self:
        """The request itself; refused where the name is another dataset's."""
        from outcrop.ingest.folder_names import require_own_name

        require_own_name(self.name, self.folder, collection, settings)
        return self


class ReferencesRequest(OfRegistry):
    """Rotated crops of a dataset's photographs, made on the way.

    `add` keeps the references of these photographs that are not asked for; `write_images` is a folder for them as JPEGs. `window`
    is what the input of the collection's ground scale shows, height and width in metres: the crops then follow from it.
    """

    command: ClassVar[str] = "references"
    kind: Literal["references"] = "references"
    angles: str = "0:360:30"
    crops: str = CROPS
    add: bool = False
    write_images: AbsolutePath | None = None
    window: tuple[float, float] | None = None

    def check(self) -> None:
        """See `Request.check`."""
        super().check()
        if self.write_images is not None and self.write_images.exists() and not self.write_images.is_dir():
            raise InputError(f"--write-images {self.write_images} is a file; give a folder")

    def places(self) -> Iterable[tuple[Path, str]]:
        """See `Request.places`."""
        yield from super().places()
        if self.write_images is not None:
            yield self.write_images, "give another --write-images"

    def settled(self, space: Space) -> Self:
        """With the window of the collection's ground scale.

        Raises:
            InputError: crops are asked for beside it.
        """
        if space.window == self.window:
            return self
        if space.window is not None and self.crops != CROPS:
            raise InputError("the crops of a collection with a ground scale (--gsd) follow from it; leave --crops out")
        return self.model_copy(update={"window": space.window})

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.references import list_references
        from outcrop.schema.crops import crop_specs, parse_angles, parse_crops

        place = (self.registry, self.name, self.datasets)
        if only is not None:
            return list_references(*place, only=only, write_to=self.write_images, positions=self.positions)
        wanted = crop_specs(parse_angles(self.angles), parse_crops(self.crops))
        return list_references(
            *place,
            wanted,
            limit=self.limit,
            keep_others=self.add,
            write_to=self.write_images,
            positions=self.positions,
            window=self.window,
        )


class WrittenReferencesRequest(OfRegistry):
    """References of a dataset that are pictures on disk already, below `folder`."""

    command: ClassVar[str] = "references"
    kind: Literal["written_references"] = "written_references"
    folder: AbsolutePath = Field(alias="from")
    add: bool = False

    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """See `Request.list`."""
        from outcrop.ingest.written import list_written_references

        place = (self.registry, self.name, self.datasets, self.folder)
        if only is not None:
            return list_written_references(*place, only=only)
        return list_written_references(*place, limit=self.limit, keep_others=self.add)


def _of_place(folder: Path, name: str | None, settings: Settings, more: Mapping[str, object]) -> dict[str, object]:
    """What a request for a folder says besides: its name, `more` that was given, and where features are kept if they are.

    Raises:
        InputError: the folder has no name.
    """
    given = {field: value for field, value in more.items() if value is not None}
    kept = given.get("features_folder", settings.features_folder) if given.get("features") else None
    return {**given, "name": dataset_name(folder, name), "features_folder": kept}
