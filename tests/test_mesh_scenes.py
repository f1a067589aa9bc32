"""glTF, 3MF, COLLADA and VTP: what other libraries wrote is drawn as the same mesh from a format that was read before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import meshes
import numpy as np
import pytest
import trimesh
from PIL import Image
from test_mesh_cases import drawn, same
from vtk_files import CONE_AREA, VTK

from outcrop.render.geometry import load
from outcrop.render.reading import part_names
from outcrop.schema.errors import MeshError

TURNED = trimesh.transformations.euler_matrix(0.4, -0.9, 1.3)
TURNED[:3, 3] = (2, 1, -0.5)


def ball(bumps: int = 5) -> trimesh.Trimesh:
    return trimesh.Trimesh(*meshes.ball(3, (1, 0.7, 0.5), bumps=bumps), process=False)


def pair() -> trimesh.Scene:
    """Two balls, one of them turned, moved and smaller."""
    scene = trimesh.Scene()
    scene.add_geometry(ball(), geom_name="big", node_name="big")
    scene.add_geometry(ball(9), geom_name="small", node_name="small", transform=TURNED @ np.diag([0.5, 0.5, 0.5, 1]))
    return scene


def written(folder: Path, scene: trimesh.Scene, ending: str) -> Path:
    """A scene in a file that trimesh wrote (COLLADA by pycollada, 3MF by lxml)."""
    path = folder / f"scene.{ending}"
    if ending == "dae":
        path.write_bytes(trimesh.exchange.dae.export_collada(scene.dump()))
    elif ending == "gltf":
        for name, data in scene.export(file_type="gltf").items():
            (folder / (path.name if name == "model.gltf" else name)).write_bytes(data)
    else:
        data = scene.export(file_type=ending)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("ending", ["glb", "gltf", "3mf", "dae"])
def test_a_scene_is_drawn_as_the_same_mesh_in_one_piece(tmp_path: Path, ending: str) -> None:
    same(written(tmp_path, pair(), ending), written(tmp_path, pair(), "ply"))


@pytest.mark.parametrize("ending", ["glb", "dae"])
def test_colours_of_vertices_are_those_of_ply(tmp_path: Path, ending: str) -> None:
    mesh = ball()
    mesh.visual.vertex_colors = np.rint(127 * (1 + mesh.vertices / np.abs(mesh.vertices).max())).astype(np.uint8)
    same(written(tmp_path, trimesh.Scene(mesh), ending), written(tmp_path, trimesh.Scene(mesh), "ply"))
    assert load(tmp_path / f"scene.{ending}").colours is not None


@pytest.mark.parametrize("ending", ["glb", "gltf"])
def test_a_texture_is_laid_on_as_that_of_obj(tmp_path: Path, ending: str) -> None:
    mesh = ball()
    squares = np.kron(np.random.default_rng(1).integers(0, 256, (8, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    uv = mesh.vertices[:, :2] / 2.5 + 0.5
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, image=Image.fromarray(squares))
    path = written(tmp_path, trimesh.Scene(mesh), ending)
    Image.fromarray(squares).save(tmp_path / "squares.png")
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd squares.png\n")
    lines = ["mtllib a.mtl", "usemtl a", *(f"v {x!r} {y!r} {z!r}" for x, y, z in mesh.vertices.tolist())]
    lines += [f"vt {u!r} {v!r}" for u, v in uv.tolist()]
    lines += ["f " + " ".join(f"{n}/{n}" for n in face) for face in (mesh.faces + 1).tolist()]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    same(path, tmp_path / "a.obj")
    assert len(load(path).textures) == 1


def test_far_coordinates_keep_their_64_bits(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    moved = np.eye(4)
    moved[:3, 3] = (500_000.1, 4_649_776.2, 120)
    scene.add_geometry(ball(), transform=moved)
    near = written(tmp_path, trimesh.Scene(ball()), "ply")
    for ending in ("glb", "3mf"):
        shape = load(written(tmp_path, scene, ending))
        assert np.abs(shape.vertices).max() < 2 and abs(shape.offset[0] - 500_000.1) < 1
        same(tmp_path / f"scene.{ending}", near)


def test_parts_are_named_by_their_nodes_and_drawn_where_they_lie(tmp_path: Path) -> None:
    for ending in ("glb", "3mf"):
        path = written(tmp_path, pair(), ending)
        assert part_names(path) == ["big", "small"]
        small, whole = load(path, part="small"), load(path)
        assert len(small.vertices) + len(load(path, part="big").vertices) == len(whole.vertices)
        expected = ball(9).apply_transform(TURNED @ np.diag([0.5, 0.5, 0.5, 1]))
        assert np.allclose(small.vertices.max(axis=0), expected.vertices.max(axis=0), atol=1e-5)
    with pytest.raises(MeshError, match=r"no part named 'smal'.*small"):
        load(path, part="smal")


def gltf(path: Path, **changed: Any) -> Path:
    """A glTF of a box in float32 with its buffer inside, with entries of its JSON replaced."""
    import base64

    vertices, faces = meshes.box()
    data = vertices.astype("<f4").tobytes() + faces.astype("<u2").tobytes()
    tree: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": len(data), "uri": "data:;base64," + base64.b64encode(data).decode()}],
        "bufferViews": [
            {"buffer": 0, "byteLength": 96},
            {"buffer": 0, "byteOffset": 96, "byteLength": 72},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 8, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 36, "type": "SCALAR"},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
    }
    path.write_text(json.dumps({**tree, **changed}))
    return path


def test_nodes_turn_and_stretch_what_is_below_them(tmp_path: Path) -> None:
    half = float(np.sqrt(0.5))
    nodes = [
        {"children": [1], "translation": [10, 0, 0], "rotation": [0, 0, half, half]},
        {"mesh": 0, "scale": [2, 3, 4], "name": "stretched"},
    ]
    shape = load(gltf(tmp_path / "a.gltf", nodes=nodes))
    assert np.allclose(shape.vertices.min(axis=0) + shape.offset, [7, 0, 0], atol=1e-6)
    assert np.allclose(shape.vertices.max(axis=0) + shape.offset, [10, 2, 4], atol=1e-6)


def test_a_texture_in_a_format_that_is_not_read_is_said(tmp_path: Path) -> None:
    shape = load(
        gltf(
            tmp_path / "a.gltf",
            meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}],
            materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
            textures=[{"extensions": {"KHR_texture_basisu": {"source": 0}}}],
            images=[{"uri": "skin.ktx2"}],
        )
    )
    assert shape.textures == () and len(shape.remarks) == 1
    assert "no format that is read (KHR_texture_basisu); export it as PNG or JPEG" in shape.remarks[0]


def test_strips_and_fans_and_materials(tmp_path: Path) -> None:
    (tmp_path / "a.gltf").write_text("")
    red = {"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1]}}
    grey = {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.5, 0.5, 1]}}
    primitives = [
        {"attributes": {"POSITION": 0}, "mode": 5, "material": 0},
        {"attributes": {"POSITION": 0}, "mode": 6, "material": 1},
        {"attributes": {"POSITION": 0}, "mode": 1},
    ]
    shape = load(gltf(tmp_path / "a.gltf", meshes=[{"primitives": primitives}], materials=[red, grey]))
    assert len(shape.faces) == 12 and shape.remarks == ("holds points and lines beside its faces: left out",)
    assert shape.colours is not None
    assert shape.colours[0].tolist() == [255, 0, 0] and shape.colours[-1].tolist() == [188, 188, 188]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "draco": ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "compressed by Draco; export it without"),
    "extension": ({"extensionsRequired": ["EXT_something"]}, "needs the extension 'EXT_something'"),
    "old": ({"asset": {"version": "1.0"}}, "of version 1.0 of glTF"),
    "circle": ({"nodes": [{"mesh": 0, "children": [0]}]}, "tree of nodes has no end"),
    "absolute": ({"buffers": [{"byteLength": 168, "uri": "/etc/passwd"}]}, "outside of its folder"),
    "above": ({"buffers": [{"byteLength": 168, "uri": "../secret.bin"}]}, "outside of its folder"),
    "hidden above": ({"buffers": [{"byteLength": 168, "uri": "%2e%2e/secret.bin"}]}, "outside of its folder"),
    "windows": ({"buffers": [{"byteLength": 168, "uri": "C:\\secret.bin"}]}, "outside of its folder"),
    "network": ({"buffers": [{"byteLength": 168, "uri": "https://example.org/a.bin"}]}, "outside of its folder"),
    "lost": ({"buffers": [{"byteLength": 168, "uri": "lost.bin"}]}, "needs the file 'lost.bin'"),
    "claims": (
        {"accessors": [{"bufferView": 0, "componentType": 5126, "count": 10**9, "type": "VEC3"}]},
        "more than the 10,000,000 that can be drawn",
    ),
    "few": (
        {"accessors": [{"bufferView": 0, "componentType": 5126, "count": 10**6, "type": "VEC3"}]},
        "cut short, or its counts are false",
    ),
    "empty": ({"nodes": [], "scenes": []}, "holds no mesh"),
    "negative": ({"bufferViews": [{"buffer": 0, "byteLength": -1}]}, "damaged GLTF"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_glTF_cannot_be_read_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(168))
    (tmp_path / "inner").mkdir()
    changed, said = REFUSED[name]
    with pytest.raises(MeshError, match=r"a\.gltf: ") as caught:
        load(gltf(tmp_path / "inner/a.gltf", **changed))
    assert said in str(caught.value)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(168))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/near.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(MeshError, match=r"needs the file 'near\.bin': it is not in the mesh's folder"):
        load(gltf(tmp_path / "inner/a.gltf", buffers=[{"byteLength": 168, "uri": "near.bin"}]))


def test_a_document_type_is_refused_before_it_grows(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    bomb = f'<?xml version="1.0"?><!DOCTYPE COLLADA [<!ENTITY a0 "ha">{entities}]><COLLADA>&a9;</COLLADA>'
    for name in ("a.dae", "a.vtp"):
        (tmp_path / name).write_text(bomb)
        with pytest.raises(MeshError, match="document type"):
            load(tmp_path / name)


def test_colours_of_3mf_are_those_of_its_triangles(tmp_path: Path) -> None:
    import zipfile

    places = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in meshes.box()[0])
    sides = "".join(
        f'<triangle v1="{a}" v2="{b}" v3="{c}"' + (' pid="5" p1="1"/>' if n < 2 else "/>")
        for n, (a, b, c) in enumerate(meshes.box()[1])
    )
    model = (
        '<model xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"><resources>'
        '<basematerials id="5"><base name="a" displaycolor="#00FF00"/><base name="b" displaycolor="#0000FFFF"/></basematerials>'
        f'<object id="1" name="dyed" pid="5" pindex="0"><mesh><vertices>{places}</vertices><triangles>{sides}</triangles></mesh>'
        '</object><object id="2" type="support"><mesh><vertices/><triangles/></mesh></object></resources><build>'
        '<item objectid="1" transform="0 1 0 -1 0 0 0 0 2 5 0 0"/><item objectid="2"/></build></model>'
    )
    with zipfile.ZipFile(tmp_path / "a.3mf", "w") as archive:
        archive.writestr("3D/3dmodel.model", model)
    shape = load(tmp_path / "a.3mf")
    assert shape.colours is not None and {tuple(c) for c in shape.colours.tolist()} == {(0, 255, 0), (0, 0, 255)}
    assert shape.vertices.min(axis=0).tolist() == [4, 0, 0] and shape.vertices.max(axis=0).tolist() == [5, 1, 2]
    assert shape.remarks == ("1 of its 2 items are supports: left out",)
    assert part_names(tmp_path / "a.3mf") == ["dyed"]


@pytest.mark.parametrize("name", [name for name in VTK if "lz4" not in name and name != "strips"])
def test_vtp_is_read_in_every_encoding(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.vtp").write_bytes(VTK[name])
    shape = load(tmp_path / "a.vtp")
    assert abs(trimesh.Trimesh(shape.vertices, shape.faces).area - CONE_AREA) < 1e-4
    assert shape.colours is not None and shape.colours.tolist() == [[30 * n, 255 - 30 * n, 90] for n in range(8)]


def test_vtp_of_strips_and_what_is_not_read_of_vtk(tmp_path: Path) -> None:
    (tmp_path / "a.vtp").write_bytes(VTK["strips"])
    shape = load(tmp_path / "a.vtp")
    sphere = trimesh.Trimesh(shape.vertices, shape.faces)
    assert len(shape.faces) == 72 and abs(float(sphere.area) - 2.79553) < 1e-4
    (tmp_path / "a.vtp").write_bytes(VTK["Binary_lz4_0_32"])
    with pytest.raises(MeshError, match="vtkLZ4DataCompressor; save it with zlib"):
        load(tmp_path / "a.vtp")
    (tmp_path / "a.vtp").write_bytes(VTK["strips"].replace(b"PolyData", b"UnstructuredGrid"))
    with pytest.raises(MeshError, match="not PolyData"):
        load(tmp_path / "a.vtp")


def test_a_collada_file_with_transforms_polygons_and_a_texture(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (200, 30, 30)).save(tmp_path / "red.png")
    text = """<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
    <library_images><image id="i"><init_from>file:///C:/elsewhere/red.png</init_from></image></library_images>
    <library_effects><effect id="e"><profile_COMMON>
      <newparam sid="s"><surface type="2D"><init_from>i</init_from></surface></newparam>
      <newparam sid="t"><sampler2D><source>s</source></sampler2D></newparam>
      <technique sid="c"><lambert><diffuse><texture texture="t" texcoord="UV"/></diffuse></lambert></technique>
    </profile_COMMON></effect></library_effects>
    <library_materials><material id="m"><instance_effect url="#e"/></material></library_materials>
    <library_geometries><geometry id="g"><mesh>
      <source id="p"><float_array count="18">0 0 0 2 0 0 2 1 0 1 1 0 1 2 0 0 2 0</float_array>
        <technique_common><accessor source="#p" count="6" stride="3"/></technique_common></source>
      <source id="u"><float_array count="2">0.5 0.5</float_array>
        <technique_common><accessor source="#u" count="1" stride="2"/></technique_common></source>
      <vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
      <polylist material="x" count="1"><input semantic="VERTEX" source="#v" offset="0"/>
        <input semantic="TEXCOORD" source="#u" offset="1"/><vcount>6</vcount><p>0 0 1 0 2 0 3 0 4 0 5 0</p></polylist>
    </mesh></geometry></library_geometries>
    <library_visual_scenes><visual_scene id="w"><node name="ell"><translate>10 0 0</translate><rotate>0 0 1 90</rotate>
      <scale>1 1 1</scale><node><instance_geometry url="#g"><bind_material><technique_common>
      <instance_material symbol="x" target="#m"/></technique_common></bind_material></instance_geometry></node></node>
    </visual_scene></library_visual_scenes><scene><instance_visual_scene url="#w"/></scene></COLLADA>"""
    (tmp_path / "a.dae").write_text(text)
    shape = load(tmp_path / "a.dae")
    area = trimesh.Trimesh(shape.vertices, shape.faces).area
    assert abs(area - 3) < 1e-9, "the notch of the polygon stays open"
    assert np.allclose(shape.vertices.min(axis=0), [8, 0, 0]) and np.allclose(shape.vertices.max(axis=0), [10, 2, 0])
    assert len(shape.textures) == 1 and shape.textures[0][0, 0].tolist() == [200, 30, 30]


def test_instances_of_one_mesh_are_drawn_each(tmp_path: Path) -> None:
    nodes = [{"mesh": 0}, {"mesh": 0, "translation": [3, 0, 0]}]
    path = gltf(tmp_path / "a.gltf", nodes=nodes, scenes=[{"nodes": [0, 1]}])
    assert len(load(path).faces) == 24 and part_names(path) == ["node-0", "node-1"]
    assert drawn(path).any()
