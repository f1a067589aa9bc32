"""The tables of own columns that the datasets of a collection were given, so that items that come later have these columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from outcrop.store.collection import PROPERTY_TABLES
from outcrop.store.remembered import Remembered

MOST = 16
"""Tables remembered for each dataset; the oldest are forgotten."""


class KnownTable(BaseModel):
    """A table by its absolute path, what its rows are `on` and its encoding (None: found out), and the names of its columns.

    `digest` is that of the file whose values all rows of the dataset have; '' where this is not certain: a run was interrupted,
    or the file could not be read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    table: Path
    on: str | None = None
    encoding: str | None = None
    columns: tuple[str, ...] = ()
    digest: str = ""


KnownTables = tuple[KnownTable, ...]
"""Of one dataset, the oldest first: where two have a value for the same item, the later one wins."""
TABLES: Remembered[KnownTables] = Remembered(PROPERTY_TABLES, KnownTables)


def with_table(known: Sequence[KnownTable], table: KnownTable) -> KnownTables:
    """The tables of a dataset once another is given: it is the last, and takes the place of an earlier one in the same file."""
    return (*(each for each in known if each.table != table.table), table)[-MOST:]
