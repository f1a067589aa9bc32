"""Draws surfaces with OpenGL: a mesh is uploaded once, and all its views are drawn side by side in a few calls.

The pictures are those of `render.painting` with rays cast by `render.raycast`, computed on the graphics card (`render.shaders`):
the surface at the middle of every pixel, contact shading from its depth, and four further places wherever neighbouring pixels
differ. Those four are the samples of a multisampled target, so that the triangles are gone through twice and not five times.
Memory is bounded: views are drawn in batches, and of a mesh larger than `MESH_BYTES` the rest is uploaded each time it is drawn.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.render.cameras import Camera
from outcrop.render.egl import Lease, leased
from outcrop.render.painting import box_of
from outcrop.render.readback import Readback, taken
from outcrop.render.surface import Surface
from outcrop.render.targets import COARSE, UNITS, Programs, Targets, put
from outcrop.schema.errors import MeshError

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MESH_BYTES = 256 * 2**20
"""Of a surface's triangles and textures that stay on the card while its views are drawn."""
TRIANGLES = 250_000
"""Uploaded in one piece."""
FRAME = ("eye", "right", "up", "back", "frame")

log = logging.getLogger(__name__)


def draw(surface: Surface, cameras: Sequence[Camera], size: int, card: int = 0) -> Iterator[tuple[Picture, Mask]]:
    """For each camera what `outcrop.render.painting.Shader.shade` gives: the picture, uint8 [size, size, 3], and which pixels'
    middles show the surface, bool [size, size].

    Of several graphics cards, `card` is the number of the one that draws, counted round and round.

    Raises:
        InputError: there is no OpenGL here. MeshError: the driver failed; the next surface gets a new context.
    """
    with leased(card) as lease, _Drawing(lease, surface, size, len(cameras)) as drawing:
        begun: _Begun | None = None
        for first in range(0, len(cameras), drawing.batch):
            # The card draws a batch while the one before it is handed out.
            before, begun = begun, drawing.begin(cameras[first : first + drawing.batch])
            if before is not None:
                yield from drawing.finish(before)
        if begun is not None:
            yield from drawing.finish(begun)


@dataclass(frozen=True)
class _Part:
    """Triangles that are drawn in one call: their numbers, and the number of their texture (-1: none)."""

    triangles: NDArray[np.int64]
    texture: int


@dataclass(frozen=True)
class _Loaded:
    """A part on the card."""

    vertices: Any
    corners: Any
    skin: Any | None

    def release(self) -> None:
        """Gives its memory back."""
        self.vertices.release()
        self.corners.release()
        if self.skin is not None:
            self.skin.release()


@dataclass(frozen=True)
class _Begun:
    """Views on their way into a buffer that `readback` lent: an atlas of that size, and the column and row of each."""

    pixels: Any
    readback: Readback
    width: int
    height: int
    places: tuple[tuple[int, int], ...]


