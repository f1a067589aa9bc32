"""Meshes are read whatever their format, and refused with a reason when they are broken, before memory is spent."""

from __future__ import annotations

import struct
from pathlib import Path

import meshes
import numpy as np
import pytest
from growth import growth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from outcrop.render.geometry import load, normalised
from outcrop.render.surface import corner_normals, same_places
from outcrop.render.views import ViewSpec, draw_views
from outcrop.schema.errors import MeshError


def area(path: Path) -> float:
    shape = load(path)
    corners = shape.vertices[shape.faces].astype(float)
    return float(
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    )


@pytest.mark.parametrize("name", ["a.ply", "A.PLY", "a.stl", "a.Stl", "a.off", "A.OFF", "a.obj", "a.OBJ"])
@pytest.mark.parametrize("text", [False, True])
def test_the_cube_is_the_same_in_every_format(tmp_path: Path, name: str, text: bool) -> None:
    path = meshes.write(tmp_path / name, *meshes.box(), text=text)
    shape = load(path)
    assert len(shape.faces) == 12 and not shape.is_cloud
    assert area(path) == pytest.approx(6)
    assert shape.vertices.min() == 0 and shape.vertices.max() == 1


def test_variants_of_the_formats(tmp_path: Path) -> None:
    vertices, faces = meshes.box()
    corners = [[tuple(vertices[i]) for i in face] for face in faces]
    backwards = "".join(
        "".join("v {:g} {:g} {:g}\n".format(*place) for place in three) + "f -3 -2 -1\n" for three in corners
    )
    quads = "".join(f"v {x:g} {y:g} {z:g}\n" for x, y, z in vertices)
    quads += "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 \\\n4\n"
    head = meshes.ply(vertices, faces).split(b"end_header\n")[0].replace(b"face 12", b"face 3") + b"end_header\n"
    mixed = struct.pack("<B4i", 4, 0, 1, 3, 2) + struct.pack("<B3i", 3, 4, 6, 7) + struct.pack("<B3i", 3, 4, 7, 5)
    files = {
        "backwards.obj": (backwards.encode(), 6),
        "quads.obj": (quads.encode(), 6),
        "mixed.ply": (head + vertices.astype("<f4").tobytes() + mixed, 2),
        "big.ply": (meshes.ply(vertices, faces, "binary_big_endian"), 6),
        "windows.ply": (meshes.ply(vertices, faces, "ascii").replace(b"\n", b"\r\n"), 6),
        "padded.stl": (meshes.stl(vertices, faces) + bytes(6), 6),
        "solid.stl": (b"solid" + meshes.stl(vertices, faces)[5:], 6),
        "LOUD.STL": (meshes.stl_text(vertices, faces).upper(), 6),
        "remarks.off": (meshes.off(vertices, faces).replace(b"OFF\n", b"OFF # of a test\n# box\n"), 6),
        "line.off": (meshes.off(vertices, faces).replace(b"OFF\n", b"OFF "), 6),
    }
    for name, (data, expected) in files.items():
        (tmp_path / name).write_bytes(data)
        assert area(tmp_path / name) == pytest.approx(expected), name


@pytest.mark.parametrize("name", sorted(meshes.broken()))
def test_a_broken_file_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    data, reason = meshes.broken()[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MeshError) as refused:
        load(tmp_path / name)
    assert reason in str(refused.value) and name in str(refused.value)


def test_a_claim_of_a_billion_vertices_costs_no_memory(tmp_path: Path) -> None:
    for name in ("huge.ply", "huge_text.ply", "huge.stl", "huge.off"):
        data = meshes.broken()[name][0]
        with growth() as grown, pytest.raises(MeshError, match="1,000,000,000"):
            load(Path(name), data)
        assert grown.kib < 130_000  # of gigabytes; other threads may import something meanwhile


