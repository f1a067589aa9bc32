"""The front door (`import outcrop`): open a collection, fill it (`outcrop.filling`), ask it (`outcrop.asking`).

Each is one call that settles what a command settles from its settings (model, registry, folders) and hands it to the room that
does the work. Answers show themselves as tables in a notebook.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from outcrop.asking import (
    cluster,
    evaluate,
    find_track,
    match,
    query_dataset,
    query_images,
    query_items,
    query_specimens,
    where,
)
from outcrop.filling import ingest_dataset, ingest_images, ingest_references, ingest_specimens, ingest_video
from outcrop.schema.errors import OutcropError
from outcrop.schema.settings import Settings, read_settings
from outcrop.store.connection import shown_uri

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder
    from outcrop.ingest.requests import AnyRequest
    from outcrop.ingest.runs import Record
    from outcrop.store.collection import Collection

__all__ = [
    "OpenCollection",
    "cluster",
    "evaluate",
    "find_track",
    "ingest_dataset",
    "ingest_images",
    "ingest_references",
    "ingest_specimens",
    "ingest_video",
    "match",
    "open_collection",
    "query_dataset",
    "query_images",
    "query_items",
    "query_specimens",
    "where",
]


class OpenCollection:
    """A collection by its name, with the settings that commands would use; the store and the model are opened when needed.

    The collection itself is made by the first ingest. Use it as a context manager, or `close` it: that releases the model, and
    the lock on a Milvus Lite directory.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stored: Collection | None = None
        self._encoder: Encoder | None = None

    @property
    def stored(self) -> Collection:
        """The collection as it is in Milvus; its connection stays open until `close`.

        Raises:
            InputError: there is none yet; ingest something first. StoreUnreachable: nothing answers at the address.
        """
        if self._stored is None:
            from outcrop.store.collection import Collection
            from outcrop.store.connection import Store

            store = Store.of(self.settings)
            try:
                self._stored = Collection.open(store, self.settings.collection)
            except OutcropError:
                store.close()
                raise
        return self._stored

    @property
    def encoder(self) -> Encoder:
        """The model that made the collection's vectors; opened once.

        Raises:
            SpaceMismatch: the settings name another model. WeightsError: its weights are not found.
        """
        if self._encoder is None:
            from outcrop.embed.models import resolve
            from outcrop.embed.opening import open_for_query

            stored = self.stored
            self._encoder = open_for_query(resolve(self.settings, stored.space, stored.weights_hint), self.settings)
        return self._encoder

    def close(self) -> None:
        """Closes the connection, and the model if one was opened; both open again when they are needed."""
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None
        if self._stored is not None:
            self._stored.store.close()
            self._stored = None

    def ingest(self, request: AnyRequest) -> Record:
        """Runs an ingest request into this collection, and returns the run's record."""
        from outcrop.ingest.perform import ingest

        self.close()  # the run opens the store itself, and what it writes is to be seen afterwards
        return ingest(request, self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<collection {self.settings.collection!r} in {shown_uri(self.settings.uri)}>"


def open_collection(uri: str | Path | None = None, collection: str | None = None, **settings: Any) -> OpenCollection:
    """Opens a collection in a Milvus Lite directory (a path ending in ``.db``) or on a server (``http://host:19530``).

    What is not given comes from ``outcrop.yaml`` and ``OUTCROP_*``, as for the commands; `settings` are those of
    `outcrop.Settings`, such as ``model="efficientnet_lite0"`` or ``registry="data_key.json"``.

        collection = outcrop.open_collection("outcrop.db", model="efficientnet_lite0")

    Raises:
        InputError: a setting is unknown or does not fit.
    """
    address = str(uri) if uri is not None else None
    return OpenCollection(read_settings(uri=address, collection=collection, **settings))
