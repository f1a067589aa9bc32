"""Encoders: the right numbers, whatever the batch; checkpoints in Meta's layouts, whole and broken."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from embed.backbones import build
from embed.encoder import Encoder, describe_space
from embed.folding import fold_batch_norms, fold_padding
from embed.images import decode, fit_to
from embed.presets import find
from embed.weights import load_state, locate
from schema.errors import InputError, PictureError, WeightsError

SAMPLE = Path(__file__).parents[2] / "shared/sample"

State = dict[str, torch.Tensor]


def noise(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def land(seed: int, width: int = 1200, height: int = 900) -> Image.Image:
    """Smooth patches of colour, each seed another place."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    grain = random.normal(0, 8, (height, width, 1))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Beside other busy processes, torch's threads wait for each other at every layer: several times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lite() -> Encoder:
    return Encoder.open("efficientnet_lite0", device="cpu")


# EfficientNet-Lite0


@pytest.mark.parametrize("size", [(224, 224), (160, 224), (225, 191)])
def test_lite_gives_what_timm_gives(size: tuple[int, int]) -> None:
    """Against timm's own network, unfolded, with normalisation and pooling written out."""
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    file = torch.load(locate(find("efficientnet_lite0")), weights_only=True)
    reference.load_state_dict(dict(zip(reference.state_dict(), file.values(), strict=True)))
    pixels = noise(3, size)
    pixels[0] = fit_to(land(0), size, "squash")
    planes = torch.from_numpy(((pixels / 255.0 - 0.498) / 0.502).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = reference.forward_features(planes.contiguous()).mean(dim=(2, 3)).numpy()
    found = Encoder.open("efficientnet_lite0", size=size, device="cpu").encode(pixels)
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    assert cosines(found, expected).min() > 0.99999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_the_same_picture_saved_again_is_nearer_than_another(lite: Encoder) -> None:
    first = [decode(jpeg(land(seed), 95), name="x") for seed in range(6)]
    again = [decode(jpeg(land(seed), 80), name="x") for seed in range(6)]
    one = lite.encode(np.stack([lite.prepare(picture) for picture in first]))
    other = lite.encode(np.stack([lite.prepare(picture) for picture in again]))
    assert (one @ other.T).argmax(axis=1).tolist() == list(range(6))
    assert (other @ one.T).argmax(axis=1).tolist() == list(range(6))


def test_real_photos_find_themselves_when_saved_again(lite: Encoder) -> None:
    photos = sorted((SAMPLE / "aerial").glob("*/*.[jJ]*"))[::3]
    if not photos:
        pytest.skip(f"the sample photos are not at {SAMPLE}")
    first = [decode(photo.read_bytes(), name=photo.name).image for photo in photos]
    again = [decode(jpeg(image.resize((600, 400)), 70), name="x").image for image in first]
    one, other = (lite.encode(np.stack([fit_to(i, (224, 224), "squash") for i in part])) for part in (first, again))
    assert (other @ one.T).argmax(axis=1).tolist() == list(range(len(photos)))


def test_a_scaled_decode_keeps_the_vector(lite: Encoder) -> None:
    files = [jpeg(land(seed, 2400, 1800), 92) for seed in range(2)]
    files += [photo.read_bytes() for photo in sorted((SAMPLE / "aerial").glob("*/*.[jJ]*"))[::9]]
    full = [lite.prepare(decode(data, name="x")) for data in files]
    scaled = [lite.prepare(decode(data, name="x", at_least=lite.space.size)) for data in files]
    assert cosines(lite.encode(np.stack(full)), lite.encode(np.stack(scaled))).min() >= 0.99


# The contract of encode


def test_vectors_do_not_depend_on_the_batch(lite: Encoder) -> None:
    pixels = noise(19, (224, 224))
    together = lite.encode(pixels)
    alone = np.concatenate([lite.encode(pixels[i : i + 1]) for i in range(len(pixels))])
    assert np.abs(together - alone).max() < 1e-5
    backwards = lite.encode(pixels[::-1])[::-1]  # not contiguous, other neighbours
    assert np.abs(together - backwards).max() < 1e-5
    assert np.abs(Encoder.open("efficientnet_lite0", device="cpu", batch=3).encode(pixels) - together).max() < 1e-5


def test_an_empty_batch_gives_no_rows(lite: Encoder) -> None:
    found = lite.encode(np.empty((0, 224, 224, 3), dtype=np.uint8))
    assert found.shape == (0, 1280)
    assert found.dtype == np.float32
    assert lite.embed_files([]).shape == (0, 1280)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((1, 3, 224, 224), np.uint8),
        np.zeros((1, 224, 200, 3), np.uint8),
        np.zeros((1, 224, 224, 4), np.uint8),
        np.zeros((1, 224, 224, 3), np.float32),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(lite: Encoder, pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"wants uint8 \[N, 224, 224, 3\]"):
        lite.encode(pixels)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_vector_that_is_not_finite_or_zero_names_its_row(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    encoder = Encoder.open("efficientnet_lite0", device="cpu", batch=2)
    network = encoder._network

    def spoiled(planes: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = network(planes)
        dark = (planes < -0.9).all(dim=(1, 2, 3))
        return torch.where(dark[:, None], torch.full_like(vectors, value), vectors)

    monkeypatch.setattr(encoder, "_network", spoiled)
    pixels = noise(7, (224, 224))
    assert np.isfinite(encoder.encode(pixels)).all()
    pixels[[3, 5]] = 0
    with pytest.raises(PictureError, match="row 3, 5: "):
        encoder.encode(pixels)


def test_threads_share_an_encoder(lite: Encoder) -> None:
    pixels = [noise(2, (224, 224), seed) for seed in range(4)]
    expected = [lite.encode(part) for part in pixels]
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        found[number] = lite.encode(pixels[number])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.abs(found[number] - expected[number]).max() < 1e-5 for number in range(4))


def test_half_precision_stays_near(lite: Encoder) -> None:
    pixels = np.stack([fit_to(land(seed), (224, 224), "squash") for seed in range(4)])
    encoder = Encoder.open("efficientnet_lite0", device="cpu", precision="bf16")
    assert encoder.precision == "bf16"
    found = encoder.encode(pixels)
    assert found.dtype == np.float32
    assert 0.97 < cosines(found, lite.encode(pixels)).min() < 0.9999999  # near, but indeed another arithmetic


def test_embed_files(tmp_path: Path, lite: Encoder) -> None:
    paths = []
    for seed in range(3):
        path = tmp_path / f"{seed}.jpg"
        path.write_bytes(jpeg(land(seed)))
        paths.append(path)
    vectors = lite.embed_files(paths)
    assert vectors.shape == (3, 1280)
    one = lite.prepare(decode(paths[1].read_bytes(), name="x", at_least=(224, 224)))
    assert np.abs(lite.encode(one[None])[0] - vectors[1]).max() < 1e-5
    for name, data in (("absent.jpg", None), ("bad.jpg", b"<html>")):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(PictureError, match=name):
            lite.embed_files([paths[0], tmp_path / name])


# Opening


def test_describe_space_is_the_space_of_the_encoder(lite: Encoder) -> None:
    assert describe_space("efficientnet_lite0") == lite.space
    assert lite.space.size == (224, 224)
    assert lite.space.fit == "squash"
    assert lite.describe() == "efficientnet_lite0 224x224 squash on cpu (fp32, 1 thread)"
    other = describe_space("efficientnet_lite0", size=(128, 256), fit="pad")
    assert other.size == (128, 256) and other.fit == "pad"
    assert other.fingerprint != lite.space.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "choose auto, cpu, cuda"),
        ({"device": "cuda:x"}, "choose auto, cpu, cuda"),
        ({"device": "cud"}, "did you mean 'cuda'"),
        ({"precision": "fp8"}, "choose auto, fp32, bf16, fp16"),
        ({"size": 16}, "at least 32 pixels"),
        ({"size": (224, 0)}, "at least 32 pixels"),
        ({"fit": "stretch"}, "squash, crop or pad"),
        ({"batch": 0}, "batch and threads must be at least 1"),
        ({"threads": 0}, "batch and threads must be at least 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Encoder.open("efficientnet_lite0", **options)


def test_a_device_that_is_not_there_is_named() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"device cuda:0: torch sees no CUDA GPU.*--device cpu"):
            Encoder.open("efficientnet_lite0", device="cuda:0")
    if not torch.backends.mps.is_available():
        with pytest.raises(InputError, match=r"device mps: there is none.*--device cpu"):
            Encoder.open("efficientnet_lite0", device="mps")


def test_unknown_models_and_missing_weights() -> None:
    with pytest.raises(WeightsError, match="did you mean 'efficientnet_lite0'"):
        Encoder.open("efficientnet_lite")
    with pytest.raises(WeightsError, match=r"--weights FILE.*OUTCROP_WEIGHTS.*efficientnet_lite0"):
        Encoder.open("dinov3_vits16")
    with pytest.raises(WeightsError, match="--weights FILE"):
        describe_space("dinov2_vits14")


def test_a_size_must_be_a_multiple_of_the_patch(meta: Path) -> None:
    with pytest.raises(
        InputError, match=r"500x600: dinov2_vits14 needs multiples of 14 pixels; the nearest is 504x602"
    ):
        describe_space("dinov2_vits14", meta, size=(500, 600))


# Rewriting for inference


@pytest.mark.parametrize("size", [(64, 64), (75, 90)])
def test_folding_changes_the_layers_and_not_the_numbers(size: tuple[int, int]) -> None:
    preset = find("efficientnet_lite0")
    state = load_state(locate(preset))
    plain, folded = (build(preset, state, size, Path("x")) for _ in range(2))
    folded = fold_padding(fold_batch_norms(folded), size)
    kinds = {type(layer).__name__ for layer in folded.modules()}
    assert not kinds & {"BatchNorm2d", "BatchNormAct2d", "Conv2dSame"}
    planes = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(plain(planes), folded(planes), atol=1e-4)


# Checkpoints in Meta's layouts, with random tensors


class Tensors:
    """Seeded random tensors, in half precision to keep the files small."""

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(7)

    def __call__(self, *shape: int, scale: float = 0.05, around: float = 0.0) -> torch.Tensor:
        return (torch.randn(*shape, generator=self.random) * scale + around).half()

    def linear(self, name: str, out: int, into: int) -> State:
        return {f"{name}.weight": self(out, into), f"{name}.bias": self(out)}

    def norm(self, name: str, dim: int) -> State:
        return {f"{name}.weight": self(dim, around=1.0), f"{name}.bias": self(dim)}


def meta_vit(patch: int, registers: str | None, table: int | None) -> State:
    """A ViT-S as DINOv2 (position table, register_tokens) or DINOv3 (rotary periods, storage_tokens) saves
    it."""
    make, dim = Tensors(), 384
    state: State = {"cls_token": make(1, 1, dim), "mask_token": make(1, dim)}
    if registers:
        state[registers] = make(1, 4, dim)
    if table:
        state["pos_embed"] = make(1, 1 + table * table, dim)
    else:
        state["rope_embed.periods"] = (100.0 ** (torch.arange(16) / 16)).bfloat16()
    state |= {"patch_embed.proj.weight": make(dim, 3, patch, patch), "patch_embed.proj.bias": make(dim)}
    for block in range(12):
        name = f"blocks.{block}"
        state |= make.norm(f"{name}.norm1", dim) | make.linear(f"{name}.attn.qkv", 3 * dim, dim)
        if not table:
            state[f"{name}.attn.qkv.bias_mask"] = torch.cat([torch.ones(dim), torch.zeros(dim), torch.ones(dim)])
        state |= make.linear(f"{name}.attn.proj", dim, dim) | {f"{name}.ls1.gamma": make(dim, around=0.3)}
        state |= make.norm(f"{name}.norm2", dim) | make.linear(f"{name}.mlp.fc1", 4 * dim, dim)
        state |= make.linear(f"{name}.mlp.fc2", dim, 4 * dim) | {f"{name}.ls2.gamma": make(dim, around=0.3)}
    return state | make.norm("norm", dim)


def meta_convnext() -> State:
    """ConvNeXt-T as DINOv3 saves it; the last norm has two names."""
    make, dims = Tensors(), (96, 192, 384, 768)
    state = {"downsample_layers.0.0.weight": make(96, 3, 4, 4), "downsample_layers.0.0.bias": make(96)}
    state |= make.norm("downsample_layers.0.1", 96)
    for stage in (1, 2, 3):
        state |= make.norm(f"downsample_layers.{stage}.0", dims[stage - 1])
        state[f"downsample_layers.{stage}.1.weight"] = make(dims[stage], dims[stage - 1], 2, 2)
        state[f"downsample_layers.{stage}.1.bias"] = make(dims[stage])
    for stage, (dim, depth) in enumerate(zip(dims, (3, 3, 9, 3), strict=True)):
        for block in range(depth):
            name = f"stages.{stage}.{block}"
            state[f"{name}.gamma"] = make(dim, around=0.3)
            state |= {f"{name}.dwconv.weight": make(dim, 1, 7, 7), f"{name}.dwconv.bias": make(dim)}
            state |= make.norm(f"{name}.norm", dim)
            state |= make.linear(f"{name}.pwconv1", 4 * dim, dim) | make.linear(f"{name}.pwconv2", dim, 4 * dim)
    state |= make.norm("norm", 768)
    return state | {"norms.3.weight": state["norm.weight"], "norms.3.bias": state["norm.bias"]}


MADE = {
    "dinov2_vits14": ("dinov2_vits14_pretrain.pth", lambda: meta_vit(14, None, 37)),
    "dinov2_vits14_reg": ("dinov2_vits14_reg4_pretrain.pth", lambda: meta_vit(14, "register_tokens", 37)),
    "dinov3_vits16": (
        "dinov3_vits16_pretrain_lvd1689m-08c60483.pth",
        lambda: meta_vit(16, "storage_tokens", None),
    ),
    "dinov3_convnext_tiny": ("dinov3_convnext_tiny_pretrain_lvd1689m-21b726bb.pth", meta_convnext),
}


@pytest.fixture(scope="session")
def meta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one random checkpoint of each layout, named as Meta names them."""
    folder = tmp_path_factory.mktemp("weights")
    for filename, make in MADE.values():
        torch.save(make(), folder / filename)
    return folder


def reference(model: str, folder: Path, size: tuple[int, int]) -> torch.nn.Module:
    """The network as timm's own loader makes it of the same file."""
    preset = find(model)
    options = {"img_size": size} if model.startswith("dinov2") else {}
    return timm.create_model(
        preset.timm_name,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(folder / MADE[model][0])},
        num_classes=0,
        global_pool=preset.pooling,
        **options,
    ).eval()


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("dinov2_vits14", (518, 518)),
        ("dinov2_vits14_reg", (98, 126)),
        ("dinov3_vits16", (64, 96)),
        ("dinov3_convnext_tiny", (64, 96)),
    ],
)
def test_meta_checkpoints_give_what_timms_loader_gives(model: str, size: tuple[int, int], meta: Path) -> None:
    preset = find(model)
    pixels = noise(2, size)
    pixels[0] = fit_to(land(1), size, "squash")
    network = reference(model, meta, size)
    if model == "dinov3_vits16":  # timm computes the periods anew; Meta's code loads the rounded ones of the file
        network.rope.periods.copy_(load_state(meta / MADE[model][0])["rope_embed.periods"])
    planes = (
        torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(preset.mean)[:, None, None]
    ) / torch.tensor(preset.std)[:, None, None]
    with torch.inference_mode():
        expected = network(planes).numpy()
    encoder = Encoder.open(model, weights=meta, size=size, device="cpu")
    found = encoder.encode(pixels)
    assert found.shape == (2, preset.dim)
    assert cosines(found, expected).min() > 0.99999
    assert cosines(found[:1], found[1:])[0] < 0.9999  # the picture matters
    assert encoder.space == describe_space(model, meta, size=size)
    assert np.abs(encoder.encode(pixels[1:])[0] - found[1]).max() < 1e-5


