"""Shards: one ingest in parts that processes or machines take, each by itself, without speaking to each other.

The digest of a parent's key says to which shard a source belongs: to the same one on every machine, whatever else is listed, and
in whatever order.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Self

from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError
from outcrop.schema.item import parent_of

MOST = 10_000
"""Shards of one ingest at most: each keeps a property with the collection."""
_TEXT = re.compile(r"(\d{1,9})/(\d{1,9})\Z", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 0) of `of`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that ``I/N`` stands for.

        Raises:
            InputError: the text is not a valid shard.
        """
        match = _TEXT.match(text.strip())
        if match is None:
            unset = "; the variable in it was not set" if "$" in text or text.strip().startswith("/") else ""
            raise InputError(f"{text!r} is not a valid shard{unset}; write I/N with I from 0 to N-1, such as 0/8")
        number, of = int(match[1]), int(match[2])
        if not 1 <= of <= MOST:
            raise InputError(f"{text!r} is not a valid shard: N must be from 1 to {MOST}")
        if number >= of:
            raise InputError(f"{text!r} is not a valid shard: the shards of {of} are 0/{of} to {of - 1}/{of}")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, key: str) -> bool:
        """Whether an item's key belongs here: all items of one parent belong together."""
        return shard_of(key, self.of) == self.number


def shard_of(key: str, of: int) -> int:
    """The number of the shard, of `of`, to which the parent of an item's key belongs."""
    return int(digest_of(unicodedata.normalize("NFC", parent_of(key)))[:16], 16) % of
