"""The filters of a page: for each field what can be chosen, how many items have it, and what is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from outcrop.query.service.choices import ends_chosen, is_choice_of_values, is_range, values_chosen
from outcrop.query.service.overview import Mask, Overview
from outcrop.schema.columns import Column
from outcrop.schema.filters import Filter
from outcrop.schema.filters import asked as filter_of

SHOWN = 8
"""Values that a facet shows at once; the others unfold."""
MOST_VALUES = 100
"""Values that a facet shows at all; the chosen ones come first, then the most frequent."""
MOST_OWN = 200
"""Different values of a text column that make it a facet; a column with more is for conditions."""
VALUES = ("kind", "dataset", "capture_id", "category")
"""Fields that are chosen from by value."""
LABELS = {"kind": "Kind", "dataset": "Dataset", "capture_id": "Capture or specimen", "category": "Category"}
ALTITUDE, CAPTURED = "altitude", "captured_at"

Shape = Literal["values", "numbers", "dates"]


@dataclass(frozen=True)
class FacetValue:
    """A value that can be chosen: its text in a condition, and how many items would be kept by it."""

    text: str
    count: int
    chosen: bool = False


@dataclass(frozen=True)
class Facet:
    """A filter of one field: `values` to choose from (`hidden` more are not listed), or the range from `least` to `most` that
    items lie in, with the ends that are asked for (`low`, `high`; '' where open)."""

    field: str
    label: str
    shape: Shape
    values: tuple[FacetValue, ...] = ()
    hidden: int = 0
    least: str = ""
    most: str = ""
    low: str = ""
    high: str = ""

    @property
    def used(self) -> bool:
        """Whether something is chosen."""
        return bool(self.low or self.high or any(value.chosen for value in self.values))


@dataclass(frozen=True)
class Facets:
    """All filters of a page. `rows` are all items of the collection; counts are made from `read` of them, and `kept` is how many
    fulfil all conditions. `others` are the conditions that no facet shows. `extent` is south, west, north and east of the places
    of all items, None where none is known."""

    facets: tuple[Facet, ...]
    rows: int
    read: int
    kept: int
    others: tuple[str, ...] = ()
    extent: tuple[float, float, float, float] | None = None

    @property
    def sampled(self) -> bool:
        """Whether counts are estimates."""
        return self.read < self.rows

    def without(self, field: str) -> Facets:
        """The same without the filter of a field."""
        return replace(self, facets=tuple(facet for facet in self.facets if facet.field != field))

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "rows": self.rows,
            "rows_read": self.read,
            "kept": self.kept,
            "estimated": self.sampled,
            "facets": [_facet_json(facet) for facet in self.facets],
        }


def facets_of(overview: Overview, filter: Filter, conditions: Sequence[str] = ()) -> Facets:
    """The filters beside an answer to `filter`, of which `conditions` are the texts. A facet's counts leave out what is chosen in
    it: they say what else could be chosen.

    Raises:
        FilterError: there is no such column, or a value is of another type.
    """
    made = [_values(overview, filter, field, LABELS[field], field) for field in VALUES]
    made += [_numbers(overview, filter, ALTITUDE, "Altitude (m)", ALTITUDE), _dates(overview, filter, CAPTURED)]
    made += [_own(overview, filter, column) for column in overview.columns.values()]
    shown = tuple(facet for facet in made if facet is not None)
    others = tuple(text for text in conditions if not any(_covers(facet, filter_of(text)) for facet in shown))
    extent = overview.extent(np.ones(len(overview), dtype=bool))
    kept = round(int(overview.mask(filter).sum()) / overview.share) if len(overview) else 0
    return Facets(shown, overview.total, len(overview), kept, others, extent)


def _covers(facet: Facet, filter: Filter) -> bool:
    """Whether a facet shows the only condition of a filter."""
    if filter.conditions[0].field != facet.field:
        return False
    return is_choice_of_values(filter) if facet.shape == "values" else is_range(filter, of_days=facet.shape == "dates")


def _own(overview: Overview, filter: Filter, column: Column) -> Facet | None:
    if column.type == "number":
        return _numbers(overview, filter, column.name, column.name, column.key)
    if column.type == "date":
        return _dates(overview, filter, column.name, column.name, column.key)
    return _values(overview, filter, column.name, column.name, column.key, MOST_OWN)


def _values(
    overview: Overview, filter: Filter, field: str, label: str, name: str, most: int | None = None
) -> Facet | None:
    """A facet of values; None where there is nothing to choose."""
    chosen = {_text(value) for value in values_chosen(filter.bound(overview.columns), field)}
    counted = [
        (_text(value), count) for value, count in overview.counts(name, overview.mask(filter, field)) if value != ""
    ]
    if (len(counted) < 2 and not chosen) or (most is not None and len(counted) > most):
        return None
    known = {text for text, _ in counted}
    counted += [(text, 0) for text in sorted(chosen - known)]
    counted.sort(key=lambda pair: (pair[0] not in chosen, -pair[1], pair[0]))
    values = [FacetValue(text, round(count / overview.share), text in chosen) for text, count in counted]
    return Facet(field, label, "values", tuple(values[:MOST_VALUES]), max(0, len(values) - MOST_VALUES))


def _numbers(overview: Overview, filter: Filter, field: str, label: str, name: str) -> Facet | None:
    low, high = ends_chosen(filter.bound(overview.columns), field)
    found = _present(overview, name, overview.mask(filter, field))
    found = [value for value in found if value > 0] if field == ALTITUDE else found  # 0 where it is not known
    if not (low or high) and len(found) < 2:
        return None
    least, most = (f"{min(found):.6g}", f"{max(found):.6g}") if found else ("", "")
    return Facet(field, label, "numbers", least=least, most=most, low=low, high=high)


def _dates(overview: Overview, filter: Filter, field: str, label: str = "Date", name: str = CAPTURED) -> Facet | None:
    low, high = ends_chosen(filter.bound(overview.columns), field)
    found = [value for value in _present(overview, name, overview.mask(filter, field)) if value]
    if not (low or high) and len(found) < 2:
        return None
    least, most = (min(found)[:10], max(found)[:10]) if found else ("", "")
    return Facet(field, label, "dates", least=least, most=most, low=low, high=high)


def _present(overview: Overview, name: str, mask: Mask) -> list[Any]:
    return [value for value, count in overview.counts(name, mask) if count]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _facet_json(facet: Facet) -> dict[str, Any]:
    about: dict[str, Any] = {"field": facet.field, "label": facet.label}
    if facet.shape == "values":
        listed = [{"value": each.text, "count": each.count, "chosen": each.chosen} for each in facet.values]
        return {**about, "values": listed, "not_listed": facet.hidden}
    return {**about, "least": facet.least, "most": facet.most, "from": facet.low, "to": facet.high}
