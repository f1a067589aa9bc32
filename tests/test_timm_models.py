"""Models of timm's by name: what timm knows of them, their weights from files and from the hub, whole and damaged."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from commands import start
from meta_checkpoints import pixels
from pictures import write_dataset

from outcrop.embed import hub
from outcrop.embed.encoder import Encoder
from outcrop.embed.models import find_model, find_preset
from outcrop.embed.weights import load_state, locate, model_of
from outcrop.schema.errors import InputError, WeightsError

VIT = "test_vit.r160_in1k"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from more, and beside other busy processes threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(name: str, **options: object) -> torch.nn.Module:
    """A network of timm's with seeded random weights, as timm builds it."""
    torch.manual_seed(11)
    return timm.create_model(name, pretrained=False, **options).eval()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def through(network: torch.nn.Module, pictures: np.ndarray, model: str) -> np.ndarray:
    """What timm's own network makes of pictures before its classifier, of length 1."""
    preset = find_preset(model)
    scaled = ((pictures / 255.0 - np.array(preset.mean)) / np.array(preset.std)).astype(np.float32)
    with torch.inference_mode():
        planes = torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()
        return unit(network.forward_head(network.forward_features(planes), pre_logits=True).numpy())


# By name


def test_timm_says_size_mean_and_width() -> None:
    preset = find_preset(f"timm:{VIT}")
    assert (preset.size, preset.dim, preset.patch, preset.pooling) == ((160, 160), 64, 16, "token")
    assert preset.mean == preset.std == (0.5, 0.5, 0.5)
    assert preset.hub == f"timm/{VIT}"
    large = find_preset("timm:vit_small_patch16_224.augreg_in21k")
    assert (large.size, large.dim, large.patch, large.licence) == ((224, 224), 384, 16, "apache-2.0")


