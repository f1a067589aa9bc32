"""The attention of DINOv3's transformers in half precision, with queries and keys turned together as complex numbers.

timm turns the patches' queries, then their keys, by sines and cosines in fp32, and puts the other tokens back before them: a
dozen passes over numbers of twice the size. Here the tokens that are not patches are turned by nothing, queries and keys lie side
by side as they come out of their matrix, and so do the two parts of each complex number, since the rows of the matrix are put in
that order once. Products of queries and keys do not depend on it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class PairedAngles(nn.Module):
    """Rotary angles of one grid of patches with tokens before them: cosines and sines in fp32, [1, N, 1, 1, D / 2, 2]."""

    def __init__(self, embed: Tensor, tokens: int, half: bool) -> None:
        super().__init__()
        sines, cosines = (part[..., : part.shape[-1] // 2] if half else part[..., ::2] for part in embed.chunk(2, -1))
        patches = torch.stack([cosines, sines], -1)
        others = torch.zeros_like(patches[:1]).expand(tokens, -1, -1).clone()
        others[..., 0] = 1
        table = torch.cat([others, patches]).to(torch.float32)[None, :, None, None]
        self.register_buffer("embed", table, persistent=False)

    def get_embed(self, shape: Any = None) -> Tensor:
        """The table, whatever the shape: there is but one."""
        return self.get_buffer("embed")


class TurnedAttention(nn.Module):
    """timm's `EvaAttention`, of which `can_turn` is true, given a table of `PairedAngles`."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        weight, bias = attention.qkv.weight, None
        if attention.q_bias is not None:
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        order = _order(attention.num_heads, len(weight) // (3 * attention.num_heads), attention.rotate_half)
        self.qkv = nn.Linear(weight.shape[1], len(weight), bias is not None, device="meta")
        self.qkv.weight = nn.Parameter(weight[order], requires_grad=False)
        if bias is not None:
            self.qkv.bias = nn.Parameter(bias[order], requires_grad=False)
        self.proj = attention.proj

    def forward(self, values: Tensor, rope: Tensor) -> Tensor:
        """Tokens [B, N, D] that have looked at each other."""
        batch, count, _ = values.shape
        made = self.qkv(values).view(batch, count, 3, self.num_heads, -1)
        query, key = _turned(made[:, :, :2], rope).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in (query, key, made[:, :, 2]))
        looked = functional.scaled_dot_product_attention(query, key, value)
        seen: Tensor = self.proj(looked.transpose(1, 2).reshape(batch, count, -1))
        return seen


def _turned(numbers: Tensor, table: Tensor) -> Tensor:
    """Queries and keys [B, N, 2, heads, D] turned by the angles of their tokens, in fp32."""
    pairs = numbers.to(torch.float32).view(*numbers.shape[:-1], -1, 2)
    if torch.compiler.is_compiling():  # compilers know no complex numbers
        (one, other), (cosine, sine) = pairs.unbind(-1), table.unbind(-1)
        turned = torch.stack([one * cosine - other * sine, other * cosine + one * sine], -1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs).mul_(torch.view_as_complex(table)))
    return turned.flatten(-2).to(numbers.dtype)


def _order(heads: int, dim: int, half: bool) -> Tensor:
    """The rows of the matrix of queries, keys and values, so that the parts of a complex number follow each other."""
    rows = torch.arange(3 * heads * dim).view(3, heads, dim)
    if half:
        rows[:2] = rows[:2].view(2, heads, 2, -1).transpose(-1, -2).reshape(2, heads, dim)
    return rows.flatten()


def can_turn(attention: Any) -> bool:
    """Whether an attention is one that `TurnedAttention` can take the place of."""
    if type(attention).__name__ != "EvaAttention" or getattr(attention, "qkv", None) is None:
        return False
    plain = all(isinstance(getattr(attention, name), nn.Identity) for name in ("q_norm", "k_norm", "norm"))
    return plain and attention.gate is None and attention.head_dim % 2 == 0


def turn_together(network: Any, embed: Tensor) -> None:
    """Puts `TurnedAttention` in the place of every attention of timm's `Eva`, whose angles are `embed` [patches, 2 D], and the
    table of angles in the place of its own."""
    attentions = [block.attn for block in network.blocks]
    if not all(can_turn(attention) for attention in attentions):
        return
    tokens, half = attentions[0].num_prefix_tokens, attentions[0].rotate_half
    network.rope = PairedAngles(embed, tokens, half)
    for block, attention in zip(network.blocks, attentions, strict=True):
        block.attn = TurnedAttention(attention)
