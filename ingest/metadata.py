"""Tables of own columns in an ingest: matched before anything is embedded, and written into new rows and those that stay.

The collection remembers the tables that its datasets were given, so that items which come later have the same columns. A table
that has changed is read anew; one that is gone, or has become wrong, is said and waited for: the run goes on without it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from outcrop.ingest.requests import TableRequest
from outcrop.ingest.sources import Listing
from outcrop.ingest.watcher import Watcher
from outcrop.schema.column_match import Match, match
from outcrop.schema.column_tables import read_metadata
from outcrop.schema.columns import Columns
from outcrop.schema.digests import digest_of_file
from outcrop.schema.errors import InputError
from outcrop.schema.filters import equals
from outcrop.schema.item import Item
from outcrop.schema.places import absolute
from outcrop.store.annotate import annotate, plan_annotation
from outcrop.store.collection import Collection
from outcrop.store.tables import TABLES, KnownTable, KnownTables, with_table


@dataclass
class _Wanted:
    """A table that is wanted for some datasets, as it is remembered or `given` now; `match` is None where it cannot be read."""

    known: KnownTable
    datasets: set[str]
    given: bool = False
    digest: str = ""
    match: Match | None = None

    @property
    def settled(self) -> bool:
        """Whether all rows have its values already."""
        return not self.given and self.match is not None and bool(self.digest) and self.known.digest == self.digest

    def remembered(self, *, settled: bool) -> KnownTable:
        """The table as the collection keeps it, with the digest if all rows have its values."""
        columns = tuple(self.match.table.columns) if self.match is not None else self.known.columns
        return self.known.model_copy(update={"columns": columns, "digest": self.digest if settled else ""})


@dataclass(frozen=True)
class OwnColumns:
    """The tables of an ingest, matched with what is listed, the oldest first: where two have a value, the later one wins.

    `forgotten` are files of tables that the collection need not remember any more.
    """

    tables: tuple[_Wanted, ...] = ()
    forgotten: frozenset[Path] = frozenset()

    @property
    def matches(self) -> tuple[Match, ...]:
        """The tables that could be read."""
        return tuple(each.match for each in self.tables if each.match is not None)

    def as_json(self) -> dict[str, Any]:
        """What the last table says, with the others as `earlier`; empty without a table."""
        said = [found.as_json() for found in self.matches]
        return (said[-1] | ({"earlier": said[:-1]} if said[:-1] else {})) if said else {}

    def begin(self, collection: Collection, *, remember: bool) -> None:
        """Takes the columns into a collection, and has it `remember` the tables, as not settled until `complete` has run.

        Raises:
            InputError: it has a column of another type.
        """
        for found in self.matches:
            collection.add_columns(found.table.columns)
        if remember:
            self._remember(collection, settled=False)

    def complete(self, collection: Collection, listing: Listing, watcher: Watcher, *, alone: bool) -> None:
        """Gives the rows that were not embedded what the tables say of them, from the first one on whose values they may lack;
        where the run is not `alone` but a shard of several, only the rows of its own listing: others may be embedded just now.
        """
        there = [each for each in self.tables if each.match is not None]
        first = next((place for place, each in enumerate(there) if not each.settled), len(there))
        for each in there[first:]:
            assert each.match is not None
            changed = _completed(collection, each.match, each.datasets, None if alone else listing)
            if changed:
                watcher.say(f"{each.known.table.name}: {changed} items that were there already have other columns now")
        if alone and there[first:]:
            self._remember(collection, settled=True)

    def _remember(self, collection: Collection, *, settled: bool) -> None:
        known = TABLES.all(collection)
        kept: dict[str, KnownTables] = {}
        for dataset in {dataset for each in self.tables for dataset in each.datasets}:
            tables: KnownTables = tuple(t for t in known.get(dataset, ()) if t.table not in self.forgotten)
            for each in self.tables:
                if dataset in each.datasets:
                    sure = each.settled or (settled and each.match is not None)
                    tables = with_table(tables, each.remembered(settled=sure))
            kept[dataset] = tables
        TABLES.update(collection, kept)


def own_columns(
    given: TableRequest | None, listing: Listing, collection: Collection | None, watcher: Watcher
) -> OwnColumns:
    """The tables that the datasets of a listing have: those that the collection remembers, and last the one that is given.
    Columns, types and what does not match are said.

    Raises:
        InputError: the given table is wrong; nothing has been written.
    """
    remembered = TABLES.all(collection) if collection is not None else {}
    if given is None and not remembered:
        return OwnColumns()
    datasets = sorted({item.dataset for item in _items(listing)})
    known = collection.columns if collection is not None else Columns()
    wanted = _wanted(given, datasets, remembered)
    for each in wanted:
        _read(each, known, listing, watcher)
    there = [each for each in wanted if each.match is not None]
    gone = [each for each in wanted if each.match is None and not each.known.table.exists()]
    forgotten = [each for each in gone if _is_forgotten(each, there, watcher)]
    kept = tuple(each for each in wanted if each not in forgotten)
    return OwnColumns(kept, frozenset(each.known.table for each in forgotten))


def remember_annotation(collection: Collection, found: Match, asked: TableRequest) -> None:
    """Has a collection remember a table that was written into its rows, for the datasets that it is about."""
    columns, digest = tuple(found.table.columns), digest_of_file(asked.table)
    table = KnownTable(table=asked.table, on=asked.on, encoding=asked.encoding, columns=columns, digest=digest)
    known = TABLES.all(collection)
    TABLES.update(
        collection, {dataset: with_table(known.get(dataset, ()), table) for dataset in {unit[0] for unit in found.rows}}
    )


def forget_table(collection: Collection, table: Path) -> list[str]:
    """Has a collection forget a table, whether or not the file is there; returns the datasets that had it.

    Raises:
        InputError: no dataset had it.
    """
    place, known = absolute(table), TABLES.all(collection)
    had = {name: tables for name, tables in known.items() if any(each.table == place for each in tables)}
    if not had:
        others = sorted({str(each.table) for tables in known.values() for each in tables})
        raise InputError(
            f"collection {collection.name!r} remembers no table {place}; it remembers: {', '.join(others) or 'none'}"
        )
    TABLES.update(collection, {name: tuple(t for t in tables if t.table != place) for name, tables in had.items()})
    return sorted(had)


def _wanted(
    given: TableRequest | None, datasets: Iterable[str], remembered: Mapping[str, KnownTables]
) -> list[_Wanted]:
    """The tables of these datasets, each once, in the order in which they were given."""
    found: dict[KnownTable, _Wanted] = {}
    for dataset in datasets:
        for known in remembered.get(dataset, ()):
            if given is None or known.table != given.table:
                found.setdefault(known, _Wanted(known, set())).datasets.add(dataset)
    wanted = list(found.values())
    if given is not None:
        table = KnownTable(table=given.table, on=given.on, encoding=given.encoding)
        wanted.append(_Wanted(table, set(datasets), given=True))
    return wanted


def _read(wanted: _Wanted, columns: Columns, listing: Listing, watcher: Watcher) -> None:
    """Reads a table and matches it; one that is remembered and is wrong is said.

    Raises:
        InputError: the table was given, and is wrong.
    """
    known = wanted.known
    try:
        wanted.digest = digest_of_file(known.table) if known.table.is_file() else ""
        table = read_metadata(known.table, known.on, known.encoding, columns)
        found = match(table, (item for item in _items(listing) if item.dataset in wanted.datasets))
    except (InputError, OSError) as error:
        if wanted.given:
            raise
        if known.table.exists():
            watcher.warn(
                f"{error}. The collection remembers this table for {_named(wanted)}: new items are without its columns until "
                "it is mended"
            )
        return
    if not wanted.given:
        changed = "has changed and is read again" if known.digest not in ("", wanted.digest) else "is remembered"
        watcher.say(f"the table {known.table} of {_named(wanted)} {changed}")
    wanted.match = found
    for remark in (str(table), *table.remarks, *found.remarks()):
        watcher.say(remark)


def _is_forgotten(wanted: _Wanted, there: Iterable[_Wanted], watcher: Watcher) -> bool:
    """Whether a table that is gone need not be remembered: a later one has its columns. Says so, or that it is gone."""
    known = wanted.known
    instead = next((each for each in there if _has_columns_of(each, wanted)), None)
    if instead is not None:
        watcher.say(f"{known.table} is gone and is forgotten: {instead.known.table} has its columns")
        return True
    watcher.warn(
        f"the table {known.table} of {_named(wanted)} is gone: new items are without its columns ({', '.join(known.columns)}). "
        f"Bring it back, or type `collection annotate {shlex.quote(str(known.table))} --forget`"
    )
    return False


def _has_columns_of(one: _Wanted, other: _Wanted) -> bool:
    columns = one.match.table.columns if one.match is not None else ()
    return set(other.known.columns) <= set(columns) and other.datasets <= one.datasets


def _completed(collection: Collection, found: Match, datasets: Iterable[str], ours: Listing | None) -> int:
    """Gives rows of datasets what a table says of them, only `ours` where a listing is given; how many are others now."""
    changed = 0
    for dataset in sorted(datasets):
        filter = equals("dataset", dataset)
        plan = plan_annotation(collection, found.table, filter)
        if ours is not None:
            ids = {item.id for item in _items(ours)}
            plan = replace(plan, changed=[id for id in plan.changed if id in ids])
        changed += annotate(collection, plan, filter)
    return changed


def _named(wanted: _Wanted) -> str:
    return ", ".join(sorted(wanted.datasets))


def _items(listing: Listing) -> Iterator[Item]:
    return (wanted.item for source in listing.sources for wanted in source.wanted)
