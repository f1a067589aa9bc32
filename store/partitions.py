"""Partitions: one per kind and dataset, so that the filters everybody uses choose data instead of sifting it.

Graph indexes lose recall when a filter keeps few rows; a partition is an index of its own. A collection has at most 1,024
partitions in Milvus; past `MOST` the rows of a new dataset go to one partition per kind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from outcrop.schema.filters import Filter
from outcrop.schema.item import Item, Kind

MOST = 1000
_PLAIN = re.compile(r"[A-Za-z0-9_]{1,120}\Z")
_DIGESTED = re.compile(r".*__[0-9a-f]{16}\Z")


def partition_name(kind: Kind, dataset: str) -> str:
    """``image__jamshill_image``; a name Milvus would not take becomes a slug and a digest, so that no two datasets share one."""
    if _PLAIN.match(dataset) and not _DIGESTED.match(dataset):
        return f"{kind}__{dataset}"
    slug = re.sub(r"[^A-Za-z0-9]+", "_", dataset).strip("_")[:80]
    digest = hashlib.blake2b(dataset.encode(), digest_size=8).hexdigest()
    return f"{kind}__{slug}__{digest}"


def home(item: Item, existing: Iterable[str]) -> str:
    """The partition in which an item belongs, given those that exist (it may be new)."""
    return home_of(item.kind, item.dataset, existing)


def home_of(kind: Kind, dataset: str, existing: Iterable[str]) -> str:
    """The partition of a kind and dataset, given those that exist (it may be new).

    Once a kind has a shared partition, new datasets go there even if others were dropped since: the dataset may have rows in
    it, and an upsert replaces rows within one partition only.
    """
    name, existing = partition_name(kind, dataset), set(existing)
    if name in existing or (len(existing) < MOST and str(kind) not in existing):
        return name
    return str(kind)


def chosen(filter: Filter, existing: Iterable[str]) -> tuple[list[str] | None, Filter]:
    """The partitions that a filter chooses (None = all) and what of the filter is left to be sifted.

    Conditions that partitions stand for are left out of the rest, unless rows of several datasets share a partition.
    """
    kinds, datasets = filter.chosen("kind"), filter.chosen("dataset")
    if kinds is None and datasets is None:
        return None, filter
    existing = set(existing)
    wanted_kinds = [Kind(k) for k in kinds] if kinds is not None else list(Kind)
    names: set[str] = set()
    for kind in wanted_kinds:
        if datasets is None:
            names |= {name for name in existing if name.startswith(f"{kind}__")}
        else:
            names |= {partition_name(kind, dataset) for dataset in datasets} & existing
    shared = {str(kind) for kind in wanted_kinds} & existing
    rest = filter if shared and datasets is not None else filter.without("kind", "dataset")
    return sorted(names | shared), rest


def dataset_of(partition: str) -> str | None:
    """The dataset that a partition's name states; None where it is shared, or named by a digest."""
    kind, _, dataset = partition.partition("__")
    if kind not in tuple(Kind) or not dataset or _DIGESTED.match(partition):
        return None
    return dataset


def holds_dataset(dataset: str, existing: Iterable[str]) -> bool:
    """Whether rows of a dataset may be in these partitions, of whatever kind."""
    existing = set(existing)
    return any(str(kind) in existing or partition_name(kind, dataset) in existing for kind in Kind)


def holds_kind(kind: Kind, existing: Iterable[str]) -> bool:
    """Whether rows of a kind may be in these partitions."""
    return any(name == str(kind) or name.startswith(f"{kind}__") for name in existing)
