"""The page of near-duplicates: groups, the best of each first. What a look costs is bounded, and nothing is deleted."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from outcrop.query.best_picture import COLUMNS, Group, Member, looked_up, measured
from outcrop.query.duplicates import KINDS, Duplicates, find_duplicates
from outcrop.query.held import require_held
from outcrop.query.service.asked import Parameters, conditions_of, named_values, one, whole
from outcrop.query.service.drawn import drawn, wants_json
from outcrop.query.service.languages import told
from outcrop.query.verification.originals import Originals
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter, equals
from outcrop.schema.filters import asked as filter_of
from outcrop.schema.item import AERIAL
from outcrop.screen.tables import cell

if TYPE_CHECKING:
    from outcrop.query.service.engine import Engine

NAMES = ("threshold", "where", "page", "format")
THRESHOLD = 0.95
MOST_COMPARED = 10_000
"""Items that are compared with each other: some seconds in which nobody else is answered."""
GROUPS = 12
"""On a page."""
MEASURED = 24
"""Pictures of a group that are opened: those with the most pixels."""
SHOWN = 12
"""Items of a group that are shown; the CSV has all."""
TAKEN = 400
"""Pictures that are opened for a CSV."""
KEPT_SECONDS = 300.0


@dataclass(frozen=True)
class AskedDuplicates:
    """Which groups are asked for: how alike, under which conditions, and the number of the page, from 1."""

    threshold: float = THRESHOLD
    conditions: tuple[str, ...] = ()
    page: int = 1
    csv: bool = False

    @property
    def filter(self) -> Filter:
        """The conditions as a filter."""
        return filter_of(*self.conditions)

    def address(self, **other: object) -> str:
        """The query of the address that asks this again, with `other` values in place of its own."""
        values = {"threshold": f"{self.threshold:g}", "where": self.conditions, "page": self.page} | other
        return urlencode({name: value for name, value in values.items() if value not in ("", ())}, doseq=True)

    @classmethod
    def of(cls, given: Parameters) -> AskedDuplicates:
        """What parameters ask for.

        Raises:
            InputError: a parameter is unknown or does not fit; FilterError: a condition is not valid.
        """
        values = named_values(given, NAMES)
        text, format = one(values, "threshold"), one(values, "format")
        try:
            threshold = float(text) if text else THRESHOLD
        except ValueError:
            threshold = -1.0
        if not 0 < threshold <= 1:
            raise InputError(f"threshold must be a similarity above 0 and at most 1, got {text[:40]!r}")
        if format not in ("", "csv"):
            raise InputError(f"format must be csv, got {format[:40]!r}")
        asked = cls(threshold, conditions_of(values), whole(values, "page", 1, 1_000_000), format == "csv")
        asked.filter  # noqa: B018  # checked now
        return asked


@dataclass(frozen=True)
class Shown:
    """An item of a group as it is shown."""

    key: str
    name: str
    thumbnail: str
    address: str
    picture: str
    facts: tuple[str, ...]


class DuplicatePages:
    """The answers about near-duplicates. The groups of the last questions are kept for some minutes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[tuple[float, tuple[str, ...]], tuple[float, list[Duplicates]]] = {}

    async def answer(self, request: Request) -> Response:
        """A page of groups; all of them as CSV."""
        asked = AskedDuplicates.of(request.query_params)
        if not request.query_params and not wants_json(request):  # the form: nobody has asked yet
            return self._page(asked, None, ())
        found = await self.engine.run(lambda: self._found(asked))
        first = GROUPS * (asked.page - 1)
        chosen = found if asked.csv else found[first : first + GROUPS]
        opened = sum(min(len(group.ids), MEASURED) for group in chosen)
        if asked.csv and opened > TAKEN:
            raise InputError(
                f"{opened:,} pictures would be compared, at most {TAKEN} are for a CSV here; add conditions, raise "
                "threshold, or use `query duplicates --csv`"
            )
        groups, originals = await self.engine.run(lambda: self._looked_up(chosen))
        judged = await run_in_threadpool(lambda: [measured(group, originals, MEASURED) for group in groups])
        if asked.csv:
            name = {"content-disposition": 'attachment; filename="duplicates.csv"'}
            return Response(_csv(judged), media_type="text/csv; charset=utf-8", headers=name)
        if wants_json(request):
            return JSONResponse(self._json(asked, found, judged))
        return self._page(asked, found, judged)

    def _found(self, asked: AskedDuplicates) -> list[Duplicates]:
        """All groups; in the engine's thread.

        Raises:
            InputError: too many items would be compared. FilterError: a condition names what the collection does not hold.
        """
        now = time.monotonic()
        self._known = {key: known for key, known in self._known.items() if known[0] > now}
        key = asked.threshold, asked.conditions
        if key in self._known:
            return self._known[key][1]
        collection, filter = self.engine.collection, asked.filter
        require_held(filter, collection)
        kinds = filter if filter.chosen("kind") is not None else filter & equals("kind", *map(str, KINDS))
        if (count := collection.count(kinds)) > MOST_COMPARED:
            raise InputError(
                f"{count:,} items would be compared with each other, and at most {MOST_COMPARED:,} are here; add "
                "conditions, such as dataset=… or capture_id=…, or use `query duplicates`"
            )
        found = find_duplicates(collection, asked.threshold, filter)
        self._known[key] = now + KEPT_SECONDS, found
        return found

    def _looked_up(self, chosen: Sequence[Duplicates]) -> tuple[list[Group], Originals]:
        engine = self.engine
        originals = Originals.of_collection(engine.collection, engine.settings)
        return [looked_up(group, engine.collection) for group in chosen], originals

    def _json(self, asked: AskedDuplicates, found: Sequence[Duplicates], judged: Sequence[Group]) -> dict[str, Any]:
        """The shape of `query duplicates --json`, of one page."""
        begin = GROUPS * (asked.page - 1) + 1
        return {
            "collection": self.engine.collection.name,
            "threshold": asked.threshold,
            "total": len(found),
            "next": asked.page + 1 if GROUPS * asked.page < len(found) else None,
            "groups": [{"identical": one.identical, "items": one.rows(n)} for n, one in enumerate(judged, begin)],
        }

    def _page(self, asked: AskedDuplicates, found: Sequence[Duplicates] | None, judged: Sequence[Group]) -> Response:
        begin = GROUPS * (asked.page - 1) + 1
        total = len(found) if found is not None else 0
        groups = [
            (number, group, [_shown(member) for member in group.members[:SHOWN]], len(group.members))
            for number, group in enumerate(judged, begin)
        ]
        return drawn(
            "duplicates.html.j2",
            asked=asked,
            begun=found is not None,
            total=total,
            items=sum(len(group.ids) for group in found or ()),
            groups=groups,
            measured=MEASURED,
            before=f"/duplicates?{asked.address(page=asked.page - 1)}" if asked.page > 1 else "",
            next=f"/duplicates?{asked.address(page=asked.page + 1)}" if GROUPS * asked.page < total else "",
            taken=f"/duplicates?{asked.address(page='', format='csv')}",
            collection=self.engine.collection.name,
        )


def _shown(member: Member) -> Shown:
    item = member.item
    facts = [f"{member.width} × {member.height}" if member.width else "", f"{item.source_size / 1e6:.1f} MB"]
    facts += [
        told("sharpness {1}", f"{member.sharpness:.0f}") if member.sharpness is not None else "",
        told("alike {1}", f"{member.score:.3f}"),
    ]
    picture = f"/pictures/{item.id}" if item.kind in AERIAL else ""
    name = item.key.partition("/")[2]
    facts_told = tuple(fact for fact in facts if fact)
    return Shown(item.key, name, f"/thumbnails/{item.id}.jpg", f"/items/{quote(item.key)}", picture, facts_told)


def _csv(groups: Sequence[Group]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    for number, group in enumerate(groups, 1):
        writer.writerows({name: cell(value) for name, value in row.items()} for row in group.rows(number))
    return text.getvalue()
