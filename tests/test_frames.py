"""Files compared with the registry: declared and there, declared but missing, there but undeclared."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from outcrop.ingest.dataset import frame_item, missing_frames
from outcrop.schema.errors import RegistryError
from outcrop.schema.filters import parse
from outcrop.schema.frames import CaptureFiles, list_captures, on_disk
from outcrop.schema.item import Item, Kind, image_key, item_id, item_of_key, parse_image_key
from outcrop.schema.registry import Registry, read_registry


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def registry(images: dict[str, Any], **dataset: Any) -> Registry:
    return Registry.model_validate({"datasets": {"d": {"root": "root", "images": images} | dataset}})


def touch(*paths: str | Path) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def only(images: dict[str, Any], **dataset: Any) -> CaptureFiles:
    (capture,) = list_captures(registry(images, **dataset), "d", Path())
    return capture


def numbers(capture: CaptureFiles) -> list[int]:
    return [frame.key.frame for frame in capture.frames]


def capture_of(present: set[int], frames: Any) -> CaptureFiles:
    shutil.rmtree("root", ignore_errors=True)
    Path("root/a").mkdir(parents=True)
    touch(*(f"root/a/a_{n:04d}.jpg" for n in present))
    return only({"a": frames})


@pytest.mark.parametrize(
    ("present", "frames", "taken", "missing", "undeclared"),
    [
        (range(1, 6), 5, [1, 2, 3, 4, 5], (), 0),  # from 1
        (range(5), 5, [0, 1, 2, 3, 4], (), 0),  # from 0
        (range(18, 43), 25, list(range(18, 43)), (), 0),  # from 18
        ({1, 2, 4, 5}, 5, [1, 2, 4, 5], (3,), 0),  # a gap, from 1
        ({0, 1, 3, 4}, 5, [0, 1, 3, 4], (2,), 0),  # a gap, from 0
        ({1, 2, 3}, 5, [1, 2, 3], (4, 5), 0),  # cut short
        (range(1, 8), 5, [1, 2, 3, 4, 5], (), 2),  # more than declared
        (range(8), 5, [1, 2, 3, 4, 5], (), 3),  # 0 and 1 are both possible: from 1
        ({0, 1, 2, 3, 4, 9}, 5, [0, 1, 2, 3, 4], (), 1),
        ({7, 9, 12}, 3, [7, 9, 12], (), 0),  # any numbers, as many as declared
        ({7, 9, 12}, 2, [7, 9], (), 1),
        (set(), 0, [], (), 0),
        ({3}, 0, [], (), 1),
        ({2, 5}, "all", [2, 5], (), 0),
        ({2, 5}, [1, 2], [2], (1,), 1),
        ({2, 5}, "1..3", [2], (1, 3), 1),
    ],
)
def test_numbering(present: set[int], frames: Any, taken: list[int], missing: tuple[int, ...], undeclared: int) -> None:
    capture = capture_of(set(present), frames)
    assert numbers(capture) == taken
    assert capture.missing == missing
    assert capture.missing_count == len(missing)
    assert len(capture.undeclared) == undeclared


def test_missing_frames_without_a_first_number_are_only_counted() -> None:
    capture = capture_of({18, 19}, 5)
    assert (numbers(capture), capture.missing, capture.missing_count) == ([18, 19], (), 3)
    capture = capture_of(set(), 5)
    assert (numbers(capture), capture.missing, capture.missing_count) == ([], (), 5)


def test_a_capture_without_a_folder_misses_everything() -> None:
    Path("root").mkdir()
    assert only({"a": 4}).missing_count == 4
    assert only({"a": [2, 3]}).missing == (2, 3)
    assert only({"a": "all"}).missing_count == 0


@hypothesis_settings(max_examples=60)
@given(
    st.sets(st.integers(0, 30), max_size=12),
    st.integers(0, 14) | st.lists(st.integers(0, 30), max_size=8) | st.just("all"),
)
def test_every_file_and_every_declared_frame_is_accounted_for(present: set[int], frames: Any) -> None:
    capture = capture_of(present, frames)
    taken, extra = set(numbers(capture)), {int(p.stem[2:]) for p in capture.undeclared}
    assert taken | extra == present
    assert not taken & extra
    assert numbers(capture) == sorted(taken)
    assert not set(capture.missing) & present
    assert len(capture.missing) <= capture.missing_count
    if isinstance(frames, int):
        assert len(taken) + capture.missing_count == frames
    elif frames != "all":
        assert taken | set(capture.missing) == set(frames)


def test_only_files_that_fit_the_template_count() -> None:
    touch(
        "root/a/a_0001.jpg",
        "root/a/a_1.jpg",
        "root/a/a_00001.jpg",
        "root/a/a_0001.JPG",
        "root/a/b_0001.jpg",
        "root/a/a_٠٠٠٢.jpg",
        "root/a/a_0003.jpg.part",
        "root/a/deeper/a_0004.jpg",
    )
    Path("root/a/a_0005.jpg").mkdir()
    assert numbers(only({"a": "all"})) == [1]


def test_frames_beyond_the_width_are_found() -> None:
    touch("root/a/a_9999.jpg", "root/a/a_10000.jpg")
    assert numbers(only({"a": "all"})) == [9999, 10000]


def test_templates_with_folders_and_special_characters() -> None:
    touch("root/s (1)/300m/s (1)+[x].7.7.png")
    capture = only(
        {"s (1)_300": "all"},
        folder_template="{scene}",
        filename_template="{altitude}m/{scene}+[x].{frame}.{frame}.png",
    )
    (frame,) = capture.frames
    assert (frame.key.frame, frame.source, frame.altitude) == (7, "s (1)/300m/s (1)+[x].7.7.png", 300.0)


def test_what_a_frame_says() -> None:
    touch("root/elsewhere/a_300_0001.jpg")
    capture = only({"a_300": {"frames": 1, "folder": "elsewhere", "altitude": 120, "label": "low"}})
    (frame,) = capture.frames
    assert str(frame.key) == "image/d/a_300/0001"
    assert frame.path.is_file()
    assert (frame.source, frame.altitude, frame.label) == ("elsewhere/a_300_0001.jpg", 120.0, "low")


@pytest.mark.parametrize("name", ["잠실", "ジャム島", "Fundstätte"])
@pytest.mark.parametrize("disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_names_spelt_the_other_way_on_disk_or_in_the_registry(name: str, disk: str, written: str) -> None:
    """A disk written by a Mac spells 잠 with three characters, a registry typed on Windows with one."""

    def on_disk(text: str) -> str:
        return unicodedata.normalize(disk, text)

    def in_registry(text: str) -> str:
        return unicodedata.normalize(written, text)

    touch(on_disk(f"뿌리/{name}/{name}_300/{name}_사진_0001.jpg"))
    found = Registry.model_validate(
        {
            "datasets": {
                in_registry("잠실"): {
                    "root": in_registry(f"뿌리/{name}"),
                    "filename_template": in_registry("{scene}_사진_{frame:04d}.jpg"),
                    "images": {in_registry(f"{name}_300"): 1},
                }
            }
        }
    )
    (capture,) = list_captures(found, "잠실", Path())
    (frame,) = capture.frames
    assert (capture.missing_count, frame.altitude) == (0, 300.0)
    assert str(frame.key) == unicodedata.normalize("NFC", f"image/잠실/{name}_300/0001")
    assert frame.path.is_file()


def test_a_label_and_a_folder_spelt_the_other_way() -> None:
    touch(f"root/{nfd('가을')}/{nfd('라벨')}_0001.jpg")
    for label in ("라벨", nfd("라벨")):
        capture = only(
            {"a": {"folder": "가을", "label": label, "frames": 1}}, filename_template="{label}_{frame:04d}.jpg"
        )
        assert numbers(capture) == [1]


def test_a_folder_that_is_a_link_out_of_the_root_is_refused() -> None:
    touch("secret/a_0001.jpg", "root/x")
    Path("root/a").symlink_to(Path("secret").absolute())
    with pytest.raises(RegistryError, match="leads out of the root"):
        only({"a": "all"})


def test_a_link_within_the_root_is_followed_and_files_may_be_links() -> None:
    touch("root/real/a_0001.jpg", "elsewhere/big.jpg")
    Path("root/a").symlink_to("real")
    Path("root/real/a_0002.jpg").symlink_to(Path("elsewhere/big.jpg").absolute())
    assert numbers(only({"a": "all"})) == [1, 2]


def test_a_linked_folder_inside_a_capture_is_not_followed() -> None:
    """A filename template with a folder in it must not walk out through a link either."""
    touch("secret/a_0001.jpg", "root/a/plain/a_0002.jpg")
    Path("root/a/sub").symlink_to(Path("secret").absolute())
    assert numbers(only({"a": "all"}, filename_template="{label}/{capture_id}_{frame:04d}.jpg")) == []
    capture = only({"a": {"label": "sub"}}, filename_template="{label}/{capture_id}_{frame:04d}.jpg")
    assert numbers(capture) == []
    capture = only({"a": {"label": "plain"}}, filename_template="{label}/{capture_id}_{frame:04d}.jpg")
    assert numbers(capture) == [2]


def test_a_root_that_is_no_folder_is_named() -> None:
    with pytest.raises(RegistryError, match=r"'d': its root root is not a folder; set --datasets"):
        only({"a": 1})
    touch("root")
    with pytest.raises(RegistryError, match="is not a folder"):
        only({"a": 1})


def test_captures_keep_the_registrys_order() -> None:
    Path("root").mkdir()
    names = ["z", "a", "m_300", "b"]
    assert [c.capture_id for c in list_captures(registry(dict.fromkeys(names, 1)), "d", Path())] == names


def test_the_sample_photos_are_where_its_registry_says(shared_sample: Path) -> None:
    """Real cameras: one numbers from 18 on, both leave gaps."""
    sample = read_registry(shared_sample / "data_key.json")
    for name, declared in (("brighton_beach", 18), ("caliterra", 25)):
        (capture,) = list_captures(sample, name, shared_sample)
        assert len(capture.frames) + capture.missing_count == declared
        assert capture.missing_count == 0
        assert all(frame.path.is_file() for frame in capture.frames)


# Names that differ only in Unicode form or letter case


def test_a_source_is_stored_in_nfc_and_found_by_a_condition() -> None:
    touch(f"root/{nfd('잠실_300')}/{nfd('잠실_300')}_0001.jpg")
    (frame,) = only({"잠실_300": 1}).frames
    assert frame.source == "잠실_300/잠실_300_0001.jpg" != nfd(frame.source)
    assert frame.path.is_file()
    row = frame_item(frame).row()
    assert row["source"] == frame.source
    for typed in (frame.source, nfd(frame.source)):
        assert parse(f'source="{typed}"').matches(row)
    assert parse(f"source={nfd('잠실')}*").matches(row)


def test_an_item_of_any_kind_has_its_source_in_nfc() -> None:
    item = Item("specimen/s/é", Kind.SPECIMEN, "s", "é", source=nfd("é.ply"))
    assert item.source == "é.ply"
    assert Item.from_row({**item.row(), "source": nfd("é.ply")}) == item


def test_a_key_typed_in_nfd_is_the_key_of_the_item() -> None:
    key = image_key("잠실", "가을_300", 1)
    assert nfd(key) != key
    assert item_id(nfd(key)) == item_id(key)
    assert item_of_key(nfd(key)) == item_of_key(key)
    assert parse_image_key(nfd(key)) == parse_image_key(key)


def test_a_file_below_a_root_is_found_in_either_form() -> None:
    touch(f"root/{nfd('가을')}/{nfd('é')}.jpg")
    found = on_disk(Path("root"), ("가을", "é.jpg"))
    assert found is not None and found.is_file()
    assert on_disk(Path("root"), ("겨울", "é.jpg")) is None


def test_two_files_whose_names_differ_only_in_form_are_reported() -> None:
    touch("root/가_1/가_1_0001.jpg", f"root/가_1/{nfd('가_1')}_0001.jpg", "root/가_1/가_1_0002.jpg")
    if len(list(Path("root/가_1").iterdir())) < 3:
        pytest.skip("this disk does not tell the two forms apart")
    capture = only({"가_1": 2})
    assert numbers(capture) == [1, 2]
    assert capture.frames[0].path.name == "가_1_0001.jpg"
    (said,) = capture.doubled
    assert "가_1_0001.jpg and 1 more differ only in Unicode form; the one in NFC is taken" in said


def test_two_folders_whose_names_differ_only_in_form_are_reported() -> None:
    touch("root/가/가_0001.jpg", f"root/{nfd('가')}/가_0002.jpg")
    if len(list(Path("root").iterdir())) < 2:
        pytest.skip("this disk does not tell the two forms apart")
    capture = only({"가": "all"})
    assert numbers(capture) == [1]
    (said,) = capture.doubled
    assert "differ only in Unicode form" in said


def test_a_name_in_another_letter_case_is_found_where_it_is_the_only_one() -> None:
    touch("root/a/a_0001.JPG", "root/a/A_0002.jpg", "root/a/a_0003.jpg", "root/a/a_0003.JPG")
    capture = only({"a": 3})
    assert numbers(capture) == [1, 2, 3]
    assert [frame.path.name for frame in capture.frames] == ["a_0001.JPG", "A_0002.jpg", "a_0003.jpg"]
    assert capture.frames[0].source == "a/a_0001.JPG"
    assert not capture.doubled and capture.missing_count == 0


def test_two_names_in_another_letter_case_are_reported_and_not_taken() -> None:
    touch("root/a/a_0001.JPG", "root/a/A_0001.jpg", "root/a/a_0002.jpg")
    capture = only({"a": 2})
    assert numbers(capture) == [2]
    assert capture.missing == (1,)
    (said,) = capture.doubled
    assert "and 1 more differ only in letter case; none is taken" in said


def test_where_no_file_fits_it_is_said_which_are_there() -> None:
    touch(*(f"root/a/DJI_{n:04d}.png" for n in range(1, 6)))
    capture = only({"a": 3})
    assert capture.missing_count == 3
    failure = missing_frames("d", capture)[0]
    for part in ("DJI_0001.png", "DJI_0003.png", "and 2 more", "a_0001.jpg"):
        assert part in failure.reason
    assert "DJI_0004" not in failure.reason
    assert only({"b": 1}).hint == "; there is no folder root/b, and root holds a"
    Path("root/c").mkdir()
    assert only({"c": 1}).hint == "; looked for c_0001.jpg first, and root/c holds no files"


def test_the_most_alike_names_come_first() -> None:
    touch("root/a/IMG_7.jpg", "root/a/a_001.jpg", "root/a/zebra.jpg", "root/a/a-0001.jpg", "root/a/other.png")
    assert (
        "looked for a_0001.jpg first, and root/a holds a_001.jpg, a-0001.jpg, IMG_7.jpg and 2 more"
        in only({"a": 1}).hint
    )
    Path("root/aa").mkdir()
    assert "there is no folder root/ab, and root holds a, aa" in only({"ab": 1}).hint
    with pytest.raises(RegistryError, match=r"its root rood is not a folder.*\(\. holds root\)"):
        list_captures(registry({"a": 1}, root="rood"), "d", Path())
