"""What is there: collections, their spaces, indexes, aliases, and true counts by kind, dataset and altitude."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from outcrop.schema.columns import Columns
from outcrop.schema.errors import OutcropError, Refused
from outcrop.schema.filters import Filter
from outcrop.schema.item import FIELDS
from outcrop.schema.space import Space
from outcrop.store.averaged import Averaged
from outcrop.store.collection import Collection, IndexState
from outcrop.store.connection import Store
from outcrop.store.plan import LITE_ROWS


@dataclass(frozen=True)
class Entry:
    """One line of the list: a physical collection and the aliases that lead to it.

    `rows` is true unless `estimated`: then it is from the server's statistics, which count superseded rows until compaction.
    `space` is None where the collection was not made by Outcrop.
    """

    physical: str
    aliases: tuple[str, ...]
    rows: int
    space: Space | None
    index: str
    loaded: bool
    estimated: bool = False


@dataclass(frozen=True)
class Description:
    """One collection in full. `rows` and the counts are true counts; `counts` is by (kind, dataset), `altitudes` by metres.

    A Milvus Lite directory (`lite`) is loaded by whoever opens it, so it is ready whether or not it is `loaded`.
    """

    name: str
    physical: str
    aliases: tuple[str, ...]
    space: Space
    index: IndexState
    build: dict[str, object]
    loaded: bool
    rows: int
    partitions: tuple[str, ...]
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    altitudes: dict[float, int] = field(default_factory=dict)
    previous: str = ""
    weights: str = ""
    columns: Columns = field(default_factory=Columns)
    lite: bool = False
    averaged: Averaged | None = None

    @property
    def state(self) -> str:
        """Whether it answers at once."""
        return state_of(self.loaded or self.lite)

    def as_json(self) -> dict[str, Any]:
        """Plain values; `counts` and `altitudes` as rows, with the fields of every collection beside them."""
        names = ("name", "physical", "rows", "loaded", "state", "previous", "weights")
        return {
            **{name: getattr(self, name) for name in names},
            "aliases": list(self.aliases),
            "space": self.space.model_dump(mode="json") | {"fingerprint": self.space.fingerprint},
            "index": asdict(self.index) | {"build": self.build},
            "partitions": list(self.partitions),
            "counts": [{"kind": kind, "dataset": name, "rows": rows} for (kind, name), rows in self.counts.items()],
            "altitudes": [{"altitude": altitude, "rows": rows} for altitude, rows in self.altitudes.items()],
            "fields": field_rows(),
            "columns": [{"column": column.name, "type": column.type} for column in self.columns.values()],
            "averaged": None if self.averaged is None else self.averaged.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class Statistics:
    """Row counts: `rows` is true, `server_rows` the server's estimate, which still holds `superseded` rows until compaction.

    `raw_mib` are the MiB of the vectors alone.
    """

    name: str
    rows: int
    server_rows: int
    superseded: int
    indexed: int
    pending: int
    partitions: int
    raw_mib: float


def list_collections(store: Store, *, counts: bool = False) -> list[Entry]:
    """Every collection of the store, by physical name; costs a few requests per collection.

    With `counts`, the rows of those that are loaded whole are counted; Milvus Lite's own figure is true. What is not loaded is
    not loaded for it.
    """
    entries = []
    with store.reading("list collections"):
        names = sorted(store.client.list_collections(timeout=store.timeout))
    for physical in names:
        aliases, rows, loaded = aliases_of(store, physical), estimated_rows(store, physical), is_loaded(store, physical)
        try:
            found = Collection.find(store, physical)
        except Refused:
            found = None
        counted = None if store.lite or not (counts and found and loaded) else _counted(found)
        entries.append(
            Entry(
                physical,
                aliases,
                rows if counted is None else counted,
                found.space if found else None,
                found.profile.name if found else "",
                loaded,
                estimated=counted is None and not store.lite,
            )
        )
    return entries


def _counted(collection: Collection) -> int | None:
    """The true number of rows; None where it is not to be had without loading something."""
    if collection.partly_loaded:
        return None
    try:
        return collection.count()
    except OutcropError:  # its nodes are away, say: the list is no place to fail for that
        return None


def state_of(ready: bool) -> str:
    """Whether a collection answers at once, in words."""
    return "ready" if ready else "not loaded (the next query loads it)"


def describe(collection: Collection, *, counts: bool = True) -> Description:
    """Everything about one collection. With `counts`, all rows are scanned for true counts by kind, dataset and altitude."""
    store = collection.store
    loaded = is_loaded(store, collection.physical)
    kinds: Counter[tuple[str, str]] = Counter()
    altitudes: Counter[float] = Counter()
    if counts:
        for rows in collection.scan_rows(Filter(), ["id", "kind", "dataset", "altitude"], batch=5000):
            kinds.update((row["kind"], row["dataset"]) for row in rows)
            altitudes.update(row["altitude"] for row in rows if row["altitude"] > 0)
        total = sum(kinds.values())
    else:
        total = collection.count()
    return Description(
        name=collection.name,
        physical=collection.physical,
        aliases=aliases_of(store, collection.physical),
        space=collection.space,
        index=collection.index_state(),
        build=dict(collection.build),
        loaded=loaded,
        rows=total,
        partitions=tuple(sorted(collection.partitions(fresh=True))),
        counts=dict(sorted(kinds.items())),
        altitudes=dict(sorted(altitudes.items())),
        previous=collection.properties().get("outcrop.previous", ""),
        weights=collection.weights_hint,
        columns=collection.columns,
        lite=store.lite,
        averaged=collection.averaged,
    )


def statistics(collection: Collection) -> Statistics:
    """The row counts of a collection. Costs a count and three requests."""
    rows, state = collection.count(), collection.index_state()
    estimate = estimated_rows(collection.store, collection.physical)
    return Statistics(
        name=collection.name,
        rows=rows,
        server_rows=estimate,
        superseded=max(0, estimate - rows),
        indexed=state.indexed,
        pending=state.pending,
        partitions=len(collection.partitions()),
        raw_mib=round(rows * collection.space.dim * 4 / 2**20, 1),
    )


def estimated_rows(store: Store, physical: str) -> int:
    """The server's own count of a physical collection: superseded rows count until compaction."""
    with store.reading(f"read the statistics of {physical!r}"):
        return int(store.client.get_collection_stats(physical, timeout=store.timeout).get("row_count", 0))


