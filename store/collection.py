"""A collection: one embedding space's items in Milvus, ``<name>__<fingerprint8>`` behind the alias ``<name>``.

The space, the index profile and where the weights were found are kept in the collection's properties. Opening a collection
for another space is refused: vectors of two models may have one dimension and still mean nothing to each other.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from schema.errors import InputError, OutcropError, Refused, SpaceMismatch, StoreUnreachable, nearest
from schema.filters import Filter, ids_expression
from schema.indexes import METRIC, IndexProfile, profile_for, profile_named
from schema.item import FIELDS, Item, Kind
from schema.space import Space
from store.connection import Store, patiently
from store.partitions import chosen, home_of, partition_name
from store.rows import milvus_schema, pack, unpack

PROPERTY_SPACE, PROPERTY_WEIGHTS, PROPERTY_INDEX = "outcrop.space", "outcrop.weights", "outcrop.index"
LOOKUP = 1000
"""Ids asked for in one request."""
MESSAGE_BYTES = 8 * 2**20
"""Bytes of rows sent in one request: a server takes 64 MB, and larger ones are not faster."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}\Z")
_PHYSICAL = re.compile(r".+__[0-9a-f]{8}\Z")


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


class Collection:
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
        self.store = store
        self.name = name
        self.physical = physical
        self.space = space
        self.profile = profile
        self.build = build
        self.weights_hint = weights
        self.notes: list[str] = []
        self._partitions: set[str] | None = None
        self._loaded = False

    # -- opening ---------------------------------------------------------------------------------------------------

    @classmethod
    def find(cls, store: Store, name: str) -> Collection | None:
        """The collection of this name (alias or physical name), or None where there is none.

        Raises:
            Refused: the name belongs to something that Outcrop did not make.
        """
        check_name(name)
        with store.calling(f"look for collection {name!r}"):
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
        except (ValidationError, ValueError, KeyError, InputError) as error:
            raise Refused(
                f"collection {name!r} states a space or index this version cannot read "
                f"({str(error).splitlines()[0]}); use the version that made it"
            ) from None
        return cls(
            store, name, facts["collection_name"], space, profile, index["build"], properties.get(PROPERTY_WEIGHTS, "")
        )

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
        params = profile.build_params(build if not note else None)
        physical = f"{name}__{space.fingerprint[:8]}"
        client, timeout = store.client, store.timeout
        with store.calling(f"create collection {name!r}"):
            if client.has_collection(physical, timeout=timeout):
                raise Refused(f"collection {physical} is there already; open it, or drop it first")
            if alias and client.has_collection(name, timeout=timeout):
                raise Refused(
                    f"the name {name!r} is taken; choose another --collection, or fill {physical} beside it and switch"
                )
            properties = {
                PROPERTY_SPACE: space.model_dump_json(),
                PROPERTY_WEIGHTS: weights,
                PROPERTY_INDEX: json.dumps({"profile": profile.name, "build": params}),
            }
            index_params = client.prepare_index_params()
            index_params.add_index(
                "vector", index_type=profile.name, index_name="vector", metric_type=METRIC, params=params
            )
            client.create_collection(
                physical,
                schema=milvus_schema(client, space.dim),
                index_params=index_params,
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
    def ensure(cls, store: Store, name: str, space: Space, **creation: Any) -> Collection:
        """Opens the collection of this name and checks its space, or creates it (`creation`: see `create`)."""
        found = cls.find(store, name)
        if found is None:
            return cls.create(store, name, space, **creation)
        found.require(space)
        return found

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

    # -- writing ---------------------------------------------------------------------------------------------------

    def upsert(
        self,
        items: Sequence[Item],
        vectors: NDArray[np.float32],
        *,
        patience: float = 0.0,
        waiting: Callable[[str], None] | None = None,
    ) -> int:
        """Writes items with their vectors [N, D] float32 (length 1), replacing rows of the same id; returns how many rows.

        Where the server goes away, tries again for `patience` seconds: the same rows twice are the same rows.

        Raises:
            InputError: vectors of a wrong shape or length, or a field too long.
            StoreUnreachable: no answer within the patience.
        """
        rows = pack(items, vectors, self.space.dim)
        by_partition: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_partition.setdefault(self._home(Kind(row["kind"]), row["dataset"]), []).append(row)
        limit = max(1, MESSAGE_BYTES // (self.space.dim * 4 + 1024))
        for partition, members in by_partition.items():
            for start in range(0, len(members), limit):
                chunk = members[start : start + limit]

                def send(chunk: list[dict[str, Any]] = chunk, partition: str = partition) -> None:
                    with self.store.calling(f"write to {self.name!r}"):
                        self.store.client.upsert(
                            self.physical, chunk, partition_name=partition, timeout=self.store.timeout
                        )

                patiently(send, patience, waiting)
        return len(rows)

    def delete(self, ids: Iterable[str]) -> int:
        """Removes rows by id; returns how many ids were asked for."""
        ids = list(ids)
        for start in range(0, len(ids), LOOKUP):
            with self.store.calling(f"delete from {self.name!r}"):
                self.store.client.delete(
                    self.physical, filter=ids_expression(ids[start : start + LOOKUP]), timeout=self.store.timeout
                )
        return len(ids)

    def flush(self) -> None:
        """Seals what was written and makes it durable. Once at the end of an ingest: servers allow one in ten seconds."""

        def send() -> None:
            with self.store.calling(f"flush {self.name!r}"):
                self.store.client.flush(self.physical, timeout=max(120.0, self.store.timeout))

        for attempt in range(4):
            try:
                patiently(send, 10.0)
                break
            except OutcropError as error:
                if "rate" not in str(error).lower() or attempt == 3:
                    raise
                time.sleep(5.0)
        self.store.persist()

    # -- reading ---------------------------------------------------------------------------------------------------

    def count(self, filter: Filter | None = None) -> int:
        """The true number of rows that a filter keeps (`count(*)`, strongly consistent)."""
        self.load()
        filter = filter or Filter()
        names, _ = self.chosen(filter)
        if names is not None and not names:
            return 0
        expression = filter.expression or 'id >= ""'  # without any expression Milvus Lite counts superseded rows
        with self.store.calling(f"count in {self.name!r}"):
            found = self.store.client.query(
                self.physical,
                filter=expression,
                output_fields=["count(*)"],
                partition_names=names,
                consistency_level="Strong",
                timeout=max(60.0, self.store.timeout),
            )
        return int(found[0]["count(*)"])

    def lookup(
        self, ids: Sequence[str], fields: Sequence[str] = ("source_size", "source_mtime_ns", "source_digest")
    ) -> dict[str, dict[str, Any]]:
        """The given fields of the rows with these ids, by id; ids that are not there are left out."""
        self.load()
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), LOOKUP):
            with self.store.calling(f"look up items in {self.name!r}"):
                rows = self.store.client.query(
                    self.physical,
                    filter=ids_expression(ids[start : start + LOOKUP]),
                    output_fields=["id", *fields],
                    consistency_level="Strong",
                    timeout=self.store.timeout,
                )
            found.update({row["id"]: dict(row) for row in rows})
        return found

    def items(self, ids: Sequence[str]) -> dict[str, tuple[Item, NDArray[np.float32]]]:
        """Items with their vectors [D] float32, by id; ids that are not there are left out."""
        rows = self.lookup(ids, fields=("*",))
        items, vectors = unpack(rows.values())
        return {item.id: (item, vector) for item, vector in zip(items, vectors, strict=True)}

    def scan(
        self, filter: Filter | None = None, *, vectors: bool = False, batch: int = 1000
    ) -> Iterator[tuple[list[Item], NDArray[np.float32]]]:
        """All rows that a filter keeps, in batches: items and their vectors [N, D] ([N, 0] without `vectors`). Order: by id.

        Raises:
            OutcropError: Milvus gave a row twice (its iterators have done so).
        """
        fields = ["id", *FIELDS, *(["vector"] if vectors else [])]
        for rows in self.scan_rows(filter, fields, batch=batch):
            yield unpack(rows)

    def scan_rows(
        self, filter: Filter | None, fields: Sequence[str], *, batch: int = 1000
    ) -> Iterator[list[dict[str, Any]]]:
        """As `scan`, but plain rows with the given fields (``"*"`` for all, dynamic ones included)."""
        self.load()
        filter = filter or Filter()
        names, rest = self.chosen(filter)
        if names is not None and not names:
            return
        seen: set[str] = set()
        with self.store.calling(f"scan {self.name!r}"):
            pages = self.store.client.query_iterator(
                self.physical,
                batch_size=batch,
                filter=rest.expression,
                output_fields=list(fields),
                partition_names=names,
                consistency_level="Strong",
                timeout=max(60.0, self.store.timeout),
            )
        try:
            while True:
                with self.store.calling(f"scan {self.name!r}"):
                    page = pages.next()
                if not page:
                    return
                rows = [dict(row) for row in page]
                ids = {row["id"] for row in rows}
                if len(ids) != len(rows) or not seen.isdisjoint(ids):
                    raise OutcropError(
                        f"the scan of {self.name!r} gave a row twice; run `collection compact {self.name}` and try again"
                    )
                seen |= ids
                yield rows
        finally:
            pages.close()

    # -- index and memory ------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Makes the collection answer queries (once; it costs nothing when it is loaded)."""
        if self._loaded:
            return
        with self.store.calling(f"load {self.name!r}"):
            self.store.client.load_collection(self.physical, timeout=max(120.0, self.store.timeout))
        self._loaded = True

    def index_state(self) -> IndexState:
        """What the server says of the vector index."""
        with self.store.calling(f"describe the index of {self.name!r}"):
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
        """Waits until every sealed row is indexed.

        Raises:
            StoreUnreachable: not finished within `deadline` seconds; the likely cause is named.
        """
        end = time.monotonic() + deadline
        while True:
            state = self.index_state()
            if progress is not None:
                progress(state)
            if state.finished:
                return state
            if state.state == "Failed" or time.monotonic() > end:
                cause = (
                    "a CPU server never finishes a GPU index: use the -gpu image or a CPU index"
                    if self.profile.gpu
                    else "the server may be short of memory, or still at work: look at its log, or wait longer"
                )
                raise StoreUnreachable(
                    f"the index {self.profile.name} of {self.name!r} is {state.state} with {state.pending} of {state.total} "
                    f"rows pending after {deadline:.0f} s; {cause}"
                )
            time.sleep(0.5)

    def properties(self) -> dict[str, str]:
        """The collection's properties as Milvus has them now."""
        with self.store.calling(f"describe {self.name!r}"):
            facts = self.store.client.describe_collection(self.physical, timeout=self.store.timeout)
        return dict(facts.get("properties") or {})

    def partitions(self, fresh: bool = False) -> set[str]:
        """The names of the partitions (remembered; `fresh` asks again)."""
        if self._partitions is None or fresh:
            with self.store.calling(f"list the partitions of {self.name!r}"):
                self._partitions = set(self.store.client.list_partitions(self.physical, timeout=self.store.timeout))
        return self._partitions

    def chosen(self, filter: Filter) -> tuple[list[str] | None, Filter]:
        """The partitions that a filter chooses (None = all) and what is left to be sifted; see `store.partitions.chosen`.

        Milvus is asked anew where partitions matter: another process may have made some.
        """
        pinned = filter.chosen("kind") is not None or filter.chosen("dataset") is not None
        return chosen(filter, self.partitions(fresh=pinned))

    def _home(self, kind: Kind, dataset: str) -> str:
        """The partition of an item, made where it is missing."""
        wanted = partition_name(kind, dataset)
        existing = self.partitions()
        if wanted in existing:
            return wanted
        name = home_of(kind, dataset, self.partitions(fresh=True))
        if name not in self.partitions():
            with self.store.calling(f"create partition {name} of {self.name!r}"):
                self.store.client.create_partition(self.physical, name, timeout=self.store.timeout)
            self.partitions().add(name)
        return name


def check_name(name: str) -> None:
    """Refuses what Milvus would not take as the name of a collection."""
    if not _NAME.match(name):
        raise InputError(f"{name!r} is no name for a collection; use letters, digits and _, beginning with a letter")


def collection_names(store: Store) -> list[str]:
    """The names by which collections can be opened: aliases, and physical names that have none."""
    names: list[str] = []
    with store.calling("list collections"):
        for physical in store.client.list_collections(timeout=store.timeout):
            aliases = store.client.list_aliases(physical, timeout=store.timeout).get("aliases", [])
            names += aliases or [physical]
    return sorted(names)
