"""Views per second of the renderers, and an ingest of specimens against the limit of the machine.

    python benchmarks/render.py [--rounds 3] [--size 518] [--specimens 24]

Drawing: the same 12 views of one mesh of 81,920 triangles, by every renderer in turn, round by round, each in a process of its
own; what cannot be run says why. Reading the mesh and the first view (caches, shaders) are not counted.

- raycast: ours, one process on one core; with every core, as an ingest uses it, about as many times faster as there are cores
- egl: ours, by OpenGL on whatever EGL finds first (`egl_draws` says what; in software without a GPU): 12 views in one go, the
  upload of the mesh counted in; then once more, for what the card spends on each step by its own clock
- filament: ours, through Open3D's OffscreenRenderer on whatever driver there is (in software without a GPU)
- offscreen: Open3D's OffscreenRenderer as it is commonly used (lit mesh, post-processing), on the same driver
- pyvista: VTK off screen (pip install pyvista), smooth shading

Ingest: processor seconds of drawing, fitting and embedding, each run alone on one core, added up and divided by the cores, are
the limit; opening the model and starting the drawing processes are not counted. On a machine that others use at the same time
`of_limit` is too low, since their share of the cores is missing: compare `cores_busy` with `cores`; `of_limit_by_cpu` is the
limit's processor time as a part of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

RENDERERS = ("raycast", "egl", "filament", "offscreen", "pyvista")
VIEWS = 12
FEWER = {"offscreen": 3}
"""A renderer that takes seconds for a view draws every fourth of them; figures are for one view."""


def main() -> None:
    """Runs the benchmark and prints a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--specimens", type=int, default=24, help="of the ingest; 0 = none")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--draw", choices=RENDERERS, help=argparse.SUPPRESS)
    parser.add_argument("--subdivisions", type=int, default=6, help=argparse.SUPPRESS)
    parser.add_argument("--go-on", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.go_on:
        print(json.dumps(going_on(arguments.size, arguments.subdivisions, arguments.go_on)))
        return
    if arguments.draw is not None:
        print(json.dumps(draw(arguments.draw, arguments.size, arguments.subdivisions)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in RENDERERS}
    for _ in range(arguments.rounds):
        for name in RENDERERS:
            rounds[name].append(apart(name, arguments.size))
    result: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "size": arguments.size, "views": VIEWS}
    for name, runs in rounds.items():
        failed = next((run["failed"] for run in runs if "failed" in run), None)
        if failed is not None:
            result[name] = f"not run: {failed}"
            continue
        for figure in ("seconds", "cpu"):
            result[f"{name}_{figure}_per_view"] = round(statistics.median(run[figure] for run in runs), 4)
    for name in RENDERERS[1:]:
        if f"{name}_seconds_per_view" in result:
            ratios = [
                (other["seconds"] / own["seconds"], other["cpu"] / own["cpu"])
                for own, other in zip(rounds["raycast"], rounds[name], strict=True)
            ]
            result[f"raycast_times_{name}"] = round(statistics.median(ratio for ratio, _ in ratios), 1)
            if "draws" in rounds[name][0]:
                result[f"{name}_draws"] = rounds[name][0]["draws"]
                result[f"{name}_ms_per_view_by_step"] = rounds[name][-1]["steps"]
            result[f"raycast_times_{name}_by_cpu"] = round(statistics.median(ratio for _, ratio in ratios), 1)
    if arguments.specimens:
        result |= ingest(arguments.specimens, arguments.rounds)
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:32} {value}")


def specimen(seed: int = 0, subdivisions: int = 6) -> tuple[Any, Any]:
    """Vertices and faces of a knobbly stone: 81,920 triangles for six subdivisions."""
    import trimesh

    rng = np.random.default_rng(seed)
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = np.array(mesh.vertices)
    relief = np.zeros(len(vertices))
    for _ in range(40):
        wave = rng.normal(size=3) * rng.uniform(1, 12)
        relief += np.sin(vertices @ wave + rng.uniform(0, 6)) / (1 + np.linalg.norm(wave))
    return vertices * (1 + 0.25 * relief[:, None]), np.array(mesh.faces)


