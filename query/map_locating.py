"""Where was a photograph taken, by a map alone: verified tiles say roughly, one more match with the map says exactly.

Each verified tile sends the query's outline to the ground. The outlines that agree (a vote, weighed by inliers, over all of them)
name the part of the map that the query shows, which is read once more, as a whole and as fine as the query is, and matched: the
homography of that match is the answer, and what is left between its points is the spread. With a terrain model and a focal
length, the camera is found from the points and the heights under them (PnP) instead.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.georeference import Georeference
from outcrop.embed.maps import Map, MapWindow, to_map
from outcrop.embed.terrain import Terrain, open_terrain
from outcrop.query.answers import Query
from outcrop.query.verification.confidence import Verification
from outcrop.query.verification.features import PASS_EDGE, LocalFeatures, Sift, read_features
from outcrop.query.verification.geometry import GeometricMatch, corners, project, verify
from outcrop.query.verification.location import Camera, LocatedMatch, Location
from outcrop.query.verification.map_tiles import MapTiles, View
from outcrop.query.verification.pose import Pose, camera_pose
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.films import moment_of
from outcrop.schema.item import Item
from outcrop.schema.places import place
from outcrop.schema.plane import Plane

AGREE, AGREE_METRES = 0.06, 3.0
"""Outlines agree where their corners lie this share of the outline's diagonal, and so many metres, apart at most."""
EDGE, KEYPOINTS = 1280, 4000
"""Pixels along the longest side of the query, and its keypoints, for the last match."""
MOST_KEYPOINTS = 10_000
"""Keypoints of the part of the map, which has as many for its area as the query."""
MARGIN = 0.12
"""By what share of its sides the part of the map is larger than the outline."""
MOST_EDGE = 2600
"""Pixels along the longest side of the part of the map: a turned outline needs more than the query."""
LEAST_INLIERS = 20
"""Inliers of the last match below which the tiles' own estimate is kept."""
FLOOR = 0.15
"""Metres: no map is drawn, and no photograph matched, better than that."""
OF_TILES = 0.02
"""The least spread of a place by tiles alone, which the last match did not confirm, as a share of the outline's diagonal."""
Points = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class _Sight:
    """A verified tile: `matrix` sends the query's pixels to the map's; `outline` [5] are the query's middle and corners on the
    ground, as east + north·j in metres."""

    item: Item
    match: GeometricMatch
    matrix: Matrix
    outline: NDArray[np.complex128]


class _Ground:
    """The map's pixels as metres (east + north·j) around a place."""

    def __init__(self, place: Georeference, origin: Points) -> None:
        self._place = place
        latitude, longitude = place.degrees(origin.reshape(1, 2))[0]
        self.plane = Plane((float(latitude), float(longitude)))

    def metres(self, points: Points) -> NDArray[np.complex128]:
        """Where points [N, 2] of the map lie."""
        return np.array([self.plane.metres((float(a), float(b))) for a, b in self._place.degrees(points)])


class MapLocator:
    """Locates photographs on the maps of a collection; any number of threads may ask it."""

    def __init__(self, tiles: MapTiles) -> None:
        self._tiles = tiles
        self._terrains: dict[str, Terrain] = {}
        self._lock = threading.Lock()

    def locate(
        self, query: Query, verified: Sequence[tuple[Item, Verification]], exactly: bool = True
    ) -> Location | str:
        """The place of a query by its verified tiles, most evidence first; or what is missing to estimate it. Without `exactly`,
        by what is known of the tiles alone: the map is not looked at again."""
        maps = [item.dataset for item, _ in verified]
        weights = {name: sum(v.match.inliers for i, v in verified if i.dataset == name and v.match) for name in maps}
        name = max(weights, key=lambda each: weights[each])
        try:
            source = self._tiles.open(name)
            sights, ground = self._sights([each for each in verified if each[0].dataset == name], source)
            chosen = _agreeing(sights)
            again = _looked_again(query, source, chosen[0]) if exactly else None
            found = again or _Fit(chosen[0].matrix, chosen[0].match)
            return _location(query, source, ground, chosen, found, self._terrain(name))
        except (InputError, PictureError) as error:
            return f"the map {name!r} cannot be read: {error}"

    def close(self) -> None:
        """Gives back the terrain models."""
        for terrain in self._terrains.values():
            terrain.close()
        self._terrains.clear()

    def _sights(self, verified: Sequence[tuple[Item, Verification]], source: Map) -> tuple[list[_Sight], _Ground]:
        """The verified tiles on the ground around the first."""
        matrices = []
        for item, verification in verified:
            assert verification.match is not None and verification.match.homography is not None
            view = self._tiles.view(item)
            matrices.append((item, verification.match, _square(view) @ np.array(verification.match.homography)))
        ground: _Ground | None = None
        sights = []
        for item, match, matrix in matrices:
            width, height = match.query_size
            points = np.array(project(matrix, [((width - 1) / 2, (height - 1) / 2), *corners(width, height)]))
            ground = ground or _Ground(source.place, points[0])
            sights.append(_Sight(item, match, matrix, ground.metres(points)))
        assert ground is not None, "at least one tile is verified"
        return sights, ground

    def _terrain(self, name: str) -> Terrain | None:
        path = self._tiles.maps[name].terrain
        if path is None:
            return None
        with self._lock:
            if name not in self._terrains:
                self._terrains[name] = open_terrain(path)
            return self._terrains[name]


