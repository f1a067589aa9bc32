"""A collection: one embedding space's items in Milvus, ``<name>__<fingerprint8>`` behind the alias ``<name>``.

The space, the index profile and where the weights were found are kept in the collection's properties. Opening a collection
for another space is refused: vectors of two models may have one dimension and still mean nothing to each other.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from outcrop.schema.columns import MAX_COLUMNS, Columns
from outcrop.schema.errors import InputError, OutcropError, Refused, SpaceMismatch, StoreUnreachable, nearest
from outcrop.schema.indexes import METRIC, IndexProfile, profile_for, profile_named
from outcrop.schema.space import Space
from outcrop.store.averaged import PROPERTY_AVERAGED, Averaged, require_plain
from outcrop.store.connection import Store
from outcrop.store.patience import patiently
from outcrop.store.rows import milvus_schema
from outcrop.store.table import PROPERTY_COLUMNS, PROPERTY_PARTLY, Table

if TYPE_CHECKING:
    from pymilvus.milvus_client.index import IndexParams

PROPERTY_SPACE, PROPERTY_WEIGHTS, PROPERTY_INDEX = "outcrop.space", "outcrop.weights", "outcrop.index"
PROPERTY_LATER = "outcrop.later_index"
"""The index that a collection gets when its first load has ended: see `outcrop.store.later_index`."""
PROPERTY_REFERENCES = "outcrop.references"
"""The requests that made the references; `outcrop.ingest.remembered` reads and writes them."""
PROPERTY_FOLDERS, PROPERTY_MAPS, PROPERTY_TABLES = "outcrop.folders", "outcrop.maps", "outcrop.tables"
"""What the datasets were made of: see `outcrop.store.remembered`."""
UNINDEXED_ROWS = 1024
"""Segments with fewer rows are searched row by row (`indexCoord.segment.minSegmentNumRowsToEnableIndex`)."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}\Z")
_PHYSICAL = re.compile(r".+__[0-9a-f]{8}\Z")

INDEX_SPEED = 100_000.0
"""Numbers of vectors (rows x dimension) that a server indexes in a second at least: two busy cores did 265,000 with HNSW."""


@dataclass(frozen=True)
class IndexState:
    """What the server says of the index: `state` is its word, `pending` the rows still to be indexed."""

    profile: str
    state: str
    total: int
    indexed: int
    pending: int

    @property
    def finished(self) -> bool:
        """Whether every sealed row is indexed."""
        return self.state == "Finished" and self.pending == 0


