"""Meshes and point clouds from files: read, checked, and put into the unit ball.

Files are not trusted: their claims are compared with their size before they are read (`render.preflight`), each format's reader
refuses what it cannot account for, and what was read is checked here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.render.polygons import Polygons, runs, starts_of, triangles
from outcrop.render.preflight import check_size
from outcrop.render.reading import read_polygons
from outcrop.schema.errors import MeshError

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Bytes = NDArray[np.uint8]

FAR = 8.0
"""Extents from the origin beyond which the middle is taken off before coordinates become 32-bit numbers."""
LARGEST = 1e30
"""Coordinates beyond this count as not finite: their squares would not be."""
MAX_BROKEN = 0.1
"""The part of a mesh's vertices that may be missing; of point clouds any part may."""
COARSE = 1e-3
"""The step between neighbouring 32-bit numbers, as a part of the extent, beyond which a file's own rounding shows."""
MIN_POINTS = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shape:
    """A mesh, or a point cloud where it has no faces.

    `vertices` [V, 3] float32, moved by -`offset` from where the file has them; `faces` [F, 3] int32; `colours` sRGB of the
    vertices, uint8 [V, 3], or None; `normals` that a point cloud brings, [V, 3], or None; `uv` texture coordinates of the
    corners, float32 [F, 3, 2], or None; `texture_of` the number of each face's texture, int16 [F], -1 = none; `textures` uint8
    [h, w, 3] each, their first row at v = 1. `remarks` say what was decided from the data or left out.
    """

    name: str
    vertices: Floats
    faces: Integers
    colours: Bytes | None = None
    normals: Floats | None = None
    uv: Floats | None = None
    texture_of: NDArray[np.int16] | None = None
    textures: tuple[Bytes, ...] = ()
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    remarks: tuple[str, ...] = ()

    @property
    def is_cloud(self) -> bool:
        """Whether this is a point cloud."""
        return len(self.faces) == 0


def load(path: Path, data: bytes | None = None, part: str = "") -> Shape:
    """Reads a mesh file (`outcrop.render.preflight.SUFFIXES`, any letter case), also compressed; `data` spares reading it again.

    A file of several meshes is one shape, or with `part` (see `outcrop.render.reading.part_names`) one of them. Materials and
    textures are taken from below the file's own folder only. Remarks are logged as warnings too.

    Raises:
        MeshError: what is wrong with the file, and what to do.
    """
    name = str(path)
    try:
        shape = _shape(name, read_polygons(path, data, part))
    except MeshError:
        raise
    except MemoryError:
        raise MeshError(f"{name}: reading it needs more memory than there is; simplify it") from None
    except Exception as error:  # what nobody foresaw costs this file only
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise MeshError(f"{name}: damaged {path.suffix[1:].upper()} ({cause}); export it again") from error
    for remark in shape.remarks:
        log.warning("%s: %s", name, remark)
    return shape


