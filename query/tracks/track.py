"""The path of a flight, from pictures that do not say where they were taken: each located by itself, then joined by their motion.

The candidates of a frame are the places that its verified hits give (`outcrop.query.locating`). Those that make a possible flight
are taken (`outcrop.query.tracks.motion`), and a smooth path is laid through them (`outcrop.query.tracks.smoother`), which also
says where the other frames were taken, and how far it may be off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from outcrop.query.answers import Result, Results, total_timings
from outcrop.query.pictures import NOTHING_ASSUMED
from outcrop.query.rerank_plan import RerankPlan, Step, reranker
from outcrop.query.search import query_images, turns_for_maps
from outcrop.query.tracks.frames import Frame, Frames
from outcrop.query.tracks.motion import Limits, Sighting, chosen
from outcrop.query.tracks.smoother import smoothed
from outcrop.query.verification.confidence import confidence
from outcrop.query.verification.location import Location, Place
from outcrop.schema.filters import Filter
from outcrop.schema.ground import Footing
from outcrop.schema.plane import Plane
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder

PLACES = 3
"""Candidate places of a frame."""
CHUNK = 16
"""Frames that are asked for in one go: only what is needed of their answers is kept."""
FAR = 500.0
"""Metres of spread from which a place says nothing, and is not given."""
Status = Literal["located", "outlier", "bridged", "unknown"]


@dataclass(frozen=True)
class TrackFrame:
    """One frame of a path.

    `status`: "located" by hits of its own; "outlier" where it has candidates and none fits the path; "bridged" where it has none,
    and the frames before and after it say where it was; "unknown" where these are too far away to say. `place` is None if
    unknown, else degrees (WGS 84) of the ground at the middle of the picture, and `spread` the metres (root mean square) by which
    it may be off. `course` is the direction of flight, `heading` that of the picture's top where it was located, both in
    degrees clockwise from north; `speed` is in metres a second. `off` are the metres between the path and the place that the
    frame's own hits give (of an outlier: the nearest of them). `candidates` are the places by its hits, the taken one first.
    `reason` says why a frame has no candidate, or that it cannot be read; `remark` what its answer suffers from.
    """

    frame: Frame
    status: Status
    place: Place | None = None
    spread: float | None = None
    heading: float | None = None
    course: float | None = None
    speed: float | None = None
    off: float | None = None
    candidates: tuple[Location, ...] = ()
    reason: str = ""
    unreadable: bool = False
    thumbnail: bytes | None = None
    remark: str = ""


@dataclass(frozen=True)
class Track:
    """The path of a flight through a collection's pictures: its frames in order of time; `timed` says whether the pictures state
    when they were taken; `timings` are the seconds by step."""

    collection: str
    frames: tuple[TrackFrame, ...]
    timed: bool
    limits: Limits = field(default_factory=Limits)
    timings: dict[str, float] = field(default_factory=dict)

    def count(self, status: Status) -> int:
        """How many frames have a status."""
        return sum(each.status == status for each in self.frames)

    @property
    def unreadable(self) -> tuple[TrackFrame, ...]:
        """Frames whose picture cannot be read; they are bridged like others."""
        return tuple(each for each in self.frames if each.unreadable)

    @property
    def metres(self) -> float:
        """How long the path is, in metres."""
        placed = [each.place for each in self.frames if each.place is not None]
        if not placed:
            return 0.0
        points = np.array([Plane(placed[0]).metres(place) for place in placed])
        return float(np.abs(np.diff(points)).sum())


@dataclass(frozen=True)
class _Seen:
    """What is kept of a frame's answer."""

    frame: Frame
    candidates: tuple[Location, ...]
    reason: str
    unreadable: bool
    thumbnail: bytes | None
    remark: str = ""


@dataclass(frozen=True)
class Asking:
    """How the frames are looked for: which items (`filter`), how they are matched (`plan`), and how often each picture is turned
    (0: as often as `outcrop.query.search.turns_for_maps` says); `assumed` is the height and focal length of those that state
    none, where the collection has a ground scale."""

    filter: Filter = field(default_factory=Filter)
    plan: RerankPlan = field(default_factory=lambda: RerankPlan.of(None, None))
    turns: int = 0
    assumed: Footing = NOTHING_ASSUMED


def find_track(
    frames: Frames,
    encoder: Encoder,
    collection: Collection,
    settings: Settings,
    asking: Asking = Asking(),
    limits: Limits = Limits(),
    *,
    progress: Callable[[int], None] | None = None,
) -> Track:
    """The path of a flight whose pictures are given in order (`outcrop.query.tracks.frames.list_frames`).

    Model, collection and maps are opened once. `progress` gets the number of frames done.

    Raises:
        SpaceMismatch: encoder and collection are of different spaces. RegistryError: the registry cannot be read.
    """
    seen: list[_Seen] = []
    spent: list[Results] = []
    with reranker(asking.plan, 1, collection, settings, encoder, locate=True, places=PLACES) as located:
        turns = asking.turns or turns_for_maps(collection, asking.filter, "auto", locate=True)
        asking = replace(asking, turns=turns, assumed=settings.assumed)
        for chunk, answers in _asked(frames.frames, encoder, collection, asking, located):
            seen += [_kept(frame, result) for frame, result in zip(chunk, answers.results, strict=True)]
            spent.append(replace(answers, results=()))
            if progress is not None:
                progress(len(seen))
    return Track(collection.name, tuple(joined(seen, limits)), frames.timed, limits, total_timings(spent))


