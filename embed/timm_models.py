"""Any model of timm's under the name ``timm:<architecture>.<tag>``: what timm knows of it, and its network.

Size, mean and std come from timm's `pretrained_cfg`, the weights from a file or from the hub. See
https://huggingface.co/docs/timm for the names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from outcrop.embed.lean_timm import bare_network, timm
from outcrop.embed.presets import TIMM, Preset
from outcrop.schema.errors import WeightsError, nearest
from outcrop.schema.space import Pooling


@functools.lru_cache(maxsize=64)
def describe(name: str) -> Preset:
    """What timm knows of a model, ``vit_small_patch16_224.augreg_in21k`` say; without a tag its default one is meant.

    Raises `WeightsError` that names the nearest.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = nearest(architecture, timm.list_models()) or "; timm.list_models() lists what there is"
        raise WeightsError(f"timm has no model {architecture!r}{hint}")
    config = timm.get_pretrained_cfg(architecture) if not tag else _tagged(architecture, tag)
    full = f"{architecture}.{config.tag}" if config is not None and config.tag else architecture
    network: Any = bare_network(architecture, num_classes=0)
    settings = config.to_dict() if config is not None else {}
    height, width = settings.get("input_size", (3, 224, 224))[1:]
    transformer = hasattr(network, "num_prefix_tokens")
    prefix = int(network.num_prefix_tokens) if transformer else 0
    patch = patch_sides(network)[0] if transformer else None
    dim = int(getattr(network, "head_hidden_size", None) or network.num_features)
    return Preset(
        name=TIMM + full,
        timm_name=full,
        size=(int(height), int(width)),
        mean=_three(settings.get("mean"), 0.5),
        std=_three(settings.get("std"), 0.5),
        pooling=_own_pooling(network),
        dim=dim,
        patch=patch,
        tokens=f"{prefix} prefix tokens, patches" if transformer else "feature map",
        prefix_tokens=prefix,
        class_token=transformer and getattr(network, "cls_token", None) is not None,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        filenames=(f"{full}*",),
        hub=str(settings.get("hf_hub_id") or ""),
        licence=str(settings.get("license") or "see the model's page"),
        token_dim=int(network.num_features) if dim != network.num_features else None,
    )


def patch_sides(network: Any) -> tuple[int, int]:
    """The (height, width) of a transformer's patches in pixels."""
    size = network.patch_embed.patch_size
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _tagged(architecture: str, tag: str) -> Any:
    try:
        return timm.get_pretrained_cfg(f"{architecture}.{tag}")
    except RuntimeError:
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        known = nearest(tag, tags) or f"; it has {', '.join(tags) or 'none'}"
        raise WeightsError(f"timm's {architecture} has no tag {tag!r}{known}") from None


def _three(values: Any, default: float) -> tuple[float, float, float]:
    red, green, blue = values or (default,) * 3
    return float(red), float(green), float(blue)


def _own_pooling(network: Any) -> Pooling:
    """Where timm takes the vector from: the class token, an average, or a head of the model's own."""
    own = getattr(network, "global_pool", None)
    if own == "token":
        return "token"
    plain = own in ("avg", None) or isinstance(own, nn.Module)
    return "avg" if plain and getattr(network, "head_hidden_size", None) in (None, network.num_features) else "native"


def build_network(preset: Preset, state: Mapping[str, Tensor], size: tuple[int, int], source: Path) -> nn.Module:
    """The network of a `timm:` preset with its weights, without classifier.

    timm converts older layouts and other input sizes itself, and is held to every tensor. Raises `WeightsError` naming the
    first that does not fit.
    """
    config = timm.get_pretrained_cfg(preset.timm_name)
    options: dict[str, Any] = {} if size == preset.size else {"img_size": size}
    classes = config.num_classes if config is not None else 0
    expected = bare_network(preset.timm_name, num_classes=classes).state_dict()
    tensors = _with_classifier(dict(state), expected, config.classifier if config is not None else None)
    overlay = {"state_dict": tensors, "custom_load": False}
    try:
        network: Any = timm.create_model(
            preset.timm_name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **options
        )
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return build_network(preset, state, preset.size, source)  # a convolutional network takes any size
    except (RuntimeError, KeyError, AssertionError) as error:
        raise WeightsError(
            f"{source}: does not fit {preset.name}: {_complaint(error)}; give the weights of that model, or --weights hub:"
        ) from error
    network.reset_classifier(0)
    return cast(nn.Module, network.float())


def _with_classifier(state: dict[str, Tensor], expected: Mapping[str, Tensor], classifiers: Any) -> dict[str, Tensor]:
    """The tensors with a classifier of the shape that timm expects: it is thrown away, and the file's may be of a different
    task or absent."""
    names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers or ())
    for name in (f"{layer}.{kind}" for layer in names for kind in ("weight", "bias")):
        if name in expected and (name not in state or state[name].shape != expected[name].shape):
            state[name] = torch.zeros(expected[name].shape)
    return state


def _complaint(error: Exception) -> str:
    """torch's list of what does not fit, as one line that names the first tensor."""
    text = " ".join(str(error).split())
    if found := re.search(r'Missing key\(s\) in state_dict: "([^"]+)"', text):
        return f"tensor {found[1]!r} is missing"
    if found := re.search(r'Unexpected key\(s\) in state_dict: "([^"]+)"', text):
        return f"tensor {found[1]!r} is unexpected"
    shapes = r"size mismatch for (\S+): .*? shape torch.Size\((\[[^]]*\])\) .*? is torch.Size\((\[[^]]*\])\)"
    if found := re.search(shapes, text):
        return f"tensor {found[1]!r} is {found[2]}, expected {found[3]}"
    return text[:160]