def apart(name: str, size: int, subdivisions: int = 6) -> dict[str, Any]:
    """A renderer's times in a process of its own, or why there are none."""
    command = [sys.executable, __file__, "--draw", name, "--size", str(size), "--subdivisions", str(subdivisions)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": "took more than five minutes"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:160]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def together(size: int, count: int, seconds: float, subdivisions: int = 6) -> float:
    """Views a second of `count` processes that draw by egl at the same time, as those of an ingest do, for some seconds.

    Raises:
        LookupError: one of them fails.
    """
    command = [sys.executable, __file__, "--go-on", str(seconds), "--size", str(size)]
    command += ["--subdivisions", str(subdivisions)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(count)]
    try:
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                said = process.communicate(timeout=60)[1].strip().splitlines() or [f"exit code {process.returncode}"]
                raise LookupError(said[-1][:160])
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return sum(float(json.loads(process.communicate(timeout=60)[0])) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def going_on(size: int, subdivisions: int, seconds: float) -> float:
    """Views a second by egl: says that it is ready, waits for a line, and draws one mesh after the other."""
    from outcrop.render import opengl
    from outcrop.render.cameras import cameras

    surface, placed = stone(subdivisions), cameras("ring", VIEWS)
    assert len(list(opengl.draw(surface, placed, size))) == VIEWS
    print("ready", flush=True)
    sys.stdin.readline()
    begun, views = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds or not views:
        views += len(list(opengl.draw(surface, placed, size)))
    return views / spent


def split(surface: Any, placed: Any, size: int) -> dict[str, float]:
    """Milliseconds a view by step of egl: those of the card by its own clock (GL_TIME_ELAPSED), and `copied`, what it takes here
    to copy pictures that are ready. Steps have their programs' names; `uploaded` is the mesh, `read` the way into the buffer."""
    from outcrop.render import opengl
    from outcrop.render.egl import leased

    asked: list[tuple[str, Any]] = []
    spent: dict[str, float] = {}

    def timed(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(drawing: Any, *given: Any, **named: Any) -> Any:
            query = drawing._lease.context.query(time=True)
            with query:
                made = step(drawing, *given, **named)
            programs = vars(drawing._lease.kept["programs"]) if "programs" in drawing._lease.kept else {}
            asked.append((next((key for key, one in programs.items() if given and one is given[0]), name), query))
            return made

        return run

    def taken(buffer: Any, *given: Any) -> Any:
        buffer.ctx.finish()
        begun = time.perf_counter()
        made = steps["taken"](buffer, *given)
        spent["copied"] = spent.get("copied", 0.0) + 1000 * (time.perf_counter() - begun) / len(placed)
        return made

    steps = {name: getattr(opengl._Drawing, name) for name in ("_uploaded", "_draw", "_fill", "_read")}
    try:
        for name, step in steps.items():
            setattr(opengl._Drawing, name, timed(name.strip("_"), step))
        steps["taken"], opengl.taken = opengl.taken, taken
        drawn = list(opengl.draw(surface, placed, size))
    finally:
        opengl.taken = steps.pop("taken", opengl.taken)
        for name, step in steps.items():
            setattr(opengl._Drawing, name, step)
    assert len(drawn) == len(placed)
    with leased() as lease, lease.current():
        for name, query in asked:
            spent[name] = spent.get(name, 0.0) + query.elapsed / 1e6 / len(placed)
    return {name: round(value, 3) for name, value in sorted(spent.items(), key=lambda pair: -pair[1])}


def stone(subdivisions: int = 6) -> Any:
    """The surface of a specimen."""
    from outcrop.render.geometry import Shape, normalised
    from outcrop.render.surface import surface_of

    vertices, faces = specimen(subdivisions=subdivisions)
    return surface_of(normalised(Shape("stone", vertices.astype(np.float32), faces.astype(np.int32))))


def draw(name: str, size: int, subdivisions: int = 6) -> dict[str, Any]:
    """Seconds and processor seconds of a view; the first one, drawn before, is not counted. Of egl also what the card spends on
    each step."""
    from outcrop.render.cameras import cameras

    surface, placed = stone(subdivisions), cameras("ring", VIEWS)
    if name == "egl":
        several = _egl(surface, size)
    else:
        one: Callable[[Any], Any] = {"offscreen": _offscreen, "pyvista": _pyvista}.get(name, _ours)(name, surface, size)

        def several(some: Any) -> list[Any]:
            return [np.array(one(camera)) for camera in some]

    # The egl renderer keeps its targets for a number of views: as many as below.
    covered = (several(placed if name == "egl" else placed[:1])[0] < 250).any(axis=-1).mean()
    assert covered > 0.1, "nothing is drawn"
    drawn = placed[:: VIEWS // FEWER.get(name, VIEWS)]
    begun, cpu = time.perf_counter(), time.process_time()
    pictures = several(drawn)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    assert not np.array_equal(pictures[0], pictures[1]), "the camera does not move"
    timed: dict[str, Any] = {"seconds": seconds / len(drawn), "cpu": cpu / len(drawn)}
    return timed | ({"draws": _driver(), "steps": split(surface, placed, size)} if name == "egl" else {})


def _ours(name: str, surface: Any, size: int) -> Callable[[Any], Any]:
    from outcrop.render.filament import Filament
    from outcrop.render.painting import Shader
    from outcrop.render.raycast import Raycaster

    painter = Shader(surface, Raycaster(surface) if name == "raycast" else Filament(surface, size))
    return lambda camera: painter.shade(camera, size)[0]


def _egl(surface: Any, size: int) -> Callable[[Any], list[Any]]:
    from outcrop.render import opengl

    return lambda some: [picture for picture, _ in opengl.draw(surface, some, size)]


def _driver() -> str:
    from outcrop.render.egl import leased

    with leased() as lease, lease.current() as context:
        return str(context.info["GL_RENDERER"])


def _offscreen(name: str, surface: Any, size: int) -> Callable[[Any], Any]:
    import open3d
    from open3d.visualization import rendering

    from outcrop.render.cameras import FIELD_OF_VIEW

    renderer = rendering.OffscreenRenderer(size, size)
    mesh = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(surface.vertices.astype(float)), open3d.utility.Vector3iVector(surface.faces)
    )
    mesh.compute_vertex_normals()
    material = rendering.MaterialRecord()
    material.shader = "defaultLit"
    renderer.scene.set_background([1, 1, 1, 1])
    renderer.scene.add_geometry("stone", mesh, material)

    def one(camera: Any) -> Any:
        renderer.setup_camera(FIELD_OF_VIEW, [0, 0, 0], camera.eye, camera.axes[1])
        return renderer.render_to_image()

    return one


def _pyvista(name: str, surface: Any, size: int) -> Callable[[Any], Any]:
    import pyvista

    from outcrop.render.cameras import FIELD_OF_VIEW

    mesh = pyvista.PolyData.from_regular_faces(surface.vertices, surface.faces).compute_normals(split_vertices=False)
    plotter = pyvista.Plotter(off_screen=True, window_size=(size, size))
    plotter.add_mesh(mesh, color="tan", smooth_shading=True)
    plotter.background_color = "white"
    plotter.show(auto_close=False)

    def one(camera: Any) -> Any:
        plotter.camera_position = [camera.eye, (0, 0, 0), camera.axes[1]]
        plotter.camera.view_angle = FIELD_OF_VIEW
        plotter.render()  # a screenshot alone is that of the last camera
        return plotter.screenshot(return_img=True)

    return one


def ingest(count: int, repeat: int) -> dict[str, Any]:
    """Specimens ingested per second, against the processor time of drawing, fitting and embedding alone."""
    import torch
    from PIL import Image

    from outcrop.embed.crops import prepare
    from outcrop.embed.encoder import Encoder
    from outcrop.embed.images import Decoded, thumbnail
    from outcrop.embed.models import find_model
    from outcrop.embed.photo import PhotoMetadata
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.ingest.listing import ingest_listing
    from outcrop.ingest.pipeline import Options
    from outcrop.ingest.runs import Run
    from outcrop.ingest.specimens import list_specimens
    from outcrop.render.geometry import load
    from outcrop.render.views import ViewSpec, draw_views
    from outcrop.render.workers import Workers
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "stones"
        folder.mkdir()
        import trimesh

        for number in range(count):
            trimesh.Trimesh(*specimen(number), process=False).export(folder / f"{number:03d}.ply")
        encoder = Encoder.open(find_model("efficientnet_lite0"))
        look = ViewSpec(views=VIEWS).sized_for(encoder.space.size)
        encoder.encode(np.zeros((32, *encoder.space.size, 3), np.uint8) + np.arange(3, dtype=np.uint8))
        walls, used = [], []
        for number in range(repeat):
            with Store.connect(f"{temporary}/{number}.db") as store, Workers(cores) as workers:
                collection = Collection.create(store, "bench", encoder.space)
                for views in [workers.views(folder / "000.ply", replace(look, views=1)) for _ in range(cores)]:
                    next(views)  # all processes have started once each has drawn
                    list(views)
                listing = list_specimens(folder, "stones", look, workers=workers)
                run = Run.begin(Path(temporary), "specimens")
                begun, cpu = time.perf_counter(), _cpu(workers)
                record = ingest_listing(
                    listing, encoder, collection, run, Options(), thumbnails=ThumbnailStore.below(Path(temporary))
                )
                walls.append(time.perf_counter() - begun)
                used.append(_cpu(workers) - cpu)
                assert record.upserted == count * (VIEWS + 1)
        torch.set_num_threads(1)
        alone = Encoder.open(find_model("efficientnet_lite0"), threads=1)
        stages = {"draw": 0.0, "fit": 0.0, "embed": 0.0}
        for path in sorted(folder.glob("*.ply")):
            begun = time.process_time()
            views = draw_views(load(path), look)
            drawn = time.process_time()
            pictures = [Image.fromarray(view) for view in views]
            pixels = np.stack([prepare(Decoded(p, p.width, p.height, PhotoMetadata()), alone.space) for p in pictures])
            for picture in pictures:
                thumbnail(picture)
            fitted = time.process_time()
            alone.encode(pixels)
            for name, spent in zip(stages, (drawn - begun, fitted - drawn, time.process_time() - fitted), strict=True):
                stages[name] += spent
    limit, ours = sum(stages.values()) / cores, statistics.median(walls)
    return {
        "ingest_specimens": count,
        "ingest_views_per_second": round(count * VIEWS / ours, 2),
        "ingest_limit_views_per_second": round(count * VIEWS / limit, 2),
        "ingest_of_limit": round(limit / ours, 3),
        "ingest_of_limit_by_cpu": round(limit * cores / statistics.median(used), 3),
        "ingest_cores_busy": [round(cpu / wall, 2) for cpu, wall in zip(used, walls, strict=True)],
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "ingest_cpu_ms_per_view": {name: round(1000 * s / count / VIEWS, 2) for name, s in stages.items()},
    }


def _cpu(workers: Any) -> float:
    """Processor seconds of this process and of the drawing processes, so far."""
    import psutil

    own = resource.getrusage(resource.RUSAGE_SELF)
    drawn = sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())
    return own.ru_utime + own.ru_stime + drawn


if __name__ == "__main__":
    main()
