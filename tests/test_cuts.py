"""Cut copies of specimens: where planes cut, what is left, and how their views are stored and answer for broken specimens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import meshes
import numpy as np
import pytest
from commands import run

from outcrop.render.cuts import LEAST, MOST, Plane, cut
from outcrop.render.geometry import Shape
from outcrop.render.views import ViewSpec, draw_views
from outcrop.schema.errors import InputError, MeshError
from outcrop.schema.filters import equals
from outcrop.store.collection import Collection
from outcrop.store.connection import Store


def shape_of(mesh: tuple[np.ndarray, np.ndarray], **more: object) -> Shape:
    vertices, faces = mesh
    return Shape("a.ply", np.asarray(vertices, np.float32), np.asarray(faces, np.int32), **more)  # type: ignore[arg-type]


def area(shape: Shape) -> float:
    a, b, c = (shape.vertices[shape.faces[:, n]].astype(np.float64) for n in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_the_planes_are_drawn_by_number_and_seed() -> None:
    planes = [Plane.numbered(number, seed) for seed in (0, 1) for number in range(50)]
    assert len(set(planes)) == 100 and planes[3] == Plane.numbered(3, 0)
    for plane in planes:
        assert np.linalg.norm(plane.normal) == pytest.approx(1, abs=1e-5) and LEAST <= plane.share <= MOST


@pytest.mark.parametrize("number", range(6))
def test_a_cut_leaves_its_share_on_one_side(number: int) -> None:
    ball, plane = shape_of(meshes.ball(4)), Plane.numbered(number, 0)
    left = cut(ball, plane)
    assert area(left) / area(ball) == pytest.approx(plane.share, abs=0.011)
    along = left.vertices @ np.asarray(plane.normal)
    whole = ball.vertices @ np.asarray(plane.normal)
    assert along.max() == pytest.approx(whole.max(), abs=1e-6) and along.min() > whole.min() + 0.1
    # Clipped, not torn: the lowest places are all on the plane, and no vertex is left without a face.
    assert np.isclose(along, along.min(), atol=1e-5).sum() > 20
    assert set(left.faces.ravel()) == set(range(len(left.vertices)))


@pytest.mark.parametrize("number", range(4))
def test_a_cut_leaves_its_share_of_a_mesh_of_few_faces(number: int) -> None:
    """A box of 12 triangles; what stays is measured by points that are spread over its faces by hand."""
    sides = np.array([3.0, 2.0, 1.0])
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * sides
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    plane = Plane.numbered(number, 0)
    left = cut(shape_of((corners, faces)), plane)
    level = float((left.vertices @ np.array(plane.normal)).min())
    grid = np.stack(np.meshgrid(*[(np.arange(200) + 0.5) / 200] * 2), -1).reshape(-1, 2)
    stays = 0.0
    for axis in range(3):
        others = [each for each in range(3) if each != axis]
        for end in (0.0, sides[axis]):
            points = np.empty((len(grid), 3))
            points[:, others], points[:, axis] = grid * sides[others], end
            stays += np.mean(points @ np.array(plane.normal) >= level) * sides[others].prod()
    assert stays / 22 == pytest.approx(plane.share, abs=0.012)


def test_clipped_faces_keep_their_sense_colours_and_textures() -> None:
    """A plate of four triangles, coloured and textured by place: so must be what is left of it."""
    grid = np.array([(x, y, 0) for y in (0, 1, 2) for x in (0, 1, 2)], np.float32)
    faces = np.array([f for c in (0, 1, 3, 4) for f in ((c, c + 1, c + 4), (c, c + 4, c + 3))], np.int32)
    colours = (grid * 100).astype(np.uint8)
    plate = shape_of(
        (grid, faces), colours=colours, uv=grid[faces][:, :, :2] / 2, texture_of=np.arange(8, dtype=np.int16)
    )
    for normal in ((1, 0, 0), (-1, 0, 0), (0.6, 0.8, 0), (-0.8, 0.6, 0)):
        left = cut(replace(plate, name="plate"), Plane(normal, 0.6))
        assert left.uv is not None and left.colours is not None and left.texture_of is not None
        assert np.allclose(left.uv, left.vertices[left.faces][:, :, :2] / 2, atol=1e-5)
        assert np.abs(left.colours.astype(float) - left.vertices * 100).max() <= 0.51
        a, b, c = (left.vertices[left.faces[:, n]] for n in range(3))
        assert (np.cross(b - a, c - a)[:, 2] > 0).all()  # all face the same way, as before
        assert len(left.texture_of) == len(left.faces)


def test_points_are_cut_too() -> None:
    points = np.random.default_rng(1).normal(size=(500, 3)).astype(np.float32)
    left = cut(shape_of((points, np.empty((0, 3))), colours=np.zeros((500, 3), np.uint8)), Plane((0, 0, 1), 0.5))
    assert len(left.vertices) == pytest.approx(250, abs=2) and left.colours is not None
    assert len(left.colours) == len(left.vertices)


def test_nothing_left_is_said() -> None:
    with pytest.raises(MeshError, match="a cut leaves nothing to draw; ingest it with --cuts 0"):
        cut(shape_of((np.eye(3), np.array([[0, 1, 2]]))), Plane((0, 0, 1), 0.5))


def test_views_of_the_whole_come_first_and_unchanged() -> None:
    mesh = meshes.ball(3)
    longer = shape_of((mesh[0] * [1.6, 1, 0.7] + mesh[0] ** 3 * 0.3, mesh[1]))
    spec = ViewSpec(views=2, size=48, align="axes")
    with_cuts = replace(spec, cuts=2)
    made = draw_views(longer, with_cuts)
    assert len(made) == with_cuts.count == 6 and np.array_equal(made[:2], draw_views(longer, spec))
    assert not np.array_equal(made[2], made[0]) and not np.array_equal(made[4], made[2])
    assert with_cuts.plane_of(1) is None
    assert [with_cuts.plane_of(n) for n in (2, 5)] == [Plane.numbered(0, 0), Plane.numbered(1, 0)]
    turned = replace(longer, vertices=longer.vertices @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32).T)
    assert np.abs(draw_views(turned, with_cuts).astype(int) - made).mean() < 2  # whatever the pose of the file


def test_looks_without_cuts_are_as_they_were() -> None:
    spec = ViewSpec(views=3)
    assert "look_cuts" not in spec.as_extra() and ViewSpec.of_extra(spec.as_extra()) == spec
    cuts = replace(spec, cuts=2)
    assert ViewSpec.of_extra(cuts.as_extra()) == cuts and cuts.digest != spec.digest
    with pytest.raises(InputError, match="--cuts must be 0 to 16, got 17"):
        ViewSpec(cuts=17)


FIRST = ("--model", "efficientnet_lite0", "--input-size", 64, "--views", 3, "--quiet")


def test_from_meshes_to_answers(tmp_path: Path) -> None:
    for number in range(3):
        vertices, faces = meshes.ball(3)
        bumps = 1 + 0.25 * np.sin((number + 2) * vertices[:, :1] * 3)
        meshes.write(tmp_path / f"shells/s{number}.ply", vertices * bumps * [1.5, 1, 0.8 - 0.1 * number], faces)
    made = run("ingest", "specimens", "shells", *FIRST, "--cuts", 2, "--json").json
    assert (made["embedded"], made["failed"]) == (3 * (9 + 1), 0)
    with Store.connect("outcrop.db") as store:
        pages = Collection.open(store, "outcrop").scan(
            equals("kind", "view") & equals("capture_id", "s1"), vectors=True
        )
        views = {item.view: item.extra for items, _ in pages for item in items}
    assert sorted(views) == list(range(9)) and "cut_share" not in views[0]
    assert views[4]["cut_share"] == Plane.numbered(0, 0).share and views[8]["cut_share"] == Plane.numbered(1, 0).share
    assert tuple(views[8]["cut_normal"]) == Plane.numbered(1, 0).normal
    assert run("ingest", "specimens", "shells", *FIRST, "--cuts", 2, "--json").json["unchanged"] == 30
    audit = run("collection", "audit", "--json")
    assert audit.code == 0, audit.err
    # A stored specimen and a mesh are asked with as a whole, and find themselves by their whole views.
    for name in ("specimen/shells/s1", "shells/s1.ply"):
        found = run("query", "specimen", name, "--by", "views", "-k", 1, "--json").json["queries"][0]["hits"][0]
        assert found["key"] == "specimen/shells/s1" and found["score"] == pytest.approx(1, abs=1e-3)
    before = run("query", "specimen", "shells/s2.ply", "--json").json["queries"][0]["hits"]
    less = run("ingest", "specimens", "shells", *FIRST, "--json").json
    assert less["removed"] == 18  # views that are no longer made
    after = run("query", "specimen", "shells/s2.ply", "--json").json["queries"][0]["hits"]
    assert [(hit["key"], round(hit["score"], 4)) for hit in before] == [
        (hit["key"], round(hit["score"], 4)) for hit in after
    ]  # the pooled vector is that of the whole
