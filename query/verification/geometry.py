"""Do two pictures show the same ground? Matches of local features, and the homography that explains them, if any.

Mutual nearest neighbours that pass Lowe's ratio test, then a homography by MAGSAC++ (Barath et al., CVPR 2020; OpenCV's
``USAC_MAGSAC``), which is refused where no camera above flat ground could have made it. The same pictures always give the same
match: the estimator's random state is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.query.distinct import distinct_rows
from outcrop.query.verification.evidence import effective_inliers, evidence, shown_share
from outcrop.query.verification.features import LocalFeatures, require_same_method

Point = tuple[float, float]
Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

RATIO = {"sift": 0.85}
"""Lowe's ratio by method: of the distances to the nearest and to the second neighbour, at most. Other methods have no test."""
TOLERANCE = 4.0
"""Pixels of the working size by which an inlier may lie off: relief and lens distortion make real ground unlike a plane."""
ITERATIONS, CONFIDENCE = 2000, 0.999
MIN_MATCHES = 8
"""Tentative matches below which no homography is sought: four points always fit one."""
MAX_SCALE = 10.0
"""A homography that enlarges or shrinks by more (in working pixels) is a collapse, not a view."""
MAX_STRETCH = 3.0
"""Most ratio of the scales along two directions at the picture's middle; a tilt of 70 degrees."""
MAX_CONVERGENCE = 6.0
"""Most ratio of areas that one pixel becomes, between any two corners: more is a view along the ground."""
MIN_EXTENT = 0.012
"""Least standard deviation of the inliers along their shorter axis, as a share of the picture's longest side: less is a line,
or a caption burnt into every picture."""
NO_PAIRS: NDArray[np.float32] = np.zeros((0, 4), np.float32)
_BLOCK = 256
"""Rows of the similarity matrix made at once: they stay in the processor's cache."""