def aliases_of(store: Store, physical: str) -> tuple[str, ...]:
    """The aliases that lead to a physical collection."""
    with store.reading(f"list the aliases of {physical!r}"):
        return tuple(sorted(store.client.list_aliases(physical, timeout=store.timeout).get("aliases", [])))


def is_loaded(store: Store, physical: str) -> bool:
    """Whether a collection answers queries without being loaded first."""
    with store.reading(f"ask for the state of {physical!r}"):
        state = store.client.get_load_state(physical, timeout=store.timeout)
    return str(getattr(state.get("state"), "name", state.get("state"))).endswith("Loaded") and "Not" not in str(
        state.get("state")
    )


def lite_remark(store: Store, rows: int) -> str:
    """What to say of a Milvus Lite directory with so many rows that a server serves better; '' for others."""
    if not store.lite or rows <= LITE_ROWS:
        return ""
    return (
        f"{rows:,} rows are more than Milvus Lite serves well: every search looks at every id (half a second at {LITE_ROWS:,} "
        "rows, and in proportion); `collection copy --to-uri http://…` takes them to a server"
    )


def field_rows() -> list[dict[str, object]]:
    """The fields of every collection, as rows of a table."""
    return [{"field": spec.name, "type": spec.type, "meaning": spec.meaning} for spec in FIELDS.values()]
