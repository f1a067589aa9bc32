"""Upkeep of a collection: another index, load and release, compaction, aliases (blue/green), removal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from outcrop.schema.errors import InputError, OutcropError, Refused, StoreUnreachable
from outcrop.schema.filters import equals
from outcrop.schema.index_parameters import Version, dotted
from outcrop.schema.indexes import IndexProfile, profile_for
from outcrop.schema.item import Kind
from outcrop.store.collection import (
    PROPERTY_INDEX,
    PROPERTY_LATER,
    Collection,
    IndexState,
    check_name,
    index_params,
)
from outcrop.store.connection import Store
from outcrop.store.inventory import aliases_of, estimated_rows
from outcrop.store.partitions import partition_name
from outcrop.store.table import PROPERTY_PARTLY

FORCE_MERGE: Version = (3, 0, 0)
"""The oldest server that merges segments to a given size."""
PROPERTY_PREVIOUS = "outcrop.previous"
"""On a collection that an alias was switched to: the physical collection the alias led to before."""


def change_index(
    collection: Collection,
    index: str,
    build: dict[str, Any] | None = None,
    *,
    deadline: float = 600.0,
    progress: Callable[[IndexState], None] | None = None,
) -> str:
    """Gives a collection another index in place; it does not answer queries meanwhile. Returns a remark ('' mostly).

    An index that the server takes and never finishes (a GPU index on a CPU server) is found out within `deadline` seconds,
    and the former index is put back.

    Raises:
        InputError: unknown index or parameters, or the server is too old.
        Refused: the server does not finish it; the former index is in place again.
    """
    profile, note = profile_for(index, collection.store.version)
    params = wanted_params(collection, profile, build if not note else None)
    replace_index(collection, profile, params, deadline=deadline, progress=progress)
    if collection.later_index:
        collection.set_property(PROPERTY_LATER, "")
        collection.later_index = ""
    return note


def replace_index(
    collection: Collection,
    profile: IndexProfile,
    params: dict[str, Any],
    *,
    deadline: float,
    progress: Callable[[IndexState], None] | None = None,
) -> None:
    """As `change_index`, with all build parameters given.

    Raises:
        Refused: the server does not finish it; the former index is in place again.
    """
    former, former_params = collection.profile, collection.build
    try:
        _build(collection, profile, params, deadline, progress)
    except (StoreUnreachable, OutcropError) as error:
        _build(collection, former, former_params, max(deadline, 120.0), None)
        raise Refused(f"could not build {profile.name} on this server; restored {former.name}: {error}") from None


def wanted_params(collection: Collection, profile: IndexProfile, given: dict[str, Any] | None) -> dict[str, Any]:
    """The build parameters of an index for this collection: what is given, and defaults for its server, dimension and rows."""
    rows = estimated_rows(collection.store, collection.physical) if profile.gpu else 0
    return profile.build_params(given, server=collection.store.version, dim=collection.space.dim, rows=rows)


def _build(
    collection: Collection,
    profile: IndexProfile,
    params: dict[str, Any],
    deadline: float,
    progress: Callable[[IndexState], None] | None,
) -> None:
    store, physical = collection.store, collection.physical
    client, timeout = store.client, store.timeout
    end = time.monotonic() + deadline
    with store.calling(f"change the index of {collection.name!r}"):
        client.release_collection(physical, timeout=timeout)
        if "vector" in client.list_indexes(physical, timeout=timeout):
            client.drop_index(physical, "vector", timeout=timeout)
        client.create_index(physical, index_params(store, profile, params), timeout=timeout, sync=False)
    collection.profile, collection.build = profile, params
    collection.wait_for_index(max(1.0, end - time.monotonic()), progress)
    with store.calling(f"load {collection.name!r}"):
        client.load_collection(physical, timeout=max(120.0, timeout))
        client.alter_collection_properties(
            physical, {PROPERTY_INDEX: json.dumps({"profile": profile.name, "build": params})}, timeout=timeout
        )


def load(collection: Collection, dataset: str | None = None, *, kinds: tuple[Kind, ...] = tuple(Kind)) -> list[str]:
    """Loads a collection, or one dataset's partitions; returns what was loaded.

    Raises:
        Refused: Milvus Lite is asked for a part of a collection.
        InputError: the collection has no partition of this dataset.
    """
    names = _dataset_partitions(collection, dataset, kinds, "load")
    store = collection.store
    with store.calling(f"load {collection.name!r}"):
        if names is None:
            store.client.load_collection(collection.physical, timeout=max(120.0, store.timeout))
            return [collection.physical]
        store.client.load_partitions(collection.physical, names, timeout=max(120.0, store.timeout))
        store.client.alter_collection_properties(collection.physical, {PROPERTY_PARTLY: "yes"}, timeout=store.timeout)
    return names


def release(collection: Collection, dataset: str | None = None, *, kinds: tuple[Kind, ...] = tuple(Kind)) -> list[str]:
    """Takes a collection, or one dataset's partitions, out of memory; returns what was released. Errors as `load`."""
    names = _dataset_partitions(collection, dataset, kinds, "release")
    store = collection.store
    with store.calling(f"release {collection.name!r}"):
        if names is None:
            store.client.release_collection(collection.physical, timeout=store.timeout)
            return [collection.physical]
        store.client.release_partitions(collection.physical, names, timeout=store.timeout)
        store.client.alter_collection_properties(collection.physical, {PROPERTY_PARTLY: "yes"}, timeout=store.timeout)
    return names


