"""Half precision: whole networks in it, near the vectors of fp32, and where it is taken without being asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from meta_checkpoints import CONVNEXTS, VITS, pixels, small

from outcrop.embed import precision
from outcrop.embed.encoder import Encoder
from outcrop.embed.models import Model, find_model, make_space
from outcrop.embed.precision import HalfBlock, choose_precision
from outcrop.embed.rotary import PairedAngles, TurnedAttention, can_turn


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def little(name: str, folder: Path) -> Model:
    """A narrow, shallow network of a preset with random weights in Meta's layout, for small pictures."""
    preset, make = small(name)
    torch.save(make(), folder / "weights.pth")
    side = 4 * (preset.patch or 32)
    return Model(preset, folder / "weights.pth", make_space(preset, "0" * 64, (side, side + (preset.patch or 32))))


def pictures(size: tuple[int, int]) -> np.ndarray:
    made = np.concatenate([pixels(size, seed) for seed in range(5)])
    made[1] //= 3
    made[2] = made[2, ::-1]
    return made


def least(one: np.ndarray, other: np.ndarray) -> float:
    return float((one.astype(np.float64) * other).sum(1).min())


@pytest.mark.parametrize("name", [*VITS, *CONVNEXTS])
def test_half_precision_is_near_fp32_for_every_preset(name: str, tmp_path: Path) -> None:
    model = little(name, tmp_path)
    given = pictures(model.space.size)
    exact = Encoder.open(model, device="cpu", precision="fp32")
    expected = exact.features(given)
    assert least(expected.vectors[:1], expected.vectors[1:2]) < 0.999  # the picture matters
    for kind, near in (("bf16", 0.9999), ("fp16", 0.999999)):
        encoder = Encoder.open(model, device="cpu", precision=kind)
        found = encoder.features(given)
        assert near < least(found.vectors, expected.vectors) < 0.99999999  # indeed another arithmetic
        tokens, wanted = (made.patches.reshape(-1, made.patches.shape[-1]) for made in (found, expected))
        norms = np.linalg.norm(tokens, axis=1) * np.linalg.norm(wanted, axis=1)
        assert ((tokens * wanted).sum(1) / norms).min() > (0.999 if kind == "bf16" else 0.99999)
        assert found.patches.dtype == np.float32 and np.array_equal(found.vectors, encoder.encode(given))


def test_every_matrix_is_halved_and_every_end_exact(tmp_path: Path) -> None:
    network = Encoder.open(little("dinov3_vits16", tmp_path), device="cpu", precision="bf16")._network.network
    assert all(isinstance(block, HalfBlock) for block in network.blocks)
    halved = {name for name, value in network.state_dict().items() if value.dtype == torch.bfloat16}
    assert all(name.startswith(("blocks.", "patch_embed.")) for name in halved)
    assert {name for name in network.state_dict() if name.startswith("blocks.")} <= halved
    assert network.norm.weight.dtype == torch.float32 and isinstance(network.rope, PairedAngles)
    assert network.rope.embed.dtype == torch.float32


def test_attention_has_no_mask_and_one_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fast kernels of `scaled_dot_product_attention` ask for."""
    seen: list[Any] = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def watched(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more: Any) -> torch.Tensor:
        seen.append((q.dtype, k.dtype, v.dtype, q.stride(-1), k.stride(-1), v.stride(-1), more))
        made: torch.Tensor = attention(q, k, v, **more)
        return made

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    for name in ("dinov3_vits16", "dinov2_vits14_reg"):
        model = little(name, tmp_path)
        Encoder.open(model, device="cpu", precision="bf16").encode(pictures(model.space.size))
    assert len(seen) == 8
    for *types, a, b, c, more in seen:
        assert set(types) == {torch.bfloat16} and a == b == c == 1
        assert more.get("attn_mask") is None and not more.get("is_causal") and not more.get("dropout_p")


def test_rotary_angles_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = little("dinov3_vits16", tmp_path)
    encoder = Encoder.open(model, device="cpu", precision="fp32")
    given = pictures(model.space.size)
    expected = encoder.encode(given)
    rope = encoder._network.network.rope
    monkeypatch.setattr(rope._angles, "get_embed", lambda **_: pytest.fail("computed again"))
    assert np.array_equal(encoder.encode(given), expected)


def test_a_network_that_we_do_not_know_is_halved_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's networks with batch norms, or with blocks of their own."""
    import timm

    torch.manual_seed(3)
    for name in ("test_efficientnet", "test_vit2"):
        path = tmp_path / f"{name}.pth"
        torch.save(timm.create_model(name, pretrained=False).state_dict(), path)
        model = find_model(f"timm:{name}", path, size=64 if name == "test_efficientnet" else None)
        given = pictures(model.space.size)
        monkeypatch.setattr(precision, "_plain_block", lambda block: False)
        encoder = Encoder.open(model, device="cpu", precision="bf16")
        assert encoder._network.autocast == torch.bfloat16
        exact = Encoder.open(model, device="cpu", precision="fp32").encode(given)
        assert 0.99 < least(encoder.encode(given), exact) < 0.99999999


def test_a_cpu_with_units_for_it_takes_bf16_for_the_families_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for units, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(precision, "cpu_has_bf16", lambda units=units: units)
        for family in ("dinov2", "dinov3", "dinov3_convnext"):
            assert choose_precision("auto", cpu, family) == expected
            assert choose_precision("fp32", cpu, family) == "fp32"
        assert choose_precision("auto", cpu, "efficientnet") == choose_precision("auto", cpu, "timm") == "fp32"
        assert choose_precision("auto", torch.device("mps"), "dinov3") == "fp32"


def test_a_collection_made_in_fp32_goes_on_matching(tmp_path: Path) -> None:
    """The space does not name the precision: vectors of both find the same neighbour."""
    model = little("dinov3_vits16", tmp_path)
    given = pictures(model.space.size)
    stored = Encoder.open(model, device="cpu", precision="fp32")
    asked = Encoder.open(replace(model), device="cpu", precision="bf16")
    assert stored.space.fingerprint == asked.space.fingerprint
    assert (asked.encode(given) @ stored.encode(given).T).argmax(1).tolist() == list(range(len(given)))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_queries_and_keys_are_turned_as_timm_turns_them(
    monkeypatch: pytest.MonkeyPatch, compiled: bool, biased: bool
) -> None:
    network = timm.create_model("vit_small_patch16_dinov3", pretrained=False, num_classes=0, img_size=64).eval()
    attention = network.blocks[0].attn
    if biased:
        attention.q_bias, attention.v_bias = (torch.nn.Parameter(torch.empty(network.embed_dim)) for _ in range(2))
        attention.k_bias = torch.zeros(network.embed_dim)
    for values in attention.parameters():
        torch.nn.init.normal_(values, std=0.05)
    angles = network.rope.get_embed(shape=(4, 4))
    table = PairedAngles(angles, attention.num_prefix_tokens, attention.rotate_half).get_embed()
    given = torch.randn(2, 16 + attention.num_prefix_tokens, network.embed_dim)
    assert can_turn(attention) and table.shape == (
        1,
        16 + attention.num_prefix_tokens,
        1,
        1,
        attention.head_dim // 2,
        2,
    )
    with torch.inference_mode():
        expected = attention(given, rope=angles)
        turned = TurnedAttention(attention)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiled)
        assert torch.allclose(turned(given, table), expected, atol=1e-5) and expected.abs().max() > 0.1
