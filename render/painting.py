"""From what pixels show to pictures: interpolated normals, two-sided light, contact shading, colours, smooth edges.

The same for every renderer: a renderer only says which triangle is seen where (`ViewRenderer`). One ray goes through
the middle of every pixel that the specimen may cover; where neighbouring pixels differ (contours, creases, fine
detail) four more follow, so that edges are smooth at a fraction of the price of five rays everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.render import lights
from outcrop.render.cameras import DISTANCE, Camera, focal_length
from outcrop.render.surface import Surface

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

OFFSETS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))
"""Where the further rays go through a pixel, from its middle: a rotated grid."""
STEP = 0.03
"""Difference in depth (radii) between neighbours beyond which a pixel gets more rays."""
BEND = 0.93
"""Cosine between normals of neighbours below which a pixel gets more rays."""
WIDTHS = (0.16, 0.05)
"""Of the surroundings that shelter a place, in radii."""


@dataclass(frozen=True)
class HitBuffer:
    """Where rays hit the surface: numbers of the `places` of a picture that show it, [N]; the triangle at each, the barycentric
    weights `u`, `v` of its second and third corner, the depth along the camera's axis, and whether it is seen from `behind` (its
    corners run clockwise)."""

    places: Indices
    triangles: Indices
    u: Floats
    v: Floats
    depth: Floats
    behind: Mask


class ViewRenderer(Protocol):
    """What a renderer must be able to do."""

    def cast(self, camera: Camera, x: Floats, y: Floats, size: int) -> HitBuffer:
        """What rays through places (x, y) [N] of a picture of `size` pixels hit; (0, 0) is the middle of its first pixel."""
        ...


@dataclass(frozen=True)
class _Hits:
    places: Indices
    depth: Floats
    normals: Floats  # [3, N] in the camera's axes, of length 1, on the viewer's side
    colours: Floats | None  # linear, [3, N]


class Shader:
    """Shades one surface, as a renderer sees it."""

    def __init__(self, surface: Surface, renderer: ViewRenderer) -> None:
        self._surface, self._renderer = surface, renderer
        # One row per corner and axis: gathering from nine short arrays is three times faster than from rows of nine.
        self._normals = np.ascontiguousarray(surface.normals.reshape(-1, 9).T)
        self._colours = None
        if surface.colours is not None:
            self._colours = np.ascontiguousarray(lights.DECODED[surface.colours].T)
        self._box = box_of(surface)

    def shade(self, camera: Camera, size: int) -> tuple[NDArray[np.uint8], Mask]:
        """The picture, uint8 [size, size, 3], and which pixels' middles show the surface, bool [size, size]."""
        left, top, right, bottom = window_of(self._box, camera, size)
        columns, rows = np.meshgrid(np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32))
        x, y, shape = columns.ravel(), rows.ravel(), columns.shape
        hits = self._hits(camera, x, y, size)
        planes = np.zeros((4, len(x)), np.float32)
        planes[:3, hits.places], planes[3, hits.places] = hits.normals, hits.depth
        inside = np.zeros(len(x), bool)
        inside[hits.places] = True
        field, within = planes.reshape(4, *shape), inside.reshape(shape)
        sky = open_sky(field[3], field[2], within, size).ravel()
        light = np.ones((3, len(x)), np.float32)
        light[:, hits.places] = _returned(hits, sky[hits.places])
        closer = np.flatnonzero(_uneven(field, within))
        if len(closer):
            light[:, closer] = self._closer(camera, x[closer], y[closer], sky[closer], size)
        picture = np.full((size, size, 3), lights.BACKGROUND, np.uint8)
        picture[top:bottom, left:right] = lights.encoded(light).T.reshape(*shape, 3)
        mask = np.zeros((size, size), bool)
        mask[top:bottom, left:right] = within
        return picture, mask

    def _closer(self, camera: Camera, x: Floats, y: Floats, sky: Floats, size: int) -> Floats:
        """Light of pixels as the mean of several rays through each: [3, N]."""
        shifted_x = np.concatenate([x + np.float32(dx) for dx, _ in OFFSETS])
        shifted_y = np.concatenate([y + np.float32(dy) for _, dy in OFFSETS])
        hits = self._hits(camera, shifted_x, shifted_y, size)
        light = np.ones((3, len(shifted_x)), np.float32)
        light[:, hits.places] = np.minimum(_returned(hits, np.tile(sky, len(OFFSETS))[hits.places]), 1)
        mean: Floats = light.reshape(3, len(OFFSETS), -1).mean(axis=1)
        return mean

    def _hits(self, camera: Camera, x: Floats, y: Floats, size: int) -> _Hits:
        found = self._renderer.cast(camera, x, y, size)
        weights = (1 - found.u - found.v, found.u, found.v)
        smooth = [_mixed(self._normals[axis::3], found.triangles, weights) for axis in range(3)]
        scale = 1 / np.sqrt(np.maximum(smooth[0] ** 2 + smooth[1] ** 2 + smooth[2] ** 2, np.float32(1e-20)))
        # Corner normals are on the side of their face: of a face seen from behind they are reversed.
        scale[found.behind] *= -1
        axes = np.array(camera.axes, np.float32)
        normals = np.stack([scale * (row[0] * smooth[0] + row[1] * smooth[1] + row[2] * smooth[2]) for row in axes])
        return _Hits(found.places, found.depth, normals, self._coloured(found.triangles, weights))

    def _coloured(self, triangles: Indices, weights: tuple[Floats, Floats, Floats]) -> Floats | None:
        """Linear colours at places in triangles, [3, N]; None where the surface has none of its own."""
        surface = self._surface
        if self._colours is None and not surface.textures:
            return None
        colours = np.repeat(np.array(lights.NEUTRAL, np.float32)[:, None], len(triangles), axis=1)
        if self._colours is not None:
            corners = surface.faces[triangles]
            for channel in range(3):
                colours[channel] = sum(self._colours[channel, corners[:, n]] * weights[n] for n in range(3))
        if surface.uv is not None and surface.texture_of is not None:
            uv = surface.uv[triangles]
            across, up = (np.einsum("nc,cn->n", uv[:, :, axis], np.stack(weights)) for axis in range(2))
            for number, texture in enumerate(surface.textures):
                of = np.flatnonzero(surface.texture_of[triangles] == number)
                height, width = texture.shape[:2]
                column = np.minimum((across[of] % 1) * width, width - 1).astype(np.int64)
                row = np.minimum((1 - up[of] % 1) * height, height - 1).astype(np.int64)
                colours[:, of] = lights.DECODED[texture[row, column]].T
        return colours


