"""Checkpoints in Meta's layouts become networks, or are refused with the tensor named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from meta_checkpoints import CONVNEXTS, VITS, Shape, convnext, pixels, small, vit

from outcrop.embed import backbones
from outcrop.embed.backbones import bare, build
from outcrop.embed.encoder import Encoder
from outcrop.embed.layouts import Misfit, layouts
from outcrop.embed.models import find_model, find_preset
from outcrop.embed.weights import load_state, locate
from outcrop.schema.errors import WeightsError

GIVEN = Path("given.pth")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from more, and beside other busy processes threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Whole files, of the published sizes

MADE = {
    "dinov2_vits14_reg": (
        "dinov2_vits14_reg4_pretrain.pth",
        lambda: vit(Shape(384, 12, 6, 1536, 14, table=37, registers=True)),
    ),
    "dinov3_vits16": (
        "dinov3_vits16_pretrain_lvd1689m-08c60483.pth",
        lambda: vit(Shape(384, 12, 6, 1536, 16, registers=True)),
    ),
    "dinov3_convnext_tiny": (
        "dinov3_convnext_tiny_pretrain_lvd1689m-21b726bb.pth",
        lambda: convnext((96, 192, 384, 768), (3, 3, 9, 3)),
    ),
}


@pytest.fixture(scope="module")
def meta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one random checkpoint of each layout, named as Meta names them; half precision keeps them small."""
    folder = tmp_path_factory.mktemp("weights")
    for filename, make in MADE.values():
        torch.save({name: tensor.half() for name, tensor in make().items()}, folder / filename)
    return folder


def reference(model: str, folder: Path, size: tuple[int, int]) -> torch.nn.Module:
    """The network as timm's own loader makes it of the same file."""
    preset = find_preset(model)
    options = {"img_size": size} if model.startswith("dinov2") else {}
    return timm.create_model(
        preset.timm_name,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(folder / MADE[model][0])},
        num_classes=0,
        global_pool=preset.pooling,
        **options,
    ).eval()


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("dinov2_vits14_reg", (98, 126)),
        ("dinov3_vits16", (64, 96)),
        ("dinov3_convnext_tiny", (64, 96)),
    ],
)
def test_an_encoder_of_a_file_gives_what_timms_loader_gives(model: str, size: tuple[int, int], meta: Path) -> None:
    preset = find_preset(model)
    pictures = np.concatenate([pixels(size, seed) for seed in (1, 2)])
    pictures[1] //= 3
    network = reference(model, meta, size)
    if model == "dinov3_vits16":  # timm computes the periods anew; Meta's code loads the rounded ones of the file
        network.rope.periods.copy_(load_state(meta / MADE[model][0])["rope_embed.periods"])
    planes = (
        torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - torch.tensor(preset.mean)[:, None, None]
    ) / torch.tensor(preset.std)[:, None, None]
    with torch.inference_mode():
        expected = network(planes).numpy()
    encoder = Encoder.open(find_model(model, weights=meta, size=size), device="cpu", precision="fp32")
    found = encoder.encode(pictures)
    assert found.shape == (2, preset.dim)
    assert cosines(found, expected).min() > 0.99999
    assert cosines(found[:1], found[1:])[0] < 0.9999  # the picture matters
    assert encoder.space == find_model(model, meta, size=size).space
    assert np.abs(encoder.encode(pictures[1:])[0] - found[1]).max() < 1e-5


# Damaged files

LAYERS = {
    "dinov2_vits14": "blocks.1.attn.qkv.weight",
    "dinov2_vits14_reg": "register_tokens",
    "dinov2_vitg14": "blocks.3.mlp.w12.weight",
    "dinov3_vits16": "storage_tokens",
    "dinov3_vitl16_sat": "local_cls_norm.bias",
    "dinov3_vithplus16": "blocks.2.mlp.w2.bias",
    "dinov3_vit7b16": "rope_embed.periods",
    "dinov3_convnext_tiny": "stages.1.1.pwconv2.bias",
}
"""Of each layout one tensor, by the name that it bears in Meta's file."""


