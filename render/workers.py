"""Draws in processes of their own: Open3D holds Python's lock while it casts rays, and a crash of native code on some odd file
must cost that one specimen, not the run."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

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

log = logging.getLogger(__name__)


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
        with self.pool.worker() as worker:
            # With several graphics cards each process draws on one of them.
            number = next((n for n, one in enumerate(self.pool.workers) if one is worker), 0)
            worker.send((os.fspath(path), spec, number, part, every))
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

    def draw(
        request: tuple[str, ViewSpec, int, str, bool], data: memoryview
    ) -> Iterator[tuple[str, ...] | NDArray[np.uint8]]:
        path, spec, card, part, every = request
        try:
            shape = load(place(path), part=part)
            yield tuple(shape.remarks)
            yield from iterate_views(shape, spec, card, every)
        except OutcropError:
            raise
        except MemoryError:
            raise MeshError(f"{path}: drawing it needs more memory than this machine has; simplify it") from None
        except Exception as error:
            cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise MeshError(f"{path}: cannot be drawn ({cause}); please report this") from error

    return draw


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
