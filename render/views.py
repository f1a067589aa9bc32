"""The pictures of a specimen: how they are to be taken, and the taking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.render.cameras import Camera, Layout, Up, cameras
from outcrop.render.geometry import Shape, normalised
from outcrop.render.painting import Shader
from outcrop.render.surface import surface_of
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, MeshError, nearest

RendererName = Literal["raycast", "filament"]
RENDERERS: tuple[str, ...] = get_args(RendererName)
RECIPE = 1
"""Goes up when the same specimen would get other pictures, so that stored views are known to be old."""
MIN_SIZE, MAX_SIZE = 32, 4096
MIN_PIXELS = 4
"""A view that shows fewer pixels of its specimen is blank."""


@dataclass(frozen=True)
class ViewSpec:
    """How a specimen is looked at: how many views of how many pixels a side, from where, by which renderer.

    Raises:
        InputError: a value that is none of the choices.
    """

    views: int = 12
    size: int = 518
    layout: Layout = "ring"
    seed: int = 0
    up: Up = "y"
    renderer: RendererName = "raycast"

    def __post_init__(self) -> None:
        if self.renderer not in RENDERERS:
            raise InputError(
                f"--renderer is auto, {' or '.join(RENDERERS)}, not {self.renderer!r}{nearest(self.renderer, RENDERERS)}"
            )
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise InputError(f"--size is {MIN_SIZE} to {MAX_SIZE} pixels, not {self.size}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed is 0 to {2**32 - 1}, not {self.seed}")
        self.cameras()

    def as_extra(self) -> dict[str, Any]:
        """The look as it is stored with an item."""
        return {f"look_{name}": value for name, value in asdict(self).items()}

    @classmethod
    def of_extra(cls, extra: Mapping[str, Any]) -> ViewSpec | None:
        """The look that is stored with an item; None where there is none.

        Raises:
            InputError: it is one of a later version.
        """
        stored = {field.name: extra.get(f"look_{field.name}") for field in fields(cls)}
        return cls(**stored) if None not in stored.values() else None  # type: ignore[arg-type]

    def sized_for(self, input_size: tuple[int, int]) -> ViewSpec:
        """The same look in the size that a network takes in, (height, width) in pixels: views drawn larger and made smaller are
        embedded no better, and take longer."""
        return replace(self, size=max(MIN_SIZE, *input_size))

    def cameras(self) -> list[Camera]:
        """The cameras, in the order of the views."""
        return cameras(self.layout, self.views, seed=self.seed, up=self.up)

    @property
    def digest(self) -> str:
        """32 hex characters over everything that decides how pictures come out: equal looks give equal pictures of a file."""
        text = repr((RECIPE, self.views, self.size, self.layout, self.seed, self.up, self.renderer))
        return digest_of(text)


def draw_views(shape: Shape, look: ViewSpec) -> NDArray[np.uint8]:
    """The pictures of a specimen on white, centred and as large as its bounding box allows: uint8 [V, S, S, 3].

    The same shape and look give the same bytes on the same machine.

    Raises:
        MeshError: the shape cannot be drawn, or a view is blank or clipped (the whole specimen is then refused).
        InputError: the renderer cannot be opened on this machine.
    """
    return np.stack(list(iterate_views(shape, look)))


def iterate_views(shape: Shape, look: ViewSpec) -> Iterator[NDArray[np.uint8]]:
    """The pictures of `draw_views`, one after the other: uint8 [S, S, 3]."""
    surface = surface_of(normalised(shape))
    painter = Shader(surface, _looker(surface, look))
    for number, camera in enumerate(look.cameras()):
        picture, mask = painter.paint(camera, look.size)
        _check(mask, shape.name, number, look)
        yield picture


def _looker(surface: Any, look: ViewSpec) -> Any:
    if look.renderer == "filament":
        from outcrop.render.filament import Filament

        return Filament(surface, look.size)
    from outcrop.render.raycast import Raycaster

    return Raycaster(surface)


def _check(mask: NDArray[np.bool_], name: str, number: int, look: ViewSpec) -> None:
    if int(mask.sum()) < MIN_PIXELS:
        raise MeshError(
            f"{name}: view {number} of {look.views} is blank (a flat specimen seen edge-on?); "
            "give --layout sphere, another --seed or a larger --size"
        )
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        raise MeshError(
            f"{name}: view {number} of {look.views} is clipped at the edge of the picture; please report this"
        )
