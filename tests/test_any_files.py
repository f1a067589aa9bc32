"""A folder of photographs as it stands: which keys its files have, what is refused, what is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outcrop.schema.any_files import look_into
from outcrop.schema.any_names import kinds_of, named, named_altitude
from outcrop.schema.dataset_files import dataset_files
from outcrop.schema.errors import RegistryError
from outcrop.schema.registry import Dataset, FolderRegistry

ANY = Dataset(root=".", files="any")


def filled(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def keys(root: Path, name: str = "d") -> dict[str, tuple[str, int]]:
    return {file.source: (file.capture_id, file.frame) for file in look_into(ANY, name, root).files}


@pytest.mark.parametrize(
    "name, folder, frame, flight",
    [
        ("DJI_0012.JPG", "north", 12, ""),
        ("0012.jpg", "north", 12, ""),
        ("IMG_9354.jpg", "north", 9354, ""),
        ("north_7.png", "north", 7, ""),
        ("North 7.png", "north", 7, ""),
        ("250918092555_300_0001.jpg", "250918092555_300", 1, ""),
        ("250918092555_300_0001.jpg", "all", 1, "250918092555_300"),
    ],
)
def test_plain_names_give_the_frame(name: str, folder: str, frame: int, flight: str) -> None:
    said = named(name, folder)
    assert (said.frame, said.flight) == (frame, flight)


def test_another_word_keeps_the_number_behind_one_of_its_own() -> None:
    gopr, dsc = named("GOPR0012.JPG", "x").frame, named("DSC_0012.JPG", "x").frame
    assert gopr != dsc and gopr % 10**9 == dsc % 10**9 == 12
    assert min(gopr, dsc) >= 10**9 and max(gopr, dsc) < 10**15
    assert named("gopr0012.jpg", "y").frame == gopr


@pytest.mark.parametrize(
    "name",
    [
        "9b810e76-6ec9-d286-63ca-828dd5f4b3b2.jpg",
        "DJI_20230101120000_0001_V.JPG",
        "IMG_20230101_120000.jpg",
        "a (1).jpg",
        "x.jpg",
    ],
)
def test_any_other_name_gives_a_number_that_json_keeps(name: str) -> None:
    frame = named(name, "x").frame
    assert 10**15 <= frame < 2**53 and named(name, "elsewhere").frame == frame
    assert named(f"_{name}", "x").frame != frame


@pytest.mark.parametrize(
    "names, altitude",
    [
        (("250918092555_300",), 300.0),
        (("north_120m",), 120.0),
        (("", "45.5m"), 45.5),
        (("alt80m",), 80.0),
        (("flight", "100 m"), 100.0),
        (("site_2023",), None),
        (("DCIM", "100MEDIA"), None),
        (("north_300",), None),
        (("system",), None),
    ],
)
def test_altitudes_of_names(names: tuple[str, ...], altitude: float | None) -> None:
    assert named_altitude(*names) == altitude


def test_folders_are_captures(tmp_path: Path) -> None:
    filled(tmp_path, "DJI_0001.JPG", "north_120m/DJI_0001.JPG", "north_120m/east/0001.png", "d/1.jpg")
    assert keys(tmp_path) == {
        "DJI_0001.JPG": ("d", 1),
        "north_120m/DJI_0001.JPG": ("north_120m", 1),
        "north_120m/east/0001.png": ("north_120m/east", 1),
        "d/1.jpg": ("./d", 1),
    }
    heights = {file.source: file.altitude for file in look_into(ANY, "d", tmp_path).files}
    assert heights["north_120m/DJI_0001.JPG"] == heights["north_120m/east/0001.png"] == 120.0
    assert heights["DJI_0001.JPG"] is None


def test_keys_stay_when_files_come_and_go(tmp_path: Path) -> None:
    before = keys(filled(tmp_path, "b_0001.jpg", "DJI_0002.JPG", "n/DJI_0001.JPG", "0a1b-77.jpg"))
    filled(tmp_path, "a_0001.jpg", "B0001.png.jpg", "IMG_0001.JPG", "n/GOPR0001.JPG", "n/m/DJI_0001.JPG", "0/1.jpg")
    after = keys(tmp_path)
    assert len(after) == 10 and len(set(after.values())) == 10
    assert {name: after[name] for name in before} == before
    (tmp_path / "b_0001.jpg").unlink()
    assert {name: after[name] for name in after if name != "b_0001.jpg"} == keys(tmp_path)


def test_two_names_of_one_key_are_both_refused_by_name(tmp_path: Path) -> None:
    filled(tmp_path, "DJI_0001.JPG", "DJI_1.jpg", "DJI_0002.JPG")
    held = look_into(ANY, "d", tmp_path)
    assert [file.source for file in held.files] == ["DJI_0002.JPG"]
    assert {each.path.name for each in held.refused} == {"DJI_0001.JPG", "DJI_1.jpg"}
    assert {each.key for each in held.refused} == {"image/d/d/0001"}
    assert all("DJI_0001.JPG, DJI_1.jpg" in each.reason and "rename" in each.reason for each in held.refused)


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    filled(
        tmp_path,
        "a.jpg",
        "a.txt",
        "b.TXT",
        "c.srt",
        "README",
        ".hidden",
        ".cache/x.jpg",
        "n/d.xyz",
        "n/a.dng",
        "n/a.jpg",
    )
    (tmp_path / "link").symlink_to(tmp_path / "n")
    (tmp_path / "empty").mkdir()
    held = look_into(ANY, "d", tmp_path)
    assert dict(held.others) == {
        ".srt": 1,
        ".txt": 2,
        ".xyz": 1,
        "hidden": 2,
        "link to a folder": 1,
        "raw photograph beside its picture": 1,
        "without an ending": 1,
    }
    assert kinds_of(held.others, most=2) == "2 .txt, 2 hidden, 5 of other kinds"
    assert held.empty == (tmp_path / "empty",)


def test_a_link_to_a_file_counts(tmp_path: Path) -> None:
    filled(tmp_path, "elsewhere/x.jpg", "here/0001.jpg")
    (tmp_path / "here/0002.jpg").symlink_to(tmp_path / "elsewhere/x.jpg")
    (tmp_path / "here/0003.jpg").symlink_to(tmp_path / "elsewhere/gone.jpg")
    held = look_into(ANY, "d", tmp_path / "here")
    assert [file.frame for file in held.files] == [1, 2] and dict(held.others) == {".jpg": 1}


def test_names_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["f" * 100] * 3)
    filled(deep, "0001.jpg")
    bad = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")
    with open(bad, "wb"):
        pass
    held = look_into(ANY, "d", tmp_path)
    assert not held.files
    assert sorted(each.reason.split()[1] for each in held.refused) == ["capture_id", "name"]


def test_the_registry_may_state_altitudes_and_labels_of_folders(tmp_path: Path) -> None:
    filled(tmp_path, "n/0001.jpg", "m_90m/0001.jpg")
    stated = Dataset(root=".", files="any", images={"n": {"altitude": 70, "label": "spring"}})  # type: ignore[dict-item]
    found = {file.capture_id: (file.altitude, file.label) for file in look_into(stated, "d", tmp_path).files}
    assert found == {"n": (70.0, "spring"), "m_90m": (90.0, None)}


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"filename_template": "{frame}.jpg"}, "exclude each other"),
        ({"images": {"n": 3}}, "altitude and label only"),
        ({"images": {"n": {"folder": "m"}}}, "altitude and label only"),
        ({"positions": "../geo.txt"}, "leaves its root"),
    ],
)
def test_what_does_not_fit_any_files(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Dataset.model_validate({"root": ".", "files": "any", **wrong})


def test_a_folder_stands_in_for_a_registry(tmp_path: Path) -> None:
    found = dataset_files(filled(tmp_path, "n/0001.jpg"), "d", tmp_path)
    assert [str(frame.key) for frame in found.frames] == ["image/d/n/0001"]
    assert found.dataset.images["n"].folder == "n"
    assert FolderRegistry(datasets={}).dataset("whatever").files == "any"
    with pytest.raises(RegistryError, match="is its disk mounted"):
        dataset_files(tmp_path / "gone", "d", tmp_path / "gone")
