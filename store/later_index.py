"""The index of a collection whose first load is under way: built once, when all rows are there.

Until then every vector is compared: answers are exact, and nothing is built that must be built again. The collection's properties
keep which index it is to get, so that whatever ends the load, the next ingest builds it.
"""

from __future__ import annotations

import json

from outcrop.schema.indexes import profile_named
from outcrop.store.collection import PROPERTY_LATER, Collection, index_params
from outcrop.store.maintenance import replace_index

EXACT = "FLAT"
DEADLINE = 600.0
"""Seconds to wait for an index, and more for many rows (`Collection.wait_for_index`)."""


def build_later(collection: Collection) -> None:
    """Puts off the index of an empty collection."""
    if collection.profile.exact or collection.later_index:
        return
    text = json.dumps({"profile": collection.profile.name, "build": collection.build})
    collection.set_property(PROPERTY_LATER, text)
    collection.later_index = text
    exact = profile_named(EXACT)
    replace_index(collection, exact, exact.build_params(server=collection.store.version), deadline=DEADLINE)


def build_now(collection: Collection) -> str:
    """Builds the index that was put off; returns its name. The collection does not answer meanwhile.

    Raises:
        Refused: the server does not finish it; every vector is compared as before.
    """
    wanted = json.loads(collection.later_index)
    profile = profile_named(wanted["profile"])
    replace_index(collection, profile, wanted["build"], deadline=DEADLINE)
    collection.set_property(PROPERTY_LATER, "")
    collection.later_index = ""
    return profile.name


def later_name(collection: Collection) -> str:
    """The name of the index that was put off; '' where none was."""
    return str(json.loads(collection.later_index)["profile"]) if collection.later_index else ""


def require_some_index(collection: Collection) -> None:
    """Gives a collection its index back that was lost because a process was killed while it changed it."""
    client, timeout = collection.store.client, collection.store.timeout
    with collection.store.calling(f"look for the index of {collection.name!r}"):
        if "vector" not in client.list_indexes(collection.physical, timeout=timeout):
            params = index_params(collection.store, collection.profile, collection.build)
            client.create_index(collection.physical, params, timeout=timeout)
