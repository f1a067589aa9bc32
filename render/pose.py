"""Bringing a shape into a pose of its own, so that how a scanner laid it down does not matter.

The axes of a shape are the principal axes of its surface: the eigenvectors of the second moments of its area about its centroid
(continuous PCA; D. Vranić, D. Saupe and J. Richter, 2001). The shortest points up. Third moments say which way they point: to the
side where the surface reaches farther out. A surface that is open on one side (the crown of a tooth, cut from its jaw) is laid
with the opening down instead: along such an axis the third moment of a crown is small, and of either sign within one genus. Its
other axes point away from the edge too. That fixes all three directions, and gives a shape and its mirror image one pose; where
left and right are to be kept apart, the axis whose direction is least decided points where it makes the turn one without
reflection.

Two things may be undecided. Axes of nearly the same length have no direction of their own: they are turned (in their plane, or in
space) to where the third moment is largest. And where third moments are nearly zero, as along the normal of a plane of symmetry,
noise decides. `poses` therefore gives every pose that the shape may as well have been given, the one that it is given first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.render.cameras import UPS, Up
from outcrop.render.geometry import Floats, Shape, normalised
from outcrop.render.surface import same_places

Align = Literal["none", "axes", "axes-mirror"]
ALIGNS: tuple[str, ...] = get_args(Align)
Doubles = NDArray[np.float64]

ALIKE, NEARLY = 0.95, 0.9
"""Axes whose standard deviations have at least this ratio count as equally long; from the second on as perhaps equally long."""
EVEN = 0.02
"""Third moments (as skewness) and openings that are nearer to zero, or to each other, decide nothing."""
OPEN = 0.2
"""A surface counts as open where its edge lies this much to one side, along one of its axes (`Moments.opening`). Its axes then
point away from the edge, all but those along which it is even."""
SURE = 100.0
"""How much more an opening decides than a third moment."""
MOST_EDGE = 0.5
"""The part of all sides of faces, by length, that may be edge; where more is, neighbours do not share their corners."""
MAX_POSES = 8
PART = 200_000
"""Faces or points whose moments are summed at once."""
# A rule for triangles that is exact for cubic functions (A. H. Stroud, Approximate calculation of multiple integrals, 1971).
PLACES = np.array([[1 / 3, 1 / 3, 1 / 3], [0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
WEIGHTS = np.array([-27.0, 25.0, 25.0, 25.0]) / 48


@dataclass(frozen=True)
class Moments:
    """Those of a surface about its centroid: `second` [3, 3] and `third` [3, 3, 3], of an area of 1.

    `opening` [3] is the first moment of its edge about the centroid, by its area: it points to the side where the surface is
    open (a hemisphere has 0.5), and is 0 where it is closed.
    """

    second: Doubles
    third: Doubles
    opening: Doubles

    def skewness(self, axis: Doubles) -> float:
        """The third moment along a unit vector, in units of its standard deviation; 0 where the shape has no extent."""
        variance = float(axis @ self.second @ axis)
        moment = float(np.einsum("ijk,i,j,k", self.third, axis, axis, axis))
        return moment / variance**1.5 if variance > 1e-18 else 0.0


def moved(shape: Shape, axes: Doubles) -> Shape:
    """The shape turned (and mirrored, if their determinant says so) so that `axes` [3, 3] are its x, y and z axes."""
    vertices = (shape.vertices.astype(np.float64) @ axes.T).astype(np.float32)
    normals = (shape.normals @ axes.T).astype(np.float32) if shape.normals is not None else None
    return replace(shape, vertices=vertices, normals=normals)


def poses(shape: Shape, align: Align, up: Up = "y") -> list[Doubles]:
    """The axes [3, 3] (as rows) of the poses that a shape may be given, that which it is given first; at most `MAX_POSES`.

    `up` is where its shortest axis is to lie: it lies flat, and a ring of cameras sees it from above and around, whatever its
    other two axes are, and no plate edge-on.
    """
    moments = moments_of(shape)
    found: list[Doubles] = []
    for axes in _frames(moments):
        for each in _directed(axes, moments, align):
            if not any(np.allclose(each, other, atol=1e-6) for other in found):
                found.append(each)
    return [np.roll(axes, UPS.index(up) + 1, axis=0) for axes in found[:MAX_POSES]]


def moments_of(shape: Shape) -> Moments:
    """The moments of a shape's surface; of a point cloud those of its points, each for the surface that is nearest to it."""
    first, second, third, area = np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3, 3)), 0.0
    for points, weights in _samples(shape):
        area += float(weights.sum())
        first += weights @ points
    centroid = first / area
    for points, weights in _samples(shape):
        points = points - centroid
        pairs = (points[:, :, None] * points[:, None]).reshape(-1, 9)
        second += (weights @ pairs).reshape(3, 3)
        third += ((pairs * weights[:, None]).T @ points).reshape(3, 3, 3)
    return Moments(second / area, third / area, _edge(shape, centroid) / area)


def _samples(shape: Shape) -> Iterator[tuple[Doubles, Doubles]]:
    """Points [N, 3] and their weights [N], in parts: sums over them are integrals over the surface."""
    shape = normalised(shape)
    if shape.is_cloud:
        yield _spaced(shape.vertices)
        return
    for start in range(0, len(shape.faces), PART):
        corners = shape.vertices[shape.faces[start : start + PART]].astype(np.float64)
        plane = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(plane, axis=1) / 2 + 1e-15  # a mesh without area has moments of its corners
        yield np.einsum("qc,fci->fqi", PLACES, corners).reshape(-1, 3), (area[:, None] * WEIGHTS).ravel()