class _Drawing:
    """One surface in one context."""

    def __init__(self, lease: Lease, surface: Surface, size: int, views: int) -> None:
        self._lease, self._surface, self._size, self._views = lease, surface, size, views
        self._box, self._parts = box_of(surface), _parts(surface)
        self._resident: dict[int, _Loaded] = {}
        self._begun: list[_Begun] = []

    def __enter__(self) -> _Drawing:
        with self._guarded() as gl:
            self.batch = self._targets(gl).most
            spent = 0
            for number, part in enumerate(self._parts):
                spent += _bytes(self._surface, part)
                if spent <= MESH_BYTES:
                    self._resident[number] = self._uploaded(part)
        return self

    def __exit__(self, *unused: object) -> None:
        with contextlib.suppress(Exception), self._lease.current():
            for loaded in self._resident.values():
                loaded.release()
            for begun in self._begun:
                begun.readback.give_back(begun.pixels)

    def begin(self, cameras: Sequence[Camera]) -> _Begun:
        """Has views drawn, at most `batch`."""
        with self._guarded() as gl:
            targets, programs = self._targets(gl), self._programs(gl)
            targets.bind()
            squares = gl.buffer(targets.squares(cameras, self._box))
            frames, square = gl.buffer(targets.frames(cameras)), (squares, len(cameras))
            targets.for_middles.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
            self._draw(programs.middles, targets.for_middles, frames, len(cameras))
            for grid in range(2):
                self._fill(programs.coarser, targets.for_fields[grid], *square, side=COARSE, grid=grid)
                targets.fields[grid].use(UNITS["fields"])
                self._fill(programs.bell, targets.for_wide[grid], *square, side=COARSE, grid=grid)
            self._fill(programs.around, targets.for_around, *square, side=self._size)
            targets.for_further.clear(1.0, 1.0, 1.0, 1.0, depth=1.0)
            self._fill(programs.closed, targets.for_further, *square, side=self._size, depth=True)
            self._draw(programs.further, targets.for_further, frames, len(cameras))
            self._fill(programs.picture, targets.for_pictures, *square, side=self._size)
            begun = self._read(targets, len(cameras))
            for each in (squares, frames):
                each.release()
        return begun

    def _read(self, targets: Targets, count: int) -> _Begun:
        """Has the pictures of `count` views copied into a buffer; nothing waits for it."""
        places = tuple(targets.place(number) for number in range(count))
        width, height = (self._size * (1 + max(place[axis] for place in places)) for axis in range(2))
        begun = _Begun(targets.readback.lend(), targets.readback, width, height, places)
        self._begun.append(begun)
        targets.for_pictures.read_into(begun.pixels, (0, 0, width, height), components=4)
        return begun

    def finish(self, begun: _Begun) -> Iterator[tuple[Picture, Mask]]:
        """The views, once they are drawn."""
        import cv2

        with self._guarded():
            atlas, size = taken(begun.pixels, begun.height, begun.width), self._size
            begun.readback.give_back(begun.pixels)
            self._begun.remove(begun)
        for column, row in begun.places:
            square = atlas[row * size : (row + 1) * size, column * size : (column + 1) * size]
            # 0.02 ms; numpy takes 0.8. The fourth channel is 1 where the surface shows, else 0.
            yield cv2.cvtColor(square, cv2.COLOR_RGBA2RGB), cv2.extractChannel(square, 3).view(np.bool_)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[Any]:
        """The context, for one step.

        Raises:
            MeshError: the driver failed.
        """
        try:
            with self._lease.current() as gl:
                yield gl
                said = gl.error
            if said != "GL_NO_ERROR":
                raise RuntimeError(said)
        except MemoryError:
            raise  # of this machine, not of the card
        except Exception as error:
            self._lease.broken = True
            cause = " ".join(str(error).split())[:200]
            raise MeshError(
                f"drawing it failed on the graphics card ({cause}); free some of its memory, or use --renderer raycast"
            ) from error

    def _targets(self, gl: Any) -> Targets:
        kept = self._lease.kept.get("targets")
        if kept is not None and (kept.size, kept.views) != (self._size, self._views):
            self._programs(gl).idle.use()
            kept.release()
            kept = None
        if kept is None:
            kept = self._lease.kept["targets"] = Targets(gl, self._size, self._views)
        return kept

    def _programs(self, gl: Any) -> Programs:
        kept = self._lease.kept
        if "programs" not in kept:
            kept["programs"] = Programs(gl)
        return kept["programs"]  # type: ignore[no-any-return]

    def _draw(self, program: Any, target: Any, frames: Any, count: int) -> None:
        """Draws all triangles into each of `count` frames."""
        gl = self._lease.context
        target.use()
        gl.enable_only(gl.DEPTH_TEST)
        gl.front_face = "cw"  # the y axis runs downwards
        for number, part in enumerate(self._parts):
            loaded = self._resident.get(number) or self._uploaded(part)
            if loaded.skin is not None:
                loaded.skin.use(UNITS["skin"])
            put(program, paint=_paint(self._surface, part))
            layout = _LAYOUTS[_paint(self._surface, part)]
            content = [(loaded.vertices, *layout), (frames, "3f 3f 3f 3f 4f /i", *FRAME)]
            array = gl.vertex_array(program, content, loaded.corners, skip_errors=True)
            array.render(instances=count)
            array.release()
            if number not in self._resident:
                loaded.release()

    def _fill(
        self, program: Any, target: Any, squares: Any, count: int, side: int, depth: bool = False, **more: object
    ) -> None:
        """Runs a program over the square of each of `count` views in a target, also in its `depth`."""
        gl = self._lease.context
        target.use()
        gl.enable_only(gl.DEPTH_TEST if depth else gl.NOTHING)
        put(program, side=float(side), whole=target.size, size=float(self._size), coarse=float(COARSE), **more)
        corners = self._programs(gl).corners
        content = [(corners, "2f", "corner"), (squares, "2f 4f 4f /i", "place", "window", "grids")]
        array = gl.vertex_array(program, content, skip_errors=True)  # a program may not use all of them
        array.render(gl.TRIANGLE_STRIP, instances=count)
        array.release()

    def _uploaded(self, part: _Part) -> _Loaded:
        gl, surface = self._lease.context, self._surface
        vertices, corners = map(gl.buffer, _vertices(surface, part))
        if part.texture < 0:
            return _Loaded(vertices, corners, None)
        pixels = _within(surface.textures[part.texture], gl.info["GL_MAX_TEXTURE_SIZE"])
        skin = gl.texture(pixels.shape[1::-1], 3, np.ascontiguousarray(pixels), alignment=1)
        skin.filter = (gl.NEAREST, gl.NEAREST)
        return _Loaded(vertices, corners, skin)


