"""Finds what pixels show with Open3D's OffscreenRenderer (Filament), for machines with a GPU.

The GPU answers the one question that differs between renderers: which triangle does a pixel show? Every triangle is drawn in a
colour that is its number. Normals, light and colours are then those of `render.painting`, so that pictures, and the vectors made
of them, agree with those of `raycast`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render.cameras import Camera, focal_length
from outcrop.render.libraries import import_open3d
from outcrop.render.painting import Floats, HitBuffer
from outcrop.render.surface import Surface
from outcrop.schema.errors import InputError

FINER = 3
"""Numbers are drawn at this many times the picture's size, so that edges can be examined more closely."""
DEVICES = ("/dev/nvidia[0-9]*", "/dev/dri/renderD*")
"""What a machine with a GPU has."""


class Filament:
    """Draws one surface at a time; the renderer is kept for the next, since each new one costs seconds and memory."""

    name = "filament"
    _renderers: dict[int, Any] = {}  # noqa: RUF012  one for each size, for the life of the process

    def __init__(self, surface: Surface, size: int) -> None:
        self._o3d = import_open3d()
        self._surface = surface
        self._renderer = self._open(FINER * size)
        self._numbers: tuple[Camera, NDArray[np.int64]] | None = None
        self._show()

    def _open(self, size: int) -> Any:
        """The renderer of a size in pixels.

        Raises:
            InputError: it cannot be opened on this machine.
        """
        if size not in self._renderers:
            try:
                self._renderers[size] = self._o3d.visualization.rendering.OffscreenRenderer(size, size)
            except Exception as error:
                raise InputError(
                    f"the renderer filament cannot be opened ({error}); install libvulkan1, libegl1 and the GPU's driver, "
                    "or use --renderer raycast"
                ) from error
        return self._renderers[size]

    def _show(self) -> None:
        """Puts the surface on the stage, each triangle in the colour of its number."""
        o3d, faces = self._o3d, self._surface.faces
        mesh = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(self._surface.vertices[faces.ravel()].astype(np.float64)),
            o3d.utility.Vector3iVector(np.arange(faces.size, dtype=np.int32).reshape(-1, 3)),
        )
        number = np.arange(len(faces))
        colours = np.stack([number >> 16, number >> 8 & 255, number & 255], axis=1) / 255
        mesh.vertex_colors = o3d.utility.Vector3dVector(np.repeat(colours, 3, axis=0))
        material = o3d.visualization.rendering.MaterialRecord()
        material.shader = "defaultUnlit"
        scene = self._renderer.scene
        scene.clear_geometry()
        # Tone mapping, and mixing the colours of neighbours, would make other numbers.
        scene.view.set_post_processing(False)
        scene.view.set_antialiasing(False, False)
        scene.view.set_sample_count(1)
        scene.set_background([1, 1, 1, 1])  # white is 2^24 - 1: more triangles than are ever drawn
        scene.add_geometry("surface", mesh, material)

    def cast(self, camera: Camera, x: Floats, y: Floats, size: int) -> HitBuffer:
        """See `outcrop.render.painting.ViewRenderer.cast`; places are resolved to a third of a pixel."""
        numbers = self._drawn(camera, size)
        column = np.floor((x + 0.5) * FINER).astype(np.int64)
        row = np.floor((y + 0.5) * FINER).astype(np.int64)
        found = numbers[row, column]
        place = np.flatnonzero(found < len(self._surface.faces))
        return self._met(camera, x[place], y[place], size, place, found[place])

    def _drawn(self, camera: Camera, size: int) -> NDArray[np.int64]:
        """The numbers of the triangles, [FINER * size, FINER * size]."""
        if self._numbers is None or self._numbers[0] != camera:
            pixels = FINER * size
            focal = focal_length(pixels)
            intrinsic = np.array([[focal, 0, pixels / 2], [0, focal, pixels / 2], [0, 0, 1]])
            self._renderer.setup_camera(intrinsic, camera.extrinsic(), pixels, pixels)
            image = np.asarray(self._renderer.render_to_image()).astype(np.int64)
            self._numbers = (camera, (image[..., 0] << 16) + (image[..., 1] << 8) + image[..., 2])
        return self._numbers[1]

    def _met(
        self, camera: Camera, x: Floats, y: Floats, size: int, place: NDArray[np.int64], triangles: NDArray[np.int64]
    ) -> HitBuffer:
        """Where the rays through places meet the planes of their triangles (T. Möller and B. Trumbore, 1997).

        A place near an edge may lie a little outside of its triangle: the nearest place inside is taken.
        """
        axes = np.array(camera.axes, np.float64)
        middle, focal = (size - 1) / 2, focal_length(size)
        rays = ((x - middle) / focal)[:, None] * axes[0] - ((y - middle) / focal)[:, None] * axes[1] - axes[2]
        first, second, third = (
            self._surface.vertices[self._surface.faces[triangles, corner]].astype(np.float64) for corner in range(3)
        )
        one, other = second - first, third - first
        away = np.array(camera.eye) - first
        across = np.cross(rays, other)
        turned = np.cross(away, one)
        scale = np.einsum("ni,ni->n", one, across)
        scale = np.where(np.abs(scale) < 1e-14, 1e-14, scale)
        u = np.clip(np.einsum("ni,ni->n", away, across) / scale, 0, 1)
        v = np.clip(np.einsum("ni,ni->n", rays, turned) / scale, 0, 1 - u)
        depth = np.einsum("ni,i->n", u[:, None] * one + v[:, None] * other - away, -axes[2])
        return HitBuffer(
            place,
            triangles,
            u.astype(np.float32),
            v.astype(np.float32),
            depth.astype(np.float32),
            scale < 0,
        )


def gpu_devices(patterns: Sequence[str] = DEVICES) -> list[str]:
    """The device files of GPUs on this machine."""
    return sorted(str(path) for pattern in patterns for path in Path("/").glob(pattern.lstrip("/")))
