"""What a request asks, read from its parameters: the same for pages, forms and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

from outcrop.query.area import Near, Within, rectangle
from outcrop.query.search import GROUPINGS, Grouping
from outcrop.query.service.choices import chosen_conditions, is_choice
from outcrop.query.service.uploads import Box
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.filters import Filter
from outcrop.schema.filters import asked as filter_of

MAX_K = 1000
MAX_EXAMPLES = 50
"""Items that one question may name."""
NAMES = (
    *("picture", "mesh", "by", "item", "not", "k", "where", "near", "area", "rerank", "locate", "box", "min_score"),
    *("within", "group", "turns", "shape"),
)
MAX_TURNS = 36
METHODS = ("geometric",)
BYS = ("pooled", "views")
"""How specimens are compared: `query specimen --by` (outcrop.query.view_sets.BYS, which is slow to import)."""
SHAPES = ("json", "table", "csv")


class Parameters(Protocol):
    """Parameters of a request; a name may come several times."""

    def getlist(self, key: str) -> Sequence[object]:
        """The values of a name, in their order."""
        ...

    def keys(self) -> object:
        """The names."""
        ...


@dataclass(frozen=True)
class Asked:
    """A question: an uploaded `picture` (its digest) or a `box` of it, stored `items`, or both; and what the answer is not like.

    Several examples are asked by the mean of their vectors, less a share of the mean of those it is `unlike`. An uploaded `mesh`
    (its digest) is asked for by itself, and specimens answer, compared `by` their pooled vectors or view by view.
    """

    picture: str = ""
    mesh: str = ""
    by: str = BYS[0]
    items: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    k: int = 24
    conditions: tuple[str, ...] = ()
    near: str = ""
    area: str = ""
    within: str = ""
    group: Grouping = "auto"
    turns: int = 0
    rerank: bool = False
    locate: bool = False
    box: Box | None = None
    min_score: float | None = None
    shape: str = "json"

    @property
    def filter(self) -> Filter:
        """The conditions as a filter, with the part of the ground that is asked for.

        Raises:
            FilterError: one is not valid; those on own columns are judged by the collection. InputError: the part is not valid.
        """
        filter = filter_on_ground(self.conditions, self.near, self.area)
        return filter & Within.parse(self.within, "within").filter if self.within else filter

    @property
    def empty(self) -> bool:
        """Whether nothing is asked."""
        return not self.picture and not self.mesh and not self.items

    def address(self, **other: object) -> str:
        """The query of the address that asks this again, with `other` values in place of its own."""
        values: dict[str, object] = {
            "picture": self.picture,
            "mesh": self.mesh,
            "by": self.by if self.by != Asked.by else "",
            "item": self.items,
            "not": self.unlike,
            "k": self.k if self.k != Asked.k else "",
            "where": self.conditions,
            "near": self.near,
            "area": self.area,
            "within": self.within,
            "group": self.group if self.group != "auto" else "",
            "turns": self.turns or "",
            "rerank": METHODS[0] if self.rerank else "",
            "locate": 1 if self.locate else "",
            "box": ",".join(f"{share:.4f}" for share in self.box) if self.box else "",
            "min_score": "" if self.min_score is None else self.min_score,
        } | other
        return urlencode({name: value for name, value in values.items() if value not in ("", (), None)}, doseq=True)

    def without(self, item: str) -> str:
        """The query of the address that asks this without one of its examples or counterexamples."""
        left = {"item": self.items, "not": self.unlike}
        return self.address(**{name: tuple(key for key in keys if key != item) for name, keys in left.items()})

    @classmethod
    def of(cls, given: Parameters, *, picture: str | None = None, mesh: str | None = None) -> Asked:
        """The question that parameters ask; `picture` or `mesh` is the digest of one that came with them.

        Raises:
            InputError: a parameter is unknown or does not fit; FilterError: a condition is not valid.
        """
        values = named_values(given, NAMES)
        asked = cls(
            picture=picture if picture is not None else one(values, "picture"),
            mesh=mesh if mesh is not None else one(values, "mesh"),
            by=one(values, "by") or Asked.by,
            items=_several(values, "item"),
            unlike=_several(values, "not"),
            k=whole(values, "k", Asked.k, MAX_K),
            conditions=conditions_of(values),
            near=one(values, "near"),
            area=one(values, "area"),
            within=one(values, "within"),
            group=_grouping(values),
            turns=whole(values, "turns", 0, MAX_TURNS, least=0),
            rerank=_method(values),
            locate=one(values, "locate") not in ("", "0"),
            box=_box(values),
            min_score=_score(values),
            shape=one(values, "shape") or "json",
        )
        if asked.shape not in SHAPES:
            raise InputError(f"shape must be one of {', '.join(SHAPES)}, got {asked.shape[:40]!r}")
        asked.filter  # noqa: B018  # checked now
        _check_mesh(asked)
        if asked.box is not None and not asked.picture:
            raise InputError("box marks a part of a picture; give a picture")
        if asked.turns and (not asked.picture or asked.group == "none"):
            raise InputError("turns rotate a picture and group its answers; give a picture, and leave group=none out")
        if asked.turns and (asked.items or asked.unlike):
            raise InputError("turns rotate one picture; leave the other examples or turns out")
        if asked.locate and not asked.rerank:
            raise InputError("a place is estimated from verified hits; add rerank=geometric, or leave locate out")
        if asked.rerank and (asked.unlike or len(asked.items) + bool(asked.picture) != 1):
            raise InputError(
                "re-ranking compares one picture with its hits; ask with one picture or item, or leave rerank out"
            )
        return asked


def _check_mesh(asked: Asked) -> None:
    """Refuses what does not go with a mesh, and what goes with nothing else."""
    if asked.by not in BYS:
        raise InputError(f"by must be {' or '.join(BYS)}, got {asked.by[:40]!r}")
    if not asked.mesh:
        if asked.by != Asked.by:
            raise InputError("by says how specimens are compared with a mesh; give a mesh, or leave by out")
        return
    if asked.picture or asked.items or asked.unlike:
        raise InputError("a mesh is asked for by itself; leave the picture and the items out")
    if asked.rerank or asked.box is not None:
        raise InputError("rerank and box are about pictures; leave them out where a mesh is asked")
    if asked.filter.chosen("kind") is not None:
        raise InputError("a mesh is compared with specimens; leave kind= out of the conditions")


Values = Mapping[str, Sequence[str]]


def named_values(given: Parameters, names: Sequence[str]) -> Values:
    """The values of parameters by name; choices are among them.

    Raises:
        InputError: one is not of these names.
    """
    values = {str(name): [str(value) for value in given.getlist(str(name))] for name in given.keys()}  # type: ignore[attr-defined]  # noqa: SIM118
    for name in values:
        if name not in names and not is_choice(name):
            raise InputError(f"{name[:40]!r} is not a valid parameter{nearest(name, names)}")
    return values


def one(values: Values, name: str) -> str:
    """The value of a parameter that is given once at most, '' where it is not given."""
    given = [value for value in values.get(name, ()) if value.strip()]
    if len(given) > 1:
        raise InputError(f"{name} is given {len(given)} times; give it once")
    return given[0].strip() if given else ""


def _several(values: Values, name: str) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(value.strip() for value in values.get(name, ()) if value.strip()))
    if len(given) > MAX_EXAMPLES:
        raise InputError(f"{name} is given {len(given)} times; give it at most {MAX_EXAMPLES} times")
    return given


def conditions_of(values: Values) -> tuple[str, ...]:
    """The conditions among some parameters, and those that choices in a page's filters make.

    Raises:
        InputError: there are too many.
    """
    return tuple(dict.fromkeys((*_several(values, "where"), *chosen_conditions(values))))


def filter_on_ground(conditions: Sequence[str], near: str, area: str) -> Filter:
    """The filter of conditions, of a distance from a place, and of a rectangle on the ground (west, south, east, north).

    Raises:
        FilterError, InputError: one of them is not valid.
    """
    filter = filter_of(*conditions)
    filter = filter & Near.parse(near).filter if near else filter
    return filter & rectangle(area).filter if area else filter


def checked_outline(text: str) -> str:
    """An outline on a picture: corners in hundredths of its sides (``x,y x,y x,y``), as it was given.

    Raises:
        InputError: it is not that.
    """
    try:
        corners = [tuple(float(part) for part in corner.split(",")) for corner in text.split(" ")] if text else []
    except ValueError:
        corners = [()]
    if (
        any(len(corner) != 2 or not all(abs(value) <= 1e4 for value in corner) for corner in corners)
        or len(corners) > 64
    ):
        raise InputError(f"outline must be x,y x,y x,y in hundredths of the picture's sides, got {text[:60]!r}")
    return text


def _grouping(values: Values) -> Grouping:
    text = one(values, "group") or "auto"
    for known in GROUPINGS:
        if text == known:
            return known
    raise InputError(f"group must be one of {', '.join(GROUPINGS)}, got {text[:40]!r}")


def whole(values: Values, name: str, default: int, most: int, least: int = 1) -> int:
    """A parameter that is a whole number in a range."""
    text = one(values, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most):
        raise InputError(f"{name} must be a whole number from {least} to {most}, got {text[:40]!r}")
    return int(text)


def _method(values: Values) -> bool:
    text = one(values, "rerank")
    if text and text not in METHODS:
        raise InputError(f"rerank must be {METHODS[0]}, got {text[:40]!r}")
    return bool(text)


def _score(values: Values) -> float | None:
    text = one(values, "min_score")
    if not text:
        return None
    try:
        score = float(text)
    except ValueError:
        score = 2.0
    if not -1 <= score <= 1:
        raise InputError(f"min_score must be from -1 to 1, got {text[:40]!r}")
    return score


def _box(values: Values) -> Box | None:
    text = one(values, "box")
    if not text:
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        left = right = top = bottom = 0.0
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise InputError(f"box must be left,top,right,bottom as shares of the picture from 0 to 1, got {text[:60]!r}")
    return (left, top, right, bottom)
