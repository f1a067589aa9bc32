"""Mesh files as people really have them: drawn as an independent reading of the same surface is drawn."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import meshes
import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image
from scenes import CASES

from outcrop.render.geometry import Shape, load
from outcrop.render.views import ViewSpec, draw_views
from outcrop.schema.errors import MeshError

SPEC = ViewSpec(views=4, size=160, layout="sphere")

Picture = NDArray[np.uint8]


def drawn(path: Path) -> Picture:
    return draw_views(load(path), SPEC)


def difference(one: Picture, other: Picture) -> tuple[float, float]:
    """How far two sets of views agree: intersection over union of the worst silhouette, and the mean difference of greys."""
    silhouettes = [(views != 255).any(axis=-1) for views in (one, other)]
    both, either = (
        combined.sum(axis=(1, 2)) for combined in (silhouettes[0] & silhouettes[1], silhouettes[0] | silhouettes[1])
    )
    return float((both / either).min()), float(np.abs(one.astype(int) - other).mean())


def same(path: Path, reference: Path) -> None:
    overlap, grey = difference(drawn(path), drawn(reference))
    assert overlap > 0.999 and grey < 0.05, (path.name, overlap, grey)


def relief() -> tuple[meshes.Vertices, meshes.Faces]:
    """A bumpy ball, finely divided: rounding of its coordinates shows at once."""
    return meshes.ball(4, (1, 0.7, 0.5), bumps=7)


def double_ply(vertices: meshes.Vertices, faces: meshes.Faces) -> bytes:
    return (
        meshes.ply(vertices, faces).split(b"element face")[0].replace(b"float", b"double").split(b"end_header")[0]
        + meshes.ply(vertices, faces)[meshes.ply(vertices, faces).index(b"element face") :].split(b"end_header\n")[0]
        + b"end_header\n"
        + vertices.astype("<f8").tobytes()
        + meshes.ply(vertices, faces).split(b"end_header\n", 1)[1][12 * len(vertices) :]
    )


def text(vertices: meshes.Vertices, faces: meshes.Faces, ending: str) -> bytes:
    """A mesh as text with all digits of its coordinates."""
    places = [" ".join(repr(float(value)) for value in vertex) for vertex in vertices]
    match ending:
        case "obj":
            lines = [f"v {place}" for place in places] + [f"f {a} {b} {c}" for a, b, c in faces + 1]
        case "off":
            lines = ["OFF", f"{len(places)} {len(faces)} 0", *places, *(f"3 {a} {b} {c}" for a, b, c in faces)]
        case "stl":
            facet = "facet normal 0 0 0\nouter loop\nvertex {}\nvertex {}\nvertex {}\nendloop\nendfacet"
            lines = ["solid far", *(facet.format(*(places[n] for n in face)) for face in faces), "endsolid far"]
        case _:
            head = meshes.ply(vertices, faces, "ascii").split(b"end_header\n")[0].decode().replace("float", "double")
            lines = [f"{head}end_header", *places, *(f"3 {a} {b} {c}" for a, b, c in faces)]
    return ("\n".join(lines) + "\n").encode()


# Coordinates far from the origin


@pytest.mark.parametrize("ending", ["obj", "off", "stl", "ply"])
@pytest.mark.parametrize("size", [10.0, 2.0])
def test_far_coordinates_are_drawn_as_near_ones(tmp_path: Path, ending: str, size: float) -> None:
    vertices, faces = relief()
    (tmp_path / "near.ply").write_bytes(double_ply(vertices, faces))
    offset = np.array([500_000.0, 4_649_776.0, 120.0])
    (tmp_path / f"far.{ending}").write_bytes(text(vertices * size / 2 + offset, faces, ending))
    same(tmp_path / f"far.{ending}", tmp_path / "near.ply")
    shape = load(tmp_path / f"far.{ending}")
    assert np.allclose(shape.offset, offset, atol=size) and np.abs(shape.vertices).max() <= size


def test_far_coordinates_in_32_bits_are_said_to_be_coarse(tmp_path: Path) -> None:
    vertices, faces = relief()
    (tmp_path / "far.ply").write_bytes(meshes.ply(vertices * 5 + [500_000, 4_649_776, 0], faces))
    (remark,) = load(tmp_path / "far.ply").remarks
    assert "32-bit numbers" in remark and "steps of 0.5" in remark and "export it" in remark
    (tmp_path / "far.ply").write_bytes(double_ply(vertices * 5 + [500_000, 4_649_776, 0], faces))
    assert load(tmp_path / "far.ply").remarks == ()


# The text of OBJ files


def unread(lines: list[str]) -> str:
    """Lines continued after backslashes, in the middle of words' gaps."""
    return "\n".join(line.replace(" ", " \\\n", 2) for line in lines)


def with_paths(lines: list[str]) -> str:
    """Comments that end in a backslash, beside a line that is continued."""
    last = lines[-1].replace(" ", " \\\n", 1)
    return "\n".join(["# C:\\scans\\", *(f"{line} # D:\\" for line in lines[:-1]), last])


