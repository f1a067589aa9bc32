"""Point clouds as surfaces: a small disc for every point, facing along the surface that its neighbours suggest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outcrop.render.geometry import Bytes, Floats, Integers, Shape
from outcrop.render.libraries import import_open3d
from outcrop.schema.errors import MeshError

NEIGHBOURS = 12
"""Points from which a normal is estimated: the plane of least squares through them."""
SPACING_OF = 6
"""The neighbour whose distance makes a disc's radius: discs of an even cloud then overlap and leave no gaps."""
WIDEST = 2.0
"""A disc's radius is at most this many times the median: a stray point stays a small disc."""
CORNERS = 6
MAX_DISCS = 400_000
"""Of a larger cloud the points are thinned evenly in space."""


class Discs(NamedTuple):
    """Triangles: `vertices` float32 [V, 3], `faces` int32 [F, 3], `normals` of the corners, float32 [F, 3, 3], `colours` of the
    vertices, uint8 [V, 3], or None."""

    vertices: Floats
    faces: Integers
    normals: Floats
    colours: Bytes | None


def discs(cloud: Shape) -> Discs:
    """The discs of a point cloud in the unit ball.

    Normals are those of the file where it has them, else estimated; they need no consistent side, since drawing is two-sided.

    Raises:
        MeshError: its points are all in the same few places.
    """
    o3d = import_open3d()
    colours, normals = cloud.colours, cloud.normals
    keep = spread(cloud.vertices, MAX_DISCS)
    points = np.ascontiguousarray(cloud.vertices[keep], np.float64)
    if len(points) < NEIGHBOURS:
        raise MeshError(f"{cloud.name}: its points lie in only {len(points)} places; too few to draw")
    tensor = o3d.core.Tensor.from_numpy(points)
    search = o3d.core.nns.NearestNeighborSearch(tensor)
    search.knn_index()
    neighbours, squares = (found.numpy() for found in search.knn_search(tensor, NEIGHBOURS))
    radii = np.sqrt(squares[:, SPACING_OF])
    median = float(np.median(radii))
    radii = np.clip(radii, 0.5 * median, WIDEST * median)
    if normals is not None and np.isfinite(normals).all() and (np.abs(normals).sum(axis=1) > 0).all():
        facing = normals[keep].astype(np.float64)
        facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    else:
        facing = _planes(points, neighbours)
    facing = _evened(facing, neighbours)
    # Onto the plane through the neighbours: what a scanner scatters to and fro would otherwise be drawn as roughness.
    offsets = np.einsum("nki,ni->nk", points[neighbours] - points[:, None], facing)
    points = points + np.median(offsets, axis=1)[:, None] * facing
    rim = _rims(points, facing, radii)
    search = o3d.core.nns.NearestNeighborSearch(o3d.core.Tensor.from_numpy(points))
    search.knn_index()
    nearest, _ = (found.numpy() for found in search.knn_search(o3d.core.Tensor.from_numpy(rim.reshape(-1, 3)), 3))
    return _built(points, facing, rim, nearest, colours[keep] if colours is not None else None)


def spread(points: Floats, most: int) -> NDArray[np.int64]:
    """Which points to keep: one of each place, and no more than `most`, one of each cell of the finest grid that allows it."""
    rows = np.arange(len(points))
    cells = 4096
    while True:
        grid = np.floor((points.astype(np.float64) + 1) * (cells / 2)).astype(np.int64)
        _, first = np.unique((grid[:, 0] * 8192 + grid[:, 1]) * 8192 + grid[:, 2], return_index=True)
        if len(first) <= most:
            return np.sort(rows[first])
        cells = int(cells * 0.8)


def _planes(points: NDArray[np.float64], neighbours: NDArray[np.int64]) -> NDArray[np.float64]:
    """The normals of the planes through each point's neighbours, [N, 3]."""
    normals = np.empty_like(points)
    for start in range(0, len(points), 50_000):  # in parts: the covariances of a large cloud need memory
        near = points[neighbours[start : start + 50_000]]
        near = near - near.mean(axis=1, keepdims=True)
        _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))
        normals[start : start + 50_000] = axes[:, :, 0]
    return normals


def _evened(normals: NDArray[np.float64], neighbours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each normal as the mean over its neighbours', turned to its own side: noise must not flicker in the shading."""
    evened = normals.copy()
    for column in range(1, NEIGHBOURS // 2):
        other = normals[neighbours[:, column]]
        evened += other * np.where(np.einsum("ni,ni->n", other, normals) < 0, -1.0, 1.0)[:, None]
    evened /= np.maximum(np.linalg.norm(evened, axis=1, keepdims=True), 1e-12)
    return evened


def _rims(points: NDArray[np.float64], facing: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of regular polygons around points, [N, CORNERS, 3]."""
    helper = np.eye(3)[np.abs(facing).argmin(axis=1)]
    across = np.cross(facing, helper)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    along = np.cross(facing, across)
    angle = 2 * np.pi * np.arange(CORNERS) / CORNERS
    around = np.cos(angle)[None, :, None] * across[:, None] + np.sin(angle)[None, :, None] * along[:, None]
    rims: NDArray[np.float64] = points[:, None] + radii[:, None, None] * around
    return rims


def _built(
    points: NDArray[np.float64],
    facing: NDArray[np.float64],
    rim: NDArray[np.float64],
    nearest: NDArray[np.int64],
    colours: NDArray[np.uint8] | None,
) -> Discs:
    """The discs as fans of triangles around their points.

    The normals at the rim are those of the points `nearest` to it, so that overlapping discs are shaded alike where they meet.
    """
    count = len(points)
    vertices = np.concatenate([points[:, None], rim], axis=1)
    around = np.arange(CORNERS)
    fan = np.stack([np.zeros(CORNERS, np.int64), 1 + around, 1 + (around + 1) % CORNERS], axis=1)
    faces = np.arange(count)[:, None, None] * (CORNERS + 1) + fan
    found = facing[nearest].reshape(count, CORNERS, -1, 3)
    found *= np.where(np.einsum("ncki,ni->nck", found, facing) < 0, -1.0, 1.0)[..., None]
    edge = found.sum(axis=2)
    edge /= np.maximum(np.linalg.norm(edge, axis=2, keepdims=True), 1e-12)
    corners = np.concatenate([facing[:, None], edge], axis=1)  # [N, CORNERS + 1, 3], on the side that the disc faces
    return Discs(
        vertices.reshape(-1, 3).astype(np.float32),
        faces.reshape(-1, 3).astype(np.int32),
        corners[:, fan].reshape(-1, 3, 3).astype(np.float32),
        np.repeat(colours, CORNERS + 1, axis=0) if colours is not None else None,
    )
