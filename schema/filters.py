"""Conditions on items: parsed from ``--where``, typed, escaped, and turned into a Milvus expression.

Grammar of one condition (several are joined by AND)::

    FIELD=VALUE          equal                      altitude=300
    FIELD=V1,V2          one of                     dataset=jamshill_image,caliterra
    FIELD=A..B           from A to B, both included altitude=200..400   (A.. and ..B are open)
    FIELD=PREFIX*        text that begins so        capture_id=250918*
    FIELD!=…             the opposite of any of these

A FIELD is one of `schema.item.FIELDS`, or an own column of the collection (see `outcrop.schema.column_filters`): what a condition
on such a name means is known once the collection is, by `Filter.bound`.

Double quotes keep a text whole: ``capture_id="a,b*"`` (inside them ``\\"`` and ``\\\\`` stand for a quote and a backslash).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

from outcrop.schema.column_filters import ColumnCondition, UnboundCondition, unknown
from outcrop.schema.columns import Columns
from outcrop.schema.errors import FilterError, nearest
from outcrop.schema.expressions import literal as literal
from outcrop.schema.expressions import successor
from outcrop.schema.item import FIELDS, UNKNOWN_COORDINATE, Field, Kind

Value = str | int | float
Operator = Literal["in", "range", "prefix"]


@dataclass(frozen=True)
class Condition:
    """One typed condition.

    `operator` "in" holds when the field equals one of `values`; "range" when it lies between `values[0]` and `values[1]`
    (both included, None = open); "prefix" when the text begins with `values[0]`. `negated` turns it round.
    """

    field: str
    operator: Operator
    values: tuple[Value | None, ...]
    negated: bool = False

    def __post_init__(self) -> None:
        spec = field_named(self.field)
        if self.operator == "prefix" and spec.type != "text":
            raise FilterError(f"{self.field} is a {spec.type}, so it has no prefix; give a value or a range A..B")
        if self.operator == "range" and all(v is None for v in self.values):
            raise FilterError(f"the range of {self.field} has neither a beginning nor an end; give A..B, A.. or ..B")
        if not self.values:
            raise FilterError(f"{self.field} has no value; write {self.field}=VALUE")
        object.__setattr__(self, "values", tuple(None if v is None else _typed(spec, v) for v in self.values))

    @property
    def expression(self) -> str:
        """The condition as a Milvus boolean expression, values escaped."""
        inner = f"({self._positive()})"
        inner = f"(not {inner})" if self.negated else inner
        guard = self._guard()
        return f"({inner} and {guard})" if guard else inner

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether a row (field name to value) fulfils the condition: the definition that backends are held to."""
        spec, value = FIELDS[self.field], row[self.field]
        if spec.kinds != tuple(Kind) and row["kind"] not in spec.kinds:
            return False
        if self.field in ("latitude", "longitude") and value == UNKNOWN_COORDINATE:
            return False
        if self._means_known_altitude and value <= 0:
            return False
        if self.operator == "in":
            held = value in self.values
        elif self.operator == "range":
            low, high = self.values
            held = (low is None or value >= low) and (high is None or value <= high)
        else:
            held = value.startswith(self.values[0])
        return held != self.negated

    @property
    def _means_known_altitude(self) -> bool:
        """Whether this is a range of altitudes: an unknown altitude (0) lies in none. ``altitude=0`` asks for the unknown."""
        return self.field == "altitude" and self.operator == "range"

    def _positive(self) -> str:
        name = self.field
        if self.operator == "in":
            if len(self.values) == 1:
                return f"{name} == {literal(self.values[0])}"
            return f"{name} in [{', '.join(literal(v) for v in self.values)}]"
        if self.operator == "range":
            low, high = self.values
            bounds = [f"{name} >= {literal(low)}"] if low is not None else []
            bounds += [f"{name} <= {literal(high)}"] if high is not None else []
            return " and ".join(bounds)
        # A range of code points instead of `like`: no wildcards to escape, and every backend and version does it alike.
        prefix = str(self.values[0])
        after = successor(prefix)
        bounds = [f"{name} >= {literal(prefix)}"] + ([f"{name} < {literal(after)}"] if after else [])
        return " and ".join(bounds)

    def _guard(self) -> str:
        """Keeps natural values (altitude 0 of a specimen, latitude 999) from answering conditions that are not about them."""
        spec = FIELDS[self.field]
        guards = []
        if spec.kinds != tuple(Kind):
            guards.append(f"kind in [{', '.join(literal(k) for k in spec.kinds)}]")
        if self.field in ("latitude", "longitude"):
            guards.append(f"{self.field} < {UNKNOWN_COORDINATE}")
        if self._means_known_altitude:
            guards.append("altitude > 0.0")
        return " and ".join(guards)


AnyCondition = Condition | ColumnCondition | UnboundCondition


class Area(Protocol):
    """A part of the ground, beyond ranges of latitude and longitude: decided on our side, the same for every backend."""

    def holds(self, latitudes: Sequence[float], longitudes: Sequence[float]) -> Sequence[bool]:
        """Which places (degrees) lie in it."""
        ...


