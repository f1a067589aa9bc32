"""Specimens are drawn: the right way round, whatever their mesh is like, the same each time, by every renderer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import meshes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.images import fit_to, thumbnail
from outcrop.ingest.finished import Finish
from outcrop.render import workers
from outcrop.render.cameras import DISTANCE, FIELD_OF_VIEW, cameras, focal_length
from outcrop.render.filament import Filament, gpu_devices
from outcrop.render.geometry import Shape, load, normalised
from outcrop.render.libraries import missing
from outcrop.render.lights import NEUTRAL, encoded
from outcrop.render.painting import Shader
from outcrop.render.raycast import Raycaster
from outcrop.render.surface import surface_of
from outcrop.render.views import ViewSpec, draw_views
from outcrop.render.workers import Workers, choose_renderer
from outcrop.schema.errors import InputError, MeshError

Picture = NDArray[np.uint8]


def shape_of(mesh: tuple[meshes.Vertices, meshes.Faces], **more: object) -> Shape:
    return Shape("test", mesh[0].astype(np.float32), mesh[1].astype(np.int32), **more)  # type: ignore[arg-type]


def seen(picture: Picture) -> NDArray[np.bool_]:
    return (picture != 255).any(axis=-1)


@pytest.mark.parametrize("layout", ["ring", "sphere"])
@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_cameras_look_at_the_middle_from_one_distance(layout: str, up: str) -> None:
    axis = np.eye(3)["xyz".index(up)]
    for seed in (0, 7):
        placed = cameras(layout, 12, seed=seed, up=up)  # type: ignore[arg-type]
        eyes = np.array([camera.eye for camera in placed])
        assert np.allclose(np.linalg.norm(eyes, axis=1), DISTANCE)
        assert len(np.unique(eyes.round(6), axis=0)) == 12
        for camera in placed:
            axes = np.array(camera.axes)
            assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-12) and np.linalg.det(axes) == pytest.approx(1)
            assert np.allclose(camera.project(np.zeros((1, 3)), 100), 50)
            assert axes[1] @ axis > 0  # up is up
        if layout == "ring":
            assert np.allclose(eyes @ axis, (eyes @ axis)[0]) and (eyes @ axis > 0).all()
        else:
            assert np.abs(eyes.mean(axis=0)).max() < 0.1 * DISTANCE
    assert cameras(layout, 12, seed=3) == cameras(layout, 12, seed=3)  # type: ignore[arg-type]
    assert cameras(layout, 12, seed=3) != cameras(layout, 12, seed=4)  # type: ignore[arg-type]


@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda p: 0.1 < np.linalg.norm(p) <= 1),
    st.integers(0, 11),
    st.sampled_from(["ring", "sphere"]),
)
def test_a_camera_agrees_with_its_matrices_and_clips_nothing(place: list[float], view: int, layout: str) -> None:
    camera = cameras(layout, 12)[view]  # type: ignore[arg-type]
    x, y, z = (camera.extrinsic() @ np.array([*place, 1.0]))[:3]
    focal = focal_length(100)
    assert np.allclose([50 + focal * x / z, 50 + focal * y / z], camera.project(np.array([place]), 100)[0])
    assert np.abs(camera.project(np.array([place]), 100) - 50).max() < 50


def test_the_wrong_words_are_named() -> None:
    for wrong, said in (
        ({"layout": "rign"}, "did you mean 'ring'"),
        ({"up": "w"}, "--up must be x, y, z"),
        ({"views": 0}, "--views must be 1 to"),
        ({"size": 5}, "--size must be 32 to"),
        ({"seed": -1}, "--seed must be 0 to"),
        ({"renderer": "raycats"}, "did you mean 'raycast'"),
    ):
        with pytest.raises(InputError, match=said):
            ViewSpec(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="auto, raycast, egl or filament"):
        choose_renderer("opengl")


def test_a_ball_is_where_and_as_large_as_it_should_be() -> None:
    (picture,) = draw_views(shape_of(meshes.ball(4)), ViewSpec(views=1, size=200))
    rows, columns = np.nonzero(seen(picture))
    # The unit ball ends where its tangents from the camera meet the picture.
    radius = focal_length(200) * np.tan(np.arcsin(1 / DISTANCE))
    assert abs(np.ptp(rows) / 2 - radius) < 1.5 and abs(np.ptp(columns) / 2 - radius) < 1.5
    assert abs(rows.mean() - 99.5) < 0.5 and abs(columns.mean() - 99.5) < 0.5
    assert seen(picture).mean() == pytest.approx(np.pi * radius**2 / 200**2, rel=0.03)
    assert FIELD_OF_VIEW == 30


def test_light_comes_from_the_upper_left_and_the_ground_is_white() -> None:
    (picture,) = draw_views(shape_of(meshes.ball(4)), ViewSpec(views=1, size=200))
    assert (picture[0] == 255).all() and (picture[:, 0] == 255).all()
    grey = picture.mean(axis=2)
    assert grey[60, 60] > grey[140, 140] + 60
    assert grey[seen(picture)].min() > 20 and grey[40:160, 40:160].max() < 250


def test_every_view_shows_another_side_and_the_ring_goes_round() -> None:
    vertices, faces = meshes.ball(3, (1, 0.6, 0.4))
    vertices[vertices[:, 0] > 0.9] *= 1.4  # a nose on the +x side
    views = draw_views(shape_of((vertices, faces)), ViewSpec(views=4, size=96))
    widths = [np.ptp(np.nonzero(seen(view))[1]) for view in views]
    assert widths[0] > 1.5 * widths[1] and abs(widths[0] - widths[2]) <= 2
    middle = [np.nonzero(seen(view))[1].mean() for view in views]
    assert middle[0] < 47.5 < middle[2] or middle[0] > 47.5 > middle[2]  # the nose changes sides


def test_the_same_seed_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    path = meshes.write(tmp_path / "a.ply", *meshes.ball(3, (1, 0.7, 0.5), bumps=9))
    points = meshes.ball(4, (1, 0.7, 0.5))[0]
    (tmp_path / "cloud.ply").write_bytes(meshes.cloud_ply(points))
    with Workers(2) as pool:
        for file in (path, tmp_path / "cloud.ply"):
            for spec in (ViewSpec(views=2, size=64, seed=5), ViewSpec(views=2, size=64, layout="sphere")):
                here = draw_views(load(file), spec)
                for _ in range(2):
                    assert np.array_equal(here, np.stack(list(pool.views(file, spec))))
    assert not np.array_equal(
        draw_views(load(path), ViewSpec(views=2, size=64)), draw_views(load(path), ViewSpec(views=2, size=64, seed=5))
    )


def test_specs_that_differ_have_different_digests() -> None:
    changes = ({"views": 6}, {"size": 224}, {"layout": "sphere"}, {"seed": 1}, {"up": "z"}, {"renderer": "filament"})
    digests = {ViewSpec(**change).digest for change in changes} | {ViewSpec().digest}  # type: ignore[arg-type]
    assert len(digests) == 7 and all(len(digest) == 32 for digest in digests)
    assert ViewSpec().digest == ViewSpec().digest


def test_turned_open_and_split_meshes_look_like_the_whole_one() -> None:
    vertices, faces = meshes.ball(3, (1, 0.8, 0.6), bumps=7)
    spec = ViewSpec(views=3, size=96)
    whole = draw_views(shape_of((vertices, faces)), spec).astype(int)
    inside_out, mixed = faces[:, ::-1], faces.copy()
    mixed[::2] = mixed[::2, ::-1]
    soup = vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3)
    twice = vertices, np.concatenate([faces, faces[:100], faces[:50, ::-1]])  # edges with three and four faces
    flat = vertices, np.concatenate([faces, [[0, 0, 1], [2, 2, 2]]])  # triangles without an area
    for name, other in {
        "inside out": (vertices, inside_out),
        "mixed": (vertices, mixed),
        "soup": soup,
        "not a manifold": twice,
        "degenerate": flat,
    }.items():
        difference = np.abs(draw_views(shape_of(other), spec).astype(int) - whole)
        assert difference.mean() < 0.3, name
    two_parts = np.concatenate([vertices, vertices + 3]), np.concatenate([faces, faces + len(vertices)])
    assert len(draw_views(shape_of(two_parts), spec)) == 3


def test_an_open_shell_is_lit_from_both_sides() -> None:
    vertices, faces = meshes.ball(4)
    half = faces[(vertices[faces][:, :, 2] < 0.01).all(axis=1)]
    views = draw_views(shape_of((vertices, half)), ViewSpec(views=2, size=96))  # into the bowl, and onto its back
    for view in views:
        assert view[seen(view)].mean() > 90


def test_a_flat_specimen_seen_edge_on_is_refused_loudly() -> None:
    plate = np.array([[0, -1, -1], [0, -1, 1], [0, 1, 1], [0, 1, -1]], float), np.array([[0, 1, 2], [0, 2, 3]])
    with pytest.raises(
        MeshError,
        match=r"view 0 of 4 is blank \(it is flat and seen edge-on\); give another layout \(--cameras sphere\)",
    ):
        draw_views(shape_of(plate), ViewSpec(views=4, size=64))
    assert len(draw_views(shape_of(plate), ViewSpec(views=4, size=64, layout="sphere"))) == 4


def test_colours_of_vertices_and_textures_show(tmp_path: Path) -> None:
    vertices, faces = meshes.ball(3)
    colours = np.where(vertices[:, :1] > 0, [[200, 30, 30]], [[30, 30, 200]]).astype(np.uint8)
    (front,) = draw_views(shape_of((vertices, faces), colours=colours), ViewSpec(views=1, size=96))
    left, right = front[48, 24].astype(int), front[48, 72].astype(int)
    assert right[0] > 2 * right[2] and left[2] > 2 * left[0]
    Image.fromarray(np.array([[[0, 255, 0], [255, 0, 0]]], np.uint8)).save(tmp_path / "skin.png")
    (tmp_path / "a.mtl").write_text("newmtl skin\nmap_Kd skin.png\n")
    (tmp_path / "a.obj").write_text(
        "mtllib a.mtl\nv -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nusemtl skin\n"
        "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    )
    (front,) = draw_views(load(tmp_path / "a.obj"), ViewSpec(views=1, size=96))
    left, right = front[48, 30].astype(int), front[48, 66].astype(int)
    assert left[1] > 100 > left[0] and right[0] > 100 > right[1]
    assert encoded(np.array(NEUTRAL, np.float32)).tolist() == sorted(
        encoded(np.array(NEUTRAL, np.float32)), reverse=True
    )


def test_a_point_cloud_looks_like_its_surface() -> None:
    vertices, faces = meshes.ball(5, (1, 0.8, 0.6), bumps=5)
    spec = ViewSpec(views=3, size=128)
    surface = draw_views(shape_of((vertices, faces)), spec)
    cloud = draw_views(shape_of((vertices, np.empty((0, 3)))), spec)
    for one, other in zip(surface, cloud, strict=True):
        both, either = (seen(one) & seen(other)).sum(), (seen(one) | seen(other)).sum()
        assert both / either > 0.96
        inner = seen(one) & seen(other)
        assert np.abs(one[inner].astype(int) - other[inner]).mean() < 12


def test_a_large_cloud_is_thinned_and_a_repeated_point_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.render.points.MAX_DISCS", 500)
    vertices = meshes.ball(4)[0]
    surface = surface_of(normalised(shape_of((np.concatenate([vertices, vertices]), np.empty((0, 3))))))
    assert 100 < len(surface.faces) / 6 <= 500
    with pytest.raises(MeshError, match="in only 4 places"):
        surface_of(normalised(shape_of((np.repeat(np.eye(4, 3), 20, axis=0), np.empty((0, 3))))))


@pytest.fixture(scope="module")
def vulkan() -> None:
    if not list(Path("/usr/share/vulkan/icd.d").glob("*.json")) and not gpu_devices():
        pytest.skip("no Vulkan driver: filament cannot be tested (Debian: mesa-vulkan-drivers draws in software)")


@pytest.mark.usefixtures("vulkan")
def test_filament_agrees_with_raycast(tmp_path: Path) -> None:
    """In processes of their own: Filament may abort, and prints what it likes."""
    vertices, faces = meshes.ball(4, (1, 0.8, 0.6), bumps=7)
    faces[::3] = faces[::3, ::-1]
    files = [meshes.write(tmp_path / "a.ply", vertices, faces), tmp_path / "cloud.ply"]
    files[1].write_bytes(meshes.cloud_ply(vertices, np.full((len(vertices), 3), (200, 120, 60), np.uint8)))
    with Workers(1) as pool:
        for file in files:
            cast, drawn = (
                np.stack(list(pool.views(file, ViewSpec(views=3, size=96, renderer=renderer))))
                for renderer in ("raycast", "filament")
            )
            for one, other in zip(cast, drawn, strict=True):
                assert (seen(one) & seen(other)).sum() / (seen(one) | seen(other)).sum() > 0.99
            assert np.abs(cast.astype(int) - drawn).mean() < 1


def test_what_filament_needs_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_devices([str(tmp_path / "*")]) == []
    (tmp_path / "renderD128").touch()
    assert gpu_devices([str(tmp_path / "renderD*")]) == [str(tmp_path / "renderD128")]
    monkeypatch.setattr("outcrop.render.filament.gpu_devices", list)
    assert choose_renderer("auto") == "raycast" and choose_renderer("filament") == "filament"
    assert Filament.name == "filament" and Raycaster.name == "raycast" and Shader is not None


def test_missing_system_libraries_are_named() -> None:
    said = missing("libEGL.so.1: cannot open shared object file: No such file or directory")
    assert "libEGL.so" in said and "apt-get install" in said and "libegl1" in said
    assert "pip install open3d" in missing("No module named 'open3d'")


def test_workers_answer_many_threads_and_survive_bad_files(tmp_path: Path) -> None:
    good = [meshes.write(tmp_path / f"{n}.stl", *meshes.ball(2, (1, 1, 1 - n / 10))) for n in range(6)]
    spec = ViewSpec(views=2, size=48)
    expected = [draw_views(load(path), spec) for path in good]
    bad = tmp_path / "bad.ply"
    bad.write_bytes(meshes.broken()["cut.ply"][0])
    wrong: list[str] = []
    with Workers(2) as pool:

        def draw(number: int) -> None:
            if number % 3 == 0:
                try:
                    list(pool.views(bad, spec))
                    wrong.append("a broken file was drawn")
                except MeshError as error:
                    if "cut short" not in str(error):
                        wrong.append(str(error))
            if not np.array_equal(np.stack(list(pool.views(good[number % 6], spec))), expected[number % 6]):
                wrong.append(f"{number} differs")

        threads = [threading.Thread(target=draw, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_worker_that_dies_or_hangs_costs_one_specimen(tmp_path: Path) -> None:
    path = meshes.write(tmp_path / "a.stl", *meshes.ball(2))
    spec = ViewSpec(views=8, size=64)
    # More than an answer has room for that nobody takes: the process is not done before the signal comes.
    endless = ViewSpec(views=64, size=512)
    with Workers(1) as pool:
        views = pool.views(path, endless)
        next(views)
        os.kill(pool.pool.workers[0].pid, signal.SIGKILL)
        with pytest.raises(MeshError, match=r"broke the renderer .*SIGKILL"):
            list(views)
        assert len(list(pool.views(path, spec))) == 8
        views = pool.views(path, endless)
        next(views)
        os.kill(pool.pool.workers[-1].pid, signal.SIGSTOP)
        pool.pool.workers[-1].patience = 0.5
        with pytest.raises(MeshError, match="took longer than"):
            list(views)
        views = pool.views(path, endless)
        next(views)
        views.close()  # nobody wants the rest
        assert len(list(pool.views(path, spec))) == 8
    assert all(not worker.alive for worker in pool.pool.workers)


def test_drawing_processes_make_views_ready(tmp_path: Path) -> None:
    path = meshes.write(tmp_path / "a.stl", *meshes.ball(2))
    spec, finish = ViewSpec(views=3, size=96), Finish((48, 64), "pad", thumbnails=True, keep=True)
    with Workers(1) as pool:
        made = list(pool.made(path, spec, finish))
        plain = list(pool.made(path, spec, replace(finish, thumbnails=False, keep=False)))
        for one, less, view in zip(made, plain, pool.views(path, spec), strict=True):
            picture = Image.fromarray(view)
            assert one.picture is not None and np.array_equal(one.picture, view)
            assert np.array_equal(one.pixels, fit_to(picture, (48, 64), "pad")) and one.thumbnail == thumbnail(picture)
            assert np.array_equal(less.pixels, one.pixels) and less.thumbnail is None and less.picture is None
    done = subprocess.run(
        [sys.executable, "-c", "import sys, outcrop.ingest.finished; sys.exit('torch' in sys.modules)"]
    )
    assert done.returncode == 0, "a driver's LLVM and Torch's do not go together"


def test_what_was_made_before_an_error_comes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def some() -> Iterator[int]:
        yield from range(11)
        raise MeshError("blank")

    monkeypatch.setattr(workers, "WAIT", 1e9)
    together, found = workers._together(some()), []
    with pytest.raises(MeshError, match="blank"):
        for one in together:
            found.append(one)
    assert found == [list(range(8)), [8, 9, 10]]
    monkeypatch.setattr(workers, "WAIT", -1)
    assert list(workers._together(iter(range(3)))) == [[0], [1], [2]], "what takes long does not wait"


def test_drawing_is_not_imported_before_it_is_needed() -> None:
    done = os.spawnv(
        os.P_WAIT,
        sys.executable,
        [
            sys.executable,
            "-c",
            "import sys, outcrop.render.workers; sys.exit('open3d' in sys.modules or 'trimesh' in sys.modules)",
        ],
    )
    assert done == 0


@settings(max_examples=25)
@given(st.integers(4, 40), st.integers(1, 60), st.integers(0, 2**16))
def test_any_triangles_are_drawn_or_refused(points: int, triangles: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = rng.normal(size=(points, 3)), rng.integers(0, points, (triangles, 3))
    used = normalised(shape_of((mesh[0], mesh[1])))
    try:
        views = draw_views(used, ViewSpec(views=2, size=32, layout="sphere"))
    except MeshError as error:
        assert "blank" in str(error)
    else:
        assert views.shape == (2, 32, 32, 3) and seen(views).any()
