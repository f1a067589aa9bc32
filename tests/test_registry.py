"""The registry: what it may say, how mistakes are told, and that no template leads out of a dataset's root."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from outcrop.schema.errors import RegistryError
from outcrop.schema.registry import (
    TEMPLATE_FIELDS,
    Capture,
    Dataset,
    Registry,
    read_registry,
    split_capture,
    weights_search,
)

JAMSHILL = {
    "root": "01_02_jamshill_data_image",
    "folder_template": "{capture_id}",
    "filename_template": "{capture_id}_{frame:04d}.jpg",
    "images": {"250918092555_300": 300, "250918093119_150": {"frames": "1..40", "altitude": 155.5}},
}
WHOLE = {"datasets": {"jamshill_image": JAMSHILL}, "weights": {"dinov3_weights": {}}}
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\:"), min_size=1, max_size=10)


def write(values: Any, name: str = "data_key.json") -> Path:
    path = Path(name)
    if isinstance(values, str):
        path.write_text(values, encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return path


def read(values: Any, name: str = "data_key.json") -> Registry:
    return read_registry(write(values, name))


def with_dataset(**changes: Any) -> dict[str, Any]:
    return {"datasets": {"jamshill_image": JAMSHILL | changes}}


def complaint(values: Any, name: str = "data_key.json") -> str:
    with pytest.raises(RegistryError) as caught:
        read(values, name)
    text = str(caught.value)
    assert name in text and "\n" not in text, text
    return text


@pytest.mark.parametrize("name", ["data_key.json", "data_key.yaml", "data_key.YML"])
def test_json_and_yaml_say_the_same(name: str) -> None:
    path = Path(name)
    path.write_text(json.dumps(WHOLE), encoding="utf-8")  # JSON is YAML
    registry = read_registry(path)
    dataset = registry.dataset("jamshill_image")
    assert dataset.images["250918092555_300"].frames == 300
    assert dataset.images["250918093119_150"].frames == tuple(range(1, 41))
    assert dataset.root == "01_02_jamshill_data_image"


def test_yaml_names_are_taken_as_they_stand() -> None:
    """YAML 1.1 reads 250918092555_300 as a number (without the underscore), 2025-09-18 as a date and no as false."""
    names = ["250918092555_300", "2025-09-18", "no", "007", "1e3", "~", "0x10"]
    text = "datasets:\n  d:\n    root: r\n    images:\n" + "".join(f"      {name}: 5\n" for name in names)
    assert list(read(text, "data_key.yaml").dataset("d").images) == names


def test_yaml_merges_are_understood() -> None:
    text = (
        "base: &base\n  root: r\n  filename_template: 'x_{frame}.png'\n"
        "datasets:\n  d:\n    <<: *base\n    root: other\n    images: {a: 1}\n"
    )
    dataset = read(text, "data_key.yaml").dataset("d")
    assert (dataset.root, dataset.filename_template) == ("other", "x_{frame}.png")


def test_a_byte_order_mark_is_no_matter() -> None:
    Path("data_key.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(WHOLE).encode())
    assert read_registry(Path("data_key.json")).datasets


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ('{"datasets": {\n  "a": {"root": "r",}\n}}', "data_key.json", "line 2"),
        ("{", "data_key.json", "line 1"),
        ("", "data_key.json", "line 1"),
        ("datasets:\n  a: [\n", "data_key.yaml", "line 3"),
        ("datasets:\n\ta: 1\n", "data_key.yaml", "line 2"),
        ('{"datasets": {}, "datasets": {}}', "data_key.json", "duplicate key 'datasets'"),
        ('{"datasets": {"a": {"root": "r", "images": {"x": 1, "x": 2}}}}', "data_key.json", "duplicate key 'x'"),
        ("datasets: {}\ndatasets: {}\n", "data_key.yaml", "duplicate key 'datasets'"),
        ('datasets: {a: {root: r, images: {300: 1, "300": 2}}}', "data_key.yaml", "duplicate key '300'"),
        ("[1]", "data_key.json", "is not an object"),
        ("null", "data_key.json", "is not an object"),
        ("", "data_key.yaml", "is not an object"),
        ("{}", "data_key.json", "has no field 'datasets'"),
        ('{"dataset": {}}', "data_key.json", "did you mean 'dataset'"),
        ("[" * 100_000, "data_key.json", "nested too deeply"),
        ('{"datasets": ' + "9" * 5000 + "}", "data_key.json", "data_key.json"),
        ("datasets: &a [*a]\n", "data_key.yaml", "data_key.yaml"),
        ("datasets: !!python/object:os.system {}\n", "data_key.yaml", "line 1"),
        ("a: \x01\n", "data_key.yaml", "data_key.yaml"),
    ],
)
def test_broken_text_is_told_with_its_place(text: str, name: str, expected: str) -> None:
    assert expected in complaint(text, name)


def test_both_spellings_of_a_capture_are_one_capture() -> None:
    names = {unicodedata.normalize(form, "가을_300"): 1 for form in ("NFC", "NFD")}
    assert len(names) == 2
    assert "duplicate" in complaint(with_dataset(images=names))


def test_both_spellings_of_a_dataset_are_one_dataset() -> None:
    names = {unicodedata.normalize(form, "가을"): JAMSHILL for form in ("NFC", "NFD")}
    assert "duplicate" in complaint({"datasets": names})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"folder_templat": "x"}, "did you mean 'folder_template'"),
        ({"image": {}}, "did you mean 'images'"),
        ({"images": {"a": {"frame": 3}}}, "did you mean 'frames'"),
        ({"images": {"a": {"altitud": 3}}}, "did you mean 'altitude'"),
        ({"images": [1]}, "images maps each capture"),
        ({"images": {"a": True}}, "true or false"),
        ({"images": {"a": -1}}, "between 0 and"),
        ({"images": {"a": 10**9}}, "between 0 and"),
        ({"images": {"a": [1, -1]}}, "must not be negative"),
        ({"images": {"a": [1, "b"]}}, "images.a.frames"),
        ({"images": {"a": "some"}}, "images.a.frames"),
        ({"images": {"a": 1.5}}, "images.a.frames"),
        ({"images": {"a": "9..1"}}, "run backwards"),
        ({"images": {"a": "0..99999999"}}, "more than"),
        ({"images": {"a": {"altitude": -5}}}, "altitude"),
        ({"images": {"a": {"altitude": "high"}}}, "altitude"),
        ({"images": {"": 1}}, "not a valid name for a capture"),
        ({"images": {"a\nb": 1}}, "not a valid name for a capture"),
        ({"images": {"a\x85b": 1}}, "not a valid name for a capture"),
        ({"root": 3}, "root"),
        ({"root": None}, "root"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], expected: str) -> None:
    changes = {k: v for k, v in changes.items()}
    values = with_dataset(**changes)
    if "image" in changes:
        del values["datasets"]["jamshill_image"]["images"]
    if "folder_templat" in changes:
        del values["datasets"]["jamshill_image"]["folder_template"]
    text = complaint(values)
    assert expected in text
    assert "jamshill_image" in text


def test_names_that_are_no_text_are_refused() -> None:
    """JSON can write half a surrogate pair, which no file system and no database takes."""
    assert "lone surrogate" in complaint('{"datasets": {"d": {"root": "r", "images": {"a\\ud800": 1}}}}')
    assert "lone surrogate" in complaint('{"datasets": {"d\\ud800": {"root": "r"}}}')
    assert "not a valid name" in complaint('{"datasets": {"": {"root": "r"}}}')
    assert "lone surrogate" in complaint('{"datasets": {"d": {"root": "r\\ud800"}}}')


def test_altitude_that_is_no_number() -> None:
    assert "altitude" in complaint('{"datasets": {"d": {"root": "r", "images": {"a": {"altitude": NaN}}}}}')


@pytest.mark.parametrize("note", ["notes", "comment", "description", "sensor", "crs", "camera", "date", "_", "설명"])
def test_notes_are_welcome(note: str) -> None:
    values = with_dataset(**{note: "x"})
    values["datasets"]["jamshill_image"]["images"] = {"a": {note: 1, "frames": 3}}
    values[note] = "y"
    assert read(values).dataset("jamshill_image").images["a"].frames == 3


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (300, 300),
        (0, 0),
        ("all", "all"),
        (None, "all"),
        ([3, 1, 1], (1, 3)),
        ([], ()),
        ("1..4", (1, 2, 3, 4)),
        (" 7 - 9 ", (7, 8, 9)),
        ({"frames": [5]}, (5,)),
        ({}, "all"),
    ],
)
def test_frames_are_a_count_a_list_a_range_or_all(frames: Any, expected: Any) -> None:
    assert read(with_dataset(images={"a": frames})).dataset("jamshill_image").images["a"].frames == expected


def test_altitude_is_stated_or_named() -> None:
    images = {"250918092555_300": 1, "x_12.5": 1, "y": 1, "z_100": {"altitude": 90}, "250918092555": 1}
    dataset = read(with_dataset(images=images)).dataset("jamshill_image")
    assert [dataset.altitude(name) for name in images] == [300.0, 12.5, None, 90.0, None]


@given(NAMES, st.integers(0, 99_999))
def test_a_capture_name_splits_into_scene_and_altitude(scene: str, altitude: int) -> None:
    assert split_capture(f"{scene}_{altitude}") == (scene, str(altitude))


def test_the_nearest_dataset_is_named() -> None:
    registry = read(WHOLE)
    with pytest.raises(RegistryError, match="did you mean 'jamshill_image'"):
        registry.dataset("jamshil")
    with pytest.raises(RegistryError, match="the registry has: jamshill_image"):
        registry.dataset("zzz")


def test_a_dataset_is_found_by_either_spelling() -> None:
    registry = read({"datasets": {unicodedata.normalize("NFD", "잠실"): JAMSHILL}})
    for form in ("NFC", "NFD"):
        assert registry.dataset(unicodedata.normalize(form, "잠실")).root == JAMSHILL["root"]


CLIMBING = [
    "../x",
    "a/../../x",
    "/etc",
    "//host/x",
    "C:/x",
    "C:x",
    r"\\host\share",
    r"..\x",
    r"a\..\..\x",
    r"\x",
    "a\0b",
]


@pytest.mark.parametrize("path", CLIMBING)
def test_no_path_leaves_the_root(path: str) -> None:
    assert "root" in complaint(with_dataset(root=path))
    for field in ("folder_template", "filename_template"):
        assert field in complaint(with_dataset(**{field: path + "{frame}"}))
    registry = read(with_dataset(images={"a": {"folder": path}}))
    with pytest.raises(RegistryError, match="capture 'a'"):
        registry.dataset("jamshill_image").folder("a")
    if "\0" not in path:
        registry = read(with_dataset(images={path: 1}))
        with pytest.raises(RegistryError, match="leaves its root"):
            registry.dataset("jamshill_image").folder(path)


@pytest.mark.parametrize(
    "template",
    [
        "{frame.__class__}",
        "{frame.__class__.__mro__}",
        "{capture_id[0]}_{frame}",
        "{frame!r}",
        "{0}{frame}",
        "{}{frame}",
        "{frame:>99999999}",
        "{frame:9999999d}",
        "{frame:{capture_id}}",
        "{capture_id:10}_{frame}",
        "{frame",
        "{frame:x}",
        "{frame:.3f}",
        "{captur_id}_{frame}",
    ],
)
def test_templates_are_names_and_widths_only(template: str) -> None:
    """`str.format` would walk into objects and print gigabytes of blanks."""
    text = complaint(with_dataset(filename_template=template))
    assert "template" in text
    if template.startswith("{captur_id"):
        assert "did you mean 'capture_id'" in text


def test_a_filename_template_has_a_frame() -> None:
    assert "has no {frame}" in complaint(with_dataset(filename_template="{capture_id}.jpg"))


@hypothesis_settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [f"{{{name}}}" for name in TEMPLATE_FIELDS] + ["{frame:04d}", "..", "/", "\\", "C:", "a", "{{", "}}"]
        ),
        min_size=1,
        max_size=6,
    ).map("".join),
    NAMES | st.sampled_from(["..", ".", "...", "C:", "a/../..", "/", "~"]),
    st.none() | NAMES | st.sampled_from(["..", "/etc", "a/.."]),
)
def test_whatever_a_template_says_the_folder_stays_below(template: str, capture: str, folder: str | None) -> None:
    values = {"root": "r", "folder_template": template, "images": {capture: {"folder": folder, "label": capture}}}
    try:
        dataset = Registry.model_validate({"datasets": {"d": values}}).dataset("d")
        path = dataset.folder(unicodedata.normalize("NFC", capture))
    except (ValueError, RegistryError):
        return
    root = Path("/registry/r")
    assert not path.is_absolute() and ".." not in path.parts
    assert (root / path).is_relative_to(root)


def test_template_fields_are_what_templates_may_say() -> None:
    """Each documented field can be used, and is filled."""
    template = "_".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
    dataset = read(with_dataset(filename_template=template, images={"s_20": {"folder": "f", "label": "l"}})).dataset(
        "jamshill_image"
    )
    assert dataset.filename("s_20", 7).as_posix() == "s_20_7_s_20_l_f"
    assert {n for _, n, _, _ in string.Formatter().parse(template)} == set(TEMPLATE_FIELDS)


def test_a_missing_or_unreadable_registry_is_told(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="OUTCROP_REGISTRY"):
        read_registry(tmp_path / "absent.json")
    with pytest.raises(RegistryError, match="cannot be read"):
        read_registry(tmp_path)
    (tmp_path / "latin.json").write_bytes('{"é": 1}'.encode("latin-1"))
    with pytest.raises(RegistryError, match="not UTF-8"):
        read_registry(tmp_path / "latin.json")


def test_weights_are_found_beside_the_registry(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/a.pth").touch()
    weights = {
        "group": {"a": "w/a.pth", "absent": "w/b.pth"},
        "w": {},
        "note": "long words about the weights, " * 100,
        "nul": "\0",
        "more": ["w/a.pth", 3, None],
    }
    path = write(WHOLE | {"weights": weights}, str(tmp_path / "data_key.json"))
    assert set(weights_search(path)) == {tmp_path / "w/a.pth", tmp_path / "w"}
    assert weights_search(tmp_path / "absent.json") == []


def test_weights_lie_in_folders_that_keys_name(tmp_path: Path) -> None:
    """The layout of the aerial teams: a folder for each kind of weights, files named by model."""
    for folder, file in (("01_ViT_LVD-1689M", "a.pth"), ("w/03_ViT_SAT-493M", "b.pth")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / file).touch()
    weights = {
        "dinov3_weights": {
            "01_ViT_LVD-1689M": {"vits16": "a.pth", "vitb16": "absent.pth"},
            "02_ConvNeXT_LVD-1689M": {"tiny": "c.pth"},
        },
        "w": {"03_ViT_SAT-493M": ["b.pth"]},
    }
    path = write(WHOLE | {"weights": weights}, str(tmp_path / "data_key.json"))
    first, second = tmp_path / "01_ViT_LVD-1689M", tmp_path / "w/03_ViT_SAT-493M"
    assert weights_search(path) == [first, first / "a.pth", tmp_path / "w", second, second / "b.pth"]


def test_the_sample_registry_reads(shared_sample: Path) -> None:
    registry = read_registry(shared_sample / "data_key.json")
    assert {"brighton_beach", "caliterra"} <= set(registry.datasets)


# -- docs/registry.md and its JSON Schema --------------------------------------------------------------------------

PAGE = (Path(__file__).parents[1] / "docs/registry.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
SCHEMA = json.loads((Path(__file__).parents[1] / "docs/registry.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_of_the_page_are_registries_for_us_and_for_the_json_schema(text: str, tmp_path: Path) -> None:
    (tmp_path / "data_key.json").write_text(text)
    assert read_registry(tmp_path / "data_key.json").datasets or "weights" in text
    jsonschema.validate(json.loads(text), SCHEMA)


def test_the_page_shows_every_field() -> None:
    assert len(EXAMPLES) >= 5
    for model in (Dataset, Capture):
        for name in model.model_fields:
            assert f"`{name}`" in PAGE, name
    assert all(f"{{{name}}}" in PAGE for name in TEMPLATE_FIELDS)


@pytest.mark.parametrize(
    "frames", [3, 0, "all", "1..40", "1-40", [1, 2], None, {"frames": "all"}, {"altitude": 95.5}, {}]
)
def test_frames_that_both_take(frames: object) -> None:
    jsonschema.validate({"datasets": {"d": {"root": "r", "images": {"c": frames}}}}, SCHEMA)
    assert Dataset.model_validate({"root": "r", "images": {"c": frames}}).images["c"]


@pytest.mark.parametrize("frames", [-1, "some", True, [1, -2], [1.5], {"altitude": -1}, {"frames": "x"}])
def test_frames_that_neither_takes(frames: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"datasets": {"d": {"root": "r", "images": {"c": frames}}}}, SCHEMA)
    with pytest.raises(ValueError):
        Dataset.model_validate({"root": "r", "images": {"c": frames}})


def test_notes_and_the_schema_itself_may_be_named(tmp_path: Path) -> None:
    values = {
        "$schema": "docs/registry.schema.json",
        "flown_by": "us",
        "datasets": {"d": {"root": "r", "sky": "clear"}},
    }
    (tmp_path / "data_key.json").write_text(json.dumps(values))
    assert read_registry(tmp_path / "data_key.json").dataset("d").root == "r"
    jsonschema.validate(values, SCHEMA)
