"""Which items of a clustering are chosen, read from an address: clusters, a lasso around marks of the map, or both."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from outcrop.query.service.asked import Parameters, named_values, one
from outcrop.query.service.results import MOST_CORNERS
from outcrop.schema.errors import InputError

FORMATS = ("csv", "geojson", "keys")
NAMES = ("cluster", "lasso", "format")
MOST_CLUSTERS = 200


@dataclass(frozen=True)
class Chosen:
    """Ids of `clusters` (-1: those in none), and the corners of a `lasso` on the map, as shares of its sides from 0 to 1."""

    clusters: tuple[int, ...] = ()
    lasso: tuple[tuple[float, float], ...] = ()
    format: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing is chosen."""
        return not self.clusters and not self.lasso

    def address(self, **other: object) -> str:
        """The query of the address that chooses this, with `other` values in place of its own."""
        values: dict[str, object] = {
            "cluster": self.clusters,
            "lasso": " ".join(f"{x:.4f},{y:.4f}" for x, y in self.lasso),
        } | other
        return urlencode({name: value for name, value in values.items() if value not in ("", ())}, doseq=True)

    @classmethod
    def of(cls, given: Parameters) -> Chosen:
        """What parameters choose.

        Raises:
            InputError: a parameter is unknown or does not fit.
        """
        values = named_values(given, NAMES)
        clusters = tuple(dict.fromkeys(_whole(text) for text in values.get("cluster", ()) if text.strip()))
        if len(clusters) > MOST_CLUSTERS:
            raise InputError(f"cluster is given {len(clusters)} times; give it at most {MOST_CLUSTERS} times")
        format = one(values, "format")
        if format and format not in FORMATS:
            raise InputError(f"format must be {', '.join(FORMATS)}, got {format[:40]!r}")
        return cls(clusters, _corners(one(values, "lasso")), format)


def _whole(text: str) -> int:
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise InputError(f"cluster must be a whole number, got {text[:40]!r}")
    return int(text)


def _corners(text: str) -> tuple[tuple[float, float], ...]:
    if not text:
        return ()
    parts = text.split()
    try:
        corners = tuple((float(x), float(y)) for x, y in (part.split(",") for part in parts[: MOST_CORNERS + 1]))
    except ValueError:
        corners = ()
    if not 3 <= len(corners) <= MOST_CORNERS or not all(-1 <= value <= 2 for pair in corners for value in pair):
        raise InputError(
            f"lasso must be 3 to {MOST_CORNERS} corners X,Y as shares of the map from 0 to 1, got {text[:60]!r}"
        )
    return corners
