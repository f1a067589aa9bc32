"""Canonical poses: however a scan was laid down, it is drawn from the same sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import meshes
import numpy as np
import pytest
from numpy.typing import NDArray

from outcrop.render.geometry import Shape, normalised
from outcrop.render.pose import MAX_POSES, Align, moments_of, moved, poses
from outcrop.render.views import ViewSpec, draw_views, iterate_views
from outcrop.render.workers import Workers
from outcrop.schema.errors import InputError

BOTH: tuple[Align, ...] = ("axes", "axes-mirror")
MIRROR = np.diag([-1.0, 1.0, 1.0])


def lopsided(subdivisions: int = 3) -> Shape:
    """A shape without any symmetry: three unlike axes, and a nose, a bulge and a bump on one side each."""
    vertices, faces = meshes.ball(subdivisions, (1, 0.7, 0.45))
    x, y, z = vertices.T.copy()
    vertices[:, 0] *= 1 + 0.5 * (x > 0) * x**2
    vertices[:, 1] *= 1 + 0.4 * (y > 0) * y + 0.3 * x * (y > 0)
    vertices[:, 2] *= 1 + 0.8 * (z > 0) * z - 0.3 * y * (z > 0)
    return shape_of(vertices, faces)


def shape_of(vertices: NDArray[Any], faces: NDArray[Any] | None = None) -> Shape:
    faces = np.empty((0, 3)) if faces is None else faces
    return Shape("a", np.asarray(vertices, np.float32), np.asarray(faces, np.int32))


def turn(seed: int) -> NDArray[np.float64]:
    """A rotation [3, 3]."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.linalg.det(matrix)


