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

from outcrop.embed.backbones import build
from outcrop.embed.crops import prepare
from outcrop.embed.encoder import Encoder
from outcrop.embed.folding import _zeros_of_conv2d, fold_batch_norms, fold_padding
from outcrop.embed.images import decode, fit_to
from outcrop.embed.models import find_model, find_preset
from outcrop.embed.weights import load_state, locate
from outcrop.schema.errors import InputError, PictureError, WeightsError

SAMPLE = Path(__file__).parents[2] / "shared/sample"


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
    return Encoder.open(find_model("efficientnet_lite0"), device="cpu")


# EfficientNet-Lite0


@pytest.mark.parametrize("size", [(224, 224), (160, 224), (225, 191)])
def test_lite_gives_what_timm_gives(size: tuple[int, int]) -> None:
    """Against timm's own network, unfolded, with normalisation and pooling written out."""
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    file = torch.load(locate(find_preset("efficientnet_lite0")), weights_only=True)
    reference.load_state_dict(dict(zip(reference.state_dict(), file.values(), strict=True)))
    pixels = noise(3, size)
    pixels[0] = fit_to(land(0), size, "squash")
    planes = torch.from_numpy(((pixels / 255.0 - 0.498) / 0.502).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = reference.forward_features(planes.contiguous()).mean(dim=(2, 3)).numpy()
    found = Encoder.open(find_model("efficientnet_lite0", size=size), device="cpu").encode(pixels)
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    assert cosines(found, expected).min() > 0.99999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_the_same_picture_saved_again_is_nearer_than_another(lite: Encoder) -> None:
    first = [decode(jpeg(land(seed), 95), name="x") for seed in range(6)]
    again = [decode(jpeg(land(seed), 80), name="x") for seed in range(6)]
    one = lite.encode(np.stack([prepare(picture, lite.space) for picture in first]))
    other = lite.encode(np.stack([prepare(picture, lite.space) for picture in again]))
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
    full = [prepare(decode(data, name="x"), lite.space) for data in files]
    scaled = [prepare(decode(data, name="x", at_least=lite.space.size), lite.space) for data in files]
    assert cosines(lite.encode(np.stack(full)), lite.encode(np.stack(scaled))).min() >= 0.99


# The contract of encode


def test_vectors_do_not_depend_on_the_batch(lite: Encoder) -> None:
    pixels = noise(19, (224, 224))
    together = lite.encode(pixels)
    alone = np.concatenate([lite.encode(pixels[i : i + 1]) for i in range(len(pixels))])
    assert np.abs(together - alone).max() < 1e-5
    backwards = lite.encode(pixels[::-1])[::-1]  # not contiguous, other neighbours
    assert np.abs(together - backwards).max() < 1e-5
    assert (
        np.abs(Encoder.open(find_model("efficientnet_lite0"), device="cpu", batch=3).encode(pixels) - together).max()
        < 1e-5
    )


def test_an_empty_batch_gives_no_rows(lite: Encoder) -> None:
    found = lite.encode(np.empty((0, 224, 224, 3), dtype=np.uint8))
    assert found.shape == (0, 1280)
    assert found.dtype == np.float32


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
    encoder = Encoder.open(find_model("efficientnet_lite0"), device="cpu", batch=2)
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
    encoder = Encoder.open(find_model("efficientnet_lite0"), device="cpu", precision="bf16")
    assert encoder.precision == "bf16"
    found = encoder.encode(pixels)
    assert found.dtype == np.float32
    assert 0.999 < cosines(found, lite.encode(pixels)).min() < 0.9999999  # near, but indeed another arithmetic


def test_half_precision_keeps_real_photographs_near(lite: Encoder, shared_sample: Path) -> None:
    """The first stages stay in fp32; in bf16 throughout, the worst of the photographs is at 0.9959."""
    files = sorted((shared_sample / "aerial").rglob("*.[jJ][pP][gG]"))
    pixels = np.stack(
        [prepare(decode(path.read_bytes(), name="x", at_least=(224, 224)), lite.space) for path in files[::3]]
    )
    found = Encoder.open(find_model("efficientnet_lite0"), device="cpu", precision="bf16").encode(pixels)
    assert cosines(found, lite.encode(pixels)).min() > 0.999


# Opening


def test_describe_space_is_the_space_of_the_encoder(lite: Encoder) -> None:
    assert find_model("efficientnet_lite0").space == lite.space
    assert lite.space.size == (224, 224)
    assert lite.space.fit == "crop"
    assert lite.describe() == "efficientnet_lite0 224x224 crop on cpu (fp32, 1 thread)"
    other = find_model("efficientnet_lite0", size=(128, 256), fit="pad").space
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
        ({"batch": -1}, "batch must not be negative"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        of_model = {name: options.pop(name) for name in ("size", "fit") if name in options}
        Encoder.open(find_model("efficientnet_lite0", **of_model), **options)


def test_a_device_that_is_not_there_is_named() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"device cuda:0: torch sees no CUDA GPU.*--device cpu"):
            Encoder.open(find_model("efficientnet_lite0"), device="cuda:0")
    if not torch.backends.mps.is_available():
        with pytest.raises(InputError, match=r"device mps: not available.*--device cpu"):
            Encoder.open(find_model("efficientnet_lite0"), device="mps")


def test_unknown_models_and_missing_weights() -> None:
    with pytest.raises(WeightsError, match="did you mean 'efficientnet_lite0'"):
        Encoder.open(find_model("efficientnet_lite"))
    with pytest.raises(WeightsError, match=r"--weights FILE.*OUTCROP_WEIGHTS.*efficientnet_lite0"):
        Encoder.open(find_model("dinov3_vits16"))
    with pytest.raises(WeightsError, match="--weights FILE"):
        find_model("dinov2_vits14")


def test_a_size_must_be_a_multiple_of_the_patch(tmp_path: Path) -> None:
    weights = tmp_path / "dinov2_vits14_pretrain.pth"
    weights.write_bytes(b"not read")
    with pytest.raises(
        InputError, match=r"500x600: dinov2_vits14 needs multiples of 14 pixels; the nearest is 504x602"
    ):
        find_model("dinov2_vits14", weights, size=(500, 600))


# Rewriting for inference


@pytest.mark.parametrize("size", [(64, 64), (75, 90)])
def test_folding_changes_the_layers_and_not_the_numbers(size: tuple[int, int]) -> None:
    preset = find_preset("efficientnet_lite0")
    state = load_state(locate(preset))
    plain, folded = (build(preset, state, size, Path("x")) for _ in range(2))
    folded = fold_padding(fold_batch_norms(folded), size)
    kinds = {type(layer).__name__ for layer in folded.modules()}
    assert not kinds & {"BatchNorm2d", "BatchNormAct2d", "Conv2dSame"}
    planes = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(plain(planes), folded(planes), atol=1e-4)


@pytest.mark.parametrize("padding", [0, 3, (1, 2), "same", "valid"])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (1, (2, 3))])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 5)])
def test_shapes_of_convolutions_are_known_without_them(
    kernel: tuple[int, int], stride: int, dilation: int | tuple[int, int], padding: int | tuple[int, int] | str
) -> None:
    planes, weight = torch.ones(2, 4, 17, 20), torch.ones(6, 2, *kernel)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2}
    assert _zeros_of_conv2d(planes, weight, **how).shape == torch.conv2d(planes, weight, **how).shape
    if not isinstance(padding, str):
        how["stride"] = (2, 3)
        assert _zeros_of_conv2d(planes, weight, **how).shape == torch.conv2d(planes, weight, **how).shape


