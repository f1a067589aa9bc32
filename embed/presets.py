"""The models that can be opened by name, and what each of them needs around its weights.

Sources: DINOv2 (Oquab et al. 2023, arXiv 2304.07193) and its registers (Darcet et al. 2023, arXiv
2309.16588); DINOv3 (Siméoni et al. 2025, arXiv 2508.10104); EfficientNet-Lite (Liu 2020, tensorflow/tpu).
"""

from __future__ import annotations

from dataclasses import dataclass

from schema.errors import WeightsError, nearest
from schema.space import Fit, Pooling

Channels = tuple[float, float, float]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
SATELLITE_MEAN: Channels = (0.430, 0.411, 0.296)
SATELLITE_STD: Channels = (0.213, 0.156, 0.143)


@dataclass(frozen=True)
class Preset:
    """One model by name.

    `timm_name` builds the architecture; `size` is the default input (height, width) in pixels; `mean` and
    `std` are per RGB channel in [0, 1] units; `pooling` says where the vector of `dim` numbers comes from;
    `patch` is the side of a patch in pixels for vision transformers (the sides of the input must be multiples
    of it), None for convolutional networks; `tokens` says what the network makes of a picture; `filenames`
    are patterns (without suffix) of the names that Meta gives the checkpoint; `licence` names the terms of
    the weights; `aliases` are other common spellings.
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
    filenames: tuple[str, ...]
    licence: str
    fit: Fit = "squash"
    aliases: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """``dinov2``, ``dinov3``, ``dinov3_convnext`` or ``efficientnet``: how the checkpoint is laid out."""
        if self.name.startswith("dinov3_convnext"):
            return "dinov3_convnext"
        return self.name.split("_", 1)[0]

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before the patch tokens: class token and registers (0 for convolutional
        networks)."""
        if self.patch is None:
            return 0
        return 5 if "register" in self.tokens else 1


def _dinov2(letter: str, word: str, dim: int, registers: bool) -> Preset:
    name = f"dinov2_vit{letter}14"
    return Preset(
        name=f"{name}_reg" if registers else name,
        timm_name=f"vit_{word}_patch14_reg4_dinov2" if registers else f"vit_{word}_patch14_dinov2",
        size=(518, 518),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        pooling="token",
        dim=dim,
        patch=14,
        tokens="class token, 4 registers, patches" if registers else "class token, patches",
        filenames=(f"{name}_reg4_pretrain*",) if registers else (f"{name}_pretrain*",),
        licence="Apache-2.0",
        aliases=(f"{name}_reg4",) if registers else (),
    )


def _dinov3(size: str, timm_word: str, meta: str, dim: int, *, satellite: bool = False) -> Preset:
    data = "sat493m" if satellite else "lvd1689m"
    suffix = "_sat" if satellite else ""
    return Preset(
        name=f"dinov3_vit{size}16{suffix}",
        # The variants without _qkvb drop the biases of Meta's checkpoints; the 7B model has none.
        timm_name=f"vit_{timm_word}_patch16_dinov3" + ("" if timm_word == "7b" else "_qkvb"),
        size=(256, 256),
        mean=SATELLITE_MEAN if satellite else IMAGENET_MEAN,
        std=SATELLITE_STD if satellite else IMAGENET_STD,
        pooling="token",
        dim=dim,
        patch=16,
        tokens="class token, 4 registers, patches",
        filenames=(f"dinov3_{meta}_pretrain_{data}*",),
        licence="DINOv3 License",
        aliases=(f"dinov3_{meta}{suffix}",) if meta != f"vit{size}16" else (),
    )


def _convnext(size: str, dim: int) -> Preset:
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
        filenames=(f"dinov3_convnext_{size}_pretrain_lvd1689m*",),
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
    filenames=("efficientnet-lite0*", "tf_efficientnet_lite0*"),
    licence="Apache-2.0",
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        *(
            _dinov2(letter, word, dim, registers)
            for registers in (False, True)
            for letter, word, dim in (
                ("s", "small", 384),
                ("b", "base", 768),
                ("l", "large", 1024),
                ("g", "giant", 1536),
            )
        ),
        _dinov3("s", "small", "vits16", 384),
        _dinov3("splus", "small_plus", "vits16plus", 384),
        _dinov3("b", "base", "vitb16", 768),
        _dinov3("l", "large", "vitl16", 1024),
        _dinov3("hplus", "huge_plus", "vith16plus", 1280),
        _dinov3("7b", "7b", "vit7b16", 4096),
        _dinov3("l", "large", "vitl16", 1024, satellite=True),
        _dinov3("7b", "7b", "vit7b16", 4096, satellite=True),
        _convnext("tiny", 768),
        _convnext("small", 768),
        _convnext("base", 1024),
        _convnext("large", 1536),
        _EFFICIENTNET,
    )
}

_ALIASES = {alias: preset for preset in PRESETS.values() for alias in preset.aliases}


def find(name: str) -> Preset:
    """The preset of that name (or of Meta's own spelling, such as ``dinov3_vith16plus``).

    Raises `WeightsError` that names the nearest preset.
    """
    key = name.strip().lower().replace("-", "_")
    if found := PRESETS.get(key) or _ALIASES.get(key):
        return found
    hint = nearest(key, [*PRESETS, *_ALIASES]) or f"; choose one of {', '.join(PRESETS)}"
    raise WeightsError(f"no model is called {name!r}{hint}")
