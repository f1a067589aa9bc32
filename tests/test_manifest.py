"""Manifests: what they may say, that a wrong field is named with its line, and that the JSON Schema says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from outcrop.embed.features import FeatureKind
from outcrop.schema.documents import UniqueKeys
from outcrop.schema.errors import ManifestError
from outcrop.schema.manifest import Manifest, _degrees, _numbers, output_roots, read_manifest, weights_of

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs/examples").glob("manifest*"))
GROUP = {"dataset": "town", "capture_id": "1"}


def written(folder: Path, text: str, ending: str = "json") -> Path:
    path = folder / f"manifest.{ending}"
    path.write_text(text, encoding="utf-8")
    return path


def plain(path: Path) -> Any:
    text = path.read_text()
    return yaml.load(text, Loader=UniqueKeys) if path.suffix == ".yaml" else json.loads(text)


def test_the_examples_are_four() -> None:
    assert [path.name for path in EXAMPLES] == [
        "manifest.json",
        "manifest.yaml",
        "manifestQuery.json",
        "manifestReference.json",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_manifests_for_us_and_for_the_json_schema(path: Path) -> None:
    manifest = read_manifest(path)
    assert manifest.datasets or manifest.image_groups
    jsonschema.validate(plain(path), json.loads((ROOT / "docs/manifest.schema.json").read_text()))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_write_global_patch_and_grid_features(path: Path) -> None:
    kinds = read_manifest(path).kinds
    assert "patch" in kinds and "grid:side=4" in kinds


def test_the_example_in_yaml_names_every_field() -> None:
    values = plain(ROOT / "docs/examples/manifest.yaml")
    assert set(values) == set(Manifest.model_fields)
    for name in ("features", "run", "output"):
        assert set(values[name]) == set(Manifest.model_fields[name].annotation.model_fields)  # type: ignore[union-attr]
    assert set(values["image_groups"][0]) == {"dataset", "capture_id", "folder", "label_token", "indices", "rotations"}


def test_what_was_written_is_what_is_read() -> None:
    manifest = read_manifest(ROOT / "docs/examples/manifest.yaml")
    captures = manifest.datasets["jamshill_image"].captures
    assert isinstance(captures, dict)
    assert captures["250918092555_300"] == tuple(range(1, 301))  # no number, though YAML 1.1 would read one
    assert captures["250918101210_150"] == (1, 2, *range(10, 21))
    assert manifest.datasets["field_image"].captures == "all"
    (group,) = manifest.image_groups
    assert group.label_token == "300" and group.rotations == tuple(30.0 * n for n in range(12))
    assert [(v.name, v.stride) for v in manifest.variants] == [("raw", 2), ("subsample", 2)]


def test_kinds_of_features() -> None:
    def kinds(**fields: Any) -> tuple[str, ...]:
        return Manifest.model_validate({"datasets": ["a"], **fields}).kinds

    assert kinds() == kinds(variants=[]) == kinds(features={"patch": False}) == ()
    assert (
        kinds(variants=["subsample"]) == kinds(variants=["subsample"], features={"patch": True}) == ("patch:stride=2",)
    )
    assert kinds(features={"patch": True}) == ("patch",)
    variants = ["raw", "subsample", {"name": "subsample", "random": 9, "seed": 4}]
    several = kinds(features={"patch": True, "grid": 3}, variants=variants, run={"generate_denseft": True})
    assert several == ("patch", "patch:stride=2", "patch:random=9:seed=4", "grid:side=3", "dense")
    for text in several:
        FeatureKind.parse(text)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('{"datasets": ["a"],\n"modle": "x"}', 2, "unknown field 'modle'; did you mean 'model'?"),
        ('{\n\t"datasets":\n\t{"a": {"capturs": {}}}}', 3, "datasets.a: unknown field 'capturs'; did you mean 'captures'?"),
        ('{"datasets": {"a": {"captures": {\n"x": "9..3"}}}}', 2, 'frames \'9..3\' run backwards; write "3..9"'),
        ('{"datasets": {"a": {"captures": {"x":\n[1, -2]}}}}', 1, "frame -2 is negative"),
        ('{"image_groups": [\n{"dataset": "a"}]}', 2, "image_groups.0.capture_id: Field required"),
        ('{"datasets": ["a"],\n\n"variants": ["raw",\n"subsampel"]}', 4, "not 'subsampel'; did you mean 'subsample'?"),
        ('{"datasets": ["a"], "run":\n{"batch": -1}}', 2, "run.batch: Input should be greater than or equal to 0"),
        ('{"datasets": ["a"], "variants": ["raw"],\n"features": {"patch": false}}', 1, "features.patch is false"),
        ('{"datasets": ["a"],\n"fit": "sqash"}', 2, "did you mean 'squash'?"),
        ("{}", 1, "there is nothing to embed"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"manifest {path}, line {line}: ") and said in str(caught.value)


def test_lines_of_yaml(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "# spring\ndatasets:\n  - a\nimage_groups:\n  - dataset: a\n    capture_id: b\n    rotation: 3\n",
        "yaml",
    )
    with pytest.raises(
        ManifestError, match=r"line 7: image_groups\.0: unknown field 'rotation'; did you mean 'rotations'"
    ):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"datasets": ["a"], "datasets": ["b"]}', "duplicate key 'datasets'"),
        ('{"datasets": ["a"],\n]', "is not valid JSON: line 2"),
        ("[1]", "is not an object"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        read_manifest(written(tmp_path, text))
    with pytest.raises(ManifestError, match="no manifest at"):
        read_manifest(tmp_path / "nowhere.json")


@given(st.lists(st.one_of(st.integers(0, 50), st.tuples(st.integers(0, 40), st.integers(0, 9))), max_size=8))
def test_frames_are_the_union_of_what_is_named(parts: list[Any]) -> None:
    text = [part if isinstance(part, int) else f"{part[0]}..{part[0] + part[1]}" for part in parts]
    expected = {n for part in parts for n in ([part] if isinstance(part, int) else range(part[0], sum(part) + 1))}
    assert _numbers(text) == tuple(sorted(expected))


@given(st.integers(0, 359), st.integers(1, 360), st.integers(1, 400))
def test_rotations_leave_the_end_out(start: int, stop: int, step: int) -> None:
    if start < stop:
        assert _degrees(f"{start}:{stop}:{step}") == tuple(float(n) for n in range(start, stop, step))
    else:
        with pytest.raises(ValueError, match="the end after the start"):
            _degrees(f"{start}:{stop}:{step}")


@pytest.mark.parametrize("wrong", [True, 360, -1, "north", [0, "x"], [400.0], "0:360:0", "0:720:90"])
def test_what_is_no_rotation(wrong: Any) -> None:
    with pytest.raises(ValueError, match="rotation"):
        _degrees(wrong)


def test_the_environment_says_where_files_go(tmp_path: Path) -> None:
    manifest = Manifest.model_validate({"datasets": ["a"], "output": {"root": "here", "reference_root": "/there"}})
    assert output_roots(manifest, tmp_path, {}) == (tmp_path / "here", Path("/there"))
    asked = {"EMBED_ROOT": "/e", "REFERENCE_EMBED_ROOT": "/r"}
    assert output_roots(manifest, tmp_path, asked) == (Path("/e"), Path("/r"))
    assert output_roots(Manifest.model_validate({"datasets": ["a"]}), tmp_path, {}) == (None, None)


def test_weights_are_a_file_or_a_place_in_the_registry(tmp_path: Path) -> None:
    def at(weights: str | None) -> Path | None:
        manifest = Manifest.model_validate({"datasets": ["a"], "weights": weights})
        return weights_of(manifest, tmp_path, registered, tmp_path / "w")

    folder = tmp_path / "w/01_ViT_LVD-1689M"
    folder.mkdir(parents=True)
    (folder / "vits.16.pth").touch()
    (tmp_path / "own.pth").touch()
    registered = {
        "dinov3_weights": {"01_ViT_LVD-1689M": {"vits.16": "01_ViT_LVD-1689M/vits.16.pth"}, "gone": "gone.pth"}
    }
    assert at(None) is None
    assert at("own.pth") == tmp_path / "own.pth"
    assert at("dinov3_weights.01_ViT_LVD-1689M.vits.16") == folder / "vits.16.pth"
    assert at("dinov3_weights.01_ViT_LVD-1689M") == folder
    with pytest.raises(ManifestError, match="did you mean '01_ViT_LVD-1689M'"):
        at("dinov3_weights.01_ViT_LVD")
    with pytest.raises(ManifestError, match=f"the registry names {tmp_path}/w/gone.pth, and no file is there"):
        at("dinov3_weights.gone")
    with pytest.raises(ManifestError, match=f"weights: no file at {tmp_path}/weights/own.pth"):
        at("weights/own.pth")
    with pytest.raises(ManifestError, match=f"weights: no file at {tmp_path}/gone.safetensors"):
        at("gone.safetensors")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250918092555_300", "250918092555_300"),
        ("10:50:20", "10:50:20"),
        ("1_000", "1_000"),
        ("0042", "0042"),
        ("7", 7),
        ("-3", -3),
        ("0", 0),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("2.", 2.0),
        ("1..40", "1..40"),
        ("true", True),
        ("~", None),
    ],
)
def test_numbers_of_yaml(text: str, value: object) -> None:
    """As YAML 1.2 reads them, not 1.1."""
    found = yaml.load(f"x: {text}", Loader=UniqueKeys)["x"]
    assert found == value and type(found) is type(value)