@pytest.mark.parametrize(("model", "layer"), LAYERS.items(), ids=LAYERS)
def test_a_tensor_missing_added_or_misshaped_is_named(model: str, layer: str) -> None:
    preset, make = small(model)
    state = make()
    build(preset, state, preset.size, GIVEN)
    complaint = rf"given\.pth: does not fit {model}: tensor '{{}}' is {{}}"
    with pytest.raises(WeightsError, match=complaint.format(layer, "missing")):
        build(preset, {name: value for name, value in state.items() if name != layer}, preset.size, GIVEN)
    with pytest.raises(WeightsError, match=complaint.format("extra.weight", "unexpected")):
        build(preset, state | {"extra.weight": torch.ones(2)}, preset.size, GIVEN)
    with pytest.raises(
        WeightsError, match=complaint.format(layer, rf"\[5, 5\], expected \[[\d, ]*{state[layer].shape[-1]}\]")
    ):
        build(preset, state | {layer: torch.ones(5, 5)}, preset.size, GIVEN)


@pytest.mark.parametrize("model", [*VITS, *CONVNEXTS])
def test_every_tensor_of_a_file_is_needed(model: str) -> None:
    preset, make = small(model)
    state = make()
    layout = layouts(preset, bare(preset, preset.size))[0]
    assert set(layout.shapes) == set(state)
    for name in state:
        with pytest.raises(Misfit, match=f"tensor '{name}' is missing$"):
            layout.read({other: value for other, value in state.items() if other != name}, (16, 16))


def test_lites_tensors_missing_added_or_misshaped_are_named() -> None:
    preset = find_preset("efficientnet_lite0")
    state = load_state(locate(preset))
    build(preset, state, (64, 64), GIVEN)
    with pytest.raises(
        WeightsError, match=r"given\.pth: does not fit efficientnet_lite0: tensor 'bn2\.bias' is missing"
    ):
        build(preset, {name: value for name, value in state.items() if name != "_bn1.bias"}, (64, 64), GIVEN)
    with pytest.raises(WeightsError, match=r"'extra\.weight' is unexpected"):
        build(preset, state | {"extra.weight": torch.ones(2)}, (64, 64), GIVEN)
    with pytest.raises(WeightsError, match=r"'bn2\.bias' is missing"):
        build(preset, state | {"_bn1.bias": torch.ones(5)}, (64, 64), GIVEN)


def test_a_position_table_that_is_no_square_is_misshaped() -> None:
    preset, make = small("dinov2_vits14")
    state = make()
    for length in (1, 51, 1371):
        with pytest.raises(WeightsError, match=rf"'pos_embed' is \[1, {length}, 128\], expected \[1, 1370, 128\]"):
            build(preset, state | {"pos_embed": torch.zeros(1, length, 128)}, (224, 224), GIVEN)
    # a model trained at another size brings a smaller table
    build(preset, state | {"pos_embed": torch.zeros(1, 257, 128)}, (224, 224), GIVEN)


def test_an_odd_mask_and_a_split_norm_are_refused() -> None:
    preset, make = small("dinov3_vits16")
    with pytest.raises(WeightsError, match=r"'blocks\.2\.attn\.qkv\.bias_mask' is not the mask"):
        build(preset, make() | {"blocks.2.attn.qkv.bias_mask": torch.ones(3 * preset.dim)}, preset.size, GIVEN)
    preset, make = small("dinov3_convnext_tiny")
    with pytest.raises(WeightsError, match=r"'norms\.3\.bias' differs from 'norm\.bias'"):
        build(preset, make() | {"norms.3.bias": torch.ones(preset.dim)}, preset.size, GIVEN)


