"""A Cidaris-like sea urchin: a flattened globe in five parts, each with two columns of large tubercles between narrow,
winding bands of pores.

Tubercles sit on plates: a ring-like hollow (the areole) around a boss that carries a small ball (the mamelon). Plates grow
from the top, so that they are largest at the ambitus and crowded at both poles.
"""

from __future__ import annotations

import numpy as np

from .meshes import Mesh, Points, bump, tube

COLUMNS = 10
"""Columns of tubercles: two in each of the five parts."""


def cidaris(rng: np.random.Generator) -> Mesh:
    """One individual: its mouth down, at -y."""
    rows, around = 68, 150
    flat = rng.normal(0.74, 0.025)
    plates = int(rng.integers(6, 8))
    size = rng.normal(1.0, 0.05)
    pole = np.linspace(0.10, np.pi - 0.24, rows)[::-1, None]
    turn = 2 * np.pi * np.arange(around)[None] / around
    height = 1 + _relief(pole, turn, plates, size, rng)
    squat = np.sign(np.cos(pole)) * np.abs(np.cos(pole)) ** 0.92
    ring = np.sin(pole) ** 0.88
    grid = np.stack([ring * np.cos(turn) * height, flat * squat * height, ring * np.sin(turn) * height], axis=-1)
    return tube(grid, hollow=0.0)


def _relief(pole: Points, turn: Points, plates: int, size: float, rng: np.random.Generator) -> Points:
    wedge = 2 * np.pi / 5
    across = (turn + 0.5 * wedge) % wedge - 0.5 * wedge  # 0 in the middle of a band of pores
    winding = 0.035 * np.sin(2 * np.pi * plates * 1.1 * pole / np.pi)
    band = bump(across - winding, 0.0, 0.10)
    pores = (
        0.018 * np.cos(2 * np.pi * 34 * pole / np.pi) * np.maximum(bump(np.abs(across - winding), 0.085, 0.028), 0.0)
    )
    seam = bump(np.abs(across), wedge / 2, 0.022) * 0.02
    relief = -0.045 * band + pores - seam
    for column in range(COLUMNS):
        part, side = divmod(column, 2)
        centre = part * wedge + (0.37 if not side else wedge - 0.37)
        # Plates of neighbouring columns alternate.
        for plate in range(plates):
            share = (plate + (0.5 if side else 0.0) + 0.55) / (plates + 0.6)
            at = 0.16 + (np.pi - 0.46) * share
            reach = 0.22 * size * (0.42 + 0.58 * np.sin(at)) * rng.normal(1, 0.03)
            away = np.hypot((np.angle(np.exp(1j * (turn - centre)))) * np.sin(at), (pole - at) * 0.95) / reach
            relief = relief + reach * (
                0.22 * bump(away, 0.0, 0.40)
                + 0.20 * bump(away, 0.0, 0.24)
                - 0.16 * bump(away, 0.70, 0.26)
                + 0.07 * bump(away, 1.08, 0.20)
            )
    top = np.clip((0.42 - pole) / 0.25, 0, 1)
    petals = 0.03 * np.cos(5 * turn) * bump(pole, 0.28, 0.1)
    return relief * (1 - top) + petals
