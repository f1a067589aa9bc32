"""Mesh readers under fire: whatever a file holds, it is read or refused by an error of Outcrop's own, and soon.

A few hundred examples in every run; ``OUTCROP_EXAMPLES=20000`` tries as many of each kind as it says, for a nightly run.
"""

from __future__ import annotations

import functools
import gzip
import io
import os
import struct
import unicodedata
import zipfile
from pathlib import Path

import meshes
import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trimesh.exchange.dae import export_collada
from vtk_files import VTK

from outcrop.render.geometry import Shape, load
from outcrop.schema.errors import MeshError

EXAMPLES = int(os.environ.get("OUTCROP_EXAMPLES", "0")) or 120
FUZZ = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.timeout(max(600, EXAMPLES))

NUMBERS = st.one_of(
    st.integers(-3, 12).map(str),
    st.floats(-10, 10, allow_nan=False).map(lambda value: f"{value:.6g}"),
    st.sampled_from(
        [
            "nan",
            "inf",
            "-inf",
            "-nan(ind)",
            "1.#QNAN",
            "1e39",
            "1e308",
            "1e400",
            "-0",
            "4294967169",
            "99999999999999999999",
        ]
    ),
)
SPACES = st.sampled_from([" ", "  ", "\t", " \\\n ", "\r\n", "\n", " # ", "/", "//", ",", "\x00", "\ufeff", "é", ""])
WORDS = {
    "obj": ["v", "vt", "vn", "f", "p", "l", "usemtl a", "mtllib a.mtl", "o", "g", "s off", "#", "vp", "fo"],
    "off": ["OFF", "COFF", "NOFF", "STOFF", "4OFF", "OFF BINARY", "8 12 0", "4 1 0", "#", "3", "4"],
    "stl": ["solid", "facet normal", "outer loop", "vertex", "endloop", "endfacet", "endsolid", "COLOR="],
    "ply": [
        "ply", "format ascii 1.0", "format binary_little_endian 1.0", "comment TextureFile a.png", "element vertex 4",
        "element vertex 99", "element face 2", "element face -1", "property float x", "property double y",
        "property uchar red", "property list uchar int vertex_indices", "property list int float texcoord",
        "property int texnumber", "end_header", "obj_info",
    ],
}  # fmt: skip


def judged(path: Path, data: bytes) -> Shape | None:
    """The shape of a file, checked; None where it is refused as it should be."""
    path.write_bytes(data)
    try:
        shape = load(path)
    except MeshError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        assert "please report" not in str(error)
        return None
    assert np.isfinite(shape.vertices).all() and shape.vertices.dtype == np.float32
    assert np.ptp(shape.vertices, axis=0).max() > 0
    assert shape.is_cloud or 0 <= shape.faces.min() <= shape.faces.max() < len(shape.vertices)
    assert shape.colours is None or shape.colours.shape == (len(shape.vertices), 3)
    assert shape.uv is None or (shape.uv.shape == (len(shape.faces), 3, 2) and np.isfinite(shape.uv).all())
    assert shape.texture_of is None or shape.texture_of.max() < len(shape.textures)
    return shape


def seed(kind: str) -> bytes:
    """A sound file of a kind."""
    vertices, faces = meshes.box()
    match kind:
        case "text.ply":
            return meshes.ply(vertices, faces, "ascii")
        case "big.ply":
            return meshes.ply(vertices, faces, "binary_big_endian")
        case "ply":
            return meshes.ply(vertices, faces)
        case "cloud.ply":
            return meshes.cloud_ply(meshes.ball(1)[0], np.zeros((42, 3), np.uint8))
        case "polygons.ply":
            head = meshes.ply(vertices, faces).split(b"end_header\n")[0].replace(b"face 12", b"face 3")
            rows = (
                struct.pack("<B4i", 4, 0, 1, 3, 2)
                + struct.pack("<B3i", 3, 4, 6, 7)
                + struct.pack("<B5i", 5, 4, 7, 5, 1, 0)
            )
            return head + b"end_header\n" + vertices.astype("<f4").tobytes() + rows
        case "text.stl":
            return meshes.stl_text(vertices, faces)
        case "stl":
            return meshes.stl(vertices, faces)
        case "polygons.off":
            return b"OFF\n6 2 0\n0 0 0\n2 0 0\n2 1 0\n1 1 0\n1 2 0\n0 2 0\n6 0 1 2 3 4 5 255 0 0\n3 0 1 2\n"
        case "off":
            return meshes.off(vertices, faces)
        case "textured.obj":
            return b"mtllib a.mtl\nusemtl a\nvt 0 0\nvt 1 1\n" + meshes.obj(vertices, faces).replace(
                b"\nf 1 ", b"\nf 1/1/1 "
            )
        case "vtp":
            return VTK["Binary_none_0_32"]
        case "glb" | "3mf" | "dae":
            return scene(kind)
        case "ply.gz":
            return gzip.compress(meshes.ply(vertices, faces))
        case "zip":
            return packed("a.ply", meshes.ply(vertices, faces))
        case _:
            return meshes.obj(vertices, faces)


@functools.cache
def scene(kind: str) -> bytes:
    """Two boxes in a scene, as trimesh writes it."""
    box = trimesh.Trimesh(*meshes.box(), process=False)
    if kind == "dae":
        return bytes(export_collada([box]))
    return bytes(trimesh.Scene([box, box.copy().apply_translation([2, 0, 0])]).export(file_type=kind))


