"""What an OpenGL context keeps for the next surface: its programs, and the targets that views are drawn into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render import painting, shaders
from outcrop.render.cameras import Camera
from outcrop.render.readback import Readback

VIEW_BYTES = 160 * 2**20
"""For the views that are drawn at the same time."""
BYTES_A_PIXEL = 84
"""What a pixel of a view takes on the card: normals, depths and colours at its middle and at four further places."""
SAMPLES = len(painting.OFFSETS)
"""Of a pixel, beside its middle. Where they lie is the driver's choice: `painting.OFFSETS`, the common pattern of four."""
COARSE = max(painting.coarse_cells(1, 1, min(painting.reaches(1)))) + 2
"""The side of a view's square for coarsened depths; it does not depend on the view's size."""
UNITS = {"skin": 0, "shapes": 1, "colours": 2, "around": 3, "further": 4, "wide0": 5, "wide1": 6, "fields": 7}
"""Where each texture is bound, by its name in the shaders."""


class Programs:
    """The shaders, compiled, and what else every surface needs. `idle` is a framebuffer to bind before another is released:
    moderngl goes on with the one that was bound last."""

    def __init__(self, context: Any) -> None:
        def program(vertex: str, fragment: str) -> Any:
            made = context.program(vertex_shader=vertex, fragment_shader=fragment)
            put(made, **UNITS)
            return made

        self.middles = program(shaders.CORNERS, shaders.MIDDLES)
        self.further = program(shaders.CORNERS_OF_SAMPLES, shaders.FURTHER)
        self.coarser = program(shaders.SQUARES, shaders.COARSER)
        self.bell = program(shaders.SQUARES, shaders.BELL)
        self.around = program(shaders.SQUARES, shaders.AROUND)
        self.closed = program(shaders.SQUARES, shaders.CLOSED)
        self.picture = program(shaders.SQUARES, shaders.PICTURE)
        self.idle = context.simple_framebuffer((1, 1))
        self.corners = context.buffer(np.array([0, 0, 1, 0, 0, 1, 1, 1], np.float32).tobytes())


def put(program: Any, **uniforms: object) -> None:
    """Sets uniforms of a program; those that it does not use are left out."""
    for name, value in uniforms.items():
        if name in program:
            program[name] = value


class Targets:
    """An atlas of `views` views of `size` pixels a side, or of as many (`most`) as memory allows, and what is computed on the
    way to it."""

    def __init__(self, context: Any, size: int, views: int) -> None:
        self.size, self.views = size, views
        side: int = min(context.info["GL_MAX_TEXTURE_SIZE"], *context.info["GL_MAX_VIEWPORT_DIMS"])
        most = max(1, min(VIEW_BYTES // (BYTES_A_PIXEL * size * size), views))
        self.rows: int = min(most, max(1, side // size))
        self.columns: int = min(-(-most // self.rows), max(1, side // size))
        self.most = min(most, self.rows * self.columns)
        self._made: list[Any] = []
        atlas = (self.columns * size, self.rows * size)
        squares = (self.columns * COARSE, self.rows * COARSE)
        new = self._new
        self.shapes = new(context.texture, atlas, 4, dtype="f4")
        self.colours = new(context.texture, atlas, 4, dtype="f2")
        self.around = new(context.texture, atlas, 2, dtype="f2")
        self.further = new(context.texture, atlas, 4, dtype="f2", samples=SAMPLES)
        self.fields = [new(context.texture, squares, 2, dtype="f4") for _ in painting.WIDTHS]
        self.wide = [new(context.texture, squares, 1, dtype="f4") for _ in painting.WIDTHS]
        for texture in self.wide:
            texture.filter = (context.LINEAR, context.LINEAR)
        self.pictures = new(context.texture, atlas, 4)
        depths = [new(context.depth_renderbuffer, atlas, samples=samples) for samples in (0, SAMPLES)]
        self.for_middles = new(context.framebuffer, [self.shapes, self.colours], depths[0])
        self.for_further = new(context.framebuffer, [self.further], depths[1])
        self.for_fields = [new(context.framebuffer, [texture]) for texture in self.fields]
        self.for_wide = [new(context.framebuffer, [texture]) for texture in self.wide]
        self.for_around = new(context.framebuffer, [self.around])
        self.for_pictures = new(context.framebuffer, [self.pictures])
        self.readback = new(Readback, context, atlas[0] * atlas[1] * 4)

    def _new(self, make: Callable[..., Any], *args: Any, **more: Any) -> Any:
        self._made.append(make(*args, **more))
        return self._made[-1]

    @property
    def width(self) -> int:
        """Of the atlas, in pixels."""
        return self.columns * self.size

    @property
    def height(self) -> int:
        """Of the atlas, in pixels."""
        return self.rows * self.size

    def place(self, number: int) -> tuple[int, int]:
        """The column and the row of a view."""
        return number // self.rows, number % self.rows

    def bind(self) -> None:
        """Binds the textures for the shaders."""
        of_names = {"shapes": self.shapes, "colours": self.colours, "around": self.around, "further": self.further}
        for name, texture in {**of_names, "wide0": self.wide[0], "wide1": self.wide[1]}.items():
            texture.use(UNITS[name])

    def release(self) -> None:
        """Gives the memory back."""
        for made in reversed(self._made):
            made.release()

    def squares(self, cameras: Sequence[Camera], box: NDArray[np.float32]) -> NDArray[np.float32]:
        """For each view its place, its window and the cells of its coarse fields, [V, 10] (`shaders.SQUARES`)."""
        rows = []
        for number, camera in enumerate(cameras):
            left, top, right, bottom = painting.window_of(box, camera, self.size)
            width, height = right - left, bottom - top
            grids = [painting.coarse_cells(width, height, reach) for reach in painting.reaches(self.size)]
            rows.append([*self.place(number), left, top, width, height, *grids[0], *grids[1]])
        return np.array(rows, np.float32)

    def frames(self, cameras: Sequence[Camera]) -> NDArray[np.float32]:
        """For each view the camera and where its picture goes, [V, 16] (`shaders.CORNERS`)."""
        rows = []
        for number, camera in enumerate(cameras):
            column, row = self.place(number)
            middle = (2 * column + 1) / self.columns - 1, (2 * row + 1) / self.rows - 1
            axes = (part for axis in camera.axes for part in axis)
            rows.append([*camera.eye, *axes, *middle, 1 / self.columns, 1 / self.rows])
        return np.array(rows, np.float32)
