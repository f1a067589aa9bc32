"""The pages in which a server is scanned: how many rows to ask for in one, and that none comes twice.

For an iterator a server takes as many rows as were asked for from each segment, and returns all up to where the first segment has
run out: of many segments it returns many times what was asked for, in one message. pymilvus gives it out page by page.
"""

from __future__ import annotations

from collections.abc import Sequence

from outcrop.schema.errors import OutcropError

ANSWER_BYTES = 24 * 2**20
"""What one answer may have, about: a server sends at most 64 MiB."""
SEGMENT_BYTES = 256 * 2**20
"""Rows of a segment that is large as segments go, in bytes; the fewer, the more of them there are."""
FIELD_BYTES = 1024
"""A row without its vector, about."""


def rows_of_a_page(batch: int, dim: int, fields: Sequence[str], rows: int) -> int:
    """How many rows to ask for, at most `batch`, of a collection of about so many `rows` with vectors of `dim` numbers."""
    stored = dim * 4 + FIELD_BYTES
    asked = stored if "*" in fields or "vector" in fields else FIELD_BYTES
    segments = max(1.0, rows * stored / SEGMENT_BYTES)
    return max(1, min(batch, int(ANSWER_BYTES / (asked * segments))))


class EachOnce:
    """Looks whether any row comes twice, in memory that does not grow: rows come in the order of their ids."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = ""

    def require(self, ids: Sequence[str]) -> None:
        """Takes the ids of the next page.

        Raises:
            OutcropError: one of them was there before, or comes after one that is larger.
        """
        if len(set(ids)) != len(ids) or min(ids) <= self._last:
            raise OutcropError(
                f"the scan of {self._name!r} gave a row twice; run `collection compact {self._name}` and try again"
            )
        self._last = max(ids)