@dataclass(frozen=True)
class _Fit:
    """The homography from the query's pixels to the map's that is believed, and the match that gave it; `view` is what was
    matched in the end, None where the tiles' own estimate was kept."""

    matrix: Matrix
    match: GeometricMatch
    view: View | None = None


def _square(view: View) -> Matrix:
    """From the pixels of a view to the map's, [3, 3]."""
    a, b, c, d, e, f = to_map(view.window, view.sides)
    return np.array([[a, b, c], [d, e, f], [0.0, 0.0, 1.0]])


def _agreeing(sights: Sequence[_Sight]) -> list[_Sight]:
    """The tiles whose outlines agree with the one that most inliers agree with, best first."""
    outlines = np.array([sight.outline for sight in sights])
    inliers = np.array([sight.match.inliers for sight in sights])
    sides = np.abs(outlines[:, 1] - outlines[:, 3])
    apart = np.abs(outlines[:, None] - outlines[None]).max(axis=2)
    agree = apart <= AGREE_METRES + AGREE * np.maximum(sides[:, None], sides[None])
    best = int((agree @ inliers).argmax())
    chosen = [sight for sight, good in zip(sights, agree[best], strict=True) if good]
    return sorted(chosen, key=lambda sight: -sight.match.inliers)


def _looked_again(query: Query, source: Map, sight: _Sight) -> _Fit | None:
    """The query matched with the part of the map that a tile says it shows; None where that gives nothing better."""
    path = place(query.name)
    if query.item is not None or not (path.is_file() or moment_of(path) is not None):
        return None
    width, height = sight.match.query_size
    outline = np.array(project(sight.matrix, corners(width, height)))
    across, down = source.place.metres_per_pixel(source.width, source.height)
    low, high = outline.min(axis=0), outline.max(axis=0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    low = np.clip(np.floor(low), 0, (source.width - 1, source.height - 1)).astype(int)
    high = np.clip(np.ceil(high), low + 1, (source.width, source.height)).astype(int)
    window = MapWindow(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    finest = min(across, down)
    sides = max(8, round(window.width * across / finest)), max(8, round(window.height * down / finest))
    # Pixels of the map's part for each of the query, so that both are as fine at the size that is matched.
    long = math.sqrt(abs(np.linalg.det(np.diff(outline[:3], axis=0) * [across, down])) / (width * height))
    edge = min(EDGE, max(width, height))
    other = round(max(window.width * across, window.height * down) / long * edge / max(width, height))
    view = View(source, window, sides)
    other = min(MOST_EDGE, max(64, other))
    extractor = _sift(other, min(MOST_KEYPOINTS, round(KEYPOINTS * (other / edge) ** 2)))
    try:
        match = verify(_query_features(path, edge), view.features(extractor))
    except PictureError:
        return None
    if match.homography is None or match.inliers < LEAST_INLIERS:
        return None
    return _Fit(_square(view) @ _refitted(match), match, view)


def _query_features(path: Path, edge: int) -> LocalFeatures:
    return read_features(path, _sift(edge, KEYPOINTS))


def _sift(edge: int, keypoints: int) -> Sift:
    """SIFT that keeps so many keypoints at a working size, whatever the size that `Sift` counts them by."""
    return Sift(edge=edge, keypoints=max(1, round(keypoints / max(1.0, edge / PASS_EDGE) ** 2)))


def _refitted(match: GeometricMatch) -> Matrix:
    """The homography of all inliers by least squares."""
    import cv2

    pairs = match.pairs.astype(np.float64)
    found, _ = cv2.findHomography(pairs[:, :2], pairs[:, 2:], 0)
    return np.asarray(found if found is not None else match.homography, np.float64)


def _location(
    query: Query, source: Map, ground: _Ground, sights: Sequence[_Sight], fit: _Fit, terrain: Terrain | None
) -> Location:
    width, height = fit.match.query_size
    middle = ((width - 1) / 2, (height - 1) / 2)
    seen = [middle, *corners(width, height), (middle[0], middle[1] - height / 4), (middle[0], middle[1] + height / 4)]
    on_ground = ground.metres(np.array(project(fit.matrix, seen)))
    spread = _spread(fit, ground, sights, on_ground[0])
    facts = query.metadata
    focal = facts.focal_length_35mm * max(width, height) / 36.0 if facts and facts.focal_length_35mm else None
    upwards = on_ground[5] - on_ground[6]
    scale = math.sqrt(abs(_area(on_ground[1:5])) / (width * height))
    located = Location(
        *ground.plane.place(complex(on_ground[0])),
        spread,
        "map",
        (90 - math.degrees(float(np.angle(upwards)))) % 360,
        scale,
        tuple(ground.plane.place(complex(corner)) for corner in on_ground[1:5]),
        tuple(
            LocatedMatch(
                sight.item.key,
                (sight.item.latitude, sight.item.longitude),
                sight.match.inliers,
                float(abs(sight.outline[0] - on_ground[0])),
            )
            for sight in sights
        ),
        height=scale * focal if focal is not None else None,
    )
    if focal is None or terrain is None or fit.view is None:
        lacking = [what for what, there in (("focal length", focal), ("exact match", fit.view)) if there is None]
        remark = f"no {' and no '.join(lacking)}: the terrain model is not used" if terrain is not None else ""
        return replace(located, remarks=(remark,)) if remark else located
    return _with_terrain(located, fit, ground, source.place, terrain, focal)


def _with_terrain(
    flat: Location, fit: _Fit, ground: _Ground, place: Georeference, terrain: Terrain, focal: float
) -> Location:
    """The location by the camera that sees the inliers at their places and heights; `flat` where there is none."""
    view = fit.view
    assert view is not None
    pairs = fit.match.pairs.astype(np.float64)
    points = np.array(project(_square(view), pairs[:, 2:]))
    places = place.degrees(points)
    up = terrain.heights(places)
    known = np.isfinite(up)
    on_ground = ground.metres(points)
    space = np.stack([on_ground.real, on_ground.imag, up], axis=1)[known]
    pose = camera_pose(pairs[known, :2], space, focal, fit.match.query_size)
    if pose is None:
        return replace(flat, remarks=("the terrain model and the photograph do not agree: flat ground is assumed",))
    below = _height_at(complex(pose.east, pose.north), ground, terrain, float(np.median(up[known])))
    width, height = fit.match.query_size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    rays = (np.array([tuple(centre), *corners(width, height)]) - centre) / focal
    met = [_met(pose, (float(x), float(y)), ground, terrain, below) for x, y in rays]
    if any(point is None for point in met):
        return replace(flat, remarks=("the photograph shows the horizon: flat ground is assumed",))
    seen = [ground.plane.place(point) for point in met if point is not None]
    camera = Camera(*ground.plane.place(complex(pose.east, pose.north)), pose.up - below, pose.tilt)
    return replace(
        flat,
        latitude=seen[0][0],
        longitude=seen[0][1],
        footprint=tuple(seen[1:]),
        method="terrain",
        height=pose.up - below,
        camera=camera,
    )


def _height_at(point: complex, ground: _Ground, terrain: Terrain, otherwise: float) -> float:
    (found,) = terrain.heights(np.array([ground.plane.place(point)]))
    return float(found) if math.isfinite(found) else otherwise


def _met(pose: Pose, ray: tuple[float, float], ground: _Ground, terrain: Terrain, level: float) -> complex | None:
    """Where a ray meets the terrain: the level is that of the point that was met before."""
    for _ in range(8):
        point = pose.ground(ray, level)
        if point is None:
            return None
        level = _height_at(point, ground, terrain, level)
    return point


def _spread(fit: _Fit, ground: _Ground, sights: Sequence[_Sight], middle: complex) -> float:
    """The standard deviation of the place in metres: of the last match by what is left between its points, spread over as many
    as there are; of tiles by how far they disagree."""
    if fit.view is None:
        off = [abs(sight.outline[0] - middle) for sight in sights]
        diagonal = abs(sights[0].outline[1] - sights[0].outline[3])
        return max(FLOOR, OF_TILES * float(diagonal), math.sqrt(float(np.mean(np.square(off)))))
    pairs = fit.match.pairs.astype(np.float64)
    points = np.array(project(_square(fit.view), pairs[:, 2:]))
    left = np.abs(ground.metres(np.array(project(fit.matrix, pairs[:, :2]))) - ground.metres(points))
    return math.hypot(FLOOR, math.sqrt(float(np.mean(left**2)) * 8 / len(pairs)))


def _area(outline: NDArray[np.complex128]) -> float:
    """Signed area of a polygon of complex corners."""
    return float((np.conj(outline) * np.roll(outline, -1)).imag.sum() / 2)
