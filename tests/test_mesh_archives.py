"""Compressed meshes: gzip and ZIP with bounds; bombs, links and names that lead elsewhere are refused."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import meshes
import numpy as np
import pytest
from PIL import Image
from test_mesh_cases import same

from outcrop.render import archives
from outcrop.render.geometry import load
from outcrop.render.reading import part_names
from outcrop.schema.errors import MeshError


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_a_compressed_mesh_is_drawn_as_itself(tmp_path: Path) -> None:
    plain = meshes.write(tmp_path / "a.ply", *meshes.ball(3, bumps=5))
    (tmp_path / "A.PLY.GZ").write_bytes(gzip.compress(plain.read_bytes()))
    zipped(tmp_path / "a.zip", {"inner/a.ply": plain.read_bytes(), "__MACOSX/._a.ply": b"?", "read me.txt": b"?"})
    same(tmp_path / "A.PLY.GZ", plain)
    same(tmp_path / "a.zip", plain)


def test_an_obj_in_an_archive_has_its_texture(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 30)).save(picture, "PNG")
    files = {
        "x/a.obj": b"mtllib a.mtl\nusemtl a\nvt 0 0\n"
        + meshes.obj(*meshes.box()).replace(b"\nf ", b"\nf 1/1 2/1 3/1\nf "),
        "x/a.mtl": b"newmtl a\nmap_Kd red.png\n",
        "x/red.png": picture.getvalue(),
    }
    shape = load(zipped(tmp_path / "a.zip", files))
    assert len(shape.textures) == 1 and shape.remarks == ()


def test_several_meshes_in_an_archive_are_parts(tmp_path: Path) -> None:
    box, ball = meshes.ply(*meshes.box()), meshes.ply(*meshes.ball(2))
    path = zipped(tmp_path / "a.zip", {"b.ply": ball, "x/a.ply": box})
    assert part_names(path) == ["b.ply", "x/a.ply"]
    assert len(load(path, part="x/a.ply").faces) == 12 and len(load(path, part="b.ply").faces) == 320
    with pytest.raises(MeshError, match=r"a\.zip: holds 2 meshes .*--split makes a specimen of each"):
        load(path)


def linked(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("a.ply")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return path


def bomb(path: Path) -> Path:
    return zipped(path, {"a.ply": meshes.ply(*meshes.box()), "zeros.png": bytes(archives.FREE)})


def lying(path: Path) -> Path:
    """A directory that claims fewer bytes than follow."""
    data = zipped(path, {"a.ply": meshes.ply(*meshes.ball(2))}).read_bytes()
    size = len(meshes.ply(*meshes.ball(2))).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (100).to_bytes(4, "little")))
    return path


def damaged(path: Path) -> Path:
    data = bytearray(zipped(path, {"a.ply": meshes.ply(*meshes.ball(2))}).read_bytes())
    data[80:90] = bytes(10)
    path.write_bytes(data)
    return path


PLY = meshes.ply(*meshes.box())
TRICKS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "above": (lambda path: zipped(path, {"../a.ply": PLY}), "leads out of it"),
    "deep above": (lambda path: zipped(path, {"x/../../a.ply": PLY}), "leads out of it"),
    "absolute": (lambda path: zipped(path, {"/tmp/a.ply": PLY}), "leads out of it"),
    "windows": (lambda path: zipped(path, {"..\\a.ply": PLY}), "leads out of it"),
    "drive": (lambda path: zipped(path, {"C:a.ply": PLY}), "leads out of it"),
    "link": (linked, "holds a link"),
    "nested": (lambda path: zipped(path, {"a.zip": b"PK", "a.ply": PLY}), "holds an archive"),
    "nested gzip": (lambda path: zipped(path, {"a.ply.gz": b"", "a.ply": PLY}), "holds an archive"),
    "bomb": (bomb, "claim to become"),
    "lying": (lying, "in it is"),
    "damaged": (damaged, "is damaged"),
    "no archive": (lambda path: Path(path.write_bytes(b"hello") and path), "not a whole ZIP archive"),
    "no mesh": (lambda path: zipped(path, {"a.txt": b"?"}), "holds no mesh"),
}


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_are_refused_and_nothing_is_written(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    make, said = TRICKS[name]
    path = make(tmp_path / "a.zip")
    with pytest.raises(MeshError, match=r"a\.zip") as caught:
        load(path)
    assert said in str(caught.value)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["a.zip", "temporary"]


def test_too_many_files_and_two_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with pytest.raises(MeshError, match="holds 4 files, more than 3"):
        load(zipped(tmp_path / "a.zip", {f"{n}.txt": b"" for n in range(3)} | {"a.ply": PLY}))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.ply", PLY)
        archive.writestr("a.ply", PLY)
    with pytest.raises(MeshError, match="two files of one name"):
        load(tmp_path / "b.zip")


def test_gzip_is_bounded_and_its_damage_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(PLY)
    for name, data, said in (
        ("bomb", gzip.compress(bytes(archives.FREE + 1)), "becomes more than"),
        ("cut", whole[:-20], "cut short"),
        ("plain", PLY, "not a whole gzip file"),
        ("empty", b"", "empty"),
        ("checksum", whole[:-8] + bytes(4) + whole[-4:], "not a whole gzip file"),
    ):
        path = tmp_path / f"{name}.ply.gz"
        path.write_bytes(data)
        with pytest.raises(MeshError, match=rf"{name}\.ply\.gz: ") as caught:
            load(path)
        assert said in str(caught.value), name
    (tmp_path / "two.ply.gz").write_bytes(gzip.compress(PLY[:100]) + gzip.compress(PLY[100:]))
    assert np.array_equal(load(tmp_path / "two.ply.gz").faces, meshes.box()[1])
    (tmp_path / "bad.ply.gz").write_bytes(gzip.compress(PLY[:-30]))
    with pytest.raises(MeshError, match=r"bad\.ply\.gz: .*cut short"):
        load(tmp_path / "bad.ply.gz")
