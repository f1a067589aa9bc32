"""Finds what pixels show by casting rays (Embree, through Open3D's RaycastingScene): needs no GPU, and is the reference."""

from __future__ import annotations

import numpy as np

from outcrop.render.cameras import Camera, focal_length
from outcrop.render.libraries import import_open3d
from outcrop.render.painting import Floats, HitBuffer
from outcrop.render.surface import Surface

NOTHING = np.uint32(0xFFFFFFFF)
"""What Embree calls the triangle that a ray misses."""


class Raycaster:
    """Casts rays at one surface from any number of cameras. Threads may share it.

    `threads` is how many cores one view takes (0 = all); several processes with one each are faster than one with several.
    """

    name = "raycast"

    def __init__(self, surface: Surface, threads: int = 1) -> None:
        o3d = import_open3d()
        self._tensor = o3d.core.Tensor.from_numpy
        self._threads = threads
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        self._scene.add_triangles(
            self._tensor(np.ascontiguousarray(surface.vertices, np.float32)),
            self._tensor(np.ascontiguousarray(surface.faces).astype(np.uint32)),
        )

    def cast(self, camera: Camera, x: Floats, y: Floats, size: int) -> HitBuffer:
        """See `outcrop.render.painting.ViewRenderer.cast`."""
        axes = np.array(camera.axes, np.float32)
        focal, middle = np.float32(focal_length(size)), np.float32((size - 1) / 2)
        across, down = (x - middle) / focal, (y - middle) / focal
        rays = np.empty((len(x), 6), np.float32)
        rays[:, :3] = camera.eye
        for axis in range(3):
            rays[:, 3 + axis] = across * axes[0, axis] - down * axes[1, axis] - axes[2, axis]
        found = self._scene.cast_rays(self._tensor(rays), nthreads=self._threads)
        triangles = found["primitive_ids"].numpy()
        hit = np.flatnonzero(triangles != NOTHING)
        u, v = np.ascontiguousarray(found["primitive_uvs"].numpy()[hit].T)
        facing = sum(found["primitive_normals"].numpy()[hit, axis] * rays[hit, 3 + axis] for axis in range(3))
        return HitBuffer(hit, triangles[hit].astype(np.int64), u, v, found["t_hit"].numpy()[hit], facing > 0)
