"""Where was a query taken? Estimated from verified hits whose places are known: the camera looked straight down on flat ground.

Two ways, the better one that the metadata allows:

- **positions**: the homographies say where, in the query, the middles of the hits lie; GPS says where on the ground. Three hits
  or more give the query's position, heading and scale at once (a similarity, fitted robustly). No heading, height or camera is
  needed, and compasses that are wrong do no harm.
- **headings**: one hit alone is enough if it states its place, its heading, its height above ground and its field of view: they
  say where each of its pixels lies. Several such hits are combined robustly.

The second is how aero-vloc (prime-slam, 2024) locates a frame on a map tile; the first is resection of a nadir picture.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.images import inspect
from outcrop.embed.photo import PhotoMetadata
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.features import read_picture
from outcrop.query.verification.geometry import GeometricMatch, corners, project
from outcrop.query.verification.location import LocatedMatch, Location, Place
from outcrop.schema.angles import angle_text
from outcrop.schema.errors import PictureError
from outcrop.schema.item import UNKNOWN_COORDINATE, Item
from outcrop.schema.plane import Plane as Plane

GPS_ERROR = 2.0
"""Metres by which a drone's GPS is assumed to be off, where the data say nothing better."""
OFFSET_ERROR = 0.05
"""Assumed error of heading, height and focal length together, as a share of the distance between hit and query."""
ASSUMED_HITS = 3.0
"""As how many hits' worth of disagreement `GPS_ERROR` counts in the spread: three or four hits may agree by chance."""
MIN_BASELINE = 8.0
"""Metres (root mean square) over which the hits must lie for their places to give a heading and a scale."""
TILT = 10.0
"""Degrees off straight down from which a hit's camera is remarked on."""
TURNED = 30.0
"""Degrees by which a stated heading may differ from the one the places give, before it is remarked on."""


@dataclass(frozen=True)
class _Evidence:
    """A verified hit with what is known of it. `ground` is metres east and north of the first hit, as east + north·j."""

    item: Item
    match: GeometricMatch
    place: Place
    ground: complex
    heading: float | None
    metres_per_pixel: float | None
    missing: tuple[str, ...]
    tilt: float


def locate(verified: Sequence[tuple[Item, Verification]]) -> Location | str:
    """The place of a query by its verified hits, one of each parent, most inliers first; or what is missing to estimate it."""
    found = _evidence(verified)
    if isinstance(found, str):
        return found
    evidence, plane = found
    by_places = _by_positions(evidence, plane)
    if by_places is not None:
        return by_places
    complete = [e for e in evidence if e.heading is not None and e.metres_per_pixel is not None]
    if complete:
        return _by_headings(complete, plane)
    lacking = sorted({name for e in evidence for name in e.missing})
    return (
        f"{len(evidence)} verified hits have a place, but no {' and no '.join(lacking)}; "
        "either these, or three hits some metres apart, are needed"
    )


def _evidence(verified: Sequence[tuple[Item, Verification]]) -> tuple[list[_Evidence], Plane] | str:
    """The verified hits that have a place, around the first; or the reason why none has."""
    placed = [(item, verification) for item, verification in verified if item.latitude != UNKNOWN_COORDINATE]
    if not placed:
        return f"none of {len(verified)} verified hits has a GPS position"
    plane = Plane((placed[0][0].latitude, placed[0][0].longitude))
    evidence = [
        _judged(item, verification.match, _metadata(verification.original), plane)
        for item, verification in placed
        if verification.match is not None and verification.match.homography is not None
    ]
    return evidence, plane


def _metadata(original: Path | None) -> PhotoMetadata:
    """What a photograph states; nothing where it is gone since it was verified."""
    if original is not None:
        with contextlib.suppress(PictureError):
            return inspect(read_picture(original), name=str(original))[2]
    return PhotoMetadata()


def _judged(item: Item, match: GeometricMatch, facts: PhotoMetadata, plane: Plane) -> _Evidence:
    place = (item.latitude, item.longitude)
    heading = item.extra.get("yaw", facts.yaw)
    height = item.altitude if item.altitude > 0 else None
    focal = facts.focal_length_35mm
    missing = tuple(
        name
        for name, value in (("heading", heading), ("height above ground", height), ("focal length", focal))
        if value is None
    )
    scale = None if height is None or focal is None else height * 36.0 / focal / max(match.candidate_size)
    tilt = abs(facts.pitch + 90.0) if facts.pitch is not None else 0.0
    heading = None if heading is None else float(heading)
    return _Evidence(item, match, place, plane.metres(place), heading, scale, missing, tilt)


