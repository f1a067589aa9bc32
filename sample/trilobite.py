"""A Calymene-like trilobite: a vaulted back in three lobes, with a head shield, thirteen segments and a tail shield.

The back is a sheet over (along the body, across it). Its proportions follow plates of the order Phacopida: a third of the
length for the head, a half for the thorax; the axial lobe a third as wide as the body; a glabella that narrows forwards, with
three pairs of side lobes; a belly side that follows the back at the thickness of the exoskeleton and its filling.
"""

from __future__ import annotations

import numpy as np

from .meshes import Mesh, Points, bump, outward, sheet, together

HEAD, TAIL = 0.32, 0.79
"""Shares of the length at which the thorax begins and ends."""
SEGMENTS = 13


def calymene(rng: np.random.Generator) -> Mesh:
    """One individual: head up (along y), back towards +z."""
    v = np.linspace(-1, 1, 61)[None]
    # Six rows to each segment, always at the same places of it.
    thorax = HEAD + (TAIL - HEAD) * (np.arange(6 * SEGMENTS) + 0.02) / (6 * SEGMENTS)
    u = np.concatenate([np.linspace(0, HEAD, 36)[:-1], thorax, np.linspace(TAIL, 1, 22)])[:, None]
    width = outline(u, rng.normal(0.37, 0.012), rng.normal(0.06, 0.01))
    plump = rng.normal(1.0, 0.05)
    smooth = vault(u, v) * plump
    height = smooth + relief(u, v, rng) * plump
    x = v * width
    thickness = rng.uniform(0.05, 0.07) + 0 * x
    rim = np.clip((1 - np.abs(v)) * 8, 0, 1) * np.clip(u * 25, 0, 1) * np.clip((1 - u) * 25, 0, 1)
    y = 0.5 - u - 0.035 * v**2 * np.clip((u - HEAD) * 4, 0, 1)  # pleurae sweep back
    back = np.stack([x, y + 0 * x, height], axis=-1)
    belly = np.stack([x * 0.985, (y + 0 * x) * 0.985, np.minimum(0.6 * smooth, height) - thickness * rim], axis=-1)
    some = np.ix_(*(np.unique([*range(0, count, 4), count - 1]) for count in back.shape[:2]))
    top, bottom = sheet(back), sheet(belly[some])
    shell = together([top, Mesh(bottom.points, bottom.faces[:, ::-1].copy()), _rim(back, belly)])
    return enrolled(outward(shell), rng.uniform(5, 38))


def outline(u: Points, widest: float, taper: float) -> Points:
    """Half the body's width [U, 1] along its length, its edge notched between the segments."""
    head = np.sqrt(np.clip(1 - ((u - HEAD * 0.92) / (HEAD * 0.93)) ** 2, 0.0, 1)) * (1.06 * widest)
    thorax = widest * (1 - taper - 0.40 * np.clip((u - HEAD) / (TAIL - HEAD), 0, 1) ** 1.5)
    tail = thorax * np.sqrt(np.clip(1 - np.clip((u - TAIL) / (1.0 - TAIL), 0, 1) ** 2, 0.0, 1))
    in_head = _step(HEAD - u)
    notches = 1 - 0.028 * _segment(u) ** 6 * (u > HEAD) * (u < TAIL)
    return np.maximum(head * in_head + np.where(u > TAIL, tail, thorax) * (1 - in_head), 0.015) * notches


def vault(u: Points, v: Points) -> Points:
    """The bare arch of the back [U, V], for a body of length 1."""
    ends = np.clip(u / 0.16, 0, 1) * np.clip((1 - u) / 0.2, 0, 1)  # head and tail slope down to the ground
    dome = np.sqrt(np.clip(1 - (1 - ends) ** 2, 0, 1))
    return 0.15 * (1 - np.abs(v) ** 2.4) * (0.12 + 0.88 * dome)