def cubic(offset: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.75, as torch uses it, at distances `offset`."""
    d = np.abs(offset)
    near = 1.25 * d**3 - 2.25 * d**2 + 1
    far = -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def test_the_position_table_is_resized_as_meta_does(meta: Path) -> None:
    """Without registers: bicubic without antialiasing at a scale of (grid + 0.1) / 37. Written out in
    numpy."""
    state = load_state(meta / MADE["dinov2_vits14"][0])
    grid = (7, 9)
    network = build(find("dinov2_vits14"), state, (7 * 14, 9 * 14), Path("x"))
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
    whole = build(find("dinov2_vits14"), state, (518, 518), Path("x"))
    assert torch.equal(whole.pos_embed, state["pos_embed"].float())


def test_dinov3_uses_the_periods_of_the_file_and_masks_the_key_bias(meta: Path) -> None:
    state = load_state(meta / MADE["dinov3_vits16"][0])
    network = build(find("dinov3_vits16"), state, (64, 64), Path("x"))
    assert torch.equal(network.rope.periods, state["rope_embed.periods"].float())
    planes = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    changed = dict(state)
    for name in list(changed):
        if name.endswith("qkv.bias"):
            changed[name] = changed[name].clone()
            changed[name][384:768] += 1.0
    with torch.inference_mode():
        expected = network(planes)
        assert torch.equal(build(find("dinov3_vits16"), changed, (64, 64), Path("x"))(planes), expected)
        without = {name: value * 0 if name.endswith("qkv.bias") else value for name, value in state.items()}
        assert not torch.allclose(build(find("dinov3_vits16"), without, (64, 64), Path("x"))(planes), expected)


def test_swiglu_checkpoints_fit_by_name_and_shape() -> None:
    """The gated layers of the larger models, checked on shapes alone: w1 gates, w2 carries, w3 goes back."""
    from embed.backbones import _dinov2, _dinov3

    for convert, timm_name, names in (
        (_dinov3, "vit_small_plus_patch16_dinov3_qkvb", {"w1": "fc1_g", "w2": "fc1_x", "w3": "fc2"}),
        (_dinov2, "vit_giant_patch14_dinov2", {"w12": "fc1", "w3": "fc2"}),
    ):
        with torch.device("meta"):
            expected = timm.create_model(timm_name, num_classes=0).state_dict()
        state = {f"blocks.0.mlp.{old}.weight": expected[f"blocks.0.mlp.{new}.weight"] for old, new in names.items()}
        found = convert(state, expected, (224, 224))
        assert found.keys() == {f"blocks.0.mlp.{new}.weight" for new in names.values()}
        assert all(found[name].shape == expected[name].shape for name in found)


@pytest.mark.parametrize("model", [*MADE, "efficientnet_lite0"])
def test_a_tensor_missing_added_or_misshaped_is_named(model: str, meta: Path) -> None:
    preset = find(model)
    state = load_state(locate(preset, meta if model in MADE else None))
    last = "_bn1.bias" if model == "efficientnet_lite0" else "norm.bias"
    converted = {"efficientnet_lite0": "bn2.bias", "dinov3_convnext_tiny": "head.norm.bias"}.get(model, "norm.bias")

    def opened(changed: State) -> torch.nn.Module:
        return build(preset, changed, (224, 224), Path("given.pth"))

    opened(state)
    with pytest.raises(WeightsError, match=rf"given\.pth: does not fit {model}: tensor '.*' is (missing|unexpected)"):
        opened({name: value for name, value in state.items() if name != last})
    with pytest.raises(WeightsError, match=r"does not fit .*'extra\.weight' is unexpected"):
        opened(state | {"extra.weight": torch.ones(2)})
    with pytest.raises(WeightsError, match=rf"'({last}|{converted})' is \[5\], expected|'{converted}' is missing"):
        opened(state | {last: torch.ones(5)})


def test_weights_of_another_model_are_refused(meta: Path, tmp_path: Path) -> None:
    disguised = tmp_path / "weights.pth"
    for model, other in (("dinov2_vits14", "dinov2_vits14_reg"), ("dinov3_vits16", "dinov2_vits14")):
        disguised.write_bytes((meta / MADE[other][0]).read_bytes())
        with pytest.raises(WeightsError, match=f"does not fit {model}: tensor '"):
            Encoder.open(model, weights=disguised, device="cpu")
    with pytest.raises(WeightsError, match="weights of dinov2_vits14_reg, not dinov2_vits14"):
        Encoder.open("dinov2_vits14", weights=meta / MADE["dinov2_vits14_reg"][0])


def test_lite_takes_timms_own_names_and_refuses_another_order() -> None:
    preset = find("efficientnet_lite0")
    file = load_state(locate(preset))
    named = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    renamed = dict(zip(named, file.values(), strict=True))
    planes = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = (build(preset, state, (64, 64), Path("x"))(planes) for state in (file, renamed))
    assert torch.equal(one, other)
    names = list(file)
    names[1], names[6] = names[6], names[1]
    with pytest.raises(WeightsError, match=r"tensor 'bn1\.weight' is missing"):
        build(preset, {name: file[name] for name in names}, (64, 64), Path("x"))