OBJ_TEXTS: dict[str, Callable[[list[str]], bytes]] = {
    "tabs": lambda lines: "\n".join(line.replace(" ", "\t") for line in lines).encode(),
    "mark": lambda lines: b"\xef\xbb\xbf" + "\n".join(lines).encode(),
    "comments": lambda lines: "\n".join(f"{line} # a comment" for line in lines).encode(),
    "close comments": lambda lines: "\n".join(f"{line}# 1 2 3" for line in lines).encode(),
    "windows": lambda lines: "\r\n".join(lines).encode(),
    "old mac": lambda lines: "\r".join(lines).encode(),
    "continued": lambda lines: unread(lines).encode(),
    "continued windows": lambda lines: unread(lines).replace("\n", "\r\n").encode(),
    "paths in comments": lambda lines: with_paths(lines).encode(),
    "utf-16": lambda lines: "\n".join(lines).encode("utf-16"),
    "utf-16 without a mark": lambda lines: "\r\n".join(lines).encode("utf-16-le"),
    "utf-16 big": lambda lines: b"\xfe\xff" + "\n".join(lines).encode("utf-16-be"),
    "indented": lambda lines: "\n".join(f"  \t{line}  " for line in lines).encode(),
    "normals": lambda lines: "\n".join(["vn 0 0 1", *(_cornered(line, "{0}//1") for line in lines)]).encode(),
    "coordinates": lambda lines: "\n".join(["vt 0 0", *(_cornered(line, "{0}/1") for line in lines)]).encode(),
    "both": lambda lines: "\n".join(["vt 0 0", "vn 0 0 1", *(_cornered(line, "{0}/1/1") for line in lines)]).encode(),
    "weights": lambda lines: "\n".join(f"{line} 1.0" if line[0] == "v" else line for line in lines).encode(),
    "grouped": lambda lines: "\n".join(["o thing", "g part", "s off", *lines, "l 1 2", "usemtl none"]).encode(),
}


def _cornered(line: str, form: str) -> str:
    keyword, *words = line.split()
    return " ".join([keyword, *(form.format(word) for word in words)]) if keyword == "f" else line


@pytest.mark.parametrize("name", OBJ_TEXTS)
def test_an_obj_is_read_however_it_is_written(tmp_path: Path, name: str) -> None:
    vertices, faces = meshes.ball(2, bumps=5)
    lines = meshes.obj(vertices, faces).decode().splitlines()
    (tmp_path / "plain.obj").write_text("\n".join(lines))
    (tmp_path / "other.obj").write_bytes(OBJ_TEXTS[name](lines))
    plain, other = load(tmp_path / "plain.obj"), load(tmp_path / "other.obj")
    assert np.array_equal(plain.vertices, other.vertices) and np.array_equal(plain.faces, other.faces)
    assert np.allclose(plain.vertices, vertices, atol=1e-6) and np.array_equal(plain.faces, faces)


def test_mixed_corners_and_backward_indices(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3/1 -2//1 -1\nvt 0 0\nvn 0 0 1\nv 0 1 0\nf 1 3/1/1 -1/-1\nf 1/ 2/ 4/\n"
    )
    assert load(tmp_path / "a.obj").faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 3]]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("v,1,2,3", "cannot be read"),
        ("1 2 3", "cannot be read"),
        ("f 1 2 x", "'x' among its numbers"),
        ("f 1 2 3.5", "not whole"),
        ("f 1/2/3/4 2 3", "'1/2/3/4' cannot be read"),
        ("f /1 2 3", "'/1' cannot be read"),
        ("f -1 -2 -9999", "counts back beyond"),
        ("v 1 2 1_0", "'1_0' among its numbers"),
    ],
)
def test_no_line_of_an_obj_is_overlooked(tmp_path: Path, line: str, said: str) -> None:
    data = meshes.obj(*meshes.box())
    (tmp_path / "a.obj").write_bytes(data + line.encode() + b"\n")
    with pytest.raises(MeshError, match=said):
        load(tmp_path / "a.obj")


def test_obj_point_clouds_are_drawn_as_the_same_points_in_ply(tmp_path: Path) -> None:
    points = meshes.ball(4, (1, 0.8, 0.6), bumps=5)[0]
    (tmp_path / "a.ply").write_bytes(meshes.cloud_ply(points.astype(np.float32)))
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in points.astype(np.float32)]
    (tmp_path / "bare.obj").write_text("\n".join(lines))
    named = " ".join(str(n + 1) for n in range(len(points)))
    (tmp_path / "points.obj").write_text("\n".join([*lines, "v 50 50 50", f"p {named}"]))
    for name in ("bare.obj", "points.obj"):
        assert load(tmp_path / name).is_cloud
        same(tmp_path / name, tmp_path / "a.ply")


# Polygons


def prism(outline: NDArray[np.float64]) -> tuple[meshes.Vertices, list[list[int]], float]:
    """A flat prism over an outline that runs counterclockwise, its polygons, and its surface's area by hand."""
    count = len(outline)
    bottom, top = np.insert(outline, 2, -0.1, axis=1), np.insert(outline, 2, 0.1, axis=1)
    sides = [[n, (n + 1) % count, (n + 1) % count + count, n + count] for n in range(count)]
    edges = np.roll(outline, -1, axis=0) - outline
    after = np.roll(outline, -1, axis=0)
    inside = abs((outline[:, 0] * after[:, 1] - outline[:, 1] * after[:, 0]).sum()) / 2
    polygons = [list(range(count))[::-1], list(range(count, 2 * count)), *sides]
    return np.concatenate([bottom, top]), polygons, float(2 * inside + 0.2 * np.linalg.norm(edges, axis=1).sum())


def star(points: int, inner: float) -> NDArray[np.float64]:
    angle = np.pi * np.arange(2 * points) / points
    radius = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