def subdivided(shape: Shape) -> Shape:
    """The same surface of four times as many triangles."""
    corners = shape.vertices[shape.faces]
    middles = (corners + np.roll(corners, -1, axis=1)) / 2
    a, b, c = corners.transpose(1, 0, 2)
    d, e, f = middles.transpose(1, 0, 2)
    parts = np.concatenate([np.stack(part, axis=1) for part in ((a, d, f), (d, b, e), (f, e, c), (d, e, f))])
    return shape_of(parts.reshape(-1, 3), np.arange(parts.size // 3).reshape(-1, 3))


def posed(shape: Shape, align: Align, number: int = 0) -> NDArray[np.float32]:
    return normalised(moved(shape, poses(shape, align)[number])).vertices


def test_moments_are_those_of_the_surface_not_of_its_vertices() -> None:
    one = moments_of(lopsided())
    other = moments_of(subdivided(lopsided()))
    assert np.allclose(one.second, other.second, atol=1e-7) and np.allclose(one.third, other.third, atol=1e-7)
    # The unit square around the origin, put into the unit ball: a half-diagonal of 1, so sides of √2 and a variance of 2 / 12.
    square = shape_of(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    found = moments_of(square)
    assert np.allclose(found.second, np.diag([1 / 6, 1 / 6, 0]), atol=1e-7) and np.allclose(found.third, 0, atol=1e-7)
    # A right triangle on (0, 0), (1, 0), (0, 1): its skewness along the legs is 2√2 / 5.
    corner = moments_of(shape_of(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])))
    assert corner.skewness(np.array([1.0, 0, 0])) == pytest.approx(2 * 2**0.5 / 5, abs=1e-6)


@pytest.mark.parametrize("align", BOTH)
@pytest.mark.parametrize("seed", range(6))
def test_a_turned_specimen_comes_back_to_its_pose(align: Align, seed: int) -> None:
    shape = lopsided()
    again = moved(replace(shape, vertices=shape.vertices * 7 + 3), turn(seed))
    assert np.allclose(posed(again, align), posed(shape, align), atol=1e-5)
    assert len(poses(shape, align)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_left_and_right_are_kept_apart_unless_they_are_to_be_one(seed: int) -> None:
    shape = lopsided()
    left = moved(shape, turn(seed) @ MIRROR)
    assert np.allclose(posed(left, "axes-mirror"), posed(shape, "axes-mirror"), atol=1e-5)
    assert np.abs(posed(left, "axes") - posed(shape, "axes")).max() > 0.1
    assert np.linalg.det(poses(shape, "axes")[0]) == pytest.approx(1)
    assert np.linalg.det(poses(left, "axes-mirror")[0] @ poses(shape, "axes-mirror")[0]) == pytest.approx(-1)


def test_what_has_a_plane_of_symmetry_has_one_pose_either_way() -> None:
    vertices, faces = meshes.ball(3, (1, 0.7, 0.45))
    vertices[:, 0] *= 1 + 0.5 * (vertices[:, 0] > 0)
    vertices[:, 1] *= 1 + 0.4 * (vertices[:, 1] > 0)  # left and right are along z
    shape = shape_of(vertices, faces)
    left = moved(shape, turn(1) @ MIRROR)
    spec = ViewSpec(views=4, size=64, align="axes")
    difference = np.abs(draw_views(shape, spec).astype(int) - draw_views(left, spec))
    assert difference.mean() < 0.3


@pytest.mark.parametrize("align", BOTH)
@pytest.mark.parametrize(
    "stretched", [(1, 0.7, 0.45), (1, 1, 0.4), (1, 0.4, 0.4), (1, 1, 1)], ids=["even", "flat", "long", "round"]
)
def test_what_moments_leave_open_is_given_every_pose_that_it_may_have(
    align: Align, stretched: tuple[float, ...]
) -> None:
    vertices, faces = meshes.ball(4, stretched)
    vertices[np.argmax(vertices @ [1, 2, 3])] *= 1.5  # one thorn: its place on the ball shows, moments hardly notice
    shape = shape_of(vertices, faces)
    found = poses(shape, align)
    assert 1 < len(found) <= MAX_POSES
    for axes in found:
        assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-6)
        assert align == "axes-mirror" or np.linalg.det(axes) > 0
    again = moved(shape, turn(5))
    nearest = min(np.abs(posed(again, align, n) - posed(shape, align)).max() for n in range(len(poses(again, align))))
    assert nearest < 0.05
    assert [axes.tolist() for axes in poses(shape, align)] == [axes.tolist() for axes in found]


@pytest.mark.parametrize("align", BOTH)
def test_a_point_cloud_lies_as_its_surface(align: Align) -> None:
    shape = lopsided(5)
    rng = np.random.default_rng(0)
    dense = shape.vertices[:, 0] > 0.2
    kept = rng.random(len(dense)) < np.where(dense, 1, 0.4)  # a scanner that came closer to one end
    cloud = moved(shape_of(shape.vertices[kept]), turn(2))
    turned = poses(cloud, align)[0] @ turn(2)
    assert np.allclose(turned, poses(shape, align)[0], atol=0.06)
    normals = shape.vertices / np.linalg.norm(shape.vertices, axis=1, keepdims=True)
    one = moved(replace(shape_of(shape.vertices), normals=normals), turn(2))
    assert one.normals is not None and np.allclose(one.normals, normals @ turn(2).T, atol=1e-6)


def crown(lean: float) -> Shape:
    """The upper half of a ball with three unlike axes, without a floor, as a tooth's crown; `lean` > 0 makes its rim heavier."""
    vertices, faces = meshes.ball(4, (1, 0.8, 0.7))
    kept = faces[(vertices[faces][:, :, 2] > -0.02).all(axis=1)]
    vertices[:, :2] *= 1 + lean * (0.7 - vertices[:, 2:])
    vertices[:, 0] *= 1 + 0.3 * (vertices[:, 0] > 0)
    vertices[:, 1] *= 1 + 0.2 * (vertices[:, 1] > 0)
    return shape_of(vertices, kept)


@pytest.mark.parametrize("align", BOTH)
def test_a_surface_that_is_open_on_one_side_lies_with_the_opening_down(align: Align) -> None:
    along = set()
    for lean in (0.0, 0.3, 0.6):
        shape = crown(lean)
        soup = shape_of(shape.vertices[shape.faces].reshape(-1, 3), np.arange(shape.faces.size).reshape(-1, 3))
        for number, each in enumerate((shape, soup, moved(shape, turn(3)), moved(shape, turn(4) @ MIRROR))):
            up = poses(each, align)[0][1] @ (np.eye(3), np.eye(3), turn(3).T, (turn(4) @ MIRROR).T)[number].T
            assert np.allclose(up, [0, 0, 1], atol=0.1), (lean, number)
        along.add(moments_of(shape).skewness(np.array([0.0, 0, 1])) < 0)
    assert along == {False, True}  # third moments alone would have turned some of them over


def test_holes_that_are_small_or_on_all_sides_and_faces_that_lie_apart_are_no_opening() -> None:
    shape = lopsided(4)
    expected = poses(shape, "axes")
    rng = np.random.default_rng(0)
    torn = replace(shape, faces=shape.faces[rng.random(len(shape.faces)) > 0.03])
    pricked = replace(shape, faces=np.delete(shape.faces, [100, 101, 102], axis=0))
    apart = shape.vertices[shape.faces] * (1 + 1e-6 * rng.random((len(shape.faces), 1, 1)))
    for each in (torn, pricked, shape_of(apart.reshape(-1, 3), np.arange(apart.size // 3).reshape(-1, 3))):
        found = poses(each, "axes")
        assert len(found) == len(expected) and np.allclose(found[0], expected[0], atol=0.05)


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_a_specimen_lies_flat_whatever_up_is(up: str) -> None:
    axes = poses(lopsided(), "axes", up)[0]  # type: ignore[arg-type]
    assert int(np.argmin(moved(lopsided(), axes).vertices.std(axis=0))) == "xyz".index(up)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_degenerate_shapes_have_a_pose_and_plates_are_seen_in_full() -> None:
    line = shape_of(np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2.0]]), np.array([[0, 1, 2]]))
    assert np.isfinite(poses(line, "axes")).all()
    plate = np.array([[0, -1, -2], [0, -1, 1], [0, 1, 1], [0, 1, -1]], float), np.array([[0, 1, 2], [0, 2, 3]])
    for views in (1, 2, 3, 4, 6, 12):
        assert len(draw_views(shape_of(*plate), ViewSpec(views=views, size=64, align="axes"))) == views


def test_the_pose_is_part_of_the_look() -> None:
    specs = [ViewSpec(align=align) for align in ("none", *BOTH)]  # type: ignore[arg-type]
    assert len({spec.digest for spec in specs}) == 3
    for spec in specs:
        assert ViewSpec.of_extra(spec.as_extra()) == spec
    older = {name: value for name, value in ViewSpec(views=3).as_extra().items() if name != "look_align"}
    assert ViewSpec.of_extra(older) == ViewSpec(views=3, align="none")
    with pytest.raises(InputError, match="did you mean 'axes'"):
        ViewSpec(align="axis")  # type: ignore[arg-type]


def test_every_pose_is_drawn_where_it_is_asked_for(tmp_path: Path) -> None:
    path = meshes.write(tmp_path / "a.ply", *meshes.ball(3, (1, 0.7, 0.45)))
    spec = ViewSpec(views=2, size=48, align="axes")
    with Workers(1) as workers:
        one, every = list(workers.views(path, spec)), list(workers.views(path, spec, every=True))
    assert len(one) == 2 and len(every) == 8 and all(np.array_equal(*pair) for pair in zip(one, every, strict=False))
    assert len(list(iterate_views(lopsided(), spec, every=True))) == 2
    assert len(list(iterate_views(lopsided(), replace(spec, align="none"), every=True))) == 2
