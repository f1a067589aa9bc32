"""Features of many pictures and many verifications, in threads: OpenCV and BLAS release the interpreter lock while they work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from outcrop.query.verification.feature_cache import FeatureCache
from outcrop.query.verification.features import Extractor, LocalFeatures, Sift, read_features, read_picture
from outcrop.query.verification.geometry import one_thread_each
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import PictureError
from outcrop.schema.machine import cores

S = TypeVar("S")
T = TypeVar("T")
_AHEAD = 64
"""Pieces of work submitted before the first result is taken: memory does not grow with the work."""


@dataclass(frozen=True)
class FeatureSource:
    """Local features of picture files by one extractor, kept on disk where there is a cache."""

    extractor: Extractor
    cache: FeatureCache | None = None

    @classmethod
    def below(cls, state: Path, limit: int, extractor: Extractor) -> FeatureSource:
        """With the cache of a state folder, of at most `limit` bytes."""
        return cls(extractor, FeatureCache.below(state, extractor.fingerprint, limit))

    def features(self, path: Path, digest: str = "") -> LocalFeatures:
        """The features of a picture file. `digest` (of its bytes) saves reading it where they are cached.

        Raises:
            PictureError: it cannot be read, or is not a picture.
        """
        data = None
        if not digest:
            data = read_picture(path)
            digest = digest_of(data)
        if self.cache is None:
            return read_features(path, self.extractor, data)
        return self.cache.get(digest, lambda: read_features(path, self.extractor, data))

    def features_or_reason(self, path: Path, digest: str = "") -> LocalFeatures | str:
        """As `features`, but the reason instead of an error."""
        try:
            return self.features(path, digest)
        except PictureError as error:
            return str(error)


class Verifier:
    """Local features of pictures, and work spread over threads.

    `finer` are the features of pictures at their full working size, for the few candidates that are matched again; None where the
    extractor has none (patch tokens have the size of the network's input).

    A context manager: while it is open, OpenCV and BLAS use one thread for each of its own (process-wide).
    """

    def __init__(
        self,
        extractor: Extractor | None = None,
        cache: FeatureCache | None = None,
        workers: int = 0,
        finer: FeatureSource | None = None,
    ) -> None:
        self.source = FeatureSource(extractor if extractor is not None else Sift(), cache)
        self.finer = finer
        self.workers = workers or cores()
        self._pool: ThreadPoolExecutor | None = None
        self._alone = one_thread_each()

    @classmethod
    def below(cls, state: Path, limit: int, extractor: Extractor | None = None) -> Verifier:
        """With the cache of a state folder, of at most `limit` bytes."""
        extractor = extractor if extractor is not None else Sift()
        source = FeatureSource.below(state, limit, extractor)
        finer = extractor.finer if isinstance(extractor, Sift) else None
        return cls(extractor, source.cache, finer=None if finer is None else FeatureSource.below(state, limit, finer))

    def features(self, path: Path, digest: str = "") -> LocalFeatures:
        """The features of a picture file, as `FeatureSource.features`.

        Raises:
            PictureError: it cannot be read, or is not a picture.
        """
        return self.source.features(path, digest)

    def features_of(
        self, files: Mapping[Path, str], source: FeatureSource | None = None
    ) -> dict[Path, LocalFeatures | str]:
        """The features of picture files (path to digest), made in threads, or the reason why one has none."""
        source = self.source if source is None else source
        found = self.map(lambda file: source.features_or_reason(*file), files.items())
        return dict(zip(files, found, strict=True))

    def map(self, work: Callable[[S], T], values: Iterable[S]) -> Iterator[T]:
        """The results of `work` in order, made in threads."""
        if self._pool is None:
            raise RuntimeError("a Verifier is used in a `with`")
        remaining = iter(values)
        pending = [self._pool.submit(work, value) for value in islice(remaining, _AHEAD)]
        while pending:
            yield pending.pop(0).result()
            pending += [self._pool.submit(work, value) for value in islice(remaining, 1)]

    def __enter__(self) -> Verifier:
        self._alone.__enter__()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="verify")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._alone.__exit__(kind, error, trace)