def _by_positions(evidence: Sequence[_Evidence], plane: Plane) -> Location | None:
    """The similarity that sends the hits' middles, as the query sees them, to their places; None where they do not say enough."""
    if len(evidence) < 3:
        return None
    width, height = evidence[0].match.query_size
    seen = np.array([_middle_in_query(e.match) for e in evidence])
    ground = np.array([e.ground for e in evidence])
    # A middle far outside the query is extrapolated, and weighs less.
    weights = 1 / (1 + (np.abs(seen) / max(width, height)) ** 2) ** 2
    fitted = _similarity(seen, ground, weights)
    if fitted is None:
        return None
    slope, middle, used = fitted
    off = np.abs(ground - slope * seen - middle)
    sigma_m = _spread(seen[used], off[used], weights[used], float(np.median(off)))
    heading = -math.degrees(np.angle(slope)) % 360
    remarks = [
        f"{e.item.key} says it headed {angle_text(e.heading)} degrees, "
        f"the places of the hits say {angle_text(heading - _rotation(e))}"
        for e, good in zip(evidence, used, strict=True)
        if good and e.heading is not None and abs(_signed(e.heading + _rotation(e) - heading)) > TURNED
    ]
    return _location(
        "positions",
        middle,
        slope,
        sigma_m,
        [(e, o) for e, o, u in zip(evidence, off, used, strict=True) if u],
        plane,
        remarks,
    )


def _spread(
    seen: NDArray[np.complex128], off: NDArray[np.float64], weights: NDArray[np.float64], typical: float
) -> float:
    """Metres (root mean square) by which the query's middle may be off, by residuals of a similarity through `seen`.

    The residuals of few hits are small by chance. So an assumed error joins them (a prior that weighs as `ASSUMED_HITS` hits);
    where they are larger than that, they are enlarged by the quantile of F that holds the error in 95 of 100 cases. Hits left out
    count through the median of all residuals (`typical`). The error of the middle grows where it lies beside the hits.
    What all receivers are off by together no residual shows: one more error of a hit is added for it.
    """
    count, mean = len(off), float(weights.mean())
    spare = count - 2
    found = max(
        float(weights @ off**2) / mean, count * (1.2 * typical) ** 2
    )  # a median of 1 belongs to a root mean square of 1.2
    enlarged = (
        spare * (20 ** (1 / spare) - 1) / math.log(20)
    )  # of F with 2 and 2 (count - 2) degrees of freedom, by its limit
    of_a_hit = max((found + ASSUMED_HITS * GPS_ERROR**2) / (spare + ASSUMED_HITS), found / spare * enlarged)
    design = np.stack([seen, np.ones(count)], axis=1) * np.sqrt(weights / mean)[:, None]
    inverse = np.linalg.inv(design.conj().T @ design)
    return math.sqrt(of_a_hit * (1 + float(inverse[1, 1].real)))


def _similarity(
    seen: NDArray[np.complex128], ground: NDArray[np.complex128], weights: NDArray[np.float64]
) -> tuple[complex, complex, NDArray[np.bool_]] | None:
    """``ground = slope · seen + middle``, robustly: of all pairs the one with the least median error, then least squares of what
    agrees with it. None where fewer than three agree, or all lie in one place."""
    count = len(seen)
    used = np.ones(count, bool)
    if count >= 5:
        first, second = np.triu_indices(count, 1)
        apart = seen[first] - seen[second]
        good = np.abs(apart) > 1e-6 * (1 + np.abs(seen).max())
        if not good.any():
            return None
        first, second, apart = first[good], second[good], apart[good]
        slopes = (ground[first] - ground[second]) / apart
        middles = ground[first] - slopes * seen[first]
        errors = np.median(np.abs(ground[None] - slopes[:, None] * seen[None] - middles[:, None]), axis=1)
        best = int(errors.argmin())
        # 1.18 times the median is the deviation of each coordinate of a plane's normal error.
        limit = 2.5 * max(GPS_ERROR, 1.18 * float(errors[best]) * (1 + 5 / (count - 2)))
        used = np.abs(ground - slopes[best] * seen - middles[best]) <= limit
    if used.sum() < 3:
        return None
    weight = np.sqrt(weights[used])
    design = np.stack([seen[used], np.ones(int(used.sum()))], axis=1) * weight[:, None]
    (slope, middle), _, rank, _ = np.linalg.lstsq(design, ground[used] * weight, rcond=None)
    baseline = math.sqrt(float(np.mean(np.abs(ground[used] - ground[used].mean()) ** 2)))
    if rank < 2 or slope == 0 or baseline < MIN_BASELINE:
        return None
    return complex(slope), complex(middle), used


