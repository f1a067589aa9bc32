"""What the ground and the scanner do to remains: compaction, breakage, wear, noise, an unsure pose, points for a surface."""

from __future__ import annotations

import numpy as np

from .meshes import Colours, Faces, Mesh, Points, turned, waves


def compacted(mesh: Mesh, rng: np.random.Generator, strength: float = 0.14) -> Mesh:
    """Squeezed along one direction and sheared across it, as sediment does under load: up to `strength` of its extent."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    aside = np.cross(direction, rng.normal(size=3))
    aside /= np.linalg.norm(aside)
    along = mesh.points @ direction
    squeeze, shear = rng.uniform(0, strength), rng.normal(0, strength / 3)
    return mesh.moved(mesh.points - np.outer(along * squeeze, direction) + np.outer(along * shear, aside))


def worn(mesh: Mesh, rng: np.random.Generator, scan: float = 0.0015, dents: float = 0.006) -> Mesh:
    """Dented smoothly along the normals and roughened by the scanner; both as shares of the mesh's extent."""
    extent = float(np.ptp(mesh.points, axis=0).max())
    # Points at one place (along an edge that stays sharp) move together, or the surface would tear.
    _, first, place = np.unique(mesh.points.round(9), axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    normals = mesh.normals()
    facing = np.stack([np.bincount(place, normals[:, axis]) for axis in range(3)], axis=1)
    facing = facing / np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    dented = waves(rng, mesh.points[first], 0.16 * extent) * dents + rng.normal(size=len(first)) * scan
    return mesh.moved(mesh.points + (facing * (dented * extent)[:, None])[place])


def broken(mesh: Mesh, rng: np.random.Generator, lost: float) -> Mesh:
    """A piece is missing: what lies beyond an uneven plane, about `lost` of the surface, is broken off there.

    The faces beyond are laid onto the break, so that the mesh stays closed.
    """
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    extent = float(np.ptp(mesh.points, axis=0).max())
    along = mesh.points @ direction
    uneven = waves(rng, mesh.points - np.outer(along, direction), 0.1 * extent) * 0.018 * extent
    middle = along[mesh.faces].mean(axis=1)
    order = np.argsort(middle)
    kept = np.searchsorted(np.cumsum(_areas(mesh)[order]), (1 - lost) * _areas(mesh).sum())
    beyond = along - uneven - middle[order[min(kept, len(order) - 1)]]
    return mesh.moved(mesh.points - np.outer(np.maximum(beyond, 0), direction))


def posed(mesh: Mesh, rng: np.random.Generator, tilt: float = 12.0) -> Mesh:
    """Turned by any angle about the vertical and leant by about `tilt` degrees: specimens lie as they were laid down."""
    points = turned(mesh.points, np.array([0.0, 1.0, 0.0]), rng.uniform(0, 360))
    lean = np.array([rng.normal(), 0.0, rng.normal()])
    return mesh.moved(turned(points, lean, rng.normal(0, tilt)))


def scanned(mesh: Mesh, rng: np.random.Generator, count: int, scan: float = 0.002) -> Mesh:
    """A point cloud: `count` points spread evenly over the surface, off it by the scanner's noise."""
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    area = _areas(mesh)
    steps = (np.arange(count) + rng.random(count)) / count
    face = np.searchsorted(np.cumsum(area) / area.sum(), steps).clip(max=len(area) - 1)
    one, two = rng.random((count, 1)), rng.random((count, 1))
    over = one + two > 1
    one, two = np.where(over, 1 - one, one), np.where(over, 1 - two, two)
    points = a[face] + one * (b[face] - a[face]) + two * (c[face] - a[face])
    noise = rng.normal(size=points.shape) * scan * float(np.ptp(mesh.points, axis=0).max())
    return Mesh(
        points + noise, np.zeros((0, 3), np.int32), None if mesh.colours is None else mesh.colours[mesh.faces[face, 0]]
    )


def coloured(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """Stone-coloured points: one tone between grey and ochre, mottled."""
    tone = np.array([172, 162, 146]) + rng.normal(0, 1) * np.array([9, 2, -8]) - rng.uniform(0, 30)
    extent = float(np.ptp(mesh.points, axis=0).max())
    mottled = waves(rng, mesh.points, 0.05 * extent)[:, None] * np.array([9.0, 9.0, 8.0])
    colours: Colours = np.clip(tone + mottled, 0, 255).astype(np.uint8)
    return Mesh(mesh.points, mesh.faces, colours)


def coarser(mesh: Mesh, cells: int) -> Mesh:
    """With fewer faces: points that share one of about `cells` cells along the longest side become one."""
    cell = float(np.ptp(mesh.points, axis=0).max()) / cells
    keys = np.floor((mesh.points - mesh.points.min(axis=0)) / cell).astype(np.int64)
    _, group, counts = np.unique(
        (keys[:, 0] * 2_000_003 + keys[:, 1]) * 2_000_003 + keys[:, 2], return_inverse=True, return_counts=True
    )
    points = np.stack([np.bincount(group, mesh.points[:, axis]) / counts for axis in range(3)], axis=1)
    faces: Faces = group[mesh.faces].astype(np.int32)
    kept = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return Mesh(points, faces[kept])


def scaled(mesh: Mesh, millimetres: float) -> Mesh:
    """The mesh with its longest side of the given length (millimetres), standing on the ground plane."""
    points: Points = mesh.points * (millimetres / float(np.ptp(mesh.points, axis=0).max()))
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return mesh.moved(points - np.array([middle[0], points[:, 1].min(), middle[2]]))


def _areas(mesh: Mesh) -> Points:
    """Twice the faces' areas [F]."""
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    areas: Points = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return areas