def test_weights_of_another_model_are_refused_and_recognised(meta: Path, tmp_path: Path) -> None:
    disguised = tmp_path / "weights.pth"
    for model, other in (("dinov2_vits14", "dinov2_vits14_reg"), ("dinov2_vits14_reg", "dinov3_vits16")):
        disguised.write_bytes((meta / MADE[other][0]).read_bytes())
        with pytest.raises(
            WeightsError, match=f"does not fit {model}: tensor '.*those of {other}: use --model {other}"
        ):
            Encoder.open(find_model(model, weights=disguised), device="cpu")
    with pytest.raises(WeightsError, match="weights of dinov2_vits14_reg, not dinov2_vits14"):
        Encoder.open(find_model("dinov2_vits14", weights=meta / MADE["dinov2_vits14_reg"][0]))


def test_satellite_weights_under_a_web_name_show_by_the_norm_that_only_they_have() -> None:
    presets = [find_preset(name) for name in ("dinov3_vitl16", "dinov3_vitl16_sat")]
    web, satellite = (layouts(preset, bare(preset, (224, 224)))[0].shapes for preset in presets)
    state = {name: torch.zeros(()).expand(shape) for name, shape in satellite.items()}
    assert set(satellite) - set(web) == {"local_cls_norm.weight", "local_cls_norm.bias"}
    with pytest.raises(WeightsError, match=r"'local_cls_norm.* is unexpected.*those of dinov3_vitl16_sat: use --model"):
        build(find_preset("dinov3_vitl16"), state, (224, 224), GIVEN)


def test_a_file_for_transformers_is_named_as_such() -> None:
    state = {"embeddings.cls_token": torch.ones(1, 1, 384), "layer.0.norm1.weight": torch.ones(384)}
    with pytest.raises(WeightsError, match=r"laid out as for transformers: give the \.pth .* or --weights hub:"):
        build(find_preset("dinov3_vits16"), state, (224, 224), GIVEN)


# timm's own layout, as on the hub


@pytest.mark.parametrize(
    "model", ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitg14", "dinov3_vitsplus16", "dinov3_convnext_tiny"]
)
def test_timms_own_names_are_taken_and_give_the_same(model: str) -> None:
    """A checkpoint saved by timm: its own names, the position table of 518 pixels, no rotary periods."""
    preset, make = small(model)
    state = make()
    size = (preset.patch or 16) * 6, (preset.patch or 16) * 8
    options = {"img_size": 518} if model.startswith("dinov2") else {}
    saved = timm.create_model(
        preset.timm_name,
        pretrained=True,
        pretrained_cfg_overlay={"state_dict": dict(state), "num_classes": 0},
        num_classes=0,
        **preset.options,
        **options,
    ).state_dict()
    planes = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = (build(preset, tensors, size, GIVEN)(planes) for tensors in (state, saved))
    assert torch.allclose(found, expected, atol=1e-5)


def test_lite_takes_timms_own_names_and_refuses_another_order() -> None:
    preset = find_preset("efficientnet_lite0")
    file = load_state(locate(preset))
    named = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    renamed = dict(zip(named, file.values(), strict=True))
    planes = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = (build(preset, state, (64, 64), GIVEN)(planes) for state in (file, renamed))
    assert torch.equal(one, other)
    names = list(file)
    names[1], names[6] = names[6], names[1]
    with pytest.raises(WeightsError, match=r"tensor 'bn1\.weight' is missing"):
        build(preset, {name: file[name] for name in names}, (64, 64), GIVEN)


# Details that are easy to get wrong


