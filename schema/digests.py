"""Digests of bytes, and the digest that an item keeps of its source: the file's bytes, and what was done to them.

All are BLAKE2b of 128 bits, as 32 hex digits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

DIGITS = 32
"""Hex digits of a digest."""


def digest_of(data: bytes | str) -> str:
    """32 hex digits over bytes, or over a text as UTF-8."""
    return hashlib.blake2b(data.encode() if isinstance(data, str) else data, digest_size=DIGITS // 2).hexdigest()


def digest_of_file(*paths: Path) -> str:
    """32 hex digits over the bytes of a file, or of several one behind the other; they are read in pieces.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=DIGITS // 2)
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


@dataclass(frozen=True)
class SourceDigest:
    """What an item was made of, as its field `source_digest` keeps it.

    `file` is the digest of the file's bytes; `transform` that of what was done to them (the rotation and the crop of a
    reference, the cameras of a view), '' where the file was embedded as it is.
    """

    file: str
    transform: str = ""

    @classmethod
    def parse(cls, text: str) -> SourceDigest:
        """The inverse of `str`: the first 32 digits are the file's, the rest is the transform's."""
        return cls(text[:DIGITS], text[DIGITS:])

    def __str__(self) -> str:
        return self.file + self.transform
