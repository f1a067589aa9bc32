"""Draws in processes of their own: Open3D holds Python's lock while it casts rays, and a crash of native code on some odd file
must cost that one specimen, not the run."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from outcrop.render.egl import SOFTWARE
from outcrop.render.geometry import load
from outcrop.render.views import RENDERER_NAMES, RENDERERS, RendererName, ViewSpec, iterate_views
from outcrop.schema.errors import InputError, MeshError, OutcropError, nearest
from outcrop.schema.machine import cores
from outcrop.schema.places import place
from outcrop.schema.processes import Ended, Handler, Pool, Worker, python_command

PATIENCE = 600.0
"""Seconds after which a silent worker is given up."""

TOGETHER, WAIT = 8, 0.2
"""Views of which what was made comes back at once, and seconds after which those that there are come."""

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class _Asked:
    """Asks a process for the views of a mesh file, or for what is made of each."""

    path: str
    spec: ViewSpec
    card: int
    part: str
    every: bool
    make: Callable[[NDArray[np.uint8]], Any] | None


class Workers:
    """Up to `count` drawing processes, started when they are needed, each given up after `patience` seconds of silence. Threads
    may share them; close them, or use `with`."""

    def __init__(self, count: int, patience: float = PATIENCE) -> None:
        self.count = count
        self.pool, self.patience = Pool(lambda: _start(patience), count), patience

    def views(
        self,
        path: Path,
        spec: ViewSpec,
        remarked: Callable[[str], object] | None = None,
        *,
        part: str = "",
        every: bool = False,
    ) -> Iterator[NDArray[np.uint8]]:
        """The views of a mesh file, uint8 [S, S, 3], one after the other (see `outcrop.render.views.iterate_views`).

        `part` is one of several meshes in the file. `remarked` is called with each remark on the file
        (`outcrop.render.geometry.Shape.remarks`) before the first view comes; without it they are logged as warnings.

        Raises:
            MeshError: the file cannot be drawn, or drawing it broke the process. InputError: drawing is impossible here.
        """
        with contextlib.closing(self._answer(path, spec, None, remarked, part, every)) as answer:
            for some in answer:
                yield from some

    def made(
        self,
        path: Path,
        spec: ViewSpec,
        make: Callable[[NDArray[np.uint8]], T],
        remarked: Callable[[str], object] | None = None,
        *,
        part: str = "",
    ) -> Iterator[T]:
        """What `make` makes of each view, in the drawing process: it is sent there, and what it gives comes back, both pickled,
        several at once. The rest is as of `views`; what it raises is raised here."""
        with contextlib.closing(self._answer(path, spec, make, remarked, part, False)) as answer:
            for some in answer:
                yield from some

    def _answer(
        self,
        path: Path,
        spec: ViewSpec,
        make: Callable[[NDArray[np.uint8]], Any] | None,
        remarked: Callable[[str], object] | None,
        part: str,
        every: bool,
    ) -> Generator[Sequence[Any], None, None]:
        with self.pool.worker() as worker:
            # With several graphics cards each process draws on one of them.
            number = next((n for n, one in enumerate(self.pool.workers) if one is worker), 0)
            worker.send(_Asked(os.fspath(path), spec, number, part, every, make))
            answer = worker.answer()
            try:
                for remark in next(answer):
                    remarked(remark) if remarked is not None else log.warning("%s: %s", path, remark)
                yield from answer
            except Ended as fate:
                raise MeshError(
                    f"{path}: drawing it broke the renderer ({fate}); simplify or repair the mesh"
                ) from None
            except TimeoutError:
                raise MeshError(
                    f"{path}: drawing it took longer than {self.patience:.0f} seconds; simplify the mesh"
                ) from None

    def __reduce__(self) -> tuple[Callable[[int, float], Workers], tuple[int, float]]:
        """Elsewhere, the workers of that process: sources that are sent there have them in common."""
        return _workers_here, (self.count, self.patience)

    def close(self) -> None:
        """Ends all processes."""
        self.pool.close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


@functools.cache
def _workers_here(count: int, patience: float) -> Workers:
    return Workers(min(count, cores()), patience)


def _start(patience: float) -> Worker:
    # One thread each: there are as many processes as cores, and what Open3D prints would come between the lines of the meter.
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    return Worker("outcrop.render.workers:drawing", environment=environment, patience=patience, quiet=True)


def drawing() -> Handler:
    """What a drawing process runs: the remarks on a file come first, then its views."""
    logging.getLogger(load.__module__).setLevel(logging.ERROR)  # the answer holds the remarks; they are not said twice

    def draw(asked: _Asked, data: memoryview) -> Iterator[Sequence[Any]]:
        path = asked.path
        try:
            shape = load(place(path), part=asked.part)
            yield tuple(shape.remarks)
            views = iterate_views(shape, asked.spec, asked.card, asked.every)
            if asked.make is None:
                yield from ((view,) for view in views)
            else:
                yield from _together(map(asked.make, views))
        except OutcropError:
            raise
        except MemoryError:
            raise MeshError(f"{path}: drawing it needs more memory than this machine has; simplify it") from None
        except Exception as error:
            cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise MeshError(f"{path}: cannot be drawn ({cause}); please report this") from error

    return draw


def _together(made: Iterator[Any]) -> Iterator[list[Any]]:
    """Several at once, as long as they come quickly; what came before an error comes before it."""
    some: list[Any] = []
    begun = time.monotonic()
    try:
        for one in made:
            some.append(one)
            if len(some) >= TOGETHER or time.monotonic() - begun > WAIT:
                yield some
                some, begun = [], time.monotonic()
    except (OutcropError, MemoryError):
        if some:
            yield some
        raise
    if some:
        yield some


def choose_renderer(name: str) -> RendererName:
    """The renderer that `--renderer` names. ``auto``: egl where a graphics card answers, otherwise raycast.

    Raises:
        InputError: there is no such renderer.
    """
    if name in RENDERERS:
        return name  # type: ignore[return-value]  # just checked
    if name != "auto":
        raise InputError(f"--renderer must be {RENDERER_NAMES}, got {name!r}{nearest(name, RENDERERS)}")
    from outcrop.render.filament import gpu_devices

    return "egl" if gpu_devices() and _card_draws() else "raycast"


@functools.cache
def _card_draws() -> bool:
    """Whether OpenGL opens, in a process of its own (a driver may crash), and on no software driver."""
    command = python_command("from outcrop.render.opengl import probe; probe()")
    try:
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    said = (done.stdout + done.stderr).decode("utf-8", "replace").lower()
    return done.returncode == 0 and not any(word in said for word in SOFTWARE)