def _asked(
    frames: Sequence[Frame],
    encoder: Encoder,
    collection: Collection,
    asking: Asking,
    located: Step,
) -> Iterator[tuple[Sequence[Frame], Results]]:
    """The frames some at a time, with their located answers. Never one alone: that would be an error if it were broken."""
    for numbers in np.array_split(np.arange(len(frames)), math.ceil(len(frames) / CHUNK)):
        chunk = [frames[number] for number in numbers]
        paths = [frame.path for frame in chunk]
        depth = asking.plan.how.depth
        found = query_images(
            paths, encoder, collection, depth, asking.filter, turns=asking.turns, assumed=asking.assumed
        )
        yield chunk, located(found)


def _kept(frame: Frame, result: Result) -> _Seen:
    candidates = (result.location, *result.elsewhere) if result.location is not None else ()
    reason, query = result.error or result.no_location, result.query
    return _Seen(frame, candidates, reason, bool(result.error), query.thumbnail, query.remark)


def joined(seen: Sequence[_Seen], limits: Limits = Limits()) -> Iterator[TrackFrame]:
    """The frames of one path, from the candidates of each, in order of time."""
    first = next((location for each in seen for location in each.candidates), None)
    if first is None:
        yield from (_unplaced(each) for each in seen)
        return
    plane = Plane((first.latitude, first.longitude))
    taken = {each.frame: each for each in chosen(_sightings(seen, plane), limits)}
    if not taken:
        yield from (_unplaced(each) for each in seen)
        return
    seconds = np.array([each.frame.seconds for each in seen])
    fixes = np.array([taken[n].place if n in taken else complex(math.nan, math.nan) for n in range(len(seen))])
    spreads = np.array([taken[n].spread if n in taken else 1.0 for n in range(len(seen))])
    path = smoothed(seconds, fixes, spreads)
    used = np.flatnonzero(path.used)
    velocity = _velocities(seconds, path.places)
    for number, each in enumerate(seen):
        # Hits of one region are off together: many fixes do not make the path better than its best fix nearby.
        nearest = spreads[used[np.argsort(np.abs(used - number), kind="stable")[:2]]]
        spread = math.hypot(path.spreads[number], nearest.min())
        fits = bool(path.used[number])
        yield _placed(each, complex(path.places[number]), spread, complex(velocity[number]), fits, plane)


def _sightings(seen: Sequence[_Seen], plane: Plane) -> list[Sighting]:
    return [
        Sighting(
            number,
            each.frame.seconds,
            plane.metres((place.latitude, place.longitude)),
            place.sigma_m,
            place.heading,
            confidence(max(match.inliers for match in place.matches)),
        )
        for number, each in enumerate(seen)
        for place in each.candidates
    ]


def _velocities(seconds: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Metres a second as east + north·j, by the places before and after each."""
    if len(places) < 2 or seconds[-1] <= seconds[0]:
        return np.full(len(places), complex(math.nan, math.nan))
    return np.asarray(np.gradient(places, np.maximum.accumulate(seconds + 1e-6 * np.arange(len(seconds)))))


def _placed(each: _Seen, place: complex, spread: float, velocity: complex, fits: bool, plane: Plane) -> TrackFrame:
    if not fits and spread > FAR:
        return _unplaced(each)
    off = [abs(plane.metres((one.latitude, one.longitude)) - place) for one in each.candidates]
    order = np.argsort(off)
    known = math.isfinite(velocity.real)
    return TrackFrame(
        each.frame,
        "located" if fits else "outlier" if each.candidates else "bridged",
        plane.place(place),
        spread,
        heading=each.candidates[int(order[0])].heading if fits else None,
        course=(90 - math.degrees(math.atan2(velocity.imag, velocity.real))) % 360 if known and abs(velocity) else None,
        speed=abs(velocity) if known else None,
        off=float(min(off)) if off else None,
        candidates=tuple(each.candidates[int(number)] for number in order),
        reason=each.reason,
        unreadable=each.unreadable,
        thumbnail=each.thumbnail,
        remark=each.remark,
    )


def _unplaced(each: _Seen) -> TrackFrame:
    return TrackFrame(
        each.frame,
        "unknown",
        candidates=each.candidates,
        reason=each.reason,
        unreadable=each.unreadable,
        thumbnail=each.thumbnail,
        remark=each.remark,
    )
