"""Soft random planes: value noise on a lattice, enlarged smoothly."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def plane(rng: np.random.Generator, size: int, cell: float) -> Image.Image:
    """A square grey picture of `size` pixels whose blobs are about `cell` pixels wide; mean about 128."""
    if cell <= 1:
        return Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8))
    lattice = max(2, math.ceil(size / cell) + 3)
    dots = Image.fromarray(rng.integers(0, 256, (lattice, lattice), dtype=np.uint8))
    margin = 1.0
    box = (margin, margin, margin + size / cell, margin + size / cell)
    return dots.resize((size, size), Image.Resampling.BICUBIC, box=box)


def fractal(rng: np.random.Generator, size: int, cell: float, octaves: int) -> NDArray[np.float32]:
    """`[size, size]` float32 of mean about 0 and spread about 1: `octaves` planes, each finer and weaker."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        total += (np.asarray(plane(rng, size, cell / 2**octave), dtype=np.float32) - 128) * 0.55**octave
    return total / max(float(total.std()), 1e-6)
