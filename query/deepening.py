"""How deep re-ranking looks: beyond its depth, in steps of it, as long as it still finds something there.

Where a query's ground is on very many photographs, the embedding has more of them than the depth holds, and what lies behind is
as good as what lies before. Where the last candidates show other ground, those behind them do too, with few exceptions: then
nothing more is matched, and a query without a match costs what it always did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from outcrop.query.answers import Hit, Result
from outcrop.query.expansion import new_hits
from outcrop.query.verification.confidence import Verification
from outcrop.schema.item import Item, Kind, parent_of

REACH = 4
"""Times the depth that are matched with a query, at most."""
LAST = 0.5
"""Of the depth, the share that counts as its last candidates."""
SHOWN = 0.3
"""The evidence from which a candidate says that there may be more behind it: it shows a good third of the query. Neighbours that
share an edge with the query come long after all others, and would hardly let the matching end."""


@dataclass(frozen=True)
class Steps:
    """How many candidates are matched at once (`depth`), and how many times that at most (`reach`; 1: never more)."""

    depth: int
    reach: int = REACH

    def go_on(self, candidates: Mapping[str, Item], matched: Mapping[str, Verification]) -> bool:
        """Whether another step is worth it after these candidates, all of a step: one of the last shows the query's ground."""
        last = max(1, round(LAST * self.depth))
        return any(_leads_on(item, matched[parent]) for parent, item in list(candidates.items())[-last:])


def _leads_on(item: Item, verification: Verification) -> bool:
    """Whether there may be more behind a candidate. Tiles of a map say nothing of the kind: they overlap by design, and the first
    that is verified says where the query is."""
    if item.kind is Kind.TILE or not verification.verified or verification.match is None:
        return False
    return verification.match.evidence >= SHOWN


class Candidates:
    """The parents of a query's hits, the most similar first, and more of them as they are asked for.

    `hits` are those of the answer, and of the searches that had to be asked beyond it.
    """

    def __init__(self, result: Result) -> None:
        self.hits = result.hits
        self._deeper: Callable[[int], tuple[Hit, ...]] | None = result.again.deeper if result.again else None
        self._given: set[str] = set()

    def take(self, count: int, *, deeper: bool) -> dict[str, Item]:
        """The next `count` parents, each with the item of its best hit; `deeper` searches again where the hits have fewer."""
        while len(found := self._next(count)) < count and deeper and self._searched_again():
            pass
        self._given |= found.keys()
        return found

    def _next(self, count: int) -> dict[str, Item]:
        found: dict[str, Item] = {}
        for hit in self.hits:
            parent = parent_of(hit.item.key)
            if parent not in self._given and len(found) < count:
                found.setdefault(parent, hit.item)
        return found

    def _searched_again(self) -> bool:
        """Twice as many hits are searched for; whether there are new ones, which then follow the others."""
        if self._deeper is None:
            return False
        new = new_hits(self.hits, self._deeper(2 * len(self.hits)))
        self.hits += tuple(new)
        return bool(new)
