"""What every ingest is asked for: a name, features and own columns; and what datasets of the registry are asked for besides.

`outcrop.ingest.requests` has the kinds of requests.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict

from outcrop.schema.errors import InputError
from outcrop.schema.places import absolute
from outcrop.schema.settings import Settings

if TYPE_CHECKING:
    from outcrop.ingest.sources import Listing
    from outcrop.schema.space import Space
    from outcrop.store.collection import Collection

AbsolutePath = Annotated[Path, AfterValidator(absolute)]
Say = Callable[[str], None]
FILMS = "films"
"""The folder below the state folder that remembers which frames of films were kept."""


class TableRequest(BaseModel):
    """A table of own columns, what its rows are `on` (None: what its header says), and its encoding (None: found out)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    table: AbsolutePath
    on: str | None = None
    encoding: str | None = None


class Request(BaseModel):
    """What every request says: a name for what is ingested, the features that are kept beside the vectors, own columns.

    `force` embeds unchanged items too. `features` are written as in ``patch:stride=2,grid:side=4``; None keeps none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    command: ClassVar[str]
    takes_space: ClassVar[bool] = False
    """Whether the listing depends on the space of the vectors; otherwise the sources are listed before the store is opened."""

    name: str
    force: bool = False
    features: str | None = None
    features_folder: AbsolutePath | None = None
    metadata: TableRequest | None = None

    def with_metadata(self, table: Path, on: str | None = None, encoding: str | None = None) -> Self:
        """The request with a table of own columns."""
        return self.model_copy(update={"metadata": TableRequest(table=table, on=on, encoding=encoding)})

    def check(self) -> None:
        """Refuses what cannot be done, before anything is listed or opened.

        Raises:
            InputError: a value is wrong; its option is named.
        """
        if self.features is not None:
            from outcrop.embed.features import FeatureKind

            FeatureKind.parse_all(self.features)

    @property
    def undeclared(self) -> bool:
        """Whether only the collection can say where the sources are, so that it is opened before they are listed."""
        return False

    def located(self, collection: Collection | None, settings: Settings) -> Request:
        """The request with the places that the collection it goes to knows; of another kind, where that is what it knows.

        Raises:
            InputError: the collection knows another place.
        """
        return self

    def places(self) -> Iterable[tuple[Path, str]]:
        """The folders in which files are written beside the collection, each with what to do where that cannot be done."""
        if self.features and self.features_folder is not None:
            yield self.features_folder, "make room, or give another --features-folder"

    def settled(self, space: Space) -> Self:
        """The request with nothing left to choose, as the record keeps it."""
        return self

    @abstractmethod
    def list(self, space: Space | None, *, only: Iterable[str] | None = None, workers: int = 0) -> Listing:
        """Lists the sources; `only` keeps those of these keys, `workers` is how many are prepared at once (0: one per core).

        Raises:
            InputError: a folder, a file or a value is wrong.
        """

    def finish(self, collection: Collection, settings: Settings, say: Say) -> None:
        """What is done once the items are stored, whether or not some failed."""


class OfRegistry(Request):
    """What every request for a dataset of the registry says; `limit` keeps the first items that are on disk.

    `registry` and `datasets` are one folder where the dataset is that folder as it stands. `positions` is a file of positions.
    """

    registry: AbsolutePath
    datasets: AbsolutePath
    positions: AbsolutePath | None = None
    limit: int | None = None

    @property
    def undeclared(self) -> bool:
        """Whether the registry does not know the dataset; a collection may know its folder."""
        from outcrop.schema.registry import declares

        return self.registry != self.datasets and not declares(self.registry, self.name)

    def located(self, collection: Collection | None, settings: Settings) -> Request:
        """The request with the folder that a collection remembers, where the registry does not know the dataset."""
        from outcrop.store.folders import place_of

        if not self.undeclared:
            return self
        place = place_of(collection, settings, self.name)
        if place.registry == settings.registry:
            return self
        positions = self.positions or place.positions
        return self.model_copy(update={"registry": place.registry, "datasets": place.datasets, "positions": positions})

    @classmethod
    def of(cls, settings: Settings, name: str, **more: object) -> Self:
        """The request for a dataset of the registry that the settings name."""
        return cls.model_validate(
            {
                "name": name,
                "registry": settings.registry,
                "datasets": settings.datasets_folder,
                "known": settings.state / FILMS,
                "features_folder": settings.features_folder if more.get("features") else None,
                **{field: value for field, value in more.items() if value is not None},
            }
        )


def dataset_name(folder: Path, name: str | None) -> str:
    """The name of a dataset that a folder holds: the one given, else the folder's own.

    Raises:
        InputError: the folder has no name.
    """
    name = name if name is not None else folder.absolute().name
    if not name:
        raise InputError("the dataset needs a name; give --name")
    return name
