"""A preset and a checkpoint become a network that gives one vector per picture, and its patch tokens. timm has the
architectures.

The network is laid out on torch's meta device first, so nothing is initialised twice and a memory-mapped checkpoint is
not copied; every tensor must fit (see `outcrop.embed.layouts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from outcrop.embed import layouts
from outcrop.embed.aggregation import Aggregation
from outcrop.embed.layouts import Layout, Misfit, State
from outcrop.embed.lean_timm import bare_network, timm
from outcrop.embed.presets import PRESETS, Preset
from outcrop.embed.timm_models import build_network, patch_sides
from outcrop.schema.errors import WeightsError
from outcrop.schema.space import Pooling


class Backbone(nn.Module):
    """A network of timm's, in eval mode, that gives what all of them have in common.

    `forward` gives a vector per picture, [N, D]; `features` also the patch tokens [N, H, W, D], normalised as the network
    ends. `pooling` is where the vector comes from: the model's own way, or another made from the patch tokens; `aggregation` is
    what was fitted to pictures, where anything was. The network takes numbers of the type `dtype`, and what follows its last
    block is done in fp32; `autocast` is the type into which torch is to cast what it may (see `outcrop.embed.precision`).
    """

    autocast: torch.dtype | None = None
    dtype = torch.float32

    def __init__(
        self, network: nn.Module, own: Pooling, pooling: Pooling, aggregation: Aggregation | None = None
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.aggregation = aggregation
        self.own, self.pooling = own, pooling
        self.prefix = int(getattr(network, "num_prefix_tokens", 0))

    def forward(self, planes: Tensor) -> Tensor:
        """Vectors [N, D], not normalised to length 1, of pictures [N, 3, H, W]."""
        ends = self._ends(planes)
        return self._pooled(ends) if self.pooling == self.own else self._pooled(ends, self._tokens(ends, planes))

    def features(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [N, D] and patch tokens [N, H, W, D], in one pass."""
        ends = self._ends(planes)
        tokens = self._tokens(ends, planes)
        return self._pooled(ends, tokens), tokens

    def _ends(self, planes: Tensor) -> Tensor:
        ends: Tensor = self.network.forward_features(planes.to(self.dtype))
        return ends.float()

    def _pooled(self, ends: Tensor, tokens: Tensor | None = None) -> Tensor:
        vectors = self._plainly_pooled(ends, tokens)
        if self.aggregation is None:
            return vectors
        made: Tensor = self.aggregation(vectors)
        return made

    def _plainly_pooled(self, ends: Tensor, tokens: Tensor | None) -> Tensor:
        if self.pooling == self.own:
            vectors: Tensor = self.network.forward_head(ends, pre_logits=True)
            return vectors
        if self.pooling == "token":
            return ends[:, 0]
        assert tokens is not None
        if self.pooling == "vlad":
            assert self.aggregation is not None and self.aggregation.residuals is not None, "vlad is fitted to pictures"
            made: Tensor = self.aggregation.residuals(tokens)
            return made
        return tokens.mean(dim=(1, 2)) if self.pooling == "avg" else gem(tokens)

    def _tokens(self, ends: Tensor, planes: Tensor) -> Tensor:
        """The patch tokens in their grid."""
        if ends.ndim == 3:
            patch = patch_sides(self.network)
            rows, columns = planes.shape[2] // patch[0], planes.shape[3] // patch[1]
            return self._ended(ends[:, self.prefix :].reshape(len(ends), rows, columns, -1))
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return self._ended(ends)
        # A ConvNeXt normalises what it has pooled: the same norm at every place makes its patch tokens, as Meta's code
        # does.
        head_norm = getattr(getattr(self.network, "head", None), "norm", None)
        return (head_norm(ends) if isinstance(head_norm, nn.Module) else ends).permute(0, 2, 3, 1)

    def _ended(self, tokens: Tensor) -> Tensor:
        """With the norm that a network keeps for after its pooling."""
        norm = getattr(self.network, "fc_norm", None)
        return norm(tokens) if isinstance(norm, nn.Module) else tokens


def gem(tokens: Tensor, power: float = 3.0) -> Tensor:
    """Generalised mean over the places of [N, H, W, D] tokens: (mean of x^p)^(1/p) of their positive parts, [N, D].

    Radenović, Tolias and Chum 2019, "Fine-tuning CNN image retrieval with no human annotation" (arXiv 1711.02512).
    """
    return tokens.float().clamp(min=1e-6).pow(power).mean(dim=(1, 2)).pow(1 / power)