@given(data=st.data(), kind=st.sampled_from(["ply", "text.ply", "stl", "text.stl", "off", "obj"]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_damage_is_refused_or_harmless_and_never_anything_else(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    vertices, faces = meshes.box()
    path = meshes.write(tmp_path / f"a.{kind.split('.')[-1]}", vertices, faces, text=kind.startswith("text"))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        if data.draw(st.booleans()):
            whole[at] = data.draw(st.integers(0, 255))
        else:
            del whole[at : at + data.draw(st.integers(1, 50))]
        if not whole:
            break
    path.write_bytes(bytes(whole))
    try:
        shape = load(path)
    except MeshError as error:
        assert str(path) in str(error)
    else:
        assert np.isfinite(shape.vertices).all()
        assert shape.is_cloud or shape.faces.max() < len(shape.vertices)


def test_colours_of_vertices(tmp_path: Path) -> None:
    vertices, faces = meshes.box()
    red = [(255, 0, 0) if x else (0, 0, 255) for x, _, _ in vertices]
    lines = [" ".join(map(str, (*place, *colour))) for place, colour in zip(vertices, red, strict=True)]
    (tmp_path / "a.off").write_text(
        "COFF\n8 12 0\n" + "\n".join(lines) + "\n" + "".join(f"3 {a} {b} {c}\n" for a, b, c in faces)
    )
    fractions = [(r / 255, g / 255, b / 255) for r, g, b in red]
    lines = ["v " + " ".join(map(str, (*place, *colour))) for place, colour in zip(vertices, fractions, strict=True)]
    (tmp_path / "a.obj").write_text("\n".join(lines) + "\n" + "".join(f"f {a} {b} {c}\n" for a, b, c in faces + 1))
    text = meshes.ply(vertices, faces, "ascii").decode()
    text = text.replace(
        "property float z\n", "property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
    )
    head, body = text.split("end_header\n")
    rows = body.splitlines()
    rows[:8] = [f"{row} {r} {g} {b}" for row, (r, g, b) in zip(rows, red, strict=False)]
    (tmp_path / "a.ply").write_text(head + "end_header\n" + "\n".join(rows) + "\n")
    for name in ("a.off", "a.obj", "a.ply"):
        shape = load(tmp_path / name)
        assert shape.colours is not None, name
        right = shape.vertices[:, 0] > 0.5
        assert (shape.colours[right] == (255, 0, 0)).all() and (shape.colours[~right] == (0, 0, 255)).all(), name


TEXTURED = """mtllib a.mtl
v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0
vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1
usemtl skin
f 1/1 2/2 3/3\nf 1/1 3/3 4/4
"""


@pytest.mark.parametrize("named", ["skin.png", "./skin.png", "C:\\scans\\skin.png", "/somewhere/else/skin.png"])
def test_a_texture_is_found_in_the_folder_of_its_mesh(tmp_path: Path, named: str) -> None:
    Image.new("RGB", (4, 4), (10, 200, 30)).save(tmp_path / "skin.png")
    (tmp_path / "a.mtl").write_text(f"newmtl skin\nmap_Kd {named}\n")
    (tmp_path / "a.obj").write_text(TEXTURED)
    shape = load(tmp_path / "a.obj")
    assert [texture.shape for texture in shape.textures] == [(4, 4, 3)]
    assert (shape.textures[0] == (10, 200, 30)).all()
    assert shape.uv is not None and shape.uv.shape == (2, 3, 2)


@pytest.mark.parametrize("named", ["../secret.png", "..\\secret.png", "{outside}", "link.png", "a/../../secret.png"])
def test_no_texture_is_taken_from_outside_the_folder(
    tmp_path: Path, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "meshes"
    folder.mkdir()
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 4), (1, 2, 3)).save(secret)
    (folder / "link.png").symlink_to(secret)
    (folder / "a.mtl").write_text(f"newmtl skin\nmap_Kd {named.format(outside=secret)}\n")
    (folder / "a.obj").write_text(TEXTURED)
    assert load(folder / "a.obj").textures == ()
    assert "is drawn without" in caplog.text


SKIN = [[(0, 255, 0), (255, 0, 0)], [(0, 0, 255), (255, 255, 0)]]
CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))


def textured_ply(encoding: str, where: str, texture: str = "skin.png") -> bytes:
    """A square of one polygon; texture coordinates at its corners, or at its vertices by the names in `where`."""
    by_vertex = where != "texcoord"
    lines = ["ply", f"format {encoding} 1.0", f"comment TextureFile {texture}", "element vertex 4"]
    lines += [f"property float {name}" for name in ("x", "y", "z", *(where.split() if by_vertex else ()))]
    lines += ["element face 1", "property list uchar int vertex_indices"]
    lines += [] if by_vertex else ["property list uchar float texcoord"]
    header = ("\n".join([*lines, "end_header"]) + "\n").encode()
    rows = [(*place, 0.0, *(place if by_vertex else ())) for place in CORNERS]
    flat = [number for corner in CORNERS for number in corner]
    if encoding == "ascii":
        text = [" ".join(map(str, row)) for row in rows]
        text.append(" ".join(map(str, [4, 0, 1, 2, 3, *(() if by_vertex else (8, *flat))])))
        return header + ("\n".join(text) + "\n").encode()
    order = ">" if "big" in encoding else "<"
    body = b"".join(struct.pack(f"{order}{len(row)}f", *row) for row in rows)
    body += struct.pack(f"{order}B4i", 4, 0, 1, 2, 3)
    return header + body + (b"" if by_vertex else struct.pack(f"{order}B8f", 8, *flat))


