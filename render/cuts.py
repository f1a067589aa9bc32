"""Cut copies of a shape: what is left of a specimen that broke along a plane, so that broken ones find their like.

The planes are the same for every specimen: their direction in its pose, and the share of its surface that stays, are drawn by the
seed and the number of the cut. The cut itself stays open; a break has no surface of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from outcrop.render.geometry import MIN_POINTS, Shape
from outcrop.schema.errors import MeshError

LEAST, MOST = 0.45, 0.8
"""Shares of the surface between which a cut leaves."""
COARSE, STEPS = 0.01, 24
"""By how much of the surface a cut by the faces' middles may be off before its level is sought, and in how many halvings."""
_STREAM = 20_011
"""Keeps the random numbers of cuts apart from other uses of the same seed."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """A cut: what stays is the `share` of the surface that reaches farthest along `normal`, a vector of length 1 in the pose in
    which the specimen is drawn."""

    normal: tuple[float, float, float]
    share: float

    @classmethod
    def numbered(cls, number: int, seed: int) -> Plane:
        """The plane of a cut, from 0."""
        rng = np.random.default_rng([seed, _STREAM, number])
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        x, y, z = (round(float(value), 6) for value in direction)
        return cls((x, y, z), round(float(rng.uniform(LEAST, MOST)), 3))


def cut(shape: Shape, plane: Plane) -> Shape:
    """What is left of a shape: faces that the plane crosses are clipped, with their colours and textures.

    Raises:
        MeshError: nothing is left, or nothing was cut off.
    """
    normal = np.asarray(plane.normal)
    along = shape.vertices.astype(np.float64) @ normal
    places, areas = (along, np.ones(len(along))) if shape.is_cloud else _centroids(shape, along)
    away = along - _level(places, areas, 1 - plane.share)
    left = _points(shape, away >= 0) if shape.is_cloud else _clipped(shape, away)
    if not shape.is_cloud and abs(_area(left) / _area(shape) - plane.share) > COARSE:
        left = _sought(shape, along, plane.share)
    if len(left.vertices) < MIN_POINTS or (not shape.is_cloud and not len(left.faces)):
        raise MeshError(f"{shape.name}: a cut leaves nothing to draw; ingest it with --cuts 0")
    return left


def _sought(shape: Shape, along: Doubles, share: float) -> Shape:
    """What stays of a mesh of few faces, of which the middles do not say how much of each stays: the level is sought."""
    low, high = float(along.min()), float(along.max())
    whole = _area(shape)
    for _ in range(STEPS):
        level = (low + high) / 2
        left = _clipped(shape, along - level)
        more = _area(left) > share * whole
        low, high = (level, high) if more else (low, level)
    return left


def _area(shape: Shape) -> float:
    """Twice the area of a mesh's surface."""
    corners = shape.vertices[shape.faces].astype(np.float64)
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(sides, axis=1).sum()) + 1e-15


def _centroids(shape: Shape, along: Doubles) -> tuple[Doubles, Doubles]:
    """Of each face where its middle lies along the normal, and its area."""
    corners = shape.vertices[shape.faces].astype(np.float64)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return along[shape.faces].mean(axis=1), areas + 1e-15


def _level(places: Doubles, weights: Doubles, share: float) -> float:
    """The place below which a share of the weights lies."""
    order = np.argsort(places)
    below = np.cumsum(weights[order])
    return float(places[order][min(int(np.searchsorted(below, share * below[-1])), len(order) - 1)])


def _points(shape: Shape, kept: NDArray[np.bool_]) -> Shape:
    colours = shape.colours[kept] if shape.colours is not None else None
    normals = shape.normals[kept] if shape.normals is not None else None
    return replace(shape, vertices=shape.vertices[kept], colours=colours, normals=normals)


def _clipped(shape: Shape, away: Doubles) -> Shape:
    """The faces on the positive side of the plane, `away` [V] from which the vertices lie."""
    inside = away[shape.faces] >= 0
    whole, crossed = np.flatnonzero(inside.all(axis=1)), [_crossed(shape, away, inside, count) for count in (1, 2)]
    source = np.concatenate([which for which, _ in crossed])
    weights = np.concatenate([parts for _, parts in crossed])  # [m, 3 corners, 3 corners of the face it is part of]
    corners = shape.faces[source]
    made = np.einsum("mcw,mwk->mck", weights, shape.vertices[corners].astype(np.float64)).reshape(-1, 3)
    first = len(shape.vertices)
    faces = np.concatenate([shape.faces[whole], np.arange(first, first + len(made)).reshape(-1, 3)])
    used, renumbered = np.unique(faces, return_inverse=True)
    vertices = np.concatenate([shape.vertices, made.astype(np.float32)])[used]
    colours = uv = texture_of = None
    if shape.colours is not None:
        mixed = np.einsum("mcw,mwk->mck", weights, shape.colours[corners].astype(np.float64)).reshape(-1, 3)
        colours = np.concatenate([shape.colours, np.rint(mixed).clip(0, 255).astype(np.uint8)])[used]
    if shape.uv is not None:
        mixed = np.einsum("mcw,mwk->mck", weights, shape.uv[source].astype(np.float64))
        uv = np.concatenate([shape.uv[whole], mixed.astype(np.float32)])
    if shape.texture_of is not None:
        texture_of = shape.texture_of[np.concatenate([whole, source])]
    faces = renumbered.reshape(-1, 3).astype(np.int32)
    return replace(shape, vertices=vertices, faces=faces, colours=colours, uv=uv, texture_of=texture_of)


def _crossed(shape: Shape, away: Doubles, inside: NDArray[np.bool_], count: int) -> tuple[NDArray[np.intp], Doubles]:
    """The triangles that are left of faces of which `count` (1 or 2) corners stay: of which face each is part, and its corners
    as mixtures of the face's, [m, 3, 3]; one triangle of a face where one corner stays, two where two do."""
    which = np.flatnonzero(inside.sum(axis=1) == count)
    # The corner that is alone on its side comes first; a, b, c keep their sense of rotation.
    alone = (inside[which] if count == 1 else ~inside[which]).argmax(axis=1)
    order = (alone[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(away[shape.faces[which]], order, axis=1).T
    unit = np.eye(3)
    to_b, to_c = (a / (a - b))[:, None], (a / (a - c))[:, None]
    on_b, on_c = (1 - to_b) * unit[0] + to_b * unit[1], (1 - to_c) * unit[0] + to_c * unit[2]
    corner_b, corner_c = np.broadcast_to(unit[1], on_b.shape), np.broadcast_to(unit[2], on_b.shape)
    if count == 1:
        made = [np.stack([np.broadcast_to(unit[0], on_b.shape), on_b, on_c], axis=1)]
    else:
        made = [np.stack([on_b, corner_b, corner_c], axis=1), np.stack([on_b, corner_c, on_c], axis=1)]
    # From the order in which the lone corner is first to the face's own.
    back = np.argsort(order, axis=1)
    weights = [np.take_along_axis(one, back[:, None, :].repeat(3, axis=1), axis=2) for one in made]
    return np.tile(which, len(made)), np.concatenate(weights)