def _by_headings(evidence: Sequence[_Evidence], plane: Plane) -> Location:
    """The middle of the query on the ground of each hit, combined; each hit states its place, heading and scale."""
    slopes = np.array([_slope(e) for e in evidence])
    offsets = np.array([_query_middle(e) for e in evidence])
    places = np.array([e.ground for e in evidence]) + offsets
    trusted = 1 / (GPS_ERROR**2 + (OFFSET_ERROR * np.abs(offsets)) ** 2)
    used = np.ones(len(evidence), bool)
    if len(evidence) >= 3:
        typical = complex(np.median(places.real), np.median(places.imag))
        distances = np.abs(places - typical)
        used = distances <= 3 * max(GPS_ERROR, 1.4826 * float(np.median(distances)))
    share = trusted[used] / trusted[used].sum()
    middle = complex(share @ places[used])
    off = np.abs(places - middle)
    assumed = float(np.sqrt(1 / trusted[used]).min())
    count = int(used.sum())
    sigma_m = assumed if count == 1 else max(assumed, math.sqrt(float(share @ off[used] ** 2) * count / (count - 1)))
    # The hit that saw the query's middle nearest to its own gives heading and scale.
    nearest = int(np.where(used, np.abs(offsets), np.inf).argmin())
    return _location(
        "headings",
        middle,
        complex(slopes[nearest]),
        sigma_m,
        [(e, o) for e, o, u in zip(evidence, off, used, strict=True) if u],
        plane,
        [],
    )


def _location(
    method: str,
    middle: complex,
    slope: complex,
    sigma_m: float,
    matches: Sequence[tuple[_Evidence, float]],
    plane: Plane,
    remarks: Sequence[str],
) -> Location:
    """`slope` sends the query's pixels (x right, y up, from its middle) to metres: east + north·j."""
    width, height = matches[0][0].match.query_size
    x, y = (width - 1) / 2, (height - 1) / 2
    tilted = [f"{e.item.key} was taken {e.tilt:.0f} degrees off straight down" for e, _ in matches if e.tilt > TILT]
    latitude, longitude = plane.place(middle)
    return Location(
        latitude,
        longitude,
        sigma_m,
        method,
        -math.degrees(np.angle(slope)) % 360,
        abs(slope),
        tuple(plane.place(middle + slope * complex(u - x, y - v)) for u, v in corners(width, height)),
        tuple(LocatedMatch(e.item.key, e.place, e.match.inliers, float(off)) for e, off in matches),
        (*remarks, *tilted),
    )


def _middle_in_query(match: GeometricMatch) -> complex:
    """The middle of the candidate as the query sees it: pixels right and up of the query's middle."""
    width, height = match.candidate_size
    inverse = np.linalg.inv(np.array(match.homography))
    ((u, v),) = project(inverse, [((width - 1) / 2, (height - 1) / 2)])
    return complex(u - (match.query_size[0] - 1) / 2, (match.query_size[1] - 1) / 2 - v)


def _query_middle(evidence: _Evidence) -> complex:
    """Metres east and north from the hit's place to the middle of the query."""
    match = evidence.match
    ((u, v),) = project(match.homography, [((match.query_size[0] - 1) / 2, (match.query_size[1] - 1) / 2)])
    width, height = match.candidate_size
    return _candidate_slope(evidence) * complex(u - (width - 1) / 2, (height - 1) / 2 - v)


def _candidate_slope(evidence: _Evidence) -> complex:
    """Sends the hit's pixels (right, up) to metres (east, north): a heading turns clockwise."""
    turn = math.radians(evidence.heading or 0.0)
    return (evidence.metres_per_pixel or 0.0) * complex(math.cos(turn), -math.sin(turn))


def _slope(evidence: _Evidence) -> complex:
    """The same of the query's pixels, by the proof's rotation and scale."""
    turn = math.radians(_rotation(evidence))
    return _candidate_slope(evidence) * (evidence.match.scale or 0.0) * complex(math.cos(turn), -math.sin(turn))


def _rotation(evidence: _Evidence) -> float:
    return evidence.match.rotation or 0.0


def _signed(angle: float) -> float:
    return (angle + 180) % 360 - 180
