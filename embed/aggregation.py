"""Local aggregation as the last part of a network: VLAD over patch tokens, and the projection that whitens vectors.

VLAD (H. Jégou, M. Douze, C. Schmid and P. Pérez, 2010) with each word's sum of length 1 (intra-normalisation: R. Arandjelović and
A. Zisserman, 2013); the projection after H. Jégou and O. Chum, 2012.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from outcrop.embed.vocabulary import Vocabulary, Words


class Aggregation(nn.Module):
    """What follows a network whose vectors are made with a vocabulary; all in fp32."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.residuals = Residuals(vocabulary.words) if vocabulary.words is not None else None
        self.register_buffer("mean", _tensor(vocabulary.mean))
        self.register_buffer("projection", _tensor(vocabulary.projection))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [N, M] of any length, projected, [N, dim]; they are not brought to length 1 again."""
        with torch.autocast(vectors.device.type, enabled=False):
            unit = functional.normalize(vectors.float(), dim=1)
            return (unit - self.get_buffer("mean")) @ self.get_buffer("projection").T


class Residuals(nn.Module):
    """VLAD: for each word the sum of what separates it from the tokens that are nearest to it."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        self.register_buffer("mean", _tensor(words.mean))
        self.register_buffer("axes", _tensor(words.axes))
        self.register_buffer("words", _tensor(words.words))

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors [N, K * d] of length 1 of patch tokens [N, H, W, D]."""
        with torch.autocast(tokens.device.type, enabled=False):
            words = self.get_buffer("words")
            reduced = self.reduced(tokens.flatten(1, 2))
            # The nearest word has the largest product, less half of its square.
            nearest = (reduced @ words.T - words.square().sum(1) / 2).argmax(-1)
            chosen = functional.one_hot(nearest, len(words)).to(reduced.dtype)  # [N, tokens, K]
            sums = chosen.transpose(1, 2) @ reduced - chosen.sum(1)[..., None] * words
            return functional.normalize(functional.normalize(sums, dim=2).flatten(1), dim=1)

    def reduced(self, tokens: Tensor) -> Tensor:
        """Tokens [..., D] of length 1 along the axes, [..., d]."""
        unit = functional.normalize(tokens.float(), dim=-1)
        return (unit - self.get_buffer("mean")) @ self.get_buffer("axes").T


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32).copy())
