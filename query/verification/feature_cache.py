"""Local features on disk, in the state folder: the features of a picture are made once, however many queries it answers.

``<state>/features/<fingerprint of the method>/<2 characters>/<digest of the file>.npz``, uncompressed and without pickles. The
zip container checks its own sums: a damaged file is noticed, and its features are made anew. So is one that does not say at what
size its features were made. The folder is kept below a limit; what was unused longest goes first.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from outcrop.embed.arrays import read_arrays
from outcrop.query.verification.features import LocalFeatures
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file

IN_MEMORY = 128 * 2**20
"""Bytes of features kept in memory: some 600 pictures of SIFT, fewer of patch tokens."""


class FeatureCache:
    """Features by digest of the file they come from. Threads may share one; processes may share its folder.

    `limit` is in bytes; 0 keeps nothing on disk. What cannot be written is not kept, which is not an error.
    """

    def __init__(self, folder: Path, fingerprint: str, limit: int = 4 * 2**30) -> None:
        self.folder, self.limit = folder / fingerprint, limit
        self._root = folder
        self._memory: OrderedDict[str, LocalFeatures] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._unmeasured: int | None = None
        self.made = 0
        """Pictures whose features were not there and had to be made."""

    @classmethod
    def below(cls, state: Path, fingerprint: str, limit: int = 4 * 2**30) -> FeatureCache:
        """The cache in a state folder."""
        return cls(state / "features", fingerprint, limit)

    def get(self, digest: str, make: Callable[[], LocalFeatures]) -> LocalFeatures:
        """The features of the file with this digest: from memory, from disk, or made (and kept)."""
        with self._lock:
            if digest in self._memory:
                self._memory.move_to_end(digest)
                return self._memory[digest]
        features = self._read(digest)
        if features is None:
            features = make()
            self._write(digest, features)
        with self._lock:
            before = self._memory.pop(digest, None)
            self._bytes += _size(features) - (_size(before) if before is not None else 0)
            self._memory[digest] = features
            while self._bytes > IN_MEMORY and len(self._memory) > 1:
                self._bytes -= _size(self._memory.popitem(last=False)[1])
        return features

    def path(self, digest: str) -> Path:
        """The path of the features of a file, whether it exists or not."""
        name = digest if digest.isalnum() and len(digest) <= 64 else digest_of(digest)
        return self.folder / name[:2] / f"{name}.npz"

    def prune(self) -> int:
        """Removes what was unused longest until the folder (all methods) is below nine tenths of its limit.

        Returns how many files went.
        """
        files = []
        for path in self._root.rglob("*.npz"):
            with contextlib.suppress(OSError):  # another process pruned it
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, size, _ in files)
        if total <= self.limit:
            return 0
        gone = 0
        for _, size, path in sorted(files):
            with contextlib.suppress(OSError):
                path.unlink()
                gone += 1
            total -= size
            if total <= 0.9 * self.limit:
                break
        return gone

    def _read(self, digest: str) -> LocalFeatures | None:
        path = self.path(digest)
        try:
            stored = read_arrays(path)
            points, descriptors, facts = stored["points"], stored["descriptors"], stored["facts"]
            method = str(stored["method"])
            if points.ndim != 2 or points.shape[1] != 2 or descriptors.ndim != 2 or len(points) != len(descriptors):
                return None
            features = LocalFeatures(
                points.astype(np.float32, copy=False),
                descriptors,
                int(facts[0]),
                int(facts[1]),
                float(facts[2]),
                method,
            )
            if int(facts[3]) != features.working:
                return None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, IndexError, EOFError, TypeError, zipfile.BadZipFile):
            return None  # damaged: made anew, and replaced
        with contextlib.suppress(OSError):
            os.utime(path)
        return features

    def _write(self, digest: str, features: LocalFeatures) -> None:
        with self._lock:
            self.made += 1
            # After the first write, and then often enough never to pass the limit by much more than a twentieth.
            measure = self._unmeasured is None or self._unmeasured > self.limit / 20
            self._unmeasured = (0 if measure else self._unmeasured or 0) + _size(features)
        if self.limit <= 0:
            return
        path = self.path(digest)
        try:
            with whole_file(path, durable=False, parents=True) as made, made.open("wb") as file:
                np.savez(
                    file,
                    points=features.points,
                    descriptors=features.descriptors,
                    facts=np.array([features.width, features.height, features.unit, features.working], np.float64),
                    method=np.array(features.method),
                )
        except InputError:  # a full disk: the features are computed again next time
            return
        if measure:
            self.prune()


def _size(features: LocalFeatures) -> int:
    return features.points.nbytes + features.descriptors.nbytes