OUTLINES = {
    "L": np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2.0]]),
    "arrow": np.array([[0, 0], [2, 1], [0, 2], [0.7, 1.0]]),
    "star": star(5, 0.35),
    "comb": np.array([[0, 0], [9, 0], *((9 - n / 2, 3 if n // 2 % 2 else 1) for n in range(18)), [0, 3.0]]),
    "hundred": star(50, 0.8),
    "regular": star(6, 1.0),
}


def polygon_file(vertices: meshes.Vertices, polygons: list[list[int]], ending: str) -> bytes:
    places = [" ".join(repr(float(value)) for value in vertex) for vertex in vertices]
    counted = [" ".join(map(str, [len(corners), *corners])) for corners in polygons]
    match ending:
        case "obj":
            lines = [f"v {place}" for place in places]
            lines += ["f " + " ".join(str(corner + 1) for corner in corners) for corners in polygons]
        case "off":
            lines = ["OFF", f"{len(places)} {len(polygons)} 0", *places, *counted]
        case _:
            head = "ply\nformat {} 1.0\nelement vertex {}\nproperty double x\nproperty double y\nproperty double z\n"
            head += "element face {}\nproperty list uchar int vertex_indices\nend_header"
            if ending == "ply":
                body = vertices.astype("<f8").tobytes()
                body += b"".join(struct.pack(f"<B{len(corners)}i", len(corners), *corners) for corners in polygons)
                return head.format("binary_little_endian", len(places), len(polygons)).encode() + b"\n" + body
            lines = [head.format("ascii", len(places), len(polygons)), *places, *counted]
    return ("\n".join(lines) + "\n").encode()


def areas(shape: Shape) -> NDArray[np.float64]:
    corners = shape.vertices[shape.faces].astype(np.float64)
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing: NDArray[np.float64] = crosses[:, 2] / 2
    return np.stack([np.linalg.norm(crosses, axis=1) / 2, facing], axis=1)


@pytest.mark.parametrize("ending", ["obj", "off", "ply", "text.ply"])
@pytest.mark.parametrize("name", OUTLINES)
@pytest.mark.parametrize("turned", [False, True])
def test_polygons_are_filled_as_far_as_they_go(tmp_path: Path, ending: str, name: str, turned: bool) -> None:
    vertices, polygons, area = prism(OUTLINES[name])
    if turned:
        polygons = [corners[::-1] for corners in polygons]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(polygon_file(vertices, polygons, ending))
    shape = load(path)
    found = areas(shape)
    assert len(shape.faces) == sum(len(corners) - 2 for corners in polygons)
    assert found[:, 0].sum() == pytest.approx(area, rel=1e-5)  # a fan over a notch covers more
    # Every triangle keeps the side of its polygon: top and bottom face opposite ways throughout.
    flat = np.abs(found[:, 1]) > 1e-9
    top = shape.vertices[shape.faces][:, :, 2].mean(axis=1) > 0
    assert (np.sign(found[flat, 1]) == np.where(top[flat], 1, -1) * (-1 if turned else 1)).all()


def test_a_concave_polygon_far_away_and_on_a_slope(tmp_path: Path) -> None:
    vertices, polygons, area = prism(OUTLINES["star"])
    axes = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    (tmp_path / "a.obj").write_bytes(polygon_file(vertices @ axes.T + [5e5, 4e6, 100], polygons, "obj"))
    assert areas(load(tmp_path / "a.obj"))[:, 0].sum() == pytest.approx(area, rel=1e-5)


# Colours


def coloured_ply(kind: str, colours: NDArray[np.float64], encoding: str = "binary_little_endian") -> bytes:
    """The ball with colours of its vertices in a type of PLY's."""
    vertices, faces = meshes.ball(2)
    numpy_type = {"uchar": "u1", "ushort": "<u2", "uint": "<u4", "int": "<i4", "float": "<f4", "double": "<f8"}[kind]
    head, body = meshes.ply(vertices, faces, encoding).split(b"end_header\n", 1)
    names = "".join(f"property {kind} {name}\n" for name in ("red", "green", "blue")).encode()
    head = head.replace(b"property float z\n", b"property float z\n" + names)
    if encoding == "ascii":
        rows = body.decode().splitlines()
        for n, colour in enumerate(colours):
            rows[n] += " " + " ".join(f"{value:g}" for value in colour)
        return head + b"end_header\n" + ("\n".join(rows) + "\n").encode()
    table = np.empty(len(vertices), np.dtype([("place", "<f4", 3), ("colour", numpy_type, 3)]))
    table["place"], table["colour"] = vertices, colours
    return head + b"end_header\n" + table.tobytes() + body[12 * len(vertices) :]


@pytest.mark.parametrize(
    ("kind", "scale", "remark"),
    [
        ("uchar", 255, ""),
        ("float", 1, ""),
        ("double", 1, ""),
        ("float", 255, "read as 0 to 255"),
        ("double", 65535, "read as 0 to 65535"),
        ("ushort", 65535, ""),
        ("ushort", 255, "read as 0 to 255"),
        ("uint", 255, "read as 0 to 255"),
        ("int", 65535, "read as 0 to 65535"),
    ],
)
@pytest.mark.parametrize("encoding", ["binary_little_endian", "ascii"])
def test_colours_mean_the_same_in_every_type(
    tmp_path: Path, kind: str, scale: float, remark: str, encoding: str
) -> None:
    base = np.random.default_rng(0).integers(0, 256, (162, 3)) / 255
    colours = base * scale if kind in ("float", "double") else np.rint(base * scale)
    (tmp_path / "a.ply").write_bytes(coloured_ply(kind, colours, encoding))
    shape = load(tmp_path / "a.ply")
    assert shape.colours is not None and np.abs(shape.colours - base * 255).max() <= 1
    assert [remark in said for said in shape.remarks] == ([True] if remark else [])


def test_colours_of_an_obj_from_0_to_255_and_from_0_to_1(tmp_path: Path) -> None:
    vertices, faces = meshes.ball(2)
    colours = np.random.default_rng(0).integers(0, 256, (len(vertices), 3))
    for name, scale in (("bytes", 1), ("fractions", 255)):
        rows = np.hstack([vertices, colours / scale])
        lines = ["v " + " ".join(f"{value:.7g}" for value in row) for row in rows]
        lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
        (tmp_path / f"{name}.obj").write_text("\n".join(lines))
        shape = load(tmp_path / f"{name}.obj")
        assert shape.colours is not None and np.abs(shape.colours - colours).max() <= 1, name
        assert len(shape.remarks) == (name == "bytes")


@pytest.mark.parametrize("face", [False, True])
@pytest.mark.parametrize("scale", [1, 255])
def test_colours_of_an_off(tmp_path: Path, face: bool, scale: int) -> None:
    vertices, faces = meshes.box()
    red, blue = [255 / scale, 0.0, 0.0], [0.0, 0.0, 255 / scale]
    form = (lambda c: " ".join(f"{v:.1f}" for v in c)) if scale == 255 else (lambda c: " ".join(f"{v:.0f}" for v in c))
    rows = [" ".join(map(str, v)) + ("" if face else " " + form(red if v[0] else blue)) for v in vertices]
    right = (vertices[faces][:, :, 0] == 1).all(axis=1)
    rows += [
        f"3 {a} {b} {c}" + (" " + form(red if r else blue) if face else "")
        for (a, b, c), r in zip(faces, right, strict=True)
    ]
    (tmp_path / "a.off").write_text("\n".join([f"{'' if face else 'C'}OFF", "8 12 0", *rows]))
    shape = load(tmp_path / "a.off")
    assert shape.colours is not None
    of_faces = shape.colours[shape.faces].reshape(12, 9)
    assert (of_faces[right] == [255, 0, 0] * 3).all()
    left = (vertices[faces][:, :, 0] == 0).all(axis=1)
    assert (of_faces[left] == [0, 0, 255] * 3).all()


def coloured_stl(bits: NDArray[np.uint16], header: bytes = b"") -> bytes:
    data = meshes.stl(*meshes.box())
    table = np.frombuffer(data, np.dtype([("floats", "<f4", 12), ("bits", "<u2")]), 12, 84).copy()
    table["bits"] = bits
    return header.ljust(80, b" ") + data[80:84] + table.tobytes()


RED, GREEN, BLUE = 31, 31 << 5, 31 << 10


@pytest.mark.parametrize(
    ("bits", "header", "expected"),
    [
        ([RED, GREEN, BLUE] * 4, b"COLOR=\xff\xff\xff\xff,MATERIAL=", [(255, 0, 0), (0, 255, 0), (0, 0, 255)] * 4),
        ([0x8000, GREEN] * 6, b"made COLOR=\x0a\x14\x1e\xff", [(10, 20, 30), (0, 255, 0)] * 6),
        ([0x8000] * 12, b"COLOR=\xc8\x1e\x1e\xff", [(200, 30, 30)] * 12),
        ([0x8000 | RED, 0x8000 | BLUE] * 6, b"VisCAM", [(0, 0, 255), (255, 0, 0)] * 6),
        ([0x8000 | GREEN, 0] * 6, b"", [(0, 255, 0), (204, 204, 204)] * 6),
        ([0] * 12, b"", None),
        ([7] * 12, b"no colours", None),
        ([0] * 12, b"COLOR=\xff\xff\xff\xff", None),
    ],
)
def test_colours_of_an_stl(tmp_path: Path, bits: list[int], header: bytes, expected: list[tuple[int, ...]]) -> None:
    (tmp_path / "a.stl").write_bytes(coloured_stl(np.array(bits, np.uint16), header))
    shape = load(tmp_path / "a.stl")
    if expected is None:
        assert shape.colours is None and shape.remarks == ()
    else:
        assert shape.colours is not None and len(shape.remarks) == 1
        assert shape.colours[shape.faces].tolist() == [[list(colour)] * 3 for colour in expected]


# Other spellings of the same mesh


def box_as(head: str, vertex: str, face: str) -> str:
    """A box as text; `vertex` and `face` are formatted with three numbers each."""
    vertices, faces = meshes.box()
    body = [
        *(vertex.format(*place) for place in vertices.tolist()),
        *(face.format(*corners) for corners in faces.tolist()),
    ]
    return head.format(len(vertices), len(faces)) + "".join(body)


FACES_FIRST = (
    "ply\nformat ascii 1.0\nelement face {1}\nproperty list uchar int vertex_indices\nelement vertex {0}\n"
    "property float x\nproperty float y\nproperty float z\nend_header\n"
)
LIST_FIRST = (
    "ply\nformat ascii 1.0\nelement vertex {}\nproperty list uchar float tracks\nproperty float x\nproperty float y\n"
    "property list uchar int seen\nproperty float z\nelement face {}\nproperty list uchar int vertex_indices\nend_header\n"
)
SPELLINGS: dict[str, str] = {
    "a.off": box_as("{} {} 0\n", "{} {} {}\n", "3 {} {} {}\n"),
    "b.off": box_as("# by hand\n\n{} {}\n", "{} {} {}\n", "3 {} {} {}\n"),
    "c.off": box_as("off\n{} {} 0\n", "{} {} {}\n", "3 {} {} {}\n"),
    "d.off": box_as("OFF {} {} 0\r", "{} {} {}\r", "3 {} {} {}\r"),
    "a.ply": box_as(LIST_FIRST, "2 8 9 {} {} 1 7 {}\n", "3 {} {} {}\n"),
    "b.ply": box_as(LIST_FIRST.replace("\n", "\r"), "0 {} {} 0 {}\r", "3 {} {} {}\r"),
    "c.ply": box_as(
        LIST_FIRST.replace(" x\n", " X\n").replace(" y\n", " Y\n").replace(" z\n", " Z\n"),
        "0 {} {} 0 {} ",
        "3 {} {} {} ",
    ),
}


@pytest.mark.parametrize("name", sorted(SPELLINGS))
def test_other_spellings_are_drawn_alike(tmp_path: Path, name: str) -> None:
    (tmp_path / "box.ply").write_bytes(meshes.ply(*meshes.box()))
    (tmp_path / name).write_bytes(SPELLINGS[name].encode())
    same(tmp_path / name, tmp_path / "box.ply")


def test_faces_may_stand_before_their_vertices(tmp_path: Path) -> None:
    vertices, faces = meshes.box()
    lines = [*("3 {} {} {}".format(*face) for face in faces), *("{} {} {}".format(*place) for place in vertices)]
    (tmp_path / "box.ply").write_bytes(meshes.ply(vertices, faces))
    (tmp_path / "first.ply").write_text(FACES_FIRST.format(len(vertices), len(faces)) + "\n".join(lines))
    same(tmp_path / "first.ply", tmp_path / "box.ply")


def test_keywords_of_an_obj_in_capitals_are_no_lines_to_be_overlooked(tmp_path: Path) -> None:
    lines = box_as("", "v {} {} {}\n", "f {} {} {}\n").splitlines()
    vertices = [line for line in lines if line[0] == "v"]
    faces = ["F " + " ".join(str(int(word) + 1) for word in line.split()[1:]) for line in lines if line[0] == "f"]
    mixed = [line.upper() if number % 2 else line for number, line in enumerate(vertices)]
    (tmp_path / "box.ply").write_bytes(meshes.ply(*meshes.box()))
    (tmp_path / "mixed.obj").write_text("\n".join([*mixed, *faces]))
    same(tmp_path / "mixed.obj", tmp_path / "box.ply")


# Textures


BOX_OBJ = "vt 0 0\nvt 1 0\nvt 0 1\nusemtl m\n"


def textured_box(folder: Path, library: bytes, named: bytes = b"a.mtl") -> Shape:
    vertices, faces = meshes.box()
    (folder / "a.mtl").write_bytes(library)
    lines = [f"v {x:g} {y:g} {z:g}" for x, y, z in vertices]
    lines += [f"f {a}/1 {b}/2 {c}/3" for a, b, c in faces + 1]
    head, tail = BOX_OBJ.encode(), "\n".join(lines).encode()
    (folder / "a.obj").write_bytes(b"mtllib " + named + b"\n" + head + tail)
    return load(folder / "a.obj")


def red(path: Path) -> Path:
    Image.new("RGB", (2, 2), (255, 0, 0)).save(path)
    return path


@pytest.mark.parametrize(
    "line",
    [
        "map_Kd red.png",
        "map_kd   red.png  ",
        "map_Kd -s 1 1 1 -o 0 0 0 red.png",
        "map_Kd -blendu on -mm 0 1 -clamp off -s 2 2 2 -bm 0.5 red.png",
        "map_Kd -o 0.5 -t 0 0 red.png",
        "\tmap_Kd\t-s 1.0 1.0 1.0\tred.png",
        "map_Kd RED.PNG",
        'map_Kd "red.png"',
        "map_Kd textures\\..\\red.png",
        "map_Kd red.png # the skin",
        "map_Kd -s 1 1 1 red.png\t# the skin",
        "map_Kd 'red.png'",
        "map_Kd -colorspace sRGB red.png",
        "map_Kd -s 1 1 1 \\\n red.png",
        "# C:\\scans\\\nmap_Kd red.png",
        "MAP_KD red.png",
    ],
)
def test_a_material_names_its_texture_in_many_ways(tmp_path: Path, line: str) -> None:
    red(tmp_path / "red.png")
    (tmp_path / "textures").mkdir()
    shape = textured_box(tmp_path, f"newmtl m\nKd 1 1 1\n{line}\n".encode())
    assert [texture.tolist() for texture in shape.textures] == [[[[255, 0, 0]] * 2] * 2] and shape.remarks == ()
    assert shape.texture_of is not None and (shape.texture_of == 0).all()


@pytest.mark.parametrize(
    ("name", "encoding"), [("빨강", "cp949"), ("빨강", "euc-kr"), ("あか 赤", "shift-jis"), ("빨강", "utf-8")]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_other_encodings_and_forms(tmp_path: Path, name: str, encoding: str, form: str) -> None:
    import unicodedata

    red(tmp_path / unicodedata.normalize(form, f"{name}.png"))
    shape = textured_box(tmp_path, b"newmtl m\nmap_Kd " + f"{name}.png".encode(encoding) + b"\n")
    assert len(shape.textures) == 1 and shape.remarks == ()


def test_a_texture_lies_beside_its_library_or_the_mesh(tmp_path: Path) -> None:
    (tmp_path / "skins").mkdir()
    red(tmp_path / "skins/red.png")
    textured_box(tmp_path, b"")
    (tmp_path / "skins/a.mtl").write_bytes(b"newmtl m\nmap_Kd -s 1 1 1 red.png\n")
    data = (tmp_path / "a.obj").read_bytes().replace(b"a.mtl", b"skins\\a.mtl")
    (tmp_path / "a.obj").write_bytes(data)
    assert len(load(tmp_path / "a.obj").textures) == 1
    red(tmp_path / "two words.png")
    assert len(textured_box(tmp_path, b"newmtl m\nmap_Kd -clamp on two words.png\n").textures) == 1


def test_a_number_sign_may_be_part_of_a_name(tmp_path: Path) -> None:
    red(tmp_path / "skin #2.png")
    Image.new("RGB", (2, 2), (0, 0, 255)).save(tmp_path / "skin", "PNG")
    shape = textured_box(tmp_path, b"newmtl m\nmap_Kd skin #2.png\n")
    assert shape.textures[0][0, 0].tolist() == [255, 0, 0] and shape.remarks == ()


def test_a_library_with_a_comment_behind_its_name(tmp_path: Path) -> None:
    red(tmp_path / "red.png")
    shape = textured_box(tmp_path, b"newmtl m\nmap_Kd red.png\n", named=b"a.mtl # of the scanner")
    assert len(shape.textures) == 1 and shape.remarks == ()


def test_scale_and_offset_of_a_texture(tmp_path: Path) -> None:
    red(tmp_path / "red.png")
    plain = textured_box(tmp_path, b"newmtl m\nmap_Kd red.png\n")
    moved = textured_box(tmp_path, b"newmtl m\nmap_Kd -s 2 4 1 -o 0.25 0.5 0 red.png\n")
    assert plain.uv is not None and moved.uv is not None
    assert np.allclose(moved.uv, plain.uv * [2, 4] + [0.25, 0.5])


def test_a_texture_with_damaged_pixels_is_not_laid_on(tmp_path: Path) -> None:
    data = bytearray(red(tmp_path / "red.png").read_bytes())
    data[data.index(b"IDAT") + 6] ^= 1
    (tmp_path / "red.png").write_bytes(data)
    shape = textured_box(tmp_path, b"newmtl m\nmap_Kd red.png\n")
    assert shape.textures == () and "it is damaged (the checksum of IDAT" in shape.remarks[0]


def test_two_files_that_differ_by_case_alone_are_told_apart_or_none_is_taken(tmp_path: Path) -> None:
    red(tmp_path / "Skin.png")
    Image.new("RGB", (2, 2), (0, 0, 255)).save(tmp_path / "SKIN.png")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not distinguish case")
    assert textured_box(tmp_path, b"newmtl m\nmap_Kd Skin.png\n").textures[0][0, 0].tolist() == [255, 0, 0]
    shape = textured_box(tmp_path, b"newmtl m\nmap_Kd skin.png\n")
    assert shape.textures == () and "is drawn without 'skin.png'" in shape.remarks[0]


def test_colours_of_materials(tmp_path: Path) -> None:
    """Two of them show; one alone says nothing, and colours of vertices say more."""
    vertices, faces = meshes.box()
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl blue sky\nKd 0 0 1\n")
    rows = [f"f {a} {b} {c}" for a, b, c in faces + 1]
    places = [f"v {x:g} {y:g} {z:g}" for x, y, z in vertices]
    head = ["mtllib a.mtl", *places]
    (tmp_path / "two.obj").write_text("\n".join([*head, "usemtl red", *rows[:4], "usemtl blue sky", *rows[4:]]))
    two = load(tmp_path / "two.obj")
    assert two.colours is not None
    assert two.colours[two.faces][:, 0].tolist() == [[255, 0, 0]] * 4 + [[0, 0, 255]] * 8
    (tmp_path / "one.obj").write_text("\n".join([*head, "usemtl red", *rows]))
    assert load(tmp_path / "one.obj").colours is None
    own = [f"{place} 0 1 0" for place in places]
    (tmp_path / "own.obj").write_text("\n".join([head[0], *own, "usemtl red", *rows[:4], "usemtl blue sky", *rows[4:]]))
    shape = load(tmp_path / "own.obj")
    assert shape.colours is not None and (shape.colours == [0, 255, 0]).all()


@pytest.mark.parametrize("form", ["I;16.png", "I;16.tif", "I.tif", "F.tif", "RGB16.png"])
def test_textures_of_16_bits_are_scaled(tmp_path: Path, form: str) -> None:
    mode, ending = form.split(".")
    path = tmp_path / f"deep.{ending}"
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    match mode:
        case "RGB16":
            import cv2

            cv2.imwrite(str(path), np.repeat(ramp.astype(np.uint16)[..., None], 3, axis=2))
        case "F":
            Image.fromarray((ramp / 65535).astype(np.float32)).save(path)
        case "I":
            Image.fromarray(ramp.astype(np.int32)).save(path)
        case _:
            Image.fromarray(ramp.astype(np.uint16)).save(path)
    shape = textured_box(tmp_path, f"newmtl m\nmap_Kd {path.name}\n".encode())
    assert np.abs(shape.textures[0].astype(float) - (ramp / 257)[..., None]).max() <= 1


def several_textures(
    numbers: list[int], names: tuple[str, ...] = ("red.png", "blue.png"), stated: bool = True
) -> bytes:
    vertices, faces = meshes.box()
    lines = ["ply", "format ascii 1.0", *(f"comment TextureFile {name}" for name in names), "element vertex 8"]
    lines += [f"property float {axis}" for axis in "xyz"] + [
        "element face 12",
        "property list uchar int vertex_indices",
    ]
    lines += ["property list uchar float texcoord", *(["property int texnumber"] if stated else []), "end_header"]
    lines += [f"{x:g} {y:g} {z:g}" for x, y, z in vertices]
    lines += [
        f"3 {a} {b} {c} 6 0 0 1 0 0 1" + (f" {number}" if stated else "")
        for (a, b, c), number in zip(faces, numbers, strict=True)
    ]
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_textures_of_a_ply_with_korean_names(tmp_path: Path, encoding: str) -> None:
    red(tmp_path / "빨강 1.png")
    data = several_textures([0] * 12, ("NAME",)).replace(b"NAME", "빨강 1.png".encode(encoding))
    (tmp_path / "a.ply").write_bytes(data)
    shape = load(tmp_path / "a.ply")
    assert len(shape.textures) == 1 and shape.remarks == ()


def test_several_textures_of_a_ply(tmp_path: Path) -> None:
    red(tmp_path / "red.png")
    Image.new("RGB", (2, 2), (0, 0, 255)).save(tmp_path / "blue.png")

    def read(data: bytes) -> tuple[list[list[int]], tuple[str, ...]]:
        (tmp_path / "a.ply").write_bytes(data)
        shape = load(tmp_path / "a.ply")
        shown = [t[0, 0].tolist() for t in shape.textures]
        numbers = shape.texture_of if shape.texture_of is not None else np.full(12, -1)
        return [shown[n] if n >= 0 else [] for n in numbers], shape.remarks

    alternately = [0, 1] * 6
    assert read(several_textures(alternately)) == ([[255, 0, 0], [0, 0, 255]] * 6, ())
    shown, remarks = read(several_textures([1, 2] * 6))
    assert shown == [[255, 0, 0], [0, 0, 255]] * 6 and "counts from 1" in remarks[0]
    shown, remarks = read(several_textures([0, 7] * 6))
    assert shown == [[255, 0, 0], []] * 6 and "6 faces name a texture" in remarks[0]
    shown, remarks = read(several_textures(alternately, ("red.png", "lost.png")))
    assert shown == [[255, 0, 0], []] * 6 and "is drawn without 'lost.png'" in remarks[0]
    shown, remarks = read(several_textures(alternately, stated=False))
    assert shown == [[255, 0, 0]] * 12 and "no texnumber" in remarks[0]


# Odd but sound, and damaged


def test_long_lists_and_polygons_in_a_ply(tmp_path: Path) -> None:
    vertices, faces = meshes.ball(2)
    plain = meshes.ply(vertices, faces)
    for count in (32, 128, 255):
        head, body = plain.split(b"end_header\n", 1)
        head += b"element track 2\nproperty uchar id\nproperty list uint float descriptor\nend_header\n"
        rows = b"".join(struct.pack(f"<BI{n}f", 1, n, *range(n)) for n in (count, count + 1))
        (tmp_path / "a.ply").write_bytes(head + body + rows)
        assert len(load(tmp_path / "a.ply").faces) == len(faces)


def test_an_stl_may_have_any_name(tmp_path: Path) -> None:
    data = meshes.stl_text(*meshes.box())
    for name in (b"vertex model", b"facet normal endfacet", b"a solid vertex", "정점 vertex".encode(), b""):
        (tmp_path / "a.stl").write_bytes(data.replace(b"solid test", b"solid " + name))
        assert len(load(tmp_path / "a.stl").faces) == 12
    one_line = b" ".join(data.split())
    (tmp_path / "a.stl").write_bytes(one_line)
    assert len(load(tmp_path / "a.stl").faces) == 12
    (tmp_path / "a.stl").write_bytes(data + data.replace(b"test", b"second"))
    assert len(load(tmp_path / "a.stl").faces) == 24


def test_text_files_in_utf_16_and_odd_heads_of_off_files(tmp_path: Path) -> None:
    vertices, faces = meshes.box()
    for name, data in {
        "a.ply": meshes.ply(vertices, faces, "ascii"),
        "a.stl": meshes.stl_text(vertices, faces),
        "a.off": meshes.off(vertices, faces),
    }.items():
        (tmp_path / name).write_bytes(data.decode().encode("utf-16"))
        assert len(load(tmp_path / name).faces) == 12, name
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + data)
        assert len(load(tmp_path / name).faces) == 12, name
    (tmp_path / "a.off").write_bytes(meshes.off(vertices, faces).replace(b"OFF\n", b"OFF"))
    assert len(load(tmp_path / "a.off").faces) == 12  # as in the files of ModelNet
    rows = meshes.off(vertices, faces).decode().splitlines()
    for values, coloured in ((" 10 20 30", True), (" 0 0 -1", False)):
        (tmp_path / "a.off").write_text("\n".join([*rows[:2], *(row + values for row in rows[2:10]), *rows[10:]]))
        shape = load(tmp_path / "a.off")
        assert (shape.colours is not None) == coloured and len(shape.remarks) == 2 * coloured


@pytest.mark.parametrize("name", ["a.ply", "text.ply", "a.stl", "a.off"])
def test_impossible_counts_are_damage(tmp_path: Path, name: str) -> None:
    claimed = 4_294_967_169
    vertices, faces = meshes.box()
    data = {
        "a.ply": meshes.ply(vertices, faces).replace(b"vertex 8", b"vertex %d" % claimed),
        "text.ply": meshes.ply(vertices, faces, "ascii").replace(b"face 12", b"face %d" % claimed),
        "a.stl": meshes.stl(vertices, faces)[:80] + struct.pack("<I", claimed) + meshes.stl(vertices, faces)[84:],
        "a.off": meshes.off(vertices, faces).replace(b"8 12", b"%d 12" % claimed),
    }[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MeshError, match=r"claims .*4,294,967,169.*cut short") as refused:
        load(tmp_path / name)
    assert "simplify" not in str(refused.value)


def test_more_than_a_header_declares_is_left_out_and_said(tmp_path: Path) -> None:
    vertices, faces = meshes.box()
    for name, data in {
        "a.ply": meshes.ply(vertices, faces).replace(b"face 12", b"face 11"),
        "b.ply": meshes.ply(vertices, faces, "ascii").replace(b"face 12", b"face 11"),
        "a.off": meshes.off(vertices, faces).replace(b"8 12", b"8 11"),
    }.items():
        (tmp_path / name).write_bytes(data)
        shape = load(tmp_path / name)
        assert len(shape.faces) == 11 and "follow after what its header declares" in shape.remarks[0], name


def test_gaussian_splats_have_their_base_colours(tmp_path: Path) -> None:
    points = meshes.ball(3)[0]
    colours = np.random.default_rng(1).uniform(0, 1, (len(points), 3))
    harmonics = (colours - 0.5) / (0.5 / np.sqrt(np.pi))  # the constant harmonic is 1 / (2 sqrt(pi))
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{n}" for n in range(3)), *(f"f_rest_{n}" for n in range(45))]
    names += ["opacity", *(f"scale_{n}" for n in range(3)), *(f"rot_{n}" for n in range(4))]
    table = np.zeros((len(points), len(names)), "<f4")
    table[:, :3], table[:, 6:9] = points, harmonics
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    head += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    (tmp_path / "a.ply").write_bytes(head.encode() + table.tobytes())
    shape = load(tmp_path / "a.ply")
    assert shape.is_cloud and shape.colours is not None and "Gaussian splats" in shape.remarks[0]
    assert np.abs(shape.colours - colours * 255).max() <= 1
    assert drawn(tmp_path / "a.ply").min() < 250


def test_missing_returns_are_left_out_of_a_cloud(tmp_path: Path) -> None:
    points = meshes.ball(4)[0] + [0, 0, 5]
    (tmp_path / "clean.ply").write_bytes(meshes.cloud_ply(points))
    missing = np.zeros((37, 3))
    (tmp_path / "zeros.ply").write_bytes(meshes.cloud_ply(np.concatenate([missing, points])))
    (tmp_path / "nan.ply").write_bytes(meshes.cloud_ply(np.concatenate([missing * np.nan, points])))
    for name, said in (("zeros.ply", "37 points at (0, 0, 0)"), ("nan.ply", "37 points are not finite")):
        same(tmp_path / name, tmp_path / "clean.ply")
        assert said in load(tmp_path / name).remarks[0]
    grid = np.stack(np.meshgrid(*[np.arange(-2.0, 3)] * 3), axis=-1).reshape(-1, 3)
    (tmp_path / "grid.ply").write_bytes(meshes.cloud_ply(grid))
    assert len(load(tmp_path / "grid.ply").vertices) == 125  # one point at the origin may well be one


def test_a_few_vertices_that_are_not_finite_cost_their_faces(tmp_path: Path) -> None:
    vertices, faces = relief()
    broken = vertices.copy()
    broken[[5, 700]] = np.nan
    broken[11, 1] = np.inf
    lost = np.isin(faces, [5, 700, 11]).any(axis=1)
    (tmp_path / "broken.ply").write_bytes(meshes.ply(broken, faces))
    (tmp_path / "rest.ply").write_bytes(meshes.ply(vertices, faces[~lost]))
    same(tmp_path / "broken.ply", tmp_path / "rest.ply")
    (remark,) = load(tmp_path / "broken.ply").remarks
    assert remark == f"3 vertices are not finite numbers: {lost.sum()} faces that use them left out"
    windows = text(vertices, faces, "obj").replace(
        b"v " + b" ".join(repr(float(v)).encode() for v in vertices[5]), b"v -nan(ind) 1.#QNAN 0"
    )
    (tmp_path / "windows.obj").write_bytes(windows)
    assert "1 vertices are not finite" in load(tmp_path / "windows.obj").remarks[0]


def test_a_flat_mesh_is_told_what_helps() -> None:
    plate = np.array([[0, -1, -1], [0, -1, 1], [0, 1, 1], [0, 1, -1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    for shape, spec, why, fix in (
        (
            Shape("plate", plate, faces),
            ViewSpec(views=4, size=64),
            "flat and seen edge-on",
            "another layout (--cameras sphere)",
        ),
        (Shape("line", plate * [1, 0, 1] * [0, 0, 1], faces), ViewSpec(views=4, size=64), "on one line", "export it"),
    ):
        with pytest.raises(MeshError, match=why) as refused:
            draw_views(shape, spec)
        assert fix in str(refused.value) and "--size" not in str(refused.value)


def test_real_specimens_are_read_as_trimesh_reads_them(shared_sample: Path) -> None:
    """Files without any of the above: as many faces, the same surface in the same place."""
    files = [
        path for path in sorted((shared_sample / "specimens").rglob("*")) if path.suffix in (".ply", ".obj", ".stl")
    ]
    assert len(files) >= 18
    for path in files:
        shape, other = load(path), trimesh.load_mesh(path, process=False)
        corners = shape.vertices[shape.faces].astype(np.float64) + shape.offset
        crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert len(shape.faces) == len(other.faces) and shape.remarks == (), path.name
        assert np.linalg.norm(crosses, axis=1).sum() / 2 == pytest.approx(other.area, rel=1e-5)
        assert np.allclose(corners.min(axis=(0, 1)), other.bounds[0], rtol=1e-6, atol=1e-6)


# The same kinds in files from elsewhere


PAIRS = {
    "utm_coordinates/utm_10m.ply": "utm_coordinates/reference_without_offset.ply",
    "concave_polygons/concave_star.obj": "concave_polygons/concave_star_tri.ply",
    "concave_polygons/concave_L.ply": "concave_polygons/concave_L_tri.ply",
    "colour_ranges/col_float255.ply": "colour_ranges/col_uchar.ply",
    "long_lists/tracks_128.ply": "long_lists/tracks_32.ply",
    "obj_text/obj_tabs.obj": "utm_coordinates/reference_without_offset.ply",
    "obj_text/obj_trailing_comment.obj": "utm_coordinates/reference_without_offset.ply",
}


def case(name: str) -> Path:
    if not (CASES / name).is_file():
        pytest.skip(f"{CASES / name} is not there")
    return CASES / name


@pytest.mark.parametrize("name", PAIRS)
def test_files_that_failed_are_drawn_as_their_references(name: str) -> None:
    overlap, grey = difference(drawn(case(name)), drawn(case(PAIRS[name])))
    assert overlap > 0.999 and grey < 0.2, (overlap, grey)


@pytest.mark.parametrize(
    "name", ["mtl/opts.obj", "mtl/wrongcase.obj", "mtl/korean949.obj", "stl_colour/stl_magics_red.stl"]
)
def test_files_that_were_grey_are_red(name: str) -> None:
    picture = drawn(case(name)).astype(int)
    inside = (picture != 255).any(axis=-1)
    assert picture[inside][:, 0].mean() > 2 * picture[inside][:, 1:].mean()


def test_other_files_that_failed() -> None:
    assert len(load(case("off_polygons/prism5.off")).faces) == 16
    assert load(case("obj_point_cloud/obj_points.obj")).is_cloud
    several = load(case("several_textures/multitex.ply"))
    assert [texture[0, 0].tolist() for texture in several.textures] == [[255, 0, 0], [0, 0, 255]]
    assert several.texture_of is not None and sorted(set(several.texture_of.tolist())) == [0, 1]
