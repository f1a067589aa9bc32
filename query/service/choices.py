"""Choices in a page's filters as conditions, and conditions as choices: ``only.dataset=town`` is ``where=dataset=town``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from outcrop.schema.filters import Filter

ONLY, FROM, TO = "only.", "from.", "to."
"""What the names of a form's fields begin with: a value that is chosen, and the ends of a range."""
END_OF_DAY = "T24"
"""Behind a day that a range of times includes whole: later than each of its hours, earlier than the next day."""
TIMES = ("captured_at", "ingested_at")
"""Fields whose texts are times."""
_PLAIN = re.compile(r"[\w/:-]+(?:[.][\w/:-]+)*\Z")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\Z")


def is_choice(name: str) -> bool:
    """Whether a parameter of this name is a choice."""
    return name.startswith((ONLY, FROM, TO))


def chosen_conditions(values: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The conditions that the choices among some parameters make."""
    only = {name.removeprefix(ONLY): found for name, found in values.items() if name.startswith(ONLY)}
    ends = {name.partition(".")[2]: None for name in values if name.startswith((FROM, TO))}
    made = [written(field, [value for value in found if value]) for field, found in only.items()]
    made += [_range(field, _one(values, FROM + field), _one(values, TO + field)) for field in ends]
    return tuple(condition for condition in made if condition)


def written(field: str, values: Iterable[str]) -> str:
    """The condition that a field has one of some values; '' where there is none."""
    some = ",".join(_quoted(value) for value in dict.fromkeys(values))
    return f"{field}={some}" if some else ""


def values_chosen(filter: Filter, field: str) -> tuple[object, ...]:
    """The values that a field is to have one of, by the first condition that says so; () where nothing does."""
    for condition in filter.conditions:
        if condition.field == field and condition.operator == "in" and not condition.negated:
            return condition.values
    return ()


def ends_chosen(filter: Filter, field: str) -> tuple[str, str]:
    """The ends of a field's range as they are typed, '' where they are open."""
    for condition in filter.conditions:
        if condition.field == field and condition.operator == "range" and not condition.negated:
            low, high = (_typed(value) for value in condition.values)
            return low, high.removesuffix(END_OF_DAY)
    return "", ""


def is_choice_of_values(filter: Filter) -> bool:
    """Whether the only condition of a filter is a choice of values."""
    (condition,) = filter.conditions
    return condition.operator == "in" and not condition.negated


def is_range(filter: Filter, *, of_days: bool) -> bool:
    """Whether the only condition of a filter is a range, of whole days where asked."""
    (condition,) = filter.conditions
    if condition.operator != "range" or condition.negated:
        return False
    ends = ends_chosen(filter, condition.field)
    return not of_days or all(not end or _DAY.match(end) for end in ends)


def _range(field: str, low: str, high: str) -> str:
    if not low and not high:
        return ""
    whole_day = field in TIMES and _DAY.match(high)
    return f"{field}={low}..{high}{END_OF_DAY if whole_day else ''}"


def _one(values: Mapping[str, Sequence[str]], name: str) -> str:
    return next((value.strip() for value in values.get(name, ()) if value.strip()), "")


def _quoted(value: str) -> str:
    if _PLAIN.match(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _typed(value: object) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