def _edge(shape: Shape, centroid: Doubles) -> Doubles:
    """The first moment [3] of the surface's edge: where one face alone has a side; 0 for clouds, and for faces that lie apart."""
    if shape.is_cloud:
        return np.zeros(3)
    vertices = normalised(shape).vertices
    ends = np.stack([shape.faces, np.roll(shape.faces, -1, axis=1)], axis=2).reshape(-1, 2)
    places = np.sort(same_places(vertices)[ends], axis=1)
    _, first, uses = np.unique(places[:, 0] * len(vertices) + places[:, 1], return_index=True, return_counts=True)
    one, other = vertices[ends[first]].astype(np.float64).transpose(1, 0, 2)
    length = np.linalg.norm(other - one, axis=1)
    edge = length * (uses == 1)
    if edge.sum() > MOST_EDGE * length.sum():
        return np.zeros(3)
    moment: Doubles = edge @ ((one + other) / 2 - centroid)
    return moment


def _spaced(vertices: Floats) -> tuple[Doubles, Doubles]:
    """The points of a cloud, each weighted by the area that it stands for: that of a disc as drawn."""
    from scipy.spatial import cKDTree

    from outcrop.render.points import MAX_DISCS, SPACING_OF, WIDEST, spread

    points = vertices[spread(vertices, MAX_DISCS)].astype(np.float64)
    away = cKDTree(points).query(points, [min(SPACING_OF, len(points) - 1) + 1])[0][:, 0]
    median = float(np.median(away))
    weights: Doubles = np.clip(away, 0.5 * median, WIDEST * median) ** 2 + 1e-15
    return points, weights


def _frames(moments: Moments) -> list[Doubles]:
    """Axes [3, 3] without direction, the longest first: the principal ones, and where some are equally long the turned ones; in
    front those that a shape is given."""
    values, vectors = np.linalg.eigh(moments.second)
    axes = vectors.T[::-1]
    deviation = np.sqrt(np.maximum(values[::-1], 0))
    ratios = deviation[1:] / np.maximum(deviation[:-1], 1e-12)
    if not (ratios >= NEARLY).any():
        return [axes]
    turned = axes.copy()
    if (ratios >= NEARLY).all():
        turned[0] = _farthest(moments, np.eye(3))
        turned[1] = _farthest(moments, _across(turned[0]))
        turned[2] = np.cross(turned[0], turned[1])
    else:
        start = int(np.argmax(ratios))
        turned[start] = _farthest(moments, axes[start : start + 2])
        turned[start + 1] = np.cross(axes[2 - 2 * start], turned[start])
    return [turned, axes] if ratios.max() >= ALIKE else [axes, turned]


def _across(axis: Doubles) -> Doubles:
    """Two unit vectors [2, 3] across a third."""
    one = np.cross(axis, np.eye(3)[int(np.abs(axis).argmin())])
    one /= np.linalg.norm(one)
    return np.stack([one, np.cross(axis, one)])


def _farthest(moments: Moments, basis: Doubles) -> Doubles:
    """The unit vector in the span of `basis` [2 or 3, 3] along which the third moment is largest."""
    third = np.einsum("ijk,ai,bj,ck->abc", moments.third, basis, basis, basis)
    count = 720 if len(basis) == 2 else 4000
    number = np.arange(count) + 0.5
    if len(basis) == 2:
        tried = np.stack([np.cos(number * 2 * np.pi / count), np.sin(number * 2 * np.pi / count)], axis=1)
    else:
        height, angle = 1 - 2 * number / count, np.pi * (3 - 5**0.5) * number
        across = np.sqrt(1 - height**2)
        tried = np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=1)
    best = tried[int(np.einsum("abc,na,nb,nc->n", third, tried, tried, tried).argmax())]
    shift = 2 * float(np.sqrt((third**2).sum())) + 1e-30
    for _ in range(200):  # uphill: T. Kolda and J. Mayo, Shifted power method for computing tensor eigenpairs, 2011
        best = np.einsum("abc,b,c->a", third, best, best) + shift * best
        best /= np.linalg.norm(best)
    found: Doubles = best @ basis
    return found


def _directed(axes: Doubles, moments: Moments, align: Align) -> Iterator[Doubles]:
    """The axes with the directions that openings and third moments give them, then with those that third moments might have
    given them as well."""
    skewness, opening = np.array([moments.skewness(axis) for axis in axes]), axes @ moments.opening
    is_open = (np.abs(opening) >= EVEN) & (np.abs(opening).max() >= OPEN)
    signs = np.where(np.where(is_open, -opening, skewness) < 0, -1.0, 1.0)
    size = np.where(is_open, SURE + np.abs(opening), np.abs(skewness))
    weak = [axis for axis in np.argsort(size, kind="stable") if size[axis] < size.min() + EVEN]
    choices = [(1, -1) if each < EVEN else (1,) for each in size]
    for flips in sorted(product(*choices), key=sum, reverse=True):
        each = axes * (signs * flips)[:, None]
        if align == "axes-mirror" or np.linalg.det(each) > 0:
            yield each
            continue
        for axis in weak:
            yield each * np.where(np.arange(3) == axis, -1.0, 1.0)[:, None]