def compact(collection: Collection, *, deadline: float = 300.0, merge_to: int | None = None) -> str:
    """Merges segments and drops superseded rows; waits for the server to finish and returns its last word.

    `merge_to` is a segment's size in MiB after a forced merge (milvus.io/docs/force-merge.md, a preview in Milvus 3.0): fewer
    and larger segments mean fewer graphs to search. Without it the server merges up to its `dataCoord.segment.maxSize`.

    Raises:
        InputError: the server has no forced merge.
    """
    store = collection.store
    if merge_to is not None and (store.version is None or store.version < FORCE_MERGE):
        raise InputError(
            f"a forced merge needs Milvus {dotted(FORCE_MERGE)} or newer, this is {store.describe()}; leave --merge-to out"
        )
    target = {} if merge_to is None else {"target_size": merge_to}
    with store.calling(f"compact {collection.name!r}"):
        job = store.client.compact(collection.physical, timeout=store.timeout, **target)
        if store.lite:
            return "done"
        end = time.monotonic() + deadline
        while (state := str(store.client.get_compaction_state(job, timeout=store.timeout))) != "Completed":
            if time.monotonic() > end:
                return f"{state} after {deadline:.0f} s; the server goes on"
            time.sleep(0.5)
    return "done"


def switch(store: Store, name: str, physical: str, *, remember: bool = True) -> str:
    """Points the alias `name` at another physical collection, at once for everyone; returns the former one ('' = none).

    The former one is kept, and with `remember` it is what `rollback` goes back to.

    Raises:
        InputError: no such physical collection. Refused: `name` is itself a physical collection, or nothing would change.
    """
    check_name(name)
    target = Collection.find(store, physical)
    if target is None:
        raise InputError(
            f"no collection {physical!r} in {store.describe()}; `collection list` shows the physical names"
        )
    if target.physical == name:
        raise Refused(f"{name!r} is a physical collection, not an alias; choose the name that queries use")
    current = Collection.find(store, name)
    if current is not None and current.physical == name:
        raise Refused(f"{name!r} is a physical collection, not an alias; nothing to switch")
    if current is not None and current.physical == target.physical:
        raise Refused(f"{name!r} already points at {target.physical}")
    target.load()
    with store.calling(f"switch {name!r}"):
        former = current.physical if current is not None else ""
        if remember:
            store.client.alter_collection_properties(
                target.physical, {PROPERTY_PREVIOUS: former}, timeout=store.timeout
            )
        if current is None:
            store.client.create_alias(target.physical, name, timeout=store.timeout)
        else:
            store.client.alter_alias(target.physical, name, timeout=store.timeout)
    return former


def rollback(store: Store, name: str) -> str:
    """Switches an alias back to the collection it pointed at before; returns the one it points at now.

    A second rollback goes back one more switch, and never forward again: `switch` does that.

    Raises:
        Refused: there is nothing to go back to, or the former collection is gone.
    """
    current = Collection.open(store, name)
    former = current.properties().get(PROPERTY_PREVIOUS, "")
    if not former:
        raise Refused(f"{name!r} has not been switched: there is nothing to go back to")
    if Collection.find(store, former) is None:
        raise Refused(f"the former collection {former} of {name!r} is gone; `collection list` shows what there is")
    switch(store, name, former, remember=False)
    return former


def drop(collection: Collection) -> tuple[str, ...]:
    """Removes a whole collection and the aliases that lead to it; returns those aliases. This cannot be undone."""
    store = collection.store
    aliases = aliases_of(store, collection.physical)
    with store.calling(f"drop {collection.physical!r}"):
        for alias in aliases:
            store.client.drop_alias(alias, timeout=store.timeout)
        store.client.drop_collection(collection.physical, timeout=store.timeout)
    return aliases


def drop_dataset(collection: Collection, dataset: str) -> int:
    """Removes all items of a dataset, of every kind, with their partitions; returns how many there were.

    Raises:
        InputError: there are none.
    """
    store = collection.store
    filter = equals("dataset", dataset)
    count = collection.count(filter)
    if not count:
        raise InputError(f"collection {collection.name!r} holds nothing of dataset {dataset!r}")
    for name in sorted({partition_name(kind, dataset) for kind in Kind} & collection.partitions(fresh=True)):
        with store.calling(f"drop partition {name}"):
            if not store.lite:
                store.client.release_partitions(collection.physical, [name], timeout=store.timeout)
            store.client.drop_partition(collection.physical, name, timeout=store.timeout)
    collection.partitions(fresh=True)
    rest = [
        row["id"] for page in collection.scan_rows(filter, ["id"]) for row in page
    ]  # in partitions shared by datasets
    collection.delete(rest)
    collection.flush()
    return count


def _dataset_partitions(
    collection: Collection, dataset: str | None, kinds: tuple[Kind, ...], action: str
) -> list[str] | None:
    if dataset is None:
        return None
    if collection.store.lite:
        raise Refused(f"Milvus Lite can only {action} a whole collection; leave --dataset out, or use a server")
    names = sorted({partition_name(kind, dataset) for kind in kinds} & collection.partitions(fresh=True))
    if not names:
        raise InputError(f"collection {collection.name!r} has no partition of dataset {dataset!r}")
    return names
