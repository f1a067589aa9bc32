"""Local features of a picture: where its distinctive points are, and what they look like.

SIFT (Lowe, IJCV 2004; OpenCV's) on the upright picture at a working size, spread over the picture: without that, a lit roof
takes every point and the forest beside it none, and two photographs that overlap only in the forest do not match.
Descriptors are compared as RootSIFT (Arandjelović and Zisserman, CVPR 2012), see `outcrop.query.verification.geometry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import InputError, PictureError

if TYPE_CHECKING:
    from outcrop.embed.images import Decoded

MAX_BYTES = 2**30
"""Files larger than this (bytes) are not photographs and are not read."""
PASS_EDGE = 800
"""Longest side in pixels of the working size at which all candidates are matched."""
FULL_EDGE = 1600
"""The same of the few candidates that are matched again; smaller pictures are looked at as they are."""


@dataclass(frozen=True)
class LocalFeatures:
    """The local features of one picture.

    `points` are [N, 2] float32, x to the right and y down in pixels of the upright full-size picture, whose upper left pixel
    has its centre at (0, 0); `descriptors` are [N, D] (uint8 SIFT histograms, or float16 patch tokens of length 1); `unit` is
    the number of full-size pixels in one pixel of the working size; `method` says which features these are: only features of one
    method can be compared.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[Any]
    width: int
    height: int
    unit: float
    method: str

    def __len__(self) -> int:
        return len(self.points)

    @property
    def working(self) -> int:
        """The longest side in pixels at which they were made."""
        return round(max(self.width, self.height) / self.unit)

    @property
    def whole(self) -> bool:
        """Whether they were made of the picture as large as it is."""
        return self.working >= max(self.width, self.height)


class Extractor(Protocol):
    """Makes local features of pictures. `method` is their kind; `fingerprint` names kind and parameters, for caches."""

    @property
    def method(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def wanted(self) -> tuple[int, int]:
        """(height, width) in pixels that the decoded picture needs at least, if the file has them."""
        ...

    def extract(self, decoded: Decoded) -> LocalFeatures:
        """The features of a picture; none (N = 0) for a featureless one. Any number of threads may call it."""
        ...


@dataclass(frozen=True)
class Sift:
    """SIFT with its keypoints spread over the picture.

    `edge` is the longest side of the working size in pixels (smaller pictures are not enlarged; SIFT doubles its first octave
    anyway), `keypoints` the most that are kept of a picture of 800 pixels or less (larger working sizes keep more, as their area
    is larger), `contrast` the detector's threshold, `cells` the cells along the longest side over which the keypoints are spread.
    How the defaults were measured: docs/decisions/0010-local-features.md.
    """

    edge: int = PASS_EDGE
    keypoints: int = 1500
    contrast: float = 0.01
    cells: int = 8

    @property
    def method(self) -> str:
        """The kind of features."""
        return "sift"

    @property
    def fingerprint(self) -> str:
        """Kind, version of this code, and parameters."""
        return f"sift-2-{self.edge}-{self.keypoints}-{self.contrast:g}-{self.cells}"

    @property
    def finer(self) -> Sift | None:
        """What looks at a picture at its full working size; None where this does already."""
        return replace(self, edge=FULL_EDGE) if self.edge < FULL_EDGE else None

    @property
    def wanted(self) -> tuple[int, int]:
        """Half the working size: `outcrop.embed.images.decode` keeps twice the size requested."""
        return self.edge * 3 // 8, self.edge // 2

    def extract(self, decoded: Decoded) -> LocalFeatures:
        """The keypoints of a picture, strongest of each cell first."""
        import cv2

        grey = np.asarray(decoded.image.convert("L"))
        longest = max(grey.shape)
        if longest > self.edge:
            scale = self.edge / longest
            size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        height, width = grey.shape
        # Without precise upscaling, points of the doubled octave lie a quarter of a pixel off.
        sift = cv2.SIFT_create(0, 3, self.contrast, 10, 1.6, cv2.CV_8U, enable_precise_upscale=True)
        most = round(self.keypoints * max(1.0, max(width, height) / PASS_EDGE) ** 2)
        found = spread(sift.detect(grey, None), most, max(width, height) / self.cells)
        descriptors = None
        if found:
            found, descriptors = sift.compute(grey, found)
        points = np.zeros((0, 2), np.float32)
        if descriptors is None or not len(descriptors):
            descriptors = np.zeros((0, 128), np.uint8)
        else:
            points = np.asarray(cv2.KeyPoint_convert(found), np.float32)
        x, y = decoded.width / width, decoded.height / height
        full = (points + 0.5) * np.array([x, y], np.float32) - 0.5
        return LocalFeatures(
            full.astype(np.float32), descriptors, decoded.width, decoded.height, max(x, y), self.method
        )


def spread(keypoints: Sequence[Any], most: int, side: float) -> list[Any]:
    """At most `most` keypoints, taken in turn from the square cells (`side` pixels) of the picture, strongest first."""
    if not keypoints:
        return []
    import cv2

    cells = (np.asarray(cv2.KeyPoint_convert(keypoints)) // side).astype(np.int64)
    cell = cells[:, 1] * 1_000_000 + cells[:, 0]
    strength = np.fromiter((k.response for k in keypoints), np.float32, len(keypoints))
    by_cell = np.lexsort((-strength, cell))
    first = np.flatnonzero(np.diff(cell[by_cell], prepend=-1))
    place = np.empty(len(by_cell), np.int64)  # the number of stronger ones in the same cell
    place[by_cell] = np.arange(len(by_cell)) - np.repeat(first, np.diff(np.append(first, len(by_cell))))
    return [keypoints[i] for i in np.lexsort((-strength, place))[:most]]


def read_features(path: Path, extractor: Extractor, data: bytes | None = None) -> LocalFeatures:
    """The local features of a picture file (`data` are its bytes, where they have been read already).

    Raises:
        PictureError: the file is not a picture, or cannot be read.
    """
    from outcrop.embed.images import decode

    return extractor.extract(
        decode(read_picture(path) if data is None else data, name=str(path), at_least=extractor.wanted)
    )


def read_picture(path: Path) -> bytes:
    """The bytes of a picture file, or of the frame of a film that a path names.

    Raises:
        PictureError: it cannot be read, or is too large for a photograph.
    """
    from outcrop.embed.film import moment_of, read_moment

    if (moment := moment_of(path)) is not None:
        return read_moment(*moment)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PictureError(f"{path} is larger than any photograph; give a picture")
        return path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path} cannot be read: {error.strerror or error}") from None


def require_same_method(first: LocalFeatures, second: LocalFeatures) -> None:
    """Refuses to compare features of two kinds.

    Raises:
        InputError: naming both.
    """
    if first.method != second.method:
        raise InputError(f"features of {first.method} cannot be compared with features of {second.method}")
