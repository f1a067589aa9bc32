"""Draws in processes of their own: Open3D holds Python's lock while it casts rays, and a crash of native code on some odd file
must cost that one specimen, not the run.

A worker is asked by a line of JSON on its stdin (a path and a `ViewSpec`). It answers with a line of JSON, the remarks on the
file, then a line of JSON and the bytes of each view, so that nothing is drawn faster than it is taken.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render.geometry import load
from outcrop.render.views import RENDERERS, RendererName, ViewSpec, iterate_views
from outcrop.schema.errors import InputError, MeshError, OutcropError, nearest

PATIENCE = 600.0
"""Seconds after which a silent worker is given up."""
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from outcrop.render.workers import serve; serve()"
SOFTWARE = ("software", "llvmpipe", "lavapipe", "swiftshader")
"""What drivers that draw on the processor call themselves."""

log = logging.getLogger(__name__)


class Workers:
    """Up to `count` drawing processes, started when they are needed. Threads may share them; close them, or use `with`."""

    def __init__(self, count: int) -> None:
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(max(1, count)):
            self._idle.put(None)
        self._all: list[_Worker] = []
        self._lock = threading.Lock()
        self._finish = weakref.finalize(self, _end_all, self._all)

    def views(
        self, path: Path, spec: ViewSpec, remarked: Callable[[str], object] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """The views of a mesh file, uint8 [S, S, 3], one after the other (see `outcrop.render.views.draw_views`).

        `remarked` is called with each remark on the file (`outcrop.render.geometry.Shape.remarks`) before the first view comes;
        without it they are logged as warnings.

        Raises:
            MeshError: the file cannot be drawn, or drawing it broke the process. InputError: drawing is impossible here.
        """
        worker = self._idle.get()
        if worker is None or not worker.alive:
            worker = _Worker()
            with self._lock:
                self._all.append(worker)
        finished = False
        try:
            yield from worker.views(path, spec, remarked or (lambda remark: log.warning("%s: %s", path, remark)))
            finished = True
        except MeshError:
            finished = worker.alive
            raise
        finally:
            if not finished:
                worker.end()  # it is in the middle of an answer that nobody waits for
            self._idle.put(worker if finished else None)

    def close(self) -> None:
        """Ends all processes."""
        self._finish()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _end_all(all_of_them: list[_Worker]) -> None:
    for worker in all_of_them:
        worker.end()


class _Worker:
    """One drawing process, seen from outside."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        self._received = bytearray()  # our own: what a buffered pipe has taken in already, `select` does not see

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def views(self, path: Path, spec: ViewSpec, remarked: Callable[[str], object]) -> Iterator[NDArray[np.uint8]]:
        request = json.dumps({"path": os.fspath(path), "spec": asdict(spec)}, ensure_ascii=True)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request.encode() + b"\n")
            while True:
                answer = json.loads(self._read_line())
                if "pixels" in answer:
                    shape = tuple(answer["pixels"])
                    yield np.frombuffer(self._read(int(np.prod(shape))), np.uint8).reshape(shape)
                    continue
                if "remarks" in answer:
                    for remark in answer["remarks"]:
                        remarked(remark)
                    continue
                if "error" in answer:
                    raise (MeshError if answer["kind"] == "mesh" else InputError)(answer["error"])
                return
        except (BrokenPipeError, EOFError, json.JSONDecodeError):
            raise MeshError(
                f"{path}: drawing it broke the renderer ({self._fate()}); simplify or repair the mesh"
            ) from None
        except TimeoutError:
            self.end()
            raise MeshError(f"{path}: drawing it took longer than {PATIENCE:.0f} seconds; simplify the mesh") from None

    def _read_line(self) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            self._receive()
        return self._take(end + 1)

    def _read(self, count: int) -> bytes:
        while len(self._received) < count:
            self._receive()
        return self._take(count)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _receive(self) -> None:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            raise TimeoutError
        more = os.read(self._process.stdout.fileno(), 1 << 20)
        if not more:
            raise EOFError
        self._received += more

    def _fate(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                return f"{name}, possibly out of memory" if name == "SIGKILL" else name
        return f"exit code {code}"

    def end(self) -> None:
        """Ends the process at once."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def serve() -> None:
    """The life of a worker: answers requests until its stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends its workers
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)  # what libraries print must not come between the answers
    for line in sys.stdin.buffer:
        answer: dict[str, Any] = {}
        try:
            request = json.loads(line)
            shape = load(Path(request["path"]))
            answers.write(json.dumps({"remarks": shape.remarks}).encode() + b"\n")
            for picture in iterate_views(shape, ViewSpec(**request["spec"])):
                answers.write(json.dumps({"pixels": picture.shape}).encode() + b"\n" + picture.tobytes())
                answers.flush()
        except MeshError as error:
            answer = {"error": str(error), "kind": "mesh"}
        except OutcropError as error:
            answer = {"error": str(error), "kind": "input"}
        except MemoryError:
            answer = {
                "error": f"{request['path']}: drawing it needs more memory than this machine has; simplify it",
                "kind": "mesh",
            }
        except Exception as error:  # noqa: BLE001  the process must live on for the next specimen
            cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            answer = {"error": f"{request['path']}: cannot be drawn ({cause}); please report this", "kind": "mesh"}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def choose_renderer(name: str) -> RendererName:
    """The renderer that `--renderer` names. ``auto``: filament where a GPU draws for it, otherwise raycast.

    Raises:
        InputError: there is no such renderer.
    """
    if name in RENDERERS:
        return name  # type: ignore[return-value]  # just checked
    if name != "auto":
        raise InputError(f"--renderer must be auto, {' or '.join(RENDERERS)}, got {name!r}{nearest(name, RENDERERS)}")
    from outcrop.render.filament import gpu_devices

    return "filament" if gpu_devices() and _gpu_draws() else "raycast"


def _gpu_draws() -> bool:
    """Whether Filament opens, in a process of its own (it may abort), and on no software driver."""
    code = START.replace("serve", "probe").replace("outcrop.render.workers", "outcrop.render.filament")
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(sys.path)], capture_output=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    said = (done.stdout + done.stderr).decode("utf-8", "replace").lower()
    return done.returncode == 0 and not any(word in said for word in SOFTWARE)
