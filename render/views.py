"""The pictures of a specimen: how they are to be drawn, and the drawing."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.render.cameras import Camera, Layout, Up, cameras
from outcrop.render.cuts import Plane, cut
from outcrop.render.geometry import Shape, normalised
from outcrop.render.painting import Shader, ViewRenderer
from outcrop.render.pose import ALIGNS, Align, moved, poses
from outcrop.render.surface import Surface, surface_of
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, MeshError, nearest

RendererName = Literal["raycast", "egl", "filament"]
RENDERERS: tuple[str, ...] = get_args(RendererName)
RENDERER_NAMES = f"auto, {', '.join(RENDERERS[:-1])} or {RENDERERS[-1]}"
LOOKS: dict[RendererName, RendererName] = {"raycast": "raycast", "egl": "raycast", "filament": "filament"}
"""The look that a renderer gives, by the name of the first that gave it: pictures of one look count as the same."""
RECIPE = 1
"""Goes up when the same specimen would get other pictures, so that stored views are known to be old."""
POSE = 2
"""Goes up when a specimen that is aligned would get another pose."""
MIN_SIZE, MAX_SIZE = 32, 4096
MIN_PIXELS = 4
"""A view that shows fewer pixels of its specimen is blank."""
CUTS = 2
"""Goes up when a specimen would be cut otherwise."""
MAX_CUTS = 16
FLAT = 0.02
"""What is thinner than this part of its length is flat."""


@dataclass(frozen=True)
class ViewSpec:
    """How a specimen is drawn: how many views of how many pixels a side, from where, by which renderer, in which pose.

    With `cuts` as many cut copies of it (`outcrop.render.cuts`) are drawn too, each from as many sides: their views follow.

    Raises:
        InputError: a value that is not among the choices.
    """

    views: int = 12
    size: int = 518
    layout: Layout = "ring"
    seed: int = 0
    up: Up = "y"
    renderer: RendererName = "raycast"
    align: Align = "none"
    cuts: int = 0

    def __post_init__(self) -> None:
        if self.align not in ALIGNS:
            raise InputError(
                f"--align must be {', '.join(ALIGNS[:-1])} or {ALIGNS[-1]}, got {self.align!r}{nearest(self.align, ALIGNS)}"
            )
        if self.renderer not in RENDERERS:
            raise InputError(
                f"--renderer must be {RENDERER_NAMES}, got {self.renderer!r}{nearest(self.renderer, RENDERERS)}"
            )
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise InputError(f"--size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {self.size}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be 0 to {2**32 - 1}, got {self.seed}")
        if not 0 <= self.cuts <= MAX_CUTS:
            raise InputError(f"--cuts must be 0 to {MAX_CUTS}, got {self.cuts}")
        self.cameras()

    def as_extra(self) -> dict[str, Any]:
        """The spec as it is stored with an item: with the renderer's look, which every machine can draw."""
        values = {
            **vars(self),
            "renderer": LOOKS[self.renderer],
        }  # no copy, which would be checked again: there are as many as rows
        if not self.cuts:
            del values["cuts"]  # as rows were before there were any
        return {f"look_{name}": value for name, value in values.items()}

    @property
    def count(self) -> int:
        """How many views there are of a specimen, those of its cut copies among them."""
        return self.views * (1 + self.cuts)

    def plane_of(self, view: int) -> Plane | None:
        """The plane that cut the copy which a view shows; None for the views of the whole."""
        return Plane.numbered(view // self.views - 1, self.seed) if view >= self.views else None

    @classmethod
    def of_extra(cls, extra: Mapping[str, Any]) -> ViewSpec | None:
        """The spec that is stored with an item; None where there is none.

        Raises:
            InputError: a later version stored it.
        """
        stored = {field.name: extra.get(f"look_{field.name}") for field in fields(cls)}
        if stored["align"] is None:
            stored["align"] = cls.align  # drawn before there was a choice
        if stored["cuts"] is None:
            stored["cuts"] = cls.cuts
        return cls(**stored) if None not in stored.values() else None  # type: ignore[arg-type]

    def sized_for(self, input_size: tuple[int, int]) -> ViewSpec:
        """The same spec in a network's input size, (height, width) in pixels: larger views are embedded no better, and take
        longer."""
        return replace(self, size=max(MIN_SIZE, *input_size))

    def cameras(self) -> list[Camera]:
        """The cameras, in the order of the views."""
        return list(_cameras(self.layout, self.views, self.seed, self.up))

    @property
    def digest(self) -> str:
        """32 hex characters over everything that decides how pictures come out: specs with equal digests give pictures of a file
        that are equal, or differ by what no model notices (`LOOKS`)."""
        decided = (RECIPE, self.views, self.size, self.layout, self.seed, self.up, LOOKS[self.renderer])
        posed = decided if self.align == "none" else (*decided, self.align, POSE)
        return digest_of(repr((*posed, "cuts", self.cuts, CUTS) if self.cuts else posed))


@functools.lru_cache(16)
def _cameras(layout: Layout, views: int, seed: int, up: Up) -> tuple[Camera, ...]:
    """Those of a spec, which every specimen of a run has in common."""
    return tuple(cameras(layout, views, seed=seed, up=up))


def draw_views(shape: Shape, spec: ViewSpec) -> NDArray[np.uint8]:
    """The pictures of a specimen on white, centred and as large as its bounding box allows: uint8 [V, S, S, 3].

    The same shape and spec give the same bytes on the same machine.

    Raises:
        MeshError: the shape cannot be drawn, or a view is blank or clipped (the whole specimen is then refused).
        InputError: the renderer cannot be opened on this machine.
    """
    if spec.renderer == "egl":
        from outcrop.render.egl import beside_torch

        beside_torch()
    return np.stack(list(iterate_views(shape, spec)))


def iterate_views(shape: Shape, spec: ViewSpec, card: int = 0, every: bool = False) -> Iterator[NDArray[np.uint8]]:
    """The pictures of `draw_views`, one after the other: uint8 [S, S, 3]. `card` is the number of the graphics card to draw on
    where there are several, counted round and round. `every`: followed by those of the other poses that the shape may as well
    have been given (see `outcrop.render.pose`), pose by pose, of the whole alone."""
    for posed in itertools.chain(_posed(shape, spec, every), [] if every else _pieces(shape, spec)):
        surface = surface_of(normalised(posed))
        for number, (picture, mask) in enumerate(_drawn(surface, spec, card)):
            _check(mask, surface, shape.name, number, spec)
            yield picture


def _pieces(shape: Shape, spec: ViewSpec) -> Iterator[Shape]:
    """The cut copies, each in the pose that it would be given if it came as a file."""
    for number in range(spec.cuts):
        (whole,) = _posed(shape, spec, False)
        yield from _posed(cut(whole, Plane.numbered(number, spec.seed)), spec, False)


def _posed(shape: Shape, spec: ViewSpec, every: bool) -> Iterator[Shape]:
    """The shape as it is drawn, with `every` also in its other poses."""
    if spec.align == "none":
        yield shape
        return
    found = poses(shape, spec.align, spec.up)
    yield from (moved(shape, axes) for axes in (found if every else found[:1]))


def _drawn(surface: Surface, spec: ViewSpec, card: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """The pictures, and which pixels' middles show the surface."""
    if spec.renderer == "egl":
        from outcrop.render.opengl import draw

        yield from draw(surface, spec.cameras(), spec.size, card)
        return
    shader = Shader(surface, _renderer(surface, spec))
    for camera in spec.cameras():
        yield shader.shade(camera, spec.size)


def _renderer(surface: Surface, spec: ViewSpec) -> ViewRenderer:
    if spec.renderer == "filament":
        from outcrop.render.filament import Filament

        return Filament(surface, spec.size)
    from outcrop.render.raycast import Raycaster

    return Raycaster(surface)


def _check(mask: NDArray[np.bool_], surface: Surface, name: str, number: int, spec: ViewSpec) -> None:
    shown = int(mask.sum())
    if shown < MIN_PIXELS:
        why, fix = _blank(surface, spec)
        raise MeshError(f"{name}: view {number} of {spec.views} is blank ({why}); {fix}")
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        raise MeshError(
            f"{name}: view {number} of {spec.views} is clipped at the edge of the picture; please report this"
        )


def _blank(surface: Surface, spec: ViewSpec) -> tuple[str, str]:
    """Why a view shows nothing, and the way out. Drawing larger never helps: an edge has no width at any size."""
    centred = surface.vertices.astype(np.float64) - surface.vertices.mean(axis=0)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred)[::-1], 0))
    if spread[1] <= FLAT * spread[0]:
        return "all its vertices lie on one line", "it has no surface to draw; export it again"
    if spread[2] > FLAT * spread[0]:
        return "its faces have hardly any area", "repair it, or export it again"
    others = "layout (--cameras sphere), --seed or --up" if spec.layout == "ring" else "--seed"
    return "it is flat and seen edge-on", f"give another {others}"
