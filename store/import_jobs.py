"""The jobs of a Milvus server that read files into a collection: begun, asked for, and waited for until what they made is seen.

pymilvus's client has no method for imports by gRPC; its connection has.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from outcrop.schema.errors import StoreUnreachable
from outcrop.schema.objects import ObjectPath
from outcrop.store.collection import Collection
from outcrop.store.patience import patiently

DEADLINE = 3600.0
"""Seconds to wait for a job."""
APPEAR = 300.0
"""Seconds within which rows of jobs that are done must be counted."""
POLL = 0.5
PATIENCE = 60.0
"""Seconds to ask for a job of a server that does not answer."""
ENDED = frozenset(("Completed", "Failed", "Failed and cleaned"))


def begin_job(collection: Collection, partition: str, file: Path) -> int:
    """Has the server read a file into a partition; returns the job's number.

    Raises:
        OutcropError: the server refuses.
    """
    name = "/".join(file.parts[2:]) if isinstance(file, ObjectPath) else str(file.absolute())
    with collection.store.calling(f"import into {collection.name!r}"):
        timeout = collection.store.timeout
        return int(_server(collection).do_bulk_insert(collection.physical, partition, [name], timeout=timeout))


def why_it_failed(collection: Collection, task: int, file: str) -> str | None:
    """Waits for a job; None where it read its `file`, else the server's reason.

    Raises:
        StoreUnreachable: it does not end.
    """
    end = time.monotonic() + DEADLINE
    while True:
        state = patiently(lambda: _state(collection, task), PATIENCE)
        if state.state_name in ENDED:
            return None if state.state_name == "Completed" else str(state.failed_reason)
        if time.monotonic() > end:
            raise StoreUnreachable(f"the import of {file} is under way for an hour; look at the server")
        time.sleep(POLL)


def settled(collection: Collection) -> int:
    """The rows of a collection, once no job that somebody else began is under way, and what jobs made is counted.

    Raises:
        StoreUnreachable: that takes too long.
    """
    deadline, states = time.monotonic() + DEADLINE, _states(collection)
    while any(state.state_name not in ENDED for state in states):
        if time.monotonic() > deadline:
            raise StoreUnreachable(f"jobs of {collection.name!r} are under way for an hour; look at the server")
        time.sleep(POLL)
        states = _states(collection)
    before, deadline = collection.count(), time.monotonic() + APPEAR
    while states and not appeared(collection):
        if time.monotonic() > deadline:
            raise StoreUnreachable(f"rows of earlier jobs do not appear in {collection.name!r}; look at the server")
        time.sleep(POLL)
    return collection.count() if states else before


def appeared(collection: Collection) -> bool:
    """Whether all that is stored is searched."""
    client, timeout = collection.store.client, collection.store.timeout
    with collection.store.reading(f"list the segments of {collection.name!r}"):
        stored = client.list_persistent_segments(collection.physical, timeout=timeout)
        loaded = client.list_loaded_segments(collection.physical, timeout=timeout)
    return {each.segment_id for each in stored if each.num_rows} <= {each.segment_id for each in loaded}


def _state(collection: Collection, task: int) -> Any:
    with collection.store.reading(f"ask for an import into {collection.name!r}"):
        return _server(collection).get_bulk_insert_state(task, timeout=collection.store.timeout)


def _states(collection: Collection) -> Sequence[Any]:
    with collection.store.calling(f"list the imports into {collection.name!r}"):
        timeout = collection.store.timeout
        found: Sequence[Any] = _server(collection).list_bulk_insert_tasks(0, collection.physical, timeout=timeout)
        return found


def _server(collection: Collection) -> Any:
    return collection.store.client._get_connection()
