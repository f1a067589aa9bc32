"""What renderers draw: triangles with a normal at every corner, made from a mesh or a point cloud.

The normals are angle-weighted means over the faces around a point (G. Thürmer and C. Wüthrich, Computing vertex normals from
polygonal facets, 1998), kept apart at sharp creases. They never rely on how a file orders the corners of its faces: where
neighbours face opposite ways, faces are flipped to the side of their neighbours first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop.render.geometry import Bytes, Floats, Integers, Shape
from outcrop.render.points import discs

CREASE = 50.0
"""Degrees between a face and the mean around its corner beyond which the corner keeps the face's own normal."""


@dataclass(frozen=True)
class Surface:
    """Triangles in the unit ball.

    `vertices` float32 [V, 3], `faces` int32 [F, 3], `normals` of the corners, float32 [F, 3, 3], each on the side of its face;
    `colours` of the vertices, sRGB uint8 [V, 3], or None; `uv`, `texture_of` and `textures` as in `Shape`.
    """

    vertices: Floats
    faces: Integers
    normals: Floats
    colours: Bytes | None = None
    uv: Floats | None = None
    texture_of: NDArray[np.int16] | None = None
    textures: tuple[Bytes, ...] = ()


def surface_of(shape: Shape) -> Surface:
    """The surface of a shape in the unit ball (see `outcrop.render.geometry.normalised`); point clouds become discs.

    Raises:
        MeshError: a point cloud that cannot be drawn.
    """
    if shape.is_cloud:
        return Surface(*discs(shape))
    return Surface(
        shape.vertices,
        shape.faces,
        corner_normals(shape.vertices, shape.faces),
        shape.colours,
        shape.uv,
        shape.texture_of,
        shape.textures,
    )


def corner_normals(vertices: Floats, faces: Integers) -> Floats:
    """Smooth unit normals at the corners of faces: [F, 3, 3]; corners at the same place share them, however indexed."""
    points = same_places(vertices)[faces]
    corners = vertices[faces].astype(np.float64)
    edges = np.roll(corners, -1, axis=1) - corners  # [F, 3, 3]: corner i to corner i + 1
    plane = np.cross(edges[:, 0], edges[:, 1])
    area = np.linalg.norm(plane, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = np.where(area[:, None] > 0, plane / area[:, None], 0.0)
        directions = edges / np.linalg.norm(edges, axis=2, keepdims=True)
    cosine = -np.einsum("fij,fij->fi", directions, np.roll(directions, 1, axis=1))
    angle = np.nan_to_num(np.arccos(np.clip(np.nan_to_num(cosine, nan=1.0), -1, 1)))
    angle[area == 0] = 0.0
    mean = _means(points, flat, angle, area)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-30)
    normals = mean[points]
    agreement = np.einsum("fij,fj->fi", normals, flat)
    normals *= np.where(agreement < 0, -1.0, 1.0)[:, :, None]
    own = (np.abs(agreement) < np.cos(np.radians(CREASE))) & (area > 0)[:, None]
    normals[own] = np.broadcast_to(flat[:, None], normals.shape)[own]
    return np.ascontiguousarray(normals, np.float32)


def _means(
    points: NDArray[np.int64], flat: NDArray[np.float64], angle: NDArray[np.float64], area: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The angle-weighted sum of face normals around each point, [P, 3], as if all faces had been flipped to one side before."""
    count = int(points.max()) + 1
    mean = _gathered(points, flat, angle, count)
    doubtful = _facing_opposite_ways(points, count)
    if not len(doubtful):
        return mean
    flipped = _sides(points, count) < 0
    points = np.where(flipped[:, None], points[:, ::-1], points)
    angle = np.where(flipped[:, None], angle[:, ::-1], angle)
    flat = np.where(flipped[:, None], -flat, flat)
    mean = _gathered(points, flat, angle, count)
    doubtful = _facing_opposite_ways(points, count)
    if len(doubtful):
        # Some have no common side (a Möbius strip, edges of three faces): then that of the largest face around the point.
        main = _largest(points, area, count)
        side = np.sign(np.einsum("fj,fij->fi", flat, flat[main[points]]))
        mean[doubtful] = _gathered(points, flat, angle * np.where(side == 0, 1, side), count)[doubtful]
    return mean


def _sides(points: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """For each face 1, or -1 where it must be flipped to face the side of its neighbours, [F].

    Neighbours share an edge that no third face has. Every face is two nodes of a graph, as it is and flipped, joined with
    the node of each neighbour that then faces the same side; faces that are connected keep the side that most of them have.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    faces, after = len(points), np.roll(points, -1, axis=1)
    low, high = np.minimum(points, after).ravel(), np.maximum(points, after).ravel()
    edge, forwards = low * count + high, (points < after).ravel()
    order = np.argsort(edge, kind="stable")
    order = order[low[order] != high[order]]
    sorted_edge = edge[order]
    first = np.flatnonzero(np.diff(sorted_edge, prepend=-1))
    pairs = first[np.diff(first, append=len(sorted_edge)) == 2]
    one, other = order[pairs], order[pairs + 1]
    crossed = forwards[one] == forwards[other]  # both run along the edge the same way: one of them must be flipped
    one, other = one // 3, other // 3
    begin = np.concatenate([one, one + faces])
    end = np.concatenate([np.where(crossed, other + faces, other), np.where(crossed, other, other + faces)])
    graph = coo_array((np.ones(len(begin), np.int8), (begin, end)), shape=(2 * faces, 2 * faces))
    _, label = connected_components(graph, directed=False)
    as_is, flipped = label[:faces], label[faces:]
    side = np.where(as_is <= flipped, 1, -1)
    whole = np.minimum(as_is, flipped)
    votes = np.bincount(whole, weights=side, minlength=2 * faces)
    return np.where(votes[whole] < 0, -side, side)


def same_places(vertices: Floats) -> NDArray[np.int64]:
    """A number for each vertex, [V], the same for vertices at exactly the same place."""
    bits = (np.ascontiguousarray(vertices, np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
    # A 64-bit hash of the three coordinates sorts five times faster than the rows themselves.
    mixed = bits[:, 0] * np.uint64(0x9E3779B97F4A7C15)
    for axis in (1, 2):
        mixed = (mixed ^ (mixed >> np.uint64(29)) ^ bits[:, axis]) * np.uint64(0xBF58476D1CE4E5B9)
    return np.unique(mixed ^ (mixed >> np.uint64(32)), return_inverse=True)[1].astype(np.int64)


def _gathered(
    points: NDArray[np.int64], flat: NDArray[np.float64], weights: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Weighted sums of face normals around each point, [count, 3]."""
    index = points.ravel()
    return np.stack([np.bincount(index, (weights * flat[:, axis, None]).ravel(), count) for axis in range(3)], axis=1)


def _facing_opposite_ways(points: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The points at edges that two faces run along in the same direction: one of the two is flipped."""
    edges = (points * count + np.roll(points, -1, axis=1)).ravel()
    edges.sort()
    twice = np.unique(edges[1:][edges[1:] == edges[:-1]])
    return np.unique(np.concatenate([twice // count, twice % count]))


def _largest(points: NDArray[np.int64], area: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The largest face at each point, [count]."""
    order = np.argsort(area, kind="stable")
    largest = np.zeros(count, np.int64)
    largest[points[order].ravel()] = np.repeat(order, 3)  # of several values for one place the last one stays
    return largest
