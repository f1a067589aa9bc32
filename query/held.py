"""What a collection holds of what a query names: a misspelt dataset is an error, and an empty answer says why it is empty."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from outcrop.query.answers import Results
from outcrop.schema.errors import FilterError, InputError, nearest
from outcrop.schema.filters import Condition, Filter, equals
from outcrop.schema.item import Kind
from outcrop.store.collection import Collection
from outcrop.store.partitions import dataset_of, holds_dataset, holds_kind

CHECKED = ("dataset", "category", "capture_id")
"""Fields whose values name something that is there or is not."""
MAX_CHECKED = 20
"""Values of one condition that are looked up one by one."""
MAX_SCANNED = 200_000
"""Rows that are read for the nearest name."""
MAX_NAMED = 10
PART_OF = {Kind.REFERENCE: Kind.IMAGE, Kind.VIEW: Kind.SPECIMEN}


def require_held(filter: Filter | None, collection: Collection) -> None:
    """Refuses datasets and kinds that the collection does not hold, going by its partitions: it costs one request at most.

    Conditions with ``!=``, ranges and prefixes are not looked at.

    Raises:
        FilterError: naming the nearest dataset, or the kinds that are there; or a name is neither a field's nor an own column's.
    """
    if filter is not None:
        collection.bound(filter)
    for condition in _naming(filter, "dataset", "kind"):
        existing = collection.partitions(fresh=True)
        values = [str(value) for value in condition.values]
        if condition.field == "dataset":
            for name in values:
                if not holds_dataset(name, existing):
                    raise FilterError(_unknown("dataset", name, collection))
        elif not any(holds_kind(Kind(value), existing) for value in values):
            raise FilterError(
                f"collection {collection.name!r} holds no {' or '.join(values)}; "
                f"it holds: {', '.join(kind for kind in Kind if holds_kind(kind, existing)) or 'nothing'}"
            )


def why_empty(filter: Filter | None, collection: Collection) -> str:
    """Why no query has a hit; costs a few counts.

    Raises:
        FilterError: a dataset, category or capture_id of the filter names nothing in the collection.
    """
    total = collection.count()
    if not total:
        return f"collection {collection.name!r} is empty; ingest something first"
    filter = filter or Filter()
    kept = collection.count(filter)
    if kept:
        return f"the filter keeps {kept} of {total} rows, and what it keeps was left out (--exclude-self)"
    for condition in _naming(filter, *CHECKED):
        for value in condition.values[:MAX_CHECKED]:
            if not collection.count(equals(condition.field, str(value))):
                raise FilterError(_unknown(condition.field, str(value), collection))
    filter = collection.bound(filter)
    barren = [each.expression for each in filter.conditions if not collection.count(Filter((each,)))]
    return f"the filter keeps 0 of {total} rows" + (f"; none has {barren[0]}" if barren else "")


def explained(answers: Results, filter: Filter | None, collection: Collection) -> Results:
    """The answers; with the reason where no query that could be read has a hit.

    Raises:
        FilterError: the reason is a name that the collection does not hold.
    """
    asked = [result for result in answers.results if not result.error]
    if not asked or any(result.hits for result in asked):
        return answers
    return replace(answers, no_hits=why_empty(filter, collection))


def queried_kind(dataset: str, collection: Collection, asked: Kind | None = None) -> Kind:
    """The kind of a dataset's items that are the queries: as asked, else images, else the only kind that the dataset holds.

    Raises:
        InputError: the dataset holds none of the kind asked for, several others, or nothing at all.
    """
    held = [kind for kind in Kind if collection.count(equals("kind", str(kind)) & equals("dataset", dataset))]
    if asked in held or (asked is None and Kind.IMAGE in held):
        return asked or Kind.IMAGE
    # References and views are parts of what they were made of.
    whole = [kind for kind in held if PART_OF.get(kind) not in held]
    if asked is None and len(whole) == 1:
        return whole[0]
    if held:
        raise InputError(
            f"dataset {dataset!r} in collection {collection.name!r} holds no {asked or Kind.IMAGE} but "
            f"{', '.join(held)}; choose with --query-kind"
        )
    known = nearest(dataset, datasets(collection))
    raise InputError(
        f"collection {collection.name!r} holds no {asked or Kind.IMAGE} of dataset {dataset!r}"
        f"{known or f'; `ingest dataset {dataset}` first, or see `collection describe`'}"
    )


def datasets(collection: Collection) -> list[str]:
    """The datasets of a collection; read from its rows where partitions do not say their names."""
    named = [dataset_of(name) for name in collection.partitions() if name != "_default"]
    return sorted({name for name in named if name is not None}) if None not in named else _values("dataset", collection)


def _naming(filter: Filter | None, *fields: str) -> Iterable[Condition]:
    """The conditions that name values of these fields."""
    conditions = filter.conditions if filter is not None else ()
    named = [each for each in conditions if isinstance(each, Condition) and each.field in fields]
    return [each for each in named if each.operator == "in" and not each.negated]


def _unknown(field: str, value: str, collection: Collection) -> str:
    known = datasets(collection) if field == "dataset" else _values(field, collection)
    # --against takes kinds and datasets.
    hint = nearest(value, [*known, *Kind] if field == "dataset" else known)
    if not hint:
        more = ", …" if len(known) > MAX_NAMED else ""
        hint = f"; there are: {', '.join(known[:MAX_NAMED])}{more}" if known else ""
    return f"collection {collection.name!r} holds no {field} {value!r}{hint}"


def _values(field: str, collection: Collection) -> list[str]:
    """The values of a field, of as many rows as are read for a hint."""
    found: set[str] = set()
    read = 0
    for rows in collection.scan_rows(None, ["id", field], batch=5000, check=False):
        found.update(str(row[field]) for row in rows)
        read += len(rows)
        if read >= MAX_SCANNED:
            break
    return sorted(found - {""})