def cubic(offset: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.75, as torch uses it, at distances `offset`."""
    d = np.abs(offset)
    near = 1.25 * d**3 - 2.25 * d**2 + 1
    far = -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def test_the_position_table_is_resized_as_meta_does() -> None:
    """Without registers: bicubic without antialiasing at a scale of (grid + 0.1) / 37. Written out in
    numpy."""
    preset, make = small("dinov2_vits14")
    state = make()
    grid = (7, 9)
    network = build(preset, state, (7 * 14, 9 * 14), GIVEN).network
    table = state["pos_embed"].double().numpy()[0]
    matrices = []
    for length in grid:
        centres = (np.arange(length) + 0.5) * 37 / (length + 0.1) - 0.5
        matrix = np.zeros((length, 37))
        for row, centre in enumerate(centres):
            for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
                matrix[row, min(max(tap, 0), 36)] += cubic(np.array(centre - tap))
        matrices.append(matrix)
    expected = np.einsum("ya,xb,abd->yxd", *matrices, table[1:].reshape(37, 37, -1)).reshape(63, -1)
    found = network.pos_embed[0].double().numpy()
    assert np.abs(found[0] - table[0]).max() < 1e-6
    assert np.abs(found[1:] - expected).max() < 1e-4
    whole = build(preset, state, (518, 518), GIVEN).network
    assert torch.equal(whole.pos_embed, state["pos_embed"].float())


def test_dinov3_uses_the_periods_of_the_file_and_masks_the_key_bias() -> None:
    preset, make = small("dinov3_vits16")
    state = make()
    state["rope_embed.periods"] = state["rope_embed.periods"] * 1.1
    network = build(preset, state, (64, 64), GIVEN)
    assert torch.equal(network.network.rope.periods, state["rope_embed.periods"])
    planes = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    changed = dict(state)
    for name in list(changed):
        if name.endswith("qkv.bias"):
            changed[name] = changed[name].clone()
            changed[name][preset.dim : 2 * preset.dim] += 1.0
    with torch.inference_mode():
        expected = network(planes)
        assert torch.equal(build(preset, changed, (64, 64), GIVEN)(planes), expected)
        without = {name: value * 0 if name.endswith("qkv.bias") else value for name, value in state.items()}
        assert not torch.allclose(build(preset, without, (64, 64), GIVEN)(planes), expected)


@pytest.mark.parametrize(("model", "names"), [("dinov3_vit7b16", 10 + 40 * 15), ("dinov2_vitg14", 7 + 40 * 14)])
def test_the_largest_models_have_the_tensors_that_meta_lists(model: str, names: int) -> None:
    """On shapes alone: what the published files hold, by the count of their tensors and the shapes of the gated layers."""
    preset = find_preset(model)
    shapes = layouts(preset, bare(preset, (224, 224)))[0].shapes
    assert len(shapes) == names
    if model == "dinov2_vitg14":
        assert shapes["blocks.39.mlp.w12.weight"] == (8192, 1536) and shapes["blocks.0.mlp.w3.weight"] == (1536, 4096)
    else:
        assert shapes["blocks.39.mlp.w1.weight"] == shapes["blocks.39.mlp.w2.weight"] == (8192, 4096)
        assert shapes["rope_embed.periods"] == (32,) and "blocks.0.attn.qkv.bias" not in shapes


@pytest.mark.parametrize("model", ["dinov3_vits16", "dinov3_vitsplus16", "dinov2_vits14_reg", "dinov3_convnext_tiny"])
def test_computed_buffers_are_those_of_a_network_that_timm_built(model: str) -> None:
    """Holds for the timm that is installed: 1.0.23, the oldest that pyproject.toml admits, to 1.0.31 are known to pass."""
    preset = find_preset(model)
    options: dict[str, object] = {"num_classes": 0, "global_pool": preset.pooling}
    if preset.family == "dinov2":
        options["img_size"] = preset.size
    whole = timm.create_model(preset.timm_name, pretrained=False, **options)
    laid_out = bare(preset, preset.size)
    laid_out.load_state_dict(whole.state_dict(), assign=True)
    backbones._materialise(laid_out, preset, None)
    expected, found = dict(whole.named_buffers()), dict(laid_out.named_buffers())
    assert found.keys() == expected.keys()
    for name, buffer in found.items():
        assert not buffer.is_meta
        rounded = expected[name].bfloat16().float() if name == "rope.periods" else expected[name]
        assert torch.equal(buffer.float(), rounded.float()), name


def test_a_timm_that_cannot_compute_buffers_is_named() -> None:
    class Old(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.empty(2, device="meta"), persistent=False)

    with pytest.raises(
        WeightsError, match=r"timm \d.* does not say how to compute 'table' of Old; install timm 1\.0\.23"
    ):
        backbones._materialise(Old(), find_preset("dinov2_vits14"), None)
