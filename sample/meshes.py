"""Meshes as arrays, and what every form is made with: sheets of points, tubes, parts put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Faces = NDArray[np.int32]
Colours = NDArray[np.uint8]


@dataclass(frozen=True)
class Mesh:
    """`points` [V, 3], y up; `faces` [F, 3] counterclockwise from outside (none: a point cloud); `colours` [V, 3] or None."""

    points: Points
    faces: Faces
    colours: Colours | None = None

    def normals(self) -> Points:
        """Unit normals of the points [V, 3]: the faces' mean, weighted by area."""
        a, b, c = (self.points[self.faces[:, i]] for i in range(3))
        across = np.cross(b - a, c - a)
        total = np.zeros_like(self.points)
        for corner in range(3):
            for axis in range(3):
                total[:, axis] += np.bincount(self.faces[:, corner], across[:, axis], len(self.points))
        total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
        return total

    def moved(self, points: Points) -> Mesh:
        """The same mesh with its points elsewhere."""
        return replace(self, points=points)


def sheet(points: Points, *, around: bool = False) -> Mesh:
    """A mesh over a grid of points [U, V, 3]; `around` joins the last column to the first, as in a tube."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    if around:
        index = np.concatenate([index, index[:, :1]], axis=1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = [np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))]
    return Mesh(points.reshape(-1, 3), np.concatenate(faces).astype(np.int32))


def tube(points: Points, *, hollow: float = 0.0) -> Mesh:
    """A closed mesh over rings of points [U, V, 3]; the last ring's lid lies `hollow` of its radius within."""
    body = sheet(points, around=True)
    lids = []
    for ring, before, depth in ((points[0], points[1], 0.0), (points[-1], points[-2], hollow)):
        centre = ring.mean(axis=0)
        inward = before.mean(axis=0) - centre
        inward *= depth * np.linalg.norm(ring - centre, axis=1).mean() / max(float(np.linalg.norm(inward)), 1e-12)
        # Rings of its own, so that the rim stays an edge.
        shares = ((1.0, 0.0), (0.93, 0.1), (0.8, 0.75), (0.45, 1.0), (0.0, 1.0))
        rings = [centre + (ring - centre) * share + inward * sunk for share, sunk in shares]
        lids.append(sheet(np.stack(rings), around=True))
    lids[0] = replace(lids[0], faces=lids[0].faces[:, ::-1].copy())
    return outward(together([body, *(replace(lid, faces=lid.faces[:, ::-1].copy()) for lid in lids)]))


def outward(mesh: Mesh) -> Mesh:
    """The mesh with its faces turned so that its volume is positive."""
    a, b, c = (mesh.points[mesh.faces[:, i]] - mesh.points.mean(axis=0) for i in range(3))
    volume = np.einsum("ij,ij->", a, np.cross(b, c))
    return mesh if volume >= 0 else replace(mesh, faces=mesh.faces[:, ::-1].copy())


def together(parts: Sequence[Mesh]) -> Mesh:
    """Several meshes as one of several parts."""
    starts = np.cumsum([0, *(len(part.points) for part in parts)])
    faces = [part.faces + np.int32(start) for part, start in zip(parts, starts, strict=False)]
    return Mesh(np.concatenate([part.points for part in parts]), np.concatenate(faces))


def spine(root: Points, tip: Points, thickness: float, bend: Points, *, around: int = 7, along: int = 5) -> Mesh:
    """A thorn from `root` to `tip`, `thickness` in radius at its root, bent sideways by `bend`."""
    line = tip - root
    side = np.cross(line, [0.31, 0.77, 0.55])
    side /= np.linalg.norm(side)
    other = np.cross(line / np.linalg.norm(line), side)
    angles = 2 * np.pi * np.arange(around) / around
    ring = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * other
    t = np.linspace(0, 1, along)[:, None, None]
    centre = root + line * t + bend * (t * t)
    return tube(centre + ring * thickness * (1 - t) ** 0.8)


def turned(points: Points, axis: Points, degrees: float) -> Points:
    """Points [V, 3] turned about an axis through the origin (Rodrigues)."""
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    angle = np.radians(degrees)
    along = np.outer(points @ axis, axis) * (1 - np.cos(angle))
    around: Points = points * np.cos(angle) + np.cross(axis, points) * np.sin(angle) + along
    return around


def bump(at: Points, centre: float | Points, width: float) -> Points:
    """A bell of height 1 and half-width about `width`."""
    bell: Points = np.exp(-(((at - centre) / width) ** 2))
    return bell


def waves(rng: np.random.Generator, points: Points, finest: float, count: int = 12) -> Points:
    """Smooth random heights [V] of spread about 1 over points: plane waves not shorter than `finest`."""
    total = np.zeros(len(points))
    for _ in range(count):
        direction = rng.normal(size=3)
        length = finest * rng.uniform(1, 4)
        phase = points @ (direction / np.linalg.norm(direction)) * (2 * np.pi / length)
        total += np.sin(phase + rng.uniform(0, 2 * np.pi)) * np.sqrt(length)
    spread: Points = total / max(float(total.std()), 1e-9)
    return spread
