"""Conditions on own columns: parsed before the collection is known, typed by its columns, and turned into an expression.

A missing value fulfils no condition, not even ``!=``: ``collector!=Kim*`` keeps the items that have another collector. So the
expressions are made of comparisons alone: of a row without the value these are false on every backend, where ``!=`` and ``not``
are true on Milvus 2.3.5 and false on Milvus Lite.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from outcrop.schema.columns import Column, Columns, ColumnValue
from outcrop.schema.errors import FilterError, nearest
from outcrop.schema.expressions import literal, successor
from outcrop.schema.item import FIELDS

Operator = Literal["in", "range", "prefix"]


@dataclass(frozen=True)
class _Beside(Column):
    """A value that some rows keep beside their fields, under its own name."""

    @property
    def key(self) -> str:
        """Its name in the rows."""
        return self.name


BESIDE = Columns([_Beside("second", "number")])
"""What conditions may be about besides fields and own columns: the second of a film that an image shows."""


@dataclass(frozen=True)
class UnboundCondition:
    """A condition on a name that is not a field's: an own column's, if the collection has it. Values are texts as typed."""

    field: str
    operator: Operator
    values: tuple[str | None, ...]
    negated: bool = False

    @property
    def expression(self) -> str:
        """Not known without the collection.

        Raises:
            FilterError: always.
        """
        raise unknown(self.field, Columns())

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Not known without the collection.

        Raises:
            FilterError: always.
        """
        raise unknown(self.field, Columns())

    def bound(self, columns: Columns) -> ColumnCondition:
        """The condition with the column's type.

        Raises:
            FilterError: there is no such column, or a value is of another type.
        """
        column = columns.get(self.field) or BESIDE.get(self.field)
        if column is None:
            raise unknown(self.field, columns)
        if self.operator == "prefix" and column.type not in ("text", "date"):
            raise FilterError(f"{self.field} is a {column.type}, so it has no prefix; give a value or a range A..B")
        if self.operator == "range" and column.type == "boolean":
            raise FilterError(f"{self.field} is a boolean; write {self.field}=true or {self.field}=false")
        if self.operator == "range" and all(value is None for value in self.values):
            raise FilterError(f"the range of {self.field} has neither a beginning nor an end; give A..B, A.. or ..B")
        if self.operator == "prefix":
            begins: tuple[ColumnValue | None, ...] = tuple(unicodedata.normalize("NFC", str(v)) for v in self.values)
            return ColumnCondition(column, self.operator, begins, self.negated)
        values = tuple(None if value is None else _typed(column, value) for value in self.values)
        if self.operator == "range":
            _require_forward(column, *values)
        return ColumnCondition(column, self.operator, values, self.negated)


@dataclass(frozen=True)
class ColumnCondition:
    """A typed condition on an own column.

    `operator` "in" holds when the column has one of `values`; "range" when it lies between `values[0]` and `values[1]` (both
    included, None = open); "prefix" when the text begins with `values[0]`. `negated` turns it round. A date is compared as far
    as it is given: ``2021`` means every day of the year, and a range to ``2021-05`` includes all of May.
    """

    column: Column
    operator: Operator
    values: tuple[ColumnValue | None, ...]
    negated: bool = False

    @property
    def field(self) -> str:
        """The name of the column."""
        return self.column.name

    @property
    def expression(self) -> str:
        """The condition as a Milvus boolean expression, values escaped."""
        key, values = self.column.key, self.values
        if self.operator == "in" and self.column.type != "date":
            return _one_of(key, values, self.negated)
        # A prefix, or a date, which is as long as it is given, is a range from itself to itself.
        pairs = [(values[0], values[1])] if self.operator == "range" else [(value, value) for value in values]
        open_end = self.operator == "prefix" or self.column.type == "date"
        parts = [_within(key, low, high, open_end, self.negated) for low, high in pairs]
        joined = (" and " if self.negated else " or ").join(parts)
        return f"({joined})"

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a row (its dynamic part unfolded) fulfils the condition: the definition that backends are held to."""
        value = row.get(self.column.key)
        if value is None:
            return False
        if self.operator == "prefix":
            held = value.startswith(self.values[0])
        elif self.operator == "range":
            low, high = self.values
            held = (low is None or value >= low) and (high is None or value <= high or self._begins(value, high))
        else:
            held = any(value == each or self._begins(value, each) for each in self.values)
        return bool(held) != self.negated

    def _begins(self, value: Any, wanted: Any) -> bool:
        return self.column.type == "date" and str(value).startswith(str(wanted))


def unknown(name: str, columns: Columns) -> FilterError:
    """The error for a name that is neither a field's nor an own column's."""
    hint = nearest(name, (*FIELDS, *BESIDE, *columns))
    own = f"; own columns: {', '.join(columns)}" if columns else ""
    return FilterError(f"unknown field {name!r}{hint or '; the fields are ' + ', '.join(FIELDS) + own}")


def _require_forward(column: Column, low: Any, high: Any) -> None:
    """Refuses a range that runs backwards: it holds nothing, and nobody means that."""
    if low is None or high is None or low <= high or (column.type == "date" and low.startswith(high)):
        return
    raise FilterError(f"the range of {column.name} runs backwards; write {column.name}={high}..{low}")


def _typed(column: Column, text: str) -> ColumnValue:
    try:
        value = column.value(text)
    except ValueError as error:
        raise FilterError(f"{column.name} is a {column.type}: {text[:100]!r} {error}") from None
    if value is None:
        raise FilterError(
            f"{column.name}: {text!r} is a missing value, which fulfils no condition; "
            f"--filter 'not (exists {column.key})' keeps the items without one"
        )
    return value


def _one_of(key: str, values: tuple[ColumnValue | None, ...], negated: bool) -> str:
    if isinstance(values[0], bool):  # booleans have no order
        wanted = sorted({value is not negated for value in values})
        if negated and len(wanted) == 2:  # neither
            return f"({key} == true and {key} == false)"
        return f"({' or '.join(f'{key} == {str(value).lower()}' for value in wanted)})"
    if negated:
        return "(" + " and ".join(f"({key} < {literal(v)} or {key} > {literal(v)})" for v in values) + ")"
    if len(values) == 1:
        return f"({key} == {literal(values[0])})"
    return f"({key} in [{', '.join(literal(value) for value in values)}])"


def _within(key: str, low: Any, high: Any, open_end: bool, negated: bool) -> str:
    """From `low` to `high`, or outside; with `open_end` up to the last text that begins with `high`."""
    after = successor(str(high)) if open_end and high is not None else ""
    below, above = ("<", ">") if negated else (">=", "<=")
    bounds = [f"{key} {below} {literal(low)}"] if low is not None else []
    if open_end and high is not None:
        bounds += [f"{key} {'>=' if negated else '<'} {literal(after)}"] if after else []
    elif high is not None:
        bounds.append(f"{key} {above} {literal(high)}")
    return "(" + (" or " if negated else " and ").join(bounds) + ")"