def box_of(surface: Surface) -> NDArray[np.float32]:
    """The corners of a surface's bounding box, [8, 3]."""
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    return np.array([[(low, high)[n >> axis & 1][axis] for axis in range(3)] for n in range(8)])


def window_of(box: NDArray[np.float32], camera: Camera, size: int) -> tuple[int, int, int, int]:
    """The part of a picture that a bounding box covers: left, top, right, bottom."""
    places = camera.project(box, size)
    left, top = np.clip(np.floor(places.min(axis=0)) - 1, 0, size - 1).astype(int)
    right, bottom = np.clip(np.ceil(places.max(axis=0)) + 1, 1, size).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _mixed(corners: Floats, triangles: Indices, weights: tuple[Floats, Floats, Floats]) -> Floats:
    """A value given at the corners of triangles, [3, F], at places within them, [N]."""
    mixed: Floats = corners[0].take(triangles) * weights[0]
    mixed += corners[1].take(triangles) * weights[1]
    mixed += corners[2].take(triangles) * weights[2]
    return mixed


def _returned(hits: _Hits, sky: Floats) -> Floats:
    """Linear light towards the viewer, [3, N]."""
    colours = hits.colours if hits.colours is not None else np.array(lights.NEUTRAL, np.float32)[:, None]
    light: Floats = lights.shaded(hits.normals, sky) * colours
    light += lights.highlight(hits.normals)
    return light


def _uneven(field: Floats, inside: Mask) -> Mask:
    """The pixels that differ from a neighbour, [H, W]; `field` [4, H, W] holds normals and depths."""
    x, y, z, depth = field
    uneven = np.zeros(inside.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = inside[one] != inside[other]
        differs |= np.abs(depth[one] - depth[other]) > STEP
        differs |= inside[one] & (x[one] * x[other] + y[one] * y[other] + z[one] * z[other] < BEND)
        uneven[one] |= differs
        uneven[other] |= differs
    return uneven


def open_sky(depth: Floats, facing: Floats, inside: Mask, size: int) -> Floats:
    """How open each pixel is to the light around it, [H, W], from 0 (deep in a hollow) to 1.

    `depth` [H, W] is the distance from the camera, `facing` [H, W] how far the surface faces it (0 to 1). A place is sheltered
    as far as its surroundings are nearer to the viewer than it is: the depth is compared with its mean around each pixel, at
    several widths (T. Luft, C. Colditz and O. Deussen, Image enhancement by unsharp masking the depth buffer, 2006).
    """
    sheltered = np.zeros(depth.shape, np.float32)
    for width, reach in zip(WIDTHS, reaches(size), strict=True):
        below = np.maximum(depth - _mean_around(depth, inside, reach), 0)
        sheltered += below / (below + np.float32(width))
    sheltered *= 0.25 + 0.75 * facing
    return np.maximum(1 - sheltered, 0)


def reaches(size: int) -> tuple[float, ...]:
    """`WIDTHS` in pixels of a picture of that side, at the distance of the middle."""
    return tuple(width * focal_length(size) / DISTANCE for width in WIDTHS)


def coarse_cells(width: int, height: int, reach: float) -> tuple[int, int]:
    """How many cells, across and down, a field of pixels is reduced to before means are taken over `reach` pixels."""
    return max(1, round(2 * width / reach)), max(1, round(2 * height / reach))


def _mean_around(depth: Floats, inside: Mask, reach: float) -> Floats:
    """The mean depth of the surface around each pixel, [H, W], weighted by a bell about `reach` pixels wide."""
    height, width = depth.shape
    coarse = coarse_cells(width, height, reach)
    near, weight = (
        _bell(np.asarray(Image.fromarray(field).resize(coarse, Image.Resampling.BILINEAR)))
        for field in (depth * inside, inside.astype(np.float32))
    )
    mean = near / np.maximum(weight, np.float32(1e-4))
    return np.asarray(Image.fromarray(mean).resize((width, height), Image.Resampling.BILINEAR))


def _bell(field: Floats) -> Floats:
    """Means of neighbours, weighted 1, 2, 1 along both axes; what lies outside counts as 0."""
    padded = np.pad(field, 1)
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    bell: Floats = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / np.float32(16)
    return bell
