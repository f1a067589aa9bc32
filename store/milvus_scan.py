"""The rows of a collection page by page, ordered by id, through pymilvus's iterator.

For each page a server takes as many rows out of every segment as the page has, and throws away all but the lowest ids: with ten
segments nine rows of ten are read for nothing. So where more than a page is wanted, the partitions are read side by side, in
pages of their own, and merged by id: a server then reads what is in the partition, and little more. Pages are as large as
`SCAN_BYTES` allow for all partitions together.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from outcrop.schema.errors import OutcropError

if TYPE_CHECKING:
    from outcrop.store.table import Table

Row = dict[str, Any]
SCAN_BYTES = 128 * 2**20
"""Of rows that are held while partitions are merged."""
VALUE_BYTES = 32
"""A number of a vector, as pymilvus returns it: a Python float in a list."""
ROW_BYTES = 4096
"""A row without its vector, about."""
MOST_ROWS = 16_384
"""Rows that Milvus returns in one page at most."""
LEAST_ROWS = 50


def pages(
    table: Table, expression: str, raw: str, names: Sequence[str] | None, fields: Sequence[str], size: int
) -> Iterator[list[Row]]:
    """Pages of at most `size` rows that an expression keeps, of the partitions `names` (None: of all); `raw` is the part of the
    expression that a person typed.

    Raises:
        OutcropError: Milvus gave a row twice (its iterators have done so).
    """
    scan = _Scan(table, expression, raw, tuple(fields))
    seen: set[str] = set()
    for page in _ordered(scan, names, size):
        ids = {row["id"] for row in page}
        if len(ids) != len(page) or not seen.isdisjoint(ids):
            raise OutcropError(
                f"the scan of {table.name!r} gave a row twice; run `collection compact {table.name}` and try again"
            )
        seen |= ids
        yield page


@dataclass(frozen=True)
class _Scan:
    """What is asked of each partition."""

    table: Table
    expression: str
    raw: str
    fields: tuple[str, ...]

    def after(self, id: str) -> _Scan:
        """The same for ids beyond this one."""
        beyond = f'id > "{id}"'
        kept = f"({self.expression}) and {beyond}" if self.expression else beyond
        return _Scan(self.table, kept, self.raw, self.fields)

    def pages(self, names: Sequence[str] | None, size: int) -> Generator[list[Row], None, None]:
        """Pages of partitions taken together, ordered by id."""
        store, what = self.table.store, f"scan {self.table.name!r}"
        with store.reading(what, self.raw):
            found = store.client.query_iterator(
                self.table.physical,
                batch_size=size,
                filter=self.expression,
                output_fields=list(self.fields),
                partition_names=list(names) if names is not None else None,
                consistency_level="Strong",
                timeout=store.timeout,
            )
        try:
            while True:
                with store.reading(what, self.raw):
                    page = found.next()
                if not page:
                    return
                yield [dict(row) for row in page]
        finally:
            found.close()

    def size(self, partitions: int) -> int:
        """Rows in a page of each of so many partitions."""
        vector = self.table.dim * VALUE_BYTES if {"*", "vector"} & set(self.fields) else 0
        return max(LEAST_ROWS, min(MOST_ROWS, SCAN_BYTES // ((vector + ROW_BYTES) * partitions)))


def _ordered(scan: _Scan, names: Sequence[str] | None, size: int) -> Iterator[list[Row]]:
    """A first page of all partitions together, which is all where few rows are kept; what comes after it, merged."""
    partitions = sorted(scan.table.partitions(fresh=True) if names is None else names)
    if len(partitions) < 2 or scan.table.store.lite:  # Milvus Lite looks at every row for a page, of whatever partition
        yield from scan.pages(names, size)
        return
    beginning = scan.pages(names, size)
    first = next(beginning, [])
    if first:
        yield first
    if (
        len(first) < size
    ):  # though it need not be all: a server gives fewer rows than it has, and an empty page at the end
        yield from beginning
        return
    beginning.close()
    rest, each = scan.after(first[-1]["id"]), scan.size(len(partitions))
    held: list[Row] = []
    for rows in _merged([_Stream(rest.pages([name], each)) for name in partitions]):
        held += rows
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


@dataclass
class _Stream:
    """The pages of one partition; `held` are rows that were read and not yet given."""

    source: Iterator[list[Row]]
    held: list[Row] = field(default_factory=list)
    ended: bool = False

    def fill(self) -> None:
        """Reads a page where nothing is held."""
        if not self.held and not self.ended:
            self.held = next(self.source, [])
            self.ended = not self.held

    def until(self, id: str) -> list[Row]:
        """Gives the rows up to an id."""
        count = next((place for place, row in enumerate(self.held) if row["id"] > id), len(self.held))
        given, self.held = self.held[:count], self.held[count:]
        return given


def _merged(streams: list[_Stream]) -> Iterator[list[Row]]:
    """Rows of all streams ordered by id: as far as the stream whose page ends first."""
    while True:
        for stream in streams:
            stream.fill()
        streams = [stream for stream in streams if not stream.ended]
        if not streams:
            return
        bound = min(stream.held[-1]["id"] for stream in streams)
        yield sorted((row for stream in streams for row in stream.until(bound)), key=lambda row: str(row["id"]))