class Collection(Table):
    """One open collection. Make one with `open`, `create` or `ensure`.

    `name` is what was asked for, `physical` the collection behind it; `space` the vectors' space; `profile` the index.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        physical: str,
        space: Space,
        profile: IndexProfile,
        build: dict[str, Any],
        weights: str,
    ) -> None:
        super().__init__(store, name, physical, space.dim)
        self.space = space
        self.profile = profile
        self.build = build
        self.weights_hint = weights
        self.notes: list[str] = []
        self.later_index = ""
        self.averaged: Averaged | None = None

    # -- opening ---------------------------------------------------------------------------------------------------

    @classmethod
    def find(cls, store: Store, name: str) -> Collection | None:
        """The collection of this name (alias or physical name), or None where there is none.

        Raises:
            Refused: the name belongs to something that Outcrop did not make.
        """
        check_name(name)
        with store.reading(f"look for collection {name!r}"):
            if not store.client.has_collection(name, timeout=store.timeout):
                return None
            facts = store.client.describe_collection(name, timeout=store.timeout)
        properties = facts.get("properties") or {}
        if PROPERTY_SPACE not in properties:
            raise Refused(
                f"collection {name!r} was not made by Outcrop (it states no embedding space); choose another --collection"
            )
        try:
            space = Space.model_validate_json(properties[PROPERTY_SPACE])
            index = json.loads(properties.get(PROPERTY_INDEX, '{"profile": "FLAT", "build": {}}'))
            profile = profile_named(index["profile"])
            averaged = Averaged.of_text(properties.get(PROPERTY_AVERAGED))
        except (ValidationError, ValueError, KeyError, InputError) as error:
            raise Refused(
                f"collection {name!r} states a space or index this version cannot read "
                f"({str(error).splitlines()[0]}); use the version that made it"
            ) from None
        weights = properties.get(PROPERTY_WEIGHTS, "")
        found = cls(store, name, facts["collection_name"], space, profile, index["build"], weights)
        found.partly_loaded = bool(properties.get(PROPERTY_PARTLY))
        found.columns = Columns.of_text(properties.get(PROPERTY_COLUMNS))
        found.later_index = properties.get(PROPERTY_LATER, "")
        found.averaged = averaged
        return found

    @classmethod
    def open(cls, store: Store, name: str) -> Collection:
        """The collection of this name; an InputError with the nearest name where there is none."""
        found = cls.find(store, name)
        if found is None:
            known = collection_names(store)
            hint = nearest(name, known) or (f"; there are: {', '.join(known)}" if known else "; ingest something first")
            raise InputError(f"no collection {name!r} in {store.describe()}{hint}")
        return found

    @classmethod
    def create(
        cls,
        store: Store,
        name: str,
        space: Space,
        *,
        index: str | None = None,
        build: dict[str, Any] | None = None,
        weights: str = "",
        alias: bool = True,
    ) -> Collection:
        """Makes a new collection for a space; with `alias`, `name` leads to it from now on.

        `index` is a profile's name (default: FLAT on Milvus Lite, HNSW on a server), `build` its build parameters, `weights`
        a hint where the weights were found.

        Raises:
            Refused: the name or the physical name is taken.
            InputError: bad name, unknown index, or one that this server is too old for.
        """
        check_name(name)
        if _PHYSICAL.match(name):
            raise InputError(f"{name!r} looks like a physical name (…__<8 hex digits>); choose a plain name")
        profile, note = profile_for(index or ("FLAT" if store.lite else "HNSW"), store.version)
        params = profile.build_params(build if not note else None, server=store.version, dim=space.dim)
        physical = f"{name}__{space.fingerprint[:8]}"
        client, timeout = store.client, store.timeout
        with store.calling(f"create collection {name!r}"):
            if client.has_collection(physical, timeout=timeout):
                raise Refused(f"collection {physical} already exists; open it, or drop it first")
            if alias and client.has_collection(name, timeout=timeout):
                raise Refused(
                    f"the name {name!r} is in use; choose another --collection, or fill {physical} beside it and switch"
                )
            properties = {
                PROPERTY_SPACE: space.model_dump_json(),
                PROPERTY_WEIGHTS: weights,
                PROPERTY_INDEX: json.dumps({"profile": profile.name, "build": params}),
            }
            store.clear_half_made(physical)
            client.create_collection(
                physical,
                schema=milvus_schema(client, space.dim),
                index_params=index_params(store, profile, params),
                properties=properties,
                consistency_level="Strong",
                timeout=timeout,
            )
            if alias:
                client.create_alias(physical, name, timeout=timeout)
        made = cls(store, name if alias else physical, physical, space, profile, params, weights)
        if note:
            made.notes.append(note)
        return made

    @classmethod
    def ensure(
        cls,
        store: Store,
        name: str,
        space: Space,
        *,
        patience: float = 0.0,
        waiting: Callable[[str], None] | None = None,
        **creation: Any,
    ) -> Collection:
        """Opens the collection of this name and checks its space, or creates it (`creation`: see `create`).

        A collection of the same space whose creation was cut short before it had its alias is finished and used, and so is one
        that another process creates at the same time. Where the server does not answer, tries again for `patience` seconds;
        `waiting` is given the reason each time.

        Raises:
            SpaceMismatch: the collection has another space. StoreUnreachable: no answer within the patience.
        """

        def opened() -> Collection:
            found = cls.find(store, name) or cls._adopted(store, name, space)
            if found is None:
                try:
                    found = cls.create(store, name, space, **creation)
                except StoreUnreachable:
                    raise
                except OutcropError:
                    # Another process may have been faster, by the physical collection alone or by the alias too.
                    found = cls.find(store, name) or cls._adopted(store, name, space)
                    if found is None:
                        raise
            found.require(space)
            return found

        return patiently(opened, patience, waiting)

    @classmethod
    def _adopted(cls, store: Store, name: str, space: Space) -> Collection | None:
        """The physical collection of this name and space that has no alias yet, with the alias and index that it lacks."""
        physical = f"{name}__{space.fingerprint[:8]}"
        found = cls.find(store, physical)
        if found is None or found.space.fingerprint != space.fingerprint:
            return None
        client, timeout = store.client, store.timeout
        with store.calling(f"finish creating collection {name!r}"):
            if "vector" not in client.list_indexes(physical, timeout=timeout):
                client.create_index(physical, index_params(store, found.profile, found.build), timeout=timeout)
        try:
            with store.calling(f"finish creating collection {name!r}"):
                client.create_alias(physical, name, timeout=timeout)
        except StoreUnreachable:
            raise
        except OutcropError:
            if cls.find(store, name) is None:
                raise
        return cls.find(store, name)

    def require(self, space: Space) -> None:
        """Refuses a space that is not this collection's.

        Raises:
            SpaceMismatch: naming the fields in which they differ.
        """
        if space.fingerprint != self.space.fingerprint:
            raise SpaceMismatch(
                f"collection {self.name!r} holds vectors of {self.space.model} [{self.space.fingerprint[:8]}], "
                f"not of {space.model} [{space.fingerprint[:8]}]: {self.space.difference(space)}; "
                "leave --model out to use the collection's, or choose another --collection"
            )

    def require_plain(self) -> None:
        """Refuses where the vectors were averaged with those of verified neighbours (`outcrop.store.averaged`).

        Raises:
            Refused: naming the collection to use instead.
        """
        require_plain(self.name, self.averaged)

    def say_averaged(self, averaged: Averaged | None) -> None:
        """Keeps with the collection how its vectors were averaged; None for plain ones."""
        if averaged != self.averaged:
            self.set_property(PROPERTY_AVERAGED, "" if averaged is None else averaged.as_text())
            self.averaged = averaged

    def search_params(self, k: int, kept: float = 1.0) -> dict[str, Any]:
        """The search parameters for the best `k` under a filter that keeps the share `kept`, for the index as it was built."""
        return self.profile.search_params(k, kept, self.build)

    # -- index -----------------------------------------------------------------------------------------------------

    def index_state(self) -> IndexState:
        """What the server says of the vector index."""
        with self.store.reading(f"describe the index of {self.name!r}"):
            facts = self.store.client.describe_index(self.physical, "vector", timeout=self.store.timeout) or {}
        return IndexState(
            facts.get("index_type", "none"),
            facts.get("state", "None"),
            int(facts.get("total_rows", 0)),
            int(facts.get("indexed_rows", 0)),
            int(facts.get("pending_index_rows", 0)),
        )

    def wait_for_index(
        self, deadline: float = 300.0, progress: Callable[[IndexState], None] | None = None
    ) -> IndexState:
        """Waits until every sealed row is indexed: `deadline` seconds, and on a CPU a second more for `INDEX_SPEED` numbers.

        Raises:
            StoreUnreachable: not finished by then; the likely cause is named.
        """
        begun = time.monotonic()
        while True:
            state = self.index_state()
            if progress is not None:
                progress(state)
            allowed = deadline + (0.0 if self.profile.gpu else state.total * self.dim / INDEX_SPEED)
            if state.finished:
                return state
            if state.state == "Failed" or time.monotonic() > begun + allowed:
                cause = (
                    "a CPU server never finishes a GPU index: use the -gpu image or a CPU index"
                    if self.profile.gpu
                    else "the server may be short of memory, or still at work: look at its log, or wait longer"
                )
                raise StoreUnreachable(
                    f"the index {self.profile.name} of {self.name!r} is {state.state} with {state.pending} of {state.total} "
                    f"rows pending after {time.monotonic() - begun:.0f} s; {cause}"
                )
            time.sleep(0.5)

    def wait_until_served(self, deadline: float = 30.0) -> bool:
        """Waits until queries are answered by the finished index; whether they are, after `deadline` seconds at most.

        A server goes on answering from the interim index of a fresh segment for some seconds after the real one is
        "Finished": Milvus 2.3.5 with HNSW had a recall of 0.6 then. Segments below `UNINDEXED_ROWS` never get an index: where
        all rows together are fewer, every answer is exact already, and there is nothing to wait for.
        """
        if self.store.lite or self.profile.name == "FLAT" or self.index_state().total < UNINDEXED_ROWS:
            return True
        end = time.monotonic() + deadline
        while not self._served():
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        self._settled.forget()
        return True

    def sifts(self) -> bool:
        """Whether a filter may be left to the server, however few rows it keeps: its index does so (`IndexProfile.sifts`), and
        answers for every row.

        Rows in segments that still take more, or wait for their index, are found through an interim index, which misses half of
        them under a tight filter (Milvus 2.3.5: recall .44 where 50 of 20,000 rows were kept). The answer is remembered for
        `SETTLED` seconds, and one thread asks again: that takes a server as much processor as a dozen searches.
        """
        if self.store.lite or not self.profile.sifts:
            return False
        return self._settled.get(lambda: self._indexed() is True and self.count(growing=False) == self.count())

    def _served(self) -> bool:
        return self._indexed() is not False

    def _indexed(self) -> bool | None:
        """Whether every loaded segment has its index or is so small that it needs none; None where that cannot be known."""
        client, timeout = self.store.client, self.store.timeout
        try:
            with self.store.calling(f"list the segments of {self.name!r}"):
                if str(client.get_load_state(self.physical, timeout=timeout).get("state")) != "Loaded":
                    return None
                segments = client.list_loaded_segments(self.physical, timeout=timeout)
        except (InputError, StoreUnreachable):
            raise
        except OutcropError:  # the server does not expose this
            return None
        fine = [s.num_rows for s in segments if s.index_name or s.num_rows < UNINDEXED_ROWS]
        if len(fine) < len(segments):
            return False
        # A sealed segment is missing here while it is handed from the node that wrote it to the one that answers.
        return self.partly_loaded or sum(fine) >= self.index_state().total

    def identity(self) -> str:
        """A name that no other collection has or had, on any server: not even one that is made after this one was dropped."""
        with self.store.reading(f"describe {self.name!r}"):
            facts = self.store.client.describe_collection(self.physical, timeout=self.store.timeout)
        return f"{self.physical}-{facts['collection_id']}"

    def properties(self) -> dict[str, str]:
        """The collection's properties as Milvus has them now."""
        with self.store.reading(f"describe {self.name!r}"):
            facts = self.store.client.describe_collection(self.physical, timeout=self.store.timeout)
        return dict(facts.get("properties") or {})

    def add_columns(self, columns: Columns) -> None:
        """Takes own columns into the collection; one that it has keeps its type.

        Raises:
            InputError: it has one of another type, or they become too many.
        """
        known = self.read_columns()
        for name, column in columns.items():
            if name in known and known[name] != column:
                raise InputError(
                    f"column {name!r} of collection {self.name!r} is a {known[name].type}, not a {column.type}; "
                    "write it so, or give the column another name"
                )
        after = known.and_those_of(columns)
        if len(after) > MAX_COLUMNS:
            raise InputError(
                f"collection {self.name!r} would have {len(after)} own columns; {MAX_COLUMNS} are possible"
            )
        if after.as_text() != known.as_text():
            self.set_property(PROPERTY_COLUMNS, after.as_text())
        self.columns = after

    def set_property(self, name: str, value: str) -> None:
        """Keeps a text with the collection; other properties stay."""
        self.set_properties({name: value})

    def set_properties(self, values: Mapping[str, str]) -> None:
        """Keeps several texts with the collection; other properties stay."""
        with self.store.calling(f"change the properties of {self.name!r}"):
            self.store.client.alter_collection_properties(self.physical, dict(values), timeout=self.store.timeout)


def index_params(store: Store, profile: IndexProfile, build: dict[str, Any]) -> IndexParams:
    """The index of the vectors, as pymilvus wants it for this store."""
    params = store.client.prepare_index_params()
    # pymilvus unfolds the parameters; Milvus Lite reads them folded only, and takes its own defaults otherwise.
    sent = {"params": build} if store.lite else build
    params.add_index("vector", index_type=profile.name, index_name="vector", metric_type=METRIC, params=sent)
    return params


def check_name(name: str) -> None:
    """Refuses what Milvus would not take as the name of a collection."""
    if not _NAME.match(name):
        raise InputError(f"{name!r} is not a valid collection name; use letters, digits and _, beginning with a letter")


def collection_names(store: Store) -> list[str]:
    """The names by which collections can be opened: aliases, and physical names that have none."""
    names: list[str] = []
    with store.reading("list collections"):
        for physical in store.client.list_collections(timeout=store.timeout):
            aliases = store.client.list_aliases(physical, timeout=store.timeout).get("aliases", [])
            names += aliases or [physical]
    return sorted(names)