@pytest.mark.parametrize("where", ["texcoord", "texture_u texture_v", "u v", "s t"])
@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_a_ply_has_its_texture_the_right_way_round(tmp_path: Path, encoding: str, where: str) -> None:
    Image.fromarray(np.array(SKIN, np.uint8)).save(tmp_path / "skin.png")
    (tmp_path / "a.ply").write_bytes(textured_ply(encoding, where))
    shape = load(tmp_path / "a.ply")
    assert shape.uv is not None and shape.uv.shape == (2, 3, 2) and shape.texture_of is not None
    assert np.allclose(shape.uv, shape.vertices[shape.faces][..., :2])  # the square's corners are the picture's
    assert shape.textures[0].tolist() == [[list(pixel) for pixel in row] for row in SKIN]
    (front,) = draw_views(shape, ViewSpec(views=1, size=96))
    quarters = [[front[y, x].astype(int) for x in (36, 60)] for y in (36, 60)]
    for drawn, painted in zip(np.reshape(quarters, (4, 3)), np.reshape(SKIN, (4, 3)), strict=True):
        assert drawn[painted == 255].min() > 2 * drawn[painted == 0].max()


def test_a_ply_without_its_texture_is_drawn_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "meshes"
    folder.mkdir()
    Image.fromarray(np.array(SKIN, np.uint8)).save(tmp_path / "skin.png")
    for texture in ("../skin.png", "missing.png"):
        (folder / "a.ply").write_bytes(textured_ply("ascii", "texcoord", texture))
        assert load(folder / "a.ply").textures == () and f"is drawn without '{texture}'" in caplog.text
    Image.effect_noise((64, 64), 50).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:1500])
    (folder / "a.ply").write_bytes(textured_ply("ascii", "texcoord", "cut.png"))
    assert load(folder / "a.ply").textures == () and "is drawn without 'cut.png': it is damaged" in caplog.text


def test_a_texture_that_is_a_bomb_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.render.textures.MAX_PIXELS", 10)
    Image.new("RGB", (4, 4)).save(tmp_path / "skin.png")
    (tmp_path / "a.mtl").write_text("newmtl skin\nmap_Kd skin.png\n")
    (tmp_path / "a.obj").write_text(TEXTURED)
    assert load(tmp_path / "a.obj").textures == ()


def test_the_unit_ball_is_filled_and_stray_vertices_do_not_count(tmp_path: Path) -> None:
    vertices, faces = meshes.box()
    stray = np.vstack([vertices * 5 + 100, [[9999.0, 0, 0]]])
    shape = normalised(load(meshes.write(tmp_path / "a.ply", stray, faces)))
    assert np.linalg.norm(shape.vertices, axis=1).max() == pytest.approx(1)
    assert np.abs(shape.vertices.min(axis=0) + shape.vertices.max(axis=0)).max() < 1e-6


def test_normals_do_not_depend_on_how_faces_are_turned() -> None:
    vertices, faces = meshes.ball(3)
    vertices = vertices.astype(np.float32)
    turned = faces.copy()
    turned[::2] = turned[::2, ::-1]
    for given_faces in (faces, turned):
        normals = corner_normals(vertices, given_faces.astype(np.int32))
        outward = vertices[given_faces]
        agreement = np.abs(np.einsum("fij,fij->fi", normals, outward))
        assert agreement.min() > 0.99
        assert np.allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-5)


def test_a_prism_is_shaded_alike_whichever_way_its_faces_are_turned() -> None:
    """At right angles, where the side of a neighbour cannot be told from the normals; and parts keep their own side."""
    vertices, faces = meshes.box()
    vertices = np.concatenate([vertices, vertices * [1, 0.5, 1] + 3]).astype(np.float32)
    faces = np.concatenate([faces, faces + 8]).astype(np.int32)
    expected = corner_normals(vertices, faces)
    rng = np.random.default_rng(0)
    for _ in range(20):
        reversed_ = rng.random(len(faces)) < 0.4
        turned = np.where(reversed_[:, None], faces[:, ::-1], faces)
        found = corner_normals(vertices, turned)
        found[reversed_] = -found[reversed_][:, ::-1]
        assert np.allclose(found, expected, atol=1e-6)


def test_edges_of_a_cube_stay_sharp_and_triangle_soup_is_smooth() -> None:
    vertices, faces = meshes.box()
    flat = corner_normals(vertices.astype(np.float32), faces.astype(np.int32))
    assert np.allclose(np.abs(flat).max(axis=2), 1, atol=1e-6)
    vertices, faces = meshes.ball(3)
    soup = vertices[faces].reshape(-1, 3).astype(np.float32)
    alone = np.arange(len(soup), dtype=np.int32).reshape(-1, 3)
    assert np.allclose(corner_normals(soup, alone), corner_normals(vertices.astype(np.float32), faces), atol=1e-5)


def test_places_are_told_apart_exactly() -> None:
    rng = np.random.default_rng(0)
    places = rng.normal(size=(5000, 3)).astype(np.float32)
    twice = np.concatenate([places, places[::-1], -0.0 * places[:1], 0.0 * places[:1]])
    numbers = same_places(twice)
    assert (numbers[:5000] == numbers[5000:10000][::-1]).all()
    assert numbers[-1] == numbers[-2]
    assert len(np.unique(numbers)) == 5001