# Memory


class Greedy:
    """Stands before a network and says that memory is full for more than so many pictures."""

    def __init__(self, network: torch.nn.Module, most: int, error: RuntimeError) -> None:
        self.network, self.most, self.error = network, most, error
        self.forward = network.forward
        self.seen: list[int] = []

    def __call__(self, planes: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(planes))
        if len(planes) > self.most:
            raise self.error
        return self.forward(planes)


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    ),
]


@pytest.mark.parametrize("error", FULL, ids=["cuda", "mps", "cpu"])
def test_where_memory_is_full_the_batch_is_halved_and_stays_so(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder.open(find_model("efficientnet_lite0", size=64), device="cpu", batch=16)
    pixels = noise(20, (64, 64))
    expected = encoder.encode(pixels)
    greedy = Greedy(encoder._network, 5, error)
    monkeypatch.setattr(encoder._network, "forward", greedy)
    assert np.abs(encoder.encode(pixels) - expected).max() < 1e-5
    assert greedy.seen == [16, 8, 4, 4, 4, 4, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "16 pictures do not fit into the memory of cpu: now 8 at once",
        "8 pictures do not fit into the memory of cpu: now 4 at once",
    ]
    greedy.seen.clear()
    encoder.encode(pixels[:6])
    assert greedy.seen == [4, 2]


def test_the_batch_is_found_on_the_device_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.open(find_model("efficientnet_lite0", size=64), device="cpu", batch=0)
    assert encoder.batch == 32  # a CPU gains nothing from more
    pixels = noise(20, (64, 64))
    expected = encoder.encode(pixels)
    greedy = Greedy(encoder._network, 20, FULL[0])
    monkeypatch.setattr(encoder._network, "forward", greedy)
    found = encoder.find_batch().batch
    assert found == encoder.batch and found in (8, 16)
    assert greedy.seen[:2] == [8, 16] and max(greedy.seen) <= 32
    greedy.seen.clear()
    assert np.abs(encoder.encode(pixels) - expected).max() < 1e-5 and max(greedy.seen) == found
    greedy.most = 6
    assert encoder.find_batch().batch == 4
    monkeypatch.setattr(greedy, "error", RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        encoder.find_batch()


def test_features_halve_the_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.open(find_model("efficientnet_lite0", size=64), device="cpu", batch=16)
    pixels = noise(7, (64, 64))
    expected = encoder.features(pixels)
    greedy = Greedy(encoder._network, 3, FULL[0])
    greedy.forward = encoder._network.features
    monkeypatch.setattr(encoder._network, "features", greedy)
    found = encoder.features(pixels)
    assert greedy.seen == [7, 3, 3, 1]
    assert np.abs(found.patches - expected.patches).max() < 1e-3


def test_one_picture_that_does_not_fit_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.open(find_model("efficientnet_lite0", size=64), device="cpu")
    monkeypatch.setattr(encoder._network, "forward", Greedy(encoder._network, 0, FULL[0]))
    with pytest.raises(InputError, match=r"one picture of 64x64 pixels does not fit into the memory of cpu.*--size"):
        encoder.encode(noise(9, (64, 64)))


def test_other_errors_of_a_network_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.open(find_model("efficientnet_lite0", size=64), device="cpu")
    monkeypatch.setattr(encoder._network, "forward", Greedy(encoder._network, 0, RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        encoder.encode(noise(2, (64, 64)))


# torch.compile and GPUs


def test_a_compiled_network_gives_the_same(tiny_vit: Path) -> None:
    """With a compiler that changes nothing, so that the way there is tested wherever there is no C++ compiler."""
    plain = Encoder.open(find_model("timm:test_vit", weights=tiny_vit, size=64), device="cpu")
    compiled = Encoder.open(find_model("timm:test_vit", weights=tiny_vit, size=64), device="cpu", compile="eager")
    pixels = noise(3, (64, 64))
    assert np.abs(compiled.encode(pixels) - plain.encode(pixels)).max() < 1e-5
    found, expected = compiled.features(pixels), plain.features(pixels)
    assert np.abs(found.patches - expected.patches).max() < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_gives_what_the_cpu_gives(precision: str, tiny_vit: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pixels = noise(40, (160, 160))
    for model, weights in (("timm:test_vit", tiny_vit), ("efficientnet_lite0", None)):
        cpu = Encoder.open(find_model(model, weights=weights, size=160), device="cpu")
        gpu = Encoder.open(find_model(model, weights=weights, size=160), device="cuda", precision=precision, batch=16)
        assert gpu.device.startswith("cuda")
        assert cosines(gpu.encode(pixels), cpu.encode(pixels)).min() > (0.9999 if precision == "fp32" else 0.98)
        assert gpu.features(pixels).patches.shape == (40, *cpu.features(pixels[:1]).patches.shape[1:])