def build(
    preset: Preset,
    state: Mapping[str, Tensor],
    size: tuple[int, int],
    source: Path,
    pooling: Pooling | None = None,
    aggregation: Aggregation | None = None,
) -> Backbone:
    """The network of a preset, in fp32 on the CPU.

    `state` is what `weights.load_state` read from `source`; `size` is (height, width) in pixels; `pooling` None means the
    preset's own; `aggregation` is what was fitted to pictures. Raises `WeightsError` naming the first tensor that does not fit.
    """
    make = build_network if preset.family == "timm" else _network
    network = make(preset, state, size, source)
    network = network.eval().requires_grad_(False)
    return Backbone(network, preset.pooling, pooling or preset.pooling, aggregation).eval()


def _network(preset: Preset, state: Mapping[str, Tensor], size: tuple[int, int], source: Path) -> nn.Module:
    network = bare(preset, size)
    state = dict(state)
    if preset.family == "efficientnet":
        state = layouts.efficientnet_by_order(state, network.state_dict())
    grid = (size[0] // preset.patch, size[1] // preset.patch) if preset.patch else (0, 0)
    layout = layouts.choose(layouts.layouts(preset, network), state)
    try:
        converted = layout.read(state, grid)
    except Misfit as misfit:
        raise _refusal(preset, source, str(misfit), state) from None
    network.load_state_dict({name: tensor.to(torch.float32) for name, tensor in converted.items()}, assign=True)
    _materialise(network, preset, state.get("rope_embed.periods"))
    return network


def bare(preset: Preset, size: tuple[int, int]) -> nn.Module:
    """The architecture of a preset alone, on the meta device."""
    # timm's DINOv3 averages the patch tokens by default; its DINOv2 has one fixed position table.
    options: dict[str, Any] = {"num_classes": 0, "global_pool": preset.pooling, **preset.options}
    if preset.family == "dinov2":
        options["img_size"] = size
    network: nn.Module = bare_network(preset.timm_name, **options)
    return network


def _materialise(network: nn.Module, preset: Preset, periods: Tensor | None) -> None:
    """Gives computed buffers (which no checkpoint holds) their values; the meta device left them without any.

    timm's modules compute them by `init_non_persistent_buffers`, from timm 1.0.23 on.
    """
    for module in network.modules():
        unset = [name for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        for name in unset:
            module.register_buffer(name, torch.empty_like(module.get_buffer(name), device="cpu"), persistent=False)
        compute = getattr(module, "init_non_persistent_buffers", None)
        if compute is not None:
            compute()
        elif unset:
            raise WeightsError(
                f"timm {timm.__version__} does not say how to compute {unset[0]!r} of {type(module).__name__}; "
                "install timm 1.0.23 or newer"
            )
    if preset.family == "dinov3":
        # Meta's checkpoints hold the rotary periods as they were trained, rounded to bfloat16; timm computes them anew,
        # and leaves them out of its own files.
        computed = network.get_buffer("rope.periods")
        computed.copy_(computed.bfloat16() if periods is None else periods)


def _refusal(preset: Preset, source: Path, wrong: str, state: State) -> WeightsError:
    return WeightsError(f"{source}: does not fit {preset.name}: {wrong}; " + (_seems(state, preset) or _wanted(preset)))


def _wanted(preset: Preset) -> str:
    return f"give {' or '.join(preset.filenames)}, or choose the --model it belongs to"


def _seems(state: State, preset: Preset) -> str:
    """Which other preset a checkpoint belongs to, if it is complete; '' if it belongs to none."""
    if "embeddings.cls_token" in state or any(name.startswith("embeddings.") for name in state):
        return "it is laid out as for transformers: give the .pth that Meta publishes, or --weights hub:"
    for other in PRESETS.values():
        if other.name == preset.name or other.family == "efficientnet" or not _alike(other, state):
            continue
        if any(_fits(layout, state) for layout in layouts.layouts(other, bare(other, other.size))):
            return f"its tensors are those of {other.name}: use --model {other.name}"
    return ""


def _alike(preset: Preset, state: State) -> bool:
    """A quick look before a network is laid out: the width of the first layer and of the patches."""
    first = next((state[name] for name in _FIRST if name in state), None)
    if first is None or first.ndim != 4:
        return False
    if preset.patch is None:
        return (first.shape[0], first.shape[2]) == (preset.dim // 8, 4)  # a ConvNeXt's stem
    return (first.shape[0], first.shape[2]) == (preset.dim, preset.patch)


_FIRST = ("patch_embed.proj.weight", "downsample_layers.0.0.weight", "stem.0.weight")


def _fits(layout: Layout, state: State) -> bool:
    return layout.shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}
