"""What is right: sources of truth that grade every parent of a gallery for a query.

Here those that need no file: the same photograph or specimen, the distance by GPS, and the category.
`outcrop.query.evaluation.truth_files` reads files of pairs and of footprints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from outcrop.query.answers import Query
from outcrop.query.evaluation.gallery import Gallery
from outcrop.query.evaluation.measures import IGNORED, NEGATIVE, RELEVANT
from outcrop.query.ground import distances
from outcrop.schema.errors import InputError
from outcrop.schema.item import UNKNOWN_COORDINATE, Kind


@dataclass(frozen=True)
class Facts:
    """What a query is split by: metres above ground, degrees of turn, dataset; None and '' where unknown."""

    altitude: float | None = None
    rotation: float | None = None
    dataset: str = ""


@dataclass(frozen=True)
class Judgement:
    """Grades [N] int8 of a gallery's parents, how right each is ([N], more is better), and the query's facts.

    `own` is the query's own photograph or specimen in the gallery. `reason` says why the query cannot be counted ('' = it can).
    """

    grades: NDArray[np.int8]
    rightness: NDArray[np.float64]
    own: int | None = None
    facts: Facts = Facts()
    reason: str = ""


class Truth(Protocol):
    """Grades a gallery for one query after another."""

    def describe(self) -> dict[str, Any]:
        """What is relevant, as plain values; begins with ``kind`` and ``text``, a sentence for people."""

    def judge(self, query: Query, gallery: Gallery) -> Judgement:
        """The grades of all the gallery's parents for a query."""


@dataclass(frozen=True)
class OwnTruth:
    """Relevant is the photograph or specimen that the query was made of, and nothing else."""

    def describe(self) -> dict[str, Any]:
        return {"kind": "own", "text": "relevant: the photograph (capture and frame) or specimen the query was made of"}

    def judge(self, query: Query, gallery: Gallery) -> Judgement:
        own = gallery.own(query.item, query.digest)
        grades = np.full(len(gallery.parents), NEGATIVE, dtype=np.int8)
        if own is None and query.item is None:
            reason = "no item was made of this very file; name its photograph in a CSV of pairs"
            return Judgement(grades, grades.astype(float), None, facts_of(query), reason)
        if own is not None:
            grades[own] = RELEVANT
        return Judgement(grades, grades.astype(float), own, facts_of(query, gallery, grades.astype(float)))


@dataclass(frozen=True)
class GpsTruth:
    """Relevant is what was taken within `within` metres of the query; ignored, what lies between that and `ignore_within`.

    The places are the cameras', as the photographs' GPS has them: not the middle of the ground that they show.
    """

    within: float = 25.0
    ignore_within: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.within < math.inf and self.within <= self._outer < math.inf):
            raise InputError(
                f"--within {self.within:g} (and --ignore-within) are metres above 0, the second no smaller than the first"
            )

    @property
    def _outer(self) -> float:
        return self.within if self.ignore_within is None else self.ignore_within

    def describe(self) -> dict[str, Any]:
        band = f"; ignored: up to {self._outer:g} m" if self._outer > self.within else ""
        return {
            "kind": "gps",
            "text": f"relevant: taken within {self.within:g} m of the query by GPS{band}",
            "within": self.within,
            "ignore_within": self._outer,
        }

    def judge(self, query: Query, gallery: Gallery) -> Judgement:
        own = gallery.own(query.item, query.digest)
        place = query.place
        unknown = np.zeros(len(gallery.parents))
        if place is None:
            return Judgement(unknown.astype(np.int8), unknown, own, facts_of(query), "its place is unknown (no GPS)")
        places = gallery.places
        known = places[:, 0] != UNKNOWN_COORDINATE
        metres = np.where(known, distances(*place, places[:, 0], places[:, 1]), np.inf)
        grades = np.where(metres <= self._outer, IGNORED, NEGATIVE)
        grades = np.where(metres <= self.within, RELEVANT, grades)
        grades = np.where(known, grades, IGNORED).astype(np.int8)
        return Judgement(grades, -metres, own, facts_of(query, gallery, -metres))


@dataclass(frozen=True)
class Ranges:
    """Overlaps (0 to 1) from which a pair is relevant and from which it is ignored; below that it is negative."""

    relevant: float = 0.25
    ignore: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.ignore <= self.relevant <= 1:
            raise InputError(
                f"--ignore {self.ignore:g} and --relevant {self.relevant:g} are shares: 0 < ignore <= relevant <= 1"
            )

    def grade(self, overlaps: NDArray[np.float64]) -> NDArray[np.int8]:
        """The grades of overlaps; those that are not a number (unknown) are ignored."""
        grades = np.where(overlaps < self.ignore, NEGATIVE, IGNORED)
        return np.where(overlaps >= self.relevant, RELEVANT, grades).astype(np.int8)

    def describe(self) -> dict[str, Any]:
        """The bounds, and a sentence."""
        band = f"; ignored: from {self.ignore:.0%} to that" if self.ignore < self.relevant else ""
        return {
            "text": f"relevant: overlaps the query by at least {self.relevant:.0%}{band}",
            "relevant": self.relevant,
            "ignore": self.ignore,
        }


@dataclass(frozen=True)
class CategoryTruth:
    """Relevant are the other specimens of the query's category, or of the first `levels` levels of it."""

    levels: int | None = None

    def __post_init__(self) -> None:
        if self.levels is not None and self.levels < 1:
            raise InputError(f"--levels must be 1 or more, got {self.levels}")

    def describe(self) -> dict[str, Any]:
        what = "category" if self.levels is None else f"category (its first {self.levels} levels)"
        return {"kind": "category", "text": f"relevant: of the query's {what}", "levels": self.levels}

    def judge(self, query: Query, gallery: Gallery) -> Judgement:
        own = gallery.own(query.item, query.digest)
        category = self._cut(query.item.category) if query.item is not None else ""
        if not category:
            nothing = np.zeros(len(gallery.parents))
            return Judgement(nothing.astype(np.int8), nothing, own, facts_of(query), "its category is unknown")
        same = np.array([self._cut(item.category) == category for item in gallery.items])
        grades = np.where(same, RELEVANT, NEGATIVE)
        grades = np.where([not item.category for item in gallery.items], IGNORED, grades).astype(np.int8)
        return Judgement(grades, same.astype(np.float64), own, facts_of(query))

    def _cut(self, category: str) -> str:
        return "/".join(category.split("/")[: self.levels])


def facts_of(query: Query, gallery: Gallery | None = None, rightness: NDArray[np.float64] | None = None) -> Facts:
    """What the query's item or photograph says; a picture's dataset is that of the parent which is most right for it."""
    if query.item is not None:
        turned = query.item.rotation if query.item.kind == Kind.REFERENCE else None
        return Facts(query.item.altitude or None, turned, query.item.dataset)
    altitude = query.metadata.relative_altitude if query.metadata is not None else None
    dataset = ""
    if gallery is not None and rightness is not None and np.isfinite(rightness).any():
        dataset = gallery.items[int(np.nanargmax(np.where(np.isfinite(rightness), rightness, -np.inf)))].dataset
    return Facts(altitude, None, dataset)