def test_the_default_tag_is_written_out() -> None:
    assert find_preset("timm:test_vit") == find_preset(f"timm:{VIT}")
    assert find_preset("timm:test_vit").name == f"timm:{VIT}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:test_vitt", r"timm has no model 'test_vitt'; did you mean 'test_vit'"),
        ("timm:test_vit.r160_in1", r"timm's test_vit has no tag 'r160_in1'; did you mean 'r160_in1k'"),
        ("timm:", "timm has no model ''"),
    ],
)
def test_unknown_names_name_the_nearest(name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        find_preset(name)


# With weights from a file


@pytest.mark.parametrize(
    "model",
    [
        "test_vit.r160_in1k",
        "test_convnext.r160_in1k",
        "test_efficientnet.r160_in1k",
        "test_resnet.r160_in1k",
        "test_vit4.r160_in1k",
    ],
)
def test_vectors_are_those_of_timms_network(model: str, tmp_path: Path) -> None:
    network = seeded(model)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    pictures = np.concatenate([pixels((160, 160), seed) for seed in (1, 2)])
    encoder = Encoder.open(find_model(f"timm:{model}", weights=tmp_path / "w.pth"), device="cpu")
    found = encoder.encode(pictures)
    assert encoder.space.model == f"timm:{model}"
    assert found.shape == (2, encoder.space.dim)
    assert np.abs(found - through(network, pictures, f"timm:{model}")).max() < 1e-5


def test_another_size_resizes_the_position_table_as_timm_does(tiny_vit: Path) -> None:
    size = (96, 128)
    overlay = {"file": str(tiny_vit)}
    network = timm.create_model("test_vit", pretrained=True, pretrained_cfg_overlay=overlay, img_size=size).eval()
    pictures = pixels(size)
    encoder = Encoder.open(find_model(f"timm:{VIT}", weights=tiny_vit, size=size), device="cpu")
    assert np.abs(encoder.encode(pictures) - through(network, pictures, f"timm:{VIT}")).max() < 1e-5
    with pytest.raises(InputError, match="needs multiples of 16 pixels; the nearest is 96x128"):
        find_model(f"timm:{VIT}", tiny_vit, size=(100, 130))


def test_a_classifier_of_other_classes_or_none_makes_no_difference(tiny_vit: Path, tmp_path: Path) -> None:
    state = load_state(tiny_vit)
    pictures = pixels((160, 160))
    expected = Encoder.open(find_model(f"timm:{VIT}", weights=tiny_vit), device="cpu").encode(pictures)
    others = {
        "seven.pth": state | {"head.weight": torch.ones(7, 64), "head.bias": torch.ones(7)},
        "none.pth": {name: tensor for name, tensor in state.items() if not name.startswith("head.")},
    }
    for name, tensors in others.items():
        torch.save(tensors, tmp_path / name)
        assert np.array_equal(
            Encoder.open(find_model(f"timm:{VIT}", weights=tmp_path / name), device="cpu").encode(pictures), expected
        )


def test_a_damaged_file_is_refused_with_the_tensor_named(tiny_vit: Path, tmp_path: Path) -> None:
    state, path = load_state(tiny_vit), tmp_path / "w.pth"
    layer = "blocks.1.mlp.fc1.bias"
    cases = [
        ({name: tensor for name, tensor in state.items() if name != layer}, rf"tensor '{layer}' is missing"),
        (state | {"extra.weight": torch.ones(2)}, r"tensor 'extra\.weight' is unexpected"),
        (state | {layer: torch.ones(5)}, rf"tensor '{layer}' is \[5\], expected \[\d+\]"),
        ({"conv1.weight": torch.ones(64, 3, 7, 7)}, "tensor '.*' is missing"),
    ]
    for tensors, message in cases:
        torch.save(tensors, path)
        with pytest.raises(WeightsError, match=rf"w\.pth: does not fit timm:{VIT}: {message}.*--weights hub:"):
            Encoder.open(find_model(f"timm:{VIT}", weights=path), device="cpu")


def test_weights_lie_in_folders_under_timms_name(tiny_vit: Path) -> None:
    assert locate(find_preset("timm:test_vit"), tiny_vit.parent) == tiny_vit
    with pytest.raises(WeightsError, match=r"no weights for timm:test_vit\.r160_in1k \(test_vit\.r160_in1k\*"):
        locate(find_preset("timm:test_vit"))


# From the hub


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves one repository as the hub does."""

    content = b""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        if self._answer():
            self.wfile.write(self.content)

    def _answer(self) -> bool:
        there = self.path == f"/timm/{VIT}/resolve/main/model.safetensors"
        self.send_response(200 if there else 404)
        self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("Content-Length", str(len(self.content) if there else 0))
        self.end_headers()
        return there

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub_address(tiny_vit: Path) -> Iterator[str]:
    Hub.content = tiny_vit.read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_hub_is_asked_once_and_says_so(hub_address: str, tmp_path: Path, lite_uri: str) -> None:
    """The command fetches, announces it, and works offline from then on."""
    registry = write_dataset(tmp_path, {"250918092555_300": 2})
    common = ["--uri", lite_uri, "--quiet", "--json"]
    places = {"HF_ENDPOINT": hub_address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    arguments = ["dataset", "jamshill_image", "--registry", registry, "--weights", f"hub:timm/{VIT}", *common]
    first = start("ingest", *arguments, **places)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert f"downloading model.safetensors of timm/{VIT} from the Hugging Face hub (licence: apache-2.0)" in err
    assert '"embedded": 2' in out
    offline = {**places, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    photo = next((tmp_path / "images").rglob("*.jpg"))
    asked = start("query", "image", photo, "--weights", f"hub:timm/{VIT}", *common, **offline)
    out, err = asked.communicate(timeout=120)
    assert asked.returncode == 0 and "250918092555_300/0001" in out and "downloading" not in err, err


def test_a_hub_that_cannot_be_reached_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    places = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = start(
        "collection",
        "create",
        "new",
        "--uri",
        str(tmp_path / "x.db"),
        "--model",
        "dinov2_vits14",
        "--weights",
        "hub:",
        **places,
    )
    _, err = done.communicate(timeout=120)
    assert done.returncode == 3, err
    assert "error: hub:timm/vit_small_patch14_dinov2.lvd142m cannot be fetched" in err and "give --weights FILE" in err


def test_the_network_is_never_asked_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("asked"))
    with pytest.raises(WeightsError, match="or fetch them with --weights hub:"):
        locate(find_preset("dinov3_vits16"))


def test_the_hub_name_tells_the_model() -> None:
    assert model_of(Path("hub:timm/vit_large_patch16_dinov3_qkvb.sat493m")) == "dinov3_vitl16_sat"
    assert model_of(Path(f"hub:timm/{VIT}")) == f"timm:{VIT}"
    assert model_of(Path("hub:")) is None and model_of(Path("hub:me/mine")) is None
    with pytest.raises(WeightsError, match="holds the weights of dinov3_vitl16_sat, not dinov3_vitl16; use --model"):
        locate(find_preset("dinov3_vitl16"), Path("hub:timm/vit_large_patch16_dinov3_qkvb.sat493m"))
    with pytest.raises(WeightsError, match="named <owner>/<name>"):
        locate(find_preset("dinov3_vitl16"), Path("hub:../../etc/passwd"))


def test_a_file_without_ending_is_known_by_its_header(
    tiny_vit: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The hub's cache keeps files under the digest of their contents."""
    blob = tmp_path / "4f5a"
    blob.write_bytes(tiny_vit.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert load_state(blob).keys() == load_state(tiny_vit).keys()
    assert not caplog.records
