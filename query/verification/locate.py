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

from outcrop.embed.images import inspect
from outcrop.embed.photo import PhotoMetadata
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.features import read_picture
from outcrop.query.verification.geometry import GeometricMatch, corners, project
from outcrop.query.verification.location import LocatedMatch, Location, Place
from outcrop.query.verification.resection import GPS_ERROR, Resection, resected
from outcrop.schema.angles import angle_text
from outcrop.schema.errors import PictureError
from outcrop.schema.item import UNKNOWN_COORDINATE, Item
from outcrop.schema.plane import Plane as Plane

OFFSET_ERROR = 0.05
"""Assumed error of heading, height and focal length together, as a share of the distance between hit and query."""
SURE_OFFSET = 3.0
"""Spreads of an offset of the hits' places from which it is remarked on."""
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
    seen = np.array([_middle_in_query(e.match) for e in evidence])
    turned = np.exp(1j * np.radians([_rotation(e) for e in evidence]))
    ground = np.array([e.ground for e in evidence])
    found = resected(seen, ground, turned, float(max(evidence[0].match.query_size)))
    if found is None:
        return None
    heading = -math.degrees(np.angle(found.slope)) % 360
    used = [(e, float(off)) for e, off, good in zip(evidence, found.off, found.used, strict=True) if good]
    remarks = [
        f"{e.item.key} says it headed {angle_text(e.heading)} degrees, "
        f"the places of the hits say {angle_text(heading - _rotation(e))}"
        for e, _ in used
        if e.heading is not None and abs(_signed(e.heading + _rotation(e) - heading)) > TURNED
    ]
    return _location("positions", found.middle, found.slope, found.sigma, used, plane, [*remarks, *_offset(found)])


def _offset(found: Resection) -> list[str]:
    """A remark on places that lie off their photographs' middles all in one direction."""
    size = abs(found.offset)
    if size < GPS_ERROR or size < SURE_OFFSET * found.offset_sigma:
        return []
    way = -math.degrees(np.angle(found.offset / 1j)) % 360
    return [
        f"the places of the hits lie {size:.0f} m off the middles of their pictures, {angle_text(round(way))} degrees clockwise "
        "from their tops (a receiver that is late, or a camera that looks aside): so does the place of the query"
    ]


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