_LAYOUTS = (
    ("3f 3f", "position", "normal"),
    ("3f 3f 4f1", "position", "normal", "colour"),
    ("3f 3f 2f", "position", "normal", "uv"),
)
_FIELDS = (("colour", np.uint8, 4), ("uv", np.float32, 2))


def _paint(surface: Surface, part: _Part) -> int:
    """What gives a part its colours: 0 nothing, 1 its vertices, 2 its texture."""
    return 2 if part.texture >= 0 else int(surface.colours is not None)


def _parts(surface: Surface) -> list[_Part]:
    """The triangles in pieces, those of one texture together."""
    count = len(surface.faces)
    if surface.texture_of is None or surface.uv is None:
        return [_Part(np.arange(n, min(n + TRIANGLES, count)), -1) for n in range(0, count, TRIANGLES)]
    order = np.argsort(surface.texture_of, kind="stable")
    numbers = surface.texture_of[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
    parts = []
    for first, last in zip(starts, (*starts[1:], count), strict=True):
        pieces = range(first, last, TRIANGLES)
        parts += [_Part(order[n : min(n + TRIANGLES, last)], int(numbers[first])) for n in pieces]
    return parts


def _bytes(surface: Surface, part: _Part) -> int:
    """What a part takes on the card at most."""
    skin = surface.textures[part.texture].size if part.texture >= 0 else 0
    return len(part.triangles) * 3 * (4 + (24, 28, 32)[_paint(surface, part)]) + skin


def _vertices(surface: Surface, part: _Part) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
    """What is drawn of a part: its vertices, [N], and the number of that at each corner of its triangles, [3 * T].

    Corners at one vertex of the surface share it where they are alike, as on a smooth surface nearly all are: a card works out a
    vertex for several triangles at once.
    """
    paint, triangles = _paint(surface, part), part.triangles
    corners = surface.faces[triangles].ravel()
    of_corners = {"normal": surface.normals[triangles].reshape(-1, 3)}
    if paint == 2 and surface.uv is not None:
        of_corners["uv"] = surface.uv[triangles].reshape(-1, 2)
    kept, numbers = _alike(corners, len(surface.vertices), list(of_corners.values()))
    of_paint = _FIELDS[paint - 1 : paint] if paint else ()
    rows = np.zeros(len(kept), [("position", np.float32, 3), ("normal", np.float32, 3), *of_paint])
    rows["position"] = surface.vertices[corners[kept]]
    for name, values in of_corners.items():
        rows[name] = values[kept]
    if paint == 1 and surface.colours is not None:
        rows["colour"][:, :3] = surface.colours[corners[kept]]
    return rows, numbers


def _alike(
    corners: NDArray[np.int32], count: int, of_corners: list[NDArray[np.float32]]
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """The corners that are like no earlier one, and for each corner the place among them of the one that it is like.

    Each is compared with one corner at its vertex (of `count`) only: others of a vertex at a crease stay apart.
    """
    every = np.arange(len(corners), dtype=np.int32)
    first = np.empty(count, np.int32)
    first[corners[::-1]] = every[::-1]  # of several values for one place the last one stays
    like = first[corners]
    own = np.zeros(len(corners), bool)
    for values in of_corners:
        for axis in values.T:
            axis = np.ascontiguousarray(axis)
            own |= axis != axis[like]
    kept = np.flatnonzero(own | (like == every))
    place = np.cumsum(own | (like == every), dtype=np.uint32) - np.uint32(1)
    return kept, place[np.where(own, every, like)]


def _within(texture: Picture, most: int) -> Picture:
    """A texture, made smaller where the driver takes none of its size."""
    height, width = texture.shape[:2]
    if max(height, width) <= most:
        return texture
    image = Image.fromarray(texture)
    image.thumbnail((most, most), Image.Resampling.BOX)
    log.warning(
        "a texture of %d x %d pixels is drawn at %d x %d: the driver takes no larger one", width, height, *image.size
    )
    return np.asarray(image)


def probe() -> None:
    """Draws one triangle, and prints what drew it.

    Raises:
        InputError, MeshError: it cannot be drawn. RuntimeError: it does not show.
    """
    corners = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0, 0.5, 0]], np.float32)
    surface = Surface(corners, np.array([[0, 1, 2]], np.int32), np.tile(np.array([0, 0, 1], np.float32), (1, 3, 1)))
    ((_, seen),) = draw(surface, [Camera.looking_from(np.array([0.0, 0, 1]), np.array([0.0, 1, 0]))], 64)
    if not seen[32, 32]:
        raise RuntimeError("a triangle in the middle of the picture does not show")
    with leased() as lease, lease.current() as gl:
        print(gl.info["GL_RENDERER"])
