"""The models that can be opened by name, and what each of them needs around its weights.

Sources: DINOv2 (Oquab et al. 2023, arXiv 2304.07193) and its registers (Darcet et al. 2023, arXiv
2309.16588); DINOv3 (Siméoni et al. 2025, arXiv 2508.10104); EfficientNet-Lite (Liu 2020, tensorflow/tpu).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outcrop.schema.space import Fit, Pooling

Channels = tuple[float, float, float]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
SATELLITE_MEAN: Channels = (0.430, 0.411, 0.296)
SATELLITE_STD: Channels = (0.213, 0.156, 0.143)


@dataclass(frozen=True)
class Preset:
    """One model by name.

    `timm_name` builds the architecture, with `options` beside what timm fixes; `size` is the default input
    (height, width) in pixels; `mean` and `std` are per RGB channel in [0, 1] units; `pooling` says where the
    vector of `dim` numbers comes from; `patch` is the side of a patch in pixels for vision transformers (the
    sides of the input must be multiples of it), None for convolutional networks; `tokens` says what the
    network makes of a picture, `prefix_tokens` how many come before the patches, the first of them a class
    token if `class_token`; `parameters` counts the numbers in the network; `filenames` are patterns (without
    suffix) of the names that Meta gives the checkpoint; `hub` is the repository of the same weights on the
    Hugging Face hub; `token_dim` is the width of a patch token where it is not `dim`; `local_norm` says that
    the checkpoint holds a second norm for the class token, which Meta used in training only; `licence` names
    the terms of the weights; `aliases` are other common spellings.
    """

    name: str
    timm_name: str
    size: tuple[int, int]
    mean: Channels
    std: Channels
    pooling: Pooling
    dim: int
    patch: int | None
    tokens: str
    prefix_tokens: int
    class_token: bool
    parameters: int
    filenames: tuple[str, ...]
    hub: str
    licence: str
    fit: Fit = "crop"
    local_norm: bool = False
    token_dim: int | None = None
    aliases: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """``dinov2``, ``dinov3``, ``dinov3_convnext``, ``efficientnet`` or ``timm``: how the checkpoint is laid out."""
        if self.name.startswith("dinov3_convnext"):
            return "dinov3_convnext"
        return re.split("[_:]", self.name, maxsplit=1)[0]


def _dinov2(letter: str, word: str, dim: int, parameters: int, registers: bool) -> Preset:
    name = f"dinov2_vit{letter}14"
    timm_name = f"vit_{word}_patch14_reg4_dinov2" if registers else f"vit_{word}_patch14_dinov2"
    return Preset(
        name=f"{name}_reg" if registers else name,
        timm_name=timm_name,
        size=(518, 518),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        pooling="token",
        dim=dim,
        patch=14,
        tokens="class token, 4 registers, patches" if registers else "class token, patches",
        prefix_tokens=5 if registers else 1,
        class_token=True,
        parameters=parameters + 3 * dim if registers else parameters,
        filenames=(f"{name}_reg4_pretrain*",) if registers else (f"{name}_pretrain*",),
        hub=f"timm/{timm_name}.lvd142m",
        licence="Apache-2.0",
        aliases=(f"{name}_reg4",) if registers else (),
    )


def _dinov3(size: str, timm_word: str, meta: str, dim: int, parameters: int, *, satellite: bool = False) -> Preset:
    data = "sat493m" if satellite else "lvd1689m"
    suffix = "_sat" if satellite else ""
    # The variants without _qkvb drop the biases of Meta's checkpoints; the 7B model has none.
    timm_name = f"vit_{timm_word}_patch16_dinov3" + ("" if timm_word == "7b" else "_qkvb")
    return Preset(
        name=f"dinov3_vit{size}16{suffix}",
        timm_name=timm_name,
        size=(256, 256),
        mean=SATELLITE_MEAN if satellite else IMAGENET_MEAN,
        std=SATELLITE_STD if satellite else IMAGENET_STD,
        pooling="token",
        dim=dim,
        patch=16,
        tokens="class token, 4 registers, patches",
        prefix_tokens=5,
        class_token=True,
        parameters=parameters,
        filenames=(f"dinov3_{meta}_pretrain_{data}*",),
        hub=f"timm/{timm_name}.{data}",
        licence="DINOv3 License",
        local_norm=satellite or size == "7b",
        aliases=(f"dinov3_{meta}{suffix}",) if meta != f"vit{size}16" else (),
    )


def _convnext(size: str, dim: int, parameters: int) -> Preset:
    return Preset(
        name=f"dinov3_convnext_{size}",
        timm_name=f"convnext_{size}.dinov3_lvd1689m",
        size=(256, 256),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        pooling="avg",
        dim=dim,
        patch=None,
        tokens="feature map of 1/32 of the input",
        prefix_tokens=0,
        class_token=False,
        parameters=parameters,
        filenames=(f"dinov3_convnext_{size}_pretrain_lvd1689m*",),
        hub=f"timm/convnext_{size}.dinov3_lvd1689m",
        licence="DINOv3 License",
    )


_EFFICIENTNET = Preset(
    name="efficientnet_lite0",
    timm_name="tf_efficientnet_lite0",
    size=(224, 224),
    mean=(0.498, 0.498, 0.498),
    std=(0.502, 0.502, 0.502),
    pooling="avg",
    dim=1280,
    patch=None,
    tokens="feature map of 1/32 of the input",
    prefix_tokens=0,
    class_token=False,
    parameters=3_371_008,
    filenames=("efficientnet-lite0*", "tf_efficientnet_lite0*"),
    hub="timm/tf_efficientnet_lite0.in1k",
    licence="Apache-2.0",
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        *(
            _dinov2(letter, word, dim, parameters, registers)
            for registers in (False, True)
            for letter, word, dim, parameters in (
                ("s", "small", 384, 22_056_192),
                ("b", "base", 768, 86_579_712),
                ("l", "large", 1024, 304_367_616),
                ("g", "giant", 1536, 1_136_479_232),
            )
        ),
        _dinov3("s", "small", "vits16", 384, 21_596_160),
        _dinov3("splus", "small_plus", "vits16plus", 384, 28_692_480),
        _dinov3("b", "base", "vitb16", 768, 85_659_648),
        _dinov3("l", "large", "vitl16", 1024, 303_128_576),
        _dinov3("hplus", "huge_plus", "vith16plus", 1280, 840_591_360),
        _dinov3("7b", "7b", "vit7b16", 4096, 6_716_030_976),
        _dinov3("l", "large", "vitl16", 1024, 303_128_576, satellite=True),
        _dinov3("7b", "7b", "vit7b16", 4096, 6_716_030_976, satellite=True),
        _convnext("tiny", 768, 27_820_128),
        _convnext("small", 768, 49_454_688),
        _convnext("base", 1024, 87_566_464),
        _convnext("large", 1536, 196_230_336),
        _EFFICIENTNET,
    )
}

ALIASES = {alias: preset for preset in PRESETS.values() for alias in preset.aliases}
"""Meta's own spellings."""

NEW_MODEL = "dinov3_vits16"
"""The model where none is asked for, and neither a collection nor the name of the weights implies one."""

TIMM = "timm:"
"""Prefix of the names of timm's models that are not presets."""