@dataclass(frozen=True)
class Filter:
    """Conditions joined by AND, a raw Milvus expression for what they cannot say, and areas, which Milvus does not see: the
    ranges of latitude and longitude around them are among the conditions."""

    conditions: tuple[AnyCondition, ...] = ()
    raw: str = ""
    areas: tuple[Area, ...] = ()

    def __post_init__(self) -> None:
        _check_raw(self.raw)

    @cached_property
    def expression(self) -> str:
        """One Milvus expression for everything ('' = no filter)."""
        parts = [c.expression for c in self.conditions] + ([f"({self.raw})"] if self.raw else [])
        return " and ".join(parts)

    def __bool__(self) -> bool:
        return bool(self.conditions or self.raw or self.areas)

    def __and__(self, other: Filter) -> Filter:
        raws = [raw for raw in (self.raw, other.raw) if raw]
        raw = raws[0] if len(raws) == 1 else " and ".join(f"({r})" for r in raws)
        return Filter(self.conditions + other.conditions, raw, self.areas + other.areas)

    def inside(self, rows: Sequence[dict[str, Any]]) -> list[bool]:
        """Which rows lie in all areas; they need a latitude and a longitude only where there are areas."""
        found = [True] * len(rows)
        if not self.areas:
            return found
        places = [row["latitude"] for row in rows], [row["longitude"] for row in rows]
        for area in self.areas:
            found = [had and holds for had, holds in zip(found, area.holds(*places), strict=True)]
        return found

    def boxed(self) -> Filter:
        """The same filter as Milvus sees it: the ranges around the areas, without the areas themselves."""
        return replace(self, areas=())

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether a row fulfils every condition (a raw expression cannot be decided here and must be absent)."""
        if self.raw:
            raise FilterError("a raw filter expression is only understood by Milvus")
        return all(c.matches(row) for c in self.conditions) and all(self.inside([row]))

    def bound(self, columns: Columns) -> Filter:
        """The filter with its conditions on own columns typed by those of a collection.

        Raises:
            FilterError: the collection has no such column, or a value is of another type.
        """
        if not any(isinstance(c, UnboundCondition) for c in self.conditions):
            return self
        return replace(
            self,
            conditions=tuple(c.bound(columns) if isinstance(c, UnboundCondition) else c for c in self.conditions),
        )

    def chosen(self, field: str) -> tuple[str, ...] | None:
        """The texts to which `field` is pinned by an "equal" or "one of" condition, or None: these choose partitions."""
        found: set[str] | None = None
        for c in self.conditions:
            if c.field == field and c.operator == "in" and not c.negated:
                values = {str(v) for v in c.values}
                found = values if found is None else found & values
        return None if found is None else tuple(sorted(found))

    def without(self, *names: str) -> Filter:
        """The same filter less the positive "equal" or "one of" conditions on these fields (a partition stands for them)."""
        kept = tuple(c for c in self.conditions if not (c.field in names and c.operator == "in" and not c.negated))
        return replace(self, conditions=kept)


def where(*texts: str, raw: str = "", columns: Columns = Columns()) -> Filter:
    """A filter from conditions as typed on a command line, ``where("altitude=200..400", "dataset=caliterra")``.

    Raises:
        FilterError: unknown field or own column (the nearest is named), wrong type of value, or no condition at all.
    """
    return Filter(tuple(parse(text, columns) for text in texts), raw.strip())


def asked(*texts: str, raw: str = "") -> Filter:
    """As `where`, of a collection that is not open yet: names of no field are left to its own columns (`Filter.bound`).

    Raises:
        FilterError: a value of a field has the wrong type, or a text is not a condition.
    """
    return Filter(tuple(_parsed(text) for text in texts), raw.strip())


def _check_raw(expression: str) -> None:
    """Refuses a raw expression that would end the parentheses it is put in, and so free itself of the other conditions."""
    closing = {")": "(", "]": "["}
    opened: list[str] = []
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[()\[\]"\']', expression, re.DOTALL):
        sign = token[0]
        if sign in ("(", "["):
            opened.append(sign)
        elif sign in closing:
            if not opened or opened.pop() != closing[sign]:
                raise FilterError(
                    f"--filter {expression!r}: the {sign} at character {token.start() + 1} was not opened"
                )
        elif len(sign) == 1:
            raise FilterError(f"--filter {expression!r}: the quote at character {token.start() + 1} is not closed")
    if opened:
        raise FilterError(f"--filter {expression!r}: a {opened[-1]} is not closed")


def equals(field: str, *values: Value) -> Filter:
    """The filter ``field = one of values``."""
    return Filter((Condition(field, "in", values),))


_CONDITION = re.compile(r"\s*([^\W\d]\w*)\s*(!?)=\s*(.*)\s*\Z", re.DOTALL)


def parse(text: str, columns: Columns = Columns()) -> Condition | ColumnCondition:
    """One condition from its text; see the module's grammar.

    Raises:
        FilterError: the text is not a valid condition, or it names an unknown field or a value of the wrong type.
    """
    found = _parsed(text)
    return found.bound(columns) if isinstance(found, UnboundCondition) else found


def _parsed(text: str) -> Condition | UnboundCondition:
    """A condition; one on an own column is not typed yet."""
    match = _CONDITION.match(text)
    if not match:
        raise FilterError(
            f"{text!r} is not a valid condition; write FIELD=VALUE, FIELD=A..B, FIELD=V1,V2 or FIELD=PREFIX*"
        )
    name, negated, rest = unicodedata.normalize("NFC", match[1]), bool(match[2]), match[3].rstrip()
    if not rest:
        raise FilterError(f'{name} has no value; write {name}=VALUE (or {name}="" for an empty text)')
    pieces = _pieces(name, rest)
    if len(pieces) == 1 and not pieces[0].quoted:
        alone = pieces[0].text
        if ".." in alone:
            low, _, high = alone.partition("..")
            return _condition(name, "range", (low.strip() or None, high.strip() or None), negated)
        if alone.endswith("*"):
            return _condition(name, "prefix", (alone[:-1],), negated)
    for piece in pieces:
        if not piece.quoted and piece.text.endswith("*"):
            raise FilterError(f'{name}: a prefix cannot be part of a list; use two queries, or quote "{piece.text}"')
    return _condition(name, "in", tuple(p.text for p in pieces), negated)


def _condition(
    name: str, operator: Operator, values: tuple[str | None, ...], negated: bool
) -> Condition | UnboundCondition:
    if name not in FIELDS:
        return UnboundCondition(name, operator, values, negated)
    return _forward(Condition(name, operator, values, negated))


def _forward(condition: Condition) -> Condition:
    """Refuses a range that runs backwards: it holds nothing, and nobody means that."""
    low, high = condition.values if condition.operator == "range" else (None, None)
    if low is not None and high is not None and low > high:  # type: ignore[operator]  # both of the field's type
        raise FilterError(f"the range of {condition.field} runs backwards; write {condition.field}={high}..{low}")
    return condition


def field_named(name: str) -> Field:
    """The field of this name; a FilterError with the nearest name otherwise."""
    if name not in FIELDS:
        raise unknown(name, Columns())
    return FIELDS[name]


def ids_expression(ids: Iterable[str]) -> str:
    """``id in [...]`` for primary keys."""
    return f"id in [{', '.join(literal(i) for i in ids)}]"


@dataclass(frozen=True)
class _Piece:
    text: str
    quoted: bool


def _pieces(name: str, text: str) -> Sequence[_Piece]:
    """Splits at commas outside double quotes."""
    pieces: list[_Piece] = []
    position = 0
    while True:
        match = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*(,|\Z)', re.DOTALL).match(text, position)
        if match:
            pieces.append(_Piece(re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), True))
        else:
            match = re.compile(r"\s*([^,]*?)\s*(,|\Z)", re.DOTALL).match(text, position)
            assert match is not None  # the pattern matches the empty text
            if not match[1]:
                raise FilterError(f'{name}: an empty value in the list {text!r}; remove the comma, or write ""')
            if match[1].startswith('"'):
                raise FilterError(f'{name}: the quote in {match[1]} is not closed; write {name}="…"')
            pieces.append(_Piece(match[1], False))
        if match[2] != ",":
            return pieces
        position = match.end()


def _typed(spec: Field, value: Value) -> Value:
    if spec.type == "text":
        if not isinstance(value, str):
            raise FilterError(f"{spec.name} must be a text, got {value!r}")
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
            raise FilterError(f"{spec.name}: the value {value!r} contains a control character; no item has one")
        value = unicodedata.normalize("NFC", value)
        if spec.name == "kind" and value not in tuple(Kind):
            raise FilterError(f"kind must be one of {', '.join(Kind)}, got {value!r}{nearest(value, Kind)}")
        return value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise FilterError(
            f"{spec.name} must be a number, got {str(value)[:100]!r} (write {spec.name}=300 or {spec.name}=200..400)"
        ) from None
    if not math.isfinite(number):
        raise FilterError(f"{spec.name} must be a finite number, got {str(value)[:100]!r}")
    if spec.type == "number":
        return number + 0.0  # no -0.0: Milvus Lite does not find it among [0.0, …]
    if isinstance(value, int) or re.fullmatch(r"\s*[+-]?\d+\s*", str(value)):
        whole = int(value)  # exact, where a float could not tell nanoseconds apart
    elif number.is_integer():
        whole = int(number)  # 3.0 or 1e3
    else:
        raise FilterError(f"{spec.name} must be a whole number, got {value!r}")
    if not -(2**63) < whole < 2**63:  # servers cannot parse -(2**63)
        raise FilterError(f"{spec.name} must be a whole number, got {value!r}")
    return whole
