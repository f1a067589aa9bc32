"""What a mesh file holds, whatever its format, and how polygons become triangles.

Convex polygons become fans; concave ones, whose notches a fan would fill, are cut by ears (https://github.com/mapbox/earcut).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mapbox_earcut
import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]

SLACK = 1e-9
"""Sine of the angle by which a corner may turn inwards and still count as straight."""


@dataclass(frozen=True)
class Polygons:
    """The contents of a mesh file, before anything is left out, cut into triangles or rounded to 32 bits.

    `vertices` float64 [V, 3]; `lengths` [P] is the number of corners of each polygon, `corners` [C] the vertex of each corner,
    polygon after polygon. `colours` [V, 3] and `face_colours` [P, 3] are sRGB; `normals` [V, 3] are given for point clouds only.
    `uv` [C, 2] are texture coordinates (NaN where there are none), `texture_of` [P] numbers of `textures` (-1 for none).
    `remarks` say what was decided from the data or left out.
    """

    vertices: Doubles
    lengths: Integers
    corners: Integers
    colours: Bytes | None = None
    face_colours: Bytes | None = None
    normals: Doubles | None = None
    uv: Doubles | None = None
    texture_of: Integers | None = None
    textures: tuple[Bytes, ...] = ()
    remarks: tuple[str, ...] = ()


NO_FACES: tuple[Integers, Integers] = (np.empty(0, np.int64), np.empty(0, np.int64))
"""`lengths` and `corners` of a point cloud."""


def starts_of(lengths: NDArray[Any]) -> Integers:
    """Where runs of the given lengths begin that lie one behind the other, [N]."""
    starts: Integers = np.cumsum(lengths, dtype=np.int64) - lengths
    return starts


def runs(starts: NDArray[Any], lengths: NDArray[Any]) -> Integers:
    """The places of runs with these starts and lengths: ``starts[0], starts[0] + 1, …, starts[1], …``."""
    places: Integers = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - starts_of(lengths), lengths)
    return places


def triangles(vertices: Doubles, lengths: Integers, corners: Integers) -> tuple[Integers, Integers]:
    """Polygons as triangles: the places of their corners among `corners`, [T, 3], and the polygon of each, [T].

    Polygons with fewer than three corners give none. All vertices named must be finite.
    """
    places, polygon = _fans(lengths)
    if not len(lengths) or lengths.max() <= 3:
        return places, polygon
    concave, normals = _concave(vertices, lengths, corners)
    if not len(concave):
        return places, polygon
    starts = starts_of(lengths)
    cut = [_ears(vertices[corners[starts[n] : starts[n] + lengths[n]]], normals[n]) for n in concave]
    convex = ~np.isin(polygon, concave)
    places = np.concatenate([places[convex], *(ears + starts[n] for n, ears in zip(concave, cut, strict=True))])
    polygon = np.concatenate([polygon[convex], np.repeat(concave, [len(ears) for ears in cut])])
    order = np.argsort(polygon, kind="stable")
    return places[order], polygon[order]


def _fans(lengths: Integers) -> tuple[Integers, Integers]:
    """The triangles of polygons around their first corners."""
    count = np.maximum(lengths - 2, 0)
    polygon = np.repeat(np.arange(len(lengths)), count)
    step = runs(np.zeros(len(count), np.int64), count)
    first = starts_of(lengths)[polygon]
    return np.stack([first, first + step + 1, first + step + 2], axis=1), polygon


def _concave(vertices: Doubles, lengths: Integers, corners: Integers) -> tuple[Integers, dict[int, Doubles]]:
    """The polygons with a corner that turns inwards, and their normals (M. Newell's, as long as twice their area)."""
    many = np.flatnonzero(lengths > 3)
    sizes = lengths[many]
    place = runs(starts_of(lengths)[many], sizes)
    first = starts_of(sizes)
    step = place - np.repeat(place[first], sizes)
    after = np.where(step + 1 == np.repeat(sizes, sizes), place - step, place + 1)
    corner = vertices[corners[place]] - np.repeat(vertices[corners[place[first]]], sizes, axis=0)
    edge = vertices[corners[after]] - vertices[corners[place]]
    normal = np.add.reduceat(np.cross(corner, edge), first)
    ending = np.concatenate([[0], np.arange(len(edge) - 1)])
    ending[first] = first + sizes - 1  # the edge that ends at each corner
    turn = np.einsum("ci,ci->c", np.cross(edge[ending], edge), np.repeat(normal, sizes, axis=0))
    length = np.linalg.norm(edge, axis=1)
    scale = length * length[ending] * np.repeat(np.linalg.norm(normal, axis=1), sizes)
    inwards = np.logical_or.reduceat(turn < -SLACK * scale, first)
    found = many[inwards]
    return found, dict(zip(found.tolist(), normal[inwards], strict=True))


def _ears(points: Doubles, normal: Doubles) -> Integers:
    """The triangles of one concave polygon: places among its corners, [T, 3], in the order in which it runs around."""
    axis = int(np.abs(normal).argmax())
    flat = np.ascontiguousarray((points - points[0])[:, [n for n in (2, 1, 0) if n != axis]])
    extent = float(np.abs(flat).max())
    found = mapbox_earcut.triangulate_float64(flat / extent, np.array([len(flat)], np.uint32))
    cut = found.astype(np.int64).reshape(-1, 3)
    if not len(cut):  # a polygon without an inside
        return _fans(np.array([len(points)]))[0]
    corners = points[cut]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).sum(axis=0) @ normal
    reversed: Integers = cut[:, ::-1]
    return reversed if facing < 0 else cut