def packed(name: str, data: bytes) -> bytes:
    """A ZIP archive of one file, as it is: damage of an archive is then damage of what is in it, too."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def reads(kind: str, data: bytes) -> bytes:
    """Bytes with checksums that fit: 3MF is damaged inside of its archive."""
    return packed("3D/3dmodel.model", data) if kind == "3mf" else data


def inner(kind: str, data: bytes) -> bytes:
    """What a damaged file is made from: of a 3MF its model."""
    if kind != "3mf":
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read("3D/3dmodel.model")


KINDS = [
    "ply", "text.ply", "big.ply", "cloud.ply", "polygons.ply", "stl", "text.stl", "off", "polygons.off", "obj", "textured.obj",
    "glb", "3mf", "dae", "vtp", "ply.gz", "zip",
]  # fmt: skip


@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
@FUZZ
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    whole = bytearray(inner(kind, seed(kind)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(len(whole) - 1, 0)))
        match data.draw(st.sampled_from(["byte", "cut", "double", "insert", "number", "tail"])):
            case "byte":
                whole[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "cut":
                del whole[at : at + data.draw(st.integers(1, 60))]
            case "double":
                whole[at:at] = whole[at : at + data.draw(st.integers(1, 60))]
            case "insert":
                whole[at:at] = data.draw(st.binary(max_size=9))
            case "number":
                whole[at : at + 4] = data.draw(
                    st.sampled_from([b"\xff\xff\xff\xff", bytes(4), b"\x00\x00\xc0\x7f", b"\x81\xff\xff\xff"])
                )
            case _:
                del whole[at:]
    ending = kind if kind == "ply.gz" else kind.split(".")[-1]
    judged(tmp_path / f"a.{ending}", reads(kind, bytes(whole)))


@given(data=st.data())
@pytest.mark.parametrize("kind", ["ply", "stl", "off", "obj"])
@FUZZ
def test_any_text_of_the_right_words_is_read_or_refused(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    (tmp_path / "a.mtl").write_bytes(b"newmtl a\nKd 1 0 0\nmap_Kd -s 2 lost.png\n")
    words = st.one_of(st.sampled_from(WORDS[kind]), NUMBERS)
    parts = data.draw(st.lists(st.tuples(words, SPACES), max_size=60))
    text = (WORDS[kind][0] + "\n" if data.draw(st.booleans()) else "") + "".join(word + space for word, space in parts)
    judged(tmp_path / f"a.{kind}", text.encode(data.draw(st.sampled_from(["utf-8", "utf-16", "utf-16-le"]))))


@given(data=st.data())
@FUZZ
def test_any_material_library_is_read_or_passed_over(tmp_path: Path, data: st.DataObject) -> None:
    words = st.one_of(
        st.sampled_from(
            ["newmtl", "a", "Kd", "map_Kd", "-s", "-o", "-mm", "-clamp", "-t", "red.png", "..", "/", "C:\\x", '"']
        ),
        NUMBERS,
        st.text(max_size=5),
    )
    lines = data.draw(st.lists(st.lists(words, max_size=7).map(" ".join), max_size=8))
    (tmp_path / "a.mtl").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    assert judged(tmp_path / "a.obj", seed("textured.obj")) is not None


@given(
    vertices=st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 3), min_size=3, max_size=12, unique=True),
    data=st.data(),
)
@FUZZ
def test_polygons_are_the_same_in_every_format(
    tmp_path: Path, vertices: list[tuple[float, float, float]], data: st.DataObject
) -> None:
    """What is written to three formats comes back as the same triangles, with all the corners that were written."""
    corner = st.lists(st.integers(0, len(vertices) - 1), min_size=3, max_size=len(vertices), unique=True)
    polygons = data.draw(st.lists(corner, min_size=1, max_size=6))
    places = [" ".join(repr(value) for value in vertex) for vertex in vertices]
    counted = [" ".join(map(str, [len(corners), *corners])) for corners in polygons]
    head = f"ply\nformat ascii 1.0\nelement vertex {len(places)}\n" + "".join(f"property double {a}\n" for a in "xyz")
    head += f"element face {len(polygons)}\nproperty list uchar int vertex_indices\nend_header"
    texts = {
        "ply": [head, *places, *counted],
        "off": ["OFF", f"{len(places)} {len(polygons)} 0", *places, *counted],
        "obj": [*(f"v {p}" for p in places), *("f " + " ".join(str(c + 1) for c in f) for f in polygons)],
    }
    found = [judged(tmp_path / f"a.{kind}", ("\n".join(lines) + "\n").encode()) for kind, lines in texts.items()]
    assert all((shape is None) == (found[0] is None) for shape in found)
    for shape in found[1:]:
        if shape is not None and found[0] is not None:
            assert np.array_equal(shape.faces, found[0].faces) and np.array_equal(shape.vertices, found[0].vertices)
    if found[0] is not None:
        used = np.unique([corner for corners in polygons for corner in corners])
        assert len(found[0].vertices) == len(used)


def test_names_of_textures_may_be_anything(tmp_path: Path) -> None:
    odd = [
        "\0",
        "a" * 300,
        "..",
        ".",
        "/",
        "\\\\server\\share",
        "C:",
        "con",
        " ",
        "\udcff",
        unicodedata.lookup("SNOWMAN"),
    ]
    for name in odd:
        data = f"newmtl a\nmap_Kd {name}\n".encode("utf-8", "surrogatepass")
        (tmp_path / "a.mtl").write_bytes(data)
        assert judged(tmp_path / "a.obj", seed("textured.obj")) is not None