def normalised(shape: Shape) -> Shape:
    """The shape in the unit ball: the middle of its bounding box at the origin, its farthest vertex at distance 1."""
    vertices = shape.vertices.astype(np.float64)
    vertices -= (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    vertices /= np.sqrt((vertices**2).sum(axis=1).max())
    return replace(shape, vertices=vertices.astype(np.float32))


def _shape(name: str, polygons: Polygons) -> Shape:
    """What a file holds as triangles near the origin.

    Raises:
        MeshError: it names vertices that are not there, is not finite, has no extent, or is too large.
    """
    _check_indices(polygons, name)
    polygons = _without_short(_finite(polygons, name))
    if not len(polygons.lengths):
        polygons = _returned(polygons)
        if len(polygons.vertices) < MIN_POINTS:
            raise MeshError(f"{name}: holds no faces and only {len(polygons.vertices)} points; too few to draw")
    check_size(len(polygons.vertices), int((polygons.lengths - 2).sum()), name)
    polygons = _without_unused(polygons)
    vertices, offset, remarks = _near_the_origin(polygons.vertices, name)
    cut, polygon = triangles(polygons.vertices, polygons.lengths, polygons.corners)
    faces, colours = polygons.corners[cut], polygons.colours
    if polygons.face_colours is not None and colours is None and len(faces):
        # Every corner a vertex of its own, so that its colour is its face's.
        vertices, colours = vertices[faces.ravel()], np.repeat(polygons.face_colours[polygon], 3, axis=0)
        faces = np.arange(faces.size).reshape(-1, 3)
    normals = polygons.normals.astype(np.float32) if polygons.normals is not None and not len(faces) else None
    shape = Shape(name, vertices, faces.astype(np.int32), colours, normals, offset=offset)
    shape = replace(shape, remarks=(*polygons.remarks, *remarks))
    return _with_textures(shape, polygons, cut, polygon) if polygons.uv is not None else shape


def _with_textures(shape: Shape, polygons: Polygons, cut: NDArray[np.int64], polygon: NDArray[np.int64]) -> Shape:
    """The shape with the textures of its faces; a face without coordinates on its texture has none."""
    assert polygons.uv is not None and polygons.texture_of is not None
    uv = polygons.uv[cut]
    known: NDArray[np.bool_] = np.all(np.isfinite(uv), axis=(1, 2))
    number = np.where(known, polygons.texture_of[polygon], -1)
    if not (number >= 0).any():
        return shape
    corners: Floats = np.where(known[:, None, None], uv, 0).astype(np.float32)
    return replace(shape, uv=corners, texture_of=number.astype(np.int16), textures=polygons.textures)


def _check_indices(polygons: Polygons, name: str) -> None:
    corners, count = polygons.corners, len(polygons.vertices)
    if corners.size and (corners.min() < 0 or corners.max() >= count):
        faces = np.repeat(np.arange(len(polygons.lengths)), polygons.lengths)
        wrong = len(np.unique(faces[(corners < 0) | (corners >= count)]))
        raise MeshError(
            f"{name}: {wrong:,} of {len(polygons.lengths):,} faces name vertices that are not there (it has {count:,}); "
            "it is damaged"
        )


def _finite(polygons: Polygons, name: str) -> Polygons:
    """The polygons without vertices that are not finite numbers, and the faces or points that use them.

    Raises:
        MeshError: too many are not.
    """
    with np.errstate(invalid="ignore"):
        finite: NDArray[np.bool_] = np.all(np.abs(polygons.vertices) <= LARGEST, axis=1)
    if finite.all():
        return polygons
    wrong = int((~finite).sum())
    if not len(polygons.lengths):
        if wrong == len(finite):
            raise MeshError(f"{name}: none of its {wrong:,} points are finite numbers; export it again")
        return _remarked(_points(polygons, finite), f"{wrong:,} points are not finite numbers: left out")
    used = np.zeros(len(finite), bool)
    used[polygons.corners] = True
    broken = used & ~finite
    if not broken.any():
        return polygons
    if broken.sum() > MAX_BROKEN * used.sum():
        raise MeshError(
            f"{name}: {int(broken.sum()):,} of {int(used.sum()):,} vertices are not finite numbers; "
            "clean it and export it again"
        )
    whole = np.ones(len(polygons.lengths), bool)
    whole[np.repeat(np.arange(len(whole)), polygons.lengths)[broken[polygons.corners]]] = False
    remark = (
        f"{int(broken.sum()):,} vertices are not finite numbers: {int((~whole).sum()):,} faces that use them left out"
    )
    return _remarked(_faces(polygons, whole), remark)


def _without_short(polygons: Polygons) -> Polygons:
    """The polygons without faces of fewer than three corners; points where no others are left."""
    short = polygons.lengths < 3
    if not short.any():
        return polygons
    remark = f"{int(short.sum()):,} of {len(short):,} faces have fewer than three corners: left out"
    return _remarked(_faces(polygons, ~short), remark)


def _returned(cloud: Polygons) -> Polygons:
    """The points without those at (0, 0, 0) that stand for missing returns: several of them, or one far from all others."""
    zero: NDArray[np.bool_] = np.all(cloud.vertices == 0, axis=1)
    count = int(zero.sum())
    if not count or zero.all():
        return cloud
    low, high = cloud.vertices[~zero].min(axis=0), cloud.vertices[~zero].max(axis=0)
    apart = bool((np.maximum(low, -high) > (high - low).max()).any())
    if count < 2 and not apart:
        return cloud
    return _remarked(_points(cloud, ~zero), f"{count:,} points at (0, 0, 0), taken for missing returns: left out")


def _without_unused(polygons: Polygons) -> Polygons:
    """Vertices of no face may lie anywhere, and must not decide how large the specimen is."""
    if not len(polygons.lengths):
        return polygons
    used = np.zeros(len(polygons.vertices), bool)
    used[polygons.corners] = True
    if used.all():
        return polygons
    new = np.cumsum(used) - 1
    return replace(_points(polygons, used), corners=new[polygons.corners])


def _near_the_origin(
    vertices: NDArray[np.float64], name: str
) -> tuple[Floats, tuple[float, float, float], tuple[str, ...]]:
    """Vertices as 32-bit numbers, what was taken off them before, and remarks.

    Raises:
        MeshError: they have no extent.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    extent, farthest = float((high - low).max()), float(np.abs(vertices).max())
    if not extent > 1e-12 * farthest:
        raise MeshError(f"{name}: all its vertices lie in one point; export it again")
    step = float(np.spacing(np.float32(farthest)))
    remarks: tuple[str, ...] = ()
    if step > COARSE * extent and (vertices == vertices.astype(np.float32)).all():
        said = f"its coordinates are 32-bit numbers so far from the origin that they go in steps of {step:.2g}"
        remarks = (f"{said}; export it with local coordinates or as doubles",)
    middle = (low + high) / 2
    if np.abs(middle).max() <= FAR * extent:
        return vertices.astype(np.float32), (0.0, 0.0, 0.0), remarks
    x, y, z = middle.tolist()
    return (vertices - middle).astype(np.float32), (x, y, z), remarks


def _points(polygons: Polygons, kept: NDArray[np.bool_]) -> Polygons:
    """The polygons with some of their vertices; corners stay as they are."""
    return replace(
        polygons,
        vertices=polygons.vertices[kept],
        colours=polygons.colours[kept] if polygons.colours is not None else None,
        normals=polygons.normals[kept] if polygons.normals is not None else None,
    )


def _faces(polygons: Polygons, kept: NDArray[np.bool_]) -> Polygons:
    """Some of the polygons, with all vertices."""
    corners = runs(starts_of(polygons.lengths)[kept], polygons.lengths[kept])
    return replace(
        polygons,
        lengths=polygons.lengths[kept],
        corners=polygons.corners[corners],
        face_colours=polygons.face_colours[kept] if polygons.face_colours is not None else None,
        uv=polygons.uv[corners] if polygons.uv is not None else None,
        texture_of=polygons.texture_of[kept] if polygons.texture_of is not None else None,
    )


def _remarked(polygons: Polygons, remark: str) -> Polygons:
    return replace(polygons, remarks=(*polygons.remarks, remark))
