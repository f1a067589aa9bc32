"""Pairs of stored photographs, each matched once and remembered: what one says of the other, both ways.

A pair is known by the digests of its two files, as their features are, and lies in ``<state>/pairs/<fingerprint>.sqlite``; the
fingerprint is of the features and of what decides a match. Nothing is removed: a pair takes some 100 bytes.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from outcrop.query.verification import evidence, geometry
from outcrop.query.verification.confidence import MIN_INLIERS, NEAR
from outcrop.query.verification.features import FULL_EDGE, LocalFeatures
from outcrop.query.verification.geometry import evidence_of_candidate, verify
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.digests import digest_of

FOLDER = "pairs"
VERSION = 1
"""Raise it where the code of a match changes what comes out, beside the constants below."""
_TABLE = "CREATE TABLE pairs (one TEXT, other TEXT, inliers INTEGER, forth REAL, back REAL, PRIMARY KEY (one, other))"

Key = tuple[str, str]
"""The digests of two files, the smaller one first."""


def key_of(one: str, other: str) -> Key:
    """The key of a pair, whichever of its two files is named first."""
    return (one, other) if one <= other else (other, one)


@dataclass(frozen=True)
class Pair:
    """What the match of a pair says: its `inliers`; `forth`, the share of the first that the second explains, and `back`, of the
    second that the first does (`outcrop.query.verification.evidence`, 0 to 1)."""

    inliers: int
    forth: float
    back: float

    @property
    def verified(self) -> bool:
        """Whether the two show the same ground."""
        return self.inliers >= MIN_INLIERS

    def evidence_for(self, digest: str, key: Key) -> float:
        """How much of the file of this digest the other one of the pair explains; 0 where they are not verified."""
        if not self.verified:
            return 0.0
        return self.forth if digest == key[0] else self.back

    @classmethod
    def of(cls, one: LocalFeatures, other: LocalFeatures) -> Pair:
        """Matches two pictures."""
        match = verify(one, other)
        return cls(match.inliers, match.evidence, evidence_of_candidate(match, one, other))


Files = Mapping[str, Path]
"""The files of pictures by their digests."""


def match_pairs(keys: Iterable[Key], files: Files, verifier: Verifier) -> tuple[dict[Key, Pair], dict[str, str]]:
    """Matches pairs of pictures in threads, as re-ranking does: at the small working size, and those that are near it but not
    verified there again at their full one. Returns what could be matched, and the reasons of pictures that could not be read, by
    their digests."""
    keys = list(keys)
    wanted = dict.fromkeys(digest for key in keys for digest in key)
    made = verifier.features_of({files[digest]: digest for digest in wanted})
    features = {digest: made[files[digest]] for digest in wanted}
    unread = {digest: found for digest, found in features.items() if isinstance(found, str)}
    seen = {digest: found for digest, found in features.items() if not isinstance(found, str)}

    def matched(key: Key) -> Pair:
        pair = Pair.of(seen[key[0]], seen[key[1]])
        return _again(key, pair, seen, files, verifier) if NEAR * MIN_INLIERS <= pair.inliers < MIN_INLIERS else pair

    readable = [key for key in keys if not unread.keys() & set(key)]
    return dict(zip(readable, verifier.map(matched, readable), strict=True)), unread


def _again(key: Key, first: Pair, seen: Mapping[str, LocalFeatures], files: Files, verifier: Verifier) -> Pair:
    """The pair at full working size, where that verifies it."""
    if verifier.finer is None or all(seen[digest].whole for digest in key):
        return first
    full = []
    for digest in key:
        found = seen[digest] if seen[digest].whole else verifier.finer.features_or_reason(files[digest], digest)
        full.append(seen[digest] if isinstance(found, str) else found)
    second = Pair.of(*full)
    return second if second.verified else first


class PairsKept:
    """Pairs in a state folder, by the fingerprint of the features; a context manager. Where they cannot be kept (a full disk), or
    what was kept is damaged, pairs are matched again."""

    def __init__(self, state: Path, features: str) -> None:
        self.path = state / FOLDER / f"{fingerprint(features)}.sqlite"
        self._open: sqlite3.Connection | None = None

    def __enter__(self) -> PairsKept:
        with contextlib.suppress(OSError, sqlite3.Error):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connect()
            except sqlite3.DatabaseError as error:
                self._close()
                if isinstance(error, sqlite3.OperationalError):  # locked, or no room: another time
                    return self
                self.path.unlink()
                self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def get(self, keys: Iterable[Key]) -> dict[Key, Pair]:
        """Those of the pairs that are known."""
        found: dict[Key, Pair] = {}
        if self._open is None:
            return found
        with contextlib.suppress(sqlite3.Error):
            for key in keys:
                asked = "SELECT inliers, forth, back FROM pairs WHERE one = ? AND other = ?"
                row = self._open.execute(asked, key).fetchone()
                if row is not None:
                    found[key] = Pair(*row)
        return found

    def keep(self, pairs: Mapping[Key, Pair]) -> None:
        """Remembers pairs, all or none of them."""
        if self._open is None:
            return
        rows = [(*key, pair.inliers, pair.forth, pair.back) for key, pair in pairs.items()]
        with contextlib.suppress(sqlite3.Error), self._open:
            self._open.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?, ?)", rows)

    def _connect(self) -> None:
        self._open = sqlite3.connect(self.path, timeout=30)
        self._open.execute(_TABLE.replace("TABLE", "TABLE IF NOT EXISTS") + " WITHOUT ROWID")
        self._open.execute("PRAGMA synchronous = NORMAL")
        self._open.execute("SELECT one FROM pairs LIMIT 1").fetchone()

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def fingerprint(features: str) -> str:
    """Names what decides the match of a pair: the features, and every constant that a match or its evidence depends on."""
    deciding = (
        *(geometry.RATIO, geometry.TOLERANCE, geometry.ITERATIONS, geometry.CONFIDENCE, geometry.MIN_MATCHES),
        *(geometry.MAX_SCALE, geometry.MAX_STRETCH, geometry.MAX_CONVERGENCE, geometry.MIN_EXTENT),
        *(evidence.CELLS, evidence.EXACT, evidence.DENSE, MIN_INLIERS, NEAR, FULL_EDGE),
    )
    return f"{features}-{VERSION}-{digest_of(repr(deciding))[:8]}"
