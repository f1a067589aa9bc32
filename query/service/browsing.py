"""Items page by page, in order of their keys: where a page ends is guessed from a sample of the keys, so that every page costs
the same, among a million rows too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from outcrop.query.listing import Page, page_of_items
from outcrop.query.service.asked import Parameters, conditions_of, filter_on_ground, named_values, one, whole
from outcrop.query.service.choices import is_choice, written
from outcrop.query.service.overview import Overview
from outcrop.schema.filters import Filter
from outcrop.schema.filters import asked as filter_of
from outcrop.schema.item import Item, Kind
from outcrop.store.collection import Collection
from outcrop.store.partitions import holds_kind

LISTED, MOST_LISTED = 100, 1000
"""Items on a page: unless asked otherwise, and at most."""
AHEAD = 4
"""Pages that are read at once where the end of one is a guess; again as many times more where it was too near."""
NAMES = ("where", "near", "area", "after", "limit")


@dataclass(frozen=True)
class Browsed:
    """A page of items: those that fulfil `conditions` and lie on a part of the ground, behind the key `after`."""

    conditions: tuple[str, ...] = ()
    near: str = ""
    area: str = ""
    after: str = ""
    limit: int = LISTED

    @property
    def filter(self) -> Filter:
        """See `filter_on_ground`."""
        return filter_on_ground(self.conditions, self.near, self.area)

    def address(self, **other: object) -> str:
        """The query of the page's address, with `other` values in place of its own."""
        values: Mapping[str, object] = {
            "where": self.conditions,
            "near": self.near,
            "area": self.area,
            "after": self.after,
            "limit": self.limit if self.limit != LISTED else "",
        } | other
        return urlencode({name: value for name, value in values.items() if value not in ("", ())}, doseq=True)

    @classmethod
    def of(cls, given: Parameters) -> Browsed:
        """The page that parameters ask for.

        Raises:
            InputError: a parameter is unknown or does not fit; FilterError: a condition is not valid.
        """
        values = named_values(given, NAMES)
        found = cls(
            conditions_of(values),
            one(values, "near"),
            one(values, "area"),
            one(values, "after"),
            whole(values, "limit", LISTED, MOST_LISTED),
        )
        found.filter  # noqa: B018  # checked now
        return found


def has_choices(given: Parameters) -> bool:
    """Whether a form's choices are among some parameters, which an address is to have as conditions."""
    return any(is_choice(str(name)) or not str(value).strip() for name in named(given) for value in given.getlist(name))


def named(given: Parameters) -> list[str]:
    """The names of some parameters."""
    return [str(name) for name in given.keys()]  # type: ignore[attr-defined]  # noqa: SIM118


def page_by_key(collection: Collection, overview: Overview, asked: Browsed) -> Page:
    """The items of a page.

    Raises:
        FilterError: a condition names what the collection does not hold. InputError: `after` names no item.
    """
    mask = overview.mask(asked.filter)
    wanted = asked.limit + 1 if overview.share == 1 else AHEAD * asked.limit
    while True:
        until = overview.key_ahead(mask, asked.after, wanted)
        page = page_of_items(collection, asked.filter, asked.limit, asked.after, until)
        if page.after or not until:
            return page
        wanted *= AHEAD


PARTS = {Kind.IMAGE: Kind.REFERENCE, Kind.SPECIMEN: Kind.VIEW}


def parts_of(item: Item) -> tuple[str, ...]:
    """The conditions that the references of a photograph, or the views of a specimen, fulfil; () for other items."""
    if item.kind not in PARTS:
        return ()
    same: dict[str, Any] = {"kind": PARTS[item.kind], "dataset": item.dataset, "capture_id": item.capture_id}
    same |= {"frame": item.frame} if item.kind is Kind.IMAGE else {"category": item.category}
    return tuple(written(name, [str(value)]) for name, value in same.items() if value != "")


def parts_page(collection: Collection, item: Item, limit: int) -> Page:
    """The first references or views of an item; none for other items."""
    conditions = parts_of(item)
    if not conditions or not holds_kind(PARTS[item.kind], collection.partitions(fresh=True)):
        return Page((), 0)
    return page_of_items(collection, filter_of(*conditions), limit)