def relief(u: Points, v: Points, rng: np.random.Generator) -> Points:
    """What stands out from the vault [U, V]: axial lobe, segments, head and tail."""
    lobe = 0.33 - 0.12 * np.clip((u - HEAD) / (1 - HEAD), 0, 1)
    in_thorax, in_head, in_tail = (u > HEAD) & (u < TAIL), _step(HEAD - u), _step(u - TAIL)
    axis = np.clip(1 - (v / lobe) ** 2, 0, None) ** 0.85 * 0.065 * np.clip((1 - u) / 0.16, 0, 1) ** 0.5
    trough = bump(np.abs(v), lobe, 0.06) * 0.012
    behind = axis - trough * np.clip((0.97 - u) * 20, 0, 1)
    # Every segment of the thorax rises to its hind edge, and a furrow runs out over each pleura.
    ring = _segment(u)
    on_axis = 1 / (1 + np.exp((np.abs(v) - lobe) * 30))
    on_pleura = (1 - on_axis) / (1 + np.exp((np.abs(v) - 0.86) * 30))
    steps = 0.015 * (ring**2.5 - 0.3) + 0.008 * bump(ring, 0.45, 0.16) * on_axis
    furrow = 0.012 * bump(ring + 0.25 * np.abs(v), 0.55, 0.13) * on_pleura
    thorax = behind + np.where(in_thorax, steps - furrow, 0.0)
    tail = behind + 0.011 * np.cos(2 * np.pi * 6.5 * (u - TAIL) / (1 - TAIL) + 1.5 * np.abs(v))
    body = np.where(u < HEAD, 0, thorax) * (1 - in_tail) + np.where(u < HEAD, 0, tail) * in_tail
    return body + head(u, v, rng) * in_head


def head(u: Points, v: Points, rng: np.random.Generator) -> Points:
    """The head shield's relief: glabella with its side lobes, cheeks, eyes, and the rim in front."""
    s = u / HEAD
    half = 0.19 + 0.15 * s
    glabella = 0.085 * np.clip(1 - (v / half) ** 4, 0, 1) * np.clip((s - 0.25) * 2.2, 0, 1) ** 0.6
    side = bump(np.abs(v), half * 0.86, 0.075)
    lobes = side * (0.018 * bump(s, 0.42, 0.07) + 0.032 * bump(s, 0.60, 0.07) + 0.05 * bump(s, 0.80, 0.07))
    furrows = bump(np.abs(v), half + 0.05, 0.045) * np.clip((s - 0.15) * 4, 0, 1) * 0.045
    occipital = 0.016 * bump(s, 0.93, 0.05) - 0.02 * bump(s, 0.85, 0.03)
    eye = rng.normal(0.58, 0.015)
    eyes = 0.06 * bump(np.abs(v), eye, 0.075) * bump(s, 0.55, 0.12)
    border = 0.028 * bump(s + 0.12 * v**2, 0.12, 0.06) - 0.022 * bump(s + 0.12 * v**2, 0.24, 0.05)
    cheeks = 0.022 * bump(np.abs(v), 0.62, 0.25) * np.clip((s - 0.2) * 3, 0, 1)
    return glabella + lobes - furrows + occipital + eyes + border + cheeks


def enrolled(mesh: Mesh, degrees: float) -> Mesh:
    """The body bent over its belly: head and tail `degrees` towards each other in all."""
    bend = np.radians(max(degrees, 0.1))
    radius = 1.0 / bend
    angle = mesh.points[:, 1] * bend
    out = radius + mesh.points[:, 2]
    return mesh.moved(np.stack([mesh.points[:, 0], out * np.sin(angle), out * np.cos(angle) - radius], axis=1))


def _segment(u: Points) -> Points:
    """Where on its segment a point of the thorax lies: 0 at the fore edge, 1 at the hind edge."""
    return np.clip((u - HEAD) / (TAIL - HEAD) * SEGMENTS, 0, SEGMENTS - 1e-9) % 1.0


def _step(x: Points) -> Points:
    return 1 / (1 + np.exp(-np.clip(x * 220, -60, 60)))


def _rim(back: Points, belly: Points) -> Mesh:
    """The edge between back and belly, all round."""

    def border(grid: Points) -> Points:
        return np.concatenate([grid[0, :-1], grid[:-1, -1], grid[-1, :0:-1], grid[:0:-1, 0]])

    ribbon = sheet(np.stack([border(back), border(belly)], axis=0), around=True)
    return Mesh(ribbon.points, ribbon.faces[:, ::-1].copy())