@dataclass(frozen=True)
class GeometricMatch:
    """What geometry says of a query picture and a candidate.

    `tentative` counts the pairs of points that were tried; `inliers` the distinct ones that the homography explains, which are
    the `pairs` [inliers, 4] float32: x and y in the query, x and y in the candidate (full-size pixels). `homography` maps
    query pixels to candidate pixels (full size, upright; x right, y down); `rotation` is by how many degrees counter-clockwise
    the candidate must be turned to look like the query, in [0, 360), the sense of `Item.rotation`; `scale` is how many
    candidate pixels one query pixel spans; `footprint` are the corners of the query (upper left, upper right, lower right,
    lower left) in candidate pixels; `query_size` and `candidate_size` are (width, height) in pixels; `method` names the
    features; `evidence` is how much of the query the inliers explain (`outcrop.query.verification.evidence`), 0 to 1.
    Without a homography, `reason` says why, and `inliers` is 0.
    """

    tentative: int
    inliers: int
    method: str
    homography: Matrix | None = None
    rotation: float | None = None
    scale: float | None = None
    footprint: tuple[Point, ...] | None = None
    query_size: tuple[int, int] = (0, 0)
    candidate_size: tuple[int, int] = (0, 0)
    reason: str = ""
    evidence: float = 0.0
    pairs: NDArray[np.float32] = field(default_factory=lambda: NO_PAIRS, repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Plain values; the homography keeps its digits, angles and pixels are rounded."""
        return {
            "inliers": self.inliers,
            "evidence": round(self.evidence, 4),
            "tentative": self.tentative,
            "method": self.method,
            "rotation": None if self.rotation is None else round(self.rotation, 2) % 360,
            "scale": None if self.scale is None else round(self.scale, 5),
            "homography": None if self.homography is None else [list(row) for row in self.homography],
            "query_size": list(self.query_size),
            "candidate_size": list(self.candidate_size),
            "footprint": None if self.footprint is None else [[round(x, 1), round(y, 1)] for x, y in self.footprint],
            **({"reason": self.reason} if self.reason else {}),
        }


def verify(query: LocalFeatures, candidate: LocalFeatures) -> GeometricMatch:
    """Matches a query with one candidate. Pictures without features (water, snow) give a match without inliers, not an error.

    Raises:
        InputError: the features are not of one method.
    """
    require_same_method(query, candidate)
    rows, columns = tentative_matches(query, candidate)
    sizes = (query.width, query.height), (candidate.width, candidate.height)
    found = GeometricMatch(len(rows), 0, query.method, query_size=sizes[0], candidate_size=sizes[1])
    if not len(query) or not len(candidate):
        side = "query" if not len(query) else "candidate"
        return replace(found, reason=f"the {side} shows nothing distinctive")
    if len(rows) < MIN_MATCHES:
        return replace(found, reason=f"only {len(rows)} points are alike")
    here, there = query.points[rows], candidate.points[columns]
    matrix, mask = _estimate(here / query.unit, there / candidate.unit)
    if matrix is None:
        return replace(found, reason="no homography explains the matches")
    full = np.diag([candidate.unit, candidate.unit, 1.0]) @ matrix @ np.diag([1 / query.unit, 1 / query.unit, 1.0])
    inlying = np.flatnonzero(mask)
    inlying = inlying[_distinct(here[inlying] / query.unit, there[inlying] / candidate.unit)]
    here, there = here[inlying], there[inlying]
    reason = implausible(full, query, candidate) or _cramped(here, query) or _cramped(there, candidate)
    if reason:
        return replace(found, reason=reason)
    full = full / full[2, 2]
    off = np.hypot(*(np.array(project(full, here)) - there).T) / candidate.unit
    return replace(
        found,
        inliers=len(inlying),
        **described(full, query),
        evidence=evidence(
            effective_inliers(here, off, sizes[0], query.points),
            shown_share(project(full, corners(query.width, query.height)), sizes[1]),
        ),
        pairs=np.hstack([here, there]),
    )


def described(full: NDArray[np.float64], query: LocalFeatures) -> dict[str, Any]:
    """A homography of full-size pixels as the fields of a match: `homography`, `rotation`, `scale` and `footprint`."""
    middle = _jacobian(full, (query.width - 1) / 2, (query.height - 1) / 2)
    return {
        "homography": _matrix(full),
        "rotation": _rotation(middle),
        "scale": math.sqrt(np.linalg.det(middle)),
        "footprint": project(full, corners(query.width, query.height)),
    }


def evidence_of_candidate(match: GeometricMatch, query: LocalFeatures, candidate: LocalFeatures) -> float:
    """The evidence of a match the other way round: how much of the candidate the query explains. 0 where there is no homography,
    or no camera makes its inverse."""
    if match.homography is None:
        return 0.0
    back = np.linalg.inv(np.array(match.homography, np.float64))
    if implausible(back, candidate, query):
        return 0.0
    here, there = match.pairs[:, :2], match.pairs[:, 2:]
    off = np.hypot(*(np.array(project(back, there)) - here).T) / query.unit
    return evidence(
        effective_inliers(there, off, match.candidate_size, candidate.points),
        shown_share(project(back, corners(candidate.width, candidate.height)), match.query_size),
    )


def tentative_matches(query: LocalFeatures, candidate: LocalFeatures) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of matching points in both: mutual nearest neighbours, and clearly nearer than the next (`RATIO`).

    Equal descriptors are equally near, however products round: with a ratio a point that occurs twice in the candidate is
    clearly nearer to nothing, without one the first of the two is matched.
    """
    none = np.zeros(0, np.intp)
    if not len(query) or len(candidate) < 2:
        return none, none
    ratio = RATIO.get(query.method, 1.0)
    one, one_of = distinct_rows(query.descriptors)
    other, other_of = distinct_rows(candidate.descriptors)
    left = comparable(query.descriptors[one], query.method)
    right = comparable(candidate.descriptors[other], candidate.method).T
    alone = np.bincount(other_of) == 1
    best = np.empty(len(left), np.intp)
    similarity = np.empty(len(left), np.float32)
    clear = np.empty(len(left), bool)
    top = np.full(len(other), -np.inf, np.float32)
    for start in range(0, len(left), _BLOCK):
        block = left[start : start + _BLOCK] @ right
        np.maximum(top, block.max(axis=0), out=top)
        lines = np.arange(len(block))
        nearest = block.argmax(axis=1)
        first = block[lines, nearest]
        block[lines, nearest] = -np.inf
        second = block.max(axis=1)
        here = slice(start, start + len(block))
        best[here], similarity[here] = nearest, first
        # Squared distances of unit vectors; rounding may make one of equals negative.
        nearer = np.maximum(2 - 2 * first, 0) < ratio**2 * (2 - 2 * second)
        clear[here] = nearer & alone[nearest] if ratio < 1 else True
    kept = np.flatnonzero(((similarity >= top[best]) & clear)[one_of])
    return kept, other[best[one_of[kept]]]


def comparable(descriptors: NDArray[Any], method: str) -> NDArray[np.float32]:
    """Descriptors [N, D] as float32 of length 1 whose inner product is the similarity (RootSIFT for SIFT)."""
    values = descriptors.astype(np.float32)
    if method == "sift":
        values = np.sqrt(values)
    length = np.sqrt(np.einsum("nd,nd->n", values, values))
    unit: NDArray[np.float32] = values / np.maximum(length, 1e-6)[:, None]
    return unit


def implausible(matrix: NDArray[np.float64], query: LocalFeatures, candidate: LocalFeatures) -> str:
    """Why no camera above ground makes this homography (query to candidate, full-size pixels); '' where one does."""
    if not np.isfinite(matrix).all():
        return "the homography is not finite"
    places = np.array([*corners(query.width, query.height), ((query.width - 1) / 2, (query.height - 1) / 2)])
    depth = places @ matrix[2, :2] + matrix[2, 2]
    if depth.min() * depth.max() <= 0 or np.abs(depth).min() < 1e-9 * np.abs(depth).max():
        return "the homography sends part of the query beyond the horizon"
    local = [_jacobian(matrix, x, y) for x, y in places]
    areas = np.array([np.linalg.det(jacobian) for jacobian in local])
    if not np.isfinite(areas).all() or areas.min() <= 0:
        return "the homography mirrors the query"
    if areas.max() > MAX_CONVERGENCE * areas.min():
        return "the homography converges too strongly"
    stretch = np.linalg.svd(local[-1], compute_uv=False)
    if stretch[0] > MAX_STRETCH * stretch[1]:
        return "the homography stretches the query too much"
    scale = math.sqrt(areas[-1]) * query.unit / candidate.unit
    if not 1 / MAX_SCALE <= scale <= MAX_SCALE:
        return f"the homography scales the query by {scale:.3g}"
    if not _convex(project(matrix, places[:4])):
        return "the query's outline is not convex in the candidate"
    return ""


def corners(width: int, height: int) -> tuple[Point, ...]:
    """The outer corners of a picture in pixels: upper left, upper right, lower right, lower left."""
    return (-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)


def project(matrix: Any, points: Any) -> tuple[Point, ...]:
    """Points (x, y) sent through a homography 3 x 3."""
    matrix, points = np.asarray(matrix, np.float64), np.asarray(points, np.float64)
    sent = np.hstack([points, np.ones((len(points), 1))]) @ matrix.T
    return tuple((float(x / w), float(y / w)) for x, y, w in sent)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within a `with`, OpenCV and BLAS use one thread per call: the calls themselves run in threads.

    Otherwise each of two verifications starts threads for every core, and they wait for each other.
    """
    import cv2
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)


def _estimate(
    here: NDArray[np.float32], there: NDArray[np.float32]
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """A homography between points in working pixels, and which of them agree with it."""
    import cv2

    nothing = np.zeros(len(here), bool)
    try:
        matrix, mask = cv2.findHomography(here, there, cv2.USAC_MAGSAC, TOLERANCE, None, ITERATIONS, CONFIDENCE)
    except cv2.error:  # some degenerate sets of points (all at one place) fail its assertions
        return None, nothing
    if matrix is None or mask is None:
        return None, nothing
    return np.asarray(matrix, np.float64), mask.ravel().astype(bool)


def _distinct(here: NDArray[np.float32], there: NDArray[np.float32]) -> NDArray[np.intp]:
    """The first of each set of matches that lie on one pixel: a point with several orientations is one observation, not three."""
    kept = np.arange(len(here))
    for points in (here, there):
        _, first = np.unique(np.round(points[kept]), axis=0, return_index=True)
        kept = kept[np.sort(first)]
    return kept


def _cramped(points: NDArray[np.float32], picture: LocalFeatures) -> str:
    if len(points) < 3:
        return "hardly any match agrees with another"
    extent = float(np.sqrt(max(0.0, np.linalg.eigvalsh(np.cov(points.T.astype(np.float64)))[0])))
    return "" if extent >= MIN_EXTENT * max(picture.width, picture.height) else "the matches lie on a line or a spot"


def _jacobian(matrix: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """Derivatives [[dX/dx, dX/dy], [dY/dx, dY/dy]] of a homography at a point."""
    u, v, w = matrix @ np.array([x, y, 1.0])
    scaled = np.array([matrix[0, :2] * w - matrix[2, :2] * u, matrix[1, :2] * w - matrix[2, :2] * v], np.float64)
    return np.asarray(scaled / w**2, np.float64)


def _rotation(jacobian: NDArray[np.float64]) -> float:
    """Degrees counter-clockwise by which the candidate must be turned to look like the query: the inverse map's nearest rotation.

    y points down, so a positive angle turns clockwise from query to candidate, and counter-clockwise the other way.
    """
    turned = math.degrees(math.atan2(jacobian[1, 0] - jacobian[0, 1], jacobian[0, 0] + jacobian[1, 1])) % 360.0
    return 0.0 if turned == 360.0 else turned  # a tiny negative angle rounds up to 360


def _convex(polygon: tuple[Point, ...]) -> bool:
    turns = []
    for i, (x1, y1) in enumerate(polygon):
        (x0, y0), (x2, y2) = polygon[i - 1], polygon[(i + 1) % len(polygon)]
        turns.append((x1 - x0) * (y2 - y1) - (y1 - y0) * (x2 - x1))
    return min(turns) > 0


def _matrix(values: NDArray[np.float64]) -> Matrix:
    a, b, c = ((float(row[0]), float(row[1]), float(row[2])) for row in values)
    return a, b, c
